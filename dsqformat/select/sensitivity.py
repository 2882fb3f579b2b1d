"""1 - cos of two gradients, without the cancellation of that expression (Yu & Yu, equation 9).

In float32, 1 - cos of two gradients of 11 million values whose true distance is 5e-9 comes out as
-8e-4. Half the squared distance of the unit vectors is the same number and does not cancel.

A pair of zero gradients has distance 0, and one zero gradient has distance 1 to any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SelectionError
from dsqformat.select.probabilities import softmax


def gradient_distance(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Return 1 - cos of each row with its partner, as 0.5 * ||g1/|g1| - g2/|g2| ||^2.

    Args:
        first: shape (n, d), finite.
        second: shape (n, d), finite.

    Returns:
        float64, shape (n,), 0 to 2.

    Raises:
        SelectionError: the shapes differ, or a value is NaN or infinite.
    """
    g1, g2 = (_rows(values) for values in (first, second))
    if g1.shape != g2.shape:
        raise SelectionError(f"gradients: got shapes {g1.shape} and {g2.shape}, expected the same")
    u1, zero1 = _units(g1)
    u2, zero2 = _units(g2)
    apart = u1 - u2
    return _with_zeros(0.5 * (apart * apart).sum(axis=1), zero1, zero2)


def gradient_distance_from_sums(
    squared_distance: NDArray[Any], square1: NDArray[Any], square2: NDArray[Any]
) -> NDArray[np.float64]:
    """Return 1 - cos from sums that can be made layer by layer, without keeping gradients.

    (||g1 - g2||^2 - (|g1| - |g2|)^2) / (2 |g1| |g2|), which cancels only where both gradients
    point the same way and differ in length. Make the sums in float64.

    Args:
        squared_distance: shape (n,), sum of (g1 - g2)^2.
        square1: shape (n,), sum of g1^2.
        square2: shape (n,), sum of g2^2.

    Returns:
        float64, shape (n,), 0 to 2.

    Raises:
        SelectionError: a sum is negative, NaN or infinite, or the shapes differ.
    """
    apart, s1, s2 = _sums(squared_distance, square1, square2, signed=0)
    n1, n2 = np.sqrt(s1), np.sqrt(s2)
    lengths = (n1 - n2) ** 2
    return _with_zeros(_divided(apart - lengths, 2 * n1 * n2), n1 == 0, n2 == 0)


def gradient_distance_from_products(
    products: NDArray[Any], square1: NDArray[Any], square2: NDArray[Any]
) -> NDArray[np.float64]:
    """Return 1 - cos from inner products: right to 1e-15, which hides what is smaller.

    Args:
        products: shape (n,), sum of g1 * g2, made in float64.
        square1: shape (n,), sum of g1^2, likewise.
        square2: shape (n,), sum of g2^2, likewise.

    Returns:
        float64, shape (n,), 0 to 2.

    Raises:
        SelectionError: a sum is NaN or infinite, a square negative, or the shapes differ.
    """
    dot, s1, s2 = _sums(products, square1, square2, signed=1)
    n1, n2 = np.sqrt(s1), np.sqrt(s2)
    return _with_zeros(_divided(n1 * n2 - dot, n1 * n2), n1 == 0, n2 == 0)


def last_layer_distance(
    residuals1: NDArray[Any],
    hiddens1: NDArray[Any],
    residuals2: NDArray[Any],
    hiddens2: NDArray[Any],
) -> NDArray[np.float64]:
    """Return 1 - cos of the last layer's gradients from their factors, with no backward pass.

    The gradient is the outer product of r and [h; 1], so that cos = cos(r1, r2) cos(h1', h2').
    With a and b the two distances, 1 - (1 - a)(1 - b) is a + b - a b, which does not cancel.

    Args:
        residuals1: shape (n, classes), softmax(z) - onehot(y) of the originals.
        hiddens1: shape (n, d), inputs of the last layer.
        residuals2: shape (n, classes), of the quantized samples.
        hiddens2: shape (n, d), likewise.

    Returns:
        float64, shape (n,), 0 to 2.

    Raises:
        SelectionError: the shapes do not fit, or a value is NaN or infinite.
    """
    r1, r2 = (_rows(values) for values in (residuals1, residuals2))
    h1, h2 = (_with_bias(values) for values in (hiddens1, hiddens2))
    if r1.shape != r2.shape or h1.shape != h2.shape or len(r1) != len(h1):
        raise SelectionError(
            f"gradients: got residuals {r1.shape} and {r2.shape}, hidden vectors of "
            f"{len(h1)} and {len(h2)} samples, expected pairs"
        )
    zero1, zero2 = (np.abs(r).max(axis=1, initial=0.0) == 0 for r in (r1, r2))
    a, b = gradient_distance(r1, r2), gradient_distance(h1, h2)
    return _with_zeros(a + b - a * b, zero1, zero2)


