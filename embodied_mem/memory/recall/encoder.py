"""What recall needs of a model, where there is one: images as vectors."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class ImageEncoder(Protocol):
    """Makes the same kind of embedding as the percepts carry."""

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the (D,) embedding of an (H, W, 3) RGB image."""
