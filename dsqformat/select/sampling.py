"""Samples from bins: the same share of each (Zhou et al.), or more where it matters (Li et al.)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SelectionError
from dsqformat.select.apportionment import apportion
from dsqformat.select.bins import Bins
from dsqformat.select.per_sample import class_codes
from dsqformat.select.ratios import Ratio, exact_ratio, keep_count
from dsqformat.select.streams import keyed_order

QuotaMode: TypeAlias = Literal["mixture", "size_weighted", "literal"]
Choice: TypeAlias = Literal["random", "rank"]

QUOTA_MODES: Final = get_args(QuotaMode)
CHOICES: Final = get_args(Choice)
DEFAULT_ALPHA: Final = "0.65"


def sample_bins(
    bins: Bins,
    keep_ratio: Ratio,
    labels: NDArray[Any] | None = None,
    *,
    choice: Choice = "random",
    seed: int = 0,
    compat_rng: bool = False,
) -> NDArray[np.int64]:
    """Take the same share of every bin and class (Zhou et al., section 4.2).

    The total is round(keep_ratio * n), divided by capped largest remainder over all cells of bin
    and class. Each cell has a random stream of its own, and a larger share of it holds the smaller.

    Args:
        bins: of all samples.
        keep_ratio: above 0, at most 1.
        labels: shape (n,); without them a bin is one cell.
        choice: "random", or "rank": what was picked first.
        seed: of the random choice.
        compat_rng: choose as the authors' code does: one legacy generator, seeded again for every
            bin, and each cell rounded on its own, so that the total may differ.

    Returns:
        Indices of the samples kept: int64, ascending.

    Raises:
        SelectionError: the ratio is out of range, or the labels do not fit.
    """
    codes, classes = _codes(labels, len(bins))
    total = keep_count(keep_ratio, len(bins))
    if compat_rng:
        return _legacy_sample(bins, codes, classes, exact_ratio(keep_ratio), seed)
    cells = _cells(bins, codes, classes)
    quotas = apportion(cells.ravel(), cells.ravel(), total).reshape(cells.shape)
    return _drawn(bins, codes, quotas, choice, seed)


def sample_bins_adaptively(
    bins: Bins,
    importance: NDArray[Any],
    keep_ratio: Ratio,
    labels: NDArray[Any] | None = None,
    *,
    mode: QuotaMode = "mixture",
    alpha: Ratio = DEFAULT_ALPHA,
    choice: Choice = "random",
    seed: int = 0,
) -> NDArray[np.int64]:
    """Take more of the bins that matter more (Li et al., equations 9 and 10).

    Inside a bin the classes get their share of its quota.

    Args:
        bins: of all samples.
        importance: shape (bin_count,), at least 0, as `importance_of` returns.
        keep_ratio: above 0, at most 1; "literal" does not use it.
        labels: shape (n,); without them the classes of a bin are left to chance.
        mode: see `bin_quotas`.
        alpha: share of the importance, against that of the size.
        choice: "random", or "rank": what was picked first.
        seed: of the random choice.

    Returns:
        Indices of the samples kept: int64, ascending.

    Raises:
        SelectionError: see `bin_quotas`.
    """
    codes, classes = _codes(labels, len(bins))
    total = keep_count(keep_ratio, len(bins))
    quotas = bin_quotas(bins.sizes(), importance, total, mode=mode, alpha=alpha)
    cells = _cells(bins, codes, classes)
    table = [apportion(row, row, q) for row, q in zip(cells, quotas.tolist(), strict=True)]
    return _drawn(bins, codes, np.stack(table), choice, seed)


def bin_quotas(
    sizes: NDArray[np.int64],
    importance: NDArray[Any],
    total: int,
    *,
    mode: QuotaMode = "mixture",
    alpha: Ratio = DEFAULT_ALPHA,
) -> NDArray[np.int64]:
    """Return how many samples to take of each bin: int64, shape (bins,).

    mixture: in proportion to alpha * I / sum I + (1 - alpha) * N / sum N, with an exact total.
    size_weighted: in proportion to N * I, with an exact total; the authors' code.
    literal: equation 10, floor((alpha * I + (1 - alpha) * N / sum N) * N), at most N. It contains
    no total, so `total` is not used.

    Args:
        sizes: shape (bins,), N.
        importance: shape (bins,), I, at least 0 each and not all 0.
        total: how many in all.
        mode: one of QUOTA_MODES.
        alpha: 0 to 1.

    Raises:
        SelectionError: importance or alpha are out of range, or `total` is above the samples.
    """
    values = np.asarray(importance, "f8")
    if values.shape != np.shape(sizes):
        raise SelectionError(f"importance: got shape {values.shape}, expected {np.shape(sizes)}")
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise SelectionError("importance: expected finite numbers, at least 0 and not all of them")
    share = exact_ratio(alpha, "alpha")
    if not 0 <= share <= 1:
        raise SelectionError(f"alpha: got {alpha}, expected 0 to 1")
    counts = [int(size) for size in sizes]
    scores = [Fraction(value) for value in values.tolist()]
    everything = sum(counts)
    if mode == "literal":
        rates = [
            share * score + (1 - share) * Fraction(count, everything)
            for score, count in zip(scores, counts, strict=True)
        ]
        pairs = zip(rates, counts, strict=True)
        return np.array([min(int(rate * count), count) for rate, count in pairs], "i8")
    if mode == "size_weighted":
        weights = [count * score for score, count in zip(scores, counts, strict=True)]
    elif mode == "mixture":
        weights = [
            share * score / sum(scores) + (1 - share) * Fraction(count, everything)
            for score, count in zip(scores, counts, strict=True)
        ]
    else:
        raise SelectionError(f"mode: got {mode!r}, expected one of {', '.join(QUOTA_MODES)}")
    return apportion(weights, counts, total)


def _codes(labels: NDArray[Any] | None, count: int) -> tuple[NDArray[np.int64], int]:
    if labels is None:
        return np.zeros(count, "i8"), 1
    codes, values = class_codes(labels, count)
    return codes, len(values)


def _cells(bins: Bins, codes: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Return the samples of each bin and class: shape (bins, classes)."""
    flat = np.bincount(bins.bin_ids * classes + codes, minlength=bins.bin_count * classes)
    return flat.reshape(bins.bin_count, classes)


