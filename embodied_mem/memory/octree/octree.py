"""The octree: a sparse map of occupancy, labels and stamps with OctoMap's update semantics."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.memory.octree import file, kernels
from embodied_mem.memory.octree.contents import Contents, by_key, contents_of, digest_of, put_contents
from embodied_mem.memory.octree.discretized import mark_discretized
from embodied_mem.memory.octree.evidence import Intake, Notes
from embodied_mem.memory.octree.image import MODES, check_image, mark_exact
from embodied_mem.memory.octree.payloads import newest, pack_blocks, unpack_blocks
from embodied_mem.memory.octree.reader import OctreeReader
from embodied_mem.memory.octree.records import count_records
from embodied_mem.memory.octree.scan import FEW, Marks, mark
from embodied_mem.memory.octree.types import (
    GridMap,
    RayHits,
    ScanStats,
    Voxels,
    as_hits,
    as_labels,
    as_points,
    as_vector,
)
from embodied_mem.types import Intrinsics

PART = 1 << 15
"""Blocks of a scan that are added at once: what that takes beside them does not grow with the scan."""

__all__ = ["GridMap", "Octree", "RayHits", "ScanStats", "Voxels", "warm_up"]


class Octree(OctreeReader):
    """A sparse octree over the map frame; every call takes and returns batches.

    Per scan each voxel that a ray passes gets one miss and each voxel in which a ray ends
    one hit; hits win; log-odds are clamped (Hornung et al., "OctoMap", 2013). A voxel of
    index v is the cube [v, v + 1) * resolution. Log-odds >= 0 is occupied. A voxel has the label
    that most scans gave it; where it was out of view for an hour, that weighs no more than one scan.

    Attributes:
        resolution: edge of a voxel [m].
        version: grows with every change.
    """

    def integrate(
        self,
        points: ArrayLike,
        origin: ArrayLike,
        *,
        hit: NDArray[np.bool_] | None = None,
        labels: ArrayLike | None = None,
        stamp: int = 0,
        max_range: float = float("inf"),
    ) -> ScanStats:
        """Adds one scan: rays from the origin to the points.

        Args:
            points: (N, 3) ends of the rays in the map frame [m]; others than finite ones are
                dropped and counted.
            origin: (3,) where the rays start, in the map frame [m].
            hit: (N,) bool; a ray that hit nothing clears up to its end and leaves it alone.
            labels: (N,) label ids of the ends, 0 unknown; one vote per voxel and scan.
            stamp: [ns] of the measurement.
            max_range: longer rays clear up to it [m] and hit nothing.

        Raises:
            InputError: wrong shapes, dtypes or ranges.
        """
        start = as_vector(origin, "origin").astype(np.float32)
        if not (np.abs(start / self.resolution) < kernels.WORLD).all():
            raise InputError(f"origin must be finite and within the world, got {start.tolist()}")
        if not max_range > 0:
            raise InputError(f"max_range must be positive, got {max_range}")
        return self._add(as_points(points), hit, labels, stamp, start, float(max_range), True)

    def integrate_depth(
        self,
        depth: NDArray[np.float32],
        intrinsics: Intrinsics,
        map_T_camera: Pose,
        *,
        labels: NDArray[np.int32] | None = None,
        stamp: int = 0,
        max_range: float = 5.0,
        mode: str = "discretized",
        drop_flying: bool = True,
    ) -> ScanStats:
        """Adds one depth image.

        Args:
            depth: (H, W) float32 planar depth [m]; 0, NaN and -inf give no update, +inf clears up
                to `max_range` (REP-117).
            intrinsics: the pinhole camera; rectified, of the image's size.
            map_T_camera: the camera's optical frame (z forward) in the map.
            labels: (H, W) label ids; 0 and -1 unlabelled.
            stamp: [ns] of the measurement.
            max_range: longer rays clear up to it [m] and hit nothing.
            mode: "exact": the rays of all pixels, with exactly the voxels that OctoMap finds for
                them; "hybrid": the same ends, and of the voxels passed those that the pixel at
                their centre shows to be free, or one of the rays followed, which are half a voxel
                to a voxel apart where they end: of the free voxels two to five in a hundred are left
                out, at the edges of what is seen (images of few pixels: as "exact", which is
                quicker there); "discretized": one ray to the centre of each voxel in which rays end.
            drop_flying: leave out pixels that hang between foreground and background.

        Raises:
            InputError: wrong shapes, dtypes or ranges, a distorted camera, an unknown mode.
        """
        if mode not in MODES:
            raise InputError(f'mode must be one of {", ".join(MODES)}, not "{mode}"')
        if not max_range > 0:
            raise InputError(f"max_range must be positive, got {max_range}")
        if not map_T_camera.is_finite:
            raise InputError("map_T_camera must be finite")
        image, names = check_image(depth, intrinsics, labels)
        view, pose, res, reach = intrinsics, map_T_camera, self.resolution, float(max_range)
        byte_map = self._byte_map
        if mode == "discretized":
            marks = mark_discretized(image, view, pose, names, reach, res, drop_flying, byte_map)
            misses, ends = self._merge(marks, stamp)
        else:
            intake, notes = self._intake(int(stamp), len(names) > 0)
            settle = mode == "exact"
            try:
                marks = mark_exact(
                    image, view, pose, names, reach, res, drop_flying, byte_map, intake, settle
                )
            except BaseException:  # Ctrl-C comes when a kernel has ended
                self._keep(notes, byte_map.touched().marks.view(np.uint8), np.empty((0, 512), np.int32))
                raise
            misses, ends = self._merge(marks, stamp, notes)
        return ScanStats(image.size, marks.dropped, misses, ends)

    def integrate_cells(
        self,
        points: ArrayLike,
        hit: NDArray[np.bool_],
        *,
        labels: ArrayLike | None = None,
        stamp: int = 0,
    ) -> ScanStats:
        """Adds evidence for the voxels of the points themselves; no rays are cast.

        Args:
            points: (N, 3) in the map frame [m].
            hit: (N,) bool, True occupied, False free; a voxel with both is hit.
            labels: (N,) label ids, 0 unknown; a free voxel may have a label (an open door), and
                loses it to evidence without one.
            stamp: [ns] of the measurement.

        Raises:
            InputError: wrong shapes, dtypes or ranges.
        """
        return self._add(as_points(points), hit, labels, stamp, np.zeros(3, np.float32), np.inf, False)

    def _add(
        self,
        points: NDArray[np.float32],
        hit: NDArray[np.bool_] | None,
        labels: ArrayLike | None,
        stamp: int,
        origin: NDArray[np.float32],
        max_range: float,
        cast: bool,
    ) -> ScanStats:
        hits, names = as_hits(hit, len(points)), as_labels(labels, len(points))
        marks = mark(points, hits, names, origin, max_range, self.resolution, cast, self._byte_map)
        misses, ends = self._merge(marks, stamp)
        return ScanStats(len(points), marks.dropped, misses, ends)

    def _intake(self, stamp: int, labelled: bool) -> tuple[Intake, Notes]:
        """Returns where threads may add a scan's evidence."""
        blocks = min(len(self._byte_map.touched().which), PART)
        return self._store.intake(self._step_array, stamp, labelled, blocks, self._byte_map)

    def _merge(self, marks: Marks, stamp: int, notes: Notes | None = None) -> tuple[int, int]:
        """Adds a scan's marks to the map, unless they are in it by `notes`.

        Returns:
            the voxels that got a miss and a hit.
        """
        if not len(marks.keys):
            return 0, 0
        if notes is not None and notes.is_taken:
            return self._keep(notes, marks.marks, marks.names)
        self.version += 1
        settings, threads = (self._step_array, int(stamp), self.version), self._byte_map
        ways = threads.spread, threads.join
        counts = [self._store.observe(*part, *settings, *ways) for part in marks.parts(PART)]
        misses, ends = (sum(column) for column in zip(*counts))
        return misses, ends

    def _keep(self, notes: Notes, marks: NDArray[np.uint8], names: NDArray[np.int32]) -> tuple[int, int]:
        """Keeps what belongs to the evidence that a scan has added to the map, if it has: see `_merge`."""
        if not notes.is_taken:
            return 0, 0
        self.version += 1
        part = marks[: notes.blocks], names
        return self._store.complete(notes, *part, self.version, self._byte_map.spread)

    def refer(self, points: ArrayLike, references: ArrayLike) -> int:
        """Makes the occupied voxels of points refer to objects.

        Args:
            points: (N, 3) in the map frame [m].
            references: (N,) object ids below 2^31, -1 for none.

        Returns:
            how many voxels could be given a reference; free and unknown ones cannot.
        """
        where = as_points(points)
        ids = np.asarray(references)
        if ids.shape != (len(where),) or ids.dtype.kind not in "iu":
            raise InputError(f"references must be ({len(where)},) integers, not {ids.shape} {ids.dtype}")
        rows, slots = self._slots(where)
        good = slots >= 0
        if not good.any():
            return 0
        self._store.keep_references()
        rows, slots = self._slots(where)
        self._store.records.columns.references[slots[good]] = ids[good]
        self.version += 1
        self._store.versions[rows[good]] = self.version
        return len(np.unique(slots[good]))

    def unlabel(self, points: ArrayLike) -> int:
        """Takes the labels off the voxels of points (N, 3) [m]; returns how many voxels had one."""
        rows, slots = self._slots(as_points(points))
        columns = self._store.records.columns
        good = slots >= 0 if self._store.records.has("labels") else np.zeros(len(slots), bool)
        good[good] = columns.labels[slots[good]] > 0
        if not good.any():
            return 0
        columns.labels[slots[good]] = columns.weights[slots[good]] = 0
        self.version += 1
        self._store.versions[rows[good]] = self.version
        return len(np.unique(slots[good]))

    def clear(self, lo: ArrayLike, hi: ArrayLike) -> int:
        """Makes the voxels unknown whose centres lie in the box [lo, hi] [m]; returns how many."""
        rows, inside = self._box(as_vector(lo, "lo"), as_vector(hi, "hi"))
        erased = inside & self._store.known(rows)
        touched = erased.any(axis=1)
        rows, erased = rows[touched], erased[touched]
        if not len(rows):
            return 0
        self.version += 1
        return self._store.erase(rows, erased, self.version)

    def drop_oldest(self, share: float) -> int:
        """Makes a share of the known blocks unknown, those observed longest ago; returns how many."""
        rows = self._store.sorted_rows()
        known = self._store.known(rows)
        some = known.any(axis=1)
        rows, known = rows[some], known[some]
        oldest = np.argsort(self._store.stamps[rows], kind="stable")[: int(np.ceil(share * len(rows)))]
        self.version += 1
        self._store.erase(rows[oldest], known[oldest], self.version)
        return len(oldest)

    def content_bytes(self, per_block: int, per_record: int) -> int:
        """Returns how many bytes the known blocks and their records have, at so many each."""
        rows = np.arange(self._store.count)
        blocks = int(np.count_nonzero(self._store.known(rows).any(axis=1)))
        records = int(count_records(self._store.masks.noted[rows]).sum())
        return per_block * blocks + per_record * records

    def digest(self) -> bytes:
        """Returns the SHA-256 over settings and sorted voxels; the same map, the same digest."""
        header = struct.pack("<d4q", self.resolution, *self._step_array.tolist())
        return digest_of(self._contents(), header)

    def save(self, path: str | Path, *, three_state: bool = False) -> None:
        """Writes the octree to a file with a checksum, whole or not at all.

        Args:
            path: the file.
            three_state: keep only whether a voxel is occupied, free or unknown, like OctoMap's
                .bt: no labels, stamps and references; log-odds are the clamps when loaded.

        Raises:
            StoreError: the file cannot be written.
        """
        hit, miss, clamp = self._settings
        settings = {"resolution": self.resolution, "hit": hit, "miss": miss, "clamp": clamp}
        settings["clamp_steps"] = (self._steps.lowest, self._steps.highest)
        file.write_file(Path(path), settings, self._contents(), three_state)

    @classmethod
    def load(cls, path: str | Path) -> Octree:
        """Reads a file that `save` wrote; `StoreError` where it is damaged or foreign."""
        settings, contents = file.read_file(Path(path))
        tree = cls(
            settings["resolution"],
            hit=settings["hit"],
            miss=settings["miss"],
            clamp=tuple(settings["clamp"]),
        )
        tree.version = 1
        put_contents(tree._store, contents, tree.version)
        return tree

    def export_blocks(self, since_version: int = 0) -> list[tuple[int, bytes]]:
        """Returns (key, payload) of the 8^3 blocks changed after a version, sorted by key."""
        return pack_blocks(self.take_blocks(since_version))

    def take_blocks(self, since_version: int = 0) -> Contents:
        """Returns copies of the blocks changed after a version, sorted by key, for `payloads.pack_blocks`."""
        store = self._store
        rows = np.flatnonzero(store.versions[: store.count] > since_version)
        return contents_of(store, by_key(store.keys, rows))

    def import_blocks(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Replaces or adds blocks from what `export_blocks` made, all or none.

        Raises:
            StoreError: a payload is damaged.
        """
        contents = unpack_blocks(rows)
        if len(np.unique(contents.keys)) < len(contents.keys):
            contents = newest([contents])
        if len(contents.keys):
            self.version += 1
            put_contents(self._store, contents, self.version)

    def succeed(self, other: Octree) -> NDArray[np.int64]:
        """Takes another octree's place in the store: every block counts as changed since then.

        Args:
            other: what was stored so far.

        Returns:
            (M,) int64 keys of the blocks that only the other one has, sorted.
        """
        self.version = other.version + 1
        self._store.versions[: self._store.count] = self.version
        keys = other._store.keys[other._store.sorted_rows()]
        return np.sort(keys[self._store.find(keys) < 0])

    def holds(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Returns (M,) bool: which keys of blocks it has."""
        return np.asarray(self._store.find(keys) >= 0)

    def _contents(self) -> Contents:
        rows = self._store.sorted_rows()
        return contents_of(self._store, rows[self._store.known(rows).any(axis=1)])


def warm_up() -> None:
    """Compiles every kernel, or loads it from Numba's cache (`NUMBA_CACHE_DIR`)."""
    tree = Octree(1.0)
    points = np.array([[3.5, 0.5, 0.5], [-2.5, 4.5, 0.5]], np.float32)
    tree.integrate(points, np.zeros(3), labels=np.array([1, 2]), stamp=1, max_range=4.0)
    tree.integrate_cells(points, np.array([True, False]), stamp=2)
    depth = np.full((24, 32), 2.0, np.float32)  # as many pixels as the dense kernels ask for
    depth[:4] = np.inf
    view = Intrinsics(32, 24, 32.0, 32.0, 15.5, 11.5)
    for mode in MODES:
        tree.integrate_depth(depth, view, Pose(), mode=mode, labels=np.ones(depth.shape, np.int32))
    many = np.tile(points, (FEW, 1))
    tree.integrate(many, np.zeros(3), labels=np.ones(len(many), np.int32), stamp=1)
    tree.query(many), tree.query(points), tree.query(points, 5), tree.label(points), tree.label(points, 2)
    tree.ray_cast(np.zeros(3), points, 10.0, stop_at_unknown=True)
    tree.radius(points[0], 2.0, free=True), tree.frontiers(), tree.bounds(), tree.labelled([1])
    tree.traversable(0.0, robot_height=1.0, passable_labels=(1,))
    copy = Octree(1.0)
    copy.import_blocks(tree.export_blocks())
    copy.clear(points[0] - 1, points[0] + 1)
    copy.digest(), len(copy), copy.num_occupied
