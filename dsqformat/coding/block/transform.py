"""Forward transforms, in floating point, for the encoder; spec A.9.2 is the inverse."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.layout import SIZES
from dsqformat.kernels import block_kernel

_kernel: Any = block_kernel("block_forward")


@functools.cache
def _orthonormal(size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    k, n = np.mgrid[:size, :size]
    matrix = np.sqrt(2 / size) * np.cos(np.pi * k * (2 * n + 1) / (2 * size))
    matrix[0] /= np.sqrt(2)
    rows = matrix.astype("f4")
    return rows, np.ascontiguousarray(rows.T)


def pad_planes(planes: NDArray[np.float32], smallest: int) -> NDArray[np.float32]:
    """Repeat the last row and column up to whole blocks of the smallest size."""
    unit = SIZES[smallest]
    height, width = planes.shape[1:]
    if height % unit == 0 and width % unit == 0:
        return planes
    return np.pad(planes, ((0, 0), (0, -height % unit), (0, -width % unit)), "edge")


def forward(
    planes: NDArray[np.float32], smallest: int, largest: int, scale: float
) -> NDArray[np.float32]:
    """Return coefficients in blocks of every size, float32, shape (4, planes, height, width).

    A block's coefficients stand where its pixels did; sizes out of range, and blocks that do not
    fit, are zeros.

    Args:
        planes: float32, shape (planes, height, width), whole blocks of the smallest size.
        smallest: index of the smallest size.
        largest: index of the largest.
        scale: factor of the coefficients.
    """
    out = np.zeros((4, *planes.shape), "f4")
    for index in range(smallest, largest + 1):
        rows, columns = _orthonormal(SIZES[index])
        if _kernel is None:
            _forward_plain(planes * np.float32(scale), rows, columns, out[index])
            continue
        for plane, target in zip(planes, out[index], strict=True):
            _kernel.transform_plane(plane, index, rows, columns, scale, target)
    return out


def _forward_plain(
    planes: NDArray[np.float32], rows: NDArray[np.float32], columns: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:  # fmt: skip
    """Transform all whole blocks of one size, as the kernel does but for rounding."""
    count, height, width = planes.shape
    size = len(rows)
    down, across = height // size, width // size
    whole = planes[:, : down * size, : across * size].reshape(count, down, size, across, size)
    blocks = np.matmul(np.matmul(rows, whole.swapaxes(2, 3)), columns)
    out[:, : down * size, : across * size] = blocks.swapaxes(2, 3).reshape(
        count, down * size, across * size
    )
