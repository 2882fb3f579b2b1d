"""Linear symmetric quantization: hand-made values, properties, exactness, refusals."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat.errors import SampleError
from dsqformat.quantize import lsq
from dsqformat.quantize.parameters import max_codes, stored_widths, zero_points
from dsqformat.schema import CENTERED, UNIT, Domain, Field
from quantized import restored

NORMALIZED = Domain.normalized([0.5, -1.0, 0.25], [0.25, 3.0, 0.1])
DOMAINS = [UNIT, CENTERED, NORMALIZED, Domain.normalized([0.4], [0.2])]
WIDTHS = st.integers(2, 16)
# Scales of these neither underflow nor overflow.
TAME = st.floats(-(2.0**60), 2.0**60, width=32).filter(lambda x: x == 0 or abs(x) > 2.0**-60)


def field(domain=UNIT, dtype="float32", layers=(4, 2)):
    return Field("x", dtype, (None, 3), "lsq", layers, domain)


def bit_width_after(batch):
    return int(batch.bit_width[0])


def quantized(values, bits, domain=UNIT):
    return lsq.quantize(np.array([values], "f4"), bits, domain)


def signed_codes(batch):
    zero = zero_points("lsq", batch.bit_width, batch.signed)
    return batch.codes.astype("i4") - zero[:, np.newaxis]


# The examples of the spec (18.3) ---------------------------------------------------------------


def test_bytes_of_the_spec():
    batch = lsq.quantize(np.array([[0, 127, 254]], "u1"), 8, UNIT)
    assert batch.codes.tolist() == [[0, 64, 127]]
    assert batch.codes.dtype == "u2"
    assert batch.signed.tolist() == [0]
    assert batch.offset.tolist() == [0]
    assert batch.scale.tolist() == [np.float32(254 / (255 * 127))]
    assert stored_widths("lsq", batch.bit_width, batch.signed).tolist() == [7]


def test_values_of_the_spec_that_are_not_negative():
    batch = quantized([0, 0.1, 0.25, 1], 4)
    assert batch.codes.tolist() == [[0, 1, 2, 7]]
    assert batch.signed.tolist() == [0]
    assert batch.scale.tolist() == [np.float32(1) / np.float32(7)]
    seventh = float(np.float32(1) / np.float32(7))
    expected = [np.float32(seventh * code) for code in (0, 1, 2, 7)]
    assert restored(field(), batch)[0].tolist() == expected


def test_values_of_the_spec_with_negative_ones():
    batch = quantized([-2, 0.9, 0.4], 3)
    assert batch.codes.tolist() == [[0, 4, 4]]
    assert batch.signed.tolist() == [1]
    third = np.float32(2) / np.float32(3)
    assert batch.scale.tolist() == [third]
    assert restored(field(), batch)[0].tolist() == [-np.float32(3 * third), third, third]


def test_two_bits_have_three_codes():
    batch = quantized([-1, -0.4, 0, 0.4, 1], 2)
    assert signed_codes(batch).tolist() == [[-1, 0, 0, 0, 1]]
    assert max_codes("lsq", batch.bit_width, batch.signed).tolist() == [2]


# Bytes: the integer rule -----------------------------------------------------------------------


@pytest.mark.parametrize("bits", range(2, 10))
def test_bytes_are_rounded_half_to_even_in_integers(bits):
    largest = (1 << (bits - 1)) - 1
    every = np.arange(256)
    rows = np.minimum(every[np.newaxis, :], every[:, np.newaxis]).astype("u1")
    batch = lsq.quantize(rows, bits, UNIT)
    for peak in range(256):
        expected = [round(Fraction(int(x) * largest, max(peak, 1))) for x in rows[peak]]
        assert batch.codes[peak].tolist() == expected
        assert batch.scale[peak] == np.float32(peak / (255 * largest))


def test_wider_codes_than_9_bits_are_capped_on_bytes():
    pictures = np.arange(48, dtype="u1").reshape(4, 4, 3)[np.newaxis]
    assert bit_width_after(lsq.quantize(pictures, 16, UNIT)) == 9
    assert bit_width_after(lsq.quantize(pictures, 16, CENTERED)) == 16
    assert bit_width_after(lsq.quantize(pictures.astype("f4"), 16, UNIT)) == 16


def test_9_bits_give_every_byte_back():
    rows = np.minimum(np.arange(256)[np.newaxis, :], np.arange(256)[:, np.newaxis]).astype("u1")
    batch = lsq.quantize(rows, 9, UNIT)
    np.testing.assert_array_equal(restored(field(dtype="uint8"), batch, levels=True), rows)


@pytest.mark.parametrize(("bits", "error"), [(8, 1), (7, 2), (6, 4), (5, 8), (4, 18), (3, 42)])
def test_fewer_bits_stay_within_half_a_step_of_every_byte(bits, error):
    rows = np.minimum(np.arange(256)[np.newaxis, :], np.arange(256)[:, np.newaxis]).astype("u1")
    levels = restored(field(dtype="uint8"), lsq.quantize(rows, bits, UNIT), levels=True)
    assert np.abs(levels.astype(int) - rows).max() == error


def test_each_sample_has_its_own_width():
    rows = np.tile(np.arange(256, dtype="u1"), (8, 1))
    widths = np.arange(2, 10)
    together = lsq.quantize(rows, widths, UNIT)
    assert together.bit_width.tolist() == widths.tolist()
    for row, bits in enumerate(widths.tolist()):
        alone = lsq.quantize(rows[:1], bits, UNIT)
        assert together.codes[row].tolist() == alone.codes[0].tolist()
        assert together.scale[row] == alone.scale[0]


# Properties ------------------------------------------------------------------------------------


@given(values=st.lists(TAME, min_size=1, max_size=30), bits=WIDTHS)
def test_the_largest_magnitude_has_the_largest_code(values, bits):
    batch = quantized(values, bits)
    codes = signed_codes(batch)
    largest = (1 << (bits - 1)) - 1
    assert np.abs(codes).max() == (largest if any(values) else 0)
    assert batch.signed[0] == (codes < 0).any()
    assert (batch.codes <= max_codes("lsq", batch.bit_width, batch.signed)).all()


@given(values=st.lists(TAME, min_size=1, max_size=30), bits=WIDTHS)
def test_no_value_moves_more_than_half_a_step(values, bits):
    batch = quantized(values, bits)
    back = restored(field(), batch)[0].astype("f8")
    step = float(batch.scale[0])
    # Above 2^23 steps nothing is lost but what float32 itself loses.
    slack = 1 + 2.0 ** (bits - 23)
    assert np.abs(back - np.array(values)).max() <= step / 2 * slack


@given(values=st.lists(TAME, min_size=1, max_size=30), bits=WIDTHS)
def test_quantizing_again_changes_no_code(values, bits):
    batch = quantized(values, bits)
    again = lsq.quantize(restored(field(), batch), bits, UNIT)
    assert signed_codes(again).tolist() == signed_codes(batch).tolist()


@given(values=st.lists(TAME, min_size=1, max_size=30), bits=WIDTHS, seed=st.integers(0, 99))
def test_sign_order_and_powers_of_two_carry_over(values, bits, seed):
    codes = signed_codes(quantized(values, bits))[0]
    assert signed_codes(quantized([-x for x in values], bits))[0].tolist() == (-codes).tolist()
    assert signed_codes(quantized([x * 32 for x in values], bits))[0].tolist() == codes.tolist()
    order = np.argsort(values, kind="stable")
    assert (np.diff(codes[order]) >= 0).all()
    shuffled = np.random.default_rng(seed).permutation(len(values))
    moved = quantized([values[i] for i in shuffled], bits)
    assert signed_codes(moved)[0].tolist() == codes[shuffled].tolist()


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_every_domain_comes_back_within_half_a_step(domain, dtype):
    rng = np.random.default_rng(3)
    values = rng.integers(0, 256, (5, 7, 3)).astype("u1")
    if dtype == "float32":
        values = (values / np.float32(255) * 4 - 1).astype("f4")
    units = values / np.float32(255) if dtype == "uint8" else values
    std = domain.std_f32 if domain.kind == "normalized" else np.ones(1, "f4")
    for bits in (3, 8, 14):
        batch = lsq.quantize(values, bits, domain)
        back = restored(field(domain, dtype), batch).reshape(units.shape)
        step = batch.scale[:, None, None] * std
        assert (np.abs(back - units) <= step * 0.5001 + 1e-6).all()


def test_float_domains_are_computed_in_float32():
    values = np.random.default_rng(1).random((2, 5, 3)).astype("f4")
    batch = lsq.quantize(values, 10, NORMALIZED)
    for row in range(2):
        z = [
            np.float32(np.float32(x - m) / s)
            for pixel in values[row]
            for x, m, s in zip(pixel, NORMALIZED.mean_f32, NORMALIZED.std_f32, strict=True)
        ]
        scale = np.float32(max(map(abs, z)) / np.float32(511))
        assert batch.scale[row] == scale
        expected = [int(np.rint(np.float32(x / scale))) for x in z]
        assert signed_codes(batch)[row].tolist() == expected


# Edges and refusals ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "f4"])
@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (2,), (3, 1)])
def test_empty_and_tiny_samples(dtype, shape):
    batch = lsq.quantize(np.zeros(shape, dtype), 5, UNIT)
    assert batch.codes.shape == (shape[0], int(np.prod(shape[1:])))
    assert not batch.codes.any()
    assert not batch.scale.any()
    assert not batch.signed.any()
    assert not restored(field(), batch).any()


@given(
    values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1),
    bits=WIDTHS,
)
def test_any_finite_values_give_legal_codes_and_finite_values(values, bits):
    batch = quantized(values, bits)
    assert (batch.codes <= max_codes("lsq", batch.bit_width, batch.signed)).all()
    assert np.isfinite(batch.scale).all()
    with np.errstate(over="ignore"):
        back = restored(field(), batch)
    largest = np.abs(np.array(values, "f4")).max()
    assert np.isfinite(back).all() or largest > 3.4e38


def test_subnormal_samples_keep_what_their_scale_can_say():
    tiny = 2.0**-149
    assert not quantized([tiny, -tiny], 8).codes.any()
    batch = quantized([tiny, -tiny, 0], 2)
    assert signed_codes(batch).tolist() == [[1, -1, 0]]
    assert restored(field(), batch)[0].tolist() == [tiny, -tiny, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_sample(bad):
    values = np.ones((4, 2, 3), "f4")
    values[2, 1, 0] = bad
    for domain in DOMAINS:
        with pytest.raises(SampleError, match="sample 2: a value is NaN or infinite"):
            lsq.quantize(values, 8, domain)


def test_values_that_leave_float32_in_their_domain_are_refused():
    values = np.array([[1.0], [3e38]], "f4")
    with pytest.raises(SampleError, match=r"sample 1: .* in its domain"):
        lsq.quantize(values, 8, Domain.normalized([0.0], [0.1]))


@pytest.mark.parametrize(
    ("bits", "message"),
    [(1, "2 to 16: its step"), (0, "0 to 0, expected 2"), (17, "17"), ([8, 1], "1 to 8")],
)
def test_widths_outside_2_to_16_are_refused(bits, message):
    with pytest.raises(ValueError, match=f"lsq: bit width .*{message}"):
        lsq.quantize(np.zeros((2, 3), "u1"), bits, UNIT)


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="float64, expected uint8 or float32"):
        lsq.quantize(np.zeros((1, 3)), 8, UNIT)
