"""Scales pictures of any size to one size, for networks that want it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def scaled_to(pictures: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Scale pictures with a triangle filter, which averages when it makes them smaller.

    Args:
        pictures: uint8 or floating point, shape (n, h, w, channels), h and w at least 1.
        height: of the result, 1 or more.
        width: of the result, 1 or more.

    Returns:
        Shape (n, height, width, channels), the dtype of the pictures; bytes are rounded.
    """
    if pictures.shape[1:3] == (height, width):
        return pictures
    rows = triangle_weights(pictures.shape[1], height)
    columns = triangle_weights(pictures.shape[2], width)
    # In float64, so that rounding to bytes hardly ever depends on the order of sums.
    values = np.tensordot(pictures.astype("f8"), columns, axes=([2], [1]))
    values = np.tensordot(values, rows, axes=([1], [1])).transpose(0, 3, 2, 1)
    if pictures.dtype == np.uint8:
        values = np.clip(np.rint(values), 0, 255)
    scaled: NDArray[Any] = np.ascontiguousarray(values, pictures.dtype)
    return scaled


@lru_cache(maxsize=256)
def triangle_weights(before: int, after: int) -> NDArray[np.float64]:
    """Return how much each of `before` pixels counts for each of `after`.

    Args:
        before: pixels along a side.
        after: pixels it gets.

    Returns:
        float64, shape (after, before); rows of sum 1; read-only.
    """
    if before < 1 or after < 1:
        raise ValueError(f"scaling {before} pixels to {after}: expected 1 or more of both")
    ratio = before / after
    reach = max(ratio, 1.0)
    centres = (np.arange(after) + 0.5) * ratio - 0.5
    distance = np.abs(np.arange(before) - centres[:, np.newaxis]) / reach
    weights = np.maximum(1 - distance, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    weights.flags.writeable = False
    return weights
