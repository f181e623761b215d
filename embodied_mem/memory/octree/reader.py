"""The reading half of the octree: everything that asks and changes nothing."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embodied_mem.errors import ConfigError, InputError
from embodied_mem.memory.octree import kernels, masks, octants
from embodied_mem.memory.octree.blocks import BlockStore
from embodied_mem.memory.octree.directory import query_directory
from embodied_mem.memory.octree.grid import Band, project, project_columns
from embodied_mem.memory.octree.labelled import Labelled
from embodied_mem.memory.octree.levels import Levels
from embodied_mem.memory.octree.records import count_records
from embodied_mem.memory.octree.scan import ByteMap
from embodied_mem.memory.octree.types import (
    GridMap,
    LabelledBlocks,
    LogOddsSteps,
    RayHits,
    Voxels,
    as_points,
    as_vector,
)

MAX_LEVEL = 16


class OctreeReader:
    """Blocks of voxels and the questions one can ask them; `Octree` adds what changes them.

    Attributes:
        resolution: edge of a voxel [m].
        version: grows with every change.
    """

    def __init__(
        self,
        resolution: float = 0.05,
        *,
        hit: float = 0.85,
        miss: float = -0.4,
        clamp: tuple[float, float] = (-2.0, 3.5),
        threads: int = 1,
    ) -> None:
        if threads < 1:
            raise ConfigError(f"an octree needs at least one thread, got {threads}")
        if not (np.isfinite(resolution) and resolution > 0):
            raise ConfigError(f"an octree's resolution must be positive, got {resolution}")
        self.resolution = float(resolution)
        self.version = 0
        self._settings = (float(hit), float(miss), (float(clamp[0]), float(clamp[1])))
        self._steps = LogOddsSteps.fit(*self._settings)
        self._step_array = np.array(
            [self._steps.hit, self._steps.miss, self._steps.lowest, self._steps.highest], np.int64
        )
        self._store = BlockStore()
        self._levels = Levels(self._store)
        self._labelled = Labelled(self._store)
        self._byte_map = ByteMap(threads)

    def query(
        self,
        points: ArrayLike,
        level: int = 0,
        *,
        now: int | None = None,
        half_life: float | None = None,
    ) -> NDArray[np.float32]:
        """Returns (N,) log-odds at points (N, 3) [m], NaN where unknown.

        Args:
            points: (N, 3) in the map frame [m].
            level: 0 for voxels; a node of level l is 2^l voxels wide and answers the largest
                log-odds in it.
            now: [ns] when to answer for, with `half_life`: evidence counts less the older it is.
            half_life: [s] in which the log-odds of a voxel halve, from when it was last observed
                (of a free voxel, its 8^3 block). The map itself does not change.

        Raises:
            InputError: wrong shape or dtype, a level that is not in 0..16, or decay of an inner
                level.
        """
        self._check_level(level)
        where = as_points(points)
        if now is not None or half_life is not None:
            return self._decayed(where, level, now, half_life)
        if level == 0:
            store, inverse = self._store, 1.0 / self.resolution
            found = store.directory(len(where))
            if found is not None:
                unit = np.float32(self._steps.unit)
                return query_directory(where, inverse, found.grid, found.lo, store.log_odds, unit)
            rows, local = kernels.locate(where, inverse, store.table)
            return self._log_odds(octants.read_steps(rows, local, store.log_odds))
        return self._log_odds(self._levels.log_odds(where, 1.0 / self.resolution, level, self.version))

    def _decayed(
        self, points: NDArray[np.float32], level: int, now: int | None, half_life: float | None
    ) -> NDArray[np.float32]:
        if now is None or half_life is None or not half_life > 0 or level != 0:
            raise InputError(
                "decay needs now [ns] and a positive half_life [s], and answers for level 0 only"
            )
        rows, slots = self._slots(points)
        stamps = self._store.stamps_of(slots, self._store.stamps[rows])
        age = np.where(rows >= 0, np.maximum(int(now) - stamps, 0), 0) * 1e-9
        faded = self.query(points).astype(np.float64) * np.exp2(-age / half_life)
        return faded.astype(np.float32)

    def label(self, points: ArrayLike, level: int = 0) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Returns labels (N,) at points (N, 3) [m], 0 unknown, and their weights (N,).

        A voxel's weight says by how many scans its label leads; an inner node answers the
        label of most of its voxels, and its weight is their number.
        """
        self._check_level(level)
        where = as_points(points)
        if level > 0:
            return self._levels.labels(where, 1.0 / self.resolution, level, self.version)
        _, slots = self._slots(where)
        labels = self._store.labels(slots)
        if not self._store.records.has("labels"):
            return labels, np.zeros(len(slots), np.int32)
        weights = np.where(slots >= 0, self._store.records.columns.weights[slots], 0)
        return labels, weights.astype(np.int32)

    def box(self, lo: ArrayLike, hi: ArrayLike, *, occupied: bool = True, free: bool = False) -> Voxels:
        """Returns the voxels whose centres lie in a box.

        Args:
            lo: (3,) [m] its lowest corner, map frame.
            hi: (3,) [m] its highest corner.
            occupied: return those that are.
            free: return those that are known to be free.
        """
        rows, inside = self._box(as_vector(lo, "lo"), as_vector(hi, "hi"))
        return self._voxels(rows, inside & self._wanted(rows, occupied, free))

    def radius(self, p: ArrayLike, r: float, *, occupied: bool = True, free: bool = False) -> Voxels:
        """Returns the voxels whose centres are near a point.

        Args:
            p: (3,) [m] the point, map frame.
            r: how far from it at most [m].
            occupied: return those that are.
            free: return those that are known to be free.
        """
        centre = as_vector(p, "p")
        found = self.box(centre - r, centre + r, occupied=occupied, free=free)
        offset = found.centers.astype(np.float64) - centre
        return found.select((offset * offset).sum(axis=1) <= r * r)

    def voxels(self, *, occupied: bool = True, free: bool = False) -> Voxels:
        """Returns the voxels of the whole map."""
        rows = self._store.sorted_rows()
        return self._voxels(rows, self._wanted(rows, occupied, free))

    def labelled(self, labels: Iterable[int]) -> Voxels:
        """Returns the occupied voxels of the whole map that have one of some label ids."""
        return self._voxels(*self._labelled.find(labels, self.version))

    def labelled_blocks(self, labels: Iterable[int]) -> LabelledBlocks:
        """Returns the 8^3 blocks that hold occupied voxels of some label ids, sorted by z, y and x."""
        store = self._store
        rows, chosen = self._labelled.find(labels, self.version)
        if not len(rows):
            return LabelledBlocks.none()
        coords = store.coords(rows)
        order = np.lexsort((coords[:, 0], coords[:, 1], coords[:, 2]))
        rows, chosen, coords = rows[order], chosen[order], coords[order]
        slots, counts = store.slots_of(rows, chosen), count_records(chosen)
        first = np.cumsum(counts) - counts
        stamps = store.stamps_of(slots, np.repeat(store.stamps[rows], counts))
        lo, hi = masks.box_centers(chosen, rows, store.keys, kernels.BIAS, self.resolution)
        newest = np.maximum.reduceat(stamps, first)
        return LabelledBlocks(coords, lo, hi, store.labels(slots[first]), counts, newest)

    def changed_since(self, stamp: int, *, occupied: bool = True, free: bool = True) -> Voxels:
        """Returns the voxels last observed later than a stamp [ns].

        The stamp of a free voxel without a label is that of its 8^3 block.
        """
        rows = self._store.sorted_rows()
        rows = rows[self._store.stamps[rows] > stamp]
        found = self._voxels(rows, self._wanted(rows, occupied, free))
        return found.select(found.stamps > stamp)

    def ray_cast(
        self,
        origins: ArrayLike,
        directions: ArrayLike,
        max_range: float,
        *,
        stop_at_unknown: bool = False,
    ) -> RayHits:
        """Casts rays through the map until they meet an occupied voxel.

        Args:
            origins: (N, 3) or (3,) in the map frame [m].
            directions: (N, 3), of any length; a zero or not finite one hits nothing.
            max_range: [m], finite.
            stop_at_unknown: rays end, without a hit, in the first unknown voxel.
        """
        if not (np.isfinite(max_range) and max_range > 0):
            raise InputError(f"max_range must be positive and finite, got {max_range}")
        heading = as_points(directions, "directions").astype(np.float64)
        start = np.broadcast_to(np.asarray(origins, np.float32), heading.shape)
        start = as_points(start, "origins").astype(np.float64)
        x, y, z = heading[:, 0], heading[:, 1], heading[:, 2]
        with np.errstate(invalid="ignore", divide="ignore"):
            heading = heading / np.sqrt(x * x + y * y + z * z)[:, None]
        aimed = np.isfinite(heading).all(axis=1)
        heading[~aimed] = 0.0
        rows = np.arange(self._store.count if stop_at_unknown else 0)
        hit, distance, rows, local = kernels.cast_rays(
            start,
            heading,
            float(max_range),
            self.resolution,
            self._store.table,
            self._store.masks.occupied,
            self._store.known(rows),
            stop_at_unknown,
        )
        labels = self._store.labels(self._store.slots(rows, local))
        points = start + heading * distance[:, None]
        return RayHits(hit, points.astype(np.float32), labels, distance.astype(np.float32))

    def frontiers(self) -> NDArray[np.float32]:
        """Returns (M, 3) centres [m] of free voxels with an unknown 6-neighbour, sorted."""
        store = self._store
        order = store.sorted_rows()
        found = masks.frontier_masks(order, store.keys, store.masks.occupied, store.masks.free)
        return masks.list_centers(found, order, store.keys, kernels.BIAS, self.resolution)

    def traversable(
        self,
        floor_z: float,
        *,
        robot_height: float,
        step_height: float = 0.1,
        robot_radius: float = 0.0,
        passable_labels: Iterable[int] = (),
        drop_height: float = 0.0,
    ) -> GridMap:
        """Projects a band above the floor onto a ground plan.

        A column is an obstacle if a voxel with its centre in (floor_z + step_height, floor_z +
        robot_height] is occupied and its label not passable; free if a voxel there is free or
        passable; else unknown.

        Args:
            floor_z: height of the floor in the map frame [m].
            robot_height: [m].
            step_height: what the robot can climb [m].
            robot_radius: free cells nearer than this to an obstacle become obstacles [m].
            passable_labels: label ids of things that can be passed or opened.
            drop_height: where it is free this far below the floor, a column is an obstacle too: an edge to
                fall over [m]; 0: nowhere.
        """
        band = Band(float(step_height), float(robot_height), float(drop_height))
        return project(
            self._store, self.resolution, float(floor_z), band, float(robot_radius), tuple(passable_labels)
        )

    def changed_columns(
        self,
        since_version: int,
        floor_z: float,
        *,
        robot_height: float,
        step_height: float = 0.1,
        passable_labels: Iterable[int] = (),
        drop_height: float = 0.0,
    ) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        """Returns what blocks that have changed after a version show, without a radius; see `traversable`.

        Returns:
            (N, 2) int64 block coordinates x and y of columns, 8 cells to an edge, and (N, 8, 8) int8 their
            cells [y, x]: -1 unknown, 0 free, 100 obstacle.
        """
        band = Band(float(step_height), float(robot_height), float(drop_height))
        return project_columns(
            self._store, self.resolution, float(floor_z), band, tuple(passable_labels), since_version
        )

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Returns the (3,) corners [m] of the box around all known voxels, None for an empty map."""
        rows = np.arange(self._store.count)
        lo, hi = masks.tight_bounds(self._store.coords(rows), self._store.known(rows))
        if lo[0] > hi[0]:
            return None
        return lo * self.resolution, (hi + 1) * self.resolution

    def __len__(self) -> int:
        """Returns the number of known voxels."""
        return int(masks.count_voxels(self._store.known(np.arange(self._store.count))))

    @property
    def num_occupied(self) -> int:
        """Number of occupied voxels."""
        return int(masks.count_voxels(self._store.masks.occupied[: self._store.count]))

    @property
    def nbytes(self) -> int:
        """Bytes allocated for the map and for answers about it, with the room kept for growth.

        What scans are marked in is not the map's: it does not grow with it.
        """
        return self._store.nbytes + self._levels.nbytes + self._labelled.nbytes

    def _check_level(self, level: int) -> None:
        if not 0 <= level <= MAX_LEVEL:
            raise InputError(f"level must lie in 0..{MAX_LEVEL}, got {level}")

    def _log_odds(self, steps: NDArray[np.int8]) -> NDArray[np.float32]:
        scaled = steps.astype(np.float32) * np.float32(self._steps.unit)
        scaled[steps == octants.UNKNOWN] = np.nan
        return scaled

    def _slots(self, points: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rows, local = kernels.locate(points, 1.0 / self.resolution, self._store.table)
        return rows, self._store.slots(rows, local)

    def _wanted(self, rows: NDArray[np.int64], occupied: bool, free: bool) -> NDArray[np.uint64]:
        of = self._store.masks
        chosen = np.zeros((len(rows), 8), np.uint64)
        if occupied:
            chosen |= of.occupied[rows]
        if free:
            chosen |= of.free[rows]
        return chosen

    def _box(
        self, lo: NDArray[np.float64], hi: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Returns the rows, sorted by key, that a box of voxel centres meets, and its masks."""
        limit = kernels.WORLD
        # A voxel's centre (v + 0.5) * resolution may lie on the box's face: allow for rounding.
        first = np.ceil(np.clip(lo / self.resolution - 0.5 - 1e-6, -limit, limit)).astype(np.int64)
        last = np.floor(np.clip(hi / self.resolution - 0.5 + 1e-6, -limit, limit)).astype(np.int64)
        low, high = first >> 3, last >> 3
        shape = np.maximum(high - low + 1, 0)
        store = self._store
        if float(shape[0]) * float(shape[1]) * float(shape[2]) <= store.count:
            rows = store.find(masks.box_keys(low, high, kernels.BIAS))
            rows = rows[rows >= 0]
        else:
            rows = store.sorted_rows()
            coords = store.coords(rows)
            rows = rows[((coords >= low) & (coords <= high)).all(axis=1)]
        return rows, masks.box_masks(store.coords(rows), first, last)

    def _voxels(self, rows: NDArray[np.int64], chosen: NDArray[np.uint64]) -> Voxels:
        store = self._store
        slots = store.slots_of(rows, chosen)
        return Voxels(
            centers=masks.list_centers(chosen, rows, store.keys, kernels.BIAS, self.resolution),
            log_odds=self._log_odds(octants.list_steps(rows, chosen, store.log_odds)),
            labels=store.labels(slots),
            stamps=store.stamps_of(slots, np.repeat(store.stamps[rows], count_records(chosen))),
            references=store.references(slots),
        )
