"""Which pixels are visible, and bringing them back untouched."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.quantize.mask import patch_grid


def visible_pixels(
    pictures: NDArray[Any], masks: NDArray[np.bool_], patch: int
) -> NDArray[np.bool_]:
    """Return which pixels were stored, boolean, shape (n, height, width).

    Args:
        pictures: uint8 or floating point, shape (n, height, width, channels).
        masks: boolean, shape (n, rows, columns): True for stored patches.
        patch: side of a patch; those at the right and lower edge may be smaller.

    Raises:
        ValueError: shapes or types do not fit together, or a picture has no visible pixel.
    """
    if pictures.ndim != 4 or not (pictures.dtype == np.uint8 or pictures.dtype.kind == "f"):
        raise ValueError(
            f"pictures: {pictures.dtype} of shape {pictures.shape}, expected uint8 or floating "
            "point (n, height, width, channels)"
        )
    count, height, width = pictures.shape[:3]
    if (
        patch < 1
        or masks.dtype != np.bool_
        or (masks.shape != (count, *patch_grid(height, width, patch)))
    ):
        grid = patch_grid(height, width, max(1, patch))
        raise ValueError(
            f"masks: {masks.dtype} of shape {masks.shape} for patches of {patch}, "
            f"expected booleans of shape {(count, *grid)}"
        )
    empty = ~masks.any(axis=(1, 2))
    if empty.any():
        raise ValueError(
            f"picture {int(empty.argmax())}: no patch is visible; keep at least one of each picture"
        )
    rows, columns = np.arange(height) // patch, np.arange(width) // patch
    visible: NDArray[np.bool_] = masks[:, rows[:, np.newaxis], columns]
    return visible


def pasted(
    filled: NDArray[Any], pictures: NDArray[Any], visible: NDArray[np.bool_]
) -> NDArray[Any]:
    """Return `filled` in the type of the pictures, with their visible pixels untouched.

    Args:
        filled: floating point, in the range of `pictures`; bytes are rounded and clipped.
        pictures: uint8 or floating point, shape (n, height, width, channels).
        visible: boolean, shape (n, height, width).
    """
    if pictures.dtype == np.uint8:
        filled = np.clip(np.rint(filled), 0, 255)
    whole: NDArray[Any] = np.where(
        visible[..., np.newaxis], pictures, filled.astype(pictures.dtype)
    )
    return whole
