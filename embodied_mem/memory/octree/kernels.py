"""Numba kernels of the octree: the block hash, rays, and look-ups.

Kernels that share a helper live in one file, because Numba's on-disk cache is
keyed by the file a kernel is in and would not notice a change elsewhere.

A voxel index is `floor(coordinate * (1 / resolution))`, in float64 from float32
coordinates, everywhere. A block is 8^3 voxels; its packed key holds three
21-bit biased block coordinates, x in the highest bits, so that sorting keys
sorts blocks by x, y, z. Within a block a voxel's index is `x * 64 + y * 8 + z`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

BIAS = 1 << 20
WORLD = BIAS * 8 - 16
"""Voxel indices beyond +-WORLD do not fit the packed key; such points are dropped."""
EMPTY = -1
FREE, HIT = 1, 2
"""Bits of a scan's marks: a ray passed the voxel, a ray ended in it."""


@njit(cache=True, nogil=True)
def _pack(bx: int, by: int, bz: int) -> int:
    return ((bx + BIAS) << 42) | ((by + BIAS) << 21) | (bz + BIAS)


@njit(cache=True, nogil=True)
def _slot(table: Array, key: int) -> int:
    """Returns the slot of `key`, or the empty one where it belongs (linear probing)."""
    mask = table.shape[0] - 1
    h = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    i = np.int64((h ^ (h >> np.uint64(29))) >> np.uint64(3)) & mask
    while table[i, 0] != key and table[i, 0] != EMPTY:
        i = (i + 1) & mask
    return i


@njit(cache=True, nogil=True)
def find_rows(table: Array, keys: Array) -> Array:
    """Looks up packed keys.

    Args:
        table: (S, 2) int64, key and row; S a power of two.
        keys: (M,) int64.

    Returns:
        (M,) int64 rows, -1 where a key is absent.
    """
    rows = np.empty(keys.shape[0], np.int64)
    for i in range(keys.shape[0]):
        s = _slot(table, keys[i])
        rows[i] = table[s, 1] if table[s, 0] != EMPTY else -1
    return rows


@njit(cache=True, nogil=True)
def insert_rows(table: Array, keys: Array, rows: Array, count: int, most: int) -> tuple[int, int]:
    """Looks up packed keys and gives absent ones the next rows, as long as there is room.

    Args:
        table: of `find_rows`.
        keys: (M,) int64.
        rows: (M,) int64, filled.
        count: rows in use.
        most: how many there may be.

    Returns:
        how many keys have a row now, the first ones, and the new number of rows.
    """
    for i in range(keys.shape[0]):
        s = _slot(table, keys[i])
        if table[s, 0] == EMPTY:
            if count >= most:
                return i, count
            table[s, 0] = keys[i]
            table[s, 1] = count
            count += 1
        rows[i] = table[s, 1]
    return keys.shape[0], count


@njit(cache=True, nogil=True)
def locate(points: Array, inverse: float, table: Array) -> tuple[Array, Array]:
    """Finds the block row and the index within the block of points.

    Args:
        points: (N, 3) float32 [m].
        inverse: 1 / resolution [1/m].
        table: the block hash.

    Returns:
        rows (N,) int64, -1 where the block is absent or the point is not finite or outside
        the world; and local indices (N,) int64.
    """
    n = points.shape[0]
    rows = np.empty(n, np.int64)
    local = np.empty(n, np.int64)
    last_key = np.int64(EMPTY)
    last_row = np.int64(-1)
    for i in range(n):
        x = np.floor(np.float64(points[i, 0]) * inverse)
        y = np.floor(np.float64(points[i, 1]) * inverse)
        z = np.floor(np.float64(points[i, 2]) * inverse)
        rows[i] = -1
        local[i] = 0
        if not (abs(x) < WORLD and abs(y) < WORLD and abs(z) < WORLD):  # False for NaN
            continue
        vx, vy, vz = np.int64(x), np.int64(y), np.int64(z)
        key = _pack(vx >> 3, vy >> 3, vz >> 3)
        if key != last_key:
            s = _slot(table, key)
            last_key = key
            last_row = table[s, 1] if table[s, 0] != EMPTY else -1
        rows[i] = last_row
        local[i] = ((vx & 7) << 6) | ((vy & 7) << 3) | (vz & 7)
    return rows, local


