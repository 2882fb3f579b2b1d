"""The kernels of patches in NumPy: what runs where nothing could be compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Points at a time, so that memory stays bounded.
PART = 4096


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
        own = slice(first, first + rows * columns)
        first = own.stop
        if not height * width * channels:
            continue  # one side may be 2^28 and costs nothing
        there = kept[own].astype("?") if len(kept) else np.ones(rows * columns, "?")
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


def choose_groups(
    patches: NDArray[np.float64],
    top: int,
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
    centres: NDArray[np.float64],
    current: NDArray[np.int64],
    tried: int,
    group: NDArray[np.int64],
    errors: NDArray[np.float64],
    codes: NDArray[np.uint8],
) -> None:
    """See `patches.choose_groups`."""
    candidates = [current] if len(current) else []
    if tried:
        distance = _distances(patches.min(axis=1), patches.max(axis=1), centres)
        near = np.argsort(distance, axis=1, kind="stable")[:, :tried]
        candidates += list(near.T)
    group[:] = 0
    errors[:] = np.inf
    for candidate in candidates:
        found = _squared_error(patches, top, scale[candidate], offset[candidate])
        better = found < errors
        group[better] = candidate[better]
        errors[better] = found[better]
    codes[:] = _codes(patches, top, scale[group], offset[group])


def find_nearest(
    points: NDArray[np.float64], centres: NDArray[np.float64], found: NDArray[np.int64]
) -> None:
    """See `patches.find_nearest`."""
    for begin in range(0, len(found), PART):
        part = slice(begin, begin + PART)
        found[part] = _distances(points[0, part], points[1, part], centres).argmin(axis=1)


def _distances(
    x: NDArray[np.float64], y: NDArray[np.float64], centres: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return squared distances of points and centres, shape (points, centres)."""
    dx, dy = x[:, np.newaxis] - centres[0], y[:, np.newaxis] - centres[1]
    distances: NDArray[np.float64] = dx * dx + dy * dy
    return distances


def _codes(
    patches: NDArray[np.float64],
    top: int,
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
) -> NDArray[np.float64]:
    gain = scale.astype("f8")[:, np.newaxis]
    inverse = np.where(gain > 0, 1 / np.where(gain > 0, gain, 1), 0)
    steps = (patches - offset.astype("f8")[:, np.newaxis]) * inverse
    codes: NDArray[np.float64] = np.rint(np.clip(steps, 0, top))
    return codes


def _squared_error(
    patches: NDArray[np.float64],
    top: int,
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
) -> NDArray[np.float64]:
    gain, shift = scale.astype("f8")[:, np.newaxis], offset.astype("f8")[:, np.newaxis]
    squares = (_codes(patches, top, scale, offset) * gain + shift - patches) ** 2
    # Four sums side by side, as the compiled loop has them.
    sums = np.zeros((len(patches), 4))
    for start in range(0, squares.shape[1], 4):
        part = squares[:, start : start + 4]
        sums[:, : part.shape[1]] += part
    total: NDArray[np.float64] = (sums[:, 0] + sums[:, 1]) + (sums[:, 2] + sums[:, 3])
    return total
