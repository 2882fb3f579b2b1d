"""What a run of GraphCut will take, from a probe of some milliseconds on the machine at hand."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.kernels import graph_cut_kernel
from dsqformat.select.points import Features, padded_width, stored_dtype

# As large as the rows of a real run, but no larger than what caches could hold and probes wait for.
_PROBE_NBYTES: Final = 32 << 20
_PROBE_S: Final = 0.2
# A pick costs the interpreter about so much, whatever the rows.
_PICK_S: Final = 30e-6


@dataclass(frozen=True)
class CutCost:
    """Work, memory and time that bins will take.

    Attributes:
        multiply_adds: M^2 d / 2 of each pool, padding of d to 16 included.
        nbytes: of memory beside the features themselves, at most.
        seconds: estimate for this machine as busy as it is now.
        threads: that will share the work.
    """

    multiply_adds: int
    nbytes: int
    seconds: float
    threads: int

    def __str__(self) -> str:
        return (
            f"GraphCut: {self.multiply_adds:.2g} multiply-adds, {self.nbytes / 1e6:.0f} MB, "
            f"about {_spoken(self.seconds)} on {self.threads} "
            f"{'thread' if self.threads == 1 else 'threads'}"
        )


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def row_steps(pool_sizes: NDArray[np.int64]) -> int:
    """Return the rows that all picks go through: M (M + 1) / 2 of each pool."""
    return sum(size * (size + 1) // 2 for size in pool_sizes.tolist())


def cost_of(features: Features, pool_sizes: NDArray[np.int64], threads: int) -> CutCost:
    """Estimate what bins of such pools take.

    Args:
        features: of all samples.
        pool_sizes: samples of each class, or of all together.
        threads: that share the work.
    """
    width, dtype = padded_width(features), stored_dtype(features)
    steps, largest = row_steps(pool_sizes), int(pool_sizes.max())
    at_once = min(threads, len(pool_sizes))
    most = _PROBE_NBYTES // (width * dtype.itemsize) + 1
    per_value = _probe(min(largest, most), width, dtype, threads)
    picks = int(pool_sizes.sum()) * _PICK_S / at_once
    # Twice: rows are copied when they are moved together.
    nbytes = 2 * at_once * largest * (width * dtype.itemsize + 10 * 8)
    return CutCost(steps * width, nbytes, steps * width * per_value + picks, threads)


def _probe(count: int, width: int, dtype: np.dtype[np.generic], threads: int) -> float:
    """Return seconds per multiply-add of all threads together."""
    kernel = graph_cut_kernel()

    def run(_number: int) -> float:
        rows, vector, out = np.ones((count, width), dtype), np.ones(width), np.empty(count)
        calls, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < _PROBE_S or not calls:
            kernel.row_products(rows, 0, count, vector, out)
            calls += 1
        return calls / passed

    with ThreadPoolExecutor(threads) as team:
        return 1 / (sum(team.map(run, range(threads))) * count * width)


def _spoken(seconds: float) -> str:
    if seconds < 100:
        return f"{max(seconds, 0.1):.2g} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
