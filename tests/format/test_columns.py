"""Index columns: every encoding round-trips, and damage is refused."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dsqformat import CorruptShardError
from dsqformat.coding.columns import ColumnReader, encode_column, pack_integers, unpack_integers


def decode(data: bytes, count: int, kind: str):
    reader = ColumnReader(memoryview(data), count, "test")
    values = reader.read("c", kind)
    reader.finish()
    return values


INTEGERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.integers(0, 9), st.just(5), st.integers(10**6, 10**6 + 3)
)


@given(st.lists(INTEGERS, min_size=1, max_size=300))
def test_int64_round_trip(values):
    found = decode(encode_column(values, "int64"), len(values), "int64")
    assert found.tolist() == values


@given(
    st.sampled_from(["float32", "float64"]).flatmap(
        lambda kind: st.tuples(st.just(kind), hnp.arrays(kind, st.integers(1, 200)))
    )
)
def test_float_round_trip_keeps_every_bit(case):
    kind, values = case
    found = decode(encode_column(values, kind), len(values), kind)
    assert found.tobytes() == values.tobytes()


@given(st.lists(st.text(max_size=12), min_size=1, max_size=200))
def test_utf8_round_trip(values):
    assert decode(encode_column(values, "utf8"), len(values), "utf8") == values


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=200))
def test_bytes_round_trip(values):
    assert decode(encode_column(values, "bytes"), len(values), "bytes") == values


@given(st.integers(0, 64), st.integers(0, 40), st.integers(0, 2**32))
def test_packed_integers_round_trip(width, count, seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2**64, count, dtype="u8") >> np.uint64(64 - width if width else 63)
    values = values if width else np.zeros(count, "u8")
    packed = pack_integers(values, width)
    assert len(packed) == -(-count * width // 8)
    assert unpack_integers(memoryview(packed), count, width, "x").tolist() == values.tolist()


@pytest.mark.parametrize(
    ("values", "kind", "encoding"),
    [
        ([7] * 50, "int64", 0),
        ([float("nan")] * 9, "float64", 0),
        (list(range(0, 40)), "int64", 2),
        ([-(2**63), 2**63 - 1], "int64", 1),
        ([0, 2**40] * 30 + [3], "int64", 3),
        (["cat", "dog"] * 40 + ["cat"], "utf8", 3),
        (["a", "b", "c"], "utf8", 4),
        (["same"] * 5, "utf8", 0),
        ([f"sample-{n:06d}.png" for n in range(300)], "utf8", 5),
    ],
)
def test_the_smallest_encoding_is_taken(values, kind, encoding):
    data = encode_column(values, kind)
    assert data[0] == encoding
    found = decode(data, len(values), kind)
    np.testing.assert_array_equal(np.array(found), np.array(values))


def test_a_constant_costs_thirteen_bytes_however_many_samples():
    assert len(encode_column([1] * 4096, "int64")) == 13


@given(st.lists(st.integers(0, 255), min_size=2, max_size=99), st.integers(1, 16))
def test_fractions_of_a_divisor_cost_their_numerators(numerators, bits):
    divisor = 255.0 * (2**bits - 1)
    values = (np.array(numerators) / divisor).astype("f4")
    data = encode_column(values, "float32", divisor=divisor)
    assert decode(data, len(values), "float32").tobytes() == values.tobytes()
    assert len(data) <= 5 + 8 + 5 + 9 + len(values)


@pytest.mark.parametrize(("kind", "itemsize"), [("int64", 8), ("float32", 4), ("float64", 8)])
@pytest.mark.parametrize("start", range(8))
def test_a_single_value_does_not_stay_at_an_odd_address(kind, itemsize, start):
    data = bytes(start) + column(1, b"\1" * itemsize)
    values = ColumnReader(memoryview(data)[start:], 1, "index").read("x", kind)
    assert values.flags.aligned


def column(encoding: int, payload: bytes) -> bytes:
    return struct.pack("<BI", encoding, len(payload)) + payload


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        (b"\x01", "int64", "begins at"),
        (struct.pack("<BI", 1, 2**32 - 1), "int64", "end past"),
        (column(9, b""), "int64", "unknown encoding"),
        (column(0, b"1234567"), "int64", "constant of 7"),
        (column(1, bytes(31)), "int64", "31 bytes for 4"),
        (column(2, bytes(9) + b"x"), "int64", "width 0"),
        (column(2, struct.pack("<qB", 0, 57) + bytes(29)), "int64", "width 57"),
        (column(2, struct.pack("<qB", 2**63 - 1, 1) + b"\x01"), "int64", "leaves 64 bits"),
        (column(2, struct.pack("<qB", 0, 1) + b"\x11"), "int64", "spare bits"),
        (column(2, bytes(9)), "utf8", "not for this column"),
        (column(3, struct.pack("<HB", 0, 0)), "int64", "dictionary of 0"),
        (column(3, struct.pack("<HB", 5, 3)), "int64", "dictionary of 5"),
        (column(3, struct.pack("<HB", 2, 2)), "int64", "indices of 2 bits"),
        (column(3, struct.pack("<HB", 1, 0) + column(0, bytes(8))), "int64", "in encoding 0"),
        (
            column(3, struct.pack("<HB", 3, 2) + column(1, bytes(24)) + b"\xff"),
            "int64",
            "index 3 of a dictionary of 3",
        ),
        (column(4, column(1, bytes(32)) + b"x"), "utf8", "do not add up"),
        (column(4, column(3, bytes(32))), "utf8", "lengths in encoding 3"),
        (column(4, column(0, struct.pack("<q", -1))), "bytes", "do not add up"),
        (column(4, column(0, struct.pack("<q", 1)) + b"\xff\xfe\xfd\xfc"), "utf8", "not UTF-8"),
        (column(5, b"\x00\x08\x00\x00\x00"), "int64", "inside encoding 5"),
        (column(5, b"\x01\x00\x00\x00\x7f"), "int64", "at most"),
        (column(5, b"\x01\x20\x00\x00\x00junk"), "int64", "zstd"),
        (column(1, bytes(32)) + b"\x00", "int64", "after the last column"),
        (column(6, bytes(7)), "float32", "not for this column"),
        (column(6, struct.pack("<d", 0) + column(0, bytes(8))), "float32", "divisor 0"),
        (column(6, struct.pack("<d", 255) + column(3, b"")), "float32", "in encoding 3"),
        (
            column(6, struct.pack("<d", 255) + column(0, struct.pack("<q", 2**60))),
            "float32",
            "beyond 2\\^53",
        ),
    ],
)
def test_damage_is_refused(data, kind, says):
    with pytest.raises(CorruptShardError, match=says):
        decode(data, 4, kind)
