"""Bit packing against the spec's own words and drawings, and every way it can be wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat.coding.packing import pack_values, packed_nbytes, unpack_values
from dsqformat.errors import CorruptShardError
from kernel_model import pack


@st.composite
def samples(draw):
    """Values of up to 6 samples with widths of their own."""
    widths = draw(st.lists(st.integers(0, 16), max_size=6))
    return [
        (width, draw(st.lists(st.integers(0, (1 << width) - 1), max_size=30))) for width in widths
    ]


def arguments(made):
    counts = np.array([len(values) for _, values in made], "i8")
    widths = np.array([width for width, _ in made], "u1")
    flat = [value for width, values in made for value in values if width]
    return flat, counts, widths


def test_three_values_of_3_bits_as_drawn_in_the_spec():
    a, b, c = 0b101, 0b011, 0b110
    data = pack_values(np.array([a, b, c], "u1"), np.array([3]), np.array([3], "u1"))
    assert list(data) == [(c & 3) << 6 | b << 3 | a, c >> 2]


def test_the_worked_example_of_the_spec():
    counts = np.array([3])
    assert pack_values(np.array([9, 0, 15], "u1"), counts, np.array([4], "u1")).hex() == "090f"
    assert pack_values(np.array([1, 2, 3], "u1"), counts, np.array([2], "u1")).hex() == "39"


@given(made=samples())
def test_packing_follows_the_spec_and_comes_back(made):
    flat, counts, widths = arguments(made)
    expected = b"".join(pack(values, width) for width, values in made if width)
    data = pack_values(np.array(flat, "u2"), counts, widths)
    assert data == expected
    assert packed_nbytes(counts, widths).sum() == len(data)
    values = unpack_values(data, counts, widths)
    assert values.tolist() == flat
    assert values.dtype == ("u1" if widths.max(initial=0) <= 8 else "u2")
    if widths.max(initial=0) <= 8:
        assert pack_values(np.array(flat, "u1"), counts, widths) == data


@given(made=samples(), cut=st.integers(1, 4), grow=st.booleans())
def test_a_wrong_length_is_corrupt(made, cut, grow):
    flat, counts, widths = arguments(made)
    data = pack_values(np.array(flat, "u2"), counts, widths)
    wrong = data + bytes(cut) if grow else data[:-cut]
    if wrong == data:
        return
    with pytest.raises(CorruptShardError, match=f"{len(wrong)} bytes, expected {len(data)}"):
        unpack_values(wrong, counts, widths)


def test_the_message_names_the_sample_that_is_cut_off():
    counts, widths = np.array([8, 0, 8, 8]), np.full(4, 4, "u1")
    with pytest.raises(CorruptShardError, match="sample 2 is cut off"):
        unpack_values(bytes(6), counts, widths)


@given(made=samples(), data=st.data())
def test_any_set_spare_bit_is_corrupt(made, data):
    flat, counts, widths = arguments(made)
    packed = bytearray(pack_values(np.array(flat, "u2"), counts, widths))
    ends = np.cumsum(packed_nbytes(counts, widths))
    spare = [
        (int(ends[i]) - 1, bit, i)
        for i in range(len(made))
        for bit in range(int(counts[i]) * int(widths[i]) % 8 or 8, 8)
    ]
    if not spare:
        return
    at, bit, sample = data.draw(st.sampled_from(spare))
    packed[at] |= 1 << bit
    with pytest.raises(CorruptShardError, match=f"sample {sample}, layer 0: spare bits"):
        unpack_values(bytes(packed), counts, widths)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_value_too_large_for_its_width_is_refused(dtype):
    with pytest.raises(ValueError, match="sample 1: a value does not fit in 3 bits"):
        pack_values(np.array([7, 8], dtype), np.array([1, 1]), np.array([3, 3], "u1"))


@pytest.mark.parametrize(
    ("values", "counts", "widths", "message"),
    [
        ([1], [2], [3], "values of shape"),
        ([1, 2], [2], [3, 3], "one per sample"),
        ([], [-1], [3], "0 to 2\\^28"),
        ([1], [1], [17], "0 to 16"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(values, counts, widths, message):
    with pytest.raises(ValueError, match=message):
        pack_values(np.array(values, "u1"), np.array(counts), np.array(widths, "u1"))


def test_values_of_another_type_are_refused():
    with pytest.raises(ValueError, match="int64"):
        pack_values(np.array([1]), np.array([1]), np.array([3], "u1"))


def test_read_only_and_strided_input_is_taken():
    values = np.arange(16, dtype="u1")[::2]
    counts, widths = np.array([8, 99])[:1], np.array([4, 4, 4], "u1")[::3]
    data = pack_values(values, counts, widths)
    assert unpack_values(memoryview(data), counts, widths).tolist() == list(range(0, 16, 2))
