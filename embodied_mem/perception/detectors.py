"""Objects from label images: connected pixels of one label, lifted to 3-D by depth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied_mem.perception.camera import check_image, pixel_rays, same_view, valid_depth
from embodied_mem.perception.config import DetectorConfig
from embodied_mem.types import CameraFrame, Detection, LabelMap

_NEIGHBOURS: tuple[tuple[Any, Any], ...] = (
    ((slice(None), slice(1, None)), (slice(None), slice(-1))),
    ((slice(1, None), slice(None)), (slice(-1), slice(None))),
)
"""Pairs of views of an image whose pixels are neighbours."""


class SemanticDetector:
    """Finds objects in a label image, as far as a label image tells them apart.

    Neighbouring pixels belong to one object if they have the same label and about the same depth.
    Objects that the image's border or a nearer thing cuts are left out, since nobody knows where their
    middle is; so are those with too few pixels. No instance ids are needed or used.

    Args:
        config: which labels are objects, and which pixels count.
    """

    def __init__(self, config: DetectorConfig) -> None:
        self.config = config

    def __call__(self, camera: CameraFrame, labels: LabelMap) -> tuple[Detection, ...]:
        """Returns the objects that one camera sees whole, in the base frame, by label and first pixel.

        Args:
            camera: needs depth and labels of the same view; without them there is nothing to find.
            labels: names of the label ids.
        """
        depth, semantic = camera.depth, camera.semantic
        if depth is None or semantic is None or not same_view(depth, semantic):
            return ()
        check_image(depth, f"{camera.name}: depth")
        check_image(semantic, f"{camera.name}: semantic")
        wanted = np.zeros(len(labels), bool)
        wanted[[i for i, name in enumerate(labels.names) if name in self.config.labels]] = True
        label = np.where((semantic.data >= 0) & (semantic.data < len(labels)), semantic.data, 0)
        rays = pixel_rays(depth.intrinsics)
        in_range = valid_depth(depth.data) & (depth.data <= self.config.max_range) & np.isfinite(rays.x)
        part = connected_pixels(np.where(wanted[label], label, 0), depth.data, self.config.depth_jump)
        part = np.where(in_range, part, 0)
        keep = self._whole(part, depth.data)
        pixels = np.flatnonzero(keep[part])
        if len(pixels) == 0:
            return ()
        pixels = pixels[np.argsort(part.reshape(-1)[pixels], kind="stable")]
        of = part.reshape(-1)[pixels]  # (N,), sorted
        z = depth.data.reshape(-1)[pixels].astype(np.float64)
        x, y = rays.x.reshape(-1)[pixels], rays.y.reshape(-1)[pixels]
        points = depth.base_T_camera.transform(np.stack([x * z, y * z, z], axis=-1))  # (N, 3)
        starts = np.flatnonzero(np.concatenate([[True], of[1:] != of[:-1]]))
        found = label.reshape(-1)[pixels[starts]]
        groups = zip(found.tolist(), np.split(points, starts[1:]), np.split(z, starts[1:]))
        objects = [self._detection(*group) for group in groups]
        return tuple(objects[i] for i in np.argsort(found, kind="stable").tolist())

    def _whole(self, part: NDArray[np.int64], depth: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Returns which parts have enough pixels and are cut by neither border nor nearer things."""
        counts = np.bincount(part.reshape(-1))
        keep = counts >= self.config.min_pixels
        keep[0] = False
        for edge in (part[0], part[-1], part[:, 0], part[:, -1]):
            keep[edge] = False
        outline, hidden = np.zeros(len(counts)), np.zeros(len(counts))
        for a, b in _NEIGHBOURS:
            for mine, other in ((a, b), (b, a)):
                edge = part[mine] != part[other]
                behind = edge & (depth[other] < depth[mine] * (1.0 - self.config.depth_jump))
                outline += np.bincount(part[mine][edge], minlength=len(counts))
                hidden += np.bincount(part[mine][behind], minlength=len(counts))
        return np.asarray(keep & (hidden <= self.config.max_hidden * outline))

    def _detection(self, label: int, points: NDArray[np.float64], z: NDArray[np.float64]) -> Detection:
        lo, hi = points.min(axis=0), points.max(axis=0)
        position = (lo + hi) / 2
        # Many things are hollow below their top: their middle height is where most of them was seen.
        position[2] = np.median(points[:, 2])
        # What is hidden behind the visible side shifts the middle by a part of the size.
        sigma = self.config.position_sigma + 0.15 * (hi - lo) + 0.005 * float(z.min()) ** 2
        return Detection(
            label=label,
            position=position,
            extent=hi - lo,
            covariance=np.diag(sigma * sigma),
            score=self.config.score,
        )


def connected_pixels(
    label: NDArray[np.integer], depth: NDArray[np.float32], depth_jump: float
) -> NDArray[np.int64]:
    """Returns (H, W) int64: which part each pixel belongs to, from 1 on; 0 where the label is 0.

    Args:
        label: (H, W) label ids; 0 is no object.
        depth: (H, W) float32 [m].
        depth_jump: neighbours whose depths differ by more than this fraction are apart.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    shape = label.shape
    used = (label != 0) & np.isfinite(depth)
    pixels = np.flatnonzero(used)
    number = np.zeros(shape, np.int64)
    number.reshape(-1)[pixels] = np.arange(len(pixels))
    links: list[Any] = []
    for a, b in _NEIGHBOURS:
        near = np.minimum(np.where(used[a], depth[a], 0), np.where(used[b], depth[b], 0))
        with np.errstate(invalid="ignore"):
            apart = np.abs(depth[a] - depth[b]) > depth_jump * near
        linked = used[a] & used[b] & (label[a] == label[b]) & ~apart
        links.append((number[a][linked], number[b][linked]))
    rows, columns = (np.concatenate([link[i] for link in links]) for i in (0, 1))
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(len(pixels), len(pixels)))
    _, parts = connected_components(graph, directed=False)
    result = np.zeros(shape, np.int64)
    result.reshape(-1)[pixels] = parts + 1
    return result
