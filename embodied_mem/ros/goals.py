"""What the robot is after, by topic."""

from __future__ import annotations

from typing import Any

import numpy as np

from embodied_mem.errors import InputError
from embodied_mem.log import messages, topics
from embodied_mem.ros.declaration import EVENT, Endpoint, Qos
from embodied_mem.types import Goal

GOAL = Endpoint(
    "goal", topics.STRING, Qos(latched=True, depth=1), "JSON: text, label id, position in the map"
)
GOAL_POSE = Endpoint(
    "goal_pose", "geometry_msgs/msg/PoseStamped", EVENT, "a goal in the map frame (RViz, Nav2)"
)
SUBSCRIPTIONS = (GOAL, GOAL_POSE)


def goal_of(topic: str, message: Any, map_frame: str) -> Goal | None:
    """Reads a message of one of `SUBSCRIPTIONS`; None takes the goal away.

    Raises:
        EmbodiedMemError: it is no goal, or in another frame than the map's.
    """
    if topic == GOAL.topic:
        return read_goal(messages.read_json(message, topic))
    check_frame(message.header, map_frame, topic)
    position = messages.read_pose(message.pose).position
    if not np.isfinite(position).all():
        raise InputError(f"{topic} holds a position that is not finite")
    return Goal(position=position, text="go to the goal pose")


def check_frame(header: Any, map_frame: str, topic: str) -> None:
    """Raises `InputError` where a message is in another frame than the map's; no name stands for the map."""
    frame = str(header.frame_id).lstrip("/")
    if frame not in ("", map_frame):
        raise InputError(f'{topic} is in the frame "{frame}"; give it in "{map_frame}" (RViz: fixed frame)')


def read_goal(content: Any) -> Goal | None:
    """Reads a goal from JSON as logs have it; {} takes the goal away.

    Raises:
        InputError: it is none.
    """
    if not isinstance(content, dict):
        raise InputError(f'a goal is a JSON object, for example {{"label": 3}}, got {content!r}')
    if not content:
        return None
    position, label = content.get("position"), content.get("label", 0)
    try:
        place = None if position is None else np.array(position, np.float64).reshape(3)
        return Goal(label=int(label), position=place, text=str(content.get("text", "")))
    except (TypeError, ValueError):
        raise InputError(
            f"a goal needs a label id and a position [x, y, z] or null, got {content!r}"
        ) from None


def goal_json(goal: Goal | None) -> dict[str, Any]:
    """Returns a goal as `read_goal` reads it."""
    if goal is None:
        return {}
    position = None if goal.position is None else np.asarray(goal.position, np.float64).tolist()
    return {"label": int(goal.label), "position": position, "text": goal.text}
