"""Things known by their surface alone: neighbouring voxels of one label that belong to no object.

A detector leaves out what the image's border cuts and what is half hidden; some large things never fit
into an image. The octree keeps the labels of all surfaces, and when each was last seen: so where a thing
is can be told even if it never became an object, and that an object was in view though nothing detected it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from embodied_mem.memory.contents import Contents
from embodied_mem.memory.octree.types import Voxels
from embodied_mem.memory.scene.graph import SceneObject

LEAST = 4
"""Fewer voxels than this are no thing."""
GAP = 4
"""Voxels of one label in cubes of so many that touch belong together."""
SLACK = 0.2
"""A surface this close to the box of an object of its label is the object's [m]."""
BIAS = 1 << 19


@dataclass(frozen=True, eq=False)
class Surface:
    """Neighbouring voxels of one label.

    Attributes:
        id: made of the indices of its lowest voxel; it stays while that voxel does.
        label: label id.
        position: (3,) float64 [m], the middle of its box in the map frame.
        extent: (3,) float64 [m], the edges of its box.
        stamp: when it was last seen [ns]: at least `LEAST` of its voxels then or later.
        existence: how surely its voxels are occupied, in [0, 1].
    """

    id: int
    label: int
    position: NDArray[np.float64]
    extent: NDArray[np.float64]
    stamp: int
    existence: float


@dataclass(frozen=True)
class Seen:
    """What the surfaces of some labels say.

    Attributes:
        surfaces: those of things that are no objects.
        stamps: when the surface of an object was last seen [ns], by its id.
    """

    surfaces: tuple[Surface, ...]
    stamps: dict[int, int]


def seen_surfaces(
    contents: Contents,
    label_ids: frozenset[int],
    things: list[SceneObject],
    since: int | None,
    until: int | None,
) -> Seen:
    """Returns the things of some labels that are known by their surface, and when objects' were seen.

    Args:
        contents: the memory.
        label_ids: of what is asked for.
        things: the objects there are; those believed gone have no surface.
        since: surfaces last seen before this are left out [ns].
        until: and those last seen after this, though they may have been seen before, too [ns].
    """
    octree = contents.octree
    voxels = octree.labelled(sorted(label_ids))
    keep = np.ones(len(voxels), bool)
    if since is not None:
        keep &= voxels.stamps >= since
    if until is not None:
        keep &= voxels.stamps <= until
    voxels = voxels if keep.all() else voxels.select(keep)
    surfaces: list[Surface] = []
    stamps: dict[int, int] = {}
    for label in np.unique(voxels.labels).tolist():
        own = voxels.select(voxels.labels == label)
        objects = [t for t in things if t.label == label and t.existence >= 0.5]
        owners = _owners(own, objects, octree.resolution)
        for row in np.unique(owners[owners >= 0]).tolist():
            stamps[objects[row].id] = _last_seen(own.stamps[owners == row])
        rest = own.select(owners < 0)
        parts = _parts(rest.centers, octree.resolution, GAP)
        for part in np.unique(parts).tolist():
            if (parts == part).sum() >= LEAST:
                surfaces.append(_surface(rest.select(parts == part), label, octree.resolution))
    return Seen(tuple(surfaces), stamps)


def surface_of(contents: Contents, thing: SceneObject) -> NDArray[np.float32]:
    """Returns (M, 3) float32 [m], the centres of the voxels that belong to an object by place and label."""
    others = [t for t in contents.scene.objects(thing.label) if t.existence >= 0.5 and t.id != thing.id]
    voxels = contents.octree.labelled((thing.label,))
    owners = _owners(voxels, [thing, *others], contents.octree.resolution)
    return voxels.centers[owners == 0]


def _owners(voxels: Voxels, objects: list[SceneObject], resolution: float) -> NDArray[np.int64]:
    """Returns (M,) int64, to which object voxels of one label belong; -1 for none.

    What hangs together without a gap and touches objects is theirs, each voxel the nearest one's: things on
    both sides of a thin wall stay apart.
    """
    parts, owners = _parts(voxels.centers, resolution, 1), np.full(len(voxels), -1, np.int64)
    away = np.empty((len(voxels), len(objects)))
    for index, thing in enumerate(objects):
        outside = np.maximum(np.abs(voxels.centers - thing.position) - thing.extent / 2, 0.0)
        away[:, index] = np.sqrt((outside * outside).sum(axis=1))
    for part in np.unique(parts[(away <= SLACK).any(axis=1)]).tolist():
        inside = parts == part
        touched = np.flatnonzero((away[inside] <= SLACK).any(axis=0))
        owners[inside] = touched[away[np.ix_(inside, touched)].argmin(axis=1)]
    return owners


def _surface(voxels: Voxels, label: int, resolution: float) -> Surface:
    centers = voxels.centers.astype(np.float64)
    low, high = centers.min(axis=0), centers.max(axis=0)
    x, y, z = np.floor(centers / resolution).astype(np.int64).T
    lowest = int(np.lexsort((x, y, z))[0])
    number = int((z[lowest] + BIAS) << 42 | (y[lowest] + BIAS) << 21 | (x[lowest] + BIAS))
    sure = 1.0 / (1.0 + math.exp(-float(voxels.log_odds.mean())))
    middle, extent = (low + high) / 2, high - low + resolution
    return Surface(number, label, middle, extent, _last_seen(voxels.stamps), round(sure, 6))


def _last_seen(stamps: NDArray[np.int64]) -> int:
    """Returns when `LEAST` voxels had been seen for the last time: fewer are no look; -1 for never."""
    return int(np.sort(stamps)[-LEAST]) if len(stamps) >= LEAST else -1


def _parts(centers: NDArray[np.float32], resolution: float, gap: int) -> NDArray[np.int64]:
    """Returns (M,) int64 from 0 on: which voxels hang together, by cubes of `gap` voxels that touch."""
    if not len(centers):
        return np.empty(0, np.int64)
    cells = np.floor(centers.astype(np.float64) / (gap * resolution)).astype(np.int64) + BIAS
    keys, where = np.unique(cells[:, 2] << 42 | cells[:, 1] << 21 | cells[:, 0], return_inverse=True)
    steps = np.indices((3, 3, 3)).reshape(3, -1).T - 1
    links = []
    for dz, dy, dx in steps[len(steps) // 2 + 1 :].tolist():  # of two opposite directions one
        wanted = keys + ((dz << 42) + (dy << 21) + dx)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        met = np.flatnonzero(keys[at] == wanted)
        links.append(np.stack([met, at[met]]))
    a, b = np.concatenate(links, axis=1)
    graph = coo_matrix((np.ones(len(a), bool), (a, b)), shape=(len(keys), len(keys)))
    return np.asarray(connected_components(graph, directed=False)[1][where.reshape(-1)], np.int64)
