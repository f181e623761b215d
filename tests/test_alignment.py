"""Alignment: frames are laid onto the surfaces that are known, and the map stays in the localiser's frame."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from embodied_mem.errors import ConfigError
from embodied_mem.geometry import Pose
from embodied_mem.memory import GateConfig, Memory, MemoryConfig, OctreeConfig, SceneConfig
from embodied_mem.memory.scene.graph import SceneGraph
from embodied_mem.types import Percept, Scan

SECOND = 1_000_000_000
CONFIG = SceneConfig(align_sigma=0.05, align_yaw=math.radians(1.0), align_frames=50.0)
SIZE = (5.0, 4.0)
"""Of the room, whose corner is the origin [m]."""


def look(x: float, y: float, yaw: float) -> Scan:
    """What a depth camera at 0.9 m sees of the room's walls, and of a cabinet in it."""
    turn, up = np.meshgrid(np.linspace(-0.65, 0.65, 60), np.linspace(-0.3, 0.3, 25))
    turn = turn.ravel() + yaw
    boxes = [(0.0, 0.0, *SIZE, 1.0), (2.0, 1.5, 2.6, 2.1, -1.0)]  # seen from within, from outside
    far = np.full(turn.shape, 1e3)
    for x0, y0, x1, y1, side in boxes:
        with np.errstate(divide="ignore"):
            tx = np.sort([(x0 - x) / np.cos(turn), (x1 - x) / np.cos(turn)], axis=0)
            ty = np.sort([(y0 - y) / np.sin(turn), (y1 - y) / np.sin(turn)], axis=0)
        enter, leave = np.maximum(tx[0], ty[0]), np.minimum(tx[1], ty[1])
        far = np.where(
            side > 0,
            np.minimum(far, leave),
            np.where((enter < leave) & (enter > 0), np.minimum(far, enter), far),
        )
    local = turn - yaw
    points = np.stack([far * np.cos(local), far * np.sin(local), 0.9 + far * np.tan(up.ravel())], axis=1)
    return Scan(
        points.astype(np.float32),
        np.ones(len(points), bool),
        np.zeros(len(points), np.int32),
        np.array([0, 0, 0.9]),
    )


def walk(count: int, error: np.ndarray, first: int = 0) -> list[Percept]:
    """Percepts of a robot that turns on the spot and goes to and fro; `error` (count, 3) is in its poses."""
    percepts = []
    for i in range(first, first + count):
        x, y, yaw = 1.2 + 0.5 * math.sin(0.1 * i), 1.0 + 0.2 * math.cos(0.07 * i), 0.3 * i
        dx, dy, turn = error[i - first].tolist()
        pose = Pose.from_xyz_yaw(x + dx, y + dy, 0.0, yaw + turn)
        percepts.append(Percept((i + 1) * SECOND, i, pose, scans=(look(x, y, yaw),), is_first=i == 0))
    return percepts


def errors_of(percepts: list[Percept]) -> np.ndarray:
    """(N, 3) errors of the poses in x, y [m] and heading [rad]."""
    truth = walk(len(percepts), np.zeros((len(percepts), 3)), percepts[0].step)
    rows = [
        (*(p.map_T_base.position - t.map_T_base.position)[:2], p.map_T_base.yaw - t.map_T_base.yaw)
        for p, t in zip(percepts, truth)
    ]
    found = np.array(rows)
    found[:, 2] = (found[:, 2] + math.pi) % (2 * math.pi) - math.pi
    return found


def swaying(count: int, first: int = 0) -> np.ndarray:
    """(count, 3) errors of a localiser that vary slowly, by some centimetres and a degree."""
    t = np.arange(first, first + count)[:, None] * 2 * math.pi
    return np.sin(t / np.array([90.0, 130.0, 110.0])) * np.array([0.06, 0.05, math.radians(1.2)])


def test_a_slowly_varying_error_is_mostly_taken_out() -> None:
    """Against the map of a first tour without error."""
    left = []
    for hold in (0.0, 0.3):
        scene = SceneGraph(dataclasses.replace(CONFIG, align_hold=hold))
        for percept in walk(120, np.zeros((120, 3))):
            scene.align(percept)
        found = errors_of([scene.align(p) for p in walk(220, swaying(220), 120)])
        left.append(np.sqrt((found**2).mean(axis=0)))
    raw = np.sqrt((swaying(220) ** 2).mean(axis=0))
    assert (left[0] < 0.5 * raw).all() and (left[0][:2] < 0.02).all()
    assert (left[1] < 0.7 * raw).all()  # a part is left in
    assert (left[1][:2] > left[0][:2]).all()


