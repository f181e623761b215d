"""Reading memory tokens: a step attends to the `mem_*` observations of `MemoryTokens`.

The tokens are a set: nothing depends on their order. Positions are in the base frame, so that
what the step sees is already relative to the agent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from embodied_mem.errors import ConfigError
from embodied_mem.types import TOKEN_KINDS

TOKEN_KEYS = (
    "mem_kind", "mem_level", "mem_position", "mem_extent", "mem_label", "mem_occupancy", "mem_age",
    "mem_confidence", "mem_visits", "mem_frontier", "mem_path_distance", "mem_feature", "mem_mask",
)  # fmt: skip
"""Observation keys that describe tokens, (K, ...) each."""

UNREAD_KEYS = ("mem_id", "mem_place_id", "place_id")
"""Observation keys that are never embedded: ids are for logs."""

WAVELENGTHS = (2.0, 8.0, 32.0)
"""Wavelengths [m] of the relative-position encoding."""

SCALARS = (
    "mem_occupancy",
    "mem_age",
    "mem_confidence",
    "mem_visits",
    "mem_frontier",
    "mem_level",
)
"""Per-token numbers that are used as they are (`mem_level` scaled)."""


def has_tokens(space: spaces.Space[Any]) -> bool:
    """True where an observation space holds memory tokens."""
    return isinstance(space, spaces.Dict) and "mem_mask" in space.spaces


def encode_position(position: Tensor) -> Tensor:
    """Encodes positions (..., 3) [m] in the base frame: direction, log distance, sines; (..., 22)."""
    distance = position.norm(dim=-1, keepdim=True)
    phase = [position * (2 * math.pi / w) for w in WAVELENGTHS]
    waves = [f(p) for p in phase for f in (torch.sin, torch.cos)]
    return torch.cat([position / (distance + 1e-6), torch.log1p(distance), *waves], dim=-1)


class TokenEncoder(nn.Module):
    """Embeds memory tokens, each by itself.

    Args:
        space: the Dict observation space with the `mem_*` keys; `mem_mask` (K,) must be there,
            any other of `TOKEN_KEYS` may be.
        width: size d of an embedding.
        labels: size of the label table; ids beyond it read as unknown.
    """

    def __init__(self, space: spaces.Space[Any], width: int, labels: int = 64) -> None:
        super().__init__()
        if not isinstance(space, spaces.Dict) or "mem_mask" not in space.spaces:
            raise ConfigError('the observation has no "mem_mask": wrap the environment in MemoryWrapper')
        self.keys = tuple(key for key in TOKEN_KEYS if key in space.spaces)
        self.labels = labels
        self.kind = nn.Embedding(len(TOKEN_KINDS), width)
        self.label = nn.Embedding(labels, width)
        nn.init.normal_(self.kind.weight, std=0.5)
        nn.init.normal_(self.label.weight, std=0.5)
        size = sum(key in self.keys for key in SCALARS)
        size += 22 * ("mem_position" in self.keys) + 3 * ("mem_extent" in self.keys)
        size += 2 * ("mem_path_distance" in self.keys)
        if "mem_feature" in self.keys:
            size += int(space["mem_feature"].shape[-1])  # type: ignore[index]
        self.numbers = nn.Linear(size, width)
        self.token_mlp = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.LayerNorm(width))

    def present(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the `mem_*` observations with zeros where tokens are absent: these may hold anything."""
        mask = obs["mem_mask"] > 0.5  # (B, K)
        return {
            key: torch.where(mask.view(*mask.shape, *(1,) * (obs[key].dim() - 2)), obs[key], 0.0)
            for key in self.keys
        }

    def embed(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Returns the tokens' embeddings (B, K, d)."""
        parts = [obs[key] if key != "mem_level" else obs[key] / 8.0 for key in SCALARS if key in self.keys]
        columns = [part[..., None] for part in parts]
        if "mem_position" in self.keys:
            columns.append(encode_position(obs["mem_position"]))
        if "mem_extent" in self.keys:
            columns.append(torch.log1p(obs["mem_extent"].clamp(min=0.0)))
        if "mem_path_distance" in self.keys:
            path = obs["mem_path_distance"]
            far = ~(path < 100.0)  # unreachable: inf, or the wrapper's stand-in for it
            columns.append(torch.stack([torch.log1p(path.clamp(0.0, 100.0)), far.to(path.dtype)], dim=-1))
        if "mem_feature" in self.keys:
            columns.append(obs["mem_feature"])
        x = self.numbers(torch.cat(columns, dim=-1))  # (B, K, d)
        if "mem_kind" in self.keys:
            x = x + self.kind(obs["mem_kind"].long().clamp(0, len(TOKEN_KINDS) - 1))
        if "mem_label" in self.keys:
            label = obs["mem_label"].long()
            x = x + self.label(torch.where((label < 0) | (label >= self.labels), 0, label))
        embedded: Tensor = self.token_mlp(x)
        return embedded


class MemoryReader(TokenEncoder):
    """Cross-attention from a step's embedding to its memory tokens.

    Args:
        space: as for `TokenEncoder`.
        width: size d of the step's embedding.
        heads: attention heads.
        labels: as for `TokenEncoder`.
    """

    def __init__(self, space: spaces.Space[Any], width: int, heads: int = 4, labels: int = 64) -> None:
        super().__init__(space, width, labels)
        self.heads = heads
        self.nothing = nn.Parameter(torch.zeros(width))  # what is read where there are no tokens
        self.query_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Reads the tokens.

        Args:
            x: (B, d) the step's embedding.
            obs: `mem_*` observations, (B, K, ...) float each.

        Returns:
            (B, d), to be added to the step's embedding.
        """
        q, k, v, mask = self._queries_and_tokens(x, obs)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        read: Tensor = self.out(y.transpose(1, 2).flatten(1))
        return read

    def weights(self, x: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Returns how much of what is read comes from each token, (B, 1 + K), summing to 1 over tokens.

        The mean over the heads; the first is what is read where there is nothing to read.

        Args:
            x: (B, d) the step's embedding.
            obs: `mem_*` observations, as for `forward`.
        """
        q, k, _, mask = self._queries_and_tokens(x, obs)
        logits = (q @ k.transpose(2, 3))[:, :, 0] / math.sqrt(q.shape[-1])  # (B, H, 1 + K)
        return logits.masked_fill(~mask[:, None], -math.inf).softmax(-1).mean(1)

    def _queries_and_tokens(
        self, x: Tensor, obs: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns queries (B, H, 1, d / H), keys and values (B, H, 1 + K, d / H), and the mask (B, 1 + K)."""
        b, d = x.shape
        embedded = self.embed(self.present(obs))
        tokens = torch.cat([self.nothing.expand(b, 1, d), embedded], dim=1)  # (B, 1 + K, d)
        mask = F.pad(obs["mem_mask"] > 0.5, (1, 0), value=True)
        q = self.query(self.query_norm(x)).view(b, self.heads, 1, d // self.heads)
        key_value = self.key_value(tokens).view(b, -1, 2, self.heads, d // self.heads)
        k, v = key_value.permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, 1 + K, d / H)
        return q, k, v, mask


class MemoryExtractor(BaseFeaturesExtractor):
    """Features for any stable-baselines3 algorithm from a Dict observation with memory tokens.

    Example:
        PPO("MultiInputPolicy", env, policy_kwargs={"features_extractor_class": MemoryExtractor})

    Args:
        observation_space: a Dict space with the `mem_*` keys of `MemoryWrapper`; its other keys are
            encoded as well.
        features_dim: size of the features.
        heads: attention heads.
        labels: size of the label table.
    """

    def __init__(
        self, observation_space: spaces.Dict, features_dim: int = 64, heads: int = 4, labels: int = 64
    ) -> None:
        from embodied_mem.policy.encoder import ObservationEncoder

        super().__init__(observation_space, features_dim)
        self.encoder = ObservationEncoder(observation_space, features_dim, heads, labels)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Returns features (B, features_dim) of observations that SB3 has preprocessed."""
        features: Tensor = self.encoder(observations)
        return features
