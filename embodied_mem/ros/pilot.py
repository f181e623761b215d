"""What stands between a policy and the wheels: one action at a time, watched, and stoppable."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from embodied_mem.geometry import Pose
from embodied_mem.log import messages, topics
from embodied_mem.loop import Controller, Policy
from embodied_mem.memory import Memory
from embodied_mem.ros.config import ControlConfig, MotionConfig
from embodied_mem.ros.declaration import EVENT, Endpoint, Qos
from embodied_mem.ros.motion import MotionExecutor, primitive
from embodied_mem.types import MemoryTokens, Observation

TWIST, TWIST_STAMPED = "geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped"
ESTOP = Endpoint(
    "estop", "std_msgs/msg/Bool", Qos(latched=True, depth=1), "true stops the robot and keeps it"
)
EVENTS = Endpoint("policy/event", topics.STRING, EVENT, 'JSON: what the policy said, such as "found"')
FOUND = 0
"""The discrete action that says: this is the goal."""


class Hold:
    """The action of a step in which the robot is still busy with the last one."""


HOLD = Hold()


def cmd_vel(config: ControlConfig) -> Endpoint:
    """Returns the topic of velocities."""
    return Endpoint("cmd_vel", TWIST_STAMPED if config.stamped else TWIST, EVENT, "velocity of the base")


class Pilot:
    """Carries out a policy's actions by velocities.

    Args:
        config: limits of the motion.
        on_found: called when the policy says that it has found the goal.

    Attributes:
        map_T_base: where the robot was when the policy was asked last.
        is_stopped: the emergency stop is pressed.
        said_found: the newest action said that the goal is found.
    """

    def __init__(self, config: MotionConfig, on_found: Callable[[], None] | None = None) -> None:
        self.config = config
        self.executor = MotionExecutor(config)
        self.map_T_base = Pose()
        self.is_stopped = False
        self.said_found = False
        self._on_found = on_found

    @property
    def is_busy(self) -> bool:
        """True while the last action is under way."""
        return self.executor.is_busy

    def act(self, action: Any) -> None:
        """Takes an action: discrete, (speed, turn rate), None to stop, or `HOLD`."""
        self.said_found = False
        if isinstance(action, Hold) or self.is_stopped:
            return
        if action is None:
            self.executor.halt()
        elif isinstance(action, (int, np.integer)):
            motion = primitive(int(action), self.config)
            if motion is not None:
                self.executor.begin(motion)
            elif int(action) == FOUND:
                self.said_found = True
                if self._on_found is not None:
                    self._on_found()
        else:
            speed, turn = (float(v) for v in np.asarray(action, np.float64).reshape(-1)[:2])
            self.executor.follow(speed, turn)

    def estop(self, stopped: bool) -> None:
        """Stops the robot and keeps it where it is, or lets it go again."""
        self.is_stopped = stopped
        if stopped:
            self.executor.stop()

    def velocity(self, odom_T_base: Pose, stamp: int) -> tuple[float, float]:
        """Returns speed [m/s] and turn rate [rad/s] at a stamp [ns]."""
        if self.is_stopped:
            return 0.0, 0.0
        return self.executor.update(odom_T_base, stamp)


class Patient:
    """A policy that is asked only when the robot has done what it was told, about what is still so.

    Args:
        policy: who is asked.
        pilot: carries its actions out.
        is_late: tells that an observation is too old to drive by; none is where None.
    """

    def __init__(
        self, policy: Policy, pilot: Pilot, is_late: Callable[[Observation], bool] | None = None
    ) -> None:
        self.policy, self.pilot, self._is_late = policy, pilot, is_late

    def act(self, obs: Observation, tokens: MemoryTokens, state: Any) -> tuple[Any, Any]:
        """Returns the policy's action, or `HOLD`."""
        self.pilot.map_T_base = obs.map_T_base
        if self._is_late is not None and self._is_late(obs):
            return HOLD, state
        return (HOLD, state) if self.pilot.is_busy else self.policy.act(obs, tokens, state)


class Passing:
    """A controller that passes `HOLD` on."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller

    def step(self, action: Any, memory: Memory) -> Any:
        """Returns the primitive action for this step."""
        return action if isinstance(action, Hold) else self.controller.step(action, memory)


class PilotedWorld:
    """A world that takes velocities, as one that takes actions: a robot without a graph around it.

    Args:
        world: its `act` takes (speed, turn rate) for one step.
        pilot: turns actions into velocities.
    """

    def __init__(self, world: Any, pilot: Pilot) -> None:
        self.world, self.pilot = world, pilot
        self._obs: Observation | None = None

    def observe(self) -> Observation | None:
        """Returns the next observation."""
        self._obs = self.world.observe()
        return self._obs

    def act(self, action: Any) -> None:
        """Drives for one step."""
        assert self._obs is not None
        self.pilot.act(action)
        if not self.pilot.said_found:  # then the world's own answer is the next observation
            self.world.act(self.pilot.velocity(self._obs.odom_T_base, self._obs.stamp))


class Watchdog:
    """Stops the robot when nothing has been heard for too long; it runs beside the worker.

    Args:
        limit: how long [s].
        stop: publishes a stop; called again and again while it is silent.
    """

    def __init__(self, limit: float, stop: Callable[[], None]) -> None:
        self.limit, self._stop = limit, stop
        self.is_silent = True
        self._fed = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def feed(self) -> None:
        """Says that all is well."""
        self._fed = time.monotonic()
        self.is_silent = False

    def _watch(self) -> None:
        while not self._end.wait(self.limit / 4):
            if self._fed and time.monotonic() - self._fed > self.limit:
                self.is_silent = True
                self._stop()

    def close(self) -> None:
        """Stops watching, and the robot."""
        self._end.set()
        self._thread.join()
        if self._fed:
            self._stop()


def twist(endpoint: Endpoint, velocity: tuple[float, float], stamp: int, frame: str) -> Any:
    """Makes the Twist or TwistStamped of a speed [m/s] and a turn rate [rad/s]."""
    value = messages.make(
        TWIST, linear=messages.vector((velocity[0], 0, 0)), angular=messages.vector((0, 0, velocity[1]))
    )
    if endpoint.type == TWIST:
        return value
    return messages.make(TWIST_STAMPED, header=messages.header(stamp, frame), twist=value)
