"""What the robot sees on its tours, kept on disk; beside it the truth, for the evaluator only."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.perception import DetectorConfig, SemanticDetector
from embodied_mem.sim.house.catalog import HOUSE_LABELS
from embodied_mem.sim.house.house import House, make_house
from embodied_mem.sim.house.mesh import FLOOR_ID
from embodied_mem.sim.house.overnight import Change, change_house
from embodied_mem.sim.house.renderer import Camera, View, scene_of
from embodied_mem.sim.house.robot import camera_mount, noisy_depth
from embodied_mem.sim.mistakes import PoseError
from embodied_mem.sim.survey.config import SurveyConfig
from embodied_mem.sim.survey.tour import tour, with_twins
from embodied_mem.types import CameraFrame, Detection, Image, Intrinsics, Observation

VERSION = 2
"""Of what is recorded; a change of it makes all recordings anew."""
KINDS = ("once", "twice", "changed")
STEP_NS = 500_000_000
PAUSE_NS = 8 * 3600 * 1_000_000_000
"""Between two tours [ns]."""


@dataclass(frozen=True, eq=False)
class Survey:
    """The tours of one house.

    Attributes:
        kind: "once", "twice", or "changed" for a second tour after a night of changes.
        before, after: the house of the first and of the last tour: ground truth.
        changes: what happened overnight: ground truth.
        twins: labels whose things all look alike.
        resumed: stamp of the last tour's first keyframe [ns].
        frames: what is on disk, by name.
    """

    kind: str
    before: House
    after: House
    changes: tuple[Change, ...]
    twins: tuple[str, ...]
    resumed: int
    frames: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.frames["stamp"])

    def sources(self, frame: int) -> NDArray[np.int64]:
        """Returns (D,) ids of the things that a frame's detections show, 0 for none: ground truth."""
        starts = self.frames["detection_start"]
        return self.frames["source"][starts[frame] : starts[frame + 1]]

    def pixels(self, frame: int) -> dict[int, int]:
        """Returns how many pixels things have in a frame: ground truth."""
        rows = self.frames["pixels"]
        rows = rows[rows[:, 0] == frame]
        return dict(zip(rows[:, 1].tolist(), rows[:, 2].tolist()))

    def looks_through(self, frame: int, point: NDArray[np.float64]) -> bool:
        """Whether the true camera of a frame sees well past a point [m] of the house: ground truth."""
        f = self.frames
        mount = camera_mount(float(f["mount"][frame, 0]), float(f["mount"][frame, 1]))
        x, y, z = (Pose.from_list(f["truth"][frame]) @ mount).inverse().transform(point).tolist()
        width, height, fx, fy, cx, cy = f["camera"].tolist()
        if not 0.3 < z < 4.5:
            return False
        u, v = round(x / z * fx + cx), round(y / z * fy + cy)
        if not (0 <= u < width and 0 <= v < height):
            return False
        seen = int(f["depth"][frame, v, u])
        return seen == 65535 or seen / 1000.0 > z + 0.1

    def observations(self) -> Iterator[Observation]:
        """Yields what the robot gets: depth, detections and its pose with error."""
        f = self.frames
        starts, size = f["detection_start"], f["camera"]
        camera = Intrinsics(int(size[0]), int(size[1]), *size[2:].tolist())
        for i in range(len(self)):
            mount = camera_mount(float(f["mount"][i, 0]), float(f["mount"][i, 1]))
            depth = f["depth"][i].astype(np.float32) / 1000.0
            depth[f["depth"][i] == 65535] = np.inf
            yield Observation(
                stamp=int(f["stamp"][i]),
                step=i,
                odom_T_base=Pose.from_list(f["pose"][i]),
                labels=HOUSE_LABELS,
                cameras=(CameraFrame("head", depth=Image(depth, camera, mount)),),
                detections=tuple(self._detection(d) for d in range(int(starts[i]), int(starts[i + 1]))),
                is_first=i == 0 or int(f["stamp"][i]) == self.resumed,
            )

    def _detection(self, d: int) -> Detection:
        f = self.frames
        values = f["detection"][d]
        return Detection(
            label=int(f["label"][d]),
            position=values[:3].copy(),
            extent=values[3:6].copy(),
            covariance=values[6:15].reshape(3, 3).copy(),
            score=float(values[15]),
            yaw=float(values[16]),
            visible=float(values[17]),
            embedding=f["embedding"][d].copy(),
        )


