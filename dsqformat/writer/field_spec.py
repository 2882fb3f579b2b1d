"""How a field is to be stored, and what a first sample tells about the schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SampleError
from dsqformat.schema import UNIT, Column, ColumnType, Domain, Field, Quantizer
from dsqformat.wire import MAX_BIT_WIDTH, MAX_LAYERS

DEFAULT_LAYERS: Final = (4, 2)


@dataclass(frozen=True)
class FieldSpec:
    """How to store a field; what is None is taken from the samples.

    Attributes:
        quantizer: "affine", "lsq" or "raw".
        bit_width: for samples that do not say their own.
        layers: widths of all layers but the last, which takes the rest.
        domain: for lsq; None: unit.
        shape: dimensions, None where they vary; None: as the samples are.
        dtype: values are converted to it without loss, or refused; None: as the first sample.
        patch: side of the patches of the patch mask, or None.
    """

    quantizer: Quantizer = "affine"
    bit_width: int = 8
    layers: Sequence[int] = DEFAULT_LAYERS
    domain: Domain | None = None
    shape: Sequence[int | None] | None = None
    dtype: str | None = None
    patch: int | None = None

    def __post_init__(self) -> None:
        if len(self.layers) >= MAX_LAYERS or not all(1 <= w <= MAX_BIT_WIDTH for w in self.layers):
            raise ValueError(f"layers {tuple(self.layers)}: expected at most 7 widths of 1 to 16")
        least = 2 if self.quantizer == "lsq" else 1
        if self.quantizer == "lsq" and self.bit_width == 1:
            raise ValueError(
                "bit_width 1 with lsq: its one step would be divided by 2^(1-1) - 1 = 0; "
                "use 2 bits or more, or quantizer affine"
            )
        if self.quantizer != "raw" and not least <= self.bit_width <= MAX_BIT_WIDTH:
            raise ValueError(f"bit_width {self.bit_width}: expected {least} to {MAX_BIT_WIDTH}")

    def field(self, name: str, dtype: str, shape: tuple[int | None, ...]) -> Field:
        """Return the field of the schema for samples of this dtype and shape."""
        raw = self.quantizer == "raw"
        return Field(
            name=name,
            dtype=self.dtype or dtype,
            shape=tuple(self.shape) if self.shape is not None else shape,
            quantizer=self.quantizer,
            layers=() if raw else tuple(self.layers),
            domain=(self.domain or UNIT) if self.quantizer == "lsq" else None,
            patch=self.patch,
        )


def is_array(value: Any) -> bool:
    """Tell whether a value of a sample is a field (an array) rather than a column."""
    if isinstance(value, np.generic | str | bytes | bool | int | float):
        return False
    return hasattr(value, "__array__") or hasattr(value, "__array_interface__")


def infer_column(name: str, value: Any, names: Sequence[str] | None) -> Column:
    """Return the column for a first value.

    Raises:
        SampleError: no column type holds such a value.
    """
    if isinstance(value, bool | int | np.integer | np.bool_):
        return Column(name, "int64", tuple(names) if names is not None else None)
    if isinstance(value, np.float32 | np.float16):
        return Column(name, "float32")
    if isinstance(value, float | np.floating):
        return Column(name, "float64")
    if isinstance(value, str):
        return Column(name, "utf8")
    if isinstance(value, bytes):
        return Column(name, "bytes")
    raise SampleError(
        f"{name!r}: {type(value).__name__} is neither an array nor int, float, str or bytes"
    )


def declared_columns(
    columns: Mapping[str, ColumnType] | Sequence[Column] | None,
    names: Mapping[str, Sequence[str]],
) -> tuple[Column, ...] | None:
    """Return the columns a user declared, with their value names; None if none were declared."""
    if columns is None:
        return None
    if isinstance(columns, Mapping):
        columns = [Column(name, kind) for name, kind in columns.items()]
    return tuple(
        replace(column, names=tuple(names[column.name])) if column.name in names else column
        for column in columns
    )


def checked_column_value(column: Column, value: Any) -> int | float | str | bytes:
    """Return a value as its column stores it.

    Raises:
        ValueError: the value does not fit the type of the column.
    """
    kind = column.type
    if kind == "int64" and isinstance(value, bool | int | np.integer | np.bool_):
        if -(1 << 63) <= int(value) < 1 << 63:
            return int(value)
        raise ValueError(f"column {column.name!r}: {value} is beyond 64 bits")
    if kind in ("float32", "float64") and isinstance(value, int | float | np.number):
        return float(value)
    if kind == "utf8" and isinstance(value, str):
        value.encode("utf-8")
        return str(value)
    if kind == "bytes" and isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise ValueError(
        f"column {column.name!r}: {type(value).__name__} {value!r:.40} is no {column.type}"
    )


def checked_array(spec: FieldSpec, name: str, dtype: str, value: Any) -> NDArray[Any]:
    """Return an array as its field stores it.

    Args:
        spec: of the field.
        name: of the field.
        dtype: of the field, "" for the first sample.
        value: anything NumPy can turn into an array.

    Raises:
        ValueError: of another type than the field, or not finite where that is needed.
    """
    array = np.asarray(value)
    wanted = dtype or spec.dtype or array.dtype.name
    if array.dtype.name != wanted:
        if spec.dtype is None:
            raise ValueError(
                f"field {name!r}: dtype {array.dtype}, expected {wanted} as before; convert it "
                f"or declare FieldSpec(dtype=...)"
            )
        converted = array.astype(wanted)
        if not np.array_equal(converted.astype(array.dtype), array, equal_nan=True) and not (
            array.dtype.kind == "f" and wanted in ("float32", "float16")
        ):
            raise ValueError(f"field {name!r}: {array.dtype} does not convert to {wanted} unharmed")
        array = converted
    if spec.quantizer != "raw" and array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(
            f"field {name!r}: holds NaN or infinity, which {spec.quantizer} cannot store; "
            "mend the sample, skip it, or use quantizer raw"
        )
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
