from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose, quaternion_from_rotation
from embodied_mem.perception.camera import (
    intrinsics_from_camera_info,
    pixel_rays,
    project_exact,
    register_depth,
    render_depth,
)
from embodied_mem.perception.lens import distort, field_limit, undistort
from embodied_mem.types import Image, Intrinsics

K = (420.0, 0.0, 318.5, 0.0, 425.0, 241.0, 0.0, 0.0, 1.0)
LENSES = {
    "plumb_bob": (-0.28, 0.09, 0.0012, -0.0007, -0.015),
    "rational_polynomial": (0.45, -2.6, 0.0006, -0.0003, 1.5, 0.33, -2.4, 1.42),
    "equidistant": (-0.012, 0.021, -0.018, 0.004),
}
OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
"""Rotation from the optical frame (z forward, y down) to the base frame (x forward, z up)."""


def camera(model: str = "", width: int = 640, height: int = 480, **kwargs) -> Intrinsics:
    return intrinsics_from_camera_info(width, height, K, LENSES.get(model, ()), model, **kwargs)


def looking(x: float = 0.0, y: float = 0.0, z: float = 1.0, pitch: float = 0.0, yaw: float = 0.0) -> Pose:
    """A camera at (x, y, z) that looks along base x, turned left by `yaw` and down by `pitch` [rad]."""
    c, s, cy, sy = np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    down = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    left = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return Pose(np.array([x, y, z]), quaternion_from_rotation(left @ down @ OPTICAL))


BOX = (np.array([1.8, -0.3, 0.0]), np.array([2.2, 0.4, 0.9]))
WALL_X = 3.5


def scene_depth(intrinsics: Intrinsics, base_T_camera: Pose) -> np.ndarray:
    """Exact planar depth of a floor (z = 0), a wall (x = 3.5) and a box, by ray casting."""
    rays = pixel_rays(intrinsics)
    directions = base_T_camera.rotate(np.stack([rays.x, rays.y, np.ones_like(rays.x)], axis=-1))
    origin = base_T_camera.position
    depth = np.full(rays.x.shape, np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        for axis, value in ((2, 0.0), (0, WALL_X)):
            t = (value - origin[axis]) / directions[..., axis]
            depth = np.where((t > 0) & (t < depth), t, depth)
        lo, hi = (BOX[0] - origin) / directions, (BOX[1] - origin) / directions
        enter, leave = np.minimum(lo, hi).max(axis=-1), np.maximum(lo, hi).min(axis=-1)
        depth = np.where((enter > 0) & (enter < leave) & (enter < depth), enter, depth)
    return depth.astype(np.float32)


def cv_project(points: np.ndarray, model: str) -> np.ndarray:
    k, d = np.array(K).reshape(3, 3), np.array(LENSES[model])
    zero = np.zeros(3)
    if model == "equidistant":
        return cv2.fisheye.projectPoints(points[None], zero, zero, k, d)[0][0]
    return cv2.projectPoints(points, zero, zero, k, d)[0][:, 0]


@pytest.mark.parametrize("model", LENSES)
def test_rays_of_a_distorted_image_project_back_onto_their_pixels_by_opencv(model: str):
    rays = pixel_rays(camera(model))
    v, u = np.mgrid[:480, :640]
    assert np.isfinite(rays.x).all()
    points = np.stack([rays.x, rays.y, np.ones_like(rays.x)], axis=-1).reshape(-1, 3) * 2.5
    expected = np.stack([u, v], axis=-1).reshape(-1, 2)
    np.testing.assert_allclose(cv_project(points, model), expected, atol=1e-4)


@pytest.mark.parametrize("model", LENSES)
def test_projection_is_opencvs(model: str):
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(-0.5, 0.5, (500, 2)), np.ones(500)]) * rng.uniform(0.5, 9, (500, 1))
    u, v, inside = project_exact(points, camera(model))
    expected = cv_project(points, model)
    assert inside.sum() > 400
    np.testing.assert_allclose(np.stack([u, v], axis=-1)[inside], expected[inside], atol=1e-6)


