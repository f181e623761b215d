"""A word of a block's mask: 64 voxels.

Kernels of other files inline these, and Numba's on-disk cache, which is keyed by the file a
kernel is in, would not notice a change here: change the name with the meaning.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic


@intrinsic
def count_bits(typingctx: Any, word: Any) -> Any:
    """Counts the bits of a uint64."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), generate


@intrinsic
def trailing_zeros(typingctx: Any, word: Any) -> Any:
    """Returns the number of a uint64's lowest bit that is set; there must be one."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], context.get_constant(types.boolean, True))

    return types.int64(types.uint64), generate
