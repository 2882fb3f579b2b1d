"""`mean`: the mean of the visible pixels, per channel."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.reconstruct.visible import pasted, visible_pixels

MEAN: Final = "mean"


def fill_mean(pictures: NDArray[Any], masks: NDArray[np.bool_], patch: int) -> NDArray[Any]:
    """Fill left-out patches with the mean of what is visible of each channel.

    Args:
        pictures: uint8 or floating point, shape (n, height, width, channels); left-out pixels may
            hold anything.
        masks: boolean, shape (n, rows, columns): True for stored patches.
        patch: side of a patch.

    Returns:
        A new array of the same shape and dtype; visible pixels are bit-equal.

    Raises:
        ValueError: shapes do not fit together, a picture has no visible patch, or a visible value
            is NaN or infinite.
    """
    visible = visible_pixels(pictures, masks, patch)
    means = visible_means(pictures, visible)
    finite = np.isfinite(means).all(axis=(1, 2, 3))
    if not finite.all():
        raise ValueError(f"picture {int(finite.argmin())}: a visible value is NaN or infinite")
    return pasted(np.broadcast_to(means, pictures.shape), pictures, visible)


def visible_means(pictures: NDArray[Any], visible: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean of the visible pixels, float64, shape (n, 1, 1, channels)."""
    shown = np.where(visible[..., np.newaxis], pictures, pictures.dtype.type(0))
    counts = visible.sum(axis=(1, 2)).reshape(-1, 1, 1, 1)
    # Column by column, so that the order of the sum does not depend on how an array lies.
    total = np.add.reduce(shown.astype("f8"), axis=1, keepdims=True)
    total = np.cumsum(total, axis=2)[:, :, -1:]
    mean: NDArray[np.float64] = total / counts
    low = np.where(visible[..., np.newaxis], pictures, np.inf).min(axis=(1, 2), keepdims=True)
    high = np.where(visible[..., np.newaxis], pictures, -np.inf).max(axis=(1, 2), keepdims=True)
    # A constant stays what it is, whatever the division does to its last bit.
    return np.clip(mean, low, high)
