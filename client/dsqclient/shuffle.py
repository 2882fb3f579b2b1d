"""Seeded random orders that depend on nothing but their key.

NumPy's generators may change their streams between versions; ranks and resumed runs must not.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15
_MIX_1: Final = 0xBF58476D1CE4E5B9
_MIX_2: Final = 0x94D049BB133111EB


def derive_key(*words: int) -> int:
    """Return a key of 64 bits for a list of integers (splitmix64, absorbed word by word).

    Args:
        words: any integers; the same words in another order give another key.
    """
    state = 0
    for word in words:
        state = (state ^ (word & _MASK)) + _GOLDEN & _MASK
        state = (state ^ (state >> 30)) * _MIX_1 & _MASK
        state = (state ^ (state >> 27)) * _MIX_2 & _MASK
        state ^= state >> 31
    return state


def permutation(key: int, count: int) -> NDArray[np.int64]:
    """Return a permutation of 0 to count - 1, int64, shape (count,), fixed by its key."""
    with np.errstate(over="ignore"):
        state = np.arange(1, count + 1, dtype="u8") * np.uint64(_GOLDEN) + np.uint64(key)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(_MIX_1)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(_MIX_2)
        state ^= state >> np.uint64(31)
    return np.argsort(state, kind="stable").astype("i8")
