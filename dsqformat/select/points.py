"""Features as points of which every inner product is known, and the metrics made of those.

A sample is one row, or two whose inner products are multiplied: the gradient of a last layer is
the outer product of residual and hidden vector, so that <g_i, g_j> = (r_i . r_j)(1 + h_i . h_j)
and C + d + 1 numbers stand for C * (d + 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SelectionError

Metric: TypeAlias = Literal["cosine", "euclidean", "dot"]

METRICS: Final = get_args(Metric)
# What the kernel takes at a time: rows are padded with zeros.
LANES: Final = 16
_CHUNK_ROWS: Final = 4096
# A centre of so many bits leaves differences exact for features in single precision.
_CENTRE_BITS: Final = 10


@dataclass(frozen=True)
class LastLayerGradients:
    """Gradients of the loss by the last linear layer, as the factors of outer products.

    Attributes:
        residuals: shape (n, classes), derivative of the loss by the logits.
        hiddens: shape (n, d), input of the layer; its bias counts as one more input of 1.
        bias: whether it has one.
    """

    residuals: NDArray[Any]
    hiddens: NDArray[Any]
    bias: bool = True

    def __len__(self) -> int:
        return len(self.residuals)


Features: TypeAlias = NDArray[Any] | LastLayerGradients


@dataclass(frozen=True)
class Points:
    """Rows padded for the kernel, and what makes a metric of their inner products.

    Attributes:
        rows: shape (m, d), float32 or float64, d a multiple of 16.
        others: shape (m, e) likewise, second factors; or (0, 16): there are none.
        scale: shape (m,), float64: <x, y> = (rows . rows)(others . others) scale_x scale_y.
        squares: shape (m,), float64: ||x||^2 where distances count, zeros where angles do.
        reach: no |<x, y>| is above it.
        zero_rows: how many points are zero.
    """

    rows: NDArray[np.floating[Any]]
    others: NDArray[np.floating[Any]]
    scale: NDArray[np.float64]
    squares: NDArray[np.float64]
    reach: float
    zero_rows: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def width(self) -> int:
        """Values of a point, padding included."""
        second = self.others.shape[1] if len(self.others) else 0
        return int(self.rows.shape[1] + second)


def checked_features(features: Features) -> Features:
    """Return features as arrays of two dimensions.

    Raises:
        SelectionError: they are not rows of real numbers, or the factors differ in length.
    """
    if isinstance(features, LastLayerGradients):
        residuals = _matrix(features.residuals, "residuals")
        hiddens = _matrix(features.hiddens, "hidden vectors")
        if len(residuals) != len(hiddens):
            raise SelectionError(
                f"features: {len(residuals)} residuals and {len(hiddens)} hidden vectors, "
                "expected one of each per sample"
            )
        return LastLayerGradients(residuals, hiddens, features.bias)
    return _matrix(features, "features")


def padded_width(features: Features) -> int:
    """Return the values that the kernel reads per point."""
    if isinstance(features, LastLayerGradients):
        return _padded(features.residuals.shape[1]) + _padded(
            features.hiddens.shape[1] + features.bias
        )
    return _padded(features.shape[1])


def stored_dtype(features: Features) -> np.dtype[Any]:
    """Return how the rows will be stored: float32 where that is exact."""
    first = features.residuals if isinstance(features, LastLayerGradients) else features
    return np.dtype("f4" if np.can_cast(first.dtype, "f4") else "f8")


def points_of(features: Features, members: NDArray[np.int64], metric: Metric) -> Points:
    """Prepare some samples for the greedy choice.

    cosine: each point is divided by its norm; a zero point has cosine 0 with everything.
    euclidean: squared distances. Embeddings are moved to about their mean first, which changes
    no distance but keeps digits.
    dot: inner products as they are.

    Args:
        features: what `checked_features` returned, shape (n, d).
        members: shape (m,), which samples.
        metric: one of METRICS.

    Raises:
        SelectionError: a value is NaN or infinite.
    """
    others = np.zeros((0, LANES), "f4")
    if isinstance(features, LastLayerGradients):
        rows = _taken(features.residuals, members, 0, "residuals")
        others = _taken(features.hiddens, members, int(features.bias), "hidden vectors")
    else:
        rows = _taken(features, members, 0, "features")
    for factor in (rows, others):
        _rescale(factor, by_row=metric == "cosine")
    if metric == "euclidean" and not isinstance(features, LastLayerGradients):
        rows = _centred(rows)
    squares = _squares(rows) * (_squares(others) if len(others) else 1.0)
    zero = squares == 0
    scale = np.ones(len(rows))
    reach = float(squares.max(initial=0.0))
    if metric == "cosine":
        scale = np.where(zero, 0.0, 1 / np.sqrt(np.where(zero, 1.0, squares)))
        reach = 1.0
    if metric != "euclidean":
        squares = np.zeros(len(rows))
    return Points(rows, others, scale, squares, reach, int(zero.sum()))


def _matrix(values: Any, what: str) -> NDArray[Any]:
    array: NDArray[Any] = np.asanyarray(values)
    if array.dtype.kind not in "fiub":
        raise SelectionError(f"{what}: got dtype {array.dtype}, expected real numbers")
    if array.ndim != 2 or not array.size:
        raise SelectionError(
            f"{what}: got shape {array.shape}, expected (samples, values), neither of them 0; "
            "flatten what has more axes"
        )
    return array


def _padded(width: int) -> int:
    return -(-width // LANES) * LANES


def _parts(count: int) -> Iterator[slice]:
    for first in range(0, count, _CHUNK_ROWS):
        yield slice(first, min(first + _CHUNK_ROWS, count))


def _taken(
    source: NDArray[Any], members: NDArray[np.int64], ones: int, what: str
) -> NDArray[np.floating[Any]]:
    """Copy rows of finite numbers into padded ones, with so many columns of 1 behind."""
    width = source.shape[1]
    dtype = "f4" if np.can_cast(source.dtype, "f4") else "f8"
    rows = np.zeros((len(members), _padded(width + ones)), dtype)
    rows[:, width : width + ones] = 1
    for part in _parts(len(members)):
        taken = np.asarray(source[members[part]])
        wrong = ~np.isfinite(taken).all(axis=1)
        if wrong.any():
            sample = int(members[part][wrong.argmax()])
            raise SelectionError(
                f"{what}: sample {sample} has NaN or infinite values; leave it out, or look for "
                "a model that has diverged"
            )
        rows[part, :width] = taken
    return rows


def _centred(rows: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return rows less a common one; in single precision if that loses nothing."""
    moved = rows.astype("f8")
    grain = np.ldexp(1.0, np.frexp(np.abs(moved).max(axis=0))[1] - _CENTRE_BITS)
    grain[grain == 0] = 1.0
    moved -= np.rint((moved / grain).mean(axis=0)) * grain
    with np.errstate(over="ignore"):
        single = moved.astype("f4")
    return single if np.array_equal(single, moved) else moved


def _rescale(rows: NDArray[np.floating[Any]], *, by_row: bool) -> None:
    """Divide by a power of two, so that no square of float64 over- or underflows."""
    if rows.dtype != np.dtype("f8") or not len(rows):
        return
    for part in _parts(len(rows)) if by_row else [slice(None)]:
        largest = np.abs(rows[part]).max(axis=1 if by_row else None, keepdims=True)
        rows[part] = np.ldexp(rows[part], -np.frexp(largest)[1])


def _squares(rows: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    squares = np.empty(len(rows))
    for part in _parts(len(rows)):
        wide = rows[part].astype("f8")
        squares[part] = (wide * wide).sum(axis=1)
    return squares
