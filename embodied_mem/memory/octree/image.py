"""From a depth image to the marks of the voxels that the rays of all its pixels pass."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.memory.octree import pyramid
from embodied_mem.memory.octree.asking import Desk
from embodied_mem.memory.octree.crew import give_up, make_gates
from embodied_mem.memory.octree.evidence import Intake
from embodied_mem.memory.octree.gathering import Touched
from embodied_mem.memory.octree.pixels import Picture
from embodied_mem.memory.octree.room import FRESH, OUTSIDE, READY, SMALL, Room
from embodied_mem.memory.octree.scan import FEW, ByteMap, Marks, mark
from embodied_mem.memory.octree.sweep import GATES, Choice, Rays, Seat, Sight, make_seat, sweep
from embodied_mem.memory.octree.types import as_labels
from embodied_mem.memory.octree.view import RING
from embodied_mem.types import Intrinsics

MODES = ("exact", "hybrid", "discretized")
WIDE = 6.0
"""Voxels that look narrower than so many pixels are settled by following rays; it is quicker there."""
TAILED = 0.4
"""Where more of the rays than this end beyond there, the last voxels of all of those are followed."""
EACH = 25.0
"""How long a pixel takes one thread, about [ns]."""
_NO_CELLS = np.zeros(0, np.uint8)


def check_image(
    depth: NDArray[np.float32], view: Intrinsics, labels: NDArray[np.int32] | None
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Checks a depth image and its labels against the camera.

    Raises:
        InputError: shapes or dtypes are wrong, or the image is distorted.
    """
    image = np.asarray(depth)
    if image.shape != (view.height, view.width) or image.dtype.kind != "f":
        raise InputError(
            f"depth must be ({view.height}, {view.width}) floats in metres, not {image.shape} {image.dtype}"
        )
    if view.is_distorted:
        raise InputError("depth must be rectified first: the camera has distortion coefficients")
    names = np.asarray(labels) if labels is not None else None
    if names is not None and names.shape != image.shape:
        raise InputError(f"labels must be {image.shape}, like the depth image, not {names.shape}")
    flat = as_labels(None if names is None else np.maximum(names, 0).reshape(-1), image.size)
    return np.ascontiguousarray(image, np.float32), flat


def horizon(reach: float, resolution: float) -> float:
    """Returns a depth beyond the range even after a point has moved to the centre of its voxel [m]."""
    return reach * 1.001 + 2.0 * resolution if math.isfinite(reach) else 1.0


def mark_exact(
    depth: NDArray[np.float32],
    view: Intrinsics,
    pose: Pose,
    labels: NDArray[np.int32],
    reach: float,
    resolution: float,
    drop_flying: bool,
    byte_map: ByteMap,
    intake: Intake,
    settle: bool = True,
) -> Marks:
    """Marks the voxels that the rays of all pixels pass and those in which they end.

    Without `settle` those voxels are marked free that the pixel at their centre shows to be free,
    or one of the rays that `pyramid.sample_rays` chooses. What `intake` is ready for is added there.

    Raises:
        InputError: the image reaches beyond the world.
    """
    picture = Picture(
        depth,
        1 if math.isfinite(reach) else 0,
        bool(drop_flying),
        float(view.fx),
        float(view.fy),
        float(view.cx),
        float(view.cy),
        pose.rotation(),
        np.array(pose.position, np.float64),
        pose.position.astype(np.float32),
        reach,
        horizon(reach, resolution),
    )
    hands = byte_map.hands(EACH * depth.size)
    sides = view.height, view.width, hands
    rays, sight, room = byte_map.keep("canvas", lambda: _Canvas.make(*sides, resolution), *sides)
    room.facts[:] = FRESH
    found = _sweep(picture, rays, sight, room, settle, byte_map, intake)
    dropped = depth.size - room.rays
    if found is None:
        used = np.flatnonzero(rays.kinds)
        points, hit = np.ascontiguousarray(rays.points[:, used].T), rays.kinds[used] == 2
        names = labels[used] if len(labels) else labels
        marks = mark(points, hit, names, picture.origin, np.inf, resolution, True, byte_map)
        return marks._replace(dropped=marks.dropped + dropped)
    names = byte_map.vote(found.which, room.shape, rays.ends, labels)
    return Marks(found.keys, found.marks.view(np.uint8), names, dropped)


class _Canvas(NamedTuple):
    """What a sweep writes to: as good for the next image of the same size."""

    rays: Rays
    sight: Sight
    room: Room

    @classmethod
    def make(cls, height: int, width: int, hands: int, resolution: float) -> _Canvas:
        """Returns room for the rays of an image, and for the depths of its parts."""
        size = height * width
        rays = Rays(
            np.empty((3, size), np.float32),
            np.empty(size, np.uint8),
            np.empty(size, np.int32),
            np.empty(size, np.float32),
            np.empty((hands, size), np.int64),
            np.empty(hands, np.int64),
            np.empty((hands, 7)),
        )
        levels, nodes = pyramid.pyramid_layout(height, width)
        near, rest, least = (np.empty(nodes, np.float32) for _ in range(3))
        seen, opened = (np.empty(2 * nodes, np.float32) for _ in range(2))
        sight = Sight(levels, near, rest, least, seen, opened, np.empty(4))
        return cls(rays, sight, Room.make(resolution))


def _seats(rays: Rays, sight: Sight, room: Room, desks: list[Desk], found: Touched) -> list[Seat]:
    """Returns what each thread works on."""
    return [make_seat(rays, sight, room, RING, desk, found) for desk in desks]


def _sweep(
    picture: Picture,
    rays: Rays,
    sight: Sight,
    room: Room,
    settle: bool,
    byte_map: ByteMap,
    intake: Intake,
) -> Touched | None:
    """Sweeps an image on the threads there are; returns the blocks with marks.

    Returns None where rays are only lifted: there are few of them, or their byte map would be too large.

    Raises:
        InputError: the image reaches beyond the world.
    """
    voxel = room.resolution * min(picture.fx, picture.fy)
    choice = Choice(voxel, max(voxel / WIDE, 3.0 * room.resolution), TAILED, settle)
    hands = len(rays.counts)

    def run(cells: NDArray[np.uint8]) -> Touched:
        gates, found = make_gates(GATES), byte_map.touched()
        key = *picture.depth.shape, hands, len(found.which)
        seats = byte_map.keep("seats", lambda: _seats(rays, sight, room, byte_map.desks(hands), found), *key)

        def part(hand: int) -> bool:
            try:
                return sweep(picture, choice, seats[hand], intake, cells, gates, hand, hands)
            except BaseException:
                give_up(gates)
                raise

        try:
            byte_map.share(part, hands)
        except BaseException:
            byte_map.forget()
            raise
        return found

    found = run(byte_map.cells if picture.depth.size >= FEW else _NO_CELLS)
    if room.state == OUTSIDE:
        raise InputError("the depth image reaches beyond the world of the octree")
    if room.state == SMALL:
        if picture.depth.size < FEW or not byte_map.grow(float(room.cells[0])):
            return None
        room.facts[0] = READY
        found = run(byte_map.cells)
    return found.part(room.blocks)
