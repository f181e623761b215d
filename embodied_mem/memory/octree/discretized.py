"""From a depth image to the marks of one ray per voxel of surface."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.memory.octree import kernels, pixels, surface
from embodied_mem.memory.octree.image import horizon
from embodied_mem.memory.octree.scan import ByteMap, Marks, mark
from embodied_mem.types import Intrinsics


def mark_discretized(
    depth: NDArray[np.float32],
    view: Intrinsics,
    pose: Pose,
    labels: NDArray[np.int32],
    max_range: float,
    resolution: float,
    drop_flying: bool,
    byte_map: ByteMap,
) -> Marks:
    """Marks the voxels of one ray to the centre of each voxel in which rays end.

    As in OctoMap the points are discretised first and held against the range then.
    """
    kinds = pixels.pixel_kinds(depth, 1 if np.isfinite(max_range) else 0, drop_flying)
    lens = surface.Lens(
        (np.arange(view.width) - float(view.cx)) / float(view.fx),
        (np.arange(view.height) - float(view.cy)) / float(view.fy),
        pose.rotation(),
        np.array(pose.position, np.float64),
        1.0 / resolution,
        horizon(max_range, resolution),
    )
    found = _distinct(depth, kinds, 2, lens, labels, resolution, byte_map)
    hit = np.ones(len(found[0]), np.bool_)
    if (kinds == 1).any():
        clear, _ = _distinct(depth, kinds, 1, lens, labels[:0], resolution, byte_map)
        none = np.zeros(len(clear) if len(labels) else 0, np.int32)
        found = np.concatenate([found[0], clear]), np.concatenate([found[1], none])
        hit = np.concatenate([hit, np.zeros(len(clear), np.bool_)])
    origin = pose.position.astype(np.float32)
    marks = mark(found[0], hit, found[1], origin, max_range, resolution, True, byte_map)
    return marks._replace(dropped=int(kinds.size - np.count_nonzero(kinds)))


def _distinct(
    depth: NDArray[np.float32],
    kinds: NDArray[np.uint8],
    kind: int,
    lens: surface.Lens,
    labels: NDArray[np.int32],
    resolution: float,
    byte_map: ByteMap,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Lists the centres of the voxels in which pixels of a kind lie, and their labels.

    Raises:
        InputError: a pixel lies outside the world.
    """
    lower, upper = surface.view_bounds(depth, kinds, lens)
    limit = np.abs(np.stack([lower, upper])).max() / resolution
    if limit < kernels.WORLD:
        lo = np.floor(lower / resolution).astype(np.int64) - 1
        hi = np.floor(upper / resolution).astype(np.int64) + 1
        seen = byte_map.cover(lo, hi)
        if seen is not None:
            cells = byte_map.scratch("cells", depth.shape, np.int32)
            # Roundings of numbers as large as the byte map, and of float32 points as large as the map.
            eps = float(byte_map.shape.max() * 8) * 1e-6 + 2.5e-7 * float(limit) + 1e-6

            def find_cells(i: int, j: int) -> None:
                part = lens._replace(rows=lens.rows[i:j])
                lo, strides = byte_map.lo, byte_map.strides
                surface.surface_cells(depth[i:j], kinds[i:j], kind, part, lo, strides, eps, cells[i:j])

            byte_map.spread(find_cells, len(depth), depth.shape[1])
            flat, frame = cells.reshape(-1), (byte_map.lo, byte_map.strides, resolution)
            if len(labels):
                return surface.name_cells(flat, labels, byte_map.first(), *frame)
            found = byte_map.scratch("found", (cells.size,), np.int32)
            return surface.distinct_cells(flat, seen, found, *frame), labels
    v, u = np.nonzero(kinds == kind)
    z = depth[v, u].astype(np.float64) if kind == 2 else np.full(len(v), lens.horizon)
    x, y, r = lens.columns[u] * z, lens.rows[v] * z, lens.rotation
    points = [r[a, 0] * x + r[a, 1] * y + r[a, 2] * z + lens.position[a] for a in range(3)]
    scaled = np.stack(points, axis=-1).astype(np.float32).astype(np.float64) * lens.inverse
    if len(scaled) and np.abs(scaled).max() >= kernels.WORLD:
        raise InputError("the depth image reaches beyond the world of the octree")
    voxels = np.floor(scaled).astype(np.int64)
    distinct, member = np.unique(voxels, axis=0, return_inverse=True)
    names = labels
    if len(labels):
        chosen = labels[v * depth.shape[1] + u]
        names = np.zeros(len(distinct), np.int32)
        pairs, votes = np.unique(
            member.reshape(-1)[chosen > 0] << 16 | chosen[chosen > 0], return_counts=True
        )
        order = np.lexsort((-(pairs & 0xFFFF), votes, pairs >> 16))
        names[pairs[order] >> 16] = pairs[order] & 0xFFFF
    return ((distinct + 0.5) * resolution).astype(np.float32), names
