"""Gradients of the loss in the last linear layer, which have rank one: residual x features.

The gradient in the weights is r h^T and in the bias r, with r the gradient in the logits, so that
<g_i, g_j> = (r_i . r_j) (h_i . h_j + 1): C + d numbers stand for C (d + 1).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Softmax = Literal["single", "double"]


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return probabilities, float64, of logits (n, classes)."""
    shifted = logits.astype("f8") - logits.max(axis=1, keepdims=True)
    odds = np.exp(shifted)
    probabilities: NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
    return probabilities


def residuals(
    logits: NDArray[Any], labels: NDArray[np.int64], kind: Softmax = "single"
) -> NDArray[np.float64]:
    """Return the gradient of the cross-entropy in the logits.

    Args:
        logits: shape (n, classes), finite.
        labels: integers, shape (n,), below the number of classes.
        kind: "single": softmax(z) - onehot(y). "double": what the published code of DQ
            computes, whose loss applies a second softmax to p = softmax(z):
            (diag(p) - p p^T) (softmax(p) - onehot(y)).

    Returns:
        float64, shape (n, classes).
    """
    if kind not in ("single", "double"):
        raise ValueError(f"softmax {kind!r}: expected single or double")
    p = softmax(logits)
    if kind == "single":
        return _minus_onehot(p, labels)
    outer = _minus_onehot(softmax(p), labels)
    residual: NDArray[np.float64] = p * (outer - (p * outer).sum(axis=1, keepdims=True))
    return residual


def factor_norms(
    logits: NDArray[Any], labels: NDArray[np.int64], hidden: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ||r|| and ||h||, of which GraNd is made: ||r|| sqrt(1 + ||h||^2).

    Args:
        logits: shape (n, classes).
        labels: shape (n,).
        hidden: shape (n, d), what entered the layer.

    Returns:
        Two float64 arrays of shape (n,).
    """
    residual_norms = np.linalg.norm(residuals(logits, labels), axis=1)
    return residual_norms, np.linalg.norm(hidden.astype("f8"), axis=1)


def _minus_onehot(p: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    # p_y - 1 would cancel where the network is sure; minus the sum of the others does not.
    rows = np.arange(len(p))
    residual = p.copy()
    residual[rows, labels] = 0
    residual[rows, labels] = -residual.sum(axis=1)
    return residual
