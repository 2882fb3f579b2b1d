"""Codes as the kernels of `rans` take them: to the precision of a layer, on whole grids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.rans.geometry import Grid
from dsqformat.coding.rans.masking import ALL_KEPT
from dsqformat.kernels.plain_layout import ROWS, SLACK


@dataclass(frozen=True)
class LayerCodes:
    """Codes to the precision of one layer.

    Attributes:
        codes: uint16, all samples after one another.
        grid: where they stand.
        first: int64, shape (n,), the first value of each sample.
        kept: uint8, for each pixel whether it is kept; empty if all are.
    """

    codes: NDArray[np.uint16]
    grid: Grid
    first: NDArray[np.int64]
    kept: NDArray[np.uint8]

    @property
    def coded_count(self) -> int:
        """Values that are kept."""
        return int(self.kept.sum()) * self.grid.channels if len(self.kept) else len(self.codes)

    def only(self, wanted: NDArray[np.bool_]) -> LayerCodes:
        """Return some of the samples."""
        counts = self.grid.counts
        grid = Grid(self.grid.heights[wanted], self.grid.widths[wanted], self.grid.channels)
        codes = self.codes[np.repeat(wanted, counts)]
        kept = self.kept
        if len(kept):
            kept = kept[np.repeat(wanted, counts // self.grid.channels)]
        return LayerCodes(codes, grid, starts(grid.counts), kept)


def layer_codes(
    codes: NDArray[np.uint16],
    grid: Grid,
    layer_width: NDArray[np.uint8],
    layer: int,
    kept: NDArray[np.uint8] = ALL_KEPT,
) -> LayerCodes:
    """Return codes of whole grids without the bits below a layer."""
    below = layer_width[:, layer + 1 :].sum(axis=1, dtype="u2")
    counts = grid.counts
    if codes.shape != (int(counts.sum()),):
        raise ValueError(f"codes of shape {codes.shape}, expected ({int(counts.sum())},)")
    shift: Any = below[0] if len(below) and (below == below[0]).all() else np.repeat(below, counts)
    top = np.right_shift(codes, shift).astype("u2", copy=False)
    return LayerCodes(np.ascontiguousarray(top), grid, starts(counts), kept)


def scratch(grid: Grid, lanes: int) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
    """Return room for what stands around a value in so many streams, as the kernels need it."""
    width, channels = int(grid.widths.max(initial=0)), grid.channels
    stride = (width + 4) * channels + SLACK
    # For each stream sums, changes, classes and activities; for each four of them their pairs.
    sums = ((8 if channels > 2 else 4) + channels + 2) * width + 4
    pairs = -(-lanes // 4) * 4 * (width + 2) * channels
    return np.empty(lanes * ROWS * stride, "i2"), np.empty(lanes * sums + pairs, "i4")


def starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each sample begins, of their numbers of values."""
    return np.cumsum(counts) - counts
