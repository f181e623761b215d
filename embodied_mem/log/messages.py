"""ROS 2 messages to and from bytes and our types, by `rosbags`, without ROS."""

from __future__ import annotations

import functools
import json
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import LogError
from embodied_mem.geometry import Pose
from embodied_mem.log import topics
from embodied_mem.types import NS_PER_S, Detection, Intrinsics, LabelMap

VISION_MSGS = {
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name",
    "vision_msgs/msg/LabelInfo": (
        "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold"
    ),
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score",
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose"
    ),
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "vision_msgs/msg/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "vision_msgs/msg/Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox2D bbox\nstring id"
    ),
    "vision_msgs/msg/Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
    "vision_msgs/msg/BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size",
    "vision_msgs/msg/Detection3D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox3D bbox\nstring id"
    ),
    "vision_msgs/msg/Detection3DArray": "std_msgs/Header header\nvision_msgs/Detection3D[] detections",
}
"""vision_msgs 4 (Humble and later), which rosbags' type stores lack."""


class DamagedMessageError(LogError):
    """One message cannot be decoded; those around it may be good."""


_STATE_PREFIX = "state:"
_VISIBLE, _YAW = "visible", "yaw"


@functools.cache
def _store() -> Any:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    for name, text in VISION_MSGS.items():
        store.register(get_types_from_msg(text, name))
    return store


def make(type_name: str, **fields: Any) -> Any:
    """Makes a message of a ROS 2 type, for example "std_msgs/msg/String"."""
    return _store().types[type_name](**fields)


def knows(type_name: str) -> bool:
    """True where messages of this type can be read and written."""
    return type_name in _store().fielddefs


def fields(type_name: str) -> Sequence[tuple[str, Any]]:
    """Returns the fields of a type as rosbags describes them: name, (kind of node, details)."""
    found: Sequence[tuple[str, Any]] = _store().fielddefs[type_name][1]
    return found


def serialize(message: Any, type_name: str) -> bytes:
    """Returns a message as CDR bytes, little endian, with the 4-byte encapsulation header."""
    return bytes(_store().serialize_cdr(message, type_name))


def deserialize(data: bytes, type_name: str, where: str = "") -> Any:
    """Reads a message from CDR bytes.

    Args:
        data: the bytes, with encapsulation header.
        type_name: ROS 2 type.
        where: the topic, for the error.

    Raises:
        DamagedMessageError: the bytes do not hold a message of that type.
    """
    try:
        return _store().deserialize_cdr(data, type_name)
    except Exception as error:  # rosbags raises whatever its generated code trips over
        raise DamagedMessageError(
            f"{where or 'a topic'} holds a damaged {type_name} message ({error})"
        ) from None


@functools.cache
def definition(type_name: str) -> str:
    """Returns the ros2msg definition of a type with those of all types it uses."""
    text: str = _store().generate_msgdef(type_name, ros_version=2)[0]
    return text


@functools.cache
def type_hash(type_name: str) -> str:
    """Returns the RIHS01 hash of a type (REP-2016)."""
    return str(_store().hash_rihs01(type_name))


def header_stamp(data: bytes) -> int:
    """Returns the stamp [ns] of a serialised message that starts with a std_msgs/Header."""
    if len(data) < 12:
        raise DamagedMessageError("a message is too short to hold a header")
    sec, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return int(sec * NS_PER_S + nanosec)


def stamp_ns(header: Any) -> int:
    """Returns the stamp [ns] of a std_msgs/Header."""
    return int(header.stamp.sec) * NS_PER_S + int(header.stamp.nanosec)


def time(stamp: int) -> Any:
    """Makes a builtin_interfaces/Time of a stamp [ns]."""
    if not 0 <= stamp < 2**31 * NS_PER_S:
        raise LogError(f"stamp {stamp} ns does not fit a ROS 2 time (0 to 2^31 seconds)")
    return make("builtin_interfaces/msg/Time", sec=stamp // NS_PER_S, nanosec=stamp % NS_PER_S)


def header(stamp: int, frame: str) -> Any:
    """Makes a std_msgs/Header."""
    return make("std_msgs/msg/Header", stamp=time(stamp), frame_id=frame)


def vector(xyz: Sequence[float]) -> Any:
    """Makes a geometry_msgs/Vector3."""
    return _vector(xyz)


def point(xyz: Sequence[float]) -> Any:
    """Makes a geometry_msgs/Point."""
    return _vector(xyz, "Point")


def _vector(xyz: Sequence[float], kind: str = "Vector3") -> Any:
    x, y, z = (float(v) for v in xyz)
    return make(f"geometry_msgs/msg/{kind}", x=x, y=y, z=z)


def _quaternion(xyzw: Sequence[float]) -> Any:
    x, y, z, w = (float(v) for v in xyzw)
    return make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def pose(value: Pose) -> Any:
    """Makes a geometry_msgs/Pose."""
    position = _vector(value.position.tolist(), "Point")
    return make(
        "geometry_msgs/msg/Pose", position=position, orientation=_quaternion(value.orientation.tolist())
    )


def read_pose(message: Any) -> Pose:
    """Reads a geometry_msgs/Pose as it is, NaN included."""
    p, q = message.position, message.orientation
    return Pose(np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w]))


