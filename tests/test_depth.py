from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from test_camera import BOX, LENSES, WALL_X, camera, looking, scene_depth

from embodied_mem.errors import ConfigError, InputError
from embodied_mem.geometry import Pose
from embodied_mem.perception import GRID_LABELS, DepthConfig, Perception, PerceptionConfig, SnapshotConfig
from embodied_mem.perception.depth import depth_scan, floating_pixels
from embodied_mem.types import CameraFrame, Detection, GridView, Image, Intrinsics, LabelMap, Observation

ALL = DepthConfig(min_range=0.0, max_range=50.0, max_pixels=10**7, edge_jump=0.0)
SMALL = Intrinsics(4, 3, 2.0, 2.0, 1.5, 1.0)


def small(value: float, **changes) -> Image:
    data = np.full((3, 4), value, np.float32)
    for (v, u), z in changes.get("pixels", {}).items():
        data[v, u] = z
    return Image(data, SMALL, Pose())


@pytest.mark.parametrize("model", ["", *LENSES])
def test_a_floor_a_wall_and_a_box_come_out_where_they_are(model: str):
    pose = looking(x=-0.4, y=0.2, z=1.1, pitch=0.35, yaw=-0.1)
    image = Image(scene_depth(camera(model), pose), camera(model), pose)
    scan = depth_scan(image, ALL)
    assert scan.points.dtype == np.float32
    assert scan.hit.sum() == np.isfinite(image.data).sum()
    p = scan.points[scan.hit].astype(np.float64)
    lo, hi = BOX
    inside = ((p > lo - 1e-3) & (p < hi + 1e-3)).all(axis=1)
    on_box = inside & (np.minimum(np.abs(p - lo), np.abs(p - hi)).min(axis=1) < 2e-5)
    on_floor, on_wall = np.abs(p[:, 2]) < 2e-5, np.abs(p[:, 0] - WALL_X) < 2e-5
    assert (on_box | on_floor | on_wall).all()
    for surface in (on_box & ~on_floor, on_floor, on_wall):
        assert surface.sum() > 5000
    np.testing.assert_array_equal(scan.origin, pose.position)


@pytest.mark.parametrize("stride", [1, 3])
def test_a_scan_carries_the_image_that_its_points_are_pixels_of(stride: int):
    pose = looking(x=-0.4, y=0.2, z=1.1, pitch=0.35, yaw=-0.1)
    depth = scene_depth(camera(), pose)
    depth[100:140, 200:260] = 0.0
    config = DepthConfig(min_range=0.9, max_range=3.0, stride=stride, max_pixels=10**7)
    scan = depth_scan(Image(depth, camera(), pose), config)
    image, view = scan.image, scan.image.intrinsics
    assert image.data.shape == (view.height, view.width) and scan.max_range == 3.0
    assert np.count_nonzero(image.data) == len(scan.points) == len(scan.pixels)
    v, u = np.divmod(scan.pixels, view.width)
    z = image.data[v, u].astype(np.float64)
    x, y = (u - view.cx) / view.fx, (v - view.cy) / view.fy
    reach = np.where(scan.hit, z, 3.0 / np.sqrt(x * x + y * y + 1.0))
    lifted = image.base_T_camera.transform(np.stack([x * reach, y * reach, reach], axis=-1))
    np.testing.assert_allclose(scan.points, lifted, atol=1e-5)


def test_a_distorted_image_gives_points_alone():
    scan = depth_scan(Image(scene_depth(camera("plumb_bob"), Pose()), camera("plumb_bob"), Pose()), ALL)
    assert scan.image is None and scan.pixels is None and len(scan.points) > 0


def test_points_are_open3ds():
    o3d = pytest.importorskip(
        "open3d", reason="the reference, Open3D, cannot be loaded here", exc_type=ImportError
    )

    pose = looking(x=0.3, z=1.2, pitch=0.3, yaw=0.2)
    pinhole = camera()
    depth = scene_depth(pinhole, pose)
    depth[~np.isfinite(depth)] = 0.0
    depth[10:30, 50:90] = 0.0
    theirs = o3d.geometry.PointCloud.create_from_depth_image(
        o3d.geometry.Image(depth),
        o3d.camera.PinholeCameraIntrinsic(640, 480, pinhole.fx, pinhole.fy, pinhole.cx, pinhole.cy),
        extrinsic=np.linalg.inv(pose.matrix()),
        depth_scale=1.0,
        depth_trunc=1000.0,
    )
    ours = depth_scan(Image(depth, pinhole, pose), ALL)
    expected = np.asarray(theirs.points)
    assert len(expected) == len(ours.points) == (depth > 0).sum()
    np.testing.assert_allclose(ours.points, expected, atol=2e-6)


