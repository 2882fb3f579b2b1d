"""Which patches of a picture to keep, given how important each is (Zhou et al. 2023, 6.2)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.quantize.parameters import one_row_each


def kept_patches(count: int, drop_ratio: float) -> int:
    """Return how many of `count` patches stay when a share of them is dropped, at least 1.

    Args:
        count: patches of a picture, 1 or more.
        drop_ratio: theta of the paper (25% there, 20% in its README), 0 up to but not 1.

    Raises:
        ValueError: the ratio is out of range.
    """
    if not 0 <= drop_ratio < 1:
        raise ValueError(
            f"drop ratio {drop_ratio}: expected 0 (keep all) up to but not 1; 0.25 is the paper's"
        )
    # The small addend keeps products such as 10 * 0.9 from falling below their integer.
    return max(1, count - math.floor(count * drop_ratio + 1e-9))


def patch_masks(scores: NDArray[Any], drop_ratio: float) -> NDArray[np.bool_]:
    """Drop the least important patches of each picture; of equal ones the first is kept.

    Args:
        scores: importance of patches, shape (n, rows, columns), finite.
        drop_ratio: share to drop, see `kept_patches`.

    Returns:
        Boolean, the shape of `scores`: True for patches that are kept; exactly
        `kept_patches(rows * columns, drop_ratio)` of each picture.

    Raises:
        ValueError: a score is NaN or infinite, or the ratio is out of range.
    """
    if scores.ndim != 3 or 0 in scores.shape[1:]:
        raise ValueError(f"scores of shape {scores.shape}, expected (pictures, rows, columns)")
    finite = np.isfinite(scores).all(axis=(1, 2))
    if not finite.all():
        raise ValueError(f"scores of picture {int(finite.argmin())}: one is NaN or infinite")
    flat = one_row_each(scores)
    keep = kept_patches(flat.shape[1], drop_ratio)
    # A stable sort leaves equal scores in the order of their patches.
    best = np.argsort(-flat, axis=1, kind="stable")[:, :keep]
    masks = np.zeros(flat.shape, "?")
    np.put_along_axis(masks, best, True, axis=1)
    return masks.reshape(scores.shape)
