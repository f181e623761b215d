"""Writing an episode as MCAP with standard ROS 2 messages and a ledger."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embodied_mem.errors import LogError
from embodied_mem.geometry import Pose
from embodied_mem.log import messages, topics
from embodied_mem.log.topics import Topic
from embodied_mem.types import NS_PER_S, CameraFrame, Command, GridView, Image, LabelMap, Observation

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
        from mcap.writer import CompressionType, Writer

        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("wb")
        except OSError as error:
            raise LogError(f"cannot write the log {self.path}: {error.strerror}") from None
        self._mcap: Any = Writer(self._file, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
        self._mcap.start(profile="ros2", library="embodied-mem")
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._config = json.loads(config) if isinstance(config, str) else config
        self._labels: LabelMap | None = None
        self._first_labels = labels
        self._static: dict[str, Pose] = {}
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
        cameras = [[_namespace(camera.name), camera.name] for camera in obs.cameras]
        if len({namespace for namespace, _ in cameras}) < len(cameras):
            raise LogError(f"cameras need different names, got {[name for _, name in cameras]}")
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
        if self._labels is None and self._first_labels is not None:
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
            "offered_qos_profiles": _qos(topic.latched),
            "topic_type_hash": messages.type_hash(topic.type),
        }
        return int(self._mcap.register_channel(topic.name, "cdr", self._schemas[topic.type], metadata))

    def _write_labels(self, labels: LabelMap) -> None:
        self._labels = labels
        self._write(topics.LABELS, messages.label_info(labels, self._stamp or 0))

    def _write_inputs(self, obs: Observation) -> list[str]:
        """Writes everything an observation holds; returns the topics."""
        if obs.labels != self._labels:
            self._write_labels(obs.labels)
        written: list[str] = []

        def put(topic: Topic, message: Any) -> None:
            self._write(topic, message)
            written.append(topic.name)

        stamp = obs.stamp
        map_T_odom = messages.transform(topics.MAP_FRAME, topics.ODOM_FRAME, obs.map_T_odom, stamp)
        odom_T_base = messages.transform(topics.ODOM_FRAME, topics.BASE_FRAME, obs.odom_T_base, stamp)
        put(topics.TF, messages.tf_message([map_T_odom, odom_T_base]))
        put(topics.ODOM, messages.odometry(obs.odom_T_base, stamp))
        pose = messages.make(
            topics.POSE_WITH_COVARIANCE,
            header=messages.header(stamp, topics.MAP_FRAME),
            pose=messages.pose_with_covariance(obs.map_T_base, obs.covariance),
        )
        if obs.covariance is None:
            self._write(topics.POSE, pose)  # to look at; it was not consumed
        else:
            put(topics.POSE, pose)
        for camera in obs.cameras:
            self._write_camera(camera, stamp, put)
        if obs.grid is not None:
            _write_grid(obs.grid, stamp, put)
        if obs.detections:
            put(topics.DETECTIONS, messages.detections(obs.detections, stamp))
            embeddings = messages.embedding_array(obs.detections)
            if embeddings is not None:
                put(topics.DETECTION_EMBEDDINGS, embeddings)
        _write_task(obs, put)
        return written

    def _write_camera(self, camera: CameraFrame, stamp: int, put: Any) -> None:
        namespace = _namespace(camera.name)
        for kind, (image_row, info_row) in topics.CAMERA_TOPICS.items():
            image: Image | None = getattr(camera, kind)
            if image is None:
                continue
            image_topic, info_topic = image_row.of(namespace), info_row.of(namespace)
            self._write_mount(image_topic.frame, image.base_T_camera, stamp)
            put(info_topic, messages.camera_info(image.intrinsics, stamp, info_topic.frame))
            put(image_topic, _image(kind, image, stamp, image_topic.frame))

    def _write_mount(self, frame: str, base_T_camera: Pose, stamp: int) -> None:
        """Writes where a camera sits, at first and whenever that changes."""
        known = self._static.get(frame)
        if known is not None and known.to_list() == base_T_camera.to_list():
            return
        self._static[frame] = base_T_camera
        mount = messages.transform(topics.BASE_FRAME, frame, base_T_camera, stamp)
        self._write(topics.TF_STATIC, messages.tf_message([mount]))


def _image(kind: str, image: Image, stamp: int, frame: str) -> Any:
    data = image.data
    if kind == "color":
        return messages.image(np.asarray(data, np.uint8), "rgb8", stamp, frame)
    if kind == "depth":
        return messages.image(np.asarray(data, np.float32), "32FC1", stamp, frame)
    labels = np.asarray(data, np.int32)
    if labels.size and (labels.min() < 0 or labels.max() > 65535):
        return messages.image(labels, "32SC1", stamp, frame)
    return messages.image(labels.astype(np.uint16), "16UC1", stamp, frame)


def _write_grid(grid: GridView, stamp: int, put: Any) -> None:
    # An image's rows are the grid's rows; `cells` is indexed [column, row].
    rows = np.ascontiguousarray(grid.cells.transpose(1, 0, 2))
    put(topics.GRID_VIEW, messages.image(rows, "8UC3", stamp, topics.BASE_FRAME))
    carrying = None if grid.carrying is None else [int(v) for v in grid.carrying]
    put(topics.GRID_INFO, messages.json_string({"cell_size": float(grid.cell_size), "carrying": carrying}))


def _write_task(obs: Observation, put: Any) -> None:
    """Writes goal, action, reward and the episode's bounds."""
    if obs.goal is not None:
        goal = obs.goal
        position = None if goal.position is None else np.asarray(goal.position, np.float64)
        put(
            topics.GOAL,
            messages.json_string({"text": goal.text, "label": int(goal.label), "position": position}),
        )
    if isinstance(obs.action, (int, np.integer)):
        put(topics.ACTION, messages.make(topics.INT64, data=int(obs.action)))
    elif obs.action is not None:
        vector = np.asarray(obs.action, np.float64).reshape(-1)
        put(topics.ACTION_VECTOR, messages.multi_array(vector, topics.FLOAT64_ARRAY, ("action",)))
    put(topics.REWARD, messages.make(topics.FLOAT64, data=float(obs.reward)))
    episode = {
        "is_first": bool(obs.is_first),
        "terminated": bool(obs.terminated),
        "truncated": bool(obs.truncated),
    }
    put(topics.EPISODE, messages.json_string(episode))


def _namespace(name: str) -> str:
    """Returns a camera's name as a ROS 2 name: letters, digits and underscores."""
    cleaned = re.sub(r"\W", "_", name, flags=re.ASCII)
    return cleaned if re.match(r"[A-Za-z]", cleaned) else f"camera_{cleaned}".rstrip("_")


def _qos(latched: bool) -> str:
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
