"""Channels to planes: an orthonormal transform of red, green and blue (spec A.9.3)."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Rows: luma, orange-blue, green-magenta. The decoder's integers are 1024 times the columns.
_FORWARD: Final = (
    (1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)),
    (1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)),
    (-1 / math.sqrt(6), 2 / math.sqrt(6), -1 / math.sqrt(6)),
)
# out[c] = sum over p of INVERSE[c][p] * plane[p], in 2^-14.
INVERSE_RGB: Final = ((591, 724, -418), (591, 0, 836), (591, -724, -418))
IDENTITY: Final = 1024
PIXEL_LIMIT: Final = 7167


def to_planes(
    picture: NDArray[np.uint8], channel_offsets: tuple[int, ...], rgb: bool
) -> NDArray[np.float32]:
    """Return planes, float32, shape (planes, height, width), around zero.

    Args:
        picture: uint8, shape (height, width, planes).
        channel_offsets: what to subtract from each channel, in sixteenths.
        rgb: decorrelate the first three channels.
    """
    values = np.ascontiguousarray(picture.transpose(2, 0, 1)).astype("f4")
    values -= (np.array(channel_offsets) / 16).astype("f4")[:, None, None]
    if rgb:
        # No product of matrices: libraries start threads for so small a one.
        mixed = [sum(f * v for f, v in zip(row, values[:3], strict=True)) for row in _FORWARD]
        values[:3] = mixed
    return values


def channel_shifts(channel_offsets: tuple[int, ...]) -> NDArray[np.int32]:
    """Return the offsets in 2^-14 as the decoder adds them, int32, shape (planes,)."""
    return np.array([offset << 10 for offset in channel_offsets], "i4")


def channel_matrix(planes: int, rgb: bool) -> NDArray[np.int64]:
    """Return what makes channels in 2^-14 of planes in sixteenths, shape (planes, planes)."""
    matrix = np.eye(planes, dtype="i8") * IDENTITY
    if rgb:
        matrix[:3, :3] = INVERSE_RGB
    return matrix


def to_channels(
    pixels: NDArray[np.int64], channel_offsets: tuple[int, ...], rgb: bool
) -> NDArray[np.int64]:
    """Return channels in 2^-14, int64, shape (height, width, planes).

    Args:
        pixels: int64, shape (planes, height, width), planes in sixteenths.
        channel_offsets: in sixteenths.
        rgb: the first three planes are decorrelated channels.
    """
    out: NDArray[np.int64] = np.einsum("cp,phw->hwc", channel_matrix(len(pixels), rgb), pixels)
    return out + channel_shifts(channel_offsets)
