"""Labels as numbers of classes."""

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
