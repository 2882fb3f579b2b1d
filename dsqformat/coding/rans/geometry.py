"""Where values stand: shapes as grids, and the syntax facts that follow from bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.kernels.plain_layout import CURRENT_TAPS, DIRECT_BITS, row_lanes

MAX_CHANNELS: Final = 4
# A padded row must stay addressable; the format allows no more values in a sample (spec 15).
MAX_VALUES: Final = 1 << 28
# Decoders keep rows at hand, up to 60 bytes for each of their values (spec 9.3.2).
MAX_ROW_VALUES: Final = 1 << 20
THRESHOLDS: Final = 14
PROBABILITY_BITS: Final = 12
MAX_BITS: Final = 16


@dataclass(frozen=True)
class Grid:
    """Samples as pictures of interleaved channels.

    Attributes:
        heights: int64, shape (n,).
        widths: int64, shape (n,), pixels.
        channels: values per pixel, 1 to 4.
    """

    heights: NDArray[np.int64]
    widths: NDArray[np.int64]
    channels: int

    def __len__(self) -> int:
        return len(self.heights)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Values per sample, int64, shape (n,)."""
        return self.heights * self.widths * self.channels

    def rows(self, part: slice) -> Grid:
        """Return some of the samples."""
        return Grid(self.heights[part], self.widths[part], self.channels)


def grid_of(shape: NDArray[np.int64]) -> Grid:
    """Lay out samples of one rank.

    A last dimension of 1 to 4 of three or more is channels; the last one left is the width, the
    product of all others the height.

    Args:
        shape: int64, shape (n, rank), dimensions of each sample; n may be 0, rank too.

    Raises:
        ValueError: a sample has more than 2^28 values or a row more than 2^20, or samples differ in
            their channels.
    """
    shape = np.asarray(shape, "i8")
    size = np.prod(np.maximum(shape, 1).astype("f8"), axis=1)
    if (shape < 0).any() or (size > MAX_VALUES).any():
        raise ValueError("a sample has a negative dimension or more than 2^28 values")
    channels = 1
    if shape.shape[1] >= 3 and len(shape) and 1 <= int(shape[0, -1]) <= MAX_CHANNELS:
        channels = int(shape[0, -1])
        if (shape[:, -1] != channels).any():
            raise ValueError("samples differ in their channels")
        shape = shape[:, :-1]
    elif shape.shape[1] >= 3 and len(shape) and (shape[:, -1] <= MAX_CHANNELS).any():
        raise ValueError("samples differ in their channels")
    widths = shape[:, -1] if shape.shape[1] else np.ones(len(shape), "i8")
    if (widths * channels > MAX_ROW_VALUES).any():
        raise ValueError(f"a row of {int(widths.max())} pixels, expected at most 2^20 values")
    heights = np.prod(shape[:, :-1], axis=1, dtype="i8")
    # A sample without values has no rows either: loops over rows would otherwise be idle for long.
    heights = np.where(widths > 0, heights, 0)
    return Grid(np.ascontiguousarray(heights), np.ascontiguousarray(widths), channels)


def symbol_count(bits: int) -> int:
    """Return the symbols of a layer of so many bits."""
    return 1 << bits if bits <= DIRECT_BITS else 16 + 2 * (bits - 4)


def bin_count(bits: int) -> int:
    """Return the contexts of one level."""
    if bits > DIRECT_BITS:
        return 4
    return (((16 << bits) + 16) >> max(0, bits - 2)) + 1


def predictor_size(channels: int) -> int:
    """Return how many weights of prediction a class and channel has in memory."""
    return 5 * row_lanes(channels) + CURRENT_TAPS


def predictor_taps(channels: int, channel: int, above: int) -> NDArray[np.intp]:
    """Return which of the weights of prediction of a channel are transmitted, ascending.

    In memory stand five pixels x-2 ... x+2 of each of the rows NN and N, three pixels x ... x+2 of
    the middles, five of S and SS, each in `row_lanes`, and pixels x-2 ... x of the current row.
    """
    lanes = row_lanes(channels)
    blocks = [(0, 5 * channels), (lanes, 5 * channels)]
    if above:
        blocks += [(2 * lanes, 3 * channels), (3 * lanes, 5 * channels), (4 * lanes, 5 * channels)]
        blocks += [(5 * lanes + channels, channels + channel)]
    else:
        blocks += [(5 * lanes, 2 * channels + channel)]
    return np.concatenate([np.arange(at, at + count) for at, count in blocks])


def energy_taps(channels: int, channel: int) -> NDArray[np.intp]:
    """Return which of the ENERGY weights of a channel are transmitted, ascending.

    In memory stand the errors of pixels x-1 ... x+1 of row N (16), of x-1 and x of the current row
    (8), the gradient and the constant.
    """
    blocks = ((0, 3 * channels), (16, channels + channel), (24, 2))
    return np.concatenate([np.arange(at, at + count) for at, count in blocks])
