"""Choosing block sizes and codes in NumPy, by a guess of the bits they take."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.layout import MAX_CODE, SCAN_COLUMN, SCAN_ROW, SIZES

_DEAD_ZONE: Final = 0.17  # magnitudes are rounded down from so far above one half
# A residual of DC beyond 16000 cannot be written: blocks as large as that are not chosen.
_MAX_SPAN: Final = 13000


def search_plain(
    coefs: NDArray[np.float32], lam: float, smallest: int, largest: int
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Choose codes and block sizes by a guess of the bits they take.

    Args:
        coefs: float32, shape (4, planes, height, width), coefficients in steps of each size.
        lam: squared steps per bit.
        smallest: index of the smallest block size.
        largest: index of the largest.

    Returns:
        int32 codes, shape (planes, height, width); uint8 leaves, shape (height / 4, width / 4).
    """
    _, planes, height, width = coefs.shape
    codes = np.zeros((planes, height, width), "i4")
    leaves = np.full((height // 4, width // 4), 255, "u1")
    below: NDArray[np.float64] = np.zeros((0, 0))
    chosen = []
    quantized = {}
    unit = SIZES[smallest]
    means = coefs[smallest, :, ::unit, ::unit] / unit
    widest = float((means.max((1, 2)) - means.min((1, 2))).max())
    for index in range(smallest, 4):
        size = SIZES[index]
        fine = index == smallest or widest * size < _MAX_SPAN
        own = np.full((-(-height // size), -(-width // size)), np.inf)
        if index <= largest:
            quantized[index], cost = _quantize(coefs[index], lam, index)
            if fine:
                own[: height // size, : width // size] = cost
        split = np.full(own.shape, np.inf)
        if index > smallest:
            padded = np.zeros((2 * own.shape[0], 2 * own.shape[1]))
            padded[: below.shape[0], : below.shape[1]] = below
            split = padded.reshape(own.shape[0], 2, own.shape[1], 2).sum((1, 3))
        chosen.append((index, own <= split))
        below = np.minimum(own, split)
    for index, leaf in reversed(chosen):
        cells = 1 << index
        here = leaf.repeat(cells, 0).repeat(cells, 1)[: leaves.shape[0], : leaves.shape[1]]
        here = here & (leaves == 255)
        leaves[here] = index
        if index <= largest:
            pixels = here.repeat(4, 0).repeat(4, 1)
            codes[:, pixels] = quantized[index][:, pixels]
    return codes, leaves


def _quantize(
    coefs: NDArray[np.float32], lam: float, index: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return codes of all blocks of a size and what each block costs."""
    size = SIZES[index]
    planes, height, width = coefs.shape
    rows, columns = height // size, width // size
    blocks = coefs[:, : rows * size, : columns * size].reshape(planes, rows, size, columns, size)
    a = np.minimum(np.floor(np.abs(blocks) + (0.5 - _DEAD_ZONE)), MAX_CODE)
    q = np.copysign(a, blocks)
    q[:, :, 0, :, 0] = np.clip(np.rint(blocks[:, :, 0, :, 0]), -MAX_CODE, MAX_CODE)
    lost = ((blocks - q) ** 2).sum((0, 2, 4))
    # Scan positions after the last code are free, zeros before it are not quite.
    order = np.zeros((size, size), int)
    scan = np.arange(size * size)
    order[SCAN_ROW[index, scan], SCAN_COLUMN[index, scan]] = scan
    some = q != 0
    last = np.where(some, order[:, None], 0).max((2, 4))
    bits = (some * (2.5 + 2 * np.log2(1 + np.abs(q)))).sum((0, 2, 4)) + (0.4 * last + 5).sum(0)
    out = np.zeros(coefs.shape, "i4")
    out[:, : rows * size, : columns * size] = q.reshape(planes, rows * size, columns * size)
    return out, lost + lam * bits