def test_rays_are_opencvs_undistorted_points():
    k = np.array(K).reshape(3, 3)
    corners = np.array([[0, 0], [639, 0], [0, 479], [639, 479], [320, 20], [100, 240]], np.float64)
    for model, d in LENSES.items():
        if model == "equidistant":
            expected = cv2.fisheye.undistortPoints(corners[None], k, np.array(d))[0]
        else:
            # OpenCV's five iterations are not enough at the corners.
            enough = (cv2.TERM_CRITERIA_COUNT, 200, 1e-12)
            if hasattr(cv2, "undistortPointsIter"):  # OpenCV 4
                expected = cv2.undistortPointsIter(corners[None], k, np.array(d), None, None, enough)
            else:
                expected = cv2.undistortPoints(corners[None], k, np.array(d), criteria=enough)
            expected = expected.reshape(-1, 2)
        rays = pixel_rays(camera(model))
        rows, columns = corners[:, 1].astype(int), corners[:, 0].astype(int)
        found = np.stack([rays.x[rows, columns], rays.y[rows, columns]], axis=-1)
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=model)


def test_thin_prism_coefficients_are_opencvs():
    d = (*LENSES["rational_polynomial"], 0.003, -0.001, 0.002, 0.0005)
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-0.6, 0.6, (2, 200))
    points = np.column_stack([x, y, np.ones(200)])
    expected = cv2.projectPoints(points, np.zeros(3), np.zeros(3), np.eye(3), np.array(d))[0][:, 0]
    xd, yd = distort(x, y, "rational_polynomial", d)
    np.testing.assert_allclose(np.column_stack([xd, yd]), expected, atol=1e-12)
    back = undistort(xd, yd, "rational_polynomial", d)
    np.testing.assert_allclose(back, [x, y], atol=1e-9)


def test_where_the_lens_model_folds_back_there_is_no_ray_and_no_projection():
    barrel = (-0.3, 0.0, 0.0, 0.0)
    assert field_limit("plumb_bob", barrel) == pytest.approx(np.sqrt(1 / 0.9), rel=1e-3)
    x, _ = undistort(np.array([0.3, 0.65, 0.75]), np.zeros(3), "plumb_bob", barrel)
    assert np.isfinite(x).tolist() == [True, True, False]
    # A point far outside the field lands near the centre if the polynomial is just evaluated.
    aside = np.array([[1.75, 0.0, 1.0]])
    intrinsics = Intrinsics(640, 480, 400.0, 400.0, 320.0, 240.0, "plumb_bob", barrel)
    assert abs(distort(aside[:, 0], aside[:, 1], "plumb_bob", barrel)[0][0]) < 0.2
    assert not project_exact(aside, intrinsics)[2][0]


def test_points_behind_the_camera_are_not_in_its_image():
    assert not project_exact(np.array([[0.0, 0.0, -1.0], [0.0, 0.0, 0.0]]), camera())[2].any()


def test_a_cameras_rays_are_computed_once():
    first = pixel_rays(camera("plumb_bob"))
    assert pixel_rays(camera("plumb_bob")) is first
    with pytest.raises(ValueError, match="read-only"):
        first.x[0, 0] = 1.0


@pytest.mark.parametrize("model", ["", *LENSES])
def test_a_region_of_interest_sees_what_the_whole_image_sees_there(model: str):
    whole = pixel_rays(camera(model))
    part = camera(model, roi=(101, 52, 300, 200))
    assert (part.width, part.height) == (300, 200)
    for cut, full in zip(pixel_rays(part), whole):
        np.testing.assert_allclose(cut, full[52:252, 101:401], atol=1e-9)


@pytest.mark.parametrize("model", ["", *LENSES])
def test_a_binned_pixel_looks_between_the_pixels_that_it_joins(model: str):
    whole = pixel_rays(camera(model))
    binned = camera(model, binning=(2, 2))
    assert (binned.width, binned.height) == (320, 240)
    for found, full in zip(pixel_rays(binned), whole):
        mean = full.reshape(240, 2, 320, 2).mean(axis=(1, 3))
        # Where the lens bends, the middle of four rays is not quite the ray of the middle.
        np.testing.assert_allclose(found, mean, atol=5e-5)


def test_region_and_binning_together_are_the_region_first():
    both = camera(roi=(100, 40, 320, 240), binning=(2, 4))
    x, y, _ = pixel_rays(both)
    assert x.shape == (60, 160)
    assert x[0, 0] == pytest.approx((100.5 - K[2]) / K[0])
    assert y[0, 0] == pytest.approx((41.5 - K[5]) / K[4])


def test_a_rectified_image_has_the_projection_matrix_and_no_distortion():
    p = (400.0, 0, 310.0, 0, 0, 400.0, 250.0, 0, 0, 0, 1, 0)
    raw = intrinsics_from_camera_info(640, 480, K, LENSES["plumb_bob"], "plumb_bob", p=p)
    rectified = intrinsics_from_camera_info(
        640, 480, K, LENSES["plumb_bob"], "plumb_bob", p=p, rectified=True
    )
    assert raw.is_distorted and raw.fx == 420.0
    assert not rectified.is_distorted
    assert (rectified.fx, rectified.cx, rectified.fy, rectified.cy) == (400.0, 310.0, 400.0, 250.0)


