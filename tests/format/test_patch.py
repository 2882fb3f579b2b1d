"""Quantizer `patch`: codes and group ids of patches, and what they stand for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dsqformat.errors import CorruptShardError, SampleError
from dsqformat.quantize.patch import (
    PatchGroups,
    dequantize_patches,
    fit_groups,
    quantize_alone,
    quantize_patches,
)
from dsqformat.quantize.patch.layout import cut, place
from patch_pictures import made_pictures

METHODS = ["distortion", "min_max", "compat"]


def groups_of(scale, offset, *, bits=2, patch=5):
    return PatchGroups(bits, patch, np.array(scale, "f4"), np.array(offset, "f4"))


def back_from(codes, ids, groups, shape, output="float32"):
    """Dequantize samples of one shape."""
    shapes = np.tile(np.array(shape, "i8"), (len(codes), 1))
    missing = np.zeros(len(codes), "u1")
    flat = dequantize_patches(
        codes, missing, ids, groups.scale, groups.offset, shapes, groups.patch, None, output
    )
    return flat.reshape(len(codes), *shape)


def through(values, groups, output="float32"):
    return back_from(*quantize_patches(values, groups), groups, values.shape[1:], output)


# Hand vectors ----------------------------------------------------------------------------------


def test_hand_vector():
    patch = np.array([[[0.2, 0.45, 0.8]]], "f4")
    groups = groups_of([0.2], [0.2])
    codes, ids = quantize_patches(patch, groups)
    assert (codes.tolist(), codes.dtype, ids.tolist(), ids.dtype) == (
        [[0, 1, 3]],
        "u2",
        [[0]],
        "u2",
    )
    back = back_from(codes, ids, groups, (1, 3))
    step = np.float32(0.2)
    expected = [step, np.float32(step + step), np.float32(np.float32(3 * step) + step)]
    assert back.ravel().tolist() == expected


@pytest.mark.parametrize("method", METHODS)
def test_the_hand_vector_is_found_again(method):
    # The paper's zero point is -1 here: offset = 0.2 in all ways to group.
    patch = np.array([[[0.2, 0.45, 0.8]]], "f4")
    groups = fit_groups(patch, 2, 1, method=method)
    assert quantize_patches(patch, groups)[0].tolist() == [[0, 1, 3]]
    if method != "distortion":
        np.testing.assert_allclose([groups.scale, groups.offset], [[0.2], [0.2]], rtol=1e-6)


def test_the_zero_point_of_compat_is_an_integer():
    # min 0.1, max 0.8: alpha = 0.7 / 3, z = rint(-0.43) = 0, so that codes start at 0, not 0.1.
    patch = np.array([[[0.1, 0.45, 0.8]]], "f4")
    groups = fit_groups(patch, 2, 1, method="compat")
    np.testing.assert_allclose([groups.scale[0], groups.offset[0]], [0.7 / 3, 0], rtol=1e-6)
    # 0.8 / alpha = 3.43 is no code.
    assert quantize_patches(patch, groups)[0].tolist() == [[0, 2, 3]]


def test_each_patch_has_the_parameters_of_its_group():
    # Two rows of two patches of 2 x 2 and smaller; group g has offset g.
    groups = groups_of([0, 0, 0, 0], [0, 1, 2, 3], patch=2)
    back = back_from(np.zeros((1, 9), "u2"), np.array([[3, 1, 0, 2]], "u2"), groups, (3, 3))
    assert back[0].tolist() == [[3, 3, 1], [3, 3, 1], [0, 0, 2]]


def test_missing_bits_leave_the_middle_of_an_interval():
    # Codes of 4 bits of which 2 are here: 2 * 4 + 1.5 = 9.5.
    found = dequantize_patches(
        np.array([2], "u2"), np.array([2], "u1"), np.array([0], "u2"),
        np.array([2], "f4"), np.array([1], "f4"), np.array([[1, 1]]), 5,
    )  # fmt: skip
    assert found.tolist() == [20.0]


def test_bytes_are_rounded_half_to_even_and_clamped():
    groups = groups_of([0, 0, 0, 0], [0.5 / 255, 1.5 / 255, -1, 7], patch=1)
    codes, ids = np.zeros((1, 4), "u2"), np.array([[0, 1, 2, 3]], "u2")
    exact = [np.float32(o) * np.float32(255) for o in groups.offset[:2]]
    assert exact == [0.5, 1.5]
    assert back_from(codes, ids, groups, (2, 2), "uint8").ravel().tolist() == [0, 2, 0, 255]


# Layout ----------------------------------------------------------------------------------------


@given(st.tuples(*[st.integers(0, 12)] * 3, st.integers(0, 4)), st.integers(1, 13), st.booleans())
def test_what_is_cut_can_be_placed_back(shape, patch, grey):
    shape = shape[:3] if grey else shape
    values = np.random.default_rng(0).integers(0, 256, shape).astype("u1")
    blocks, back = cut(values, patch), np.zeros_like(values)
    for block in blocks:
        place(block, back)
    np.testing.assert_array_equal(back, values)
    numbers = np.sort(np.concatenate([np.empty(0, "i8"), *(block.numbers for block in blocks)]))
    np.testing.assert_array_equal(numbers, np.arange(len(numbers)))


def test_patches_are_numbered_in_raster_order():
    values = np.arange(7 * 6).reshape(1, 7, 6)
    y, x = np.mgrid[:7, :6] // 5
    owner = (y * 2 + x).ravel()
    for block in cut(values, 5):
        for number, cells in zip(block.numbers, block.values, strict=True):
            assert set(owner[cells]) == {number}


# Properties ------------------------------------------------------------------------------------

SAMPLES = st.one_of(
    arrays("u1", st.tuples(*[st.integers(0, 9)] * 3)),
    arrays("u1", st.tuples(st.integers(1, 3), *[st.integers(1, 9)] * 2, st.integers(0, 3))),
    arrays(
        "f4",
        st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(-8, 8, width=32),
    ),
)


@given(SAMPLES, st.integers(1, 8), st.integers(1, 6), st.integers(1, 12), st.sampled_from(METHODS))
def test_codes_and_ids_are_in_range_and_mean_values(values, bits, count, patch, method):
    groups = fit_groups(values, bits, count, patch=patch, method=method)
    assert 1 <= len(groups) <= count
    assert (groups.scale >= 0).all()
    assert np.isfinite([groups.scale, groups.offset]).all()
    codes, ids = quantize_patches(values, groups)
    assert codes.shape == (len(values), np.prod(values.shape[1:]))
    assert codes.max(initial=0) < 1 << bits
    assert ids.max(initial=0) < len(groups)
    back = back_from(codes, ids, groups, values.shape[1:])
    assert np.isfinite(back).all()
    # Codes are those nearest to their values: within the range half a step away, float32 rounded.
    unit = values / 255.0 if values.dtype == np.uint8 else values.astype("f8")
    side = [np.arange(values.shape[axis + 1]) // patch for axis in (0, 1)]
    if values.size:
        grid = ids.reshape(len(values), side[0][-1] + 1, -1)
        group = grid[:, side[0]][:, :, side[1]].reshape(*values.shape[:3], *[1] * (values.ndim - 3))
        low, step = groups.offset[group].astype("f8"), groups.scale[group].astype("f8")
        inside = np.clip(unit, low, low + groups.top * step)
        assert (np.abs(back - inside) <= step / 2 + 1e-5).all()


@given(
    arrays("f4", (2, 6, 7), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    st.sampled_from(METHODS),
)
def test_any_finite_floats_are_quantized(values, method):
    groups = fit_groups(values, 3, 4, patch=4, method=method)
    assert not np.isnan(through(values, groups)).any()


def test_ranges_that_leave_float32_are_refused():
    values = np.array([[[-3e38, 3e38]]], "f4")
    with pytest.raises(SampleError, match="leaves float32"):
        fit_groups(values, 1, 1)
    assert len(fit_groups(values, 2, 1)) == 1


@pytest.mark.parametrize("method", METHODS)
def test_constant_patches_come_back(method):
    values = np.repeat(np.array([0, 7, 255], "u1"), 25).reshape(3, 5, 5)
    groups = fit_groups(values, 2, 3, method=method)
    assert groups.scale.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(through(values, groups, "uint8"), values)


@pytest.mark.parametrize("method", METHODS)
def test_eight_bits_of_bytes_come_back(method):
    values = np.arange(256, dtype="u1").reshape(1, 16, 16)
    groups = fit_groups(values, 8, 1, patch=16, method=method)
    np.testing.assert_array_equal(through(values, groups, "uint8"), values)


def test_a_patch_larger_than_the_picture_is_the_picture():
    pictures = made_pictures(3)
    small, large = (fit_groups(pictures, 3, 3, patch=patch) for patch in (32, 4096))
    codes, ids = quantize_patches(pictures, large)
    assert ids.shape == (3, 1)
    np.testing.assert_array_equal(codes, quantize_patches(pictures, small)[0])


def test_a_batch_is_quantized_as_its_samples_alone():
    pictures = made_pictures(130, 31)
    groups = fit_groups(pictures, 2, 16)
    codes, ids = quantize_patches(pictures, groups)
    for row in (0, 84, 85, 86, 129):
        own = quantize_patches(pictures[row : row + 1], groups)
        np.testing.assert_array_equal(codes[row], own[0][0])
        np.testing.assert_array_equal(ids[row], own[1][0])


def test_floats_are_quantized_as_bytes_are():
    pictures = made_pictures(4)
    groups = fit_groups(pictures, 4, 8)
    unit = (pictures / 255.0).astype("f4")
    codes, ids = quantize_patches(pictures, groups)
    near, same = quantize_patches(unit, groups)
    # Float32 moves values that lie halfway between two codes.
    assert (codes != near).mean() < 0.01
    assert (ids != same).mean() < 0.01


def test_groups_from_a_file_still_choose_well():
    # Without centres, which are not stored, patches look for a range like their own.
    pictures = made_pictures(8)
    groups = fit_groups(pictures, 3, 16)
    known = PatchGroups(3, 5, groups.scale, groups.offset)
    error = [np.mean((through(pictures, g) - pictures / 255) ** 2) for g in (groups, known)]
    assert error[1] < 1.2 * error[0]


# Masks -----------------------------------------------------------------------------------------


@given(
    st.integers(1, 4), st.integers(1, 11), st.integers(1, 11), st.integers(0, 3),
    st.integers(1, 12), st.integers(0, 4), st.integers(0, 2**32),
)  # fmt: skip
def test_masked_samples_are_the_kept_part_of_whole_ones(n, height, width, channels, p, k, seed):
    rng = np.random.default_rng(seed)
    grid = -(-height // p), -(-width // p)
    masks = [rng.random(grid) < 0.6 for _ in range(n)]
    pixels = np.array([m[np.arange(height)[:, None] // p, np.arange(width) // p] for m in masks])
    codes = rng.integers(0, 4, (n, height, width, channels)).astype("u2")
    ids = rng.integers(0, 9, (n, *grid)).astype("u2") if channels else np.empty((n, 0), "u2")
    rule = rng.random(9).astype("f4"), rng.normal(size=9).astype("f4")
    shapes, missing = np.tile([height, width, channels], (n, 1)), np.full(n, k, "u1")
    whole = dequantize_patches(codes.ravel(), missing, ids, *rule, shapes, p)
    kept_ids = ids[np.array(masks)] if channels else np.empty(0, "u2")
    part = dequantize_patches(codes[pixels].ravel(), missing, kept_ids, *rule, shapes, p, masks)
    np.testing.assert_array_equal(part, whole.reshape(codes.shape)[pixels].ravel())


def test_left_out_patches_may_hold_anything():
    pictures = (made_pictures(6) / 255).astype("f4")
    masks = np.random.default_rng(0).random((6, 7, 7)) < 0.5
    rows = np.arange(32) // 5
    pixels = masks[:, rows][:, :, rows]
    groups = fit_groups(pictures, 2, 8, masks=masks)
    spoilt = np.where(pixels[..., np.newaxis], pictures, np.float32(np.nan))
    again = fit_groups(spoilt, 2, 8, masks=masks)
    np.testing.assert_array_equal([groups.scale, groups.offset], [again.scale, again.offset])
    codes, ids = quantize_patches(spoilt, groups, masks)
    assert not ids[~masks.reshape(6, -1)].any()
    assert not codes.reshape(pictures.shape)[~pixels].any()
    expected = quantize_patches(pictures, groups)
    np.testing.assert_array_equal(
        codes.reshape(pictures.shape)[pixels], expected[0].reshape(pictures.shape)[pixels]
    )
    np.testing.assert_array_equal(ids[masks.reshape(6, -1)], expected[1][masks.reshape(6, -1)])


# Samples and arguments that are refused --------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_sample_that_is_not_finite_is_named(bad):
    pictures = np.zeros((700, 32, 32), "f4")
    groups = fit_groups(pictures, 2, 4)
    pictures[613, 20, 31] = bad
    with pytest.raises(SampleError, match="sample 613: a value is NaN or infinite"):
        quantize_patches(pictures, groups)
    with pytest.raises(SampleError, match="NaN or infinite"):
        fit_groups(pictures[610:620], 2, 4)


@pytest.mark.parametrize(
    "values", [np.zeros((1, 4), "u1"), np.zeros((1, 4, 4, 1, 1), "u1"), np.zeros((1, 4, 4), "f8")]
)
def test_other_shapes_and_dtypes_are_refused(values):
    with pytest.raises(ValueError, match="patch: "):
        quantize_patches(values, groups_of([1], [0]))
    with pytest.raises(ValueError, match="patch: "):
        fit_groups(values, 2, 4)


def arguments(**changes):
    """Arguments of `dequantize_patches` for two samples of 2 x 3 and 4 x 2 with patches of 2."""
    made = {
        "codes": np.zeros(14, "u2"), "missing": np.zeros(2, "u1"), "ids": np.zeros(4, "u2"),
        "scale": np.ones(3, "f4"), "offset": np.ones(3, "f4"),
        "shapes": np.array([[2, 3], [4, 2]]), "patch": 2, "masks": None,
    }  # fmt: skip
    return made | changes


HUGE = 1 << 28


@pytest.mark.parametrize(
    "changes",
    [
        {"codes": np.zeros(13, "u2")},
        {"codes": np.zeros(15, "u2")},
        {"ids": np.zeros(3, "u2")},
        {"ids": np.zeros(5, "u2")},
        {"missing": np.zeros(3, "u1")},
        {"missing": np.full(2, 17, "u1")},
        {"offset": np.ones(2, "f4")},
        {"scale": np.ones((3, 1), "f4"), "offset": np.ones((3, 1), "f4")},
        {"shapes": np.array([[2, 3], [4, -2]])},
        {"shapes": np.array([2, 3])},
        {"shapes": np.array([[2, 3, 1, 1], [4, 2, 1, 1]])},
        {"shapes": np.array([[HUGE, HUGE, HUGE], [2, 4, 1]])},
        {"shapes": np.array([[HUGE, 2, 0], [2, 4, 1]])},
        {"shapes": np.array([[1 << 62, 4], [2, 4]])},
        {"patch": 0},
        {"patch": -1},
        {"patch": 3},
        {"patch": 1 << 80},
        {"masks": [np.ones((1, 2), "?")]},
        {"masks": [np.ones((1, 2), "?"), np.ones((1, 2), "?")]},
        {"masks": [np.ones((1, 2), "?"), np.zeros((2, 1), "?")]},
        {"masks": [np.ones((1, 2), "u1"), np.ones((2, 1), "u1")]},
        {"output": "float16"},
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(changes):
    assert dequantize_patches(**arguments()).tolist() == [1] * 14
    with pytest.raises(ValueError, match=r"sample|codes|patches|shapes|missing|masks|output"):
        dequantize_patches(**arguments(**changes))


@pytest.mark.parametrize("name", ["codes", "ids", "missing"])
def test_wider_integers_are_refused(name):
    with pytest.raises(TypeError, match="cast"):
        dequantize_patches(**arguments(**{name: arguments()[name].astype("i8")}))


@pytest.mark.parametrize("output", ["float32", "uint8"])
@pytest.mark.parametrize(("place", "bad"), [(0, 3), (3, 65535), (2, 3)])
def test_ids_without_a_group_are_corrupt(output, place, bad):
    ids = np.zeros(4, "u2")
    ids[place] = bad
    with pytest.raises(CorruptShardError, match=f"group id {place} of the chunk is {bad}"):
        dequantize_patches(**arguments(ids=ids, output=output))


def test_no_samples_are_no_values():
    none = {"codes": np.empty(0, "u2"), "missing": np.empty(0, "u1"), "ids": np.empty(0, "u2")}
    found = dequantize_patches(**arguments(**none, shapes=np.empty((0, 3), "i8"), masks=[]))
    assert (found.shape, found.dtype) == ((0,), "f4")


def test_quantizing_each_patch_alone_keeps_its_ends():
    pictures = made_pictures(2)
    back = quantize_alone(pictures, 2, 5)
    for block, own in zip(cut(pictures / 255, 5), cut(back, 5), strict=True):
        np.testing.assert_allclose(own.values.min(axis=1), block.values.min(axis=1), atol=1e-6)
        np.testing.assert_allclose(own.values.max(axis=1), block.values.max(axis=1), atol=1e-6)
