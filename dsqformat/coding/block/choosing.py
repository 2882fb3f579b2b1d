"""Choosing block sizes and codes of pictures by rate and distortion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.colour import to_planes
from dsqformat.coding.block.layout import BANDS_OF, FLAG_FIRST, MAX_SIDE, SIZES, SYMBOLS
from dsqformat.coding.block.model import FLAT, BlockModel
from dsqformat.coding.block.plain_search import search_plain
from dsqformat.coding.block.tables import LayerTables
from dsqformat.coding.block.transform import forward, pad_planes
from dsqformat.coding.block.workspace import SYNTAX, neighbourhood
from dsqformat.errors import SampleError
from dsqformat.kernels import block_kernel

# Rate against distortion, squared steps per bit, by the number of layers: codes that cost more for
# what they gain leave coarser layers nearer to what one layer of their size would hold.
LAM: Final = (0.13, 0.13, 0.18, 0.2)
# What a split costs beyond its flag, in bits: every layer pays for the blocks that it makes, and
# coarse layers would rather have fewer. Measured: prefixes of two and three layers gain up to 0.1
# and 0.35 dB at their size, and all layers together save up to 1 %.
_SPLIT_BITS: Final = (0, 6, 15, 20)

# Rows of costs by context, and bits of each symbol in rows of 32.
Costs = tuple[NDArray[np.uint16], NDArray[np.float32]]

_search: Any = block_kernel("block_search")


@dataclass(frozen=True, slots=True)
class Choice:
    """What the encoder chose for one picture.

    Attributes:
        codes: int32, shape (planes, height, width), padded to whole blocks.
        leaves: uint8, shape (height / 4, width / 4), the index of the block size of each cell.
    """

    codes: NDArray[np.int32]
    leaves: NDArray[np.uint8]


def choose(
    model: BlockModel,
    pictures: Sequence[NDArray[np.uint8]],
    qps: NDArray[np.int64],
    lam: float,
    search: Costs,
) -> Iterator[tuple[Choice, NDArray[np.float32]]]:
    """Yield for each picture its codes and block sizes, and its coefficients in steps.

    Args:
        model: its geometry and colour.
        pictures: uint8, shape (height, width, planes) each.
        qps: int64, shape (n,).
        lam: rate against distortion, squared steps per bit.
        search: what symbols cost; without kernels a guess takes its place.

    Raises:
        SampleError: a picture cannot be encoded.
    """
    chroma = np.minimum(np.arange(model.planes), 1)
    shape: tuple[int, ...] = ()
    for i, picture in enumerate(pictures):
        check_picture(i, picture, model.planes)
        planes = to_planes(picture, model.channel_offsets, model.rgb)
        planes = pad_planes(planes, model.smallest)
        steps = model.band_steps(qps[i : i + 1], 0)[0] / 64
        flat = model.weights == FLAT
        coefs = forward(planes, model.smallest, model.largest, 1 / steps[0] if flat else 1)
        if not flat:
            coefs /= _step_pattern(steps, *planes.shape[1:])[:, chroma]
        if planes.shape != shape:
            shape = planes.shape
            space = neighbourhood(shape[2], model.planes, 1)
            saved = np.empty(4 * model.planes * 1280, "i4")
        if _search is None:
            found = search_plain(coefs, lam, model.smallest, model.largest)
            yield Choice(*found), coefs
            continue
        codes = np.empty(shape, "i4")
        leaves = np.empty((shape[1] // 4, shape[2] // 4), "u1")
        _search.search(
            coefs, codes, leaves, *search, lam, model.smallest, model.largest, *SYNTAX, *space,
            saved,
        )  # fmt: skip
        yield Choice(codes, leaves), coefs


def costs_of(tables: LayerTables, layers: int) -> Costs:
    """Return what symbols of all bits at once cost with some tables, in so many layers."""
    rows = tables.costs()
    map_ = tables.map.astype("u2")
    flags = slice(FLAG_FIRST, FLAG_FIRST + len(SIZES))
    splits = rows[map_[flags]]
    splits[:, 1:] += _SPLIT_BITS[layers - 1]
    map_[flags] = len(rows) + np.arange(len(SIZES))
    return map_ * np.uint16(SYMBOLS), np.concatenate([rows, splits]).ravel()


def check_picture(i: int, picture: NDArray[np.uint8], planes: int) -> None:
    """Check type and shape of picture `i`.

    Raises:
        SampleError: it is no picture of so many planes.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != planes:
        raise SampleError(
            f"picture {i}: {picture.dtype} of shape {picture.shape}, expected uint8 of shape "
            f"(height, width, {planes})"
        )
    if min(picture.shape[:2]) < 1 or max(picture.shape[:2]) > MAX_SIDE:
        raise SampleError(f"picture {i}: shape {picture.shape}, expected sides 1 to {MAX_SIDE}")


def _step_pattern(step: NDArray[np.float64], height: int, width: int) -> NDArray[np.float32]:
    """Return the step of every coefficient, shape (4, 2, height, width) by luma or chroma."""
    out = np.ones((4, 2, height, width), "f4")
    steps = step.reshape(2, 8)
    for index, size in enumerate(SIZES):
        tiled = np.tile(BANDS_OF[index], (-(-height // size), -(-width // size)))[:height, :width]
        out[index] = steps[:, tiled]
    return out
