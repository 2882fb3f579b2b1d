"""Patches with shared parameters: hand vectors, properties, ordering of the methods."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from dsqformat.quantize.patch.quantization import (
    PatchCodes,
    dequantize,
    largest_group_count,
    quantize,
    quantize_alone,
    storage_bits,
)
from dsqformat.quantize.patch.fitting import (
    PatchGroups,
    best_groups,
    code_patches,
    fit_groups,
    k_means,
    unit_blocks,
)
from dsqformat.quantize.patch.layout import cut, join
from skimage import data


def photographs():
    pictures = [data.astronaut(), data.chelsea(), data.coffee()]
    tiles = [
        picture[y : y + 128 : 4, x : x + 128 : 4]
        for picture in pictures
        for y in range(0, picture.shape[0] - 127, 128)
        for x in range(0, picture.shape[1] - 127, 128)
    ]
    return np.array(tiles)


@pytest.fixture(scope="module")
def tiles():
    return photographs()


def psnr(values, back):
    return 10 * np.log10(1 / np.mean((values / 255.0 - back) ** 2))


def test_hand_vector():
    patch = np.array([[[0.2, 0.45, 0.8]]], "f4")
    groups = PatchGroups(2, 5, np.array([0.2], "f4"), np.array([0.2], "f4"))
    coded = quantize(patch, groups)
    assert coded.codes.ravel().tolist() == [0, 1, 3]
    np.testing.assert_allclose(dequantize(coded, groups).ravel(), [0.2, 0.4, 0.8], rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(1, 12)] * 3, st.integers(1, 4)), st.integers(1, 13), st.booleans())
def test_cut_and_join_are_inverse(shape, patch, grey):
    shape = shape[:3] if grey else shape
    values = np.random.default_rng(0).integers(0, 256, shape).astype("u1")
    blocks = cut(values, patch)
    np.testing.assert_array_equal(join(blocks, shape, patch), values)
    numbers = np.sort(np.concatenate([block.numbers for block in blocks]))
    np.testing.assert_array_equal(numbers, np.arange(len(numbers)))


def test_patches_are_numbered_in_raster_order():
    values = np.arange(7 * 6).reshape(1, 7, 6)
    owner = np.zeros((1, 7, 6), int)
    for y in range(7):
        for x in range(6):
            owner[0, y, x] = (y // 5) * 2 + x // 5
    for block in cut(values, 5):
        for number, cells in zip(block.numbers, block.values, strict=True):
            assert set(owner.ravel()[cells]) == {number}


def test_ordering_at_2_bits_with_64_groups(tiles):
    def quality(method):
        groups = fit_groups(tiles, 2, 64, method=method)
        return psnr(tiles, dequantize(quantize(tiles, groups), groups))

    alone = psnr(tiles, quantize_alone(tiles, 2, 5))
    assert quality("distortion") > alone > quality("min_max") > quality("compat")


def test_fitting_is_deterministic(tiles):
    first, second = (fit_groups(tiles[:8], 3, 16, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.scale, second.scale)
    np.testing.assert_array_equal(first.offset, second.offset)


def test_distortion_never_grows_with_rounds(tiles, monkeypatch):
    errors = []
    block = unit_blocks(tiles[:8], 5)
    for rounds in range(5):
        monkeypatch.setattr("dsqformat.quantize.patch.fitting.DISTORTION_ROUNDS", rounds)
        groups = fit_groups(tiles[:8], 2, 12)
        errors.append(sum(best_groups(b, 3, groups.scale, groups.offset)[1].sum() for b in block))
    assert all(b <= a * (1 + 1e-6) for a, b in itertools.pairwise(errors))


def test_as_many_groups_as_patches_equal_ranges_of_their_own(tiles):
    few = tiles[:1]
    groups = fit_groups(few, 2, 10_000, method="min_max")
    back = dequantize(quantize(few, groups), groups)
    # float32 ranges round apart, which matters at exact ties only.
    assert (np.abs(back - quantize_alone(few, 2, 5)) > 1e-6).mean() < 0.005


def test_constant_patches_come_back():
    values = np.repeat(np.array([0, 7, 255], "u1"), 25).reshape(3, 5, 5)
    for method in ("distortion", "min_max", "compat"):
        groups = fit_groups(values, 2, 3, method=method)
        back = dequantize(quantize(values, groups), groups)
        np.testing.assert_array_equal(np.rint(back * 255), values)


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        "f4",
        st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(-8, 8, width=32),
    ),
    st.integers(1, 8),
    st.integers(1, 6),
    st.sampled_from(["distortion", "min_max", "compat"]),
)
def test_codes_and_ids_are_in_range(values, bits, count, method):
    groups = fit_groups(values, bits, count, patch=3, method=method)
    coded = quantize(values, groups)
    assert len(groups) <= count
    assert coded.group_ids.max() < len(groups)
    assert int(coded.codes.max()) < 1 << bits
    assert np.isfinite(dequantize(coded, groups)).all()


def test_values_within_a_range_are_half_a_step_away(tiles):
    block = unit_blocks(tiles[:2], 5)[0]
    low, high = block.min(axis=1).astype("f4"), block.max(axis=1).astype("f4")
    scale = ((high - low) / 7).astype("f4")
    back = code_patches(block, 7, scale, low) * scale[:, np.newaxis] + low[:, np.newaxis]
    assert (np.abs(back - block) <= scale[:, np.newaxis] / 2 + 1e-6).all()


def test_k_means_finds_separate_clusters():
    points = np.concatenate([np.full((9, 2), v) for v in (0.0, 5.0, 9.0)])
    group = k_means(points, 3, np.random.default_rng(0))
    assert [len(set(group[i : i + 9])) for i in (0, 9, 18)] == [1, 1, 1]
    assert len(set(group)) == 3
    assert k_means(points, 7, np.random.default_rng(0)).max() == 2


def test_storage_as_the_formula_says():
    one = storage_bits(3072, 49, 1, 2, 64)
    assert (one["codes"], one["group_ids"], one["parameters"]) == (6144, 294, 4096)
    # IPC = 1 of CIFAR-10: as many pictures as the paper's budget holds.
    assert storage_bits(3072, 49, 152, 2, 64)["total"] <= 983_040
    assert storage_bits(3072, 49, 153, 2, 64)["total"] > 983_040


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 200),
    st.integers(1, 60),
    st.integers(1, 50),
    st.integers(1, 8),
    st.integers(1, 4000),
)
def test_largest_group_count_fits_and_one_more_does_not(values, patches, samples, bits, budget):
    if storage_bits(values, patches, samples, bits, 1)["total"] > 8 * budget:
        with pytest.raises(ValueError, match="not one group"):
            largest_group_count(budget, values, patches, samples, bits)
        return
    count = largest_group_count(budget, values, patches, samples, bits)
    assert storage_bits(values, patches, samples, bits, count)["total"] <= 8 * budget
    if count < patches * samples:
        assert storage_bits(values, patches, samples, bits, count + 1)["total"] > 8 * budget


def test_bad_input_is_refused(tiles):
    with pytest.raises(ValueError, match="NaN"):
        fit_groups(np.full((1, 4, 4), np.nan, "f4"), 2, 4)
    with pytest.raises(ValueError, match="bits"):
        fit_groups(tiles, 9, 4)
    with pytest.raises(ValueError, match="no values"):
        fit_groups(np.zeros((0, 4, 4), "u1"), 2, 4)
    groups = fit_groups(tiles[:2], 2, 4)
    bad = PatchCodes(np.zeros((1, 5, 5), "u1"), np.full((1, 1, 1), 4, "u2"))
    with pytest.raises(ValueError, match="group id"):
        dequantize(bad, groups)


def test_samples_of_several_shapes(tiles):
    groups = fit_groups([tiles[0], tiles[1][:20, :13]], 2, 16)
    part = tiles[1][np.newaxis, :20, :13]
    assert psnr(part, dequantize(quantize(part, groups), groups)) > 25