def test_drivers_other_names_of_a_model_are_understood():
    named = intrinsics_from_camera_info(640, 480, K, LENSES["equidistant"], "Kannala_Brandt4")
    assert named.model == "equidistant"
    zeros = intrinsics_from_camera_info(640, 480, np.array(K), np.zeros(5), "inverse_brown_conrady")
    assert not zeros.is_distorted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": [0.0] * 9}, "not calibrated"),
        ({"k": [np.nan] * 9}, "not calibrated"),
        ({"k": [1.0] * 4}, "9 numbers"),
        ({"width": 0}, "0x480"),
        ({"d": [0.1] * 5, "model": "fov"}, 'model "fov" is not supported'),
        ({"d": [0.1] * 3, "model": "plumb_bob"}, "got 3"),
        ({"d": [np.nan] * 5, "model": "plumb_bob"}, "not a number"),
        ({"d": [0.1] * 14, "model": "rational_polynomial"}, "tilted"),
        ({"roi": (600, 0, 100, 100)}, "leaves the 640x480 image"),
    ],
)
def test_an_unusable_camera_info_gives_one_clear_line(change: dict, message: str):
    with pytest.raises(InputError, match=message) as error:
        intrinsics_from_camera_info(**({"width": 640, "height": 480, "k": K} | change))
    assert "\n" not in str(error.value)


def compare(found: np.ndarray, exact: np.ndarray) -> tuple[float, float]:
    """Returns which share of the pixels agree to 1 %, of those that both have, and their median error."""
    both = (found > 0) & np.isfinite(exact)
    error = np.abs(found[both] - exact[both]) / exact[both]
    return float((error < 0.01).mean()), float(np.median(error))


@pytest.mark.parametrize("model", ["", "plumb_bob", "equidistant"])
def test_registered_depth_is_the_depth_that_the_colour_camera_would_measure(model: str):
    here, there = looking(z=1.0, pitch=0.2), looking(y=0.08, z=1.03, pitch=0.25, yaw=0.05)
    source, target = camera(), dataclasses.replace(camera(model), width=600)
    depth = Image(scene_depth(source, here), source, here)
    found = register_depth(depth, target, there)
    assert found.shape == (480, 600) and found.dtype == np.float32
    exact = scene_depth(target, there)
    agree, median = compare(found, exact)
    assert agree > 0.97 and median < 0.002
    # Not registering at all would not do.
    assert compare(depth.data[:, :600], exact)[0] < 0.6
    seen = np.isfinite(exact) & (np.arange(600) > 60) & (np.arange(600) < 540)
    assert (found[60:420][seen[60:420]] > 0).mean() > 0.9


def test_registering_into_the_same_camera_changes_nothing():
    here = looking(pitch=0.3)
    data = scene_depth(camera("plumb_bob"), here)
    data[:20] = 0.0
    data[20:40] = np.nan
    found = register_depth(Image(data, camera("plumb_bob"), here), camera("plumb_bob"), here)
    expected = np.where(np.isfinite(data), data, 0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_nearer_surface_hides_a_farther_one():
    points = np.array([[0.0, 0.0, 3.0], [0.0, 0.0, 1.0], [0.0, 0.0, 2.0]])
    image = render_depth(points, Intrinsics(5, 5, 4.0, 4.0, 2.0, 2.0))
    assert image[2, 2] == 1.0
    assert (image > 0).sum() == 1


def test_a_finer_colour_camera_gets_depth_without_holes():
    coarse = Intrinsics(160, 120, 105.0, 105.0, 79.5, 59.5)
    fine = Intrinsics(640, 480, 420.0, 420.0, 319.5, 239.5)
    here = looking(pitch=0.2)
    found = register_depth(Image(scene_depth(coarse, here), coarse, here), fine, here)
    exact = scene_depth(fine, here)
    assert (found > 0).mean() > 0.99
    assert compare(found, exact)[0] > 0.95


def test_a_depth_image_of_another_size_than_its_camera_is_refused():
    with pytest.raises(InputError, match="depth image is 320x240 but its CameraInfo describes 640x480"):
        register_depth(Image(np.ones((240, 320), np.float32), camera(), Pose()), camera(), Pose())
