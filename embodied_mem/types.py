"""What flows through the loop: observations, percepts, memory tokens, queries, answers.

Conventions (REP-103, REP-105): metres, radians, right-handed; base x forward,
y left, z up; camera optical frame z forward. Time is int64 nanoseconds and is
always the stamp of the measurement. Labels are small ints, named by a `LabelMap`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.labels import LabelMap

NS_PER_S = 1_000_000_000

TOKEN_KINDS = ("none", "cell", "place", "object", "room", "episode")
"""Names of `MemoryTokens.kind`, by value."""


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera: pixel centres at integer (u, v), focal lengths in pixels.

    Attributes:
        width, height: image size [px].
        fx, fy, cx, cy: focal lengths and principal point [px].
        model: distortion model of `coefficients`: "", "plumb_bob", "rational_polynomial"
            or "equidistant" (REP-104 and sensor_msgs/CameraInfo).
        coefficients: distortion coefficients in OpenCV's order.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    model: str = ""
    coefficients: tuple[float, ...] = ()

    @property
    def is_distorted(self) -> bool:
        """True where a distortion coefficient is not zero."""
        return any(c != 0.0 for c in self.coefficients)


@dataclass(frozen=True, eq=False)
class Image:
    """One image of one sensor, with the camera that took it.

    Attributes:
        data: (H, W, 3) uint8 colour, (H, W) float32 planar depth [m], or (H, W) int32 labels.
            Depth follows REP-117: 0, NaN and -inf give no update, +inf says that nothing is
            within range and clears up to the maximum range.
        intrinsics: the pinhole camera, of the same size as `data`.
        base_T_camera: the camera's optical frame in the base frame.
    """

    data: NDArray[Any]
    intrinsics: Intrinsics
    base_T_camera: Pose


@dataclass(frozen=True, eq=False)
class Box:
    """One object that a detector outside found in an image.

    Attributes:
        label: label id.
        center: (2,) float64 x, y [px] in the colour image; in the depth image where there is none.
        size: (2,) float64 width and height [px].
        score: confidence in [0, 1].
    """

    label: int
    center: NDArray[np.float64]
    size: NDArray[np.float64]
    score: float = 1.0

    @property
    def corners(self) -> NDArray[np.float64]:
        """(4,) float64 x0, y0, x1, y1 [px]."""
        half = self.size / 2
        return np.concatenate([self.center - half, self.center + half])


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """What one RGB-D camera saw: each image may be missing and may have its own pose.

    Attributes:
        name: which camera, for messages to people.
        depth: planar depth image.
        color: colour image.
        semantic: label image; -1 or 0 is unlabelled.
        boxes: objects found in its colour image.
    """

    name: str
    depth: Image | None = None
    color: Image | None = None
    semantic: Image | None = None
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True, eq=False)
class Cloud:
    """What one LiDAR or laser scanner measured, each point on the ray from the sensor's origin.

    Attributes:
        name: which sensor, for messages to people.
        points: (N, 3) float32 [m] in the sensor's frame, finite.
        hit: (N,) bool: False where nothing was met up to the point.
        base_T_sensor: the sensor's frame in the base frame.
    """

    name: str
    points: NDArray[np.float32]
    hit: NDArray[np.bool_]
    base_T_sensor: Pose


@dataclass(frozen=True, eq=False)
class GridView:
    """MiniGrid's symbolic partial view: the agent at the middle of the last row, facing up.

    Attributes:
        cells: (V, V, 3) uint8, indexed [column, row] as MiniGrid does: object type, colour, state.
        cell_size: edge of a cell [m].
        carrying: type and colour of the carried object, or None.
    """

    cells: NDArray[np.uint8]
    cell_size: float = 1.0
    carrying: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Detection:
    """One object seen in one frame, in the base frame.

    Attributes:
        label: label id.
        position: (3,) float64 [m], the centre.
        extent: (3,) float64 [m], full edge lengths.
        covariance: (3, 3) float64 [m^2] of the position.
        score: confidence in [0, 1].
        state: a state in words, "" where there is none ("open", "closed", "locked").
        embedding: (D,) float32 or None.
        yaw: rotation about z of the box whose edges `extent` are [rad].
        visible: fraction of it that was in view and not hidden, in [0, 1].
    """

    label: int
    position: NDArray[np.float64]
    extent: NDArray[np.float64]
    covariance: NDArray[np.float64]
    score: float = 1.0
    state: str = ""
    embedding: NDArray[np.float32] | None = None
    yaw: float = 0.0
    visible: float = 1.0


@dataclass(frozen=True, eq=False)
class Goal:
    """What the agent is after: a label, a point in the map frame, or both, and its words.

    Attributes:
        label: label id, 0 where the goal is not an object.
        position: (3,) float64 [m] in the map frame, or None.
        text: the instruction in words.
    """

    label: int = 0
    position: NDArray[np.float64] | None = None
    text: str = ""


@dataclass(frozen=True)
class Command:
    """A call that changes the memory beside `write`, as the log's ledger keeps it.

    Attributes:
        name: "forget", "feedback", "note", ...: a name that `Memory.apply` knows.
        arguments: JSON-serialisable keyword arguments.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Observation:
    """One step's inputs, as they decode from the log's encoding.

    Attributes:
        stamp: [ns] of the measurement.
        step: index of the step within the world's run.
        odom_T_base: odometry at the stamp.
        map_T_odom: the localiser's correction, held since it was last received.
        covariance: (6, 6) float64 of map_T_base (x, y, z, rx, ry, rz; REP-103), or None.
        labels: names of the labels below.
        cameras: RGB-D cameras.
        grid: MiniGrid's symbolic view.
        detections: objects detected outside, in the base frame.
        goal: the current goal, or None.
        action: the action that led here (scalar int, or (A,) float64), or None.
        reward: the reward that came with this observation.
        is_first: True for the first observation of an episode.
        terminated, truncated: the episode ended here, by the task or by a limit.
        inputs: (topic, stamp [ns]) of every message consumed.
        commands: memory commands that came in since the previous step, in order.
        clouds: LiDARs and laser scanners.
    """

    stamp: int
    step: int
    odom_T_base: Pose
    map_T_odom: Pose = field(default_factory=Pose)
    covariance: NDArray[np.float64] | None = None
    labels: LabelMap = field(default_factory=LabelMap)
    cameras: tuple[CameraFrame, ...] = ()
    grid: GridView | None = None
    detections: tuple[Detection, ...] = ()
    goal: Goal | None = None
    action: NDArray[np.float64] | int | None = None
    reward: float = 0.0
    is_first: bool = False
    terminated: bool = False
    truncated: bool = False
    inputs: tuple[tuple[str, int], ...] = ()
    commands: tuple[Command, ...] = ()
    clouds: tuple[Cloud, ...] = ()

    @property
    def map_T_base(self) -> Pose:
        """The pose of the base in the map."""
        return self._map_T_base

    @cached_property
    def _map_T_base(self) -> Pose:
        return self.map_T_odom @ self.odom_T_base


