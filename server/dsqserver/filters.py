"""Filters of samples by equality: from query parameters to conditions (http-api.md 6.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dsqformat.schema import Column, Schema
from dsqformat.wire import MAX_BIT_WIDTH
from dsqserver.problems import ProblemError

FILTER_NAMES: Final = ("label", "bin_id", "bit_width")
MAX_FILTER_VALUES: Final = 1000
_INTEGER = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True)
class Condition:
    """Holds for a row if one of `columns` has one of `values`.

    Attributes:
        name: the query parameter it was made from.
        columns: names of columns of the sample table.
        values: ascending, each once.
    """

    name: str
    columns: tuple[str, ...]
    values: tuple[int, ...] | tuple[str, ...]

    def mask(self, batch: pa.RecordBatch) -> NDArray[np.bool_]:
        """Return for each row of `batch` whether the condition holds; null never matches."""
        mask = np.zeros(batch.num_rows, np.bool_)
        for name in self.columns:
            column = batch.column(name)
            values = pa.array(self.values, type=column.type)
            mask |= pc.is_in(column, value_set=values).to_numpy(zero_copy_only=False)
        return mask

    def may_hold(self, low: int, high: int) -> bool:
        """Tell whether a value within [low, high] may be among the values."""
        return any(isinstance(value, int) and low <= value <= high for value in self.values)


Conditions = tuple[Condition, ...]


def make_conditions(schema: Schema, parameters: Mapping[str, Sequence[str]]) -> Conditions:
    """Make conditions of the filters in a query; all of them must hold.

    Args:
        schema: of the snapshot.
        parameters: values of `label`, `bin_id` and `bit_width` as they were sent, each a list of
            numbers and names with commas between; a parameter may be repeated.

    Raises:
        ProblemError: invalid_parameter: a value that is no number or name of the column, or a
            filter on what this dataset does not have.
    """
    conditions: list[Condition] = []
    for name in FILTER_NAMES:
        if not parameters.get(name):
            continue
        if name == "bit_width":
            conditions.append(_bit_width_condition(schema, parameters[name]))
        else:
            conditions.append(_column_condition(schema, name, parameters[name]))
    return tuple(conditions)


def available_filters(schema: Schema) -> list[str]:
    """Return the names of the filters that a dataset of this schema answers."""
    kinds = {column.name: column.type for column in schema.columns}
    names = [name for name in ("label", "bin_id") if kinds.get(name) in ("int64", "utf8")]
    return [*names, "bit_width"] if _bit_width_columns(schema) else names


def _bit_width_columns(schema: Schema) -> tuple[str, ...]:
    return tuple(
        f"{field.name}.bit_width" for field in schema.fields if field.setting == "bit_width"
    )


def _bit_width_condition(schema: Schema, texts: Sequence[str]) -> Condition:
    columns = _bit_width_columns(schema)
    if not columns:
        raise _unavailable("bit_width", "no field of this dataset has bit widths")
    values = _integers("bit_width", texts, {})
    for value in values:
        if not 0 <= value <= MAX_BIT_WIDTH:
            raise _invalid("bit_width", str(value), f"0 to {MAX_BIT_WIDTH}; 0 is dropped")
    return Condition("bit_width", columns, values)


def _column_condition(schema: Schema, name: str, texts: Sequence[str]) -> Condition:
    column = next((column for column in schema.columns if column.name == name), None)
    if column is None:
        raise _unavailable(name, "this dataset has no such column")
    if column.type == "utf8":
        _check_count(name, texts)
        return Condition(name, (name,), tuple(sorted(set(texts))))
    if column.type == "int64":
        return Condition(name, (name,), _integers(name, texts, _value_of_name(column)))
    raise _unavailable(name, f"the column is of type {column.type}, expected int64 or utf8")


def _value_of_name(column: Column) -> dict[str, int]:
    """Return the human names of an int64 column; the first of equal names counts."""
    names = column.names or ()
    return {name: value for value, name in reversed(list(enumerate(names)))}


def _integers(name: str, texts: Sequence[str], value_of_name: Mapping[str, int]) -> tuple[int, ...]:
    elements = [text for joined in texts for text in joined.split(",")]
    _check_count(name, elements)
    values: set[int] = set()
    for element in elements:
        text = element.strip()
        if _INTEGER.fullmatch(text):
            values.add(int(text))
        elif text in value_of_name:
            values.add(value_of_name[text])
        else:
            expected = "an integer or the name of one" if value_of_name else "an integer"
            raise _invalid(name, text, expected)
    return tuple(sorted(values))


def _check_count(name: str, texts: Sequence[str]) -> None:
    if len(texts) > MAX_FILTER_VALUES:
        raise _invalid(name, f"{len(texts)} values", f"at most {MAX_FILTER_VALUES}")


def _invalid(name: str, got: str, expected: str) -> ProblemError:
    return ProblemError("invalid_parameter", f"{name}: got {got[:100]!r}, expected {expected}")


def _unavailable(name: str, reason: str) -> ProblemError:
    return ProblemError("invalid_parameter", f"{name}: cannot be filtered on: {reason}")