def test_the_map_stays_in_the_frame_of_the_poses() -> None:
    """An error that lasts is, with time, the map's own: it is not taken out for ever."""
    lasting = np.tile([0.08, -0.06, 0.0], (300, 1))
    last = []
    for hold in (0.0, 0.3):
        scene = SceneGraph(dataclasses.replace(CONFIG, align_hold=hold))
        for percept in walk(60, np.zeros((60, 3))):
            scene.align(percept)
        last.append(errors_of([scene.align(p) for p in walk(300, lasting, 60)])[-50:, :2].mean(axis=0))
    assert (np.abs(last[1]) > 0.25 * np.abs(lasting[0, :2])).all()
    assert (np.abs(last[1]) > np.abs(last[0])).all()


def test_good_poses_stay_good() -> None:
    scene = SceneGraph(CONFIG)
    left = errors_of([scene.align(p) for p in walk(80, np.zeros((80, 3)))])
    assert np.abs(left[:, :2]).max() < 0.015 and np.abs(left[:, 2]).max() < math.radians(0.3)


def test_what_is_new_in_the_room_pulls_no_pose_away() -> None:
    scene = SceneGraph(CONFIG)
    for percept in walk(60, np.zeros((60, 3))):
        scene.align(percept)
    fooled = []
    for percept in walk(20, np.zeros((20, 3)), 60):
        scan = percept.scans[0]
        points = scan.points.copy()
        near = np.flatnonzero(points[:, 2] < 0.6)  # something low now stands 20 cm before everything
        points[near, :2] *= 1.0 - 0.2 / np.linalg.norm(points[near, :2], axis=1)[:, None]
        fooled.append(
            scene.align(dataclasses.replace(percept, scans=(dataclasses.replace(scan, points=points),)))
        )
    assert np.abs(errors_of(fooled)[:, :2]).max() < 0.02


def test_without_being_asked_for_and_without_scans_poses_are_taken_as_they_are() -> None:
    percept = walk(1, np.full((1, 3), 0.03))[0]
    assert SceneGraph(SceneConfig()).align(percept) is percept
    bare = dataclasses.replace(percept, scans=())
    assert SceneGraph(CONFIG).align(bare) is bare
    for name, value in (
        ("align_sigma", -0.1),
        ("align_yaw", 0.0),
        ("align_frames", 0.0),
        ("align_hold", 1.5),
    ):
        with pytest.raises(ConfigError, match=name):
            SceneConfig(**{name: value})


def test_a_memory_that_was_closed_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    gate = GateConfig(relocalize=False)
    config = MemoryConfig(octree=OctreeConfig(resolution=0.1), scene=CONFIG, gate=gate)
    rng = np.random.default_rng(0)
    error = np.cumsum(rng.normal(0.0, (0.01, 0.01, 0.002), (40, 3)), axis=0)
    percepts = walk(40, error)
    whole, path = Memory(config), tmp_path / "home.emem"
    for percept in percepts:
        whole.write(percept)
    for part in (percepts[:25], percepts[25:]):
        with Memory.open(path, config) as memory:
            for percept in part:
                assert memory.write(percept).verdict == "accepted"
            digest, pose = memory.digest(), memory.map_T_base
    assert digest == whole.digest()
    assert np.abs(pose.position - percepts[-1].map_T_base.position).max() > 1e-3  # it was aligned
    plain = Memory(dataclasses.replace(config, scene=SceneConfig()))
    for percept in percepts:
        plain.write(percept)
    assert plain.digest() != whole.digest()


def test_a_correction_of_the_past_lets_go_of_the_surfaces() -> None:
    memory = Memory(MemoryConfig(octree=OctreeConfig(resolution=0.1), scene=CONFIG))
    for percept in walk(10, np.zeros((10, 3))):
        memory.write(percept)
    assert len(memory.scene.alignment.blocks())
    memory.correct({10 * SECOND: Pose.from_xyz_yaw(3.0, 0.0, 0.0, 0.0)})
    assert not len(memory.scene.alignment.blocks())
    rows = {kind for kind, _, payload in memory.scene.export_rows() if payload}
    assert "surface" not in rows
