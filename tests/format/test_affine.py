"""Affine quantization: hand-made values, properties, exactness, refusals."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat.errors import SampleError
from dsqformat.quantize import affine
from dsqformat.quantize.parameters import max_codes, stored_widths, zero_points
from dsqformat.schema import Field
from quantized import restored

WIDTHS = st.integers(1, 16)
TAME = st.floats(-(2.0**60), 2.0**60, width=32).filter(lambda x: x == 0 or abs(x) > 2.0**-60)


def field(dtype="float32", layers=(4, 2)):
    return Field("x", dtype, (None,), "affine", layers)


def quantized(values, bits):
    return affine.quantize(np.array([values], "f4"), bits)


def every_range():
    """One sample for each pair lo < hi: all bytes from lo to hi."""
    every = np.arange(256)
    low, high = np.triu_indices(256)
    return np.clip(every[np.newaxis, :], low[:, np.newaxis], high[:, np.newaxis]).astype("u1")


def test_a_patch_by_hand():
    batch = quantized([0.25, 0.5, 1.0], 2)
    assert batch.codes.tolist() == [[0, 1, 3]]
    assert batch.scale.tolist() == [0.25]
    assert batch.offset.tolist() == [0.25]
    assert batch.signed.tolist() == [0]
    assert restored(field(), batch)[0].tolist() == [0.25, 0.5, 1.0]


def test_one_bit_has_the_two_ends():
    batch = quantized([-3, -2.5, 4.5, 5], 1)
    assert batch.codes.tolist() == [[0, 0, 1, 1]]
    assert restored(field(), batch)[0].tolist() == [-3, -3, 5, 5]


def test_parameters_of_the_table_in_the_spec():
    widths = np.arange(1, 17, dtype="u1")
    assert stored_widths("affine", widths, None).tolist() == widths.tolist()
    assert not zero_points("affine", widths, None).any()
    assert max_codes("affine", widths, None).tolist() == [2**b - 1 for b in range(1, 17)]


# Bytes: the integer rule -----------------------------------------------------------------------


@pytest.mark.parametrize("bits", range(1, 8))
def test_bytes_are_rounded_half_to_even_in_integers(bits):
    top = (1 << bits) - 1
    rng = np.random.default_rng(bits)
    ends = np.sort(rng.integers(0, 256, (60, 2)), axis=1)
    rows = np.clip(np.arange(256)[np.newaxis, :], ends[:, :1], ends[:, 1:]).astype("u1")
    batch = affine.quantize(rows, bits)
    for row, (low, high) in enumerate(ends.tolist()):
        if high - low <= top:
            expected = [int(x) - low for x in rows[row]]
            scale = np.float32(1 / 255)
        else:
            expected = [round(Fraction((int(x) - low) * top, high - low)) for x in rows[row]]
            scale = np.float32((high - low) / (255 * top))
        assert batch.codes[row].tolist() == expected
        assert batch.scale[row] == scale
        assert batch.offset[row] == np.float32(low / 255)


@pytest.mark.parametrize("bits", [8, 9, 16])
def test_8_bits_and_more_are_the_bytes_themselves(bits):
    rows = np.arange(256, dtype="u1").reshape(1, -1)
    batch = affine.quantize(rows, bits)
    assert batch.bit_width.tolist() == [8]
    assert batch.codes.tolist() == rows.tolist()
    assert batch.scale.tolist() == [np.float32(1 / 255)]
    assert batch.offset.tolist() == [0]
    np.testing.assert_array_equal(restored(field("uint8"), batch, levels=True), rows)


@pytest.mark.parametrize("bits", range(1, 9))
def test_narrow_ranges_come_back_exactly_at_any_width(bits):
    rows = every_range()
    narrow = rows[rows.max(axis=1).astype(int) - rows.min(axis=1) < (1 << bits)]
    assert len(narrow) > 256
    levels = restored(field("uint8"), affine.quantize(narrow, bits), levels=True)
    np.testing.assert_array_equal(levels, narrow)


@pytest.mark.parametrize("bits", range(1, 8))
def test_wide_ranges_stay_within_half_a_step(bits):
    rows = every_range()[::7]
    batch = affine.quantize(rows, bits)
    levels = restored(field("uint8"), batch, levels=True).astype(int)
    half = np.ceil(batch.scale.astype("f8") * 255 / 2 - 1e-6)[:, np.newaxis]
    assert (np.abs(levels - rows) <= half).all()
    ends = np.stack([rows.min(axis=1), rows.max(axis=1)])
    np.testing.assert_array_equal(np.stack([levels.min(axis=1), levels.max(axis=1)]), ends)


def test_each_sample_has_its_own_width():
    rows = np.tile(np.arange(256, dtype="u1"), (8, 1))
    together = affine.quantize(rows, np.arange(1, 9))
    for row in range(8):
        alone = affine.quantize(rows[:1], row + 1)
        assert together.codes[row].tolist() == alone.codes[0].tolist()
        assert together.scale[row] == alone.scale[0]
        assert together.bit_width[row] == row + 1


def test_a_prefix_of_layers_stays_within_its_interval():
    rows = np.arange(256, dtype="u1").reshape(1, -1)
    batch = affine.quantize(rows, 8)
    for used, half in ((1, 8), (2, 2), (3, 0)):
        levels = restored(field("uint8"), batch, levels=True, used=used).astype(int)
        assert np.abs(levels - rows).max() == half


# Properties ------------------------------------------------------------------------------------


@given(values=st.lists(TAME, min_size=1, max_size=30), bits=WIDTHS)
def test_both_ends_have_the_end_codes(values, bits):
    batch = quantized(values, bits)
    codes = batch.codes[0]
    assert codes.min() == 0
    assert codes.max() == ((1 << bits) - 1 if max(values) > min(values) else 0)
    order = np.argsort(values, kind="stable")
    assert (np.diff(codes[order].astype(int)) >= 0).all()


@given(values=st.lists(TAME, min_size=1, max_size=30), bits=WIDTHS)
def test_no_value_moves_more_than_half_a_step(values, bits):
    batch = quantized(values, bits)
    back = restored(field(), batch)[0].astype("f8")
    magnitude = max(map(abs, values))
    slack = float(batch.scale[0]) * 2.0 ** (bits - 23) + magnitude * 2.0**-22
    assert np.abs(back - np.array(values)).max() <= float(batch.scale[0]) / 2 + slack


@given(
    values=st.lists(st.integers(-(2**10), 2**10), min_size=1, max_size=30),
    bits=st.integers(1, 12),
)
def test_quantizing_again_changes_no_code(values, bits):
    batch = quantized(values, bits)
    again = affine.quantize(restored(field(), batch), bits)
    assert again.codes.tolist() == batch.codes.tolist()


def test_floats_are_rounded_once_each():
    values = np.random.default_rng(5).normal(size=(3, 40)).astype("f4")
    batch = affine.quantize(values, 7)
    for row in range(3):
        low, high = values[row].min(), values[row].max()
        scale = np.float32((float(high) - float(low)) / 127)
        assert batch.scale[row] == scale
        assert batch.offset[row] == low
        steps = [np.rint(np.float32(np.float32(x - low) / scale)) for x in values[row]]
        assert batch.codes[row].tolist() == [int(min(max(s, 0), 127)) for s in steps]


# Edges and refusals ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "f4"])
@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (2,), (3, 1)])
@pytest.mark.parametrize("value", [0, 7])
def test_empty_and_constant_samples(dtype, shape, value):
    values = np.full(shape, value, dtype)
    batch = affine.quantize(values, 5)
    assert batch.codes.shape == (shape[0], int(np.prod(shape[1:])))
    assert not batch.codes.any()
    back = restored(field("uint8" if dtype == "u1" else "float32"), batch, levels=dtype == "u1")
    np.testing.assert_array_equal(back.ravel(), values.ravel())


@given(
    values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1),
    bits=WIDTHS,
)
def test_any_finite_values_give_legal_codes_or_are_refused(values, bits):
    try:
        batch = quantized(values, bits)
    except SampleError:
        assert (max(values) - min(values)) / (2**bits - 1) > 3.4e38
        return
    assert (batch.codes <= max_codes("affine", batch.bit_width, None)).all()
    assert np.isfinite(batch.scale).all()
    assert np.isfinite(batch.offset).all()


def test_ranges_that_leave_float32_are_refused_by_sample():
    values = np.array([[0, 1], [-3e38, 3e38]], "f4")
    with pytest.raises(SampleError, match=r"sample 1: its range .* leaves float32"):
        affine.quantize(values, 1)
    batch = affine.quantize(values, 2)
    assert batch.codes.tolist() == [[0, 3], [0, 3]]


def test_subnormal_ranges():
    tiny = 2.0**-149
    assert not quantized([tiny, 0], 8).codes.any()
    assert quantized([tiny, 0], 1).codes.tolist() == [[1, 0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_sample(bad):
    values = np.ones((4, 6), "f4")
    values[3, 2] = bad
    with pytest.raises(SampleError, match="sample 3: a value is NaN or infinite"):
        affine.quantize(values, 8)


@pytest.mark.parametrize("bits", [0, 17, [8, 0], [99, 3]])
def test_widths_outside_1_to_16_are_refused(bits):
    with pytest.raises(ValueError, match=r"affine: bit width .*, expected 1 to 16"):
        affine.quantize(np.zeros((2, 3), "u1"), bits)


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="int32, expected uint8 or float32"):
        affine.quantize(np.zeros((1, 3), "i4"), 8)
