"""Depth images to points in the base frame."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.perception.camera import (
    check_image,
    pixel_rays,
    project,
    render_depth,
    same_view,
)
from embodied_mem.perception.config import DepthConfig
from embodied_mem.perception.depth_kernels import list_points, mark_floating, pick_labels
from embodied_mem.perception.labels import relabel_ids
from embodied_mem.types import Image, Intrinsics, Scan

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
    rays, pose = pixel_rays(depth.intrinsics), depth.base_T_camera
    x, y, length = (array[pixels] for array in rays)
    floats = np.zeros(z.shape, bool)
    if config.edge_jump > 0.0:
        floats = floating_pixels(depth.data, config.edge_jump)[pixels]
    # (N,): the readings used
    points, hit = np.empty((z.size, 3), np.float32), np.empty(z.size, bool)
    index, used = np.empty(z.size, np.int64), np.zeros(z.shape, np.float32)
    limits = float(config.min_range), float(config.max_range)
    frame = pose.rotation(), pose.position
    count = list_points(z, floats, x, y, length, limits, *frame, points, hit, index, used)
    points, hit, index = points[:count], hit[:count], index[:count]
    labels = np.zeros(len(hit), np.int32)
    if semantic is not None:
        check_image(semantic, f"{name}: semantic")
        known = 65536 if label_count is None else label_count
        if same_view(depth, semantic):
            labels = pick_labels(np.ascontiguousarray(as_ids(semantic.data)[pixels]), index, hit, known)
        else:
            distance = z.reshape(-1)[index].astype(np.float64)
            x, y, length = (array.reshape(-1)[index] for array in (x, y, length))
            ahead = np.where(hit, distance, config.max_range / length)
            in_camera = np.stack([x * ahead, y * ahead, ahead], axis=-1)  # (N, 3)
            found = _labels_of(depth, semantic, in_camera, pixels)
            labels = np.where(hit, relabel_ids(found, np.arange(known, dtype=np.int32)), 0).astype(np.int32)
    if depth.intrinsics.is_distorted:
        return Scan(points, hit, labels, pose.position)
    image = Image(used, _thinned(depth.intrinsics, z.shape, pixels), pose)
    return Scan(points, hit, labels, pose.position, image, index, config.max_range)


def as_ids(image: NDArray[np.integer]) -> NDArray[np.int32]:
    """Returns a label image as int32; what does not fit is no label, -1."""
    if image.dtype == np.int32:
        return np.asarray(image, np.int32)
    if image.dtype.itemsize >= 4:
        image = np.where((image >= 0) & (image < 1 << 31), image, -1)
    return image.astype(np.int32)


@lru_cache(maxsize=8)
def _thin_view(view: Intrinsics, width: int, height: int, first: tuple[int, int], stride: int) -> Intrinsics:
    """Returns the camera that would have seen every `stride`th pixel from the first (row, column) on."""
    across = float(stride)
    return replace(
        view,
        width=width,
        height=height,
        fx=view.fx / across,
        fy=view.fy / across,
        cx=(view.cx - first[1]) / across,
        cy=(view.cy - first[0]) / across,
    )


def _thinned(view: Intrinsics, shape: tuple[int, ...], pixels: tuple[slice, slice]) -> Intrinsics:
    """Returns the camera of a thinned (h, w) image."""
    rows, columns = pixels
    return _thin_view(view, shape[1], shape[0], (rows.start or 0, columns.start or 0), rows.step or 1)


def floating_pixels(depth: NDArray[np.float32], jump: float) -> NDArray[np.bool_]:
    """Finds readings that float between a near and a far surface.

    Such a reading is farther than one neighbour and nearer than the opposite one (left and right, or
    above and below), both by more than `jump` times its depth: at the edges of things, cameras mix the
    two surfaces. A thin thing, nearer than both its neighbours, is kept.

    Args:
        depth: (H, W) float32 [m]; pixels beside invalid ones are kept.
        jump: fraction of the depth.
    """
    floats = np.empty(depth.shape, bool)
    mark_floating(depth, np.float32(jump), floats)
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
    pixels: tuple[slice, slice],
) -> NDArray[np.integer]:
    """Returns the (N,) labels of points; 0 for those that another camera does not see.

    Args:
        depth: the depth image.
        semantic: the label image.
        points: (N, 3) in the depth camera's optical frame [m].
        pixels: the thinning.
    """
    moved = (semantic.base_T_camera.inverse() @ depth.base_T_camera).transform(points)
    columns, rows, inside = project(moved, semantic.intrinsics)
    # What hides a point may be any reading near it: thinned points leave holes, so each one is given
    # the pixels around it too.
    coarse = semantic.intrinsics.fx / depth.intrinsics.fx * (pixels[0].step or 1)
    nearest = render_depth(moved, semantic.intrinsics, splat=min(max(int(np.ceil(coarse)), 1), 8))
    front = nearest[rows, columns].astype(np.float64)
    seen = inside & (moved[:, 2] <= front * (1.0 + OCCLUSION_DEPTH))
    return np.where(seen, semantic.data[rows, columns], 0)
