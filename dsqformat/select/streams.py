"""Random orders, one stream for each seed and place, the same with every release of NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SelectionError


def keyed_order(count: int, seed: int, *key: int) -> NDArray[np.int64]:
    """Return a random order of `count` things: int64, a permutation.

    The raw output of PCG64 is sorted, because NumPy promises that it stays what it is, and not how
    its methods use it.

    Args:
        count: how many.
        seed: at least 0.
        key: which stream of that seed, such as bin and class; each at least 0.

    Raises:
        SelectionError: the seed is negative.
    """
    if seed < 0:
        raise SelectionError(f"seed: got {seed}, expected at least 0")
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key))
    return np.argsort(bits.random_raw(count), kind="stable").astype("i8")
