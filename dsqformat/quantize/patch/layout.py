"""Samples cut into patches and put together again (SPEC 7.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def patch_count(height: int, width: int, patch: int) -> tuple[int, int]:
    """Return rows and columns of patches; those at the right and lower edges may be smaller."""
    return -(-height // patch), -(-width // patch)


@dataclass(frozen=True)
class PatchBlock:
    """Patches of one size.

    Attributes:
        values: shape (m, values of a patch), one row per patch.
        numbers: int64, shape (m,), number of each patch: sample by sample, in raster order.
        place: where they are: rows, columns of pixels and of patches, as slices.
    """

    values: NDArray[Any]
    numbers: NDArray[np.int64]
    place: tuple[slice, slice]


def cut(values: NDArray[Any], patch: int) -> list[PatchBlock]:
    """Cut samples of one shape into patches, at most four sizes.

    Args:
        values: shape (n, height, width) or (n, height, width, channels).
        patch: side p, at least 1.
    """
    if values.ndim not in (3, 4) or patch < 1:
        raise ValueError(f"samples of shape {values.shape[1:]} in patches of {patch}")
    channels = values.shape[3] if values.ndim == 4 else 1
    pictures = values.reshape(*values.shape[:3], channels)
    count, height, width = values.shape[:3]
    grid = patch_count(height, width, patch)
    numbers = np.arange(count * grid[0] * grid[1]).reshape(count, *grid)
    blocks = []
    for rows, tall in _bands(height, patch):
        for columns, wide in _bands(width, patch):
            part = pictures[:, rows, columns]
            down, across = part.shape[1] // tall, part.shape[2] // wide
            cells = part.reshape(count, down, tall, across, wide, channels)
            cells = cells.transpose(0, 1, 3, 2, 4, 5).reshape(-1, tall * wide * channels)
            which = numbers[
                :,
                rows.start // patch : rows.start // patch + down,
                columns.start // patch : columns.start // patch + across,
            ]
            blocks.append(PatchBlock(cells, which.ravel(), (rows, columns)))
    return blocks


def join(blocks: list[PatchBlock], shape: tuple[int, ...], patch: int) -> NDArray[Any]:
    """Undo `cut`.

    Args:
        blocks: as `cut` returned them; their values may have changed.
        shape: (n, height, width) or (n, height, width, channels).
        patch: side p.
    """
    channels = shape[3] if len(shape) == 4 else 1
    out = np.empty((*shape[:3], channels), blocks[0].values.dtype if blocks else "u1")
    for block in blocks:
        rows, columns = block.place
        tall, wide = min(patch, rows.stop - rows.start), min(patch, columns.stop - columns.start)
        down, across = (rows.stop - rows.start) // tall, (columns.stop - columns.start) // wide
        cells = block.values.reshape(shape[0], down, across, tall, wide, channels)
        out[:, rows, columns] = cells.transpose(0, 1, 3, 2, 4, 5).reshape(
            shape[0], down * tall, across * wide, channels
        )
    return out.reshape(shape)


def _bands(size: int, patch: int) -> Iterator[tuple[slice, int]]:
    whole = size - size % patch
    if whole:
        yield slice(0, whole), patch
    if size % patch:
        yield slice(whole, size), size % patch
