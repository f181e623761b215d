"""Trust measured: how many of the best answers are poisoned records, and what defending costs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.geometry import Pose
from embodied_mem.memory import Memory, MemoryConfig, RecallConfig
from embodied_mem.memory.episodes.entries import Episode
from embodied_mem.memory.episodes.vectors import quantise
from embodied_mem.types import NS_PER_S, Query

RECORDS, POISONED, QUERIES = 1000, 10, 100
DIMENSIONS = 128
THINGS = ("mug", "book", "key", "lamp", "plant", "shoe", "phone", "bottle", "ball", "towel")
COLORS = ("red", "blue", "green", "white", "black", "yellow", "grey", "brown", "pink", "orange")
SPOTS = tuple(
    f"{furniture} {room}"
    for room in ("kitchen", "bedroom", "bathroom", "hall", "office")
    for furniture in ("table", "shelf", "floor", "chair", "bed", "desk")
)


def bench_trust(seed: int = 0) -> dict[str, Any]:
    """Asks a memory of 1,000 records, 10 of them poisoned, with and without consensus.

    There are 100 facts ("the red mug is on the kitchen table"), each remembered about ten times in
    other words and from other views, and as many queries, each a noisy view of a fact. A poisoned
    record copies the embedding of a query that will be asked (closer to it than any honest record
    is), tells a false place, and has the same source and trust as the honest ones.

    Returns:
        by how the attack is spread (`one_per_query`: ten queries with one poisoned record each;
        `three_per_query`: three queries with three or four that tell the same lie, at random times):
        `poison_in_top5` (share of the answers to the attacked queries, and of all answers), and
        `true_recall` (share of the five answers that tell the fact), each without and with consensus,
        beside the same memory without poison.
    """
    return {name: _bench(seed, lies) for name, lies in (("one_per_query", 1), ("three_per_query", 3))}


def _bench(seed: int, lies: int) -> dict[str, Any]:
    report: dict[str, Any] = {"records": RECORDS, "poisoned": POISONED, "queries": QUERIES}
    for name, poisoned, consensus in (
        ("clean_undefended", False, False),
        ("clean", False, True),
        ("undefended", True, False),
        ("defended", True, True),
    ):
        report[name] = _ask(_Town(seed, lies if poisoned else 0), consensus)
    report["true_recall_lost"] = report["clean_undefended"]["true_recall"] - report["defended"]["true_recall"]
    return report


class _Town:
    """Facts, honest and poisoned records, and queries.

    Attributes:
        records: (embedding, text, fact or -1 for poison), in the order of their writing.
        queries: (QUERIES, D) float64 embeddings; query i is about fact i.
        attacked: which facts are lied about.
    """

    def __init__(self, seed: int, lies: int) -> None:
        rng = np.random.default_rng(seed)
        centers = rng.normal(size=(QUERIES, DIMENSIONS))
        self.queries = centers + 0.35 * rng.normal(size=centers.shape)
        things = [f"{color} {thing}" for color in COLORS for thing in THINGS]
        spots = rng.integers(0, len(SPOTS), QUERIES)
        honest = RECORDS - (POISONED if lies else 0)
        self.records: list[tuple[NDArray[np.float64], str, int]] = []
        for i in range(honest):
            fact = i % QUERIES
            view = centers[fact] + 0.45 * rng.normal(size=DIMENSIONS)
            self.records.append((view, _said(things[fact], SPOTS[spots[fact]], rng), fact))
        self.attacked = [int(f) for f in rng.permutation(QUERIES)[: -(-POISONED // lies)]] if lies else []
        for i in range(POISONED if lies else 0):
            fact = self.attacked[i // lies]
            lie = SPOTS[(int(spots[fact]) + 7 + i // lies) % len(SPOTS)]
            view = self.queries[fact] + 0.05 * rng.normal(size=DIMENSIONS)
            self.records.append((view, _said(things[fact], lie, rng), -1))
        self.records = [self.records[i] for i in rng.permutation(len(self.records)).tolist()]


def _said(thing: str, spot: str, rng: np.random.Generator) -> str:
    furniture, room = spot.split()
    forms = (
        f"the {thing} is on the {furniture} in the {room}",
        f"saw the {thing} on the {room} {furniture}",
        f"{thing}: {furniture}, {room}",
        f"there is a {thing} in the {room}, on the {furniture}",
        f"noticed the {thing} in the {room} near the {furniture}",
    )
    return forms[int(rng.integers(0, len(forms)))]


def _ask(town: _Town, consensus: bool) -> dict[str, float]:
    memory = Memory(MemoryConfig(recall=RecallConfig(consensus=consensus)))
    for i, (view, text, _) in enumerate(town.records):
        memory.episodes.add(
            Episode(
                id=i, stamp=i * NS_PER_S, step=i, pose=Pose(np.array([i % 30, i // 30, 0.0])),
                embedding=quantise(view), text=text, source="camera",
            )
        )  # fmt: skip
    lies = np.zeros(QUERIES)
    true = np.zeros(QUERIES)
    for fact, view in enumerate(town.queries):
        told = [town.records[a.id][2] for a in memory.recall(Query(kind="episode", like=view, k=5))]
        lies[fact] = told.count(-1) / 5
        true[fact] = told.count(fact) / 5
    attacked = float(lies[town.attacked].mean()) if town.attacked else 0.0
    return {
        "poison_in_top5": attacked,
        "poison_in_top5_of_all": float(lies.mean()),
        "true_recall": float(true.mean()),
    }
