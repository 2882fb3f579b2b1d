"""Bins by GraphCut: every sample gets a bin and a rank in it (Zhou et al., section 4.2).

Bins are made one after another from what the earlier ones left, the last one of the remainder. By
default each class is a pool of its own, as in the authors' code, so that every bin holds every
class.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SelectionError
from dsqformat.select.bin_sizes import SizeRule, bin_size_table
from dsqformat.select.cut_cost import CutCost, cost_of, row_steps, usable_cores
from dsqformat.select.graph_cut import greedy_order
from dsqformat.select.per_sample import class_codes
from dsqformat.select.points import (
    METRICS,
    Features,
    LastLayerGradients,
    Metric,
    checked_features,
    points_of,
)

# (done, total)
ProgressCallback: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True)
class Bins:
    """Where each sample belongs.

    Attributes:
        bin_ids: shape (n,), int32, 0 to bin_count - 1 in the order in which bins were made.
        ranks: shape (n,), int32, pick order: 0 is the first of its bin, and of its class where
            classes are pools of their own. The remainder is ranked as if it was picked too.
        bin_count: how many bins.
        zero_rows: samples whose features are all zero, where the metric is cosine a bad sign.
    """

    bin_ids: NDArray[np.int32]
    ranks: NDArray[np.int32]
    bin_count: int
    zero_rows: int

    def __len__(self) -> int:
        return len(self.bin_ids)

    def sizes(self) -> NDArray[np.int64]:
        """Return the samples of each bin: int64, shape (bin_count,)."""
        return np.bincount(self.bin_ids, minlength=self.bin_count).astype("i8")


def make_bins(
    features: Features,
    labels: NDArray[Any] | None = None,
    *,
    bin_count: int = 10,
    metric: Metric = "cosine",
    per_class: bool = True,
    sizes: SizeRule = "balanced",
    threads: int | None = None,
    progress: ProgressCallback | None = None,
) -> Bins:
    """Divide samples into bins by the greedy GraphCut, exactly.

    Args:
        features: shape (n, d), finite, any real dtype (a memory map will do), or
            LastLayerGradients. Inner products are summed in float64.
        labels: shape (n,), integers or text; needed unless `per_class` is False.
        bin_count: N, at least 1. With 1 the ranks order all samples.
        metric: "cosine" (the authors' code), "euclidean" (the paper) or "dot" (their code for
            texts).
        per_class: whether each class is a pool of its own.
        sizes: "balanced", "geometric" or "compat": see `bin_size_table`.
        threads: how many share the work, all cores by default; the bins do not depend on it.
        progress: called with (done, total) now and then, from any thread, one at a time.

    Raises:
        SelectionError: features are not finite, labels are missing or do not fit, or a class is
            smaller than the bins.
    """
    features = checked_features(features)
    if metric not in METRICS:
        raise SelectionError(f"metric: got {metric!r}, expected one of {', '.join(METRICS)}")
    pools, counts, names = _pools(features, labels, per_class)
    table = bin_size_table(counts, bin_count, sizes, names)
    bin_ids, ranks = np.empty((2, len(features)), "i4")
    meter = _Meter(row_steps(counts), progress)
    threads = max(1, threads or usable_cores())
    inner = 1 if len(pools) >= threads else threads

    def run(number: int) -> int:
        points = points_of(features, pools[number], metric)
        order = greedy_order(points, table[number], threads=inner, on_steps=meter.add)
        chosen = pools[number][order]
        bin_ids[chosen] = np.repeat(np.arange(bin_count), table[number])
        ranks[chosen] = np.concatenate([np.arange(size) for size in table[number].tolist()])
        return points.zero_rows

    if inner > 1 or threads == 1:
        zero_rows = sum(map(run, range(len(pools))))
    else:
        zero_rows = _run_all(run, len(pools), threads, meter)
    return Bins(bin_ids, ranks, bin_count, zero_rows)


def estimate_bins(
    features: Features,
    labels: NDArray[Any] | None = None,
    *,
    per_class: bool = True,
    threads: int | None = None,
) -> CutCost:
    """Estimate what `make_bins` will take with the same arguments; takes some milliseconds.

    Raises:
        SelectionError: features or labels do not fit.
    """
    features = checked_features(features)
    _, counts, _ = _pools(features, labels, per_class)
    return cost_of(features, counts, max(1, threads or usable_cores()))


def _pools(
    features: Features, labels: NDArray[Any] | None, per_class: bool
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64], list[str]]:
    """Return the members of each pool in ascending order, their counts, and names of pools."""
    count = len(features.residuals) if isinstance(features, LastLayerGradients) else len(features)
    if not per_class:
        return [np.arange(count)], np.array([count]), ["all samples"]
    if labels is None:
        raise SelectionError("labels: there are none; give them, or make bins of all (per_class)")
    codes, values = class_codes(labels, count)
    members = np.argsort(codes, kind="stable")
    counts = np.bincount(codes, minlength=len(values))
    return (
        np.split(members, np.cumsum(counts)[:-1]),
        counts,
        [f"class {value!r}" for value in values.tolist()],
    )


def _run_all(run: Callable[[int], int], count: int, threads: int, meter: _Meter) -> int:
    """Run all pools, several at once; the largest error first ends the rest."""
    with ThreadPoolExecutor(threads) as team:
        runs = [team.submit(run, number) for number in range(count)]
        try:
            return sum(done.result() for done in runs)
        except BaseException:
            meter.stop()
            team.shutdown(wait=False, cancel_futures=True)
            raise


class _Meter:
    """Counts the work of several threads."""

    def __init__(self, total: int, progress: ProgressCallback | None) -> None:
        self._lock = threading.Lock()
        self._total, self._done = total, 0
        self._progress = progress
        self._stopped = False

    def add(self, steps: int) -> None:
        """Take note of work done.

        Raises:
            SelectionError: another pool has failed, whose error is the one to report.
        """
        with self._lock:
            if self._stopped:
                raise SelectionError("stopped, because another class failed")
            self._done += steps
            if self._progress is not None:
                self._progress(self._done, self._total)

    def stop(self) -> None:
        """Let the next `add` of each thread end it."""
        with self._lock:
            self._stopped = True
