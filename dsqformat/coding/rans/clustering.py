"""Tables from histograms: contexts merge while that saves bits, tables counted."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.rans.layer_model import GRADES, MAX_GRADE

# What a table costs in the model, in bits: of its own and for each symbol that occurs.
TABLE_BITS: Final = 30.0
SYMBOL_BITS: Final = 4.0
# What it costs to leave the table of the context before, in the map of contexts.
BREAK_BITS: Final = 8.0
# Candidates of the greedy merging, which costs their square.
MAX_CANDIDATES: Final = 256
MAX_TABLES: Final = 256
ROUNDS: Final = 2


def cluster_contexts(
    histogram: NDArray[np.int64], *, complete: bool
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Find tables and the table of each context.

    Args:
        histogram: int64, shape (contexts, symbols), how often each symbol occurs.
        complete: True if nothing else will be coded: symbols that do not occur get frequency 0.

    Returns:
        Grades, uint8, shape (tables, symbols), and table_of, uint16, shape (contexts,).
    """
    total = histogram.sum(axis=1)
    used = np.nonzero(total)[0]
    if not len(used):
        return np.ones((1, histogram.shape[1]), "u1"), np.zeros(len(histogram), "u2")
    candidates = used[np.argsort(-total[used], kind="stable")][:MAX_CANDIDATES]
    groups = histogram[used].astype("f8")
    near = _nearest(groups, histogram[candidates].astype("f8"))
    seeds = np.zeros((len(candidates), histogram.shape[1]))
    np.add.at(seeds, near, groups)
    seeds = seeds[np.unique(near)]
    tables = merge_histograms(seeds)
    table_of = np.zeros(len(histogram), "i8")
    for _ in range(ROUNDS):
        table_of = _smooth_map(histogram, tables)
        counts = np.zeros((len(tables), histogram.shape[1]))
        np.add.at(counts, table_of, histogram)
        alive = counts.sum(axis=1) > 0
        if not alive.all():
            table_of = (np.cumsum(alive) - 1)[np.where(alive[table_of], table_of, 0)]
        tables = counts[alive]
    table_of = _smooth_map(histogram, tables)
    return _finished(histogram, tables, table_of, complete)


def merge_histograms(histogram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Merge the pair that saves most until none does, or MAX_TABLES are left.

    Args:
        histogram: float64, shape (candidates, symbols).

    Returns:
        float64, shape (tables, symbols).
    """
    groups = histogram.copy()
    own = _row_bits(groups)
    gain = np.full((len(groups), len(groups)), np.inf)
    for i in range(len(groups) - 1):
        gain[i, i + 1 :] = _row_bits(groups[i] + groups[i + 1 :]) - own[i] - own[i + 1 :]
    gain = np.minimum(gain, gain.T)
    alive = np.ones(len(groups), "?")
    while alive.sum() > 1:
        i, j = divmod(int(gain.argmin()), len(groups))
        if gain[i, j] > 0 and alive.sum() <= MAX_TABLES:
            break
        groups[i] += groups[j]
        alive[j] = False
        own[i] = _row_bits(groups[i : i + 1])[0]
        gain[j, :] = gain[:, j] = np.inf
        row = np.where(alive, _row_bits(groups[i] + groups) - own[i] - own, np.inf)
        row[i] = np.inf
        gain[i, :] = gain[:, i] = row
    return groups[alive]


def _row_bits(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    total = rows.sum(axis=1)
    entropy = total * np.log2(np.maximum(total, 1))
    entropy -= (rows * np.log2(np.maximum(rows, 1))).sum(axis=1)
    bits: NDArray[np.float64] = entropy + TABLE_BITS + SYMBOL_BITS * (rows > 0).sum(axis=1)
    return bits


def _symbol_bits(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    share = (tables + 0.02) / (tables + 0.02).sum(axis=1, keepdims=True)
    bits: NDArray[np.float64] = -np.log2(np.maximum(share, 1 / 8192))
    return bits


def _nearest(rows: NDArray[np.float64], tables: NDArray[np.float64]) -> NDArray[np.intp]:
    nearest: NDArray[np.intp] = np.argmin(rows @ _symbol_bits(tables).T, axis=1)
    return nearest


def _smooth_map(histogram: NDArray[np.int64], tables: NDArray[np.float64]) -> NDArray[np.int64]:
    """Choose tables so that symbols and changes of table cost least (Viterbi)."""
    cost: NDArray[np.float64] = histogram @ _symbol_bits(tables).T
    states = np.arange(len(tables))
    came = np.empty(cost.shape, "i8")
    total = np.where(states == 0, 0.0, BREAK_BITS)
    for i, row in enumerate(cost):
        best = int(total.argmin())
        change = total[best] + BREAK_BITS
        came[i] = np.where(total <= change, states, best)
        total = np.minimum(total, change) + row
    table_of = np.empty(len(cost), "i8")
    state = int(total.argmin())
    for i in range(len(cost) - 1, -1, -1):
        table_of[i] = state
        state = int(came[i, state])
    return table_of


def _finished(
    histogram: NDArray[np.int64],
    tables: NDArray[np.float64],
    table_of: NDArray[np.int64],
    complete: bool,
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Count the symbols of each table anew, order tables by their mean symbol, grade them."""
    counts: NDArray[np.int64] = np.zeros(tables.shape, "i8")
    np.add.at(counts, table_of, histogram)
    in_use = np.unique(table_of)
    counts = counts[in_use]
    weight = np.maximum(counts.sum(axis=1), 1)
    symbols = np.arange(histogram.shape[1])
    means = (counts @ symbols) / weight
    order = np.argsort(means, kind="stable")
    rank = np.empty(len(tables), "i8")
    rank[in_use[order]] = np.arange(len(in_use))
    grades = np.array([grade_counts(row, complete=complete) for row in counts[order]], "u1")
    return grades, rank[table_of].astype("u2")


def grade_counts(counts: NDArray[np.int64], *, complete: bool) -> NDArray[np.uint8]:
    """Return the grades whose frequencies come nearest to counts.

    Args:
        counts: int64, shape (symbols,).
        complete: True: what does not occur gets frequency 0, else at least 1.
    """
    if not counts.any():
        return np.ones(len(counts), "u1")
    target = counts * 4096.0 / counts.sum()
    if not complete:
        target = np.maximum(target, 1.0)
    middle = (GRADES[1:] + GRADES[:-1]) / 2
    grades: NDArray[np.uint8] = np.searchsorted(middle, target, "right").astype("u1")
    grades[(counts > 0) & (grades == 0)] = 1
    return np.minimum(grades, np.uint8(MAX_GRADE))


__all__ = ["cluster_contexts", "grade_counts", "merge_histograms"]
