"""What a sample consists of: fields, columns and the order of segments (spec 6)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dsqformat.wire import (
    MAX_BIT_WIDTH,
    MAX_BLOCK_CHANNELS,
    MAX_BLOCK_LAYERS,
    MAX_BLOCK_SIDE,
    MAX_COLUMNS,
    MAX_DIMENSIONS,
    MAX_FIELDS,
    MAX_LAYERS,
    MAX_VALUES,
)

ColumnType = Literal["int64", "float32", "float64", "utf8", "bytes"]
Quantizer = Literal["raw", "lsq", "affine", "patch", "block"]
Setting = Literal["bit_width", "qp"]

COLUMN_TYPES: Final = ("int64", "float32", "float64", "utf8", "bytes")
NUMERIC_TYPES: Final = ("int64", "float32", "float64")
QUANTIZERS: Final = ("raw", "lsq", "affine", "patch", "block")
DTYPES: Final = (
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
)
BIN_COLUMNS: Final = ("bin_id", "bin_rank")
# Columns that the sample table has of its own (spec 13.2).
TABLE_COLUMNS: Final = ("position", "shard", "chunk", "row", "nbytes")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True)
class Domain:
    """The domain in which `lsq` quantizes (spec 10.3).

    Attributes:
        kind: "unit" (values as they are; bytes / 255), "centered" (minus 0.5) or "normalized"
            (minus mean, divided by std).
        mean: for "normalized", decimal strings, one or one per channel.
        std: likewise, positive.
    """

    kind: Literal["unit", "centered", "normalized"]
    mean: tuple[str, ...] = ()
    std: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("unit", "centered", "normalized"):
            raise ValueError(f"domain {self.kind!r}: expected unit, centered or normalized")
        if self.kind != "normalized":
            if self.mean or self.std:
                raise ValueError(f"domain {self.kind} takes neither mean nor std")
            return
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError("domain normalized: mean and std must have the same length, 1 or more")
        for text in (*self.mean, *self.std):
            if not _DECIMAL.fullmatch(text):
                raise ValueError(f"domain normalized: {text!r} is not a decimal number")
        with np.errstate(over="ignore"):
            mean, std = self.mean_f32, self.std_f32
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise ValueError("domain normalized: mean and std must be finite, std above 0")

    @classmethod
    def normalized(cls, mean: Sequence[float], std: Sequence[float]) -> Domain:
        """Return the normalized domain of these means and standard deviations."""
        return cls(
            "normalized", tuple(repr(float(m)) for m in mean), tuple(repr(float(s)) for s in std)
        )

    @property
    def mean_f32(self) -> NDArray[np.float32]:
        """Means, float32, shape (channels,)."""
        return np.array([float(text) for text in self.mean]).astype("<f4")

    @property
    def std_f32(self) -> NDArray[np.float32]:
        """Standard deviations, float32, shape (channels,)."""
        return np.array([float(text) for text in self.std]).astype("<f4")


UNIT: Final = Domain("unit")
CENTERED: Final = Domain("centered")


@dataclass(frozen=True)
class Column:
    """A scalar or string that each sample has, carried in the index segment.

    Attributes:
        name: identifier.
        type: "int64", "float32", "float64", "utf8" or "bytes".
        names: for int64, human names of the values 0, 1, ...
    """

    name: str
    type: ColumnType
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.type not in COLUMN_TYPES:
            raise ValueError(f"column {self.name!r}: type {self.type!r} is none of {COLUMN_TYPES}")
        if self.name in TABLE_COLUMNS:
            raise ValueError(f"column {self.name!r}: the sample table has a column of this name")
        if self.names is not None and self.type != "int64":
            raise ValueError(f"column {self.name!r}: names are for int64, not {self.type}")
        if self.name in BIN_COLUMNS and self.type != "int64":
            raise ValueError(f"column {self.name!r}: expected type int64, got {self.type}")

    @property
    def numeric(self) -> bool:
        """Whether the chunk table keeps minimum and maximum of this column."""
        return self.type in NUMERIC_TYPES


@dataclass(frozen=True)
class Field:
    """A named array that each sample has, carried in layer segments.

    Attributes:
        name: identifier.
        dtype: type of the source values.
        shape: dimensions; None where they vary between samples.
        quantizer: "raw", "lsq", "affine", "patch" or "block".
        layers: widths in bits of all layers but the last, which takes the rest; for `block` a 1
            for each layer after the first.
        domain: for `lsq` only.
        patch: side of the patches of the patch mask, and of those that `patch` gives groups to;
            or None.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    quantizer: Quantizer
    layers: tuple[int, ...] = ()
    domain: Domain | None = None
    patch: int | None = None

    def __post_init__(self) -> None:
        where = f"field {self.name!r}"
        _check_name(self.name)
        if self.dtype not in DTYPES:
            raise ValueError(f"{where}: dtype {self.dtype!r} is none of {DTYPES}")
        if self.quantizer not in QUANTIZERS:
            raise ValueError(f"{where}: quantizer {self.quantizer!r} is none of {QUANTIZERS}")
        self._check_shape(where)
        if len(self.layers) >= MAX_LAYERS or not all(1 <= w <= MAX_BIT_WIDTH for w in self.layers):
            raise ValueError(f"{where}: layers {self.layers}: expected at most 7 widths of 1 to 16")
        self._check_domain(where)
        if self.patch is not None and not (1 <= self.patch <= 65535 and len(self.shape) >= 2):
            raise ValueError(f"{where}: patch {self.patch}: expected 1 to 65535 and 2 dimensions")
        self._check_quantizer(where)

    def _check_quantizer(self, where: str) -> None:
        if self.quantizer == "raw" and self.layers:
            raise ValueError(f"{where}: quantizer raw has one layer, got plan {self.layers}")
        dtypes = ("uint8",) if self.quantizer == "block" else ("uint8", "float32")
        if self.quantizer != "raw" and self.dtype not in dtypes:
            raise ValueError(
                f"{where}: quantizer {self.quantizer} needs dtype {' or '.join(dtypes)}, "
                f"got {self.dtype}; convert it or use quantizer raw"
            )
        if self.quantizer in ("patch", "block") and len(self.shape) not in (2, 3):
            raise ValueError(
                f"{where}: shape {self.shape}: quantizer {self.quantizer} needs (height, width) "
                "or (height, width, channels)"
            )
        if self.quantizer == "patch" and self.patch is None:
            raise ValueError(f"{where}: quantizer patch needs the side of its patches")
        if self.quantizer == "block":
            self._check_block(where)

    def _check_block(self, where: str) -> None:
        if self.patch is not None:
            raise ValueError(f"{where}: quantizer block has no patches, got patch {self.patch}")
        if len(self.layers) >= MAX_BLOCK_LAYERS or any(width != 1 for width in self.layers):
            raise ValueError(f"{where}: layers {self.layers}: expected up to three ones for block")
        sides = [d for d in self.shape[:2] if d is not None]
        if not all(1 <= side <= MAX_BLOCK_SIDE for side in sides):
            raise ValueError(f"{where}: shape {self.shape}: sides of block are 1 to 4096")
        if len(self.shape) == 3 and not 1 <= (self.shape[2] or 0) <= MAX_BLOCK_CHANNELS:
            raise ValueError(
                f"{where}: shape {self.shape}: block needs a fixed number of channels, 1 to 64"
            )

    def _check_shape(self, where: str) -> None:
        known = [d for d in self.shape if d is not None]
        if len(self.shape) > MAX_DIMENSIONS or any(not 0 <= d <= MAX_VALUES for d in known):
            raise ValueError(f"{where}: shape {self.shape}: at most 8 dimensions of 0 to 2^28")
        product = 1
        for dimension in known:
            product *= max(dimension, 1)
        if product > MAX_VALUES:
            raise ValueError(f"{where}: shape {self.shape} has more than 2^28 values")

    def _check_domain(self, where: str) -> None:
        if (self.domain is not None) != (self.quantizer == "lsq"):
            raise ValueError(f"{where}: a domain is needed by, and only by, quantizer lsq")
        if self.domain is not None and len(self.domain.mean) > 1:
            last = self.shape[-1] if self.shape else None
            if last != len(self.domain.mean):
                raise ValueError(
                    f"{where}: {len(self.domain.mean)} means for a last dimension of {last}"
                )
            if self.patch is not None and len(self.shape) == 2:
                raise ValueError(
                    f"{where}: a mean for each column of pixels, and a patch mask; "
                    "give one mean and std for all"
                )

    @property
    def layer_count(self) -> int:
        """Number of layers, 1 to 8."""
        return len(self.layers) + 1

    @property
    def setting(self) -> Setting | None:
        """The index column that says how finely a sample was quantized; None for `raw`."""
        if self.quantizer == "raw":
            return None
        return "qp" if self.quantizer == "block" else "bit_width"

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The source type, little-endian."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def variable_axes(self) -> tuple[int, ...]:
        """Axes whose length varies between samples."""
        return tuple(axis for axis, length in enumerate(self.shape) if length is None)

    @property
    def channels(self) -> int:
        """Number of channels with parameters of their own (1, or the last dimension)."""
        return max(1, len(self.domain.mean)) if self.domain is not None else 1


