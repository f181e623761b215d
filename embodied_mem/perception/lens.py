"""Lens distortion and its inverse, element-wise on arrays.

Both directions are our own arithmetic: OpenCV's inverse stops early by default, says nothing where
it has not converged, and its interface for better changes from version to version. Points are
normalised image coordinates, x / z and y / z in the camera's optical frame.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError

Array = NDArray[np.float64]

FISHEYE = "equidistant"
COEFFICIENT_COUNTS = {
    "plumb_bob": (4, 5),
    "rational_polynomial": (8, 12, 14),
    FISHEYE: (4,),
}
"""Supported models (sensor_msgs/distortion_models.hpp) and how many coefficients they can have."""

MAX_ANGLE = np.deg2rad(87.0)
"""Rays farther from the optical axis have no useful planar depth [rad]."""

_STEPS = 20
_TOLERANCE = 1e-10


def check_lens(model: str, coefficients: tuple[float, ...]) -> None:
    """Raises `InputError` where a distortion model or its coefficients are not supported."""
    if not any(coefficients):
        return
    if model not in COEFFICIENT_COUNTS:
        raise InputError(
            f'the distortion model "{model}" is not supported; there are: {", ".join(COEFFICIENT_COUNTS)}'
        )
    counts = COEFFICIENT_COUNTS[model]
    if len(coefficients) not in counts:
        wanted = " or ".join(map(str, counts))
        raise InputError(f"{model} distortion has {wanted} coefficients, got {len(coefficients)}")
    if not np.isfinite(coefficients).all():
        raise InputError(f"{model} distortion has a coefficient that is not a number")
    if len(coefficients) == 14 and any(coefficients[12:]):
        raise InputError("rational_polynomial distortion with a tilted sensor is not supported")


@lru_cache(maxsize=32)
def field_limit(model: str, coefficients: tuple[float, ...]) -> float:
    """Returns the ideal radius up to which the lens model is one-to-one, at most tan(87 deg).

    Beyond it a polynomial turns back, and would put things from far outside into the image.
    """
    angles = np.linspace(0.0, MAX_ANGLE, 8192)
    r = np.tan(angles)
    if not any(coefficients):
        return float(r[-1])
    if model == FISHEYE:
        slope = _theta_slope(angles, coefficients)
    else:
        with np.errstate(all="ignore"):
            radial, change = _radial(r * r, coefficients)
        slope = np.where(radial > 0, radial + 2 * r * r * change, -1.0)
    turned = np.flatnonzero(~(slope > 0))
    return float(r[turned[0]] if turned.size else r[-1])


def distort(x: Array, y: Array, model: str, coefficients: tuple[float, ...]) -> tuple[Array, Array]:
    """Maps ideal to distorted normalised coordinates.

    Args:
        x: ideal, any shape.
        y: ideal, same shape.
        model: "plumb_bob", "rational_polynomial" (Brown 1966 as in OpenCV's calib3d) or
            "equidistant" (Kannala and Brandt 2006, OpenCV's fisheye).
        coefficients: in OpenCV's order.
    """
    check_lens(model, coefficients)
    if not any(coefficients):
        return x, y
    if model == FISHEYE:
        r = np.sqrt(x * x + y * y)
        theta = np.arctan(r)
        theta_d = theta * _theta_factor(theta, coefficients)
        scale = np.where(r > 1e-9, theta_d / np.where(r > 1e-9, r, 1.0), 1.0)
        return x * scale, y * scale
    radial, _ = _radial(x * x + y * y, coefficients)
    dx, dy = _decentering(x, y, coefficients)
    return x * radial + dx, y * radial + dy


def undistort(x: Array, y: Array, model: str, coefficients: tuple[float, ...]) -> tuple[Array, Array]:
    """Maps distorted to ideal normalised coordinates; NaN where the lens shows nothing there.

    Newton's method from the distorted point. Where the polynomial turns back before it reaches the
    point (the corners of strongly distorted images), no ray exists that the model would put there.

    Args:
        x: distorted, any shape.
        y: distorted, same shape.
        model: as for `distort`.
        coefficients: as for `distort`.
    """
    check_lens(model, coefficients)
    if not any(coefficients):
        return x, y
    # Polynomials outside their range overflow on the way to "no such ray".
    with np.errstate(all="ignore"):
        if model == FISHEYE:
            return _undistort_fisheye(x, y, coefficients)
        return _undistort_brown(x, y, coefficients)


def _undistort_fisheye(x: Array, y: Array, k: tuple[float, ...]) -> tuple[Array, Array]:
    theta_d = np.sqrt(x * x + y * y)
    theta = np.minimum(theta_d, MAX_ANGLE)
    for _ in range(_STEPS):
        error = theta * _theta_factor(theta, k) - theta_d
        theta = theta - error / _theta_slope(theta, k)
        if not (np.abs(error) > _TOLERANCE).any():
            break
    error = np.abs(theta * _theta_factor(theta, k) - theta_d)
    good = (error < 1e-8) & (theta >= 0) & (theta <= np.arctan(field_limit(FISHEYE, k)))
    far = theta_d > 1e-9
    scale = np.where(far, np.tan(np.where(good, theta, 0.0)) / np.where(far, theta_d, 1.0), 1.0)
    scale = np.where(good, scale, np.nan)
    return x * scale, y * scale


def _theta_factor(theta: Array, k: tuple[float, ...]) -> Array:
    t2 = theta * theta
    return 1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3])))


def _theta_slope(theta: Array, k: tuple[float, ...]) -> Array:
    t2 = theta * theta
    return 1 + t2 * (3 * k[0] + t2 * (5 * k[1] + t2 * (7 * k[2] + t2 * 9 * k[3])))


def _undistort_brown(xd: Array, yd: Array, coefficients: tuple[float, ...]) -> tuple[Array, Array]:
    d = coefficients + (0.0,) * (12 - len(coefficients))
    p1, p2, s1, s2, s3, s4 = d[2], d[3], d[8], d[9], d[10], d[11]
    x, y = xd, yd
    for _ in range(_STEPS):
        r2 = x * x + y * y
        radial, slope = _radial(r2, d)
        dx, dy = _decentering(x, y, d)
        ex, ey = x * radial + dx - xd, y * radial + dy - yd
        # The Jacobian of (x * radial + dx, y * radial + dy).
        thin_x, thin_y = s1 + 2 * s2 * r2, s3 + 2 * s4 * r2
        xx = radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x + 2 * x * thin_x
        xy = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y + 2 * y * thin_x
        yx = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y + 2 * x * thin_y
        yy = radial + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x + 2 * y * thin_y
        determinant = xx * yy - xy * yx
        x, y = x - (yy * ex - xy * ey) / determinant, y - (xx * ey - yx * ex) / determinant
        if not (np.maximum(np.abs(ex), np.abs(ey)) > _TOLERANCE).any():
            break
    r2 = x * x + y * y
    radial, _ = _radial(r2, d)
    dx, dy = _decentering(x, y, d)
    error = np.maximum(np.abs(x * radial + dx - xd), np.abs(y * radial + dy - yd))
    good = (error < 1e-8) & (r2 <= field_limit("rational_polynomial", coefficients) ** 2)
    return np.where(good, x, np.nan), np.where(good, y, np.nan)


def _radial(r2: Array, coefficients: tuple[float, ...]) -> tuple[Array, Array]:
    """Returns the radial factor at r^2 and its derivative by r^2."""
    d = coefficients + (0.0,) * (12 - len(coefficients))
    above = 1 + r2 * (d[0] + r2 * (d[1] + r2 * d[4]))
    below = 1 + r2 * (d[5] + r2 * (d[6] + r2 * d[7]))
    above_slope = d[0] + r2 * (2 * d[1] + r2 * 3 * d[4])
    below_slope = d[5] + r2 * (2 * d[6] + r2 * 3 * d[7])
    return above / below, (above_slope * below - above * below_slope) / (below * below)


def _decentering(x: Array, y: Array, coefficients: tuple[float, ...]) -> tuple[Array, Array]:
    d = coefficients + (0.0,) * (12 - len(coefficients))
    p1, p2, s1, s2, s3, s4 = d[2], d[3], d[8], d[9], d[10], d[11]
    r2 = x * x + y * y
    dx = 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + r2 * (s1 + r2 * s2)
    dy = p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + r2 * (s3 + r2 * s4)
    return dx, dy