def test_a_cut_image_gives_the_same_points_bit_for_bit():
    pose = looking(pitch=0.3)
    depth = scene_depth(camera("plumb_bob"), pose)
    whole = depth_scan(Image(depth, camera("plumb_bob"), pose), ALL)
    part = camera("plumb_bob", roi=(120, 200, 256, 192))
    cut = depth_scan(Image(depth[200:392, 120:376].copy(), part, pose), ALL)
    points = whole.points.reshape(480, 640, 3)[200:392, 120:376].reshape(-1, 3)
    np.testing.assert_allclose(cut.points, points, atol=1e-6)


def test_a_binned_image_gives_points_on_the_same_surfaces():
    pose = looking(pitch=0.3)
    binned = camera("plumb_bob", binning=(2, 2))
    # A wall: inverse depth is linear in the image, so joining pixels keeps them on it.
    whole = scene_depth(camera("plumb_bob"), pose)
    joined = 1.0 / (1.0 / whole).reshape(240, 2, 320, 2).mean(axis=(1, 3))
    scan = depth_scan(Image(joined.astype(np.float32), binned, pose), ALL)
    distance = np.minimum(np.abs(scan.points[:, 2]), np.abs(scan.points[:, 0] - WALL_X))
    box = (scan.points > BOX[0] - 0.02).all(axis=1) & (scan.points < BOX[1] + 0.02).all(axis=1)
    assert np.quantile(distance[~box], 0.97) < 2e-3


@pytest.mark.parametrize("nothing", [0.0, np.nan, -np.inf, -1.0, 65.535])
def test_invalid_readings_give_no_points_at_all(nothing: float):
    scan = depth_scan(small(2.0, pixels={(1, 2): nothing}), ALL)
    assert len(scan.points) == 11
    assert scan.hit.all()
    assert len(depth_scan(small(nothing), ALL).points) == 0


def test_65535_millimetres_are_no_reading_however_they_were_scaled():
    millimetres = np.full((3, 4), 65535, np.uint16)
    for data in (
        millimetres.astype(np.float32) / np.float32(1000),
        millimetres.astype(np.float32) * np.float32(0.001),
        (millimetres / 1000.0).astype(np.float32),
    ):
        assert len(depth_scan(Image(data, SMALL, Pose()), DepthConfig()).points) == 0


def test_infinite_depth_clears_up_to_the_maximum_range_and_hits_nothing():
    config = DepthConfig(max_range=3.0, edge_jump=0.0)
    scan = depth_scan(small(np.inf, pixels={(0, 0): 1.0}), config)
    assert len(scan.points) == 12
    assert scan.hit.tolist() == [True] + [False] * 11
    np.testing.assert_allclose(np.linalg.norm(scan.points[1:], axis=1), 3.0, rtol=1e-6)


def test_readings_beyond_the_maximum_range_clear_their_ray_up_to_it():
    config = DepthConfig(max_range=3.0, edge_jump=0.0)
    scan = depth_scan(small(2.9), config)
    full = depth_scan(small(2.9), ALL)
    distance = np.linalg.norm(full.points.astype(np.float64), axis=1)
    np.testing.assert_array_equal(scan.hit, distance <= 3.0)
    assert 0 < scan.hit.sum() < 12  # planar depth: only the pixels near the centre are in range
    clearing = scan.points[~scan.hit] / np.linalg.norm(scan.points[~scan.hit], axis=1, keepdims=True)
    np.testing.assert_allclose(clearing, full.points[~scan.hit] / distance[~scan.hit, None], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(scan.points[~scan.hit], axis=1), 3.0, rtol=1e-6)


