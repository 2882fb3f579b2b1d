"""How much each bin matters: representativeness, diversity, and their sum (Li et al.)."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SelectionError

Norm: TypeAlias = Literal["min_max", "rank", "softmax"]

NORMS: Final = get_args(Norm)
_CHUNK_VALUES: Final = 1 << 22


def bin_means(
    scores: NDArray[Any],
    bin_ids: NDArray[np.integer[Any]],
    bin_count: int,
    weights: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """Return the mean of a score over each bin, such as the representativeness from textures.

    Args:
        scores: shape (n,), finite.
        bin_ids: shape (n,).
        bin_count: how many bins.
        weights: shape (n,), such as patches per picture; equal by default.

    Raises:
        SelectionError: a score is not finite, or a bin is empty.
    """
    values, ids = np.asarray(scores, "f8"), _checked_ids(bin_ids, len(scores), bin_count)
    if not np.isfinite(values).all():
        raise SelectionError(f"scores: sample {int((~np.isfinite(values)).argmax())} has none")
    heavy = np.ones(len(values)) if weights is None else np.asarray(weights, "f8")
    sums = np.bincount(ids, values * heavy, bin_count)
    means: NDArray[np.float64] = sums / np.bincount(ids, heavy, bin_count)
    return means


def diversity_by_mean_cosine(
    vectors: NDArray[Any], bin_ids: NDArray[np.integer[Any]], bin_count: int
) -> NDArray[np.float64]:
    """Return 1 / mean cosine of all pairs of each bin, each vector with itself among them.

    What the authors' code computes from a matrix of all pairs: m^2 / ||sum of unit vectors||^2,
    1 where all are equal, m where all are orthogonal. It is at most m^2, where they cancel out.

    Args:
        vectors: shape (n, d), or (views, n, d) for several crops of each sample; finite.
        bin_ids: shape (n,).
        bin_count: how many bins.

    Raises:
        SelectionError: a vector is not finite, or a bin is empty.
    """
    views = np.asarray(vectors)
    views = views if views.ndim == 3 else views[None]
    ids = _checked_ids(bin_ids, views.shape[1], bin_count)
    sums = np.zeros((bin_count, views.shape[2]))
    for view in views:
        units = _units(view)
        for number in range(bin_count):
            sums[number] += units[ids == number].sum(axis=0)
    counts = np.bincount(ids, minlength=bin_count) * float(len(views))
    squares = (sums * sums).sum(axis=1)
    diversity: NDArray[np.float64] = counts**2 / np.maximum(squares, 1.0)
    return diversity


def contrastive_diversity(
    anchors: NDArray[Any],
    positives: NDArray[Any],
    bin_ids: NDArray[np.integer[Any]],
    bin_count: int,
    *,
    temperature: float = 0.5,
) -> NDArray[np.float64]:
    """Return Div of each bin (Li et al., equation 5): below 0, nearer to 0 if more diverse.

    -1 / (m - 1) * mean_i(sum_{j != i} exp(cos(x_i, x_j) / t) / exp(cos(x_i, x_i+) / t))

    Args:
        anchors: shape (n, d), what the trained discriminator gives for each sample.
        positives: shape (n, d), the same for another view of each.
        bin_ids: shape (n,), at least two samples in each bin.
        bin_count: how many bins.
        temperature: t. The paper does not state it; at 0.07 single pairs dominate.

    Raises:
        SelectionError: a vector is not finite, a bin has one sample, or the temperature is so low
            that the result is no number.
    """
    if not temperature > 0:
        raise SelectionError(f"temperature: got {temperature}, expected more than 0")
    ids = _checked_ids(bin_ids, len(anchors), bin_count)
    x, other = _units(anchors), _units(positives)
    if x.shape != other.shape:
        raise SelectionError(f"positives: got shape {other.shape}, expected {x.shape}")
    result = np.empty(bin_count)
    for number in range(bin_count):
        members = np.flatnonzero(ids == number)
        if len(members) < 2:
            raise SelectionError(
                f"bin {number}: has 1 sample, and contrastive diversity compares two; make fewer "
                "bins, or take the mean cosine"
            )
        logarithm = _log_mean_ratio(x[members], other[members], temperature)
        if logarithm > 700:
            raise SelectionError(
                f"temperature: {temperature} is too low for bin {number}, its diversity overflows; "
                "0.5 is usual"
            )
        result[number] = -np.exp(logarithm)
    return result


def importance_of(
    representativeness: NDArray[Any], diversity: NDArray[Any], *, norm: Norm = "min_max"
) -> NDArray[np.float64]:
    """Return the importance of each bin: both scores normalised, and added (Li et al., eq. 6-8).

    Args:
        representativeness: shape (bins,), finite.
        diversity: shape (bins,), finite.
        norm: "min_max" to 0..1, with 0.5 where all are equal, as the authors' published numbers
            show; "rank" to 0..1, ties on their mean; or "softmax".

    Raises:
        SelectionError: a score is not finite, or the shapes differ.
    """
    rows = [np.asarray(scores, "f8") for scores in (representativeness, diversity)]
    if rows[0].shape != rows[1].shape or rows[0].ndim != 1 or not len(rows[0]):
        raise SelectionError(
            f"importance: got shapes {rows[0].shape} and {rows[1].shape}, expected (bins,) both"
        )
    if not all(np.isfinite(row).all() for row in rows):
        raise SelectionError("importance: a score is NaN or infinite")
    if norm not in NORMS:
        raise SelectionError(f"norm: got {norm!r}, expected one of {', '.join(NORMS)}")
    return _normalised(rows[0], norm) + _normalised(rows[1], norm)


def _normalised(scores: NDArray[np.float64], norm: Norm) -> NDArray[np.float64]:
    if norm == "softmax":
        powers = np.exp(scores - scores.max())
        softmax: NDArray[np.float64] = powers / powers.sum()
        return softmax
    if norm == "rank":
        below = (scores[:, None] > scores).sum(axis=1)
        ties = (scores[:, None] == scores).sum(axis=1)
        scores = below + (ties - 1) / 2
        return scores / (len(scores) - 1) if len(scores) > 1 else np.full(1, 0.5)
    least, most = scores.min(), scores.max()
    return (scores - least) / (most - least) if most > least else np.full(len(scores), 0.5)


def _checked_ids(bin_ids: NDArray[Any], count: int, bin_count: int) -> NDArray[np.int64]:
    ids = np.asarray(bin_ids)
    if ids.shape != (count,) or ids.dtype.kind not in "iu":
        raise SelectionError(f"bins: got {ids.dtype} of shape {ids.shape}, expected ({count},)")
    if len(ids) and not 0 <= ids.min() <= ids.max() < bin_count:
        raise SelectionError(f"bins: got numbers {ids.min()} to {ids.max()} of {bin_count}")
    sizes = np.bincount(ids, minlength=bin_count)
    if (sizes == 0).any():
        raise SelectionError(f"bin {int((sizes == 0).argmax())}: is empty; make fewer bins")
    return ids.astype("i8")


def _units(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Return rows of norm 1; zeros stay."""
    rows = np.asarray(vectors, "f8")
    if rows.ndim != 2:
        raise SelectionError(f"vectors: got shape {rows.shape}, expected (n, d)")
    wrong = ~np.isfinite(rows).all(axis=1)
    if wrong.any():
        raise SelectionError(f"vectors: sample {int(wrong.argmax())} has NaN or infinite values")
    largest = np.abs(rows).max(axis=1, initial=0.0, keepdims=True)
    rows = rows / np.where(largest > 0, largest, 1.0)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    units: NDArray[np.float64] = rows / np.where(norms > 0, norms, 1.0)
    return units


def _log_mean_ratio(
    x: NDArray[np.float64], positives: NDArray[np.float64], temperature: float
) -> float:
    """Return the logarithm of -Div of one bin."""
    near = (x * positives).sum(axis=1)
    step = max(1, _CHUNK_VALUES // len(x))
    sums = []
    for first in range(0, len(x), step):
        part = np.arange(first, min(first + step, len(x)))
        powers = (x[part] @ x.T - near[part, None]) / temperature
        powers[np.arange(len(part)), part] = -np.inf
        sums.append(np.logaddexp.reduce(powers, axis=1))
    total = float(np.logaddexp.reduce(np.concatenate(sums)))
    return total - float(np.log(len(x)) + np.log(len(x) - 1))
