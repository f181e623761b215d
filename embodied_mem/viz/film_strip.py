"""A strip of pictures of a run: what the robot saw, and below it what its memory held by then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.errors import InputError
from embodied_mem.viz import map_layers as layers
from embodied_mem.viz.canvas import blank_figure, save_figure
from embodied_mem.viz.map_raster import UNKNOWN_COLOR, rasterize
from embodied_mem.viz.map_texts import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from embodied_mem.loop import Moment
    from embodied_mem.memory import Memory
    from embodied_mem.types import Observation

Watch = Callable[["Memory"], Callable[["Moment"], None]]
"""Given a memory, returns a listener of the loop that fills it."""

COLUMN, GAP, HEADING = 2.1, 0.06, 0.34
"""Width of a picture, distance between two, and height of the words above [in]."""
DPI = 90


def draw_strip(replay: Callable[[Watch], int], path: str | Path, *, frames: int = 5) -> Path:
    """Draws moments of a run side by side into a PNG file.

    Args:
        replay: goes through the run with a listener, and returns how many moments it has; called twice.
        path: the PNG file to write.
        frames: how many moments, the first and the last among them.

    Returns:
        the path.

    Raises:
        InputError: fewer than two frames, or the run is shorter than that.
        EmbodiedMemError: matplotlib is missing, or the file cannot be written.
    """
    if frames < 2:
        raise InputError(f"a strip needs at least 2 frames, got {frames}")
    whole = _Extent()
    count = replay(whole.watch)
    if count < frames:
        raise InputError(f"the run has {count} moments, too few for {frames} frames")
    width, height = whole.size
    rows = COLUMN, COLUMN * height / width
    figure = blank_figure(frames * (COLUMN + GAP) - GAP, HEADING + sum(rows) + GAP, DPI)
    grid = figure.add_gridspec(
        2, frames, height_ratios=rows, left=0, right=1, bottom=0,
        top=1 - HEADING / figure.get_figheight(), wspace=GAP / COLUMN, hspace=2 * GAP / sum(rows),
    )  # fmt: skip
    chosen = np.round(np.linspace(0, count - 1, frames)).astype(int).tolist()
    axes = {i: (figure.add_subplot(grid[0, k]), figure.add_subplot(grid[1, k])) for k, i in enumerate(chosen)}
    replay(lambda memory: _Painter(memory, axes, whole))
    return save_figure(figure, path)


class _Extent:
    """What a run's last map covers, so that all of its maps have the same scale."""

    def __init__(self) -> None:
        self._memory: Memory | None = None

    def watch(self, memory: Memory) -> Callable[[Moment], None]:
        self._memory = memory
        return lambda moment: None

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top [m]."""
        raster = rasterize(self._memory.octree) if self._memory is not None else None
        return (0.0, 1.0, 0.0, 1.0) if raster is None else raster.extent

    @property
    def size(self) -> tuple[float, float]:
        """Width and height [m]."""
        left, right, bottom, top = self.bounds
        return right - left, top - bottom


class _Painter:
    """Listens to a replay and paints the chosen moments."""

    def __init__(self, memory: Memory, axes: dict[int, tuple[Axes, Axes]], whole: _Extent) -> None:
        self._memory, self._axes, self._bounds = memory, axes, whole.bounds
        self._index = 0

    def __call__(self, moment: Moment) -> None:
        if self._index in self._axes:
            seen, map_ = self._axes[self._index]
            self._picture(seen, moment.obs)
            self._map(map_, moment)
        self._index += 1

    def _picture(self, ax: Axes, obs: Observation) -> None:
        ax.set_axis_off()
        image = _color(obs)
        if image is not None:
            ax.imshow(image, interpolation="nearest")
        words = obs.goal.text if obs.goal is not None else ""
        ax.set_title(f"step {obs.step}\n{words}".strip(), fontsize=8, color=INK, pad=3)

    def _map(self, ax: Axes, moment: Moment) -> None:
        scene, labels = self._memory.scene, self._memory.labels
        left, right, bottom, top = self._bounds
        ax.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], facecolor=UNKNOWN_COLOR)
        raster = rasterize(self._memory.octree)
        if raster is not None:
            rooms = layers.room_ids_of(raster, scene) if len(scene.rooms()) > 1 else None
            layers.draw_cells(ax, raster, labels, rooms, set())
        stamps, positions = scene.trajectory()
        layers.draw_trajectory(ax, stamps, positions, layers.LEAP)
        pose = moment.percept.map_T_base
        nose = pose.transform(np.array([0.6, 0.0, 0.0]))
        style: dict[str, Any] = {"arrowstyle": "-|>", "color": INK, "lw": 1.5}
        ax.annotate("", tuple(nose[:2]), tuple(pose.position[:2]), arrowprops=style)
        wanted = moment.tokens.mask & (moment.tokens.feature[:, 0] > 0)
        if wanted.any():
            goals = pose.transform(moment.tokens.position[wanted].astype(np.float64))
            ax.plot(goals[:, 0], goals[:, 1], "*", color="#d62728", ms=9, mec="white", mew=0.6)


def _color(obs: Observation) -> NDArray[np.uint8] | None:
    return next((camera.color.data for camera in obs.cameras if camera.color is not None), None)
