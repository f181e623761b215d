"""What a memory shows of itself: voxels, objects, rooms and places, traversable space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.labels import LabelMap
from embodied_mem.log import messages, topics
from embodied_mem.log.clouds import cloud
from embodied_mem.memory import Memory
from embodied_mem.memory.scene.objects import SceneObject
from embodied_mem.ros.declaration import LATCHED, Endpoint

MARKERS = "visualization_msgs/msg/MarkerArray"
CUBE, SPHERE, LINES, TEXT = 1, 2, 5, 9
"""Types of visualization_msgs/Marker."""
DELETE_ALL = 3
_VOXEL = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4"), ("label", "<i4"), ("log_odds", "<f4")]
)


def color(name: str) -> tuple[float, float, float]:
    """Returns a colour for a label's name: the same for the same name, everywhere."""
    number = int.from_bytes(name.encode()[-8:].rjust(8, b"\x07"), "little") * 2654435761 % 2**32
    hue, light = number % 360 / 60.0, 0.55 + (number >> 16) % 100 / 250.0
    ramp = [abs((hue - shift) % 6.0 - 3.0) - 1.0 for shift in (0.0, 2.0, 4.0)]
    r, g, b = (light * min(max(v, 0.0), 1.0) + 0.15 for v in ramp)
    return r, g, b


def voxels(memory: Memory, min_existence: float) -> Any:
    """Makes a PointCloud2 of the occupied voxels' centres, coloured by label or by height."""
    found = memory.octree.voxels()
    rows = np.zeros(len(found), _VOXEL)
    rows["x"], rows["y"], rows["z"] = found.centers.T
    rows["label"], rows["log_odds"] = found.labels, found.log_odds
    height = np.clip(found.centers[:, 2] / 2.5, 0.0, 1.0) * 200
    gray = height.astype(np.uint32) + 40
    rows["rgb"] = gray << 16 | gray << 8 | gray
    names = memory.labels.names
    table = np.array([_packed(color(n)) for n in names] or [0], np.uint32)
    labelled = (found.labels > 0) & (found.labels < len(names))
    rows["rgb"][labelled] = table[found.labels[labelled]]
    return cloud(rows, memory.stamp, topics.MAP_FRAME)


def _packed(rgb: Sequence[float]) -> int:
    r, g, b = (min(255, int(255 * v)) for v in rgb)
    return r << 16 | g << 8 | b


def shown(memory: Memory, min_existence: float) -> list[SceneObject]:
    """Returns the objects that exist with at least some probability."""
    return [o for o in memory.scene.objects() if o.existence >= min_existence]


def objects(memory: Memory, min_existence: float) -> Any:
    """Makes a Detection3DArray of the objects in the map frame; `id` is the object's."""
    base = messages.header(memory.stamp, topics.MAP_FRAME)
    items = []
    for item in shown(memory, min_existence):
        covariance = np.zeros((6, 6))
        covariance[:3, :3] = item.covariance
        result = messages.hypothesis(item.name, item.existence, Pose(item.position), covariance)
        box = messages.box(item.position, item.extent)
        items.append(
            messages.make(
                "vision_msgs/msg/Detection3D", header=base, results=[result], bbox=box, id=str(item.id)
            )
        )
    return messages.make(topics.DETECTIONS_3D, header=base, detections=items)


def object_markers(memory: Memory, min_existence: float) -> Any:
    """Makes a MarkerArray: a box and a name for every object."""
    markers = [_clear(memory.stamp)]
    for item in shown(memory, min_existence):
        rgba = (*color(item.name), 0.3 + 0.5 * item.existence)
        size = np.maximum(item.extent, 0.02)
        markers.append(marker("objects", item.id, CUBE, memory.stamp, item.position, size, rgba))
        above = item.position + np.array([0.0, 0.0, size[2] / 2 + 0.1])
        words = f"{item.name} #{item.id}"
        markers.append(_text("object names", item.id, memory.stamp, above, words, 0.12))
    return messages.make(MARKERS, markers=markers)


def rooms(memory: Memory, min_existence: float) -> Any:
    """Makes a MarkerArray: names of rooms, places as spheres, and edges between places."""
    stamp, up = memory.stamp, np.array([0.0, 0.0, 0.05])
    markers = [_clear(stamp)]
    places = {place.id: place for place in memory.scene.places()}
    for room in memory.scene.rooms():
        markers.append(_text("rooms", room.id, stamp, room.position + 20 * up, room.name, 0.3))
    for place in places.values():
        rgba = (*color(f"room {place.room_id}"), 0.9)
        markers.append(marker("places", place.id, SPHERE, stamp, place.position + up, np.full(3, 0.15), rgba))
    ends = [
        end + up
        for a, b, _ in memory.scene.edges()
        if a in places and b in places
        for end in (places[a].position, places[b].position)
    ]
    if ends:
        line = marker("edges", 0, LINES, stamp, np.zeros(3), np.array([0.02, 0.0, 0.0]), (0.6, 0.6, 0.6, 0.8))
        line.points = [messages.point(end) for end in ends]
        markers.append(line)
    return messages.make(MARKERS, markers=markers)


