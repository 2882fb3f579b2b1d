"""Layers, whole chunks through the public functions, prefixes, and what is refused."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat.coding.dequant import codes_of_chunk, dequantize_chunk, dequantize_chunk_uint8
from dsqformat.coding.layers import layer_widths, split_codes
from dsqformat.coding.packing import LayerData, pack_values
from dsqformat.errors import CorruptShardError
from kernel_model import model_chunks, split_widths

PLANS = st.lists(st.integers(1, 16), max_size=7)


@given(stored=st.lists(st.integers(1, 16), max_size=8), plan=PLANS)
def test_widths_follow_the_spec(stored, plan):
    widths = layer_widths(np.array(stored, "u1"), plan)
    assert widths.dtype == "u1"
    assert widths.tolist() == [split_widths(b, plan) for b in stored]


def test_widths_of_the_default_plan():
    widths = layer_widths(np.array([1, 4, 5, 6, 7, 8, 16], "u1"), [4, 2])
    assert widths.tolist() == [
        [1, 0, 0], [4, 0, 0], [4, 1, 0], [4, 2, 0], [4, 2, 1], [4, 2, 2], [4, 2, 10],
    ]  # fmt: skip


def layers_of(chunk):
    return [LayerData(chunk.layer(m), chunk.packed[m]) for m in range(chunk.used)]


def placed(chunk):
    """Arguments of the public functions but the layers."""
    _, _, counts, widths, missing = chunk.arguments()
    return counts, widths, missing


@given(chunk=model_chunks())
def test_split_layers_pack_and_join_to_the_same_codes(chunk):
    counts = np.array([len(codes) for codes in chunk.codes], "i8")
    codes = np.array([code for sample in chunk.codes for code in sample], "u2")
    widths = layer_widths(np.array(chunk.stored, "u1"), chunk.plan)
    parts = split_codes(codes, counts, widths)
    assert [part.dtype.itemsize for part in parts] == [
        1 if width.max(initial=0) <= 8 else 2 for width in widths.T
    ]
    layers = [
        LayerData(pack_values(part, counts, width), packed=True)
        for part, width in zip(parts, widths.T, strict=True)
    ]
    missing = np.zeros(len(counts), "u1")
    joined = codes_of_chunk(layers, counts, widths, missing, np.full(len(counts), 65535))
    assert joined.dtype == "u2"
    assert joined.tolist() == codes.tolist()


@given(chunk=model_chunks())
def test_chunks_decode_to_what_the_spec_says(chunk):
    values = dequantize_chunk(layers_of(chunk), *placed(chunk), *chunk.rule())
    np.testing.assert_array_equal(values.view("u4"), chunk.values().view("u4"))
    levels = dequantize_chunk_uint8(layers_of(chunk), *placed(chunk), *chunk.rule())
    assert levels.tolist() == chunk.levels().tolist()
    codes = codes_of_chunk(layers_of(chunk), *placed(chunk), chunk.rule()[1])
    assert codes.tolist() == chunk.tops()


@given(chunk=model_chunks(), data=st.data())
def test_output_is_written_where_it_is_asked_for(chunk, data):
    expected = dequantize_chunk(layers_of(chunk), *placed(chunk), *chunk.rule())
    room = np.full(chunk.total + 2, 7, "f4")
    out = room[1:-1]
    returned = dequantize_chunk(layers_of(chunk), *placed(chunk), *chunk.rule(), out=out)
    assert returned is out
    np.testing.assert_array_equal(out, expected)
    assert room[0] == room[-1] == 7
    if chunk.total % 2 == 0:
        square = np.empty((2, chunk.total // 2), "f4")
        dequantize_chunk(layers_of(chunk), *placed(chunk), *chunk.rule(), out=square)
        np.testing.assert_array_equal(square.ravel(), expected)


def test_prefixes_of_the_worked_example_are_in_the_middle():
    codes, counts, stored = np.array([37, 2, 63], "u2"), np.array([3]), np.array([6], "u1")
    widths = layer_widths(stored, [4])
    first, second = split_codes(codes, counts, widths)
    assert (first.tolist(), second.tolist()) == ([9, 0, 15], [1, 2, 3])
    layer = LayerData(pack_values(first, counts, widths[:, 0]), packed=True)
    ones, zeros = np.ones((1, 1), "f4"), np.zeros((1, 1), "f4")
    values = dequantize_chunk([layer], counts, widths[:, :1], [2], [0], [63], ones, zeros)
    assert values.tolist() == [37.5, 1.5, 61.5]


@given(codes=st.lists(st.integers(0, 65535), min_size=1, max_size=20), used=st.integers(1, 3))
def test_a_prefix_is_never_further_than_half_its_step(codes, used):
    counts, stored = np.array([len(codes)]), np.array([16], "u1")
    widths = layer_widths(stored, [4, 2])
    parts = split_codes(np.array(codes, "u2"), counts, widths)
    layers = [
        LayerData(pack_values(part, counts, width), packed=True)
        for part, width in zip(parts, widths.T, strict=True)
    ]
    missing = 16 - widths[:, :used].sum(axis=1)
    ones, zeros = np.ones((1, 1), "f4"), np.zeros((1, 1), "f4")
    values = dequantize_chunk(
        layers[:used], counts, widths[:, :used], missing, [0], [65535], ones, zeros
    )
    bound = Fraction(2 ** int(missing[0]) - 1, 2)
    for value, code in zip(values.tolist(), codes, strict=True):
        assert abs(Fraction(value) - code) <= bound


# What is refused -------------------------------------------------------------------------------


def small(packed=True):
    """Two samples of 3 and 2 values of 5 bits, one layer."""
    data = bytes(2 + 2) if packed else bytes(3 + 2)
    return [LayerData(data, packed)], np.array([3, 2]), np.full((2, 1), 5, "u1")


def rest(n=2, missing=0, max_code=31):
    parameters = np.zeros((n, 1), "f4")
    return np.full(n, missing), np.zeros(n, "i4"), np.full(n, max_code), parameters, parameters


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("change", [-4, -2, -1, 1, 100])
def test_wrong_lengths_are_corrupt(packed, change):
    (layer,), counts, widths = small(packed)
    data = layer.data[:change] if change < 0 else layer.data + bytes(change)
    message = f"layer 0: {len(data)} bytes, expected {len(layer.data)} for 2 samples"
    message += "; sample [01] is cut off" if change < 0 else "$"
    with pytest.raises(CorruptShardError, match=message):
        dequantize_chunk([LayerData(data, packed)], counts, widths, *rest())


def test_huge_counts_allocate_nothing():
    (layer,), _, widths = small()
    counts = np.array([1 << 27, 1 << 27])
    with pytest.raises(CorruptShardError, match="4 bytes, expected 167772160"):
        dequantize_chunk([layer], counts, widths, *rest())


def test_faults_name_sample_and_layer():
    (layer,), counts, widths = small()
    for at, message in ((1, "sample 0, layer 0: spare bits"), (3, "sample 1, layer 0: spare")):
        data = bytearray(layer.data)
        data[at] |= 0x80
        with pytest.raises(CorruptShardError, match=message):
            dequantize_chunk([LayerData(data, packed=True)], counts, widths, *rest())
    whole = [LayerData(bytes([0, 1, 2, 3, 32]), packed=False)]
    with pytest.raises(CorruptShardError, match="sample 1, layer 0: a value has more than 5 bits"):
        codes_of_chunk(whole, counts, widths, [0, 0], [31, 31])
    whole = [LayerData(bytes([0, 30, 31, 3, 1]), packed=False)]
    with pytest.raises(CorruptShardError, match="sample 0: a code is above the largest, 30"):
        dequantize_chunk_uint8(whole, counts, widths, *rest(max_code=30))
    assert len(dequantize_chunk_uint8(whole, counts, widths, *rest(missing=1, max_code=30))) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.update(layers=[]), "0 layers, expected 1 to 8"),
        (lambda a: a.update(layers=a["layers"] * 9), "9 layers"),
        (lambda a: a.update(counts=np.array([3])), r"widths \(2, 1\)"),
        (lambda a: a.update(widths=np.full((2, 2), 5, "u1")), r"widths \(2, 2\)"),
        (lambda a: a.update(counts=np.array([3, -2])), "sample 1: -2 values"),
        (lambda a: a.update(counts=np.array([1 << 40, 2])), "sample 0: 1099511627776 values"),
        (lambda a: a.update(widths=np.full((2, 1), 17, "u1")), r"values of \[17, 0\] bits"),
        (lambda a: a.update(missing=np.full(2, 12)), r"values of \[5, 12\] bits"),
        (lambda a: a.update(missing=np.zeros(3)), r"missing: shape \(3,\)"),
        (lambda a: a.update(zero_point=np.zeros(1)), "zero_point"),
        (lambda a: a.update(max_code=np.zeros(1)), "max_code"),
        (lambda a: a.update(gain=np.zeros((2, 0), "f4")), r"gain \(2, 0\)"),
        (lambda a: a.update(shift=np.zeros((2, 3), "f4")), r"shift \(2, 3\)"),
        (lambda a: a.update(out=np.empty(4, "f4")), "expected 5 of float32"),
        (lambda a: a.update(out=np.empty(5, "f8")), "5 values of float64"),
        (lambda a: a.update(out=np.empty(10, "f4")[::2]), "C-contiguous"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, message):
    layers, counts, widths = small()
    names = ("missing", "zero_point", "max_code", "gain", "shift")
    arguments = {"layers": layers, "counts": counts, "widths": widths}
    arguments |= dict(zip(names, rest(), strict=True))
    dequantize_chunk(**arguments)
    change(arguments)
    with pytest.raises(ValueError, match=message):
        dequantize_chunk(**arguments)


def test_codes_and_counts_that_do_not_fit_are_refused():
    widths = np.full((2, 1), 5, "u1")
    with pytest.raises(ValueError, match="4 values"):
        split_codes(np.zeros(5, "u2"), np.array([2, 2]), widths)
    with pytest.raises(ValueError, match="widths"):
        split_codes(np.zeros(4, "u2"), np.array([4]), widths)
