"""Demonstrations: episodes of decisions with what a teacher preferred, on disk and in batches."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.policy.whole_file import whole_file

PREFIX = "obs_"


@dataclass(frozen=True, eq=False)
class Demonstration:
    """One episode of T decisions.

    Attributes:
        observations: (T, ...) by key.
        preferences: (T, A) float32, what a teacher would have chosen, as probabilities.
        rewards: (T,) float32, discounted over each decision's own steps.
        durations: (T,) int32 steps that each decision took.
        success: whether the episode succeeded.
        distances: (T, A - 1) float32, how far the goal is from each candidate as the teacher knows it, inf
            where it cannot be reached from there or is not what it seems.
    """

    observations: dict[str, NDArray[Any]]
    preferences: NDArray[np.float32]
    rewards: NDArray[np.float32]
    durations: NDArray[np.int32]
    success: bool
    distances: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rewards)

    def returns(self, gamma: float) -> NDArray[np.float32]:
        """Returns (T,) discounted sums of rewards to the episode's end."""
        returns, after = np.zeros(len(self), np.float32), 0.0
        for t in reversed(range(len(self))):
            after = float(self.rewards[t]) + gamma ** int(self.durations[t]) * after
            returns[t] = after
        return returns

    def save(self, path: Path) -> None:
        """Writes the episode; the file is whole or not there."""
        arrays: dict[str, Any] = {PREFIX + key: value for key, value in self.observations.items()}
        arrays |= {"preferences": self.preferences.astype(np.float16), "rewards": self.rewards}
        arrays |= {"durations": self.durations, "success": np.array(self.success)}
        arrays["distances"] = self.distances.astype(np.float16)
        with whole_file(path, ".npz") as part:
            np.savez_compressed(part, **arrays)

    @classmethod
    def load(cls, path: Path) -> Demonstration:
        """Reads an episode.

        Raises:
            InputError: the file is no demonstration, or it is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
            return cls(
                {key.removeprefix(PREFIX): v for key, v in arrays.items() if key.startswith(PREFIX)},
                arrays["preferences"].astype(np.float32),
                arrays["rewards"],
                arrays["durations"],
                bool(arrays["success"]),
                arrays["distances"].astype(np.float32),
            )
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is no demonstration ({error}): delete it, collect it again") from None


@dataclass(frozen=True, eq=False)
class Lanes:
    """Episodes end to end in N lanes of T steps.

    Attributes:
        observations: (T, N, ...) by key.
        starts: (T, N) bool, True where an episode starts, and at a lane's first step.
        preferences: (T, N, A).
        distances: (T, N, A - 1).
        returns: (T, N).
        weights: (T, N) float32, 0 for the rest of an episode that began in the lane before.
    """

    observations: dict[str, NDArray[Any]]
    starts: NDArray[np.bool_]
    preferences: NDArray[np.float32]
    distances: NDArray[np.float32]
    returns: NDArray[np.float32]
    weights: NDArray[np.float32]


def lay_lanes(
    episodes: Sequence[Demonstration], steps: int, lanes: int, gamma: float, rng: np.random.Generator
) -> Iterator[Lanes]:
    """Lays shuffled episodes into lanes, batch after batch; what does not fill a last batch is left out.

    Args:
        episodes: all demonstrations.
        steps: T.
        lanes: N.
        gamma: discount of a step.
        rng: shuffles.
    """
    order = rng.permutation(len(episodes)).tolist()
    batch, total = [], 0
    for index in order:
        batch.append(episodes[index])
        total += len(episodes[index])
        if total >= steps * lanes:
            yield _lay(batch, steps, lanes, gamma)
            batch, total = [], 0


def _lay(batch: Sequence[Demonstration], steps: int, lanes: int, gamma: float) -> Lanes:
    size = steps * lanes

    def lay(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        whole = np.concatenate(parts)[:size]
        return np.ascontiguousarray(whole.reshape(lanes, steps, *whole.shape[1:]).swapaxes(0, 1))

    starts = lay([np.arange(len(e)) == 0 for e in batch])
    begun = np.maximum.accumulate(starts, axis=0)  # an episode has started in this lane
    starts[0] = True
    keys = batch[0].observations
    return Lanes(
        {key: lay([e.observations[key] for e in batch]) for key in keys},
        starts,
        lay([e.preferences for e in batch]),
        lay([e.distances for e in batch]),
        lay([e.returns(gamma) for e in batch]),
        begun.astype(np.float32),
    )