@dataclass(frozen=True)
class Schema:
    """Fields, columns and segment order of all samples of a snapshot.

    Attributes:
        fields: at least one.
        columns: user columns, in index order.
        order: (field name, layer) of each layer segment of a chunk; by default layer 0 of every
            field, then layer 1 of every field that has one, and so on. A reduced copy leaves out
            the last layers.
    """

    fields: tuple[Field, ...]
    columns: tuple[Column, ...] = ()
    order: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        names = [f.name for f in self.fields] + [c.name for c in self.columns]
        if not 1 <= len(self.fields) <= MAX_FIELDS or len(self.columns) > MAX_COLUMNS:
            raise ValueError(
                f"schema: {len(self.fields)} fields and {len(self.columns)} columns; "
                f"expected 1 to {MAX_FIELDS} and at most {MAX_COLUMNS}"
            )
        if len(set(names)) != len(names):
            raise ValueError(f"schema: names must be unique, got {sorted(names)}")
        if not self.order:
            object.__setattr__(self, "order", _default_order(self.fields))
        for field in self.fields:
            layers = [layer for name, layer in self.order if name == field.name]
            if not 1 <= len(layers) <= field.layer_count or layers != list(range(len(layers))):
                raise ValueError(
                    f"schema: order: layers of {field.name!r} are {layers}, expected 0, 1, ... "
                    f"up to at most {field.layer_count - 1}"
                )
        unknown = {name for name, _ in self.order} - {field.name for field in self.fields}
        if unknown:
            raise ValueError(f"schema: order: no field {sorted(unknown)[0]!r}")

    @property
    def segment_count(self) -> int:
        """Segments of a chunk: the index, then one per (field, layer)."""
        return 1 + len(self.order)

    @property
    def layer_count(self) -> int:
        """Layers that are there of the field that has most."""
        return max(layer for _, layer in self.order) + 1

    def stored_layers(self, name: str) -> int:
        """Return how many layers of a field are there; fewer than its plan in a reduced copy."""
        return sum(1 for field, _ in self.order if field == name)

    @cached_property
    def segment_of(self) -> dict[tuple[str, int], int]:
        """Segment number of each (field name, layer); the index segment is number 0."""
        return {pair: number for number, pair in enumerate(self.order, start=1)}

    @property
    def zone_columns(self) -> tuple[Column, ...]:
        """User columns whose minimum and maximum stand in the chunk table."""
        return tuple(column for column in self.columns if column.numeric)

    def field(self, name: str) -> Field:
        """Return the field of this name, or raise ValueError naming those there are."""
        for field in self.fields:
            if field.name == name:
                return field
        raise ValueError(f"no field {name!r}; there are {[f.name for f in self.fields]}")

    def column(self, name: str) -> Column:
        """Return the column of this name, or raise ValueError naming those there are."""
        for column in self.columns:
            if column.name == name:
                return column
        raise ValueError(f"no column {name!r}; there are {[c.name for c in self.columns]}")

    def prefix_segments(self, layers: int | None = None) -> int:
        """Return how many leading segments hold the first `layers` layers of every field.

        Args:
            layers: 1 or more; None for all.
        """
        if layers is not None and layers < 1:
            raise ValueError(f"layers={layers}: expected 1 or more, or None for all")
        wanted = [
            number
            for (_, layer), number in self.segment_of.items()
            if layers is None or layer < layers
        ]
        return max(wanted) + 1


def _default_order(fields: tuple[Field, ...]) -> tuple[tuple[str, int], ...]:
    depth = max(field.layer_count for field in fields)
    return tuple(
        (field.name, layer)
        for layer in range(depth)
        for field in fields
        if layer < field.layer_count
    )


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name == "key":
        raise ValueError(f"name {name!r}: expected letters, digits and _ (at most 64), not 'key'")
