"""Patch masks: which patches of a picture are stored at all (Zhou et al. 2023, 6.2; spec 11)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.wire import ceil_div


def patch_grid(height: int, width: int, patch: int) -> tuple[int, int]:
    """Return rows and columns of patches; those at the lower and right edge may be smaller."""
    return ceil_div(height, patch), ceil_div(width, patch)


def pack_mask(mask: NDArray[np.bool_]) -> bytes:
    """Pack a patch mask, boolean, shape (rows, columns), in raster order, first patch lowest."""
    return np.packbits(mask.ravel(), bitorder="little").tobytes()


def unpack_mask(data: bytes, grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Unpack a patch mask of rows and columns `grid`.

    Raises:
        ValueError: wrong length, or a spare bit is set.
    """
    count = grid[0] * grid[1]
    if len(data) != ceil_div(count, 8):
        raise ValueError(f"mask of {len(data)} bytes for {count} patches")
    bits = np.unpackbits(np.frombuffer(data, "u1"), bitorder="little")
    if bits[count:].any():
        raise ValueError("a spare bit of a mask is set")
    return bits[:count].reshape(grid).astype("?")


def pixel_mask(mask: NDArray[np.bool_], height: int, width: int, patch: int) -> NDArray[np.bool_]:
    """Return which pixels are kept, boolean, shape (height, width)."""
    if not mask.size:
        return np.zeros((height, width), "?")  # one side is 0, the other may be 2^28
    rows = np.arange(height) // patch
    columns = np.arange(width) // patch
    kept: NDArray[np.bool_] = mask[rows[:, np.newaxis], columns]
    return kept


def gather(values: NDArray[Any], pixels: NDArray[np.bool_]) -> NDArray[Any]:
    """Return the kept pixels of a sample (height, width, ...) in C order, shape (kept, ...)."""
    return values[pixels]


def scatter(
    values: NDArray[Any], pixels: NDArray[np.bool_], shape: tuple[int, ...]
) -> NDArray[Any]:
    """Put kept values back in their places; what was left out is 0.

    Args:
        values: in C order, any shape of the right size.
        pixels: boolean, shape (height, width).
        shape: of the sample.
    """
    sample = np.zeros(shape, values.dtype)
    sample[pixels] = values.reshape(int(pixels.sum()), *shape[2:])
    return sample
