"""A figure to draw on, off screen, and its PNG file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embodied_mem.errors import EmbodiedMemError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def blank_figure(width: float, height: float, dpi: int, constrained: bool = False) -> Figure:
    """Returns an empty white figure that no window shows.

    Args:
        width: [in].
        height: [in].
        dpi: dots per inch.
        constrained: whether what is drawn is laid out so that nothing is cut off.

    Raises:
        EmbodiedMemError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise EmbodiedMemError("drawing a picture needs matplotlib: pip install matplotlib") from None
    figure = Figure(
        (width, height), dpi=dpi, layout="constrained" if constrained else None, facecolor="white"
    )
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Writes a figure into a PNG file that depends on the picture alone; returns its path.

    Raises:
        EmbodiedMemError: the file cannot be written.
    """
    try:
        figure.savefig(path, format="png", metadata={"Software": None})
    except OSError as error:
        raise EmbodiedMemError(f"cannot write the picture {path}: {error.strerror}") from None
    return Path(path)