def grid(memory: Memory, min_existence: float) -> Any:
    """Makes a nav_msgs/OccupancyGrid of traversable space at the robot's floor."""
    found = memory.grid_map()
    x, y = found.origin.tolist()
    info = messages.make(
        "nav_msgs/msg/MapMetaData",
        map_load_time=messages.time(memory.stamp),
        resolution=float(found.resolution),
        width=found.cells.shape[1],
        height=found.cells.shape[0],
        origin=messages.pose(Pose(np.array([x, y, found.floor_z]))),
    )
    return messages.make(
        "nav_msgs/msg/OccupancyGrid",
        header=messages.header(memory.stamp, topics.MAP_FRAME),
        info=info,
        data=np.ascontiguousarray(found.cells, np.int8).reshape(-1),
    )


def labels(memory: Memory, min_existence: float) -> Any:
    """Makes a vision_msgs/LabelInfo of the memory's label ids."""
    names: LabelMap = memory.labels
    return messages.label_info(names, memory.stamp)


def marker(
    namespace: str,
    number: int,
    kind: int,
    stamp: int,
    position: NDArray[np.float64],
    size: NDArray[np.float64],
    rgba: tuple[float, float, float, float],
) -> Any:
    """Makes a visualization_msgs/Marker in the map frame."""
    r, g, b, a = (float(v) for v in rgba)
    mesh_file = messages.make("visualization_msgs/msg/MeshFile", filename="", data=np.zeros(0, np.uint8))
    return messages.make(
        "visualization_msgs/msg/Marker",
        header=messages.header(stamp, topics.MAP_FRAME),
        ns=namespace,
        id=number % 2**31,
        type=kind,
        action=0,
        pose=messages.pose(Pose(position)),
        scale=messages.vector(size.tolist()),
        color=messages.make("std_msgs/msg/ColorRGBA", r=r, g=g, b=b, a=a),
        lifetime=messages.make("builtin_interfaces/msg/Duration", sec=0, nanosec=0),
        frame_locked=False,
        points=[],
        colors=[],
        texture_resource="",
        texture=messages.make(
            topics.COMPRESSED_IMAGE, header=messages.header(stamp, ""), format="", data=np.zeros(0, np.uint8)
        ),
        uv_coordinates=[],
        text="",
        mesh_resource="",
        mesh_file=mesh_file,
        mesh_use_embedded_materials=False,
    )


def _text(
    namespace: str, number: int, stamp: int, position: NDArray[np.float64], words: str, height: float
) -> Any:
    found = marker(
        namespace, number, TEXT, stamp, position, np.array([0.0, 0.0, height]), (1.0, 1.0, 1.0, 1.0)
    )
    found.text = words
    return found


def _clear(stamp: int) -> Any:
    """Makes the marker that removes those of before."""
    found = marker("", 0, CUBE, stamp, np.zeros(3), np.ones(3), (0.0, 0.0, 0.0, 0.0))
    found.action = DELETE_ALL
    return found


def in_frame(message: Any, frame: str) -> Any:
    """Returns a map's message with another name of the map frame."""
    parts = [*getattr(message, "markers", ()), *getattr(message, "detections", ())]
    for part in (message, *parts):
        if hasattr(part, "header"):
            part.header.frame_id = frame
    return message


MAPS: tuple[tuple[Endpoint, Callable[[Memory, float], Any]], ...] = (
    (Endpoint("memory/voxels", "sensor_msgs/msg/PointCloud2", LATCHED, "occupied voxels"), voxels),
    (Endpoint("memory/objects", topics.DETECTIONS_3D, LATCHED, "objects, map frame"), objects),
    (Endpoint("memory/object_markers", MARKERS, LATCHED, "objects, to look at"), object_markers),
    (Endpoint("memory/rooms", MARKERS, LATCHED, "rooms, places and their edges, to look at"), rooms),
    (Endpoint("memory/grid", "nav_msgs/msg/OccupancyGrid", LATCHED, "traversable space"), grid),
    (Endpoint("memory/labels", topics.LABEL_INFO, LATCHED, "names of the label ids"), labels),
)
"""What is shown, and how it is made of a memory and the least existence of objects."""
