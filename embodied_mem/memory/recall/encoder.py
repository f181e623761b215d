"""What recall needs of a model, where there is one: images and sentences as vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class ImageEncoder(Protocol):
    """Makes the same kind of embedding as the percepts carry."""

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the (D,) embedding of an (H, W, 3) RGB image."""


class SentenceEncoder(Protocol):
    """Makes embeddings of sentences, close where they mean the same."""

    def encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Returns the (N, D) embeddings of N sentences."""
