"""Patch masks on a grid: which pixels are coded, and what stands for the others (spec 9.3.2).

Pixels that a mask leaves out have numbers copied from the left, so that the top bits of what is
copied are the copy of the top bits: every layer finds the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.rans.geometry import Grid, grid_of

# As the kernels take it: every pixel is kept.
ALL_KEPT: Final[NDArray[np.uint8]] = np.empty(0, "u1")


@dataclass(frozen=True)
class PatchMasks:
    """The patch masks of some samples.

    Attributes:
        patch: side of the patches.
        grids: a boolean patch grid per sample.
        shape: int64, shape (n, rank), dimensions of each sample.
    """

    patch: int
    grids: Sequence[NDArray[np.bool_]]
    shape: NDArray[np.int64]

    @cached_property
    def kept(self) -> NDArray[np.uint8]:
        """For each pixel of all samples whether it is kept; empty if all are.

        As large as the samples: bytes of strangers are measured against those before it is used.
        """
        shape, channels = self.shape, grid_of(self.shape).channels
        if len(shape) and (shape == shape[0]).all():
            parts = [self._pixels(self.grids, shape[0], channels)]
        else:
            rows = zip(self.grids, shape, strict=True)
            parts = [self._pixels([mask], sides, channels) for mask, sides in rows]
        kept = np.concatenate(parts) if parts else ALL_KEPT.view("?")
        return ALL_KEPT if kept.all() else kept.view("u1")

    def _pixels(
        self, masks: Sequence[NDArray[np.bool_]], shape: NDArray[np.int64], channels: int
    ) -> NDArray[np.bool_]:
        """Return for each pixel of samples of one shape whether it is kept."""
        height, width, *others = shape.tolist()
        # Further dimensions that are no channels are pixels of their own.
        more = math.prod(others) // channels
        if not height * width * more:
            return np.zeros(0, "?")  # one side is 0, there may be 2^28 patches
        rows, columns = np.arange(height) // self.patch, np.arange(width) // self.patch
        found = np.stack(masks)[:, rows[:, np.newaxis], columns]
        return np.repeat(found.ravel(), more)


def spread_out(
    codes: NDArray[np.uint16], kept: NDArray[np.uint8], grid: Grid, bits: NDArray[Any]
) -> NDArray[np.uint16]:
    """Return codes of whole grids, those of left-out pixels copied from the left.

    Args:
        codes: uint16, those that are kept, all samples after one another.
        kept: for each pixel whether it is kept; empty if all are.
        grid: of the samples.
        bits: of a code, shape (n,).

    Raises:
        ValueError: there are more or fewer codes than kept values.
    """
    if not len(kept):
        return codes
    here = kept.view("?")
    count, channels = int(here.sum()), grid.channels
    if codes.shape != (count * channels,):
        raise ValueError(f"codes of shape {codes.shape}, expected ({count * channels},)")
    source = _sources(here, grid)
    # What stands in pixel 0 of row 0 where it is left out follows the others: one per sample.
    middles = np.repeat((1 << bits.astype("i8") >> 1).astype("u2"), channels)
    # The place of each kept pixel among them.
    place = np.cumsum(here) - 1
    taken = np.where(source >= 0, place[source], count - 1 - source)
    rows = np.concatenate([codes, middles]).reshape(-1, channels)
    return rows.take(taken, axis=0).reshape(-1)


def gathered(
    codes: NDArray[np.uint16], kept: NDArray[np.uint8], channels: int
) -> NDArray[np.uint16]:
    """Undo `spread_out`."""
    if not len(kept):
        return codes
    return np.compress(kept.view("?"), codes.reshape(-1, channels), axis=0).reshape(-1)


def kept_counts(grid: Grid, kept: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the values of each sample that are kept, int64, shape (n,)."""
    if not len(kept):
        return grid.counts
    pixels = grid.counts // grid.channels
    before = np.concatenate([[0], np.cumsum(kept, dtype="i8")])
    ends = np.cumsum(pixels)
    counts: NDArray[np.int64] = (before[ends] - before[ends - pixels]) * grid.channels
    return counts


def _sources(here: NDArray[np.bool_], grid: Grid) -> NDArray[np.int64]:
    """Return the pixel each one is copied from, itself if it is kept; -1 - n: none in sample n."""
    pixels = grid.heights * grid.widths
    ends = np.cumsum(pixels)
    full = np.flatnonzero(pixels)
    heights, widths = grid.heights[full], grid.widths[full]
    number = np.repeat(full, heights)
    # The first pixel of each row, and where it takes its numbers from, rows of a sample in order.
    rank = np.arange(len(number)) - np.repeat(np.cumsum(heights) - heights, heights)
    start = (ends - pixels)[number] + rank * np.repeat(widths, heights)
    # Numbers that grow from sample to sample, so that a maximum looks no further back.
    above = np.where(here[start], 2 * start + 1, -1)
    above = np.maximum.accumulate(np.where(rank == 0, np.maximum(above, 2 * start), above))
    first = np.where(above & 1, above >> 1, -1 - number)
    begins = np.zeros(len(here), "?")
    begins[start] = True
    last = np.maximum.accumulate(np.where(here | begins, np.arange(len(here)), -1))
    row = np.cumsum(begins) - 1
    return np.where(here[last], last, first[row])
