"""From arrays to the segments of a chunk (spec 8 to 11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk.index import ChunkIndex, FieldIndex, encode_index
from dsqformat.coding.columns import KEEP_RATIO, Values
from dsqformat.coding.layers import layer_widths, split_codes
from dsqformat.coding.packing import pack_values
from dsqformat.coding.rans import PixelModel, encode_layer, fit, samples_per_stream
from dsqformat.coding.zstd import compress_frame
from dsqformat.errors import SampleError
from dsqformat.quantize import affine, lsq
from dsqformat.quantize.mask import gather, pack_mask, patch_grid, pixel_mask
from dsqformat.quantize.parameters import QuantizedBatch
from dsqformat.schema import UNIT, Column, Field, Schema
from dsqformat.wire import LAYER_PACKED, LAYER_RANS, LAYER_ZSTD, ceil_div

Coding = Literal["auto", "packed", "zstd", "rans"]

DEFAULT_ZSTD_LEVEL: Final = 12
# zstd finds little in a few kilobytes, so a stream holds at least this much.
STREAM_NBYTES: Final = 64 << 10
PROBE_ZSTD_LEVEL: Final = 1
PROBE_RATIO: Final = 1.1


@dataclass(frozen=True)
class FieldInput:
    """Values of one field of the n samples of a chunk.

    Attributes:
        values: array (n, *shape), or a list of n arrays where shapes differ.
        bit_width: uint8, shape (n,), as asked for; None for `raw`.
        masks: n boolean patch grids (True: kept), or None.
    """

    values: NDArray[Any] | list[NDArray[Any]]
    bit_width: NDArray[np.uint8] | None = None
    masks: Sequence[NDArray[np.bool_]] | None = None


@dataclass(frozen=True)
class ChunkInput:
    """The samples of a chunk: fields and columns by name."""

    sample_count: int
    fields: Mapping[str, FieldInput]
    columns: Mapping[str, Values]


@dataclass(frozen=True)
class EncodedChunk:
    """The bytes of a chunk and what the chunk table keeps of it.

    Attributes:
        sample_count: samples n.
        segments: index segment, then layer segments in the order of the schema.
        zone: uint64 bit patterns, shape (zone columns, 2).
        bit_width: per quantized field, uint8, shape (n,), as stored.
        packed_nbytes: int64, shape (n,), bytes of all codes of each sample.
    """

    sample_count: int
    segments: list[bytes]
    zone: NDArray[np.uint64]
    bit_width: dict[str, NDArray[np.uint8]]
    packed_nbytes: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Bytes of all segments."""
        return sum(map(len, self.segments))


def encode_chunk(
    schema: Schema,
    samples: ChunkInput,
    *,
    coding: Coding = "auto",
    zstd_level: int = DEFAULT_ZSTD_LEVEL,
    models: Mapping[str, PixelModel] | None = None,
) -> EncodedChunk:
    """Quantize, split and code the samples of one chunk.

    Args:
        schema: of the shard.
        samples: what to encode, 1 to 4096 samples.
        coding: "auto" keeps the smallest, a slower one only where it saves 2 %; another one is
            used wherever it can be.
        zstd_level: 1 to 22.
        models: entropy-coding models by field name; without one a field has no "rans".

    Raises:
        SampleError: a value is not finite, or of the wrong type or shape.
    """
    indices: dict[str, FieldIndex] = {}
    masks: dict[str, list[bytes]] = {}
    layers: dict[str, list[bytes]] = {}
    for field in schema.fields:
        source = samples.fields[field.name]
        index, codes = _quantize_field(field, source)
        indices[field.name] = index
        if field.patch is not None:
            masks[field.name] = _packed_masks(index)
        model = (models or {}).get(field.name)
        layers[field.name] = _encode_layers(index, codes, coding, zstd_level, model)
    chunk_index = ChunkIndex(samples.sample_count, dict(samples.columns), indices)
    segments = [encode_index(schema, chunk_index, masks)]
    segments += [layers[name][layer] for name, layer in schema.order]
    return EncodedChunk(
        sample_count=samples.sample_count,
        segments=segments,
        zone=encode_zones(schema.zone_columns, samples.columns),
        bit_width={n: i.bit_width for n, i in indices.items() if i.bit_width is not None},
        packed_nbytes=np.sum([i.packed_nbytes for i in indices.values()], axis=0, dtype="i8"),
    )


def fit_models(schema: Schema, samples: ChunkInput, *, complete: bool) -> dict[str, PixelModel]:
    """Fit entropy-coding models to some samples.

    Args:
        schema: of the shard.
        samples: any number of them; beyond 3 million values of a field they are not looked at.
        complete: whether the models will code nothing else.

    Returns:
        Models by name of the fields that can have one.
    """
    models = {}
    for field in schema.fields:
        source = samples.fields[field.name]
        if field.quantizer == "raw" or source.masks is not None:
            continue
        index, codes = _quantize_field(field, source)
        try:
            widths = layer_widths(index.stored_width, field.layers)
            models[field.name] = fit(codes, index.shape, widths, complete=complete)
        except ValueError:
            # Shapes that cannot be laid out, or nothing to code: other codings serve.
            continue
    return models


