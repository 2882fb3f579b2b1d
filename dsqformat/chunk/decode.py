"""From the segments of a chunk to arrays: whole chunks at once, nothing per sample (spec 9-11)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk import blocks, patches
from dsqformat.chunk.index import FieldIndex, parse_index
from dsqformat.chunk.layer_decoding import parse_layer, parse_layers
from dsqformat.chunk.models import FieldModel, PatchModel
from dsqformat.coding.block import BlockModel
from dsqformat.coding.columns import Values
from dsqformat.coding.dequant import dequantize_chunk, dequantize_chunk_uint8
from dsqformat.coding.rans import PixelModel
from dsqformat.errors import CorruptShardError, DsqError
from dsqformat.quantize.mask import pixel_mask, scatter
from dsqformat.schema import Schema

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
    models: Mapping[str, FieldModel] | None = None,
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
        models: of the shard, by field name.
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
    model: FieldModel | None,
) -> Array:
    field = index.field
    whole_bytes = output == "source" and field.dtype == "uint8"
    if field.quantizer == "raw":
        return _decode_raw(index, segments[0])
    if field.quantizer == "block":
        blocks_model = model if isinstance(model, BlockModel) else None
        flat = blocks.decode_field(index, segments, blocks_model, whole_bytes=whole_bytes)
        return _shaped(index, flat, index.value_count)
    if field.quantizer == "patch":
        patch_model = model if isinstance(model, PatchModel) else None
        flat = patches.decode_field(index, segments, patch_model, whole_bytes=whole_bytes)
        return _shaped(index, flat, index.value_count)
    layers, widths = parse_layers(index, segments, model if isinstance(model, PixelModel) else None)
    missing = (index.stored_width - widths.sum(axis=1)).astype("u1")
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


def _decode_raw(index: FieldIndex, segment: bytes | memoryview) -> Array:
    used = parse_layer(segment, index.value_count, index.layer_width[:, 0], "layer 0")
    flat: NDArray[Any] = np.frombuffer(used.data, "u1")
    if len(flat) != int(index.value_count.sum()):
        raise CorruptShardError(
            f"layer 0: {len(flat)} bytes, expected {int(index.value_count.sum())}"
        )
    flat = flat.view(index.field.numpy_dtype)
    return _shaped(index, flat, index.value_count // flat.itemsize)


def _shaped(index: FieldIndex, flat: NDArray[Any], counts: NDArray[np.int64]) -> Array:
    if index.uniform_shape is not None:
        shape = (len(index.shape), *index.uniform_shape)
        return flat.reshape(shape) if not index.mask else _scattered(index, flat, shape)
    ends = np.cumsum(counts).tolist()
    starts = [0, *ends[:-1]]
    parts = [flat[a:b] for a, b in zip(starts, ends, strict=True)] if ends else []
    shapes = [tuple(shape) for shape in index.shape.tolist()]
    if not index.mask:
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
    patch = index.field.patch or 1
    return [
        scatter(part, pixel_mask(mask, shape[0], shape[1], patch), shape)
        for part, shape, mask in zip(parts, shapes, index.mask, strict=True)
    ]


def _scattered(index: FieldIndex, flat: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return samples of one shape with what their masks left out as 0."""
    patch = index.field.patch or 1
    rows, columns = np.arange(shape[1]) // patch, np.arange(shape[2]) // patch
    samples = np.zeros(shape, flat.dtype)
    if samples.size:
        kept = np.stack(index.mask)[:, rows[:, np.newaxis], columns]
        # Value by value: several times as fast as pixel by pixel.
        samples.reshape(-1)[np.repeat(kept.ravel(), samples[0, 0, 0].size)] = flat
    return samples


def join_rows(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Concatenate batches of rows; an array stays one where all shapes agree."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: _join([part[name] for part in parts]) for name in parts[0]}


def _join(values: Sequence[Any]) -> Any:
    if all(isinstance(v, np.ndarray) and v.shape[1:] == values[0].shape[1:] for v in values):
        return np.concatenate(values)
    return [row for part in values for row in part]
