"""Objects from label images: connected pixels of one label, lifted to 3-D by depth."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from embodied_mem.perception.camera import check_image, pixel_rays, same_view
from embodied_mem.perception.config import DetectorConfig
from embodied_mem.perception.depth import as_ids
from embodied_mem.perception.depth_kernels import find_things, list_things
from embodied_mem.perception.embedding import ColorHistogram, Embedder, cut_out
from embodied_mem.perception.lift import lift
from embodied_mem.perception.regions import connected_pixels, outlines
from embodied_mem.types import CameraFrame, Detection, LabelMap


class SemanticDetector:
    """Finds objects in a label image, as far as a label image tells them apart.

    Neighbouring pixels belong to one object if they have the same label and about the same depth. No
    instance ids are needed or used. What the image's border or nearer things cut is left out, or found
    with the fraction of its outline that is visible (`DetectorConfig.whole`).

    Args:
        config: which labels are objects, and which pixels count.
        embedder: says what they look like, where there is a colour image of the same view.
    """

    def __init__(self, config: DetectorConfig, embedder: Embedder | None = None) -> None:
        self.config = config
        self.embedder = embedder or ColorHistogram()
        self._named: tuple[LabelMap, NDArray[np.bool_]] | None = None

    def __call__(self, camera: CameraFrame, labels: LabelMap) -> tuple[Detection, ...]:
        """Returns the objects that one camera sees, in the base frame, by label and first pixel.

        Args:
            camera: needs depth and labels of the same view; without them there is nothing to find.
            labels: names of the label ids.
        """
        return self.with_masks(camera, labels)[0]

    def with_masks(
        self, camera: CameraFrame, labels: LabelMap, instances: NDArray[np.integer] | None = None
    ) -> tuple[tuple[Detection, ...], NDArray[np.int64]]:
        """Returns the objects, and (H, W) int64: 1 + the index of the object a pixel belongs to, or 0.

        Args:
            camera: as in `__call__`.
            labels: names of the label ids.
            instances: (H, W) numbers of an instance segmentation, which hold for this image only: pixels
                of one label and number are one object, whatever lies between them. None: neighbouring
                pixels are.
        """
        depth, semantic = camera.depth, camera.semantic
        if depth is None or semantic is None or not same_view(depth, semantic):
            return (), np.zeros((0, 0), np.int64)
        check_image(depth, f"{camera.name}: depth")
        check_image(semantic, f"{camera.name}: semantic")
        rays = pixel_rays(depth.intrinsics)
        shape = semantic.data.shape
        things, in_range = np.empty(shape, np.int32), np.empty(shape, bool)
        wanted, most = self._wanted(labels), np.float32(self.config.max_range)
        find_things(as_ids(semantic.data), depth.data, rays.x, wanted, most, things, in_range)
        if instances is None:
            part = connected_pixels(things, depth.data, self.config.depth_jump)
        else:
            used = things > 0
            pairs = instances[used].astype(np.int64) * len(labels) + things[used]
            part = np.zeros(things.shape, np.int64)
            part[used] = np.unique(pairs, return_inverse=True)[1].reshape(-1) + 1
        measures = outlines(part, depth.data, self.config.depth_jump)
        visible = self._visible(measures)
        masks = np.zeros(part.shape, np.int64)
        # (N,), by label and then by region
        pixels, starts = list_things(part, things, in_range, visible >= 0.0)
        if len(pixels) == 0:
            return (), masks
        z = depth.data.reshape(-1)[pixels].astype(np.float64)
        x, y = rays.x.reshape(-1)[pixels], rays.y.reshape(-1)[pixels]
        points = depth.base_T_camera.transform(np.stack([x * z, y * z, z], axis=-1))  # (N, 3)
        color = camera.color
        seen = color.data if color is not None and same_view(depth, color) else None
        found: list[Detection] = []
        for a, b in pairwise(starts.tolist()):
            if b - a < self.config.min_pixels:
                continue
            first = pixels[a]
            id, fraction = int(things.reshape(-1)[first]), float(visible[part.reshape(-1)[first]])
            near, sigma = float(z[a:b].min()), self.config.position_sigma
            vector = None if seen is None else self._look(seen, pixels[a:b])
            found.append(lift(id, points[a:b], near, fraction, self.config.score, sigma, vector))
            masks.reshape(-1)[pixels[a:b]] = len(found)
        return tuple(found), masks

    def _look(self, image: NDArray[np.uint8], pixels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns what a thing of (N,) flat pixels of an (H, W, 3) image looks like."""
        if type(self.embedder) is ColorHistogram:  # it needs no picture
            return self.embedder.of(image.reshape(-1, image.shape[2])[pixels])
        return self.embedder(*cut_out(image, pixels))

    def _wanted(self, labels: LabelMap) -> NDArray[np.bool_]:
        """Returns (L,) bool: the labels that are objects."""
        if self._named is None or self._named[0] is not labels:
            is_so = np.array([name in self.config.labels for name in labels.names], bool)
            self._named = labels, is_so
        return self._named[1]

    def _visible(self, measures: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns by region the fraction of its outline that nothing cuts; -1 for those left out."""
        pixels, outline, hidden, border = (measures[:, i] for i in range(4))
        share = np.maximum(outline, 1)
        keep = pixels >= self.config.min_pixels
        if self.config.whole:
            keep &= border == 0
        keep &= hidden + border <= self.config.max_hidden * share
        keep[0] = False
        return np.where(keep, 1.0 - (hidden + border) / share, -1.0)
