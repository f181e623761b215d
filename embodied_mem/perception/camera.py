"""Cameras: calibration from CameraInfo, rays of pixels, projection, registration of depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.perception.lens import check_lens, distort, field_limit, undistort
from embodied_mem.types import Image, Intrinsics

NO_READING = np.float32(65.535)
"""16-bit millimetres that are all ones, in metres: cameras give it where they measured nothing."""

_MODEL_NAMES = {"": "plumb_bob", "none": "plumb_bob", "fisheye": "equidistant"}
_MODEL_NAMES |= {"kannala_brandt": "equidistant", "kannala_brandt4": "equidistant"}
_MAX_SPLAT = 8


class Rays(NamedTuple):
    """Where the pixels of a camera look, in its optical frame.

    Attributes:
        x, y: (H, W) float64, the ray is (x, y, 1); NaN where the lens shows nothing.
        length: (H, W) float64, length of that ray.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    length: NDArray[np.float64]


def intrinsics_from_camera_info(
    width: int,
    height: int,
    k: Sequence[float],
    d: Sequence[float] = (),
    model: str = "",
    r: Sequence[float] = (),
    p: Sequence[float] = (),
    roi: tuple[int, int, int, int] = (0, 0, 0, 0),
    binning: tuple[int, int] = (0, 0),
    *,
    rectified: bool = False,
) -> Intrinsics:
    """Builds the camera of the image that was really sent, after region of interest and binning.

    In sensor_msgs/CameraInfo the calibration holds for the full resolution; the image is cut to the
    region of interest, then b x b neighbours are joined to one pixel. A joined pixel's centre is the
    centre of its neighbours, so that u' = (u - x_offset + 0.5) / b - 0.5 with pixel centres at integers.

    Args:
        width: full resolution [px].
        height: full resolution [px].
        k: (9,) camera matrix of the raw image, row by row; zeros say "not calibrated".
        d: distortion coefficients in OpenCV's order.
        model: sensor_msgs' distortion model.
        r: (9,) rectifying rotation. It is not applied: the points of a rectified image are in the
            frame that its header names, as stereo drivers mean it.
        p: (12,) projection matrix of the rectified image.
        roi: x_offset, y_offset, width, height [px]; zeros say "the whole image".
        binning: x, y; 0 and 1 both say "none".
        rectified: the image is rectified already (a topic such as `image_rect`): `p` holds, and
            no distortion is left.

    Raises:
        InputError: not calibrated, an unsupported distortion, or a region outside the image.
    """
    if width <= 0 or height <= 0:
        raise InputError(f"CameraInfo gives the image size {width}x{height}; the camera must tell its size")
    coefficients = tuple(float(c) for c in d)
    if rectified and len(p) == 12 and p[0] > 0 and p[5] > 0:
        fx, fy, cx, cy = float(p[0]), float(p[5]), float(p[2]), float(p[6])
        coefficients = ()
    elif len(k) == 9:
        fx, fy, cx, cy = float(k[0]), float(k[4]), float(k[2]), float(k[5])
        coefficients = () if rectified else coefficients
    else:
        raise InputError(f"CameraInfo's k must hold 9 numbers, got {len(k)}")
    if not (fx > 0 and fy > 0 and all(map(math.isfinite, (fx, fy, cx, cy)))):
        raise InputError("the camera is not calibrated: CameraInfo's k holds no focal length")
    if any(coefficients):
        model = _MODEL_NAMES.get(model.lower(), model)
        check_lens(model, coefficients)
    else:
        model, coefficients = "", ()
    x, y, w, h = roi if roi[2] > 0 and roi[3] > 0 else (0, 0, width, height)
    if x < 0 or y < 0 or x + w > width or y + h > height:
        raise InputError(f"CameraInfo's region {w}x{h} at ({x}, {y}) leaves the {width}x{height} image")
    bx, by = max(int(binning[0]), 1), max(int(binning[1]), 1)
    return Intrinsics(
        width=w // bx,
        height=h // by,
        fx=fx / bx,
        fy=fy / by,
        cx=(cx - x + 0.5) / bx - 0.5,
        cy=(cy - y + 0.5) / by - 0.5,
        model=model,
        coefficients=coefficients,
    )


def check_image(image: Image, what: str) -> None:
    """Checks that an image, its calibration and its pose fit together.

    Args:
        image: any image.
        what: which one, for the message, for example "front: depth".

    Raises:
        InputError: the size contradicts the CameraInfo, or the pose is not finite.
    """
    height, width = image.data.shape[:2]
    expected = image.intrinsics
    if (width, height) != (expected.width, expected.height):
        raise InputError(
            f"{what} image is {width}x{height} but its CameraInfo describes "
            f"{expected.width}x{expected.height}; it belongs to another camera or resolution"
        )
    if not image.base_T_camera.is_finite:
        raise InputError(f"{what} camera has a pose that is not finite; check its transform to the base")


