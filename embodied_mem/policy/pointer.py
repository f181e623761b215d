"""Pointing: a masked choice among candidates that the observation describes (Vinyals et al., 2015).

Where things may be and how far it is there are kept apart: the network learns where the goal is to be
expected, and the nearest of what is worth looking at comes first. A searcher that looks into boxes one after
another does best by probability over cost (Blackwell; see also Stein et al., 2018, on frontiers).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from embodied_mem.errors import ConfigError
from embodied_mem.policy.reader import TokenEncoder, encode_position, has_tokens
from embodied_mem.policy.surroundings import MapAround, ThingsAround, can_see_around
from embodied_mem.types import TOKEN_KINDS

CANDIDATE_KEYS = (
    "cand_mask", "cand_kind", "cand_position", "cand_extent", "cand_path_distance", "cand_tried",
)  # fmt: skip
"""Observation keys that describe candidates, (C, ...) each; mask and tries have one entry more for the choice
that is no candidate. Memory tokens, where there are any, describe the same candidates in the same order."""

IMPOSSIBLE = -1e9
"""Score of what cannot be chosen."""
CELL = TOKEN_KINDS.index("cell")
TRUST = 0.5
"""Things less likely to be there are no known goals."""
SOLID = 0.9
"""Nor are parts of the map with fewer voxels of the goal's label than make them as sure as this."""
SMALL = 0.3
"""Narrower frontiers are mere corners behind things [m]."""
KNOWN, NARROW, ASIDE, AGAIN = 5.0, -2.0, -6.0, -3.0
"""What the network starts from, before it has learned anything: known goals are worth going to, corners and
what is no frontier can wait, the more so the oftener it was tried."""
THRIFT, LOOKOUT = 1.0, 1.3
"""Chosen by validation, among few."""
SLACK = 1.0
"""Ways count from this far on [m]: what is at hand costs a little too."""


