"""Perception of whatever an observation holds."""

from __future__ import annotations

import dataclasses

from embodied_mem.perception.body import Body
from embodied_mem.perception.config import PerceptionConfig
from embodied_mem.perception.grid import GridPerception
from embodied_mem.perception.labels import join_labels, relabel_detections, relabel_scans
from embodied_mem.perception.rgbd import RgbdPerception
from embodied_mem.types import Observation, Percept


class Perception:
    """Turns an `Observation` into a `Percept`: a grid view, cameras, or both.

    It keeps the previous grid view (see `GridPerception`), so every run needs its own.

    Args:
        config: settings.
    """

    def __init__(self, config: PerceptionConfig | None = None) -> None:
        self.config = config or PerceptionConfig()
        self.grid = GridPerception()
        self.rgbd = RgbdPerception(
            self.config.depth,
            self.config.snapshot,
            self.config.detector,
            self.config.markers,
            self.config.onnx,
            self.config.embedder,
            self.config.boxes,
            self.config.cloud,
        )
        self.body = Body(self.config.body)

    def __call__(self, obs: Observation) -> Percept:
        """Perceives one observation.

        Raises:
            InputError: the observation contradicts itself; one line that says how.
        """
        if obs.grid is None:
            return self.body.without(self.rgbd(obs))
        if not obs.cameras:
            return self.grid(obs)
        return _joined(self.grid(dataclasses.replace(obs, detections=())), self.rgbd(obs))


def _joined(grid: Percept, rgbd: Percept) -> Percept:
    labels, table = join_labels(grid.labels, rgbd.labels)
    return dataclasses.replace(
        grid,
        labels=labels,
        scans=(*grid.scans, *relabel_scans(rgbd.scans, table)),
        detections=(*grid.detections, *relabel_detections(rgbd.detections, table)),
        snapshot=rgbd.snapshot,
        embedding=rgbd.embedding,
        embedder=rgbd.embedder,
        source=f"{grid.source}+{rgbd.source}",
    )
