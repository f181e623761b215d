"""The state of every random generator that training draws from, for a run that is resumed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def random_state(generator: np.random.Generator) -> dict[str, Any]:
    """Returns the states of Python's, numpy's and torch's generators, and of one of numpy's own."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002 - SB3 draws from it
        "torch": torch.get_rng_state(),
        "segments": generator.bit_generator.state,
    }


def restore_random_state(state: Mapping[str, Any], generator: np.random.Generator) -> None:
    """Sets all generators to what `random_state` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    generator.bit_generator.state = state["segments"]
