"""Pointing: a masked choice among candidates that the observation describes (Vinyals et al., 2015)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from embodied_mem.errors import ConfigError
from embodied_mem.policy.reader import TokenEncoder, encode_position, has_tokens
from embodied_mem.types import TOKEN_KINDS

CANDIDATE_KEYS = ("cand_mask", "cand_kind", "cand_position", "cand_extent", "cand_path_distance")
"""Observation keys that describe candidates, (C, ...) each; the mask has one entry more for the choice
that is no candidate. Memory tokens, where there are any, describe the same candidates in the same order."""

IMPOSSIBLE = -1e9
"""Score of what cannot be chosen."""


def has_candidates(space: spaces.Space[object]) -> bool:
    """True where an observation space describes candidates to point at."""
    return isinstance(space, spaces.Dict) and "cand_mask" in space.spaces


class PointerHead(nn.Module):
    """Scores candidates by where they are, what the memory says of them, and what the policy knows.

    Args:
        space: observations with `CANDIDATE_KEYS`.
        width: size d of the policy's features.
        labels: size of the table of label embeddings.

    Raises:
        ConfigError: a key is missing.
    """

    def __init__(self, space: spaces.Dict, width: int, labels: int) -> None:
        super().__init__()
        for key in CANDIDATE_KEYS:
            if key not in space.spaces:
                raise ConfigError(f'the observation has "cand_mask" but no "{key}": give all keys')
        self.count = int(space["cand_kind"].shape[0])  # type: ignore[index]
        self.geometry = nn.Linear(22 + 3 + 2 + len(TOKEN_KINDS), width)
        self.tokens = TokenEncoder(space, width, labels) if has_tokens(space) else None
        self.known = nn.Linear(width, width)
        self.score = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        self.other = nn.Linear(width, 1)

    def forward(self, h: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Returns scores (B, C + 1), `IMPOSSIBLE` where the mask is 0.

        Args:
            h: (B, d) features.
            obs: the observations (B, ...) that they were made from.
        """
        path = obs["cand_path_distance"].float()  # (B, C)
        kind = F.one_hot(obs["cand_kind"].long().clamp(0, len(TOKEN_KINDS) - 1), len(TOKEN_KINDS))
        columns = [
            encode_position(obs["cand_position"].float()),
            torch.log1p(obs["cand_extent"].float().clamp(min=0.0)),
            torch.log1p(path.clamp(0.0, 100.0))[..., None],
            (path >= 100.0).to(path.dtype)[..., None],
            kind.to(path.dtype),
        ]
        x = self.geometry(torch.cat(columns, dim=-1))  # (B, C, d)
        if self.tokens is not None:
            floats = {key: obs[key].float() for key in ("mem_mask", *self.tokens.keys)}
            present = floats["mem_mask"][:, : self.count, None] > 0.5
            told = self.tokens.embed(self.tokens.present(floats))[:, : self.count]
            x = x + torch.where(present, told, 0.0)
        scores = self.score(x + self.known(h)[:, None])[..., 0]  # (B, C)
        scores = torch.cat([scores, self.other(h)], dim=1)
        return scores.masked_fill(obs["cand_mask"] < 0.5, IMPOSSIBLE)
