"""Writing an episode as MCAP with standard ROS 2 messages and a ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodied_mem.errors import LogError
from embodied_mem.log import messages, topics
from embodied_mem.log.outputs import ObservationMessages, camera_namespace
from embodied_mem.log.raw_writer import start_mcap
from embodied_mem.log.topics import Topic
from embodied_mem.types import NS_PER_S, Command, LabelMap, Observation

if TYPE_CHECKING:
    from embodied_mem.loop import Moment

CHUNK_BYTES = 16 * 1024
"""A crash loses at most the chunk in progress: a few steps of a grid world, one image of a camera."""
EPISODE_GAP_NS = NS_PER_S
"""Log time between two episodes whose stamps start anew."""

_INFINITE = {"sec": 9223372036, "nsec": 854775807}


class EpisodeWriter:
    """Writes a run as one MCAP file; a listener of the loop.

    The file holds CDR messages with their ros2msg definitions in zstd chunks: Foxglove and
    `ros2 bag play` open it, `embodied_mem.log.world.LoggedWorld` reads the same observations back.
    Listen first: commands that another listener gives belong to the next step.

    Args:
        path: the file; one that exists is replaced.
        labels: names of labels known at the start; later ones are written when they come.
        config: the memory's settings, as a mapping or JSON text, for the replay.

    Raises:
        LogError: the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        labels: LabelMap | None = None,
        config: Mapping[str, Any] | str | None = None,
    ) -> None:
        self.path = Path(path)
        self._file, self._mcap = start_mcap(self.path, CHUNK_BYTES)
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._config = json.loads(config) if isinstance(config, str) else config
        self._outputs = ObservationMessages()
        self._first_labels = labels
        self._commands: list[Command] = []
        self._early: list[Command] = []
        self._stamp: int | None = None
        self._log_time = 0
        self._offset = 0
        self._steps = 0

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_closed(self) -> bool:
        """True after `close`."""
        return bool(self._file.closed)

    def __call__(self, moment: Moment) -> None:
        """Writes one step: its inputs, then its line of the ledger."""
        obs, receipt = moment.obs, moment.receipt
        self._advance(obs.stamp)
        for command in obs.commands:
            if command not in self._commands:
                self.command(command)  # nobody told us of it when it was applied
        consumed = self._write_inputs(obs)
        cameras = [[camera_namespace(camera.name), camera.name] for camera in obs.cameras]
        clouds = [[camera_namespace(cloud.name), cloud.name] for cloud in obs.clouds]
        for sensors in (cameras, clouds):
            if len({namespace for namespace, _ in sensors}) < len(sensors):
                raise LogError(f"sensors need different names, got {[name for _, name in sensors]}")
        step = {
            "step": obs.step,
            "stamp": obs.stamp,
            "inputs": [[name, obs.stamp] for name in consumed],
            "map_T_odom": obs.map_T_odom.to_list(),
            "cameras": cameras,
            "sequence": receipt.sequence,
            "verdict": receipt.verdict,
            "reason": receipt.reason,
        }
        if clouds:
            step["clouds"] = clouds
        if obs.inputs:
            step["sources"] = [list(source) for source in obs.inputs]
        self._write(topics.STEP, messages.json_string(step))
        self._file.flush()  # finished chunks must not wait in this process
        self._commands.clear()
        self._steps += 1

    def command(self, command: Command) -> None:
        """Writes a command to the ledger; append this to `Memory.on_command`."""
        self._commands.append(command)
        if self._stamp is None:
            self._early.append(command)  # there is no log time before the first step
        else:
            self._write_command(command)

    def ground_truth(self, facts: Mapping[str, Any]) -> None:
        """Writes what the simulator knows of the newest step, for `eval-memory` alone."""
        self._write(topics.GROUND_TRUTH, messages.json_string(dict(facts)))

    def _write_command(self, command: Command) -> None:
        self._write(
            topics.COMMAND,
            messages.json_string({"name": command.name, "arguments": dict(command.arguments)}),
        )

    def close(self, digest: str | None = None) -> None:
        """Ends the file; doing it twice changes nothing.

        Args:
            digest: of the memory at the end, for `replay --verify`.
        """
        if self.is_closed:
            return
        self._start()
        if digest is not None:
            self._write(topics.DIGEST, messages.json_string({"digest": digest, "steps": self._steps}))
        self._mcap.finish()
        self._file.close()

    def _advance(self, stamp: int) -> None:
        """Moves log time on; it follows the stamps but never goes back."""
        if self._stamp is not None and stamp < self._stamp:
            self._offset = self._log_time + EPISODE_GAP_NS - stamp
        self._stamp = stamp
        self._log_time = max(self._log_time, stamp + self._offset)
        self._start()

    def _start(self) -> None:
        """Writes what is known before the first step, once."""
        if topics.CONFIG.name not in self._channels and self._config is not None:
            self._write(topics.CONFIG, messages.json_string(dict(self._config)))
        if self._outputs.labels is None and self._first_labels is not None:
            self._write_labels(self._first_labels)
        early, self._early = self._early, []
        for command in early:
            self._write_command(command)

    def _write(self, topic: Topic, message: Any) -> None:
        """Writes a message at the stamp of the current step."""
        if self.is_closed:
            raise LogError(f"the log {self.path} is closed")
        channel = self._channels.get(topic.name)
        if channel is None:
            channel = self._channels[topic.name] = self._register(topic)
        stamp = self._log_time if self._stamp is None else self._stamp
        self._mcap.add_message(channel, self._log_time, messages.serialize(message, topic.type), stamp)

    def _register(self, topic: Topic) -> int:
        if topic.type not in self._schemas:
            text = messages.definition(topic.type).encode()
            # Schemas have the full type name in ROS 2.
            self._schemas[topic.type] = self._mcap.register_schema(topic.type, "ros2msg", text)
        metadata = {
            "offered_qos_profiles": qos_profile(topic.latched),
            "topic_type_hash": messages.type_hash(topic.type),
        }
        return int(self._mcap.register_channel(topic.name, "cdr", self._schemas[topic.type], metadata))

    def _write_labels(self, labels: LabelMap) -> None:
        self._outputs.labels = labels
        self._write(topics.LABELS, messages.label_info(labels, self._stamp or 0))

    def _write_inputs(self, obs: Observation) -> list[str]:
        """Writes everything an observation holds; returns the topics that the step consumed."""
        written: list[str] = []
        for topic, message, is_consumed in self._outputs.of(obs):
            self._write(topic, message)
            if is_consumed:
                written.append(topic.name)
        return written


def qos_profile(latched: bool) -> str:
    """Returns a QoS profile as rosbag2 writes it; in numbers, which Humble and Jazzy both read."""
    profile = {
        "history": 1,  # keep last
        "depth": 1 if latched else 10,
        "reliability": 1,  # reliable
        "durability": 1 if latched else 2,  # transient local, volatile
        "deadline": _INFINITE,
        "lifespan": _INFINITE,
        "liveliness": 1,  # automatic
        "liveliness_lease_duration": _INFINITE,
        "avoid_ros_namespace_conventions": False,
    }
    return json.dumps([profile])  # JSON is YAML
