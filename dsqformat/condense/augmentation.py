"""Random crops and flips of whole batches, before they become float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def crop_and_flip(
    pictures: NDArray[Any], rng: np.random.Generator, *, padding: int = 4, flip: bool = True
) -> NDArray[Any]:
    """Move each picture by up to `padding` pixels and mirror every other one, at random.

    Args:
        pictures: shape (n, height, width, channels).
        rng: draws two offsets and one flip per picture.
        padding: pixels of 0 on every side before cropping back; 0 to 255.
        flip: mirror left and right with probability 1/2.

    Returns:
        A new array of the same shape and dtype.
    """
    count, height, width = pictures.shape[:3]
    padded = np.pad(pictures, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = moved_places(rng, count, height, width, padding=padding, flip=flip)
    samples = np.arange(count)[:, np.newaxis, np.newaxis]
    moved: NDArray[Any] = padded[samples, rows[:, :, np.newaxis], columns[:, np.newaxis, :]]
    return moved


def moved_places(
    rng: np.random.Generator, count: int, height: int, width: int, *, padding: int, flip: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw which rows and columns of padded pictures take the place of their own.

    Args:
        rng: draws two offsets and one flip per picture.
        count: pictures.
        height: of them, without padding.
        width: likewise.
        padding: pixels on every side.
        flip: mirror left and right with probability 1/2.

    Returns:
        Rows, int64, shape (count, height), and columns, shape (count, width).
    """
    offsets = rng.integers(0, 2 * padding + 1, (2, count, 1))
    mirrored = rng.random(count) < 0.5
    rows = offsets[0] + np.arange(height)
    columns = offsets[1] + np.arange(width)
    if flip:
        columns[mirrored] = columns[mirrored, ::-1]
    return rows, columns