@dataclass(frozen=True, eq=False)
class Scan:
    """Range evidence in the base frame.

    Attributes:
        points: (N, 3) float32 [m], finite.
        hit: (N,) bool: True where a surface was met, False where the space is free up to there.
        labels: (N,) int32 label ids, 0 unknown.
        origin: (3,) float64 [m], where the rays start; None for cells whose state is known
            directly: no ray is cast, a hit marks its voxel occupied, a miss marks it free.
        image: the depth image that the points are pixels of, rectified, with 0 for pixels that
            are no points; None for other sensors.
        pixels: (N,) int64, which pixel of the image each point is, in row-major order.
        max_range: [m]; the rays of the image that are longer are free up to there.
    """

    points: NDArray[np.float32]
    hit: NDArray[np.bool_]
    labels: NDArray[np.int32]
    origin: NDArray[np.float64] | None = None
    image: Image | None = None
    pixels: NDArray[np.int64] | None = None
    max_range: float = float("inf")


@dataclass(frozen=True, eq=False)
class Percept:
    """What perception made of an observation: everything in the base frame.

    Attributes:
        stamp: [ns] of the measurement.
        step: index of the step.
        odom_T_base, map_T_odom, covariance: as in `Observation`.
        labels: names of the label ids.
        scans: range evidence, one per sensor.
        detections: objects, base frame.
        snapshot: (H, W, 3) uint8 colour image to remember the moment by, or None.
        embedding: (D,) float32 of the whole view, or None.
        action, reward, is_first: as in `Observation`.
        event: what happened, in a word, "" for nothing ("episode_start", "episode_end").
        text: a note in words.
        source: the sensor or module that writes, for example "grid" or "rgbd".
        embedder: what made the embeddings, with its version; a memory leaves out those of another than
            made its own, since they cannot be compared. "" is not looked at.
    """

    stamp: int
    step: int
    odom_T_base: Pose
    map_T_odom: Pose = field(default_factory=Pose)
    covariance: NDArray[np.float64] | None = None
    labels: LabelMap = field(default_factory=LabelMap)
    scans: tuple[Scan, ...] = ()
    detections: tuple[Detection, ...] = ()
    snapshot: NDArray[np.uint8] | None = None
    embedding: NDArray[np.float32] | None = None
    action: NDArray[np.float64] | int | None = None
    reward: float = 0.0
    is_first: bool = False
    event: str = ""
    text: str = ""
    source: str = ""
    embedder: str = ""

    @property
    def map_T_base(self) -> Pose:
        """The pose of the base in the map."""
        return self._map_T_base

    @cached_property
    def _map_T_base(self) -> Pose:
        return self.map_T_odom @ self.odom_T_base


@dataclass(frozen=True)
class Receipt:
    """What became of a write.

    Attributes:
        sequence: number of the write; durable once <= `Memory.durable_seq`.
        verdict: "accepted" or "rejected".
        reason: why it was rejected, in words a person can act on; "" where accepted.
        episode_id: id of the episodic entry made, or -1.
    """

    sequence: int
    verdict: str
    reason: str = ""
    episode_id: int = -1


