"""Finds a log's inputs by type and frame, whatever its topics are called.

A short look at the log's beginning tells what every image topic holds; `--remap role:=topic`
overrides what is chosen.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from embodied_mem.errors import ConfigError, LogError
from embodied_mem.log import images, topics
from embodied_mem.log.messages import DamagedMessageError, deserialize, read_transform
from embodied_mem.log.ranges import RANGE_TYPES
from embodied_mem.log.reader import LogReader
from embodied_mem.log.tf import TfBuffer, find_frames

CAMERA_ROLES = ("color", "depth", "semantic", "color_info", "depth_info", "semantic_info", "boxes")
ROLES = (*CAMERA_ROLES, "odom", "points", "scan")
"""What `--remap` can set; a digit after one stands for a further camera or sensor: depth2, scan2."""

_DIGITS = "23456789"
_IMAGE_TYPES = (topics.IMAGE, topics.COMPRESSED_IMAGE)
_LABEL_WORDS = ("semantic", "segment", "label")
_NOT_DEPTH = ("confidence", "disparity", "infra", "_ir", "/ir", "cost", "mask")


@dataclass(frozen=True)
class Camera:
    """What the first message of an image or CameraInfo topic tells.

    Attributes:
        topic, type: of the topic.
        frame: frame_id of the header.
        size: (width, height) [px]; (0, 0) where it is compressed.
        encoding: of the pixels, "" where unknown.
    """

    topic: str
    type: str
    frame: str
    size: tuple[int, int] = (0, 0)
    encoding: str = ""


@dataclass
class Survey:
    """What a log holds, as far as its beginning tells.

    Attributes:
        images, infos: image and CameraInfo topics by name.
        ranges, boxes: LiDARs and laser scanners, and 2-D detections, by name.
        odometry: (frame_id, child_frame_id) of odometry topics by name.
        tree: the TF tree's shape.
    """

    images: dict[str, Camera] = field(default_factory=dict)
    infos: dict[str, Camera] = field(default_factory=dict)
    ranges: dict[str, Camera] = field(default_factory=dict)
    boxes: dict[str, Camera] = field(default_factory=dict)
    odometry: dict[str, tuple[str, str]] = field(default_factory=dict)
    tree: TfBuffer = field(default_factory=TfBuffer)


@dataclass(frozen=True)
class CameraInputs:
    """The topics of one camera, by role; "" where a role has none."""

    depth: str = ""
    depth_info: str = ""
    color: str = ""
    color_info: str = ""
    semantic: str = ""
    semantic_info: str = ""
    boxes: str = ""


@dataclass(frozen=True)
class Inputs(CameraInputs):
    """The topics to read, by role: those of the first camera, and everything else.

    Attributes:
        odom: odometry.
        others: further cameras.
        ranges: LiDARs and laser scanners; the first drives where the first camera has no depth.
    """

    odom: str = ""
    others: tuple[CameraInputs, ...] = ()
    ranges: tuple[str, ...] = ()

    @property
    def driver(self) -> str:
        """The topic each message of which makes an observation."""
        return self.depth or self.ranges[0]

    @property
    def cameras(self) -> tuple[CameraInputs, ...]:
        """All cameras, the first one first."""
        return (self, *self.others)

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics, each once."""
        names = [getattr(camera, role) for camera in self.cameras for role in CAMERA_ROLES]
        return tuple(dict.fromkeys(name for name in (*names, self.odom, *self.ranges) if name))


def survey(reader: LogReader, tf_topics: Collection[str]) -> Survey:
    """Looks at the first message of every topic, and at TF until the robot's frames are known.

    A log without a map frame is read to its end here: only then is it certain that none comes.

    Args:
        reader: the log.
        tf_topics: where transforms are read from.
    """
    found = Survey()
    wanted = {
        name: info.type
        for name, info in reader.topics.items()
        if info.count and info.serialization == "cdr" and _is_input(info.type)
    }
    unseen = set(wanted)
    wanted |= dict.fromkeys(tf_topics, topics.TF_MESSAGE)
    for raw in reader.messages(wanted):
        type_name = wanted[raw.topic]
        grown = False
        try:
            if raw.topic in tf_topics:
                grown = _add_transforms(found.tree, raw.topic, deserialize(raw.data, type_name, raw.topic))
            elif raw.topic in unseen:
                _look(found, raw.topic, type_name, raw.data)
                unseen.discard(raw.topic)
                grown = True
        except DamagedMessageError:
            continue  # the run through the log counts these
        if grown and not unseen and (not tf_topics or _has_map(found)):
            break
    return found