def test_readings_nearer_than_the_minimum_range_are_ignored():
    scan = depth_scan(small(2.0, pixels={(1, 1): 0.05}), DepthConfig(edge_jump=0.0))
    assert len(scan.points) == 11


def test_the_stride_grows_until_the_image_is_small_enough():
    pose = looking(pitch=0.4)
    image = Image(scene_depth(camera(), pose), camera(), pose)
    full = depth_scan(image, ALL).points.reshape(480, 640, 3)
    half = DepthConfig(min_range=0.0, max_range=50.0, max_pixels=480 * 640 // 4, edge_jump=0.0)
    np.testing.assert_array_equal(depth_scan(image, half).points, full[::2, ::2].reshape(-1, 3))
    third = DepthConfig(min_range=0.0, max_range=50.0, max_pixels=10**7, stride=3, edge_jump=0.0)
    np.testing.assert_array_equal(depth_scan(image, third).points, full[1::3, 1::3].reshape(-1, 3))


def test_readings_between_two_surfaces_are_dropped_and_thin_things_kept():
    row = np.array([1, 1, 1.5, 2, 2, 2, 1, 2, 2, np.nan, 1.5, 2, 2.001, 2.002], np.float32)
    image = np.tile(row, (5, 1))
    assert np.flatnonzero(floating_pixels(image, 0.05)[2]).tolist() == [2]
    assert np.flatnonzero(floating_pixels(image.T.copy(), 0.05)[:, 2]).tolist() == [2]
    intrinsics = Intrinsics(14, 5, 10.0, 10.0, 6.5, 2.0)
    kept = depth_scan(Image(image, intrinsics, Pose()), DepthConfig(edge_jump=0.05))
    assert len(kept.points) == 5 * (14 - 2)
    assert len(depth_scan(Image(image, intrinsics, Pose()), ALL).points) == 5 * 13


def test_a_grazing_floor_is_not_taken_for_edges():
    pose = looking(z=0.4, pitch=0.1)
    depth = scene_depth(camera(), pose)
    assert floating_pixels(depth, DepthConfig().edge_jump).mean() < 0.001


def test_the_same_image_gives_the_same_bits():
    pose = looking(pitch=0.3, yaw=0.123)
    image = Image(scene_depth(camera("rational_polynomial"), pose), camera("rational_polynomial"), pose)
    first, second = depth_scan(image, DepthConfig()), depth_scan(image, DepthConfig())
    assert first.points.tobytes() == second.points.tobytes()
    assert first.hit.tobytes() == second.hit.tobytes()


LABELS = LabelMap(("unknown", "floor", "wall", "box"))


def scene_labels(intrinsics: Intrinsics, pose: Pose) -> np.ndarray:
    scan = depth_scan(Image(scene_depth(intrinsics, pose), intrinsics, pose), ALL)
    labels = np.where(scan.points[:, 2] < 1e-3, 1, np.where(scan.points[:, 0] > WALL_X - 1e-3, 2, 3))
    return labels.reshape(intrinsics.height, intrinsics.width).astype(np.int32)


def true_labels(points: np.ndarray) -> np.ndarray:
    return np.where(points[:, 2] < 1e-3, 1, np.where(points[:, 0] > WALL_X - 1e-3, 2, 3))


def test_a_label_image_of_the_same_camera_names_every_point():
    pose = looking(pitch=0.3)
    depth = Image(scene_depth(camera(), pose), camera(), pose)
    semantic = Image(scene_labels(camera(), pose), camera(), pose)
    scan = depth_scan(depth, DepthConfig(max_range=9.0), semantic=semantic, label_count=4)
    np.testing.assert_array_equal(scan.labels, true_labels(scan.points))


def test_a_label_image_of_another_camera_names_what_it_sees_and_nothing_hidden_from_it():
    here, there = looking(pitch=0.3), looking(y=-0.6, z=1.1, pitch=0.3, yaw=0.1)
    depth = Image(scene_depth(camera(), here), camera(), here)
    semantic = Image(scene_labels(camera("plumb_bob"), there), camera("plumb_bob"), there)
    scan = depth_scan(depth, DepthConfig(max_range=9.0), semantic=semantic, label_count=4)
    named = scan.labels > 0
    right = scan.labels[named] == true_labels(scan.points[named])
    assert 0.6 < named.mean() < 0.97
    assert right.mean() > 0.99
    # The wall behind the box, which only the depth camera sees, keeps no label (of the box).
    hidden = (~named) & (scan.points[:, 0] > WALL_X - 1e-3)
    assert hidden.sum() > 100


def test_labels_outside_the_map_and_unlabelled_pixels_are_unknown():
    semantic = np.array([[-1, 0, 1, 2], [3, 4, 99, 1], [1, 1, 1, 1]], np.int32)
    scan = depth_scan(small(2.0), ALL, semantic=Image(semantic, SMALL, Pose()), label_count=4)
    assert scan.labels.reshape(3, 4)[:2].tolist() == [[0, 0, 1, 2], [3, 0, 0, 1]]


def test_what_was_not_hit_has_no_label():
    semantic = Image(np.ones((3, 4), np.int32), SMALL, Pose())
    scan = depth_scan(small(np.inf), DepthConfig(), semantic=semantic, label_count=2)
    assert len(scan.labels) == 12 and not scan.labels.any()


def test_wrong_images_are_refused_in_one_line():
    with pytest.raises(InputError, match=r"front: a depth image must be \(H, W\) float32 metres"):
        depth_scan(Image(np.ones((3, 4), np.uint16), SMALL, Pose()), ALL, name="front")
    with pytest.raises(InputError, match="front: depth image is 5x3 but its CameraInfo describes 4x3"):
        depth_scan(Image(np.ones((3, 5), np.float32), SMALL, Pose()), ALL, name="front")
    with pytest.raises(InputError, match="pose that is not finite"):
        depth_scan(Image(np.ones((3, 4), np.float32), SMALL, Pose(np.array([np.nan, 0, 0]))), ALL)
    for change in ({"min_range": 6.0}, {"stride": 0}, {"max_pixels": 0}, {"edge_jump": -1.0}):
        with pytest.raises(ConfigError, match=next(iter(change))):
            DepthConfig(**change)


def observation(step: int = 3, **kwargs) -> Observation:
    return Observation(10 * step, step, Pose.from_xyz_yaw(1, 2, 0, 0.3), **kwargs)


def test_an_observation_with_cameras_becomes_one_scan_per_depth_image():
    color = Image(np.full((3, 4, 3), 9, np.uint8), SMALL, Pose())
    cat = Detection(1, np.ones(3), np.ones(3), np.eye(3))
    obs = observation(
        cameras=(CameraFrame("a", small(1.0)), CameraFrame("b", None, color), CameraFrame("c", small(2.0))),
        detections=(cat,),
        labels=LabelMap(("unknown", "cat")),
        reward=2.0,
        is_first=True,
    )
    percept = Perception()(obs)
    assert len(percept.scans) == 2
    assert percept.scans[1].points[:, 2].tolist() == [2.0] * 12
    assert percept.detections == (cat,)
    assert (percept.source, percept.event, percept.reward, percept.step) == ("rgbd", "episode_start", 2.0, 3)
    assert percept.labels == obs.labels and percept.is_first
    np.testing.assert_array_equal(percept.snapshot, color.data)


def test_snapshots_are_offered_as_often_and_as_small_as_configured():
    picture = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    frame = CameraFrame("a", None, Image(picture, Intrinsics(30, 20, 9.0, 9.0, 15.0, 10.0), Pose()))
    perceive = Perception(PerceptionConfig(snapshot=SnapshotConfig(every=4, max_width=16)))
    taken = [perceive(observation(step, cameras=(frame,))).snapshot is not None for step in range(9)]
    assert taken == [True, False, False, False, True, False, False, False, True]
    reduced = perceive(observation(0, cameras=(frame,))).snapshot
    assert reduced.shape == (10, 15, 3)
    assert reduced[4, 7, 1] == np.floor(picture[8:10, 14:16, 1].mean() + 0.5)
    none = Perception(PerceptionConfig(snapshot=SnapshotConfig(every=0)))
    assert none(observation(0, cameras=(frame,))).snapshot is None


def test_an_observation_with_a_grid_and_a_camera_becomes_one_percept_with_joint_labels():
    cells = np.ones((3, 3, 3), np.uint8)
    cells[1, 0] = (2, 5, 0)
    semantic = Image(np.full((3, 4), 1, np.int32), SMALL, Pose())
    obs = observation(
        grid=GridView(cells),
        cameras=(CameraFrame("a", small(1.0), None, semantic),),
        labels=LabelMap(("unknown", "cat")),
        detections=(Detection(1, np.ones(3), np.ones(3), np.eye(3)),),
    )
    percept = Perception()(obs)
    assert [scan.origin is None for scan in percept.scans] == [True, False]
    assert percept.labels.names[: len(GRID_LABELS)] == GRID_LABELS.names
    assert {percept.labels.name(i) for i in percept.scans[0].labels} == {"unknown", "wall"}
    assert {percept.labels.name(i) for i in percept.scans[1].labels} == {"cat"}
    assert [percept.labels.name(d.label) for d in percept.detections] == ["cat"]


def test_an_observation_without_sensors_keeps_its_pose_and_detections():
    percept = Perception()(observation(map_T_odom=Pose.from_xyz_yaw(1, 0, 0, 0), covariance=np.eye(6)))
    assert percept.scans == () and percept.snapshot is None
    assert percept.map_T_base.position[0] == pytest.approx(2.0)
    assert percept.covariance is not None


def read_kitchen(folder: Path, frame: int) -> tuple[np.ndarray, np.ndarray, Intrinsics, np.ndarray]:
    k = np.loadtxt(folder / "camera-intrinsics.txt")
    stem = folder / f"frame-{frame:06d}"
    raw = cv2.imread(f"{stem}.depth.png", cv2.IMREAD_UNCHANGED)
    depth = np.where(raw == 65535, 0, raw).astype(np.float32) / np.float32(1000)
    intrinsics = Intrinsics(640, 480, k[0, 0], k[1, 1], k[0, 2], k[1, 2])
    return raw, depth, intrinsics, np.loadtxt(f"{stem}.pose.txt")


def kitchen_scan(folder: Path, frame: int, pose_of: int | None = None) -> tuple[np.ndarray, np.ndarray, Pose]:
    """Returns the raw depth, the points in a world whose z axis points up, and the camera's pose."""
    raw, depth, intrinsics, world_T_camera = read_kitchen(folder, frame)
    if pose_of is not None:
        world_T_camera = read_kitchen(folder, pose_of)[3]
    turn = np.array(
        [[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]]
    )  # the recording's y points down
    pose = Pose.from_matrix(turn @ world_T_camera)
    return raw, depth_scan(Image(depth, intrinsics, pose), ALL).points, pose


def test_a_real_kitchen_frame_gives_one_point_per_reading_at_plausible_distances(data_dir: Path):
    raw, points, pose = kitchen_scan(data_dir / "rgbd_kitchen", 0)
    assert 200_000 < len(points) == ((raw > 0) & (raw < 65535)).sum()
    assert np.isfinite(points).all()
    distance = np.linalg.norm(points - pose.position, axis=1)
    assert 0.4 < distance.min() < distance.max() < 5.0
    # Worktops and floor: more level surface than there would be in any other attitude of the camera.
    image = np.full((480, 640, 3), np.nan)
    image[(raw > 0) & (raw < 65535)] = points
    normals = np.cross(image[20:, :-20] - image[:-20, :-20], image[:-20, 20:] - image[:-20, :-20])
    up = np.abs(normals[..., 2] / np.linalg.norm(normals, axis=-1))
    assert (up[np.isfinite(up)] > 0.9).mean() > 0.15
    assert points[:, 2].min() > -1.3 and points[:, 2].max() < 1.6  # a hand-held camera in a room


def test_two_real_kitchen_frames_agree_on_where_the_surfaces_are(data_dir: Path):
    from scipy.spatial import cKDTree

    folder = data_dir / "rgbd_kitchen"
    surface = cKDTree(kitchen_scan(folder, 0)[1])
    right = surface.query(kitchen_scan(folder, 40)[1][::100])[0]
    wrong = surface.query(kitchen_scan(folder, 40, pose_of=0)[1][::100])[0]
    assert np.median(right) < 0.01 and (right < 0.05).mean() > 0.9
    assert np.median(wrong) > 3 * np.median(right)