def encode_zones(columns: Sequence[Column], values: Mapping[str, Any]) -> NDArray[np.uint64]:
    """Return minimum and maximum of numeric columns as bit patterns, shape (columns, 2)."""
    zone = np.zeros((len(columns), 2), "<u8")
    for number, column in enumerate(columns):
        if column.type == "int64":
            array = np.asarray(values[column.name], "i8")
            zone[number] = np.array([array.min(), array.max()], "<i8").view("<u8")
        else:
            real = np.asarray(values[column.name], "f8")
            real = real[~np.isnan(real)]
            ends = [real.min(), real.max()] if len(real) else [np.inf, -np.inf]
            zone[number] = np.array(ends, "<f8").view("<u8")
    return zone


# Quantizing ------------------------------------------------------------------------------------


def _quantize_field(field: Field, source: FieldInput) -> tuple[FieldIndex, NDArray[Any]]:
    """Return the index of a field and its codes, all samples after one another."""
    count = len(source.values)
    shape = np.empty((count, len(field.shape)), "i8")
    if isinstance(source.values, np.ndarray):
        shape[:] = source.values.shape[1:]
    else:
        shape[:] = [array.shape for array in source.values]
    masks = [] if source.masks is None else list(source.masks)
    if field.quantizer == "raw":
        return _raw_field(field, source, shape, masks)
    if source.bit_width is None:
        raise ValueError(f"field {field.name!r}: quantizer {field.quantizer} needs bit widths")
    if isinstance(source.values, np.ndarray) and not masks:
        batch = _quantize(field, source.values, source.bit_width)
        codes = batch.codes.ravel()
        counts = np.full(count, batch.codes.shape[1], "i8")
    else:
        batches = [
            _quantize(field, array[np.newaxis], source.bit_width[row : row + 1], row)
            for row, array in enumerate(_kept_values(field, source, masks))
        ]
        codes = np.concatenate([b.codes.ravel() for b in batches])
        batch = _joined(batches)
        counts = np.array([b.codes.size for b in batches], "i8")
    signed = batch.signed if field.quantizer == "lsq" else None
    index = FieldIndex(
        field, shape, masks, counts, batch.bit_width, signed, batch.scale, batch.offset
    )
    return index, codes


def _raw_field(
    field: Field,
    source: FieldInput,
    shape: NDArray[np.int64],
    masks: Sequence[NDArray[np.bool_]],
) -> tuple[FieldIndex, NDArray[np.uint8]]:
    dtype = field.numpy_dtype
    octets = [
        np.ascontiguousarray(array, dtype).tobytes() for array in _kept_values(field, source, masks)
    ]
    counts = np.array([len(item) for item in octets], "i8")
    return FieldIndex(field, shape, masks, counts), np.frombuffer(b"".join(octets), "u1")


def _kept_values(
    field: Field, source: FieldInput, masks: Sequence[NDArray[np.bool_]]
) -> Sequence[NDArray[Any]] | NDArray[Any]:
    if not masks:
        return source.values
    patch = field.patch or 1
    return [
        gather(array, pixel_mask(mask, array.shape[0], array.shape[1], patch))
        for array, mask in zip(source.values, masks, strict=True)
    ]


def _quantize(
    field: Field, values: NDArray[Any], bit_width: NDArray[np.uint8], row: int = 0
) -> QuantizedBatch:
    if values.dtype != field.numpy_dtype:
        raise SampleError(
            f"field {field.name!r}: sample {row}: dtype {values.dtype}, expected {field.dtype}"
        )
    try:
        if field.quantizer == "lsq":
            return lsq.quantize(values, bit_width, field.domain or UNIT)
        return affine.quantize(values, bit_width)
    except SampleError as error:
        raise error.located(f"field {field.name!r}") from error


def _joined(batches: Sequence[QuantizedBatch]) -> QuantizedBatch:
    return QuantizedBatch(
        codes=np.empty((len(batches), 0), "<u2"),
        bit_width=np.concatenate([b.bit_width for b in batches]),
        scale=np.concatenate([b.scale for b in batches]),
        offset=np.concatenate([b.offset for b in batches]),
        signed=np.concatenate([b.signed for b in batches]),
    )


def _packed_masks(index: FieldIndex) -> list[bytes]:
    if not index.mask:
        return [b""] * len(index.shape)
    patch = index.field.patch or 1
    for row, mask in enumerate(index.mask):
        height, width = index.shape[row, :2].tolist()
        if mask.shape != patch_grid(height, width, patch):
            raise SampleError(
                f"field {index.field.name!r}: sample {row}: mask of {mask.shape} patches, "
                f"expected {patch_grid(height, width, patch)}"
            )
    return [b"" if mask.all() else pack_mask(mask) for mask in index.mask]


# Coding ----------------------------------------------------------------------------------------


def _encode_layers(
    index: FieldIndex, codes: NDArray[Any], coding: Coding, level: int, model: PixelModel | None
) -> list[bytes]:
    if index.field.quantizer == "raw":
        width = np.full(len(index.shape), 8, "u1")
        return [_encode_layer(codes, index.value_count, width, coding, level)]
    widths = layer_widths(index.stored_width, index.field.layers)
    layers = split_codes(codes, index.value_count, widths)
    segments = []
    for layer, values in enumerate(layers):
        width = widths[:, layer]
        modelled = b""
        if model is not None and not index.mask and coding in ("auto", "rans"):
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
        data = encode_layer(model, codes, index.shape, widths, layer, streams)
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
