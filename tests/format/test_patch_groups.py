"""How groups of patches are found, what they cost, and how well the ways to find them do."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat.kernels import plain_patches
from dsqformat.quantize.patch import (
    PatchGroups,
    fit_groups,
    group_count_for_budget,
    largest_group_count,
    quantize_alone,
    quantize_patches,
    storage_bits,
    storage_rows,
)
from dsqformat.quantize.patch import groups as groups_module
from dsqformat.quantize.patch.groups import as_unit, assign, nearest
from dsqformat.quantize.patch.k_means import k_means
from dsqformat.quantize.patch.layout import cut
from dsqformat.quantize.patch.sampling import sample_patches
from patch_pictures import made_pictures, photographs, psnr

SAMPLING = "dsqformat.quantize.patch.sampling"
FITTING = "dsqformat.quantize.patch.fitting"


def squared_error(pictures, groups):
    """Squared error of all patches in units of the decoder, before float32 rounds."""
    return sum(
        assign(as_unit(block.values), groups).error.sum() for block in cut(pictures, groups.patch)
    )


def quality(pictures, groups):
    return 10 * np.log10(pictures.size / squared_error(pictures, groups))


# Ways to group ---------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [photographs, made_pictures])
def test_ordering_at_2_bits_with_64_groups(source):
    pictures = source()
    found = {
        method: quality(pictures, fit_groups(pictures, 2, 64, method=method))
        for method in ("distortion", "min_max", "compat")
    }
    alone = psnr(pictures / 255, quantize_alone(pictures, 2, 5))
    one = psnr(pictures / 255, quantize_alone(pictures, 2, 32))
    assert found["distortion"] > alone + 0.5
    assert alone > found["min_max"] + 0.5
    assert found["min_max"] > found["compat"] + 0.5
    # Groups are worth their ids: a range for each picture is far behind.
    assert found["distortion"] > one + 3


def test_more_groups_distort_less():
    pictures = made_pictures()
    errors = [squared_error(pictures, fit_groups(pictures, 2, g)) for g in (1, 4, 16, 64, 256)]
    assert all(b < a for a, b in itertools.pairwise(errors))


def test_distortion_never_grows_with_rounds(monkeypatch):
    # With all groups tried, each round can only improve on the groups and codes before it.
    pictures = made_pictures(12)
    monkeypatch.setattr(groups_module, "CANDIDATES", 1 << 16)
    monkeypatch.setattr(f"{FITTING}.LEAST_GAIN", 0.0)
    errors = []
    for rounds in range(7):
        monkeypatch.setattr(f"{FITTING}.DISTORTION_ROUNDS", rounds)
        errors.append(squared_error(pictures, fit_groups(pictures, 2, 12)))
    assert all(b <= a * (1 + 1e-6) for a, b in itertools.pairwise(errors))
    assert errors[-1] < 0.95 * errors[0]


def test_few_candidates_are_nearly_as_good_as_all(monkeypatch):
    pictures = made_pictures(60)
    groups = fit_groups(pictures, 2, 256)
    near = squared_error(pictures, groups)
    monkeypatch.setattr(groups_module, "CANDIDATES", 1 << 16)
    assert squared_error(pictures, groups) <= near <= 1.02 * squared_error(pictures, groups)


def test_as_many_groups_as_patches_equal_ranges_of_their_own():
    pictures = made_pictures(1)
    groups = fit_groups(pictures, 2, 10_000, method="min_max")
    assert len(groups) == 49
    alone = ((quantize_alone(pictures, 2, 5) - pictures / 255) ** 2).sum()
    assert squared_error(pictures, groups) == pytest.approx(alone, rel=1e-4)


def test_groups_are_stored_in_order_and_with_their_centres():
    pictures = made_pictures(30)
    for method in ("distortion", "min_max", "compat"):
        groups = fit_groups(pictures, 2, 20, method=method)
        pairs = list(zip(groups.offset.tolist(), groups.scale.tolist(), strict=True))
        assert pairs == sorted(pairs)
        assert groups.centres.shape == (20, 2)
        if method != "compat":
            # Scale 0.3 wide where values are 0.1 apart would mean that centres were mixed up.
            middle = groups.offset + groups.top * groups.scale / 2
            assert np.corrcoef(middle, groups.centres.mean(axis=1))[0, 1] > 0.95


def test_fitting_is_deterministic():
    pictures = made_pictures(10)
    first, second, other = (fit_groups(pictures, 3, 16, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.scale, second.scale)
    np.testing.assert_array_equal(first.offset, second.offset)
    assert not np.array_equal(first.offset, other.offset)


def test_samples_of_several_shapes_share_groups():
    pictures = made_pictures(6)
    parts = [p[: 20 + 3 * i, : 31 - 4 * i] for i, p in enumerate(pictures)]
    groups = fit_groups(parts, 2, 32)
    assert all(quality(part[np.newaxis], groups) > 24 for part in parts)
    # One array and a list of its samples are the same.
    same = fit_groups(list(pictures), 2, 8), fit_groups(pictures, 2, 8)
    np.testing.assert_array_equal(same[0].scale, same[1].scale)


@pytest.mark.parametrize(
    ("shape", "values", "patches"), [((0, 4, 4), 16, 1), ((3, 0, 4), 0, 0), ((2, 4, 4, 0), 0, 0)]
)
def test_no_values_are_one_group(shape, values, patches):
    groups = fit_groups(np.zeros(shape, "u1"), 2, 4)
    assert (groups.scale.tolist(), groups.offset.tolist(), groups.id_bits) == ([0], [0], 0)
    codes, ids = quantize_patches(np.zeros(shape, "u1"), groups)
    assert (codes.shape, ids.shape) == ((shape[0], values), (shape[0], patches))


@pytest.mark.parametrize(
    "change",
    [{"bits": 0}, {"bits": 9}, {"group_count": 0}, {"group_count": 65537}, {"method": "best"},
     {"patch": 0}],
)  # fmt: skip
def test_arguments_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match="expected"):
        fit_groups(made_pictures(1), **{"bits": 2, "group_count": 4, **change})


# k-means ---------------------------------------------------------------------------------------


def test_k_means_finds_separate_clusters():
    points = np.concatenate([np.full((9, 2), v) for v in (0.0, 5.0, 9.0)])
    group = k_means(points, 3, np.random.default_rng(0), 25)
    assert [len(set(group[i : i + 9])) for i in (0, 9, 18)] == [1, 1, 1]
    assert len(set(group)) == 3
    assert k_means(points, 7, np.random.default_rng(0), 25).max() == 2


@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 9))
def test_nearest_is_the_lowest_of_those_that_tie(seed, points, centres):
    rng = np.random.default_rng(seed)
    x, c = rng.integers(0, 4, (points, 2)) * 1.0, rng.integers(0, 4, (centres, 2)) * 1.0
    distance = ((x[:, np.newaxis] - c) ** 2).sum(axis=2)
    assert nearest(x, c).tolist() == distance.argmin(axis=1).tolist()


# The sample ------------------------------------------------------------------------------------


def test_all_patches_are_looked_at_if_few_and_an_even_part_if_many(monkeypatch):
    # The values of a patch are its number.
    numbers = np.arange(50 * 49, dtype="f4").reshape(50, 7, 7).repeat(5, 1).repeat(5, 2)
    (block,) = sample_patches(numbers, 5)
    assert block[:, 0].tolist() == list(range(50 * 49))
    monkeypatch.setattr(f"{SAMPLING}.FIT_PATCHES", 245)
    (block,) = sample_patches(numbers, 5)
    chosen = block[:, 0].astype(int)
    assert len(chosen) == pytest.approx(245, abs=3)
    assert np.diff(chosen).max() <= 20
    # No row or column of patches is favoured.
    assert np.bincount(chosen % 7).min() > 25
    assert np.bincount(chosen // 7 % 7).min() > 25


def test_large_patches_are_bounded_by_their_values(monkeypatch):
    monkeypatch.setattr(f"{SAMPLING}.FIT_VALUES", 32 * 32 * 5)
    (block,) = sample_patches(made_pictures(40, 32), 64)
    assert 1 <= len(block) <= 4


def test_memory_of_fitting_does_not_grow_with_the_samples(monkeypatch):
    monkeypatch.setattr(f"{SAMPLING}.FIT_PATCHES", 2000)
    pictures = made_pictures(64, 20)
    peaks = []
    for repeat in (1, 4, 64):
        values = np.tile(pictures, (repeat, 1, 1, 1))
        tracemalloc.start()
        fit_groups(values, 2, 16)
        quantize_patches(values[:500], fit_groups(values, 2, 16))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.3 * peaks[1] + (4 << 20)
    assert peaks[2] < 40 << 20


# Storage ---------------------------------------------------------------------------------------


def test_storage_as_the_formula_says():
    one = storage_bits(3072, 49, 1, 2, 64)
    assert (one["codes"], one["group_ids"], one["parameters"]) == (6144, 294, 4096)
    # IPC = 1 of CIFAR-10: as many pictures as the paper's budget holds.
    assert storage_bits(3072, 49, 152, 2, 64)["total"] <= 983_040
    assert storage_bits(3072, 49, 153, 2, 64)["total"] > 983_040


def test_storage_as_a_table():
    rows = storage_rows(values=30720, patches=490, samples=10, bits=2, group_count=64)
    assert [row.bits for row in rows] == [61440, 2940, 4096, 68476, 92800, 983_040]
    assert [row.nbytes_per_sample for row in rows] == [768, 36.75, 51.2, 855.95, 1160, 12288]
    assert rows[3].name == "total"


@given(
    st.integers(1, 200), st.integers(1, 60), st.integers(1, 50), st.integers(1, 8),
    st.integers(1, 4000),
)  # fmt: skip
def test_largest_group_count_fits_and_one_more_does_not(values, patches, samples, bits, budget):
    if storage_bits(values, patches, samples, bits, 1)["total"] > 8 * budget:
        with pytest.raises(ValueError, match="not one group"):
            largest_group_count(budget, values, patches, samples, bits)
        return
    count = largest_group_count(budget, values, patches, samples, bits)
    assert storage_bits(values, patches, samples, bits, count)["total"] <= 8 * budget
    if count < patches * samples:
        assert storage_bits(values, patches, samples, bits, count + 1)["total"] > 8 * budget


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 5000))
def test_the_group_count_for_a_budget_fits_and_is_near_the_largest(base, per_group, limit):
    asked = []

    def measure(count):
        asked.append(count)
        return base + per_group * count

    budget = base + per_group * 700
    count = group_count_for_budget(measure, budget, limit)
    assert count in asked
    assert max(0.88 * min(700, limit), 1) <= count <= min(700, limit)
    assert len(asked) == len(set(asked)) <= 8
    with pytest.raises(ValueError, match="one group takes"):
        group_count_for_budget(measure, base, limit)


@given(st.lists(st.integers(0, 100), min_size=300, max_size=300), st.integers(0, 100))
def test_the_group_count_for_a_budget_fits_whatever_is_measured(nbytes, budget):
    if nbytes[0] > budget:
        return
    count = group_count_for_budget(lambda g: nbytes[g - 1], budget, 300)
    assert nbytes[count - 1] <= budget


def test_a_measured_budget_is_met():
    import zlib

    pictures = made_pictures(24)

    def measure(count):
        groups = fit_groups(pictures, 2, count)
        codes, ids = quantize_patches(pictures, groups)
        coded = zlib.compress(codes.astype("u1").tobytes()), zlib.compress(ids.tobytes())
        return sum(map(len, coded)) + 8 * len(groups)

    smallest, budget = measure(1), measure(40)
    assert smallest < budget
    count = group_count_for_budget(measure, budget, 256)
    assert measure(count) <= budget
    assert count > 8
    assert count == group_count_for_budget(measure, budget, 256)


def test_the_limit_of_groups_is_checked():
    for limit in (0, 65537):
        with pytest.raises(ValueError, match="expected 1 to 65536"):
            group_count_for_budget(lambda count: count, 10, limit)


@pytest.mark.parametrize(
    ("count", "id_bits"), [(1, 0), (2, 1), (3, 2), (64, 6), (65, 7), (65536, 16)]
)
def test_groups_know_their_codes_and_ids(count, id_bits):
    groups = PatchGroups(3, 5, np.ones(count, "f4"), np.ones(count, "f4"))
    assert (groups.top, groups.id_bits) == (7, id_bits)


def test_groups_found_in_numpy_are_the_same(monkeypatch):
    pictures = made_pictures(8, 23)
    for method in ("distortion", "compat"):
        expected = fit_groups(pictures, 2, 30, method=method)
        codes, ids = quantize_patches(pictures, expected)
        with monkeypatch.context() as patched:
            patched.setattr(groups_module, "kernels", plain_patches)
            found = fit_groups(pictures, 2, 30, method=method)
            same = quantize_patches(pictures, found)
        np.testing.assert_array_equal(found.scale, expected.scale)
        np.testing.assert_array_equal(found.offset, expected.offset)
        np.testing.assert_array_equal(same[0], codes)
        np.testing.assert_array_equal(same[1], ids)
