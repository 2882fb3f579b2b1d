"""Schemas and canonical JSON: one form for each value, everything else refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat import Column, CorruptShardError, Domain, Field, Schema, UnsupportedFeatureError
from dsqformat.canonical import canonical_json, parse_canonical_json
from dsqformat.schema_json import schema_from_json, schema_to_json
from strategies import field_specs

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


@given(VALUES)
def test_canonical_json_round_trip(value):
    data = canonical_json(value)
    assert parse_canonical_json(data, limit=1 << 20, what="x") == value
    assert json.loads(data) == value


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b"1.0",
        b"1e3",
        b"NaN",
        b"9007199254740992",
        b'"\\u0041"',
        b'"\\/"',
        b'"\\u001F"',
        b'"\xff"',
        b'"\\ud800"',
        b"[" * 40 + b"]" * 40,
        b"[" * 100_000,
        b"",
        b"1 ",
        b"\xef\xbb\xbf1",
    ],
)
def test_anything_not_canonical_is_refused(text):
    with pytest.raises(CorruptShardError) as caught:
        parse_canonical_json(text, limit=1 << 20, what="x")
    assert len(str(caught.value)) < 300


def test_floats_are_not_written():
    with pytest.raises(ValueError, match="decimal string"):
        canonical_json({"a": 0.5})


@given(st.lists(field_specs(), min_size=1, max_size=4))
def test_schema_round_trip(drawn):
    fields = tuple(
        spec.field(f"f{number}", dtype, (None, 4, 3)) for number, (spec, dtype) in enumerate(drawn)
    )
    columns = (Column("label", "int64", ("a", "b")), Column("t", "utf8"))
    schema = Schema(fields, columns)
    data = canonical_json(schema_to_json(schema))
    assert schema_from_json(parse_canonical_json(data, limit=1 << 20, what="x")) == schema
    assert schema.prefix_segments() == schema.segment_count


def test_the_default_order_puts_coarse_layers_first():
    a = Field("a", "uint8", (4,), "affine", (4, 2))
    b = Field("b", "uint8", (4,), "raw")
    schema = Schema((a, b))
    assert schema.order == (("a", 0), ("b", 0), ("a", 1), ("a", 2))
    assert [schema.prefix_segments(layers) for layers in (1, 2, 3, None)] == [3, 4, 5, 5]
    reduced = Schema((a, b), order=(("b", 0), ("a", 0)))
    assert reduced.stored_layers("a") == 1
    assert reduced.layer_count == 1


def schema_json(**changes):
    field = {"dtype": "uint8", "layers": [4], "name": "x", "quantizer": "affine", "shape": [4, 4]}
    field |= changes.pop("field", {})
    order = changes.pop("order", [["x", 0], ["x", 1]])
    return {"columns": [], "fields": [field], "order": order} | changes


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (schema_json(field={"quantizer": "vector"}), UnsupportedFeatureError),
        (schema_json(field={"dtype": "complex64"}), UnsupportedFeatureError),
        (schema_json(field={"colour": 1}), UnsupportedFeatureError),
        (schema_json(extra=1), UnsupportedFeatureError),
        (schema_json(columns=[{"name": "a", "type": "uint256"}]), UnsupportedFeatureError),
        (
            schema_json(field={"domain": {"kind": "log"}, "quantizer": "lsq"}),
            UnsupportedFeatureError,
        ),
        (schema_json(field={"domain": {"kind": "unit"}}), CorruptShardError),
        (schema_json(field={"quantizer": "lsq"}), CorruptShardError),
        (schema_json(field={"dtype": "int16"}), CorruptShardError),
        (schema_json(field={"shape": [-1]}), CorruptShardError),
        (schema_json(field={"shape": [1 << 29]}), CorruptShardError),
        (schema_json(field={"shape": [1 << 20, 1 << 20]}), CorruptShardError),
        (schema_json(field={"shape": [True]}), CorruptShardError),
        (schema_json(field={"shape": 4}), CorruptShardError),
        (schema_json(field={"layers": [0]}), CorruptShardError),
        (schema_json(field={"layers": [1] * 8}), CorruptShardError),
        (schema_json(field={"name": "../x"}), CorruptShardError),
        (schema_json(field={"patch": 0}), CorruptShardError),
        (schema_json(order=[]), CorruptShardError),
        (schema_json(order=[["x", 1]]), CorruptShardError),
        (schema_json(order=[["x", 1], ["x", 0]]), CorruptShardError),
        (schema_json(order=[["x", 0], ["x", 0]]), CorruptShardError),
        (schema_json(order=[["x", 0], ["y", 0]]), CorruptShardError),
        (schema_json(columns=[{"name": "x", "type": "utf8"}]), CorruptShardError),
        (schema_json(columns=[{"name": "bin_id", "type": "utf8"}]), CorruptShardError),
        (schema_json(columns=[{"name": "row", "type": "int64"}]), CorruptShardError),
        (schema_json(fields=[]), CorruptShardError),
        ([], CorruptShardError),
    ],
)
def test_what_a_schema_must_not_say(value, kind):
    with pytest.raises(kind) as caught:
        schema_from_json(value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mean", "std"),
    [([0.5], [0]), ([0.5], [-1]), ([0.5], []), ([float("inf")], [1]), ([0.5, 1], [1])],
)
def test_normalized_domains_are_sound(mean, std):
    with pytest.raises(ValueError, match="domain normalized"):
        Domain.normalized(mean, std)
