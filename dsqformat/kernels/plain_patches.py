"""The kernels of patches in NumPy: what runs where nothing could be compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def dequantize_patches_float32(
    codes: NDArray[np.uint16],
    missing: NDArray[np.uint8],
    ids: NDArray[np.uint16],
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
    shapes: NDArray[np.int64],
    patch: int,
    kept: NDArray[np.uint8],
    out: NDArray[np.float32],
) -> int:
    """See `patches.dequantize_patches_float32`."""
    return _dequantize((codes, missing, ids, scale, offset, shapes, patch, kept), out)


def dequantize_patches_uint8(
    codes: NDArray[np.uint16],
    missing: NDArray[np.uint8],
    ids: NDArray[np.uint16],
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
    shapes: NDArray[np.int64],
    patch: int,
    kept: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> int:
    """See `patches.dequantize_patches_uint8`."""
    return _dequantize((codes, missing, ids, scale, offset, shapes, patch, kept), out)


def _dequantize(arguments: tuple[Any, ...], out: NDArray[Any]) -> int:
    codes, missing, ids, scale, offset, shapes, patch, kept = arguments
    wrong = ids >= len(scale)
    if wrong.any():
        return int(wrong.argmax())
    value = patches = first = 0
    for (height, width, channels), bits in zip(shapes.tolist(), missing.tolist(), strict=True):
        rows, columns = -(-height // patch), -(-width // patch)
        there = np.ones(rows * columns, "?")
        if len(kept):
            there = kept[first : first + rows * columns].astype("?")
        first += rows * columns
        count = int(there.sum())
        number = np.full(rows * columns, -1)
        number[there] = ids[patches : patches + count]
        patches += count
        grid = number.reshape(rows, columns)
        group = grid[np.arange(height)[:, np.newaxis] // patch, np.arange(width) // patch]
        group = np.repeat(group[group >= 0], channels)
        part = slice(value, value + len(group))
        value += len(group)
        middle = np.float32(((1 << bits) - 1) / 2)
        code = codes[part].astype("f4") * np.float32(1 << bits) + middle
        with np.errstate(over="ignore"):
            x = code * scale[group] + offset[group]
            out[part] = x if out.dtype == np.float32 else np.clip(np.rint(x * 255), 0, 255)
    return -1
