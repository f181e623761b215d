"""Objects found in label images."""

from __future__ import annotations

import numpy as np
import pytest

from embodied_mem.errors import ConfigError
from embodied_mem.geometry import Pose
from embodied_mem.perception import DetectorConfig, SemanticDetector
from embodied_mem.perception.detectors import connected_pixels
from embodied_mem.types import CameraFrame, Image, Intrinsics, LabelMap

LABELS = LabelMap(("unknown", "wall", "cup", "chair"))
CAMERA = Intrinsics(40, 30, 40.0, 40.0, 19.5, 14.5)
# The optical frame one metre above the base: x right, y down, z ahead.
MOUNT = Pose(np.array([0.0, 0.0, 1.0]), np.array([-0.5, 0.5, -0.5, 0.5]))


def scene(*boxes: tuple[int, int, int, int, int, float]) -> CameraFrame:
    """Makes a wall at 4 m with upright boxes: label, first and last row, first and last column, depth."""
    depth, label = np.full((30, 40), 4.0, np.float32), np.full((30, 40), 1, np.int32)
    for id, top, bottom, left, right, z in boxes:
        depth[top : bottom + 1, left : right + 1] = z
        label[top : bottom + 1, left : right + 1] = id
    return CameraFrame("head", depth=Image(depth, CAMERA, MOUNT), semantic=Image(label, CAMERA, MOUNT))


def detect(frame: CameraFrame, **settings):
    return SemanticDetector(DetectorConfig(labels=("cup", "chair"), **settings))(frame, LABELS)


def test_a_thing_is_lifted_to_where_it_is():
    (cup,) = detect(scene((2, 10, 19, 24, 31, 2.0)))
    assert LABELS.name(cup.label) == "cup"
    # Column 27.5 at 2 m: (27.5 - 19.5) / 40 * 2 = 0.4 m to the right; row 14.5 is the camera's height.
    assert np.allclose(cup.position, [2.0, -0.4, 1.0], atol=1e-6)
    assert np.allclose(cup.extent, [0.0, 7 / 40 * 2, 9 / 40 * 2], atol=1e-6)
    assert (np.linalg.eigvalsh(cup.covariance) > 0).all()


def test_two_things_of_a_label_are_two_where_their_depth_or_place_differs():
    beside = detect(scene((2, 5, 12, 5, 12, 2.0), (2, 5, 12, 20, 27, 2.0)))
    touching = detect(scene((2, 5, 12, 5, 12, 2.0), (2, 5, 12, 13, 20, 1.5)), max_hidden=1.0)
    assert len(beside) == len(touching) == 2
    assert len(detect(scene((2, 5, 12, 5, 12, 2.0), (2, 5, 12, 13, 20, 2.05)))) == 1


def test_what_is_cut_or_hidden_or_tiny_or_far_is_left_out():
    assert detect(scene((2, 0, 9, 5, 12, 2.0))) == ()
    assert detect(scene((2, 10, 11, 5, 6, 2.0))) == ()
    assert detect(scene((2, 10, 19, 5, 12, 2.0)), max_range=1.5) == ()
    hidden = scene((2, 10, 19, 5, 20, 3.0), (1, 5, 25, 13, 30, 1.0))
    assert detect(hidden) == () and len(detect(hidden, max_hidden=1.0)) == 1


def test_only_the_wanted_labels_are_objects():
    frame = scene((2, 10, 19, 5, 12, 2.0), (3, 10, 19, 25, 32, 2.0))
    assert [LABELS.name(d.label) for d in detect(frame)] == ["cup", "chair"]
    assert SemanticDetector(DetectorConfig(labels=("wall",)))(frame, LABELS) == ()


def test_without_depth_or_labels_there_is_nothing_to_find():
    frame = scene((2, 10, 19, 5, 12, 2.0))
    assert detect(CameraFrame("head", depth=frame.depth)) == ()
    assert detect(CameraFrame("head", semantic=frame.semantic)) == ()


def test_pixels_without_a_reading_belong_to_nothing():
    frame = scene((2, 10, 19, 5, 12, 2.0))
    frame.depth.data[12:14, 6:9] = (0.0, np.nan, np.inf)
    (cup,) = detect(frame)
    assert np.isfinite(cup.position).all() and np.isfinite(cup.covariance).all()
    label = np.array([[2, 2, 0, 2]])
    assert connected_pixels(label, np.ones((1, 4), np.float32), 0.1).tolist() == [[1, 1, 0, 2]]


def test_bad_settings_are_refused_in_one_line():
    with pytest.raises(ConfigError, match="min_pixels must be at least 1"):
        DetectorConfig(min_pixels=0)
    with pytest.raises(ConfigError, match="score must be in"):
        DetectorConfig(score=0.0)
