"""What a policy can point at: frontiers, objects and places among the memory tokens; or it looks around."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import ConfigError
from embodied_mem.memory import ReadConfig
from embodied_mem.sim.memory_wrapper import FAR, flat_tokens, read_spaces
from embodied_mem.types import TOKEN_KINDS, MemoryTokens, Observation

LONG = 3600.0
"""What was not seen, or visited, for so long may be otherwise by now [s]."""

READ = ReadConfig(
    tokens=64,
    frontiers=16,
    objects=28,  # what stands about tells what kind of room lies behind a frontier
    places=4,
    rooms=4,
    episodes=4,
    goals=8,
    stale=LONG,
    reach=1.5,
    crops=(4.8, 19.2),
    crop_pixels=24,
)
"""What a pointing policy reads."""

CANDIDATES = READ.frontiers + READ.objects + READ.places + READ.goals
"""The first tokens, as `arranged` puts them: frontiers, objects, places, cubes with the goal's label."""
LOOK = CANDIDATES
"""The choice beside the candidates: turn around on the spot."""

OUTCOMES = ("none", "reached", "spent", "interrupted", "gone", "found")
"""How the last errand ended; "none" at the beginning."""

PARTS = ("memory_tokens", "octree", "objects")
"""What an ablation can hide from a policy."""

CELL, OBJECT = TOKEN_KINDS.index("cell"), TOKEN_KINDS.index("object")
SOLID = 0.9
"""Confidence of cubes of the map that are no leftovers: of four voxels and more."""


def arranged(tokens: MemoryTokens) -> MemoryTokens:
    """Returns tokens read with `READ` in another order: what can be pointed at comes first."""
    before = READ.frontiers + READ.objects + READ.places
    others, count = READ.rooms + READ.episodes, READ.tokens
    order = np.r_[0:before, before + others : count, before : before + others]
    columns: dict[str, Any] = {
        field.name: getattr(tokens, field.name)[order]
        for field in fields(tokens)
        if field.name not in ("place_id", "crops")
    }
    return replace(tokens, **columns)


def is_thing(tokens: MemoryTokens) -> NDArray[np.bool_]:
    """Returns (K,) bool: objects, and cubes of the map with the goal's label."""
    return (tokens.kind == OBJECT) | (tokens.feature[:, 0] > 0)


def known_goals(tokens: MemoryTokens, trust: float) -> NDArray[np.bool_]:
    """Returns (K,) bool: what the goal names and is likely to be there.

    Args:
        tokens: what the memory gave.
        trust: objects less likely to exist are left out; cubes with a few voxels of the goal's label are
            too: these are left over where something was mistaken for it once.
    """
    likely = tokens.confidence >= np.where(tokens.kind == OBJECT, trust, SOLID)
    return tokens.mask & (tokens.feature[:, 0] > 0) & likely


def candidate_mask(tokens: MemoryTokens) -> NDArray[np.bool_]:
    """Returns (CANDIDATES + 1,) bool: what can be chosen; a look around always can."""
    mask = np.ones(CANDIDATES + 1, bool)
    mask[:CANDIDATES] = tokens.mask[:CANDIDATES] & np.isfinite(tokens.path_distance[:CANDIDATES])
    return mask


def without(tokens: MemoryTokens, hidden: Collection[str]) -> MemoryTokens:
    """Returns tokens without what is hidden; the candidates' geometry is told apart from them.

    Args:
        tokens: what the memory gave.
        hidden: of `PARTS`: "memory_tokens" hides every token, "octree" the pictures of the map, and
            "objects" what is known of things, as tokens, as candidates and in the pictures.

    Raises:
        ConfigError: there is no such part.
    """
    for part in hidden:
        if part not in PARTS:
            raise ConfigError(f'no part "{part}" to leave out; there are: {", ".join(PARTS)}')
    mask, crops = tokens.mask, tokens.crops
    if "objects" in hidden:
        mask = mask & ~is_thing(tokens)
        if crops is not None:
            crops = crops.copy()
            crops[4::5] = 0
    if "octree" in hidden and crops is not None:
        crops = np.zeros_like(crops)
    return replace(tokens, mask=mask, crops=crops)


