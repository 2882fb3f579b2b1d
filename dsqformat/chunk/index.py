"""The index segment: what must be known of each sample before its layers mean anything (spec 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.columns import ColumnReader, Values, encode_column
from dsqformat.coding.layers import layer_widths
from dsqformat.coding.rans.masking import PatchMasks
from dsqformat.errors import CorruptShardError
from dsqformat.quantize.mask import patch_grid, unpack_mask
from dsqformat.quantize.parameters import (
    gains_shifts,
    max_codes,
    stored_widths,
    zero_points,
)
from dsqformat.schema import Field, Schema
from dsqformat.wire import (
    MAX_BIT_WIDTH,
    MAX_BLOCK_SIDE,
    MAX_PATCH_BIT_WIDTH,
    MAX_QP,
    MAX_VALUES,
    ceil_div,
)


@dataclass(frozen=True)
class FieldIndex:
    """What the index says of one field of the n samples of a chunk.

    Attributes:
        field: the field.
        shape: int64, shape (n, dimensions).
        mask: bool patch grids per sample; an empty list when no sample leaves out a patch.
        value_count: int64, shape (n,), values per sample (bytes per sample for `raw`).
        bit_width: uint8, shape (n,); for `lsq`, `affine` and `patch`.
        signed: uint8, shape (n,); for `lsq` only.
        scale: float32, shape (n,); for `lsq` and `affine`.
        offset: float32, shape (n,); for `affine` only.
        qp: uint8, shape (n,); for `block` only.
    """

    field: Field
    shape: NDArray[np.int64]
    mask: Sequence[NDArray[np.bool_]]
    value_count: NDArray[np.int64]
    bit_width: NDArray[np.uint8] | None = None
    signed: NDArray[np.uint8] | None = None
    scale: NDArray[np.float32] | None = None
    offset: NDArray[np.float32] | None = None
    qp: NDArray[np.uint8] | None = None

    @property
    def setting(self) -> NDArray[np.uint8] | None:
        """Bit widths, or qps, uint8, shape (n,); None for `raw`."""
        return self.qp if self.field.quantizer == "block" else self.bit_width

    @cached_property
    def stored_width(self) -> NDArray[np.uint8]:
        """Bits of a code in the layers, uint8, shape (n,); of values for `raw` and `block`."""
        if self.bit_width is None:
            return np.full(len(self.shape), 8, "u1")
        return stored_widths(self.field.quantizer, self.bit_width, self.signed)

    @cached_property
    def layer_width(self) -> NDArray[np.uint8]:
        """Bits of a code in each layer, uint8, shape (n, layers)."""
        return layer_widths(self.stored_width, self.field.layers)

    @cached_property
    def zero_point(self) -> NDArray[np.int32]:
        """Zero point Z of each sample, int32, shape (n,) (spec 10.2)."""
        return zero_points(self.field.quantizer, self._bit_width, self.signed)

    @cached_property
    def max_code(self) -> NDArray[np.int32]:
        """Largest legal code of each sample, int32, shape (n,) (spec 10.2)."""
        return max_codes(self.field.quantizer, self._bit_width, self.signed)

    @cached_property
    def gain_shift(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Gain and shift of each sample and channel, float32, shape (n, channels) (spec 10.3)."""
        if self.scale is None:
            raise ValueError(f"quantizer {self.field.quantizer} has no gain of a sample")
        gain, shift = gains_shifts(self.field, self.scale, self.offset)
        if not np.isfinite(gain).all():
            raise CorruptShardError("a scale times std is not finite")
        return gain, shift

    @property
    def _bit_width(self) -> NDArray[np.uint8]:
        if self.bit_width is None:
            raise ValueError(f"quantizer {self.field.quantizer} has no bit width")
        return self.bit_width

    @cached_property
    def patch_masks(self) -> PatchMasks | None:
        """What is left out; None: nothing."""
        return PatchMasks(self.field.patch or 1, self.mask, self.shape) if self.mask else None

    @cached_property
    def uniform_shape(self) -> tuple[int, ...] | None:
        """The shape all samples share, or None (also for no samples of variable shape)."""
        if len(self.shape) and (self.shape == self.shape[0]).all():
            return tuple(self.shape[0].tolist())
        if not len(self.shape) and not self.field.variable_axes:
            return tuple(d for d in self.field.shape if d is not None)
        return None

    @property
    def packed_nbytes(self) -> NDArray[np.int64]:
        """Bytes of the codes of each sample at their stored width, int64, shape (n,)."""
        return (self.value_count * self.stored_width + 7) // 8


