"""What things look like, as vectors: a protocol, and a default that needs no weights."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

CHROMA_BINS = 20
BRIGHT_BINS = 8

Array = NDArray[Any]


class Embedder(Protocol):
    """Turns the picture of a thing into a vector: `ColorHistogram`, or `ImageModel` for CLIP and its like."""

    def __call__(self, image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Returns (D,) float32 of length 1.

        Args:
            image: (H, W, 3) uint8 RGB, cut out around the thing.
            mask: (H, W) bool: its pixels.
        """


class ColorHistogram:
    """Histograms of colour without brightness, and of brightness: soft bins, length 1.

    Red and green as fractions of the whole (r-g chromaticity) hardly change with the light
    (Swain and Ballard, "Color indexing", 1991). Size is not in it: what is partly hidden looks smaller,
    but has its colour.
    """

    size = 2 * CHROMA_BINS + BRIGHT_BINS
    name = "colour histogram 2"
    """Another number wherever vectors of today could not be compared with those of before."""

    def __call__(self, image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Returns (48,) float32 of length 1; zeros where there are no pixels."""
        return self.of(image[mask])

    def of(self, colors: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns what `__call__` does, of (N, 3) uint8 colours."""
        if len(colors) == 0:
            return np.zeros(self.size, np.float32)
        red, green, bright = _histograms(colors)
        return _unit(np.concatenate([_unit(red), _unit(green), 0.3 * _unit(bright)])).astype(np.float32)


def cut_out(
    image: NDArray[np.uint8], pixels: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Returns the part of an (H, W, 3) image around (N,) flat pixels, N > 0, and their (h, w) mask in it."""
    v, u = np.divmod(pixels, image.shape[1])
    top, left, bottom, right = int(v.min()), int(u.min()), int(v.max()) + 1, int(u.max()) + 1
    mask = np.zeros((bottom - top, right - left), bool)
    mask[v - top, u - left] = True
    return image[top:bottom, left:right], mask


@njit(cache=True, nogil=True, error_model="numpy")
def _share(value: float, width: float, shares: Array) -> None:
    """Shares a value in [0, 1] among the bins nearer than `width` bins."""
    at = min(max(value, 0.0), 1.0) * (shares.shape[0] - 1)
    for k in range(shares.shape[0]):
        shares[k] += max(1.0 - abs(at - k) / width, 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _histograms(colors: Array) -> tuple[Array, Array, Array]:
    """Returns the soft histograms of red, green and brightness of (N, 3) uint8 colours."""
    red, green, bright = np.zeros(CHROMA_BINS), np.zeros(CHROMA_BINS), np.zeros(BRIGHT_BINS)
    for i in range(colors.shape[0]):
        r, g, b = colors[i, 0] + 1.0, colors[i, 1] + 1.0, colors[i, 2] + 1.0
        total = r + g + b
        # Chromaticities of real things lie around a third: the bins are spent there.
        _share((r / total - 0.1) / 0.6, 1.5, red)
        _share((g / total - 0.1) / 0.6, 1.5, green)
        _share(total / (3 * 256.0), 1.5, bright)
    return red, green, bright


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.sqrt((vector * vector).sum())
    return vector / length if length > 0 else vector
