"""Bits for each sample: more for those whose gradients suffer most (Yu & Yu, section 4.2)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SelectionError
from dsqformat.select.allocation import allocate
from dsqformat.select.per_sample import checked_scores, class_codes
from dsqformat.select.ratios import Ratio, exact_ratio

DROPPED: Final = 0
MAX_BITS: Final = 16


def two_bit_levels(
    sensitivity: NDArray[Any],
    high: int,
    low: int,
    average: Ratio | None = None,
    labels: NDArray[Any] | None = None,
) -> NDArray[np.int64]:
    """Give the most sensitive samples `high` bits and the others `low`.

    k = floor(n (average - low) / (high - low)) get `high`, so that the mean is never above
    `average`. Samples of equal sensitivity come in the order of their indices.

    Args:
        sensitivity: shape (n,), finite.
        high: 2 to 16, or `low`.
        low: 2 to `high`, or 0: those samples are dropped.
        average: bits of a sample on average, `low` to `high`; half way by default.
        labels: shape (n,); with them each class is divided on its own (the paper divides all
            together, and a class may be dropped as good as whole).

    Returns:
        Bits of each sample: int64, shape (n,).

    Raises:
        SelectionError: bits or average are out of range, or a sensitivity is not finite.
    """
    if low > high:
        raise SelectionError(f"bits: got {high} for high and {low} for low; swap them")
    mean = Fraction(high + low, 2) if average is None else exact_ratio(average, "average bits")
    if not low <= mean <= high:
        raise SelectionError(f"average bits: got {average}, expected {low} to {high}")
    share = (mean - low) / (high - low) if high > low else Fraction(1)
    return ranked_bit_levels(sensitivity, [(high, share), (low, 1 - share)], labels)


def ranked_bit_levels(
    sensitivity: NDArray[Any],
    levels: Sequence[tuple[int, Ratio]],
    labels: NDArray[Any] | None = None,
) -> NDArray[np.int64]:
    """Give more bits to more sensitive samples, at any number of levels.

    With f the shares of the levels from most bits to fewest, floor(n (f_1 + ... + f_i)) samples
    get at least the bits of level i: the mean is never above that of the levels.

    Args:
        sensitivity: shape (n,), finite.
        levels: (bits, share of the samples) in any order; bits 2 to 16, or 0 for dropped; the
            shares make 1 exactly.
        labels: shape (n,); with them each class is divided on its own.

    Returns:
        Bits of each sample: int64, shape (n,).

    Raises:
        SelectionError: bits or shares are out of range, or a sensitivity is not finite.
    """
    values = checked_scores(sensitivity, "sensitivity")
    steps = _checked_levels(levels)
    codes = np.zeros(len(values), "i8")
    if labels is not None:
        codes, _ = class_codes(labels, len(values))
    bits = np.empty(len(values), "i8")
    # By class, then by sensitivity from the highest, then by index.
    order = np.lexsort((-values, codes))
    first = 0
    for count in np.bincount(codes).tolist():
        reached = [0, *(math.floor(count * share) for share in _running(steps))]
        numbers = [end - start for start, end in itertools.pairwise(reached)]
        bits[order[first : first + count]] = np.repeat([b for b, _ in steps], numbers)
        first += count
    return bits


def budgeted_bit_levels(
    nbytes: NDArray[Any],
    distortion: NDArray[Any],
    bit_widths: Sequence[int],
    budget_nbytes: float,
) -> NDArray[np.int64]:
    """Choose bits, or qps, for each sample so that a number of bytes suffices for all.

    The sum of distortions is made small by `allocate`, the one solver of budgets. It falls, or
    stays, as the budget rises.

    Args:
        nbytes: shape (n, k), bytes of each sample at each level, finite and at least 0; a level
            of 0 bytes drops the sample.
        distortion: shape (n, k), sensitivity or squared error at each level, finite.
        bit_widths: k numbers, what the levels are called.
        budget_nbytes: bytes for all samples together, never exceeded.

    Returns:
        The chosen one of `bit_widths` for each sample: int64, shape (n,).

    Raises:
        SelectionError: the tables do not fit or hold a number that is not finite.
        TargetError: not even the smallest levels fit the budget.
    """
    tables = [np.asarray(table, "f8") for table in (nbytes, distortion)]
    expected = (len(tables[0]), len(bit_widths))
    for what, table in zip(("bytes", "distortion"), tables, strict=True):
        if table.shape != expected or not len(bit_widths):
            raise SelectionError(
                f"{what}: got shape {table.shape}, expected a column for each of "
                f"{len(bit_widths)} levels"
            )
        wrong = ~np.isfinite(table).all(axis=1)
        if wrong.any():
            raise SelectionError(f"{what}: that of sample {int(wrong.argmax())} is not finite")
    if (tables[0] < 0).any() or not math.isfinite(budget_nbytes):
        raise SelectionError("bytes: expected at least 0 for each sample, and a finite budget")
    return np.asarray(bit_widths, "i8")[allocate(tables[0], tables[1], budget_nbytes)]


def bits_by_class(bits: NDArray[np.int64], labels: NDArray[Any]) -> dict[Any, dict[int, int]]:
    """Return how many samples of each class have how many bits.

    Args:
        bits: shape (n,).
        labels: shape (n,).

    Raises:
        SelectionError: the labels do not fit.
    """
    codes, names = class_codes(labels, len(bits))
    counted: dict[Any, dict[int, int]] = {}
    for code, name in enumerate(names.tolist()):
        widths, counts = np.unique(bits[codes == code], return_counts=True)
        counted[name] = dict(zip(widths.tolist(), counts.tolist(), strict=True))
    return counted


def _checked_levels(levels: Sequence[tuple[int, Ratio]]) -> list[tuple[int, Fraction]]:
    """Return levels from most bits to fewest."""
    steps = [(bits, exact_ratio(share, "share of a level")) for bits, share in levels]
    for bits, share in steps:
        if bits != DROPPED and not 2 <= bits <= MAX_BITS:
            raise SelectionError(
                f"bits: got {bits}, expected 2 to {MAX_BITS}, or {DROPPED} to drop samples"
            )
        if not 0 <= share <= 1:
            raise SelectionError(f"share of a level: got {share}, expected 0 to 1")
    total = sum(share for _, share in steps)
    if total != 1:
        raise SelectionError(
            f'shares of levels: they make {float(total):.6g}, expected 1; write thirds as "1/3"'
        )
    return sorted(steps, reverse=True)


def _running(steps: list[tuple[int, Fraction]]) -> list[Fraction]:
    return list(itertools.accumulate(share for _, share in steps))
