"""How a field is to be stored, and what a first sample tells about the schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk import FieldTuning
from dsqformat.chunk.inputs import DEFAULT_GROUP_COUNT, Effort, Grouping
from dsqformat.errors import SampleError
from dsqformat.schema import UNIT, Column, ColumnType, Domain, Field, Quantizer, Setting
from dsqformat.wire import (
    MAX_BIT_WIDTH,
    MAX_GROUPS,
    MAX_LAYERS,
    MAX_PATCH_BIT_WIDTH,
    MAX_QP,
)

DEFAULT_LAYERS: Final = (4, 2)
DEFAULT_BLOCK_LAYERS: Final = (1,)
DEFAULT_PATCH: Final = 5
DEFAULT_QP: Final = 100


@dataclass(frozen=True)
class FieldSpec:
    """How to store a field; what is None is taken from the samples.

    Attributes:
        quantizer: "affine", "lsq", "patch", "block" or "raw".
        bit_width: for samples that do not say their own; not for block.
        layers: widths of all layers but the last, which takes the rest; for block a 1 for each
            layer after the first. None: 4, 2 and the rest; for block two layers.
        domain: for lsq; None: unit.
        shape: dimensions, None where they vary; None: as the samples are.
        dtype: values are converted to it without loss, or refused; None: as the first sample.
        patch: side of the patches of the patch mask, or None; for quantizer patch also of those
            that share parameters, None: 5.
        qp: for samples that do not say their own, 0 (finest) to 175: 16 more double the step;
            for block only.
        group_count: groups of patches that share parameters, 1 to 65536, for quantizer patch.
        grouping: "distortion", "min_max" or "compat" (as the paper has it), likewise.
        effort: of the encoder of quantizer block: "high" may take three times as long.
    """

    quantizer: Quantizer = "affine"
    bit_width: int = 8
    layers: Sequence[int] | None = None
    domain: Domain | None = None
    shape: Sequence[int | None] | None = None
    dtype: str | None = None
    patch: int | None = None
    qp: int = DEFAULT_QP
    group_count: int = DEFAULT_GROUP_COUNT
    grouping: Grouping = "distortion"
    effort: Effort = "default"

    def __post_init__(self) -> None:
        layers = self.layers or ()
        if len(layers) >= MAX_LAYERS or not all(1 <= w <= MAX_BIT_WIDTH for w in layers):
            raise ValueError(f"layers {tuple(layers)}: expected at most 7 widths of 1 to 16")
        if self.quantizer == "lsq" and self.bit_width == 1:
            raise ValueError(
                "bit_width 1 with lsq: its one step would be divided by 2^(1-1) - 1 = 0; "
                "use 2 bits or more, or quantizer affine"
            )
        if not 1 <= self.group_count <= MAX_GROUPS:
            raise ValueError(f"group_count {self.group_count}: expected 1 to {MAX_GROUPS}")
        if self.quantizer == "block" and not 0 <= self.qp <= MAX_QP:
            raise ValueError(f"qp {self.qp}: expected 0 to {MAX_QP}")
        low, high = self.bit_widths
        if self.setting == "bit_width" and not low <= self.bit_width <= high:
            raise ValueError(f"bit_width {self.bit_width}: expected {low} to {high}")

    @property
    def tuning(self) -> FieldTuning:
        """What is not stored: how the encoder works."""
        return FieldTuning(self.group_count, self.grouping, self.effort)

    @property
    def setting(self) -> Setting | None:
        """What says how finely a sample is quantized: "bit_width", "qp", or None for raw."""
        if self.quantizer == "raw":
            return None
        return "qp" if self.quantizer == "block" else "bit_width"

    @property
    def bit_widths(self) -> tuple[int, int]:
        """The least and the largest bit width."""
        if self.quantizer == "patch":
            return 1, MAX_PATCH_BIT_WIDTH
        return (2 if self.quantizer == "lsq" else 1), MAX_BIT_WIDTH

    @property
    def patch_side(self) -> int | None:
        """Side of the patches, or None where there are none."""
        return DEFAULT_PATCH if self.quantizer == "patch" and not self.patch else self.patch

    def field(self, name: str, dtype: str, shape: tuple[int | None, ...]) -> Field:
        """Return the field of the schema for samples of this dtype and shape."""
        layers = self.layers
        if layers is None:
            layers = DEFAULT_BLOCK_LAYERS if self.quantizer == "block" else DEFAULT_LAYERS
        if self.quantizer == "raw":
            layers = ()
        return Field(
            name=name,
            dtype=self.dtype or dtype,
            shape=tuple(self.shape) if self.shape is not None else shape,
            quantizer=self.quantizer,
            layers=tuple(layers),
            domain=(self.domain or UNIT) if self.quantizer == "lsq" else None,
            patch=self.patch_side,
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