def hide(observations: Mapping[str, NDArray[Any]], hidden: Collection[str]) -> dict[str, NDArray[Any]]:
    """Returns decisions without what is hidden, as `without` hides it from `decision_observation`.

    So that who learns without a part learns from the very decisions of who learns with it.

    Args:
        observations: of one decision, or (..., by key) of many.
        hidden: of `PARTS`.
    """
    found = dict(observations)
    if "objects" in hidden:
        is_thing = (found["mem_kind"] == OBJECT) | (found["mem_feature"][..., 0] > 0)
        found["mem_mask"] = found["mem_mask"] * ~is_thing
        offered = found["cand_mask"].copy()
        offered[..., :CANDIDATES] *= ~is_thing[..., :CANDIDATES]
        found["cand_mask"] = offered
        found["mem_crops"] = found["mem_crops"].copy()
        found["mem_crops"][..., 4::5, :, :] = 0
    if "octree" in hidden:
        found["mem_crops"] = np.zeros_like(found["mem_crops"])
    if "memory_tokens" in hidden:
        found["mem_mask"] = np.zeros_like(found["mem_mask"])
    return found


def decision_space(labels: int, read: ReadConfig = READ) -> gymnasium.spaces.Dict:
    """Returns the space of `decision_observation`.

    Args:
        labels: number of label ids.
        read: what is read of the memory.
    """
    top, box = np.inf, gymnasium.spaces.Box
    spaces: dict[str, gymnasium.spaces.Space[Any]] = {
        "goal": gymnasium.spaces.Discrete(labels),
        "outcome": gymnasium.spaces.Discrete(len(OUTCOMES)),
        "cand_mask": box(0, 1, (CANDIDATES + 1,), np.int8),
        "cand_kind": box(0, len(TOKEN_KINDS) - 1, (CANDIDATES,), np.int64),
        "cand_position": box(-top, top, (CANDIDATES, 3), np.float32),
        "cand_extent": box(0, top, (CANDIDATES, 3), np.float32),
        "cand_path_distance": box(0, FAR, (CANDIDATES,), np.float32),
        "cand_tried": box(0, top, (CANDIDATES + 1,), np.float32),
    }
    return gymnasium.spaces.Dict(spaces | read_spaces(read))


def decision_observation(
    obs: Observation,
    tokens: MemoryTokens,
    offered: NDArray[np.bool_],
    outcome: str,
    hidden: Collection[str] = (),
    tried: NDArray[np.float32] | None = None,
) -> dict[str, Any]:
    """Returns what a policy decides on.

    Args:
        obs: the newest observation; its goal has a label.
        tokens: read with `READ`, and `arranged`.
        offered: (CANDIDATES + 1,) bool, what can be chosen.
        outcome: of `OUTCOMES`.
        hidden: of `PARTS`; see `without`.
        tried: (CANDIDATES + 1,) how often each was chosen before; see `Errands.tried`.
    """
    shown = without(tokens, hidden)
    first, present = slice(CANDIDATES), offered[:CANDIDATES]
    told = {
        "goal": np.int64(0 if obs.goal is None else obs.goal.label),
        "outcome": np.int64(OUTCOMES.index(outcome)),
        "cand_mask": offered.astype(np.int8),
        "cand_kind": np.where(present, shown.kind[first], 0),
        "cand_position": np.where(present[:, None], shown.position[first], np.float32(0.0)),
        "cand_extent": np.where(present[:, None], shown.extent[first], np.float32(0.0)),
        "cand_path_distance": np.where(present, shown.path_distance[first], np.float32(FAR)),
        "cand_tried": np.zeros(CANDIDATES + 1, np.float32) if tried is None else tried * offered,
    }
    # What a sketch of the memory lacks is not shown: it would be noise to who has learned there.
    told_of = (shown.kind == CELL) | (shown.kind == OBJECT)
    shown = replace(shown, mask=shown.mask & told_of & ("memory_tokens" not in hidden))
    return told | flat_tokens(shown)
