"""What the vector instructions of the octree promise, against numpy."""

import numpy as np
import pytest
from numba import njit

from embodied_mem.memory.octree.lanes import bits_between, gather_octants, spread_octants
from embodied_mem.memory.octree.words import count_bits, trailing_zeros


@njit
def _bits(values, start, low, high):
    return bits_between(values, start, low, high)


@njit
def _spread(even, start, values, to):
    spread_octants(even, start, values, to)


@njit
def _gather(values, start, even, to):
    return gather_octants(values, start, even, to)


@njit
def _count(word):
    return count_bits(word)


@njit
def _zeros(word):
    return trailing_zeros(word)


@pytest.mark.parametrize(
    ("kind", "low", "high"), [(np.int8, -127, -1), (np.int8, 0, 127), (np.int32, 1, 70_000)]
)
def test_bits_tell_which_values_lie_between(kind, low, high):
    rng = np.random.default_rng(0)
    info = np.iinfo(kind)
    values = rng.integers(info.min, info.max, 200, endpoint=True).astype(kind)
    values[:4] = low, high, info.min, info.max
    for start in (0, 1, 77, 136):
        expected = (values[start : start + 64] >= low) & (values[start : start + 64] <= high)
        found = _bits(values, start, kind(low), kind(high))
        assert [(int(found) >> k) & 1 for k in range(64)] == expected.astype(int).tolist()


def test_octants_spread_over_their_voxels_and_are_found_again():
    rng = np.random.default_rng(1)
    even = rng.integers(-128, 128, 64).astype(np.int8)
    values = np.zeros(512, np.int8)
    for x in range(4):
        _spread(even, 16 * x, values, 128 * x)
    blocks = values.reshape(4, 2, 4, 2, 4, 2)
    assert (blocks == even.reshape(4, 1, 4, 1, 4, 1)).all()

    back = np.empty_like(even)
    assert [_gather(values, 128 * x, back, 16 * x) for x in range(4)] == [0] * 4
    assert (back == even).all()


@pytest.mark.parametrize("voxel", range(128))
def test_a_voxel_unlike_its_octant_is_told(voxel):
    values, even = np.zeros(128, np.int8), np.zeros(16, np.int8)
    values[voxel] = 5
    octant = (np.uint64(0x0303) << np.uint64((voxel & 0b110000) | (voxel & 0b110))).item()
    found = int(_gather(values, 0, even, 0))
    assert found and not found & ~octant


def test_trailing_zeros_of_every_bit():
    for k in range(64):
        assert _zeros(np.uint64(1) << np.uint64(k)) == k
        assert _zeros(np.uint64((1 << 64) - (1 << k))) == k


def test_bits_are_counted():
    for word in (0, 1, 1 << 63, (1 << 64) - 1, 0x123456789ABCDEF0):
        assert _count(np.uint64(word)) == word.bit_count()
