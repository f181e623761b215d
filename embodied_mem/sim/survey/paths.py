"""How good the ways on the graph of places are."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory import Memory
from embodied_mem.sim.house.house import House

PAIRS = 20
"""Ways compared per house."""
PITCH = 0.05
"""Ways are looked at so densely [m]."""
SLACK = 0.1
"""Ways may come this much nearer to things than the robot's radius: the map's error [m]."""


@dataclass
class PathScore:
    """Adds up over houses.

    Attributes:
        ratios: lengths of ways over those of the shortest ways in the true house, along the edges of the
            graph.
        tight: the same of these ways drawn tight.
        missing: ways that the graph does not have.
        edges, collisions: edges, and those that hit something in the true house.
    """

    ratios: list[float] = field(default_factory=list)
    tight: list[float] = field(default_factory=list)
    missing: int = 0
    edges: int = 0
    collisions: int = 0

    def report(self) -> dict[str, Any]:
        """Returns the figures by name."""
        ratios = np.array(self.ratios) if self.ratios else np.array([math.nan])
        tight = np.array(self.tight) if self.tight else np.array([math.nan])
        return {
            "median_ratio": float(np.median(ratios)),
            "p90_ratio": float(np.quantile(ratios, 0.9)),
            "within_10_percent": float((ratios <= 1.1).mean()),
            "tight_median_ratio": float(np.median(tight)),
            "tight_p90_ratio": float(np.quantile(tight, 0.9)),
            "missing": self.missing,
            "edges": self.edges,
            "collisions": self.collisions,
        }


def score_paths(score: PathScore, house: House, memory: Memory) -> None:
    """Compares ways between places with the house's own shortest ways, and walks every edge."""
    scene, plan = memory.scene, house.floor_plan
    places = {p.id: p for p in scene.places()}
    lengths = {(a, b): length for a, b, length in scene.edges()}
    inside = [i for i, p in places.items() if plan.main_part[plan.cell_of(p.position[:2])]]
    rng = np.random.default_rng(house.seed)
    for _ in range(PAIRS if len(inside) > 1 else 0):
        a, b = (int(i) for i in rng.choice(inside, 2, replace=False))
        true = plan.geodesic(places[a].position[:2], places[b].position[:2])
        if not (math.isfinite(true) and true > 2.0):
            continue
        way = scene.path(a, b)
        if not way:
            score.missing += 1
            continue
        length = sum(lengths[min(p, q), max(p, q)] for p, q in itertools.pairwise(way))
        score.ratios.append(length / true)
        steps = np.diff(scene.place_table.trace(way), axis=0)
        score.tight.append(float(np.sqrt((steps**2).sum(axis=1)).sum()) / true)
    for a, b in lengths:
        route = _sampled(scene.place_table.trace([a, b]))
        score.edges += 1
        score.collisions += bool((plan.clearance(route[:, :2]) < plan.radius - SLACK).any())


def _sampled(way: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (N, 3) float64 points [m] at most `PITCH` apart along a way."""
    parts = [
        a + np.linspace(0.0, 1.0, math.ceil(float(np.linalg.norm(b - a)) / PITCH) + 1)[:, None] * (b - a)
        for a, b in itertools.pairwise(way)
    ]
    return np.concatenate([way[:1], *parts])