def _is_input(type_name: str) -> bool:
    others = (topics.CAMERA_INFO, topics.ODOMETRY, topics.DETECTIONS_2D)
    return type_name in (*_IMAGE_TYPES, *RANGE_TYPES, *others)


def tf_topics(reader: LogReader, depth: str = "") -> set[str]:
    """Returns the topics of transforms; of a fleet's, those of the robot that a depth image is from.

    Robots that share a log often share frame names; their namespaces keep them apart.
    """
    found = {
        name
        for name, info in reader.topics.items()
        if info.type == topics.TF_MESSAGE and info.count and info.serialization == "cdr"
    }
    own = {name for name in found if name.count("/") > 1 and depth.startswith(name.rsplit("/", 1)[0] + "/")}
    return own or found


def _add_transforms(tree: TfBuffer, topic: str, message: object) -> bool:
    grown = False
    for item in message.transforms:  # type: ignore[attr-defined]
        parent, child, stamp, pose = read_transform(item)
        grown |= tree.add(parent, child, stamp, pose, static=is_static(topic))
    return grown


def is_static(topic: str) -> bool:
    """True for /tf_static, under any namespace."""
    return topic.rsplit("/", 1)[-1] == "tf_static"


def _look(found: Survey, topic: str, type_name: str, data: bytes) -> None:
    message = deserialize(data, type_name, topic)
    frame = message.header.frame_id.lstrip("/")
    if type_name == topics.ODOMETRY:
        found.odometry[topic] = (frame, message.child_frame_id.lstrip("/"))
    elif type_name == topics.CAMERA_INFO:
        found.infos[topic] = Camera(topic, type_name, frame, (int(message.width), int(message.height)))
    elif type_name in RANGE_TYPES:
        found.ranges[topic] = Camera(topic, type_name, frame)
    elif type_name == topics.DETECTIONS_2D:
        found.boxes[topic] = Camera(topic, type_name, frame)
    elif type_name == topics.IMAGE:
        size = (int(message.width), int(message.height))
        found.images[topic] = Camera(topic, type_name, frame, size, images.encoding_of(message))
    else:
        encoding = images.encoding_of(message)
        if not encoding and "depth" in topic.lower() and "png" in message.format:
            encoding = "16UC1"
        found.images[topic] = Camera(topic, type_name, frame, encoding=encoding)


def _has_map(found: Survey) -> bool:
    """True where every driving sensor's frame is known to hang below a map frame that moves odometry."""
    depths = [c.frame for c in found.images.values() if _is_depth(c)]
    depths = depths or [c.frame for c in found.ranges.values()]
    for frame in depths:
        try:
            frames = find_frames(found.tree, frame)
        except LogError:
            return False
        if frames.map == frames.odom:
            return False
    return bool(depths)


def _is_labels(camera: Camera) -> bool:
    name = camera.topic.lower()
    if camera.encoding == "32SC1":
        return True
    return camera.encoding in images.SEMANTIC_ENCODINGS and any(word in name for word in _LABEL_WORDS)


def _is_depth(camera: Camera) -> bool:
    name = camera.topic.lower()
    if camera.encoding not in images.DEPTH_ENCODINGS or _is_labels(camera):
        return False
    return "depth" in name or not any(word in name for word in _NOT_DEPTH)


def _is_color(camera: Camera) -> bool:
    if _is_labels(camera) or _is_depth(camera):
        return False
    compressed = camera.type == topics.COMPRESSED_IMAGE and camera.encoding == ""
    return compressed or camera.encoding in images.COLOR_ENCODINGS