@dataclass(frozen=True)
class ChunkIndex:
    """The parsed index segment of a chunk.

    Attributes:
        sample_count: samples n.
        columns: user columns; an array for numeric types, else a list of str or bytes.
        fields: per field name.
    """

    sample_count: int
    columns: dict[str, Values]
    fields: dict[str, FieldIndex]


# Parsing ---------------------------------------------------------------------------------------


def parse_index(
    schema: Schema, data: bytes | memoryview, sample_count: int, what: str
) -> ChunkIndex:
    """Parse an index segment.

    Args:
        schema: of the shard.
        data: the verified bytes of the segment.
        sample_count: samples of the chunk, from the chunk table.
        what: where the bytes come from, for error messages.

    Raises:
        CorruptShardError: the bytes contradict spec 8, 10.2 or 11.
    """
    reader = ColumnReader(memoryview(data), sample_count, what)
    columns = {column.name: reader.read(column.name, column.type) for column in schema.columns}
    fields = {field.name: _parse_field(field, reader) for field in schema.fields}
    reader.finish()
    return ChunkIndex(sample_count, columns, fields)


def _parse_field(field: Field, reader: ColumnReader) -> FieldIndex:
    where = f"{reader.what}: field {field.name!r}"
    shape = _parse_shape(field, reader, where)
    values = _checked_product(shape, where)
    mask: Sequence[NDArray[np.bool_]] = []
    if field.patch is not None:
        octets = reader.read(f"{field.name}.mask", "bytes")
        mask, values = _parse_masks(field, shape, octets, values, where)
    if field.quantizer == "raw":
        return FieldIndex(field, shape, mask, values * field.numpy_dtype.itemsize)
    index = FieldIndex(field, shape, mask, values)
    if field.quantizer == "block":
        if ((shape[:, :2] < 1) | (shape[:, :2] > MAX_BLOCK_SIDE)).any():
            raise CorruptShardError(f"{where}: a side is not 1 to {MAX_BLOCK_SIDE}")
        return replace(index, qp=_ranged(reader, f"{field.name}.qp", 0, MAX_QP))
    if field.quantizer == "patch":
        widths = _ranged(reader, f"{field.name}.bit_width", 1, MAX_PATCH_BIT_WIDTH)
        return replace(index, bit_width=widths)
    return _parse_parameters(index, reader, where)


def _parse_parameters(index: FieldIndex, reader: ColumnReader, where: str) -> FieldIndex:
    field = index.field
    name, low = field.name, 2 if field.quantizer == "lsq" else 1
    bit_width = _ranged(reader, f"{name}.bit_width", low, MAX_BIT_WIDTH)
    signed = _ranged(reader, f"{name}.signed", 0, 1) if field.quantizer == "lsq" else None
    scale = np.asarray(reader.read(f"{name}.scale", "float32"), "f4")
    if not (np.isfinite(scale).all() and (scale >= 0).all()):
        raise CorruptShardError(f"{where}: a scale is negative or not finite")
    offset = None
    if field.quantizer == "affine":
        offset = np.asarray(reader.read(f"{name}.offset", "float32"), "f4")
        if not np.isfinite(offset).all():
            raise CorruptShardError(f"{where}: an offset is not finite")
    return FieldIndex(
        field, index.shape, index.mask, index.value_count, bit_width, signed, scale, offset
    )


def _ranged(reader: ColumnReader, name: str, low: int, high: int) -> NDArray[np.uint8]:
    values = np.asarray(reader.read(name, "int64"))
    if ((values < low) | (values > high)).any():
        raise CorruptShardError(f"{reader.what}: column {name!r}: a value is not {low} to {high}")
    return values.astype("u1")


