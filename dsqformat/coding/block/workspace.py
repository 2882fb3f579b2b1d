"""Scratch arrays of the kernels, sized for the widest picture (never from bytes of a file)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.layout import (
    BASES_FLOAT,
    EDGE_WEIGHTS,
    LEVEL_OF,
    SCAN_BAND,
    SCAN_COLUMN,
    SCAN_PLACE,
    SCAN_ROW,
)

SPAN: Final = 1232
# In the order of the kernels' arguments.
SYNTAX: Final = (
    SCAN_PLACE.ravel(),
    SCAN_BAND.ravel(),
    SCAN_ROW.ravel(),
    SCAN_COLUMN.ravel(),
    LEVEL_OF,
    EDGE_WEIGHTS.ravel(),
)
BASIS: Final = BASES_FLOAT.ravel()


def padded(side: int, smallest: int) -> int:
    """Return a side rounded up to whole blocks of the smallest size."""
    unit = 4 << smallest
    return -(-side // unit) * unit


def neighbourhood(width: int, planes: int, layers: int) -> tuple[NDArray[Any], ...]:
    """Return shorts, edges and sizes for pictures up to `width`, which is padded."""
    cells = width // 4
    return (
        np.zeros(4 * SPAN + 64 + layers * planes * 16 * cells * 64, "i2"),
        np.zeros(layers * 2 * planes * 16 * cells, "i4"),
        np.zeros(16 * cells, "u1"),
    )


def decoder_scratch(width: int, planes: int) -> tuple[NDArray[Any], ...]:
    """Return where, values, temp, pixels, line and status."""
    return (
        np.zeros((planes + 1) * 1025, "u2"),
        np.zeros((planes + 1) * 1025, "i4"),
        np.zeros(1024 + 64, "f4"),
        np.zeros(planes * 32 * width, "i2"),
        np.zeros(max(3, planes) * width, "i4"),
        np.zeros(16, "i8"),
    )
