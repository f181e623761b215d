"""Who drives a robot: the goal policy, the explorer, or a trained checkpoint."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.errors import ConfigError
from embodied_mem.loop import Identity
from embodied_mem.ros.config import ControlConfig
from embodied_mem.ros.driving import Brain
from embodied_mem.ros.goal_policy import GoalPolicy
from embodied_mem.types import MemoryTokens, Observation


def make_brain(config: ControlConfig) -> Brain:
    """Makes the policy that a config names, with the controller that it needs.

    Raises:
        ConfigError: there is no such policy, or it cannot do what is asked of it.
    """
    from embodied_mem.sim.approach import Approach
    from embodied_mem.sim.base_controller import BaseController
    from embodied_mem.sim.explorer import Explorer, Subgoal

    if config.policy not in ("explore", "goal"):
        return _checkpoint_brain(config)
    turn = math.radians(config.motion.turn)
    explorer = Explorer(patience=8 + round(360.0 / config.motion.turn), same=0.4)
    base = Identity() if config.goal_poses else BaseController(turn, config.motion.step)
    policy = explorer if config.policy == "explore" else GoalPolicy(explorer, Subgoal)
    return Brain(policy, Approach(base))


def _checkpoint_brain(config: ControlConfig) -> Brain:
    folder = config.policy
    if not (Path(folder) / "config.json").exists():
        raise ConfigError(f'no policy "{folder}": give goal, explore, or the folder of a checkpoint')
    if config.goal_poses:
        raise ConfigError(f"control.goal_poses is for goal and explore; {folder} drives by itself")
    from embodied_mem.policy import load_policy

    agent: Any = load_policy(folder)
    if "cand_mask" not in getattr(agent.observation_space, "spaces", {}):
        policy = CheckpointPolicy(agent, folder)
        return Brain(policy, Identity(), sees=policy.sees)
    from embodied_mem.sim.base_controller import BaseController
    from embodied_mem.sim.pointing.agent import PointingAgent
    from embodied_mem.sim.pointing.candidates import READ
    from embodied_mem.sim.pointing.errand import ErrandConfig

    motion = config.motion
    errands = ErrandConfig(circle=round(360.0 / motion.turn))
    controller = BaseController(math.radians(motion.turn), motion.step)
    return Brain(PointingAgent(agent, errands), controller, READ)


class CheckpointPolicy:
    """A trained policy on a robot's observations.

    Args:
        agent: what `load_policy` gives.
        folder: where it is from, for messages.

    Attributes:
        sees: it looks at images.

    Raises:
        ConfigError: it needs something that a robot does not see.
    """

    def __init__(self, agent: Any, folder: str) -> None:
        self.agent = agent
        self.keys = list(getattr(self.agent.observation_space, "spaces", {"observation": None}))
        missing = [k for k in self.keys if k not in ROBOT_KEYS and not k.startswith("mem_")]
        if missing:
            raise ConfigError(
                f"{folder} needs {', '.join(missing)}, which a robot does not have; it has "
                f"{', '.join(ROBOT_KEYS)} and mem_*"
            )
        self.sees = any(key in IMAGE_KEYS for key in self.keys)

    def act(self, obs: Observation, tokens: MemoryTokens, state: Any) -> tuple[Any, Any]:
        """Returns the policy's action and its next state."""
        from embodied_mem.sim.memory_wrapper import flat_tokens

        values = flat_tokens(tokens) | {key: ROBOT_KEYS[key](obs) for key in self.keys if key in ROBOT_KEYS}
        action, state = self.agent.act({key: values[key] for key in self.keys}, state)
        return (int(action) if np.ndim(action) == 0 else action), state


def _depth(obs: Observation) -> Any:
    assert obs.cameras[0].depth is not None
    return np.nan_to_num(np.minimum(obs.cameras[0].depth.data, np.float32(10.0)))[..., None]


def _rgb(obs: Observation) -> Any:
    color, depth = obs.cameras[0].color, obs.cameras[0].depth
    if color is not None:
        return color.data
    assert depth is not None
    return np.zeros((*depth.data.shape, 3), np.uint8)


def _semantic(obs: Observation) -> Any:
    semantic, depth = obs.cameras[0].semantic, obs.cameras[0].depth
    assert depth is not None
    return (np.zeros(depth.data.shape, np.int32) if semantic is None else semantic.data)[..., None]


def _pose(obs: Observation) -> Any:
    pose = obs.odom_T_base
    values = [pose.position[0], pose.position[1], math.sin(pose.yaw), math.cos(pose.yaw), 0.0]
    return np.array(values, np.float32)


def _goal(obs: Observation) -> Any:
    return np.array([0 if obs.goal is None else obs.goal.label], np.int64)


ROBOT_KEYS = {"rgb": _rgb, "depth": _depth, "semantic": _semantic, "pose": _pose, "goal": _goal}
"""What a robot can give of what the navigation tasks observe; the camera does not tilt."""
IMAGE_KEYS = ("rgb", "depth", "semantic")
"""Those of them that need images."""
