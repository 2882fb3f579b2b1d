"""Pixels of block-coded pictures worked out by torch, on any device, the same bytes as elsewhere.

Entropy decoding stays with the kernels; what follows, inverse transforms, channels and rounding,
is a few products of matrices over all blocks of one size at once. They are exact in binary32:
every operand is a whole number and the absolute sum of all products stays below 2^24 whatever the
input, so that no order of summation and no fused multiply-add rounds anything. Formats with fewer
bits (TF32, bfloat16) would, so they are kept away while the products run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from dsqformat.coding.block import BlockModel, decode_coefficients
from dsqformat.coding.block.colour import PIXEL_LIMIT, channel_matrix, channel_shifts
from dsqformat.coding.block.decoding import Output
from dsqformat.coding.block.layout import BASES, SIZES

# So many values of planes at once: the indices that gather them take 8 bytes each.
_BATCH_VALUES: Final = 1 << 24
_WHITE: Final = float(255 << 14)


def decode_pixels(
    model: BlockModel,
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    shapes: NDArray[np.integer[Any]],
    qps: NDArray[np.integer[Any]],
    *,
    samples_per_stream: int,
    output: Output = "uint8",
    device: torch.device | str = "cpu",
    threads: int = 1,
) -> torch.Tensor:
    """Decode as `dsqformat.coding.block.decode_ranges` does, pixels on a device of torch.

    While it runs, products of binary32 are exact for the whole process, and not TF32.

    Args:
        model: of the shard.
        data: uint8, shape (nbytes,), the bytes of all streams.
        starts: int64, shape (layers, streams), where each stream begins in `data`.
        ends: int64, likewise, where it ends.
        shapes: shape (n, 2), heights and widths.
        qps: shape (n,).
        samples_per_stream: samples in each stream; the last may have fewer.
        output: `uint8`, or `float32` with 1 for 255.
        device: where pixels are worked out and stay; it needs IEEE division (the CPU, CUDA).
        threads: how many threads share the entropy decoding.

    Returns:
        One dimension, on `device`: the values of all samples one after another, each in C order of
        (height, width, planes). The values are those of `decode_ranges`, bit for bit.

    Raises:
        CorruptShardError: a stream contradicts the syntax, or counts do not fit.
        ValueError: arrays that do not fit each other.
    """
    found = decode_coefficients(
        model, data, starts, ends, shapes, qps,
        samples_per_stream=samples_per_stream, threads=threads,
    )  # fmt: skip
    sides = np.asarray(shapes, "i8").reshape(-1, 2)
    place = torch.device(device)
    dtype = torch.uint8 if output == "uint8" else torch.float32
    counts = sides.prod(1) * model.planes
    out = torch.empty(int(counts.sum()), dtype=dtype, device=place)
    at = 0
    with _exact_products(place):
        for part in _parts(found.shapes, model.planes):
            padded = found.shapes[part].astype("i8")
            first, total = int(found.firsts[part.start]), int(padded.prod(1).sum()) * model.planes
            cells = slice(first // (16 * model.planes), (first + total) // (16 * model.planes))
            values = torch.from_numpy(found.values[first : first + total]).to(place)
            leaves = torch.from_numpy(found.leaves[cells]).to(place)
            pixels = _inverse(values, leaves, torch.from_numpy(padded).to(place), model.planes)
            size = int(counts[part].sum())
            _channels(model, pixels, padded, sides[part], out[at : at + size])
            at += size
    return out


@contextlib.contextmanager
def _exact_products(device: torch.device) -> Iterator[None]:
    """Keep products of binary32 from being rounded to fewer bits, whatever the settings."""
    cuda: Any = torch.backends.cuda.matmul
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        if hasattr(cuda, "fp32_precision"):
            mkldnn: Any = torch.backends.mkldnn
            backends = cuda, mkldnn.matmul
            before = [backend.fp32_precision for backend in backends]
            try:
                for backend in backends:
                    backend.fp32_precision = "ieee"
                yield
            finally:
                for backend, precision in zip(backends, before, strict=True):
                    backend.fp32_precision = precision
        else:  # torch before 2.9
            name = torch.get_float32_matmul_precision()
            try:
                torch.set_float32_matmul_precision("highest")
                yield
            finally:
                torch.set_float32_matmul_precision(name)


def _parts(shapes: NDArray[np.int32], planes: int) -> Iterator[slice]:
    """Yield runs of samples of about _BATCH_VALUES values."""
    ends = np.cumsum(shapes.astype("i8").prod(1) * planes)
    first = 0
    while first < len(ends):
        before = ends[first - 1] if first else 0
        stop = max(first + 1, int(np.searchsorted(ends, before + _BATCH_VALUES, "right")))
        yield slice(first, stop)
        first = stop


def _inverse(
    values: torch.Tensor, leaves: torch.Tensor, shapes: torch.Tensor, planes: int
) -> torch.Tensor:
    """Return planes in sixteenths of a level, float32, laid out as the coefficients (spec A.9.2).

    Args:
        values: float32, coefficients of some samples.
        leaves: uint8, block sizes of their cells.
        shapes: int64, shape (n, 2), their padded heights and widths.
        planes: of each sample.
    """
    place = values.device
    cells = shapes.prod(1) // 16
    sample = torch.repeat_interleave(torch.arange(len(shapes), device=place), cells)
    before = (torch.cumsum(cells, 0) - cells)[sample]
    width = shapes[sample, 1]
    local = torch.arange(len(leaves), device=place) - before
    row, column = local // (width // 4), local % (width // 4)
    inside = (1 << leaves.long()) - 1
    origin = ((row | column) & inside) == 0
    corner = before * (16 * planes) + 4 * (row * width + column)
    area = 16 * cells[sample]
    out = torch.empty_like(values)
    for index, size in enumerate(SIZES):
        chosen = torch.nonzero(origin & (leaves == index)).flatten()
        if not len(chosen):
            continue
        plane = torch.arange(planes, device=place) * area[chosen, None]
        line = torch.arange(size, device=place) * width[chosen, None]
        at = (corner[chosen, None] + plane)[:, :, None, None] + line[:, None, :, None]
        at = at + torch.arange(size, device=place)
        basis = torch.from_numpy(BASES[index, :size, :size].astype("f4")).to(place)
        limit = float(65535 >> index)
        half = torch.matmul(basis.T, values[at])
        half = torch.floor((half + 32) / 64).clamp_(-limit, limit)
        full = torch.matmul(half, basis)
        full = torch.floor((full + (1 << (8 - index))) / (1 << (9 - index)))
        out[at] = full.clamp_(-PIXEL_LIMIT, PIXEL_LIMIT)
    return out


def _channels(
    model: BlockModel,
    pixels: torch.Tensor,
    padded: NDArray[np.int64],
    shapes: NDArray[np.int64],
    out: torch.Tensor,
) -> None:
    """Write the channels of some samples, cropped and interleaved, to `out` (spec A.9.3)."""
    place, planes = pixels.device, model.planes
    matrix = torch.from_numpy(channel_matrix(planes, model.rgb).astype("f4")).to(place)
    shifts = torch.from_numpy(channel_shifts(model.channel_offsets).astype("f4")).to(place)
    # As a tensor: by a number CUDA would multiply with its reciprocal, which rounds otherwise.
    white = torch.full((1,), _WHITE, device=place)
    source = target = first = 0
    while first < len(shapes):
        alike = (shapes[first:] == shapes[first]).all(1)
        n = len(alike) if alike.all() else int(alike.argmin())
        (high, wide), (height, width) = padded[first].tolist(), shapes[first].tolist()
        several = pixels[source : source + n * planes * high * wide].view(n, planes, high * wide)
        mixed = (torch.matmul(matrix, several) + shifts[:, None]).view(n, planes, high, wide)
        mixed = mixed[:, :, :height, :width].permute(0, 2, 3, 1)
        if out.dtype == torch.uint8:
            mixed = torch.floor((mixed + 8192) / 16384).clamp_(0, 255)
        else:
            mixed = mixed.clamp(0, _WHITE) / white
        size = n * height * width * planes
        out[target : target + size].view(mixed.shape).copy_(mixed)
        source += several.numel()
        target += size
        first += n
