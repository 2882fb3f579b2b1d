"""One label or one score for each sample, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SelectionError


def class_codes(labels: NDArray[Any], count: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the class of each sample and what the classes are called.

    Args:
        labels: shape (count,), integers, truth values or text.
        count: of samples.

    Returns:
        Codes, int64, shape (count,); and the labels in ascending order, one of each.

    Raises:
        SelectionError: the labels do not fit.
    """
    array = np.asarray(labels)
    if array.dtype.kind not in "iubUS":
        raise SelectionError(
            f"labels: got dtype {array.dtype}, expected one integer or text per sample"
        )
    if array.shape != (count,):
        raise SelectionError(f"labels: got shape {array.shape}, expected ({count},)")
    values, codes = np.unique(array, return_inverse=True)
    return codes.astype("i8").reshape(count), values


def checked_scores(scores: NDArray[Any], what: str = "scores") -> NDArray[np.float64]:
    """Return scores as float64.

    Raises:
        SelectionError: they are not one finite number per sample.
    """
    array = np.asarray(scores)
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "fiub":
        raise SelectionError(
            f"{what}: got {array.dtype} of shape {array.shape}, expected one number per sample"
        )
    values = array.astype("f8")
    if not np.isfinite(values).all():
        wrong = int((~np.isfinite(values)).argmax())
        raise SelectionError(
            f"{what}: that of sample {wrong} is NaN or infinite; leave the sample out, or look for "
            "a training that has diverged"
        )
    return values
