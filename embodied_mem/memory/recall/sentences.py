"""Words by their meaning: sentences of entries as vectors, where a sentence encoder is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embodied_mem.memory.episodes.entries import Episodes

ALIKE = 0.35
"""Sentences less similar than this (cosine) are about something else."""


class SentenceEncoder(Protocol):
    """Makes vectors of sentences; model2vec's and sentence-transformers' models are such."""

    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Returns (N, D) vectors of N sentences, close where they mean the same."""


class SentenceIndex:
    """Vectors of what entries say in words; each is made once.

    Args:
        encoder: makes the vectors.
    """

    def __init__(self, encoder: SentenceEncoder) -> None:
        self.encoder = encoder
        self._known: dict[str, NDArray[np.float32]] = {}

    def similar(self, text: str, episodes: Episodes) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Returns the rows of entries that say something similar, ascending, and their cosines.

        Args:
            text: what is looked for.
            episodes: all entries.
        """
        rows = np.flatnonzero(episodes.has_words)
        said = [episodes.sentence(int(row)) for row in rows]
        self._learn([text, *said])
        if not len(rows):
            return rows, np.empty(0)
        vectors = np.stack([self._known[sentence] for sentence in said])  # (M, D)
        cosines = (vectors * self._known[text]).sum(axis=1).astype(np.float64)
        alike = cosines >= ALIKE
        return rows[alike], cosines[alike]

    def cosine(self, text: str, other: str) -> float:
        """Returns how similar two texts are, in [-1, 1]."""
        self._learn([text, other])
        return float((self._known[text] * self._known[other]).sum())

    def _learn(self, sentences: Sequence[str]) -> None:
        new = [s for s in dict.fromkeys(sentences) if s not in self._known]
        if not new:
            return
        vectors = np.asarray(self.encoder.encode(new), np.float32)
        lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
        self._known.update(zip(new, vectors / np.maximum(lengths, 1e-12)))