def last_layer_residuals(
    logits: NDArray[Any], labels: NDArray[Any], *, double_softmax: bool = False
) -> NDArray[np.float64]:
    """Return the derivative of the cross-entropy by the logits: softmax(z) - onehot(y).

    Args:
        logits: shape (n, classes), finite.
        labels: shape (n,), 0 to classes - 1.
        double_softmax: as in the authors' code of dataset quantization, whose loss takes the
            softmax of probabilities: (diag(p) - p p^T)(softmax(p) - onehot(y)).

    Returns:
        float64, shape (n, classes).

    Raises:
        SelectionError: shapes or labels do not fit, or a logit is NaN or infinite.
    """
    z, y = _rows(logits), np.asarray(labels)
    if y.shape != (len(z),) or y.dtype.kind not in "iu":
        raise SelectionError(f"labels: got {y.dtype} of shape {y.shape}, expected {(len(z),)}")
    if len(y) and not 0 <= y.min() <= y.max() < z.shape[1]:
        raise SelectionError(
            f"labels: got {y.min()} to {y.max()}, expected 0 to {z.shape[1] - 1}; the network has "
            f"{z.shape[1]} outputs"
        )
    p = softmax(z)
    error = _minus_onehot(softmax(p) if double_softmax else p, y)
    if not double_softmax:
        return error
    residuals: NDArray[np.float64] = p * (error - (p * error).sum(axis=1, keepdims=True))
    return residuals


def _minus_onehot(p: NDArray[np.float64], labels: NDArray[Any]) -> NDArray[np.float64]:
    # p_y - 1 would cancel where the network is sure; minus the sum of the others does not.
    rows = np.arange(len(p))
    error = p.copy()
    error[rows, labels] = 0
    error[rows, labels] = -error.sum(axis=1)
    return error


def _rows(values: NDArray[Any]) -> NDArray[np.float64]:
    rows = np.asarray(values, "f8")
    if rows.ndim != 2:
        raise SelectionError(f"gradients: got shape {rows.shape}, expected (n, values)")
    wrong = ~np.isfinite(rows).all(axis=1)
    if wrong.any():
        raise SelectionError(
            f"gradients: those of sample {int(wrong.argmax())} are NaN or infinite; look for a "
            "model that has diverged"
        )
    return rows


def _with_bias(hiddens: NDArray[Any]) -> NDArray[np.float64]:
    rows = _rows(hiddens)
    return np.hstack([rows, np.ones((len(rows), 1))])


def _units(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return rows of norm 1, and which are zero."""
    largest = np.abs(rows).max(axis=1, initial=0.0, keepdims=True)
    zero = largest == 0
    rows = rows / np.where(zero, 1.0, largest)
    norms = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    return rows / np.where(zero, 1.0, norms), zero[:, 0]


def _sums(*sums: NDArray[Any], signed: int) -> list[NDArray[np.float64]]:
    """Return sums as float64, all but the first `signed` at least 0."""
    arrays = [np.asarray(values, "f8") for values in sums]
    if any(array.ndim != 1 or array.shape != arrays[0].shape for array in arrays):
        raise SelectionError(
            f"gradients: got sums of shapes {[array.shape for array in arrays]}, expected (n,)"
        )
    for number, array in enumerate(arrays):
        wrong = ~np.isfinite(array) | ((array < 0) & (number >= signed))
        if wrong.any():
            raise SelectionError(
                f"gradients: a sum of sample {int(wrong.argmax())} is {array[wrong][0]}; look for "
                "a model that has diverged"
            )
    return arrays


def _divided(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def _with_zeros(
    distance: NDArray[np.float64], zero1: NDArray[np.bool_], zero2: NDArray[np.bool_]
) -> NDArray[np.float64]:
    found = np.where(zero1 | zero2, np.where(zero1 & zero2, 0.0, 1.0), distance)
    return np.clip(found, 0.0, 2.0)