def pose_with_covariance(value: Pose, covariance: NDArray[np.float64] | None = None) -> Any:
    """Makes a geometry_msgs/PoseWithCovariance; zeros where the covariance is not known."""
    flat = np.zeros(36) if covariance is None else np.asarray(covariance, np.float64).reshape(36)
    return make("geometry_msgs/msg/PoseWithCovariance", pose=pose(value), covariance=flat)


def transform(parent: str, child: str, parent_T_child: Pose, stamp: int) -> Any:
    """Makes a geometry_msgs/TransformStamped."""
    value = make(
        "geometry_msgs/msg/Transform",
        translation=_vector(parent_T_child.position.tolist()),
        rotation=_quaternion(parent_T_child.orientation.tolist()),
    )
    return make(
        "geometry_msgs/msg/TransformStamped",
        header=header(stamp, parent),
        child_frame_id=child,
        transform=value,
    )


def read_transform(message: Any) -> tuple[str, str, int, Pose]:
    """Reads a geometry_msgs/TransformStamped: parent, child, stamp [ns], parent_T_child."""
    t, q = message.transform.translation, message.transform.rotation
    value = Pose(np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w]))
    parent, child = message.header.frame_id.lstrip("/"), message.child_frame_id.lstrip("/")
    return parent, child, stamp_ns(message.header), value


def tf_message(transforms: Sequence[Any]) -> Any:
    """Makes a tf2_msgs/TFMessage."""
    return make(topics.TF_MESSAGE, transforms=list(transforms))


def odometry(odom_T_base: Pose, stamp: int) -> Any:
    """Makes a nav_msgs/Odometry without velocity or covariance."""
    zero = make("geometry_msgs/msg/Twist", linear=_vector((0, 0, 0)), angular=_vector((0, 0, 0)))
    return make(
        topics.ODOMETRY,
        header=header(stamp, topics.ODOM_FRAME),
        child_frame_id=topics.BASE_FRAME,
        pose=pose_with_covariance(odom_T_base),
        twist=make("geometry_msgs/msg/TwistWithCovariance", twist=zero, covariance=np.zeros(36)),
    )


def image(data: NDArray[Any], encoding: str, stamp: int, frame: str) -> Any:
    """Makes a sensor_msgs/Image of an array (H, W) or (H, W, C), little endian, rows unpadded."""
    little = np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("<"))
    height, width = data.shape[:2]
    return make(
        topics.IMAGE,
        header=header(stamp, frame),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=little.nbytes // height if height else 0,
        data=little.reshape(-1).view(np.uint8),
    )


def camera_info(intrinsics: Intrinsics, stamp: int, frame: str) -> Any:
    """Makes a sensor_msgs/CameraInfo of a pinhole camera, whole image, no binning."""
    fx, fy, cx, cy = intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy
    roi = make(
        "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return make(
        topics.CAMERA_INFO,
        header=header(stamp, frame),
        height=intrinsics.height,
        width=intrinsics.width,
        distortion_model=intrinsics.model,
        d=np.array(intrinsics.coefficients, np.float64),
        k=np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1], np.float64),
        r=np.eye(3).reshape(9),
        p=np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0], np.float64),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def read_own_camera_info(message: Any) -> Intrinsics:
    """Reads back exactly what `camera_info` wrote."""
    k = message.k
    return Intrinsics(
        width=int(message.width),
        height=int(message.height),
        fx=float(k[0]),
        fy=float(k[4]),
        cx=float(k[2]),
        cy=float(k[5]),
        model=str(message.distortion_model),
        coefficients=tuple(float(c) for c in message.d),
    )


def label_info(labels: LabelMap, stamp: int) -> Any:
    """Makes a vision_msgs/LabelInfo."""
    classes = [
        make("vision_msgs/msg/VisionClass", class_id=i, class_name=name)
        for i, name in enumerate(labels.names)
    ]
    return make(topics.LABEL_INFO, header=header(stamp, ""), class_map=classes, threshold=0.0)


def read_label_info(message: Any) -> LabelMap:
    """Reads a vision_msgs/LabelInfo; ids without a name are called "label <id>"."""
    names = {int(c.class_id): str(c.class_name) for c in message.class_map}
    names[0] = "unknown"
    return LabelMap(tuple(names.get(i, f"label {i}") for i in range(max(names) + 1)))


