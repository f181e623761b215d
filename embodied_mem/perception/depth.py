"""Depth images to points in the base frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.perception.camera import (
    check_image,
    pixel_rays,
    project,
    render_depth,
    same_view,
    valid_depth,
)
from embodied_mem.perception.config import DepthConfig
from embodied_mem.perception.labels import relabel_ids
from embodied_mem.types import Image, Scan

OCCLUSION_DEPTH = 0.05
"""A point this fraction of its depth behind what the semantic camera sees there is hidden from it."""


def depth_scan(
    depth: Image,
    config: DepthConfig,
    *,
    semantic: Image | None = None,
    label_count: int | None = None,
    name: str = "camera",
) -> Scan:
    """Turns a depth image into range evidence, in row-major order of its pixels.

    A reading within range is a hit. One beyond `config.max_range`, or +inf, is a miss: its point lies
    at `max_range` on its ray. 0, negative numbers, NaN, -inf and 65535 mm give nothing (REP-117).
    All arithmetic is element-wise, so that the same image always gives the same bits.

    Args:
        depth: (H, W) float32 planar depth [m]; lens distortion is taken out.
        config: ranges, thinning and edge filter.
        semantic: (H, W) int32 label image, of the same camera or of another one.
        label_count: label ids from here on are unknown.
        name: which camera, for messages.

    Returns:
        the scan in the base frame; its origin is the camera's, its image the thinned one where the
        lens does not distort.

    Raises:
        InputError: not a float image, or its size contradicts its calibration.
    """
    if depth.data.ndim != 2 or depth.data.dtype != np.float32:
        raise InputError(
            f"{name}: a depth image must be (H, W) float32 metres, got {depth.data.shape} {depth.data.dtype}"
        )
    check_image(depth, f"{name}: depth")
    pixels = _thin(depth.data.shape, config)
    # (h, w): the image, thinned
    z = depth.data[pixels]
    x, y, length = (array[pixels] for array in pixel_rays(depth.intrinsics))
    reading = valid_depth(z) & np.isfinite(x)
    if config.edge_jump > 0.0:
        reading &= ~floating_pixels(depth.data, config.edge_jump)[pixels]
    endless = (z == np.inf) & np.isfinite(x)
    used = reading | endless
    # (N,): the readings used
    z64, x, y, length = z[used].astype(np.float64), x[used], y[used], length[used]
    distance = z64 * length
    hit = distance <= config.max_range
    with np.errstate(invalid="ignore"):
        ahead = np.where(hit, z64, config.max_range / length)
    kept = distance >= config.min_range
    in_camera = np.stack([x * ahead, y * ahead, ahead], axis=-1)[kept]  # (N, 3)
    hit = hit[kept]
    index = np.flatnonzero(used.reshape(-1))[kept]
    labels = np.zeros(len(hit), np.int32)
    if semantic is not None:
        check_image(semantic, f"{name}: semantic")
        found = _labels_of(depth, semantic, in_camera, index, pixels)
        table = np.arange(label_count if label_count is not None else 65536, dtype=np.int32)
        labels = np.where(hit, relabel_ids(found, table), 0).astype(np.int32)
    points = depth.base_T_camera.transform(in_camera).astype(np.float32)
    scan = Scan(points=points, hit=hit, labels=labels, origin=depth.base_T_camera.position)
    if depth.intrinsics.is_distorted:
        return scan
    image = _thinned(depth, z, index, pixels)
    return replace(scan, image=image, pixels=index, max_range=config.max_range)


def _thinned(
    depth: Image, z: NDArray[np.float32], index: NDArray[np.intp], pixels: tuple[slice, slice]
) -> Image:
    """Returns the image of the readings z (h, w) that are used, with the camera that would have seen it."""
    view, (rows, columns) = depth.intrinsics, pixels
    down, across = float(rows.step or 1), float(columns.step or 1)
    thin = replace(
        view,
        width=z.shape[1],
        height=z.shape[0],
        fx=view.fx / across,
        fy=view.fy / down,
        cx=(view.cx - (columns.start or 0)) / across,
        cy=(view.cy - (rows.start or 0)) / down,
    )
    used = np.zeros(z.shape, np.float32)
    used.reshape(-1)[index] = z.reshape(-1)[index]
    return Image(used, thin, depth.base_T_camera)


def floating_pixels(depth: NDArray[np.float32], jump: float) -> NDArray[np.bool_]:
    """Finds readings that float between a near and a far surface.

    Such a reading is farther than one neighbour and nearer than the opposite one (left and right, or
    above and below), both by more than `jump` times its depth: at the edges of things, cameras mix the
    two surfaces. A thin thing, nearer than both its neighbours, is kept.

    Args:
        depth: (H, W) float32 [m]; pixels beside invalid ones are kept.
        jump: fraction of the depth.
    """
    floats = np.zeros(depth.shape, bool)
    known = np.where(valid_depth(depth), depth, np.float32(np.nan))
    limit = known * np.float32(jump)
    for axis in (0, 1):
        step = np.diff(known, axis=axis)
        before, after = (step[:-1], step[1:]) if axis == 0 else (step[:, :-1], step[:, 1:])
        inner = (slice(1, -1), slice(None)) if axis == 0 else (slice(None), slice(1, -1))
        bound = limit[inner]
        with np.errstate(invalid="ignore"):
            rising = np.minimum(before, after) > bound
            falling = np.maximum(before, after) < -bound
        floats[inner] |= rising | falling
    return floats


def _thin(shape: tuple[int, ...], config: DepthConfig) -> tuple[slice, slice]:
    """Returns which rows and columns are used: each stands for the `stride` ones around it."""
    stride = config.stride
    while _count(shape[0], stride) * _count(shape[1], stride) > config.max_pixels:
        stride += 1
    return slice(_first(shape[0], stride), None, stride), slice(_first(shape[1], stride), None, stride)


def _first(size: int, stride: int) -> int:
    return min((stride - 1) // 2, size - 1) if size else 0


def _count(size: int, stride: int) -> int:
    return len(range(_first(size, stride), size, stride))


def _labels_of(
    depth: Image,
    semantic: Image,
    points: NDArray[np.float64],
    index: NDArray[np.intp],
    pixels: tuple[slice, slice],
) -> NDArray[np.integer]:
    """Returns the (N,) labels of points; 0 for those that the semantic camera does not see.

    Args:
        depth: the depth image.
        semantic: the label image.
        points: (N, 3) in the depth camera's optical frame [m].
        index: (N,) which pixels of the thinned depth image they come from.
        pixels: the thinning.
    """
    if same_view(depth, semantic):
        return np.asarray(semantic.data[pixels].reshape(-1)[index])
    moved = (semantic.base_T_camera.inverse() @ depth.base_T_camera).transform(points)
    columns, rows, inside = project(moved, semantic.intrinsics)
    # What hides a point may be any reading near it: thinned points leave holes, so each one is given
    # the pixels around it too.
    coarse = semantic.intrinsics.fx / depth.intrinsics.fx * (pixels[0].step or 1)
    nearest = render_depth(moved, semantic.intrinsics, splat=min(max(int(np.ceil(coarse)), 1), 8))
    front = nearest[rows, columns].astype(np.float64)
    seen = inside & (moved[:, 2] <= front * (1.0 + OCCLUSION_DEPTH))
    return np.where(seen, semantic.data[rows, columns], 0)