def choose_inputs(found: Survey, reader: LogReader, remap: Mapping[str, str] | None = None) -> Inputs:
    """Chooses one RGB-D camera and its odometry; where there is none, a LiDAR or a laser scanner.

    Depth that is registered to the colour image goes before depth that is not, raw before
    compressed, then by name. Colour is taken from the camera nearest to the depth's by frame,
    size and name. Further cameras and range sensors beside a camera are taken where they are remapped.

    Args:
        found: from `survey`.
        reader: the log, for messages and warnings.
        remap: role -> topic, overriding the choice.

    Raises:
        LogError: there is nothing to build a map from or no CameraInfo for it, or a remapped topic is
            missing.
        ConfigError: a remap names an unknown role.
    """
    remap = _checked(remap or {}, found, reader)
    ranges = tuple(topic for role, topic in remap.items() if role.rstrip(_DIGITS) in ("points", "scan"))
    depth = _first_depth(found, reader, remap, ranges)
    if depth is None:
        ranges = ranges or (min(found.ranges.values(), key=_range_rank).topic,)
    first = _camera_of(depth or found.ranges[ranges[0]], "", found, reader, remap)
    others = []
    for number in _DIGITS:
        if f"depth{number}" in remap:
            camera = found.images[remap[f"depth{number}"]]
            others.append(_camera_of(camera, number, found, reader, remap))
    odom = remap.get("odom", _odometry(found))
    return Inputs(**vars(first), odom=odom, others=tuple(others), ranges=ranges)


def _first_depth(
    found: Survey, reader: LogReader, remap: Mapping[str, str], ranges: Collection[str]
) -> Camera | None:
    """Returns the camera that drives; None where a range sensor does."""
    if "depth" in remap:
        return found.images[remap["depth"]]
    depths = [c for c in found.images.values() if _is_depth(c)]
    if not depths:
        if ranges or found.ranges:
            return None
        raise LogError(
            f"{reader.path} holds no depth image, LiDAR or laser scan to build a map from; "
            f"{_contents(reader)}"
        )
    colors = [c for c in found.images.values() if _is_color(c)]
    depth = min(depths, key=lambda c: _depth_rank(c, colors))
    chosen = {remap.get(f"depth{number}") for number in _DIGITS}
    others = sorted(c.topic for c in depths if c.frame != depth.frame and c.topic not in chosen)
    if others:
        reader.warnings.append(
            f"depth is read from {depth.topic}; not from {', '.join(others)} (--remap depth2:=TOPIC)"
        )
    return depth


def _camera_of(
    driver: Camera, number: str, found: Survey, reader: LogReader, remap: Mapping[str, str]
) -> CameraInputs:
    """Returns the topics of one camera: colour, labels and boxes are those nearest to its depth.

    Args:
        driver: its depth image; a range sensor where the camera has none.
        number: "" of the first camera, a digit of another one.
        found: what the log holds.
        reader: the log, for messages and warnings.
        remap: role -> topic.
    """
    chosen: dict[str, Camera] = {}
    if driver.type in _IMAGE_TYPES:
        chosen["depth"] = driver
    colors = [c for c in found.images.values() if _is_color(c)]
    labels = [c for c in found.images.values() if _is_labels(c)]
    if colors and not number:
        chosen["color"] = min(colors, key=lambda c: _partner_rank(c, driver))
    if labels and not number:
        chosen["semantic"] = min(labels, key=lambda c: _partner_rank(c, driver))
    for role in ("color", "semantic"):
        if f"{role}{number}" in remap:
            chosen[role] = found.images[remap[f"{role}{number}"]]
    topics_of: dict[str, str] = {}
    for role, camera in chosen.items():
        info = remap.get(f"{role}_info{number}") or _info_of(camera, found)
        if not info and role == "depth":
            raise LogError(
                f"{reader.path} holds no CameraInfo for {camera.topic}: record its camera_info topic, or "
                f"name one with --remap depth_info{number}:=TOPIC"
            )
        if info:
            topics_of |= {role: camera.topic, f"{role}_info": info}
        else:
            reader.warnings.append(f"{camera.topic} is not used: there is no CameraInfo for it")
    frames = {camera.frame for camera in chosen.values()}
    boxes = sorted(c.topic for c in found.boxes.values() if c.frame in frames)
    boxes = [remap[f"boxes{number}"]] if f"boxes{number}" in remap else boxes
    return CameraInputs(**topics_of, boxes=boxes[0] if boxes else "")