@njit(cache=True, nogil=True)
def rehash(keys: Array, slots: int) -> Array:
    """Builds the table of `slots` entries that maps keys[i] to row i."""
    table = np.full((slots, 2), EMPTY, np.int64)
    for i in range(keys.shape[0]):
        s = _slot(table, keys[i])
        table[s, 0] = keys[i]
        table[s, 1] = i
    return table


class Scan(NamedTuple):
    """The blocks that one scan touches; `len(keys)` is the capacity, a multiple of two.

    Attributes:
        table: (4 M, 2) int64, hash from packed block key to row.
        keys: (M,) int64 packed block keys.
        marks: (M, 512) uint8 of FREE and HIT bits.
        slots: (M,) int32 which row of the votes is a block's, -1 where nothing has been voted for in it.
        names: (V, 512) int32 labels voted for: long rays end in few of the blocks that they pass.
        counts: like `names`, the majority of each vote.
        used: (1,) int64, votes in use.
    """

    table: Array
    keys: Array
    marks: Array
    slots: Array
    names: Array
    counts: Array
    used: Array


@njit(cache=True, nogil=True)
def _grow(scan: Scan) -> Scan:
    """Doubles a scan's capacity."""
    size = scan.keys.shape[0]
    keys = np.concatenate((scan.keys, np.empty(size, np.int64)))
    return Scan(
        rehash(scan.keys, 8 * size),
        keys,
        np.concatenate((scan.marks, np.zeros_like(scan.marks))),
        np.concatenate((scan.slots, np.full(size, np.int32(-1)))),
        scan.names,
        scan.counts,
        scan.used,
    )


@njit(cache=True, nogil=True)
def _make_votes(scan: Scan, row: int) -> Scan:
    """Makes votes for a block that has none."""
    slot = scan.used[0]
    if slot == scan.names.shape[0]:
        scan = Scan(
            scan.table,
            scan.keys,
            scan.marks,
            scan.slots,
            np.concatenate((scan.names, np.zeros_like(scan.names))),
            np.concatenate((scan.counts, np.zeros_like(scan.counts))),
            scan.used,
        )
    scan.slots[row] = slot
    scan.used[0] = slot + 1
    return scan


@njit(cache=True, nogil=True)
def _scan_row(scan: Scan, here: Array, count: int) -> int:
    """Returns the scan's row of the block of a voxel: `count` where it is new."""
    key = _pack(here[0] >> 3, here[1] >> 3, here[2] >> 3)
    s = _slot(scan.table, key)
    if scan.table[s, 0] == EMPTY:
        scan.table[s, 0] = key
        scan.table[s, 1] = count
        scan.keys[count] = key
    return scan.table[s, 1]


@njit(cache=True, nogil=True)
def _local(here: Array) -> int:
    return ((here[0] & 7) << 6) | ((here[1] & 7) << 3) | (here[2] & 7)


@njit(cache=True, nogil=True)
def _vote(scan: Scan, i: int, j: int, label: int, hit: bool) -> None:
    """Counts a label for a voxel of the scan (Boyer-Moore majority); a hit silences all misses."""
    was_hit = scan.marks[i, j] & HIT != 0
    k = scan.slots[i]
    if hit and not was_hit:
        scan.names[k, j] = 0
        scan.counts[k, j] = 0
    if label <= 0 or (was_hit and not hit):
        return
    if scan.counts[k, j] == 0:
        scan.names[k, j] = label
        scan.counts[k, j] = 1
    elif scan.names[k, j] == label:
        scan.counts[k, j] += 1
    else:
        scan.counts[k, j] -= 1


@njit(cache=True, nogil=True)
def _aim(origin: Array, end: Array, ray: Array, max_range: float) -> tuple[bool, float]:
    """Shortens a ray to `max_range`, in float32 as OctoMap does; makes `ray` a unit vector.

    Returns:
        whether the ray reaches its end, and its length [m].
    """
    for a in range(3):
        ray[a] = end[a] - origin[a]
    far = np.sqrt(np.float64(ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2]))
    reaches = far <= max_range
    if not reaches:
        for a in range(3):
            end[a] = origin[a] + ray[a] / np.float32(far) * np.float32(max_range)
            ray[a] = end[a] - origin[a]
    length = np.float32(np.sqrt(np.float64(ray[0] * ray[0] + ray[1] * ray[1] + ray[2] * ray[2])))
    if length > np.float32(0.0):
        for a in range(3):
            ray[a] = ray[a] / length
    return reaches, np.float64(length)