@lru_cache(maxsize=8)
def pixel_rays(intrinsics: Intrinsics) -> Rays:
    """Returns the undistorted ray of every pixel; computed once per camera, read-only."""
    u = (np.arange(intrinsics.width, dtype=np.float64) - intrinsics.cx) / intrinsics.fx
    v = (np.arange(intrinsics.height, dtype=np.float64) - intrinsics.cy) / intrinsics.fy
    shape = (intrinsics.height, intrinsics.width)
    x, y = np.broadcast_to(u, shape), np.broadcast_to(v[:, None], shape)
    x, y = undistort(x.copy(), y.copy(), intrinsics.model, intrinsics.coefficients)
    rays = Rays(x, y, np.sqrt(x * x + y * y + 1.0))
    for array in rays:
        array.setflags(write=False)
    return rays


def project(
    points: NDArray[np.floating], intrinsics: Intrinsics
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Finds the pixels that points fall into.

    Args:
        points: (N, 3) in the camera's optical frame [m].
        intrinsics: the camera, with its distortion.

    Returns:
        columns (N,), rows (N,) and whether the point is in the image (N,); 0, 0 where it is not.
    """
    u, v, inside = project_exact(points, intrinsics)
    columns = np.floor(np.where(inside, u, 0.0) + 0.5).astype(np.int64)
    rows = np.floor(np.where(inside, v, 0.0) + 0.5).astype(np.int64)
    return columns, rows, inside


def project_exact(
    points: NDArray[np.floating], intrinsics: Intrinsics
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Projects (N, 3) points of the optical frame; returns u, v [px] and whether they are in the image."""
    p = np.asarray(points, np.float64)
    ahead = p[:, 2] > 1e-6
    z = np.where(ahead, p[:, 2], 1.0)
    x, y = p[:, 0] / z, p[:, 1] / z
    ahead &= x * x + y * y < field_limit(intrinsics.model, intrinsics.coefficients) ** 2
    x, y = distort(
        np.where(ahead, x, 0.0), np.where(ahead, y, 0.0), intrinsics.model, intrinsics.coefficients
    )
    u, v = intrinsics.fx * x + intrinsics.cx, intrinsics.fy * y + intrinsics.cy
    inside = ahead & (u >= -0.5) & (u < intrinsics.width - 0.5) & (v >= -0.5) & (v < intrinsics.height - 0.5)
    return u, v, inside


def valid_depth(depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Returns where a depth image holds a reading: finite, positive and not 65535 mm (REP-117)."""
    with np.errstate(invalid="ignore"):
        return np.isfinite(depth) & (depth > 0) & (np.abs(depth - NO_READING) > np.float32(0.0005))


def register_depth(depth: Image, intrinsics: Intrinsics, base_T_camera: Pose) -> NDArray[np.float32]:
    """Renders a depth image as another camera would have measured it.

    Every reading becomes a point and is projected; the nearest wins in every pixel. Where the target
    resolves more finely than the source, a reading fills the pixels that its own pixel covers.

    Args:
        depth: the depth image, with its own camera and pose.
        intrinsics: the target camera, for example the colour camera.
        base_T_camera: the target camera's pose.

    Returns:
        (H, W) float32 planar depth in the target camera [m], 0 where nothing was measured.

    Raises:
        InputError: the image's size contradicts its calibration, or a pose is not finite.
    """
    check_image(depth, "depth")
    rays = pixel_rays(depth.intrinsics)
    good = valid_depth(depth.data) & np.isfinite(rays.x)
    z = depth.data[good].astype(np.float64)
    points = np.stack([rays.x[good] * z, rays.y[good] * z, z], axis=-1)  # (N, 3)
    if depth.base_T_camera.to_list() != base_T_camera.to_list():
        points = (base_T_camera.inverse() @ depth.base_T_camera).transform(points)
    return render_depth(points, intrinsics, _splat_size(depth.intrinsics, intrinsics))


def render_depth(points: NDArray[np.floating], intrinsics: Intrinsics, splat: int = 1) -> NDArray[np.float32]:
    """Renders points into a depth image; the nearest wins.

    Args:
        points: (N, 3) in the camera's optical frame [m].
        intrinsics: the camera.
        splat: edge of the square of pixels that a point covers.

    Returns:
        (H, W) float32 planar depth [m], 0 where no point fell.
    """
    width, height = intrinsics.width, intrinsics.height
    u, v, inside = project_exact(points, intrinsics)
    u, v, z = u[inside], v[inside], np.asarray(points)[inside, 2].astype(np.float32)
    nearest = np.full(height * width, np.inf, np.float32)
    first = np.floor(u - (splat - 1) / 2 + 0.5).astype(np.int64)
    top = np.floor(v - (splat - 1) / 2 + 0.5).astype(np.int64)
    for i in range(splat * splat):
        column, row = first + i % splat, top + i // splat
        good = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        np.minimum.at(nearest, row[good] * width + column[good], z[good])
    nearest[np.isinf(nearest)] = 0.0
    return nearest.reshape(height, width)


def _splat_size(source: Intrinsics, target: Intrinsics) -> int:
    finer = max(target.fx / source.fx, target.fy / source.fy)
    return min(max(math.ceil(finer - 0.05), 1), _MAX_SPLAT)


def same_view(first: Image, second: Image) -> bool:
    """True where two images have the same camera and pose, so that their pixels correspond."""
    if first.intrinsics is second.intrinsics and first.base_T_camera is second.base_T_camera:
        return True
    same_pose: Any = first.base_T_camera.to_list() == second.base_T_camera.to_list()
    return first.intrinsics == second.intrinsics and bool(same_pose)
