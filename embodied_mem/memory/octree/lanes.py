"""Vector instructions on blocks' voxels that the compiler does not find by itself, in LLVM's terms.

They are the same on every machine; where it has vectors, each becomes a few instructions. As in `words`,
kernels of other files inline these: change the name with the meaning.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core.cgutils import ir
from numba.extending import intrinsic

_WORD, _LANES = 64, 16
"""Voxels of a word of a mask, octants of a quarter of a block."""
_SPREAD = [(k >> 4) * 4 + ((k & 7) >> 1) for k in range(_WORD)]
"""Which of sixteen octants is voxel k's, of those of two planes."""
_CORNERS = [(k & 0b110000) | (k & 0b110) for k in range(_WORD)]
"""The first voxel of the octant of voxel k, of those of a plane."""
_FIRSTS = [(k >> 2) * 16 + (k & 3) * 2 for k in range(_LANES)]
"""The first voxel of octant k of sixteen."""


def _vector(context: Any, builder: Any, kind: Any, array: Any, start: Any, count: int) -> tuple[Any, Any]:
    """Returns so many elements of an array from one on, as a vector, and a pointer to them."""
    element = context.get_data_type(kind.dtype)
    data = context.make_array(kind)(context, builder, array).data
    pointer = builder.bitcast(builder.gep(data, [start]), ir.VectorType(element, count).as_pointer())
    return builder.load(pointer, align=1), pointer


def _shuffled(builder: Any, vector: Any, places: list[int]) -> Any:
    """Returns the elements of a vector at some places."""
    kind = ir.VectorType(ir.IntType(32), len(places))
    return builder.shuffle_vector(vector, vector, ir.Constant(kind, places))


def _bits(builder: Any, truths: Any) -> Any:
    return builder.bitcast(truths, ir.IntType(_WORD))


@intrinsic
def bits_between(typingctx: Any, values: Any, start: Any, low: Any, high: Any) -> Any:
    """Returns a uint64: bit k tells whether low <= values[start + k] <= high; of signed integers."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector, _ = _vector(context, builder, signature.args[0], args[0], args[1], _WORD)
        some = ir.Constant(vector.type, ir.Undefined)
        first, zeros = builder.insert_element(some, args[2], ir.IntType(32)(0)), [0] * _WORD
        last = builder.insert_element(some, args[3], ir.IntType(32)(0))
        above = builder.icmp_signed(">=", vector, _shuffled(builder, first, zeros))
        below = builder.icmp_signed("<=", vector, _shuffled(builder, last, zeros))
        return _bits(builder, builder.and_(above, below))

    return types.uint64(values, types.intp, values.dtype, values.dtype), generate


@intrinsic
def spread_octants(typingctx: Any, even: Any, start: Any, values: Any, to: Any) -> Any:
    """Gives two planes of voxels, values[to : to + 128], what their octants even[start : start + 16] have."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        octants, _ = _vector(context, builder, signature.args[0], args[0], args[1], _LANES)
        plane = _shuffled(builder, octants, _SPREAD)
        for k in (0, _WORD):
            at = builder.add(args[3], args[3].type(k))
            _, pointer = _vector(context, builder, signature.args[2], args[2], at, _WORD)
            builder.store(plane, pointer, align=1)
        return context.get_dummy_value()

    return types.void(even, types.intp, values, types.intp), generate


@intrinsic
def gather_octants(typingctx: Any, values: Any, start: Any, even: Any, to: Any) -> Any:
    """Fills even[to : to + 16] with the first voxel of each octant of two planes of them.

    The voxels are values[start : start + 128]. Returns a uint64 in which some of the bits 8 * y + z of
    voxels of an octant are set unless all its voxels are like the first one.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        upper, _ = _vector(context, builder, signature.args[0], args[0], args[1], _WORD)
        at = builder.add(args[1], args[1].type(_WORD))
        lower, _ = _vector(context, builder, signature.args[0], args[0], at, _WORD)
        _, pointer = _vector(context, builder, signature.args[2], args[2], args[3], _LANES)
        builder.store(_shuffled(builder, upper, _FIRSTS), pointer, align=1)
        corners = _shuffled(builder, upper, _CORNERS)
        others = builder.icmp_unsigned("!=", upper, corners), builder.icmp_unsigned("!=", lower, corners)
        return _bits(builder, builder.or_(*others))

    return types.uint64(values, types.intp, even, types.intp), generate