@dataclass(frozen=True, eq=False)
class MemoryTokens:
    """A fixed number K of memory entries for a policy, in the base frame (DESIGN: reading).

    Attributes:
        id: (K,) int64, stable ids; never embedded.
        kind: (K,) int64, index into `TOKEN_KINDS`.
        level: (K,) int64, octree level of a cell, else 0.
        position: (K, 3) float32 [m] in the base frame.
        extent: (K, 3) float32 [m].
        label: (K,) int64.
        occupancy: (K,) float32 in [0, 1].
        age: (K,) float32, log(1 + seconds since last seen).
        confidence: (K,) float32 in [0, 1], existence or label confidence.
        visits: (K,) float32, log(1 + number of visits).
        frontier: (K,) bool.
        path_distance: (K,) float32 [m] over traversable space; inf where unreachable.
        feature: (K, D) float32.
        mask: (K,) bool, True where a token is present.
        place_id: id of the place the agent is in, or -1.
        crops: (C, P, P) uint8 egocentric pictures of the map (`memory.crops`), None where not asked for.
    """

    id: NDArray[np.int64]
    kind: NDArray[np.int64]
    level: NDArray[np.int64]
    position: NDArray[np.float32]
    extent: NDArray[np.float32]
    label: NDArray[np.int64]
    occupancy: NDArray[np.float32]
    age: NDArray[np.float32]
    confidence: NDArray[np.float32]
    visits: NDArray[np.float32]
    frontier: NDArray[np.bool_]
    path_distance: NDArray[np.float32]
    feature: NDArray[np.float32]
    mask: NDArray[np.bool_]
    place_id: int = -1
    crops: NDArray[np.uint8] | None = None

    @classmethod
    def empty(cls, count: int, feature_size: int) -> MemoryTokens:
        """Returns `count` absent tokens."""
        return cls(
            id=np.zeros(count, np.int64),
            kind=np.zeros(count, np.int64),
            level=np.zeros(count, np.int64),
            label=np.zeros(count, np.int64),
            occupancy=np.zeros(count, np.float32),
            age=np.zeros(count, np.float32),
            confidence=np.zeros(count, np.float32),
            visits=np.zeros(count, np.float32),
            position=np.zeros((count, 3), np.float32),
            extent=np.zeros((count, 3), np.float32),
            frontier=np.zeros(count, bool),
            path_distance=np.full(count, np.inf, np.float32),
            feature=np.zeros((count, feature_size), np.float32),
            mask=np.zeros(count, bool),
        )


@dataclass(frozen=True, eq=False)
class Query:
    """One question to the memory; every field that is given must hold.

    Attributes:
        near: (3,) [m] in the map frame, with `radius` [m].
        radius: how far from `near` [m].
        room: id of a room, or its name.
        place: id of a place.
        since, until: time range [ns], inclusive.
        as_of: answer as the memory stood at this time [ns].
        label: words that the label's name must hold: "key" matches "green key".
        text: words to look for in labels, events and notes.
        like: (D,) float32 embedding to rank by, or an (H, W, 3) uint8 image for `Memory.encoder`.
        kind: "object", "place", "room", "episode", "surface" (of a thing that no detector has told of), or
            None: objects and surfaces where a label is asked for, else any but surfaces.
        min_trust, min_existence: lower bounds in [0, 1].
        k: how many answers at most.
    """

    near: tuple[float, float, float] | None = None
    radius: float | None = None
    room: int | str | None = None
    place: int | None = None
    since: int | None = None
    until: int | None = None
    as_of: int | None = None
    label: str | None = None
    text: str | None = None
    like: NDArray[Any] | None = None
    kind: str | None = None
    min_trust: float = 0.0
    min_existence: float = 0.0
    k: int = 5


@dataclass(frozen=True, eq=False)
class Recall:
    """One answer to a `Query`, with its provenance.

    Attributes:
        kind: "object", "place", "room", "episode" or "surface".
        id: its stable id.
        label: name of its label, or "".
        text: what it is, in a sentence.
        stamp: when it was last seen, or happened [ns].
        step: the step of that moment, or -1.
        position: (3,) float64 [m] in the map frame.
        place_id, room_id: where, or -1.
        score: how well it matched, higher is better.
        why: what made it match, readable.
        age: seconds between the newest write and `stamp`.
        source: who wrote it.
        trust, existence: in [0, 1].
        evidence: ids of the episodic entries it rests on, newest first.
        log_offset: step of the newest evidence in the log's ledger, or -1.
        snapshot: id of the newest evidence that has a snapshot, or -1.
        recall_id: what `Memory.feedback` knows this answer by; -1 outside a memory.
    """

    kind: str
    id: int
    label: str
    text: str
    stamp: int
    step: int
    position: NDArray[np.float64]
    place_id: int
    room_id: int
    score: float
    why: str
    age: float
    source: str
    trust: float
    existence: float
    evidence: tuple[int, ...]
    log_offset: int = -1
    snapshot: int = -1
    recall_id: int = -1