@njit(cache=True, nogil=True)
def _walk(
    scan: Scan,
    count: int,
    origin: Array,
    ray: Array,
    length: float,
    resolution: float,
    here: Array,
    stop: Array,
) -> tuple[Scan, int]:
    """Marks FREE every voxel from `here` up to, and without, `stop`."""
    step = np.empty(3, np.int64)
    t_next = np.full(3, np.inf)
    t_delta = np.full(3, np.inf)
    for a in range(3):
        d = np.float64(ray[a])
        step[a] = 1 if d > 0.0 else (-1 if d < 0.0 else 0)
        if step[a] != 0:
            border = (np.float64(here[a]) + 0.5) * resolution
            border += np.float64(np.float32(step[a] * resolution * 0.5))
            t_next[a] = (border - np.float64(origin[a])) / d
            t_delta[a] = resolution / abs(d)
    row = np.int64(-1)
    while True:
        if row < 0:
            if count == scan.keys.shape[0]:
                scan = _grow(scan)
            row = _scan_row(scan, here, count)
            count = max(count, row + 1)
        scan.marks[row, _local(here)] |= FREE
        if t_next[0] < t_next[1]:
            a = 0 if t_next[0] < t_next[2] else 2
        else:
            a = 1 if t_next[1] < t_next[2] else 2
        here[a] += step[a]
        t_next[a] += t_delta[a]
        if (here[a] & 7) == (0 if step[a] > 0 else 7):
            row = -1
        if here[0] == stop[0] and here[1] == stop[1] and here[2] == stop[2]:
            break
        # Rounding may make the walk miss the end voxel: stop at the ray's length.
        if min(t_next[0], t_next[1], t_next[2]) > length:
            break
    return scan, count


@njit(cache=True, nogil=True)
def mark_scan(
    points: Array, hit: Array, labels: Array, origin: Array, max_range: float, resolution: float, cast: bool
) -> tuple[Scan, int, int]:
    """Marks the voxels of one scan, sparsely: any extent, any length of ray.

    The traversal is Amanatides and Woo's ("A Fast Voxel Traversal Algorithm for Ray
    Tracing", 1987) with the roundings of OctoMap (Hornung et al., 2013), so that both
    visit the same voxels: float32 differences and direction, float64 crossings.

    Args:
        points: (N, 3) float32 [m].
        hit: (N,) bool; False: the ray only clears, up to the point's voxel.
        labels: (N,) int32, or (0,) for none.
        origin: (3,) float32 [m].
        max_range: [m]; longer rays clear up to it and end on nothing.
        resolution: edge of a voxel [m].
        cast: False: no rays; each point marks its own voxel hit or free.

    Returns:
        the scan, the number of its blocks, and the number of points dropped because they are
        not finite or lie outside the world.
    """
    voting = 256 if labels.shape[0] > 0 else 0
    scan = Scan(
        np.full((1024, 2), EMPTY, np.int64),
        np.empty(256, np.int64),
        np.zeros((256, 512), np.uint8),
        np.full(256, np.int32(-1)),
        np.zeros((voting, 512), np.int32),
        np.zeros((voting, 512), np.int32),
        np.zeros(1, np.int64),
    )
    inverse = 1.0 / resolution
    count = np.int64(0)
    dropped = 0
    here = np.empty(3, np.int64)
    stop = np.empty(3, np.int64)
    end = np.empty(3, np.float32)
    ray = np.empty(3, np.float32)
    for i in range(points.shape[0]):
        inside = True
        for a in range(3):
            end[a] = points[i, a]
            inside = inside and abs(np.float64(end[a]) * inverse) < WORLD  # False for NaN
        if not inside:
            dropped += 1
            continue
        ends = hit[i]
        length = 0.0
        if cast:
            reaches, length = _aim(origin, end, ray, max_range)
            ends = ends and reaches
        same = True
        for a in range(3):
            here[a] = np.int64(np.floor(np.float64(origin[a]) * inverse))
            stop[a] = np.int64(np.floor(np.float64(end[a]) * inverse))
            same = same and here[a] == stop[a]
        # A ray within one voxel passes none; a length that underflows has no direction.
        if length > 0.0 and not same:
            scan, count = _walk(scan, count, origin, ray, length, resolution, here, stop)
        if ends or not cast:
            if count == scan.keys.shape[0]:
                scan = _grow(scan)
            row = _scan_row(scan, stop, count)
            count = max(count, row + 1)
            j = _local(stop)
            if voting:
                if scan.slots[row] < 0:
                    scan = _make_votes(scan, row)
                _vote(scan, row, j, labels[i], ends)
            scan.marks[row, j] |= np.uint8(HIT) if ends else np.uint8(FREE)
    return scan, count, dropped


