"""From codes to pixels in NumPy, all blocks of a size at once (spec A.9).

The products of matrices may come from elsewhere: binary32 is exact, because every sum stays
below 2^24, so torch on a CPU or a GPU (with TF32 off) returns the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.colour import PIXEL_LIMIT, to_channels
from dsqformat.coding.block.layout import BANDS_OF, BASES, SIZES
from dsqformat.coding.block.model import BlockModel

MatMul = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]


def reconstruct(
    model: BlockModel,
    codes: NDArray[np.int32],
    leaves: NDArray[np.uint8],
    qp: int,
    layers: int,
    matmul: MatMul = np.matmul,
) -> NDArray[np.int64]:
    """Return the channels of one picture in 2^-14, int64, shape (height, width, planes), padded.

    Args:
        model: of the shard.
        codes: int32, shape (planes, height, width), of the first `layers` layers.
        leaves: uint8, shape (height / 4, width / 4), the index of the block size of each cell.
        qp: 0 to 175.
        layers: how many layers the codes have.
        matmul: product of stacks of matrices in binary32.
    """
    pixels = np.zeros(codes.shape, "i8")
    for index, place in _blocks(leaves):
        coefs = _dequantize(codes[place], model, qp, layers, index)
        limit, size = 65535 >> index, SIZES[index]
        basis = BASES[index, :size, :size].astype("f4")
        half = np.asarray(matmul(np.ascontiguousarray(basis.T), coefs.astype("f4"))).astype("i8")
        half = np.clip((half + 32) >> 6, -limit, limit)
        full = np.asarray(matmul(half.astype("f4"), basis)).astype("i8")
        full = (full + (1 << (8 - index))) >> (9 - index)
        pixels[place] = np.clip(full, -PIXEL_LIMIT, PIXEL_LIMIT)
    return to_channels(pixels, model.channel_offsets, model.rgb)


def coefficients(
    model: BlockModel, codes: NDArray[np.int32], leaves: NDArray[np.uint8], qp: int, layers: int
) -> NDArray[np.float32]:
    """Return dequantized coefficients in the places of the codes; arguments as of `reconstruct`."""
    out = np.zeros(codes.shape, "f4")
    for index, place in _blocks(leaves):
        out[place] = _dequantize(codes[place], model, qp, layers, index)
    return out


def _blocks(leaves: NDArray[np.uint8]) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield each block size and the places of its blocks: planes, blocks, rows, columns."""
    for index, size in enumerate(SIZES):
        cells = size // 4
        ys, xs = np.nonzero(leaves == index)
        origin = (ys % cells == 0) & (xs % cells == 0)
        ys, xs = 4 * ys[origin], 4 * xs[origin]
        if len(ys):
            inner = np.arange(size)
            yield index, (
                slice(None), ys[:, None, None] + inner[:, None], xs[:, None, None] + inner,
            )  # fmt: skip


def to_octets(channels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Round channels in 2^-14 to bytes."""
    out: NDArray[np.uint8] = np.clip((channels + 8192) >> 14, 0, 255).astype("u1")
    return out


def to_floats(channels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return channels in 2^-14 as binary32, 1 for 255."""
    clipped: NDArray[np.float32] = np.clip(channels, 0, 255 << 14).astype("f4")
    clipped /= np.float32(255 << 14)
    return clipped


def _dequantize(
    codes: NDArray[np.int32], model: BlockModel, qp: int, layers: int, index: int
) -> NDArray[np.int64]:
    """Return coefficients of blocks, shape (planes, blocks, size, size)."""
    codes = codes.astype("i8")
    steps = model.band_steps(np.array([qp]), len(model.layers) - layers)[0].reshape(2, 8)
    offsets = np.array(model.offsets[layers - 1], "i8")
    chroma = np.minimum(np.arange(len(codes)), 1)
    step: NDArray[Any] = steps[chroma][:, BANDS_OF[index]][:, None]
    a = np.abs(codes)
    class_ = 3 * chroma[:, None, None, None] + np.clip(a, 1, 3) - 1
    value = np.where(codes == 0, 0, np.sign(codes) * (16 * a + offsets[class_]))
    value[:, :, 0, 0] = 16 * codes[:, :, 0, 0] + offsets[6]
    value *= step
    shift = 5 + 2 * index
    rounded = (np.abs(value) + (1 << (shift - 1))) >> shift
    limit = 65535 >> index
    out: NDArray[np.int64] = np.sign(value) * np.minimum(rounded, limit)
    return out