def detections(values: Sequence[Detection], stamp: int) -> Any:
    """Makes a vision_msgs/Detection3DArray in the base frame.

    The label id is the class_id of the first hypothesis; a state such as "open" is a second
    hypothesis with the class_id "state:open"; the visible fraction and the box's yaw are the scores
    of hypotheses of those names. Embeddings travel on their own topic.
    """
    base = header(stamp, topics.BASE_FRAME)
    items = []
    for value in values:
        covariance = np.zeros((6, 6))
        covariance[:3, :3] = value.covariance
        center = Pose(value.position)
        results = [hypothesis(str(int(value.label)), value.score, center, covariance)]
        if value.state:
            results.append(hypothesis(_STATE_PREFIX + value.state, 1.0, center, covariance))
        if value.visible != 1.0:
            results.append(hypothesis(_VISIBLE, value.visible, center, covariance))
        turned = center
        if value.yaw != 0.0:  # a quaternion would not give back the last bit
            results.append(hypothesis(_YAW, value.yaw, center, covariance))
            x, y, z = value.position.tolist()
            turned = Pose.from_xyz_yaw(x, y, z, value.yaw)
        bbox = make("vision_msgs/msg/BoundingBox3D", center=pose(turned), size=_vector(value.extent.tolist()))
        items.append(make("vision_msgs/msg/Detection3D", header=base, results=results, bbox=bbox, id=""))
    return make(topics.DETECTIONS_3D, header=base, detections=items)


def box(center: NDArray[np.float64], extent: NDArray[np.float64]) -> Any:
    """Makes an upright vision_msgs/BoundingBox3D."""
    return make("vision_msgs/msg/BoundingBox3D", center=pose(Pose(center)), size=_vector(extent.tolist()))


def hypothesis(class_id: str, score: float, center: Pose, covariance: NDArray[np.float64]) -> Any:
    """Makes a vision_msgs/ObjectHypothesisWithPose."""
    return make(
        "vision_msgs/msg/ObjectHypothesisWithPose",
        hypothesis=make("vision_msgs/msg/ObjectHypothesis", class_id=class_id, score=float(score)),
        pose=pose_with_covariance(center, covariance),
    )


def read_detections(message: Any, embeddings: NDArray[np.float32] | None) -> tuple[Detection, ...]:
    """Reads what `detections` and `embedding_array` wrote."""
    items = []
    for i, item in enumerate(message.detections):
        first, size = item.results[0], item.bbox.size
        states = [r.hypothesis.class_id for r in item.results[1:]]
        scores = {r.hypothesis.class_id: float(r.hypothesis.score) for r in item.results[1:]}
        embedding = None if embeddings is None or np.isnan(embeddings[i]).all() else embeddings[i].copy()
        items.append(
            Detection(
                label=int(first.hypothesis.class_id),
                position=read_pose(first.pose.pose).position.copy(),
                extent=np.array([size.x, size.y, size.z]),
                covariance=np.array(first.pose.covariance, np.float64).reshape(6, 6)[:3, :3].copy(),
                score=float(first.hypothesis.score),
                state=next((s[len(_STATE_PREFIX) :] for s in states if s.startswith(_STATE_PREFIX)), ""),
                embedding=embedding,
                yaw=scores.get(_YAW, 0.0),
                visible=scores.get(_VISIBLE, 1.0),
            )
        )
    return tuple(items)


def embedding_array(values: Sequence[Detection]) -> Any | None:
    """Makes a Float32MultiArray (detections, D) of embeddings; None where there are none.

    A detection without an embedding is a row of NaN.
    """
    sizes = {len(v.embedding) for v in values if v.embedding is not None}
    if not sizes:
        return None
    if len(sizes) > 1:
        raise LogError(f"detections of one frame must have embeddings of one size, got {sorted(sizes)}")
    absent = np.full(sizes.pop(), np.nan, np.float32)
    rows = np.stack([absent if v.embedding is None else v.embedding for v in values]).astype(np.float32)
    return multi_array(rows, topics.FLOAT32_ARRAY, ("detection", "feature"))


def multi_array(values: NDArray[Any], type_name: str, labels: Sequence[str]) -> Any:
    """Makes a std_msgs multi-array with one dimension per label."""
    sizes = values.shape
    dims = [
        make("std_msgs/msg/MultiArrayDimension", label=label, size=size, stride=math.prod(sizes[i:]))
        for i, (label, size) in enumerate(zip(labels, sizes))
    ]
    layout = make("std_msgs/msg/MultiArrayLayout", dim=dims, data_offset=0)
    return make(type_name, layout=layout, data=values.reshape(-1))


def read_multi_array(message: Any) -> NDArray[Any]:
    """Reads a std_msgs multi-array in its own shape."""
    return np.array(message.data).reshape([d.size for d in message.layout.dim])


def json_string(value: Any) -> Any:
    """Makes a std_msgs/String that holds strict JSON; NaN and infinities become strings."""
    return make(topics.STRING, data=json.dumps(_strict(value), separators=(",", ":"), allow_nan=False))


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _strict(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        return _strict(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # float("nan") and float("-inf") read it back
    return value


def read_json(message: Any, where: str) -> Any:
    """Reads the JSON of a std_msgs/String.

    Raises:
        LogError: it is not JSON.
    """
    try:
        return json.loads(message.data)
    except ValueError:
        raise LogError(f"{where} does not hold JSON: {message.data[:60]!r}") from None
