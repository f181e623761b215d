"""Lets scene graphs remember a survey, several side by side, and scores them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from embodied_mem.memory import Memory
from embodied_mem.memory.scene.config import SceneConfig
from embodied_mem.memory.scene.graph import SceneGraph
from embodied_mem.perception import Perception
from embodied_mem.sim.survey.config import SurveyConfig
from embodied_mem.sim.survey.recording import Survey
from embodied_mem.sim.survey.score import Score, room_ious, score_identity, score_objects
from embodied_mem.sim.survey.score_changes import score_changes


def run_survey(
    survey: Survey, config: SurveyConfig, variants: Mapping[str, Any], watch: list[float] | None = None
) -> tuple[Memory, dict[str, Score]]:
    """Writes a survey into a memory and, beside its scene graph, into other graphs.

    Args:
        survey: the tours.
        config: of the survey.
        variants: name -> a fresh object with SceneGraph's `update`, `objects` and `changes`.
        watch: gets the seconds that each update of the memory's scene graph took.

    Returns:
        the memory, and scores by name; "memory" is the memory's own graph.
    """
    memory, perceive = Memory(config.memory()), Perception(config.perception())
    tracks: dict[str, list[tuple[int, ...]]] = {name: [] for name in ("memory", *variants)}
    times = [] if watch is None else watch
    kept = updates = 0
    truth_last: dict[int, int] = {}
    for obs in survey.observations():
        percept = perceive(obs)
        changes = _write(memory, percept, times)
        tracks["memory"].append(changes.seen_objects)
        for name, graph in variants.items():
            own = graph.align(percept) if isinstance(graph, SceneGraph) else percept
            tracks[name].append(graph.update(own, memory.octree, None).seen_objects)
        pose = percept.map_T_base.position
        where = survey.before.layout.room_at(float(pose[0]), float(pose[1]))
        room = memory.scene.room_at(pose)
        if where >= 0 and room >= 0:
            updates += where in truth_last
            kept += truth_last.get(where) == room
            truth_last[where] = room
    scores = {}
    for name, graph in (("memory", memory.scene), *variants.items()):
        score = scores[name] = Score()
        score_objects(score, survey, graph.objects())
        aliases = graph.aliases
        score_identity(score, survey, [[aliases.get(i, i) for i in ids] for ids in tracks[name]])
        if survey.resumed:
            score_changes(score, survey, graph.changes(survey.resumed - 1))
    scores["memory"].ious = room_ious(survey.after, memory.scene.room_at)
    scores["memory"].room_updates, scores["memory"].room_kept = updates, kept
    return memory, scores


def _write(memory: Memory, percept: Any, times: list[float]) -> Any:
    """Writes a percept and returns what it changed in the scene graph; notes how long that took [s]."""
    found: list[Any] = []
    parts: list[float] = []

    def watched(inner: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            start = time.perf_counter()
            found.append(inner(*args))
            parts.append(time.perf_counter() - start)
            return found[-1]

        return timed

    memory.scene.align = watched(memory.scene.align)  # type: ignore
    memory.scene.update = watched(memory.scene.update)  # type: ignore
    try:
        receipt = memory.write(percept)
    finally:
        del memory.scene.align, memory.scene.update
    assert receipt.verdict == "accepted", receipt.reason
    times.append(sum(parts))
    return found[-1]


def graph_variants(config: SceneConfig) -> dict[str, SceneGraph]:
    """Returns scene graphs with one idea less each, for the ablation."""
    less: dict[str, dict[str, Any]] = {
        "no alignment": {"align_sigma": 0.0},
        "greedy": {"assignment": "greedy"},
        "no negative evidence": {"negative_evidence": False, "moves": False},
        "no moves": {"moves": False},
        "no merging": {"merging": False},
        "labels are certain": {"label_noise": 0.0},
        "no embeddings": {"embeddings": False, "least_likeness": 0.0},
        "every look counts": {"viewpoint": 0.0},
        "time does not count": {"persistence": 0.0},
    }
    return {name: SceneGraph(dataclasses.replace(config, **change)) for name, change in less.items()}
