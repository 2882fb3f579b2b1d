"""From the segments of a chunk to arrays: whole chunks at once, nothing per sample (spec 9-11)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk.index import FieldIndex, parse_index
from dsqformat.coding.columns import Values
from dsqformat.coding.dequant import (
    codes_of_chunk,
    dequantize_chunk,
    dequantize_chunk_uint8,
)
from dsqformat.coding.packing import LayerData
from dsqformat.coding.rans import PixelModel, decode_layer
from dsqformat.coding.zstd import decompress_frame
from dsqformat.errors import CorruptShardError, DsqError
from dsqformat.quantize.mask import pixel_mask, scatter
from dsqformat.schema import Schema
from dsqformat.wire import LAYER_PACKED, LAYER_RANS, LAYER_ZSTD, MAX_CHUNK_SAMPLES, ceil_div

Output = Literal["float32", "source"]
Array = NDArray[Any] | list[NDArray[Any]]


@dataclass(frozen=True)
class Chunk:
    """Decoded samples of a chunk.

    Attributes:
        sample_count: samples n.
        columns: an array of n values for numeric types, else a list of n str or bytes.
        fields: an array (n, *shape) where all samples have the same shape, else a list of n.
        masks: per field with left-out patches, n boolean patch grids.
    """

    sample_count: int
    columns: dict[str, Values]
    fields: dict[str, Array]
    masks: dict[str, list[NDArray[np.bool_]]]

    def rows(self, rows: slice | NDArray[np.intp]) -> dict[str, Any]:
        """Return fields and columns of some samples, by name."""
        return {name: take_rows(v, rows) for name, v in {**self.fields, **self.columns}.items()}

    def sample(self, row: int) -> dict[str, Any]:
        """Return fields and columns of one sample; numbers of columns as Python numbers."""
        values = {name: values[row] for name, values in self.fields.items()}
        for name, column in self.columns.items():
            value = column[row]
            values[name] = value.item() if isinstance(value, np.generic) else value
        return values


def take_rows(values: Any, rows: slice | NDArray[np.intp]) -> Any:
    """Return some rows of an array or list."""
    if isinstance(values, np.ndarray):
        return values[rows]
    return values[rows] if isinstance(rows, slice) else [values[row] for row in rows]


def decode_chunk(
    schema: Schema,
    sample_count: int,
    segments: Sequence[bytes | memoryview],
    *,
    layers: int | None = None,
    fields: Iterable[str] | None = None,
    output: Output = "float32",
    models: Mapping[str, PixelModel] | None = None,
    what: str = "chunk",
) -> Chunk:
    """Decode a prefix of a chunk.

    Args:
        schema: of the shard.
        sample_count: samples of the chunk, from the chunk table.
        segments: the first segments of the chunk, verified; the index segment first.
        layers: layers of each field to use; None: as many as `segments` holds.
        fields: names of the fields to decode; None: all.
        output: "float32": quantized uint8 fields as [0, 1]; "source": as uint8.
        models: entropy-coding models of the shard, by field name.
        what: name of the chunk for error messages.

    Raises:
        CorruptShardError: the bytes contradict the spec.
        ValueError: a field is asked for of which no layer is in `segments`.
    """
    index = parse_index(schema, segments[0], sample_count, f"{what}: index")
    wanted = [field.name for field in schema.fields] if fields is None else list(fields)
    decoded: dict[str, Array] = {}
    masks: dict[str, list[NDArray[np.bool_]]] = {}
    for name in wanted:
        stored = schema.stored_layers(name)
        numbers = [schema.segment_of[name, layer] for layer in range(stored)][:layers]
        present = [segments[number] for number in numbers if number < len(segments)]
        if not present:
            raise ValueError(f"{what}: no layer of field {name!r} in {len(segments)} segments")
        try:
            model = (models or {}).get(name)
            decoded[name] = _decode_field(index.fields[name], present, output, model)
        except DsqError as error:
            raise error.located(f"{what}: field {name!r}") from error
        if index.fields[name].mask:
            masks[name] = list(index.fields[name].mask)
    return Chunk(sample_count, index.columns, decoded, masks)


def _decode_field(
    index: FieldIndex,
    segments: Sequence[bytes | memoryview],
    output: Output,
    model: PixelModel | None,
) -> Array:
    if index.field.quantizer == "raw":
        used = [parse_layer(segments[0], index.value_count, index.layer_width[:, 0], "layer 0")]
        flat: NDArray[Any] = np.frombuffer(used[0].data, "u1")
        if len(flat) != int(index.value_count.sum()):
            raise CorruptShardError(
                f"layer 0: {len(flat)} bytes, expected {int(index.value_count.sum())}"
            )
        flat = flat.view(index.field.numpy_dtype)
        return _shaped(index, flat, index.value_count // flat.itemsize)
    layers, widths = parse_layers(index, segments, model)
    missing = (index.stored_width - widths.sum(axis=1)).astype("u1")
    whole_bytes = output == "source" and index.field.dtype == "uint8"
    dequantize = dequantize_chunk_uint8 if whole_bytes else dequantize_chunk
    flat = dequantize(
        layers,
        index.value_count,
        widths,
        missing,
        index.zero_point,
        index.max_code,
        *index.gain_shift,
    )
    return _shaped(index, flat, index.value_count)


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
        if model is None or index.mask:
            raise CorruptShardError(f"{what}: coding 2 without a model, or with a patch mask")
        coarse = _joined_codes(layers, index, widths, joined, number) if number else None
        shape, data = index.shape, memoryview(segment)[1:]
        codes = decode_layer(model, data, coarse, shape, index.layer_width, number, what)
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


def _shaped(index: FieldIndex, flat: NDArray[Any], counts: NDArray[np.int64]) -> Array:
    if not index.mask and index.uniform_shape is not None:
        return flat.reshape(len(index.shape), *index.uniform_shape)
    ends = np.cumsum(counts).tolist()
    starts = [0, *ends[:-1]]
    parts = [flat[a:b] for a, b in zip(starts, ends, strict=True)] if ends else []
    shapes = [tuple(shape) for shape in index.shape.tolist()]
    if not index.mask:
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
    patch = index.field.patch or 1
    arrays = [
        scatter(part, pixel_mask(mask, shape[0], shape[1], patch), shape)
        for part, shape, mask in zip(parts, shapes, index.mask, strict=True)
    ]
    return np.stack(arrays) if index.uniform_shape is not None else arrays


def join_rows(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Concatenate batches of rows; an array stays one where all shapes agree."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: _join([part[name] for part in parts]) for name in parts[0]}


def _join(values: Sequence[Any]) -> Any:
    if all(isinstance(v, np.ndarray) and v.shape[1:] == values[0].shape[1:] for v in values):
        return np.concatenate(values)
    return [row for part in values for row in part]