def _parse_shape(field: Field, reader: ColumnReader, where: str) -> NDArray[np.int64]:
    shape = np.empty((reader.count, len(field.shape)), "i8")
    for axis, length in enumerate(field.shape):
        if length is None:
            shape[:, axis] = reader.read(f"{field.name}.dim{axis}", "int64")
        else:
            shape[:, axis] = length
    if ((shape < 0) | (shape > MAX_VALUES)).any():
        raise CorruptShardError(f"{where}: a dimension is not 0 to 2^28")
    return shape


def _checked_product(shape: NDArray[np.int64], where: str) -> NDArray[np.int64]:
    """Values per sample; float64 first, since eight dimensions of 2^28 leave 64 bits.

    A dimension of 0 counts as 1 (spec 15): patch grids do not become smaller by such channels.
    """
    estimate = np.prod(np.maximum(shape, 1).astype("f8"), axis=1)
    if (estimate > MAX_VALUES).any():
        raise CorruptShardError(f"{where}: a sample has more than 2^28 values")
    if estimate.sum() > MAX_VALUES:
        raise CorruptShardError(f"{where}: the samples of a chunk have more than 2^28 values")
    values: NDArray[np.int64] = np.prod(shape, axis=1, dtype="i8")
    return values


def _parse_masks(
    field: Field, shape: NDArray[np.int64], octets: Values, values: NDArray[np.int64], where: str
) -> tuple[Sequence[NDArray[np.bool_]], NDArray[np.int64]]:
    patch = field.patch or 1
    if not any(len(item) for item in octets):
        return [], values
    masks: list[NDArray[np.bool_]] = []
    counts = values.copy()
    for row, item in enumerate(octets):
        height, width = shape[row, :2].tolist()
        grid = patch_grid(height, width, patch)
        if not len(item):
            # One value seen everywhere: a grid of 2^28 patches costs no bytes of the file.
            masks.append(np.broadcast_to(np.True_, grid))
            continue
        if len(item) != ceil_div(grid[0] * grid[1], 8):
            raise CorruptShardError(f"{where}: a mask has {len(item)} bytes for {grid} patches")
        try:
            masks.append(unpack_mask(bytes(item), grid))
        except ValueError as error:
            raise CorruptShardError(f"{where}: {error}") from error
        counts[row] = _kept_pixels(masks[-1], height, width, patch) * int(shape[row, 2:].prod())
    return masks, counts


def _kept_pixels(mask: NDArray[np.bool_], height: int, width: int, patch: int) -> int:
    rows = np.minimum(patch, height - patch * np.arange(mask.shape[0]))
    columns = np.minimum(patch, width - patch * np.arange(mask.shape[1]))
    return int(rows @ mask @ columns)


# Building --------------------------------------------------------------------------------------


def encode_index(schema: Schema, index: ChunkIndex, masks: dict[str, list[bytes]]) -> bytes:
    """Return the index segment.

    Args:
        schema: of the shard.
        index: columns and field parameters of the samples.
        masks: packed patch masks of the fields that have a patch.
    """
    parts = [encode_column(index.columns[column.name], column.type) for column in schema.columns]
    for field in schema.fields:
        found = index.fields[field.name]
        parts += [encode_column(found.shape[:, axis], "int64") for axis in field.variable_axes]
        if field.patch is not None:
            parts.append(encode_column(masks[field.name], "bytes"))
        parts += _encode_parameters(found)
    return b"".join(parts)


def _encode_parameters(index: FieldIndex) -> list[bytes]:
    if index.setting is None:
        return []
    parts = [encode_column(index.setting, "int64")]
    if index.scale is None:
        return parts
    if index.signed is not None:
        parts.append(encode_column(index.signed, "int64"))
    parts.append(encode_column(index.scale, "float32", divisor=_scale_divisor(index)))
    if index.field.quantizer == "affine" and index.offset is not None:
        parts.append(encode_column(index.offset, "float32", divisor=255.0))
    return parts


def _scale_divisor(index: FieldIndex) -> float | None:
    """Scales of byte pictures are k / (255 T), T the steps of the width (spec 10.4)."""
    if index.bit_width is None:
        return None
    less = 1 if index.field.quantizer == "lsq" else 0
    steps = [(1 << (int(width) - less)) - 1 for width in np.unique(index.bit_width)]
    return float(255 * math.lcm(*steps))
