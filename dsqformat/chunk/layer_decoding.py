"""From layer segments to layers of codes (spec 9)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk.index import FieldIndex
from dsqformat.coding.dequant import codes_of_chunk
from dsqformat.coding.packing import LayerData
from dsqformat.coding.rans import PixelModel, decode_layer
from dsqformat.coding.zstd import decompress_frame
from dsqformat.errors import CorruptShardError
from dsqformat.wire import LAYER_PACKED, LAYER_RANS, LAYER_ZSTD, MAX_CHUNK_SAMPLES, ceil_div


def parse_layers(
    index: FieldIndex, segments: Sequence[bytes | memoryview], model: PixelModel | None
) -> tuple[list[LayerData], NDArray[np.uint8]]:
    """Take the first layers of a quantized field apart.

    Up to the last layer in coding 2, layers are joined to one: each of those was coded in the
    light of the layers before it.

    Args:
        index: of the field.
        segments: the verified bytes of its first layers.
        model: for coding 2.

    Returns:
        The layers, and their widths: uint8, shape (n, layers).

    Raises:
        CorruptShardError: the bytes contradict spec 9.
    """
    counts, joined = index.value_count, 0
    layers: list[LayerData] = []
    widths = np.ascontiguousarray(index.layer_width[:, : len(segments)])
    for number, segment in enumerate(segments):
        what = f"layer {number}"
        empty = not int((counts * widths[:, number]).sum())
        if empty or not len(segment) or segment[0] != LAYER_RANS:
            layers.append(parse_layer(segment, counts, widths[:, number], what))
            continue
        if model is None:
            raise CorruptShardError(f"{what}: coding 2 without a model")
        coarse = _joined_codes(layers, index, widths, joined, number) if number else None
        shape, data = index.shape, memoryview(segment)[1:]
        codes = decode_layer(
            model, data, coarse, shape, index.layer_width, number, what, masks=index.patch_masks
        )
        layers, joined = [_whole_values(codes, counts, widths[:, : number + 1])], number + 1
    if joined:
        first = widths[:, :joined].sum(axis=1, dtype="u1")
        widths = np.ascontiguousarray(np.column_stack([first, widths[:, joined:]]))
    return layers, widths


def _joined_codes(
    layers: Sequence[LayerData],
    index: FieldIndex,
    widths: NDArray[np.uint8],
    joined: int,
    number: int,
) -> NDArray[np.uint16]:
    """Return what the layers before `number` say of each code; the first `joined` are one."""
    before = widths[:, :number]
    if joined:
        first = before[:, :joined].sum(axis=1, dtype="u1")
        before = np.column_stack([first, before[:, joined:]])
    unchecked = np.ones(len(before), "u1")
    return codes_of_chunk(
        layers, index.value_count, np.ascontiguousarray(before), unchecked, index.max_code
    )


def _whole_values(
    codes: NDArray[np.uint16], counts: NDArray[np.int64], widths: NDArray[np.uint8]
) -> LayerData:
    """Return codes as one layer of whole bytes, or 16-bit words where a sample needs them."""
    wide = widths.sum(axis=1, dtype="u1") > 8
    if not wide.any():
        return LayerData(codes.astype("u1"), packed=False)
    if wide.all():
        return LayerData(codes.astype("<u2").view("u1"), packed=False)
    ends = np.cumsum(counts).tolist()
    parts = [
        codes[end - count : end].astype("<u2" if is_wide else "u1").tobytes()
        for end, count, is_wide in zip(ends, counts.tolist(), wide.tolist(), strict=True)
    ]
    return LayerData(b"".join(parts), packed=False)


def parse_layer(
    segment: bytes | memoryview,
    value_count: NDArray[np.int64],
    width: NDArray[np.uint8],
    what: str,
) -> LayerData:
    """Take a layer segment apart, decompressing it if need be (spec 9).

    Args:
        segment: the verified bytes.
        value_count: int64, shape (n,), values per sample.
        width: uint8, shape (n,), bits per value in this layer.
        what: name of the layer for error messages.

    Raises:
        CorruptShardError: the bytes contradict spec 9.
    """
    view = memoryview(segment)
    bits = int((value_count * width).sum())
    if not bits or not len(view):
        if bits or len(view):
            raise CorruptShardError(f"{what}: {len(view)} bytes for {bits} bits of codes")
        return LayerData(b"", packed=True)
    if view[0] == LAYER_PACKED:
        return LayerData(view[1:], packed=True)
    if view[0] == LAYER_ZSTD:
        return LayerData(_join_frames(view, value_count, width, what), packed=False)
    raise CorruptShardError(f"{what}: coding {view[0]}, expected 0 to 2")


def _join_frames(
    view: memoryview, value_count: NDArray[np.int64], width: NDArray[np.uint8], what: str
) -> bytes:
    if len(view) < 5:
        raise CorruptShardError(f"{what}: {len(view)} bytes are too few for coding 1")
    (per_stream,) = struct.unpack_from("<I", view, 1)
    if not 1 <= per_stream <= MAX_CHUNK_SAMPLES:
        raise CorruptShardError(f"{what}: {per_stream} samples per stream, expected 1 to 4096")
    streams = ceil_div(len(value_count), per_stream)
    start = 5 + 4 * streams
    if len(view) < start:
        raise CorruptShardError(f"{what}: {len(view)} bytes end before {streams} stream lengths")
    lengths = np.frombuffer(view[5:start], "<u4").tolist()
    if sum(lengths) != len(view) - start:
        raise CorruptShardError(
            f"{what}: streams of {sum(lengths)} bytes in {len(view) - start} bytes"
        )
    item = np.where(width > 8, 2, (width > 0).astype("i8"))
    expected = np.add.reduceat(value_count * item, np.arange(0, len(value_count), per_stream))
    frames = []
    for number, (nbytes, content) in enumerate(zip(lengths, expected.tolist(), strict=True)):
        if not content and nbytes:
            raise CorruptShardError(f"{what}: stream {number}: {nbytes} bytes for no values")
        if content:
            frame = view[start : start + nbytes]
            frames.append(decompress_frame(frame, content, f"{what}: stream {number}"))
        start += nbytes
    return frames[0] if len(frames) == 1 else b"".join(frames)