def cache_folder() -> Path:
    """Returns where recordings are kept: `$XDG_CACHE_HOME` or ~/.cache, embodied_mem/survey."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embodied_mem" / "survey"


def survey_house(seed: int, kind: str, config: SurveyConfig, folder: Path | None = None) -> Survey:
    """Returns the tours of a house; they are taken once and then read from the cache.

    Args:
        seed: of the house.
        kind: one of `KINDS`.
        config: of the tours.
        folder: of the cache.
    """
    before, twins = with_twins(make_house(seed), config.twins)
    after = before
    changes: tuple[Change, ...] = ()
    if kind == "changed":
        after, changes = change_house(before, 0, config.night)
        after, _ = with_twins(after, config.twins, twins)
    key = hashlib.sha256(f"{seed} {kind} {config.words()} {VERSION}".encode()).hexdigest()[:20]
    path = (folder or cache_folder()) / f"{key}.npz"
    resumed = 0
    if not path.exists():
        frames = _record([before] if kind == "once" else [before, after], config, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + f".{os.getpid()}.npz")
        np.savez(part, **frames)  # type: ignore[arg-type]
        part.replace(path)
    with np.load(path) as file:
        frames = {name: file[name] for name in file.files}
    if kind != "once":
        resumed = int(frames["stamp"][int(np.argmax(np.diff(frames["stamp"]))) + 1])
    return Survey(kind, before, after, changes, twins, resumed, frames)


def _record(houses: list[House], config: SurveyConfig, seed: int) -> dict[str, NDArray[Any]]:
    """Walks the robot through the houses and returns what it saw, and the truth about it."""
    rng = np.random.default_rng([seed, 5])
    camera = Camera(config.width, config.image_height, config.hfov)
    detector = SemanticDetector(DetectorConfig(labels=config.labels, max_hidden=0.75, whole=False))
    recorder = _Recorder(config, rng)
    stamp = 0
    for number, house in enumerate(houses):
        heading = math.radians(config.yaw_sigma)
        error = PoseError(config.position_sigma, heading, config.error_frames, rng)
        scene = scene_of(house)
        stamp += PAUSE_NS * (number > 0)
        for x, y, heading, tilt in tour(house, config, number):
            truth = Pose.from_xyz_yaw(x, y, 0.0, heading)
            mount = camera_mount(config.camera_height, tilt)
            view = camera.view(scene, truth @ mount, config.max_depth)
            depth = noisy_depth(view.depth, config.noise, rng)
            depth = np.where(np.isfinite(depth), np.round(depth * 1000) / 1000, depth).astype(np.float32)
            frame = CameraFrame(
                "head",
                depth=Image(depth, camera.intrinsics, mount),
                color=Image(view.color, camera.intrinsics, mount),
                semantic=Image(view.label, camera.intrinsics, mount),
            )
            found, masks = detector.with_masks(frame, HOUSE_LABELS, _anonymous(view, config, rng))
            recorder.add(
                stamp, truth, error.step(truth), (config.camera_height, tilt), view, depth, found, masks
            )
            stamp += STEP_NS
    k = camera.intrinsics
    half = [k.width // 2, k.height // 2, k.fx / 2, k.fy / 2, k.cx / 2, k.cy / 2]
    return recorder.arrays(np.array(half))


def _anonymous(view: View, config: SurveyConfig, rng: np.random.Generator) -> NDArray[np.int64] | None:
    """Returns masks of things numbered anew in every image, as a segmentation network gives them."""
    if config.masks == "labels":
        return None
    prime = 2**31 - 1
    return (view.instance.astype(np.int64) * int(rng.integers(1, prime)) + int(rng.integers(prime))) % prime


class _Recorder:
    """Collects frames, with the mistakes of the detector."""

    def __init__(self, config: SurveyConfig, rng: np.random.Generator) -> None:
        self.config, self.rng = config, rng
        self.rows: dict[str, list[Any]] = {}
        self.starts = [0]
        self.number = 0
        self._ids = [HOUSE_LABELS.id(name) for name in config.labels]

    def add(
        self,
        stamp: int,
        truth: Pose,
        pose: Pose,
        mount: tuple[float, float],
        view: View,
        depth: NDArray[np.float32],
        found: tuple[Detection, ...],
        masks: NDArray[np.int64],
    ) -> None:
        """Adds a keyframe; every second pixel of every second row of the depth is kept."""
        small = depth[::2, ::2]
        coded = np.where(np.isfinite(small), np.clip(np.round(small * 1000), 0, 65534), 65535)
        values = {
            "stamp": stamp,
            "truth": truth.to_list(),
            "pose": pose.to_list(),
            "mount": mount,
            "depth": coded.astype(np.uint16),
        }
        for name, value in values.items():
            self.rows.setdefault(name, []).append(value)
        kept = 0
        for i, detection in enumerate(found):
            if self.rng.random() < self.config.missed:
                continue
            label = detection.label
            if self.rng.random() < self.config.label_noise:
                label = int(self.rng.choice([j for j in self._ids if j != label]))
            ids, counts = np.unique(view.instance[masks == i + 1], return_counts=True)
            source = int(ids[np.argmax(counts)])
            self._put(dataclasses.replace(detection, label=label), source)
            kept += 1
        for _ in range(int(self.rng.binomial(max(kept, 1), self.config.hallucinated))):
            self._put(self._nothing(), 0)
            kept += 1
        self.starts.append(self.starts[-1] + kept)
        ids, counts = np.unique(view.instance[view.depth <= 5.0], return_counts=True)
        rows = [(self.number, int(i), int(c)) for i, c in zip(ids, counts) if 0 < i < FLOOR_ID]
        self.rows.setdefault("pixels", []).extend(rows)
        self.number += 1

    def _nothing(self) -> Detection:
        """Draws a detection of something that is not there."""
        away, bearing = self.rng.uniform(1.0, 4.0), self.rng.uniform(-0.6, 0.6)
        extent = self.rng.uniform(0.1, 0.6, 3)
        return Detection(
            label=int(self.rng.choice(self._ids)),
            position=np.array([away * np.cos(bearing), away * np.sin(bearing), self.rng.uniform(0.0, 1.5)]),
            extent=extent,
            covariance=np.diag((0.03 + 0.15 * extent) ** 2),
            score=float(self.rng.uniform(0.3, 0.9)),
            embedding=self.rng.random(48).astype(np.float32),
        )

    def _put(self, d: Detection, source: int) -> None:
        assert d.embedding is not None
        values = [*d.position, *d.extent, *d.covariance.ravel(), d.score, d.yaw, d.visible]
        for name, value in (
            ("detection", values),
            ("label", d.label),
            ("embedding", d.embedding),
            ("source", source),
        ):
            self.rows.setdefault(name, []).append(value)

    def arrays(self, camera: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        """Returns everything, as arrays by name."""
        types = {"stamp": np.int64, "label": np.int64, "source": np.int64, "pixels": np.int64}
        result = {n: np.array(v, types.get(n)) for n, v in self.rows.items()}
        result["detection_start"] = np.array(self.starts, np.int64)
        result["camera"] = camera
        return result