@njit(cache=True, nogil=True)
def cast_rays(
    origins: Array,
    directions: Array,
    max_range: float,
    resolution: float,
    table: Array,
    occupied: Array,
    known: Array,
    stop_at_unknown: bool,
) -> tuple[Array, Array, Array, Array]:
    """Walks rays through the map until an occupied voxel.

    Args:
        origins: (N, 3) float64 [m].
        directions: (N, 3) float64, unit length.
        max_range: [m].
        resolution: edge of a voxel [m].
        table: the block hash.
        occupied: (B, 8) uint64 masks of occupied voxels.
        known: (B, 8) uint64 masks of known voxels; used where `stop_at_unknown`.
        stop_at_unknown: a ray that meets an unknown voxel ends there without a hit.

    Returns:
        hit (N,) bool, distance (N,) float64 to where the ray enters the voxel or to where it
        gave up [m], rows (N,) int64 and local indices (N,) int64 of the voxels hit.
    """
    n = origins.shape[0]
    hits = np.zeros(n, np.bool_)
    distance = np.full(n, max_range)
    rows = np.full(n, -1, np.int64)
    local = np.zeros(n, np.int64)
    inverse = 1.0 / resolution
    here = np.empty(3, np.int64)
    step = np.empty(3, np.int64)
    t_next = np.empty(3)
    t_delta = np.empty(3)
    for i in range(n):
        inside = True
        for a in range(3):
            v = np.floor(origins[i, a] * inverse)
            inside = inside and abs(v) < WORLD
            here[a] = np.int64(v) if inside else 0
            d = directions[i, a]
            step[a] = 1 if d > 0 else (-1 if d < 0 else 0)
            t_next[a] = np.inf
            t_delta[a] = np.inf
            if step[a] != 0:
                border = (here[a] + (1 if step[a] > 0 else 0)) * resolution
                t_next[a] = (border - origins[i, a]) / d
                t_delta[a] = resolution / abs(d)
        t = 0.0
        row = np.int64(-2)
        while inside and t <= max_range:
            if row == -2:
                s = _slot(table, _pack(here[0] >> 3, here[1] >> 3, here[2] >> 3))
                row = table[s, 1] if table[s, 0] != EMPTY else -1
            if row >= 0:
                bit = np.uint64(((here[1] & 7) << 3) | (here[2] & 7))
                if (occupied[row, here[0] & 7] >> bit) & np.uint64(1):
                    hits[i] = True
                    distance[i] = t
                    rows[i] = row
                    local[i] = ((here[0] & 7) << 6) | np.int64(bit)
                    break
            else:
                bit = np.uint64(0)
            if stop_at_unknown and (row < 0 or not (known[row, here[0] & 7] >> bit) & np.uint64(1)):
                distance[i] = t
                break
            if t_next[0] < t_next[1]:
                a = 0 if t_next[0] < t_next[2] else 2
            else:
                a = 1 if t_next[1] < t_next[2] else 2
            t = t_next[a]
            here[a] += step[a]
            t_next[a] += t_delta[a]
            if (here[a] & 7) == (0 if step[a] > 0 else 7):
                row = -2
            inside = abs(here[a]) < WORLD
    return hits, distance, rows, local