def _range_rank(camera: Camera) -> tuple[object, ...]:
    return (camera.type != topics.POINT_CLOUD, camera.topic)


def _checked(remap: Mapping[str, str], found: Survey, reader: LogReader) -> dict[str, str]:
    checked = {}
    for role, name in remap.items():
        bare = role.rstrip(_DIGITS)
        if bare not in ROLES or len(role) - len(bare) > 1 or (bare == "odom" and bare != role):
            near = difflib.get_close_matches(role, ROLES, n=1, cutoff=0.0)[0]
            raise ConfigError(f'unknown role "{role}" in --remap; did you mean "{near}"?')
        topic = name if name in reader.topics else f"/{name.strip('/')}"
        known: Iterable[str] = found.images
        if bare == "odom":
            known = found.odometry
        elif bare in ("points", "scan"):
            known = found.ranges
        elif bare == "boxes":
            known = found.boxes
        elif bare.endswith("_info"):
            known = found.infos
        if topic not in known:
            near_topics = difflib.get_close_matches(topic, known, n=1, cutoff=0.0)
            hint = f"; did you mean {near_topics[0]}?" if near_topics else f"; {_contents(reader)}"
            raise LogError(f"--remap {role}:={name}: no such {_kind(bare)} topic in {reader.path}{hint}")
        checked[role] = topic
    return checked


def _kind(role: str) -> str:
    kinds = {"odom": "odometry", "points": "PointCloud2", "scan": "LaserScan", "boxes": "Detection2DArray"}
    return kinds.get(role, "CameraInfo" if role.endswith("_info") else "image")


def _contents(reader: LogReader, most: int = 6) -> str:
    names = [f"{name} ({info.type})" for name, info in sorted(reader.topics.items()) if info.count]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"it has {', '.join(names[:most]) or 'no messages'}{more}"


def _depth_rank(camera: Camera, colors: Iterable[Camera]) -> tuple[object, ...]:
    name = camera.topic.lower()
    return (
        "depth" not in name,
        not any(c.frame == camera.frame for c in colors),
        camera.type != topics.IMAGE,
        "rect" not in name and "aligned" not in name and "registered" not in name,
        name,
    )


def _partner_rank(camera: Camera, depth: Camera) -> tuple[object, ...]:
    name = camera.topic.lower()
    return (
        camera.encoding in ("mono8", "8UC1"),
        _shared_prefix(camera.topic, depth.topic) == 0,
        camera.frame != depth.frame,
        not ("color" in name or "rgb" in name),
        camera.type != topics.IMAGE,
        (0, 0) not in (camera.size, depth.size) and camera.size != depth.size,
        "rect" not in name,
        name,
    )


def _shared_prefix(a: str, b: str) -> int:
    count = 0
    for x, y in zip(a.strip("/").split("/")[:-1], b.strip("/").split("/")[:-1]):
        if x != y:
            break
        count += 1
    return count


def _info_of(camera: Camera, found: Survey) -> str:
    """Returns the CameraInfo topic beside an image, else one of the same frame, else ""."""
    image = camera.topic
    if camera.type == topics.COMPRESSED_IMAGE:
        image = image.rsplit("/", 1)[0]  # <image>/compressed
    beside = f"{image.rsplit('/', 1)[0]}/camera_info"
    if beside in found.infos:
        return beside
    same = [c for c in found.infos.values() if c.frame == camera.frame]
    same = [c for c in same if camera.size == (0, 0) or c.size == camera.size] or same
    return min(same, key=lambda c: (-_shared_prefix(c.topic, camera.topic), c.topic)).topic if same else ""


def _odometry(found: Survey) -> str:
    """Returns the odometry topic: one called odom before others."""
    return min(found.odometry, key=lambda name: (name.rsplit("/", 1)[-1] != "odom", name), default="")
