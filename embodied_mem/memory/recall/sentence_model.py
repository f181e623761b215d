"""Sentence models of model2vec: static embeddings of words, a few megabytes, no GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError


class SentenceModel:
    """A `SentenceEncoder` read from a folder, or fetched by its name where there is a network.

    Static embeddings distilled from sentence transformers (model2vec, "potion" models).

    Args:
        name: a folder with a model, or a name on the Hugging Face hub such as
            "minishlab/potion-base-8M".

    Raises:
        InputError: model2vec is not installed, or there is no such model.
    """

    def __init__(self, name: str) -> None:
        try:
            from model2vec import StaticModel
        except ImportError:
            raise InputError('sentence models need model2vec: pip install "embodied-mem[text]"') from None
        if name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
            raise InputError(f"there is no sentence model in {name}: no such folder")
        try:
            self._model = StaticModel.from_pretrained(
                Path(name).expanduser() if Path(name).is_dir() else name
            )
        except Exception as error:  # of the hub, the network, the file's format: all mean one thing here
            said = str(error).split("\n")[0][:120]
            raise InputError(
                f'cannot load the sentence model "{name}" ({said}); give a folder that holds one, '
                'or a name on the hub such as "minishlab/potion-base-8M"'
            ) from error

    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Returns (N, D) vectors of N sentences, close where they mean the same."""
        return np.asarray(self._model.encode(list(sentences)), np.float32)
