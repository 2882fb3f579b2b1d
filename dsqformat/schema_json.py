"""Schemas as canonical JSON, and back with every rule of the format checked (spec 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dsqformat.errors import CorruptShardError, UnsupportedFeatureError
from dsqformat.schema import COLUMN_TYPES, DTYPES, QUANTIZERS, Column, Domain, Field, Schema


def schema_to_json(schema: Schema) -> dict[str, Any]:
    """Return the JSON object of spec 6."""
    return {
        "columns": [_column_json(column) for column in schema.columns],
        "fields": [_field_json(field) for field in schema.fields],
        "order": [[name, layer] for name, layer in schema.order],
    }


def schema_from_json(value: Any) -> Schema:
    """Parse and validate the JSON object of spec 6.

    Raises:
        CorruptShardError: a member is missing, of the wrong type, or out of range.
        UnsupportedFeatureError: an unknown member, type, quantizer or domain.
    """
    _members(value, "schema", required=("columns", "fields", "order"))
    try:
        return Schema(
            fields=tuple(_parse_field(item) for item in _array(value, "fields")),
            columns=tuple(_parse_column(item) for item in _array(value, "columns")),
            order=_parse_order(_array(value, "order")),
        )
    except ValueError as error:
        raise CorruptShardError(f"schema: {error}") from error


def _column_json(column: Column) -> dict[str, Any]:
    value: dict[str, Any] = {"name": column.name, "type": column.type}
    if column.names is not None:
        value["names"] = list(column.names)
    return value


def _field_json(field: Field) -> dict[str, Any]:
    value: dict[str, Any] = {
        "dtype": field.dtype,
        "layers": list(field.layers),
        "name": field.name,
        "quantizer": field.quantizer,
        "shape": list(field.shape),
    }
    if field.domain is not None:
        value["domain"] = {"kind": field.domain.kind}
        if field.domain.kind == "normalized":
            value["domain"] |= {"mean": list(field.domain.mean), "std": list(field.domain.std)}
    if field.patch is not None:
        value["patch"] = field.patch
    return value


def _members(
    value: Any, where: str, *, required: Sequence[str], optional: Sequence[str] = ()
) -> None:
    if not isinstance(value, Mapping):
        raise CorruptShardError(f"{where}: expected an object, got {type(value).__name__}")
    missing = [name for name in required if name not in value]
    if missing:
        raise CorruptShardError(f"{where}: member {missing[0]!r} is missing")
    unknown = sorted(set(value) - set(required) - set(optional))
    if unknown:
        raise UnsupportedFeatureError(f"{where}: unknown member {unknown[0]!r}; upgrade dsqformat")


def _array(value: Mapping[str, Any], name: str) -> list[Any]:
    member = value[name]
    if not isinstance(member, list):
        raise CorruptShardError(f"{name}: expected an array, got {type(member).__name__}")
    return member


def _strings(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise CorruptShardError(f"{where}: expected an array of strings")
    return tuple(value)


def _integer(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise CorruptShardError(f"{where}: expected an integer, got {value!r:.40}")
    return value


def _known(value: Any, known: Sequence[str], where: str) -> Any:
    if not isinstance(value, str):
        raise CorruptShardError(f"{where}: expected a string, got {value!r:.40}")
    if value not in known:
        raise UnsupportedFeatureError(f"{where}: {value[:40]!r} is none of {tuple(known)}")
    return value


def _name(value: Mapping[str, Any]) -> str:
    if not isinstance(value["name"], str):
        raise CorruptShardError(f"name: expected a string, got {value['name']!r:.40}")
    return value["name"]


def _parse_column(value: Any) -> Column:
    _members(value, "column", required=("name", "type"), optional=("names",))
    name = _name(value)
    names = _strings(value["names"], f"column {name!r}: names") if "names" in value else None
    return Column(name, _known(value["type"], COLUMN_TYPES, f"column {name!r}: type"), names)


def _parse_field(value: Any) -> Field:
    _members(
        value,
        "field",
        required=("dtype", "layers", "name", "quantizer", "shape"),
        optional=("domain", "patch"),
    )
    name = _name(value)
    where = f"field {name[:64]!r}"
    shape = tuple(
        None if item is None else _integer(item, f"{where}: shape")
        for item in _array(value, "shape")
    )
    return Field(
        name=name,
        dtype=_known(value["dtype"], DTYPES, f"{where}: dtype"),
        shape=shape,
        quantizer=_known(value["quantizer"], QUANTIZERS, f"{where}: quantizer"),
        layers=tuple(_integer(item, f"{where}: layers") for item in _array(value, "layers")),
        domain=_parse_domain(value["domain"], where) if "domain" in value else None,
        patch=_integer(value["patch"], f"{where}: patch") if "patch" in value else None,
    )


def _parse_domain(value: Any, where: str) -> Domain:
    _members(value, f"{where}: domain", required=("kind",), optional=("mean", "std"))
    kind = _known(value["kind"], ("unit", "centered", "normalized"), f"{where}: domain")
    mean = _strings(value.get("mean", []), f"{where}: mean")
    std = _strings(value.get("std", []), f"{where}: std")
    if kind != "normalized" and ("mean" in value or "std" in value):
        raise CorruptShardError(f"{where}: domain {kind} takes neither mean nor std")
    return Domain(kind, mean, std)


def _parse_order(value: list[Any]) -> tuple[tuple[str, int], ...]:
    pairs = []
    for item in value:
        if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], str):
            raise CorruptShardError("order: expected pairs of field name and layer")
        pairs.append((item[0], _integer(item[1], "order")))
    if not pairs:
        raise CorruptShardError("order: expected at least one pair")
    return tuple(pairs)
