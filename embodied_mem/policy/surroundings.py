"""What lies around candidates: the map there, and the things that are remembered near them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from embodied_mem.types import TOKEN_KINDS

CROP_EDGES = (4.8, 19.2)
"""Edges [m] of the pictures of the map that `mem_crops` holds, one after the other."""
CHANNELS = 5
"""Of each of these pictures."""
FILTERS = 16
NEAR = (1.0, 2.0, 4.0)
"""Things count by how near to a candidate they are: a Gaussian of each of these deviations [m]."""
OBJECT = TOKEN_KINDS.index("object")


class MapAround(nn.Module):
    """Features of the map at candidates: convolutions over the pictures, looked up where candidates are."""

    size = FILTERS * len(CROP_EDGES)

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(CHANNELS, FILTERS, 3, padding=1),
                nn.GELU(),
                nn.Conv2d(FILTERS, FILTERS, 3, padding=2, dilation=2),
                nn.GELU(),
            )
            for _ in CROP_EDGES
        )

    def forward(self, crops: Tensor, position: Tensor) -> Tensor:
        """Returns (B, C, size) features, 0 beyond the pictures.

        Args:
            crops: (B, 10, P, P) in 0..255, ahead up.
            position: (B, C, 3) [m] in the base frame.
        """
        found = []
        for i, (scale, edge) in enumerate(zip(self.scales, CROP_EDGES)):
            features = scale(crops[:, i * CHANNELS : (i + 1) * CHANNELS] / 255.0)
            at = -position[..., [1, 0]] * (2.0 / edge)  # columns run to the right, rows backwards
            drawn = F.grid_sample(features, at[:, :, None], align_corners=False)  # (B, F, C, 1)
            found.append(drawn[..., 0].transpose(1, 2))
        return torch.cat(found, dim=-1)


class ThingsAround(nn.Module):
    """How well what stands near candidates goes with the goal.

    A table holds, for every pair of labels, how much likelier the first is where the second is; training
    starts it from counts, and changes it.

    Args:
        labels: size of the table.
    """

    size = 2 * len(NEAR) + 1

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.affinity = nn.Parameter(torch.zeros(labels, labels))

    def start_from(self, company: NDArray[np.float32]) -> None:
        """Takes over counted affinities (L, L); labels beyond the table are left out."""
        count = min(len(company), len(self.affinity))
        with torch.no_grad():
            self.affinity[:count, :count] = torch.from_numpy(company[:count, :count])

    def forward(self, goal: Tensor, position: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Returns (B, C, size): for each of `NEAR` the mean affinity and how much there is; the highest.

        Args:
            goal: (B,) label ids.
            position: (B, C, 3) [m] of candidates.
            obs: `mem_*` observations.
        """
        is_thing = (obs["mem_mask"] > 0.5) & (obs["mem_kind"] == OBJECT) & (obs["mem_feature"][..., 0] < 0.5)
        label = obs["mem_label"].long()
        label = torch.where((label < 0) | (label >= len(self.affinity)), 0, label)
        fits = self.affinity[goal[:, None], label][:, None]  # (B, 1, K)
        surely = (obs["mem_confidence"].float() * is_thing)[:, None]
        between = position[:, :, None, :2] - obs["mem_position"].float()[:, None, :, :2]
        squared = between.square().sum(-1)  # (B, C, K)
        found = []
        for sigma in NEAR:
            weight = surely * torch.exp(-squared / (2.0 * sigma * sigma))
            total = weight.sum(-1)
            found += [(weight * fits).sum(-1) / (total + 0.5), torch.log1p(total)]
        close = (squared < NEAR[1] ** 2) & (surely > 0.5)
        found.append(torch.where(close, fits, 0.0).amax(-1))
        return torch.stack(found, dim=-1)


def can_see_around(space: spaces.Dict) -> bool:
    """True where observations hold what these features are made of."""
    crops = space.spaces.get("mem_crops")
    wanted = ("goal", "mem_kind", "mem_label", "mem_position", "mem_confidence", "mem_feature")
    fits = crops is not None and crops.shape is not None and crops.shape[0] == CHANNELS * len(CROP_EDGES)
    return fits and all(key in space.spaces for key in wanted)