class PointerHead(nn.Module):
    """Scores candidates by where the goal may be, and by how far it is there.

    The score is the logarithm of the probability that the network expects, less `thrift` times that of the
    way. An untrained network expects the same of all frontiers: it goes to the known goal, else to the
    nearest frontier. Before it goes far for little it looks around: `lookout` says what is little.

    Args:
        space: observations with `CANDIDATE_KEYS`.
        width: size d of the policy's features.
        labels: size of the table of label embeddings.

    Raises:
        ConfigError: a key is missing.
    """

    thrift: Tensor
    lookout: Tensor

    def __init__(self, space: spaces.Dict, width: int, labels: int) -> None:
        super().__init__()
        for key in CANDIDATE_KEYS:
            if key not in space.spaces:
                raise ConfigError(f'the observation has "cand_mask" but no "{key}": give all keys')
        self.count = int(space["cand_kind"].shape[0])  # type: ignore[index]
        self.labels = labels
        self.geometry = nn.Linear(22 + 3 + 5 + len(TOKEN_KINDS), width)
        self.tokens = TokenEncoder(space, width, labels) if has_tokens(space) else None
        self.map = MapAround() if can_see_around(space) else None
        self.things = ThingsAround(labels) if can_see_around(space) else None
        self.around = nn.Linear(MapAround.size + ThingsAround.size, width)
        self.goal = nn.Embedding(labels, width)
        self.known = nn.Linear(width, width)
        self.score = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        self.other = nn.Linear(width, 1)
        for last in (self.score[-1], self.other):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.register_buffer("thrift", torch.tensor(THRIFT))
        self.register_buffer("lookout", torch.tensor(LOOKOUT))

    def forward(self, h: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Returns scores (B, C + 1), `IMPOSSIBLE` where the mask is 0.

        Args:
            h: (B, d) features.
            obs: the observations (B, ...) that they were made from.
        """
        offered = obs["cand_mask"] > 0.5
        way = torch.log(obs["cand_path_distance"].float().clamp(0.0, 100.0) + SLACK)
        expected = self.expect(h, obs).masked_fill(~offered[:, :-1], IMPOSSIBLE).log_softmax(-1)
        is_known = self._frontiers_and_goals(obs)[1].any(-1)
        look = (
            self.other(h)[:, 0] - self.lookout + ASIDE * is_known + AGAIN * obs["cand_tried"][:, -1].float()
        )
        scores = torch.cat([expected - self.thrift * way, look[:, None]], dim=1)
        return scores.masked_fill(~offered, IMPOSSIBLE)

    def expect(self, h: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Returns (B, C) log-odds of the goal being at, or behind, each candidate."""
        position, path = obs["cand_position"].float(), obs["cand_path_distance"].float()  # (B, C, 3), (B, C)
        kind = F.one_hot(obs["cand_kind"].long().clamp(0, len(TOKEN_KINDS) - 1), len(TOKEN_KINDS))
        is_frontier, is_goal = self._frontiers_and_goals(obs)
        nearest = torch.where(is_frontier, path, 100.0).amin(-1, keepdim=True)
        tried = obs["cand_tried"].float()
        columns = [
            encode_position(position),
            torch.log1p(obs["cand_extent"].float().clamp(min=0.0)),
            torch.log1p(path.clamp(0.0, 100.0))[..., None],
            torch.log1p((path - nearest).clamp(0.0, 100.0))[..., None],
            (path >= 100.0).to(path.dtype)[..., None],
            tried[:, : self.count, None],
            _crowd(position, is_frontier)[..., None],
            kind.to(path.dtype),
        ]
        x = self.geometry(torch.cat(columns, dim=-1))  # (B, C, d)
        if self.tokens is not None:
            floats = {key: obs[key].float() for key in ("mem_mask", *self.tokens.keys)}
            present = floats["mem_mask"][:, : self.count, None] > 0.5
            told = self.tokens.embed(self.tokens.present(floats))[:, : self.count]
            x = x + torch.where(present, told, 0.0)
        if self.map is not None and self.things is not None:
            goal = obs["goal"].long().reshape(-1).clamp(0, self.labels - 1)
            around = [self.map(obs["mem_crops"].float(), position), self.things(goal, position, obs)]
            x = x + self.around(torch.cat(around, dim=-1)) + self.goal(goal)[:, None]
        x = self.score(x + self.known(h)[:, None])[..., 0]  # (B, C)
        narrow = is_frontier & (obs["cand_extent"].float().amax(-1) < SMALL)
        begin = torch.where(is_goal, KNOWN, torch.where(is_frontier, NARROW * narrow, ASIDE))
        odds: Tensor = x + begin + AGAIN * tried[:, : self.count]
        return odds

    def _frontiers_and_goals(self, obs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns (B, C) bool each: frontiers, and things that the goal names, as far as tokens tell."""
        first = slice(self.count)
        offered = obs["cand_mask"][:, first] > 0.5
        is_cell = offered & (obs["cand_kind"] == CELL)
        if not all(key in obs for key in ("mem_mask", "mem_frontier", "mem_feature", "mem_confidence")):
            return is_cell, torch.zeros_like(is_cell)
        told = offered & (obs["mem_mask"][:, first] > 0.5)
        least = torch.where(obs["cand_kind"] == CELL, SOLID, TRUST)
        is_goal = told & (obs["mem_feature"][:, first, 0] > 0.5) & (obs["mem_confidence"][:, first] >= least)
        is_frontier = torch.where(told, obs["mem_frontier"][:, first] > 0.5, is_cell)
        return is_frontier & offered, is_goal


def _crowd(position: Tensor, is_frontier: Tensor) -> Tensor:
    """Returns (B, C) how many frontiers are near each candidate, log(1 + n)."""
    squared = (position[:, :, None, :2] - position[:, None, :, :2]).square().sum(-1)
    return torch.log1p((torch.exp(-squared / 8.0) * is_frontier[:, None]).sum(-1))


def has_candidates(space: spaces.Space[object]) -> bool:
    """True where an observation space describes candidates to point at."""
    return isinstance(space, spaces.Dict) and "cand_mask" in space.spaces
