"""From codes to layer segments: the smallest of the codings (spec 9)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk.index import FieldIndex
from dsqformat.chunk.inputs import Coding, CodingOptions
from dsqformat.coding.columns import KEEP_RATIO
from dsqformat.coding.layers import layer_widths, split_codes
from dsqformat.coding.packing import pack_values
from dsqformat.coding.rans import PixelModel, encode_layer, samples_per_stream
from dsqformat.coding.zstd import compress_frame
from dsqformat.wire import LAYER_PACKED, LAYER_RANS, LAYER_ZSTD, ceil_div

# zstd finds little in a few kilobytes, so a stream holds at least this much.
STREAM_NBYTES: Final = 64 << 10
PROBE_ZSTD_LEVEL: Final = 1
PROBE_RATIO: Final = 1.1


def encode_layers(
    index: FieldIndex, codes: NDArray[Any], options: CodingOptions, model: PixelModel | None
) -> list[bytes]:
    """Return the layer segments of a field of bit planes.

    Args:
        index: of the field.
        codes: all samples after one another; for `raw` the bytes of the values.
        options: which coding.
        model: for "rans"; without one, or where it cannot code a layer, other codings serve.
    """
    coding, level = options.coding, options.zstd_level
    if index.field.quantizer == "raw":
        width = np.full(len(index.shape), 8, "u1")
        return [_encode_layer(codes, index.value_count, width, coding, level)]
    widths = layer_widths(index.stored_width, index.field.layers)
    layers = split_codes(codes, index.value_count, widths)
    segments = []
    for layer, values in enumerate(layers):
        width = widths[:, layer]
        modelled = b""
        if model is not None and coding in ("auto", "rans"):
            modelled = _rans_layer(model, index, codes, widths, layer)
        if modelled and coding == "rans":
            segments.append(modelled)
            continue
        plain = _encode_layer(values, index.value_count, width, coding, level, len(modelled))
        segments.append(modelled if 0 < len(modelled) < KEEP_RATIO * len(plain) else plain)
    return segments


def _rans_layer(
    model: PixelModel,
    index: FieldIndex,
    codes: NDArray[np.uint16],
    widths: NDArray[np.uint8],
    layer: int,
) -> bytes:
    """Return one layer segment in coding 2; empty if the model cannot code it."""
    bits = int((index.value_count * widths[:, layer]).sum())
    if not bits:
        return b""
    streams = samples_per_stream(bits // 8, len(widths))
    try:
        data = encode_layer(model, codes, index.shape, widths, layer, streams, index.patch_masks)
    except ValueError:
        # A symbol or a shape that the sample of the model did not have.
        return b""
    return bytes([LAYER_RANS]) + data


def _encode_layer(
    values: NDArray[Any],
    counts: NDArray[np.int64],
    width: NDArray[np.uint8],
    coding: Coding,
    level: int,
    rival_nbytes: int = 0,
) -> bytes:
    """Return one layer segment: the smaller of packed and zstd (spec 9).

    `rival_nbytes` is what another coding needs: where zstd does not come near, it is not tried.
    """
    if not int((counts * width).sum()):
        return b""
    packed = b""
    if coding != "zstd":
        packed = bytes([LAYER_PACKED]) + pack_values(values, counts, np.ascontiguousarray(width))
        if coding == "packed":
            return packed
        # Low bit planes are noise: a quick look saves the slow search for what is not there.
        quick = _zstd_layer(values, counts, width, PROBE_ZSTD_LEVEL)
        if len(quick) > PROBE_RATIO * min(len(packed), rival_nbytes or len(packed)):
            return packed
    compressed = _zstd_layer(values, counts, width, level)
    return compressed if coding == "zstd" or len(compressed) < KEEP_RATIO * len(packed) else packed


def _zstd_layer(
    values: NDArray[Any], counts: NDArray[np.int64], width: NDArray[np.uint8], level: int
) -> bytes:
    octets, sizes = _value_bytes(values, counts, width)
    mean = max(1, len(octets) // len(counts))
    per_stream = min(len(counts), ceil_div(STREAM_NBYTES, mean))
    # Streams of equal size: no short rest that compresses badly.
    per_stream = ceil_div(len(counts), ceil_div(len(counts), per_stream))
    ends = np.cumsum(sizes)[per_stream - 1 :: per_stream].tolist()
    if not ends or ends[-1] != len(octets):
        ends.append(len(octets))
    streams = ceil_div(len(counts), per_stream)
    starts = [0, *ends[: streams - 1]]
    frames = [
        compress_frame(octets[a:b], level) if b > a else b""
        for a, b in zip(starts, ends[:streams], strict=True)
    ]
    lengths = np.array([len(frame) for frame in frames], "<u4").tobytes()
    return bytes([LAYER_ZSTD]) + per_stream.to_bytes(4, "little") + lengths + b"".join(frames)


def _value_bytes(
    values: NDArray[Any], counts: NDArray[np.int64], width: NDArray[np.uint8]
) -> tuple[memoryview, NDArray[np.int64]]:
    """Return one byte (or two, above 8 bits) per value, and the bytes of each sample."""
    item = np.where(width > 8, 2, (width > 0).astype("i8"))
    sizes = counts * item
    used = item[item > 0]
    if (used == used[0]).all():
        return memoryview(values.astype(f"<u{used[0]}", copy=False).tobytes()), sizes
    present = np.where(width > 0, counts, 0)
    ends = np.cumsum(present).tolist()
    parts = [
        values[end - count : end].astype(f"<u{size}").tobytes()
        for end, count, size in zip(ends, present.tolist(), item.tolist(), strict=True)
        if count
    ]
    return memoryview(b"".join(parts)), sizes
