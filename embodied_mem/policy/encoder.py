"""Observation encoders: whatever gymnasium space a step's observation has, one embedding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space
from torch import Tensor, nn

from embodied_mem.errors import ConfigError
from embodied_mem.policy.pointer import CANDIDATE_KEYS
from embodied_mem.policy.reader import TOKEN_KEYS, UNREAD_KEYS, MemoryReader, has_tokens

SMALL_IMAGE = 20
"""Images with an edge shorter than this [px] are convolved at full resolution."""

MIDDLE_IMAGE = 40
"""Those with an edge shorter than this [px], such as crops of a map, in steps of two."""

MOST_SYMBOLS = 32
"""An integer Box from 0 to less than this holds symbols (MiniGrid's views), embedded one by one."""


class ImageEncoder(nn.Module):
    """A small convolutional network for channel-first images.

    Args:
        shape: (C, H, W).
        width: size of the embedding.
    """

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        channels, edge = shape[0], min(shape[1:])
        if edge < SMALL_IMAGE:
            steps = [(channels, 16, 3, 1), (16, 32, 3, 1)]
        elif edge < MIDDLE_IMAGE:
            steps = [(channels, 16, 3, 2), (16, 32, 3, 2)]
        else:
            steps = [(channels, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1)]
        layers: list[nn.Module] = []
        for inputs, outputs, kernel, stride in steps:
            layers += [nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2), nn.GELU()]
        self.convolutions = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(min(7, edge)), nn.Flatten())
        with torch.no_grad():
            size = self.convolutions(torch.zeros(1, *shape)).shape[1]
        self.out = nn.Linear(size, width)

    def forward(self, x: Tensor) -> Tensor:
        """Embeds images (B, C, H, W) in [0, 1] as (B, width)."""
        embedded: Tensor = self.out(self.convolutions(x))
        return embedded


class SymbolEncoder(nn.Module):
    """Embeds an array of small integers: each entry has a table of its own, and the entries are summed.

    Args:
        entries: how many integers there are.
        symbols: each lies in [0, symbols).
        width: size of the embedding.
    """

    def __init__(self, entries: int, symbols: int, width: int) -> None:
        super().__init__()
        self.symbols = symbols
        self.table = nn.EmbeddingBag(entries * symbols, width, mode="sum")
        nn.init.normal_(self.table.weight, std=1.0 / math.sqrt(min(entries, 64)))
        self.register_buffer("offset", torch.arange(entries) * symbols, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Embeds arrays (B, ...) as (B, width)."""
        embedded: Tensor = self.table(x.flatten(1).long().clamp(0, self.symbols - 1) + self.offset)
        return embedded


def check_space(space: spaces.Space[Any]) -> None:
    """Raises `ConfigError` where an observation space, or a part of it, has no encoder."""
    parts = space.spaces if isinstance(space, spaces.Dict) else {"observation": space}
    for key, part in parts.items():
        supported = isinstance(part, (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary))
        if not supported and not (isinstance(part, spaces.Box) and part.dtype.kind in "fiub"):
            raise ConfigError(
                f'no encoder for observation "{key}" of type {part}: use Box, Discrete, MultiDiscrete, '
                "MultiBinary or a flat Dict of these"
            )


class ObservationEncoder(nn.Module):
    """Embeds a step's observation; where it holds memory tokens, the step reads them.

    It takes what `stable_baselines3.common.preprocessing.preprocess_obs` returns: images in [0, 1],
    channel first; Discrete and MultiDiscrete as one-hot vectors; everything else as float.

    Args:
        space: Box, image, Discrete, MultiDiscrete, MultiBinary, or a Dict of these.
        width: size d of the embedding.
        heads: attention heads of the memory reader.
        labels: size of its label table.

    Raises:
        ConfigError: a space that has no encoder.
    """

    def __init__(self, space: spaces.Space[Any], width: int, heads: int = 4, labels: int = 64) -> None:
        super().__init__()
        check_space(space)
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"observation": space}
        self.tokens = has_tokens(space)
        unread = (*UNREAD_KEYS, *CANDIDATE_KEYS, *(TOKEN_KEYS if self.tokens else ()))
        self.keys = tuple(key for key in parts if key not in unread)
        # keys are names of gymnasium's, which ModuleDict would refuse where they hold a dot
        self.parts = nn.ModuleList(self._part(parts[key], width) for key in self.keys)
        self.start = nn.Parameter(torch.zeros(width))  # what a step is before anything is seen
        self.mlp = nn.Sequential(nn.GELU(), nn.Linear(width, width))
        self.reader = MemoryReader(space, width, heads, labels) if self.tokens else None

    @staticmethod
    def _part(space: spaces.Space[Any], width: int) -> nn.Module:
        if is_image_space(space):
            assert space.shape is not None
            return ImageEncoder(space.shape, width)
        size = get_flattened_obs_dim(space)
        if isinstance(space, spaces.Box) and space.dtype.kind in "iu":
            low, high = int(space.low.min()), int(space.high.max())
            if low == 0 and high < MOST_SYMBOLS:
                return SymbolEncoder(size, high + 1, width)
        linear = nn.Linear(size, width)
        # one-hot inputs have one entry that is not zero, so their columns need unit scale
        one_hot = isinstance(space, (spaces.Discrete, spaces.MultiDiscrete))
        scale = 1.0 / math.sqrt(1 if one_hot else min(size, 64))
        nn.init.normal_(linear.weight, std=scale)
        nn.init.zeros_(linear.bias)
        if isinstance(space, spaces.Box) and space.is_bounded():
            # metres of a large room must not drown what comes in units of 1
            largest = np.maximum(np.abs(space.low), np.abs(space.high)).astype(np.float32).reshape(-1)
            with torch.no_grad():
                linear.weight /= torch.from_numpy(largest).clamp(min=1.0)
        return nn.Sequential(nn.Flatten(), linear)

    def forward(self, obs: Tensor | dict[str, Tensor]) -> Tensor:
        """Embeds preprocessed observations (B, ...) as (B, d)."""
        parts = obs if isinstance(obs, dict) else {"observation": obs}
        x = self.start
        for key, part in zip(self.keys, self.parts):
            x = x + part(parts[key])
        if not self.keys:
            x = x.expand(len(next(iter(parts.values()))), -1)
        x = x + self.mlp(x)
        return x if self.reader is None else x + self.reader(x, parts)
