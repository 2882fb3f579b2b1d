"""Gradients of the loss in the last linear layer, which have rank one: residual x features.

The gradient in the weights is r h^T and in the bias r, with r the gradient in the logits, so that
<g_i, g_j> = (r_i . r_j) (h_i . h_j + 1): C + d numbers stand for C (d + 1).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dsqformat.select import last_layer_residuals

Softmax = Literal["single", "double"]


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

    Raises:
        SelectionError: shapes or labels do not fit, or a logit is NaN or infinite.
    """
    if kind not in ("single", "double"):
        raise ValueError(f"softmax {kind!r}: expected single or double")
    return last_layer_residuals(logits, labels, double_softmax=kind == "double")


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
