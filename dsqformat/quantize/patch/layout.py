"""Samples cut into patches and put together again (spec 11)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.quantize.mask import patch_grid


@dataclass(frozen=True)
class PatchBlock:
    """Patches of one size.

    Attributes:
        values: shape (m, values of a patch), one row per patch.
        numbers: int64, shape (m,), number of each patch: sample by sample, in raster order.
        place: where they are: rows and columns of pixels, as slices.
        size: rows and columns of pixels of a patch.
    """

    values: NDArray[Any]
    numbers: NDArray[np.int64]
    place: tuple[slice, slice]
    size: tuple[int, int]


def patch_count(shape: Sequence[int], patch: int) -> int:
    """Return the patches of a sample (height, width[, channels]); none if it has no values.

    Raises:
        ValueError: the shape or the side is not allowed.
    """
    if len(shape) not in (2, 3) or patch < 1:
        raise ValueError(
            f"patch: samples of shape {tuple(shape)}, patches of {patch}: "
            "expected (height, width) or (height, width, channels), and at least 1"
        )
    rows, columns = patch_grid(shape[0], shape[1], patch)
    return rows * columns if math.prod(shape) else 0


def cut(values: NDArray[Any], patch: int) -> list[PatchBlock]:
    """Cut samples of one shape into patches, at most four sizes.

    Args:
        values: shape (n, height, width) or (n, height, width, channels).
        patch: side p.

    Raises:
        ValueError: the shape or the side is not allowed.
    """
    patch_count(values.shape[1:], patch)
    count, height, width = values.shape[:3]
    channels = values.shape[3] if values.ndim == 4 else 1
    pictures = values.reshape(count, height, width, channels)
    grid = patch_grid(height, width, patch)
    numbers = np.arange(count * grid[0] * grid[1]).reshape(count, *grid)
    blocks = []
    for rows, tall in _bands(height, patch):
        for columns, wide in _bands(width, patch):
            part = pictures[:, rows, columns]
            down, across = part.shape[1] // tall, part.shape[2] // wide
            cells = part.reshape(count, down, tall, across, wide, channels)
            cells = cells.transpose(0, 1, 3, 2, 4, 5)
            which = numbers[
                :,
                rows.start // patch : rows.start // patch + down,
                columns.start // patch : columns.start // patch + across,
            ]
            flat = cells.reshape(count * down * across, tall * wide * channels)
            blocks.append(PatchBlock(flat, which.ravel(), (rows, columns), (tall, wide)))
    return blocks


def place(block: PatchBlock, out: NDArray[Any]) -> None:
    """Undo `cut` for the patches of one size.

    Args:
        block: as `cut` returned it; its values may have changed.
        out: shape of the samples, C-contiguous; where to write.
    """
    count, height, width = out.shape[:3]
    channels = out.shape[3] if out.ndim == 4 else 1
    rows, columns = block.place
    tall, wide = block.size
    down, across = (rows.stop - rows.start) // tall, (columns.stop - columns.start) // wide
    cells = block.values.reshape(count, down, across, tall, wide, channels)
    pictures = out.reshape(count, height, width, channels)
    # Dividing the axes of a slice would copy it; those of the cells are joined instead.
    pictures[:, rows, columns] = cells.transpose(0, 1, 3, 2, 4, 5).reshape(
        count, down * tall, across * wide, channels
    )


def _bands(size: int, patch: int) -> Iterator[tuple[slice, int]]:
    whole = size - size % patch
    if whole:
        yield slice(0, whole), patch
    if size % patch:
        yield slice(whole, size), size % patch