def _drawn(
    bins: Bins, codes: NDArray[np.int64], quotas: NDArray[np.int64], choice: Choice, seed: int
) -> NDArray[np.int64]:
    """Return so many samples of each cell, ascending."""
    if choice not in CHOICES:
        raise SelectionError(f"choice: got {choice!r}, expected one of {', '.join(CHOICES)}")
    classes = quotas.shape[1]
    place = bins.bin_ids * classes + codes
    order = np.lexsort((bins.ranks, place))
    ends = np.cumsum(np.bincount(place, minlength=quotas.size))
    chosen = []
    for cell, quota in enumerate(quotas.ravel().tolist()):
        # Members by rank; the random order is one of their indices, whatever the ranks.
        members = order[(ends[cell - 1] if cell else 0) : ends[cell]]
        if choice == "random":
            members = np.sort(members)[keyed_order(len(members), seed, *divmod(cell, classes))]
        chosen.append(members[:quota])
    return np.sort(np.concatenate(chosen)).astype("i8")


def _legacy_sample(
    bins: Bins, codes: NDArray[np.int64], classes: int, ratio: Fraction, seed: int
) -> NDArray[np.int64]:
    chosen = []
    for number in range(bins.bin_count):
        generator = np.random.RandomState(seed)
        for code in range(classes):
            members = np.flatnonzero((bins.bin_ids == number) & (codes == code))
            if len(members):
                quota = round(float(ratio) * len(members))
                chosen.append(generator.choice(members, quota, replace=False))
    return np.sort(np.concatenate(chosen)).astype("i8")
