"""Quotas with exact totals, and the samples drawn by them."""

import os
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsqformat.errors import SelectionError
from dsqformat.select import (
    Bins,
    apportion,
    bin_quotas,
    make_bins,
    sample_bins,
    sample_bins_adaptively,
)
from dsqformat.select.ratios import exact_ratio, keep_count, share_count
from dsqformat.select.streams import keyed_order

SOAK = os.environ.get("DSQ_SOAK") == "1"

# Recovered from what the authors of adaptive sampling published.
IMPORTANCE = [1, 0.985, 1.031, 1.182, 1.094, 1.176, 1.083, 1.089, 1.011, 1]
GEOMETRIC = [500, 450, 405, 364, 328, 295, 266, 239, 215, 1938]
EQUAL = np.full(10, 5000)


def some_bins(sizes, seed=0):
    """Bins of such sizes with shuffled members and ranks."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(np.repeat(np.arange(len(sizes)), sizes)).astype("i4")
    ranks = np.empty(len(ids), "i4")
    for number, size in enumerate(sizes):
        ranks[ids == number] = rng.permutation(size)
    return Bins(ids, ranks, len(sizes), 0)


# Apportionment ---------------------------------------------------------------------------------

weights = st.one_of(st.integers(0, 9), st.floats(0, 1e6), st.fractions(0, 9))


@given(st.lists(st.tuples(weights, st.integers(0, 50)), min_size=1, max_size=12), st.floats(0, 1))
@settings(max_examples=5000 if SOAK else 100)
def test_totals_are_exact_and_nobody_gets_more_than_there_is(cells, share):
    shares, sizes = zip(*cells, strict=True)
    total = int(share * sum(sizes))
    result = apportion(shares, sizes, total)
    assert result.sum() == total
    assert ((result >= 0) & (result <= sizes)).all()
    # Of equal cells the lower one gets the unit that is left over.
    for i in range(len(cells)):
        for j in range(i):
            if cells[i] == cells[j]:
                assert 0 <= result[j] - result[i] <= 1


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 50)), min_size=1, max_size=9))
def test_quotas_are_within_one_of_their_share_unless_capped(cells):
    shares, sizes = zip(*cells, strict=True)
    total = sum(sizes) // 2
    result = apportion(shares, sizes, total)
    open_cells = [i for i in range(len(cells)) if result[i] < sizes[i]]
    if open_cells:
        rate = max(Fraction(int(result[i]), shares[i]) for i in open_cells)
        for i, size in enumerate(sizes):
            # Whoever is full is so because its share is at least its size, within a unit.
            assert result[i] < size or shares[i] * rate >= size - 1 - shares[i]


def test_the_vector_with_a_cap():
    assert apportion([0.5, 0.3, 0.2], [10, 100, 100], 100).tolist() == [10, 54, 36]
    assert apportion([1, 1, 1], [3, 3, 3], 4).tolist() == [2, 1, 1]
    assert apportion([0, 0, 1], [3, 5, 2], 6).tolist() == [2, 2, 2]
    assert apportion([0.1] * 10, [10] * 10, 100).tolist() == [10] * 10


def test_ties_are_ties_in_exact_arithmetic():
    # 0.1 + 0.2 is not 0.3 in floats; as fractions of ten these are.
    assert apportion([Fraction(1, 10)] * 3, [9, 9, 9], 10).tolist() == [4, 3, 3]
    assert apportion([7, 7, 7, 7, 7, 7], [100] * 6, 15).tolist() == [3, 3, 3, 2, 2, 2]


@pytest.mark.parametrize(
    ("shares", "sizes", "total", "message"),
    [
        ([1, 1], [2, 2], 5, "5 samples were asked for, there are 4"),
        ([1, -1], [2, 2], 1, "a negative one"),
        ([1, np.nan], [2, 2], 1, "expected finite numbers"),
        ([1, np.inf], [2, 2], 1, "expected finite numbers"),
        ([1], [2, 2], 1, "got 1, expected one for each of 2"),
    ],
)
def test_what_cannot_be_divided(shares, sizes, total, message):
    with pytest.raises(SelectionError, match=message):
        apportion(shares, sizes, total)


# Ratios ----------------------------------------------------------------------------------------


def test_ratios_mean_what_was_written():
    assert exact_ratio(0.1) == exact_ratio("1/10") == Fraction(1, 10)
    assert exact_ratio(np.float64(0.29)) == Fraction(29, 100)
    assert exact_ratio(np.float32(0.5)) == exact_ratio(np.int64(1)) / 2
    assert share_count(0.29, 100) == 29
    assert int(0.29 * 100) == 28
    assert keep_count(0.125, 500) == 62
    assert keep_count(1, 7) == 7
    assert exact_ratio(1e-05) == exact_ratio(" 1/100000 ") == exact_ratio(".00001")
    assert exact_ratio(5e-324) > 0


NO_RATIOS = [0, -0.1, 1.01, 12.5, float("nan"), float("inf"), "much", "1/0", "1e-99999999"]


@pytest.mark.parametrize("ratio", NO_RATIOS)
def test_keep_ratios_out_of_range(ratio):
    with pytest.raises(SelectionError, match=r"expected more than 0 and at most 1|a finite number"):
        keep_count(ratio, 100)


def test_a_keep_ratio_that_keeps_nothing_names_the_least():
    with pytest.raises(SelectionError, match=r"0\.004 of 100 samples keeps none; ask for at least"):
        keep_count(0.004, 100)
    with pytest.raises(SelectionError, match="expected 0 to 1"):
        share_count(1.5, 10, "beta")


# Streams ---------------------------------------------------------------------------------------


def test_streams_are_permutations_that_differ_by_their_key():
    seen = {tuple(keyed_order(50, seed, *key).tolist()) for seed in (0, 1) for key in [(), (0,)]}
    seen |= {tuple(keyed_order(50, 2**32, a, b).tolist()) for a in (0, 1) for b in (0, 1)}
    assert len(seen) == 8
    assert all(sorted(order) == list(range(50)) for order in seen)
    # What NumPy promises never to change, and with it every selection.
    assert keyed_order(8, 7, 1, 2).tolist() == [1, 3, 5, 4, 7, 0, 2, 6]
    with pytest.raises(SelectionError, match="seed: got -1"):
        keyed_order(3, -1)


# Uniform ---------------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    classes=st.integers(1, 4),
    ratio=st.floats(0.2, 1),
    seed=st.integers(0, 99),
    choice=st.sampled_from(["random", "rank"]),
)
def test_uniform_samples_have_the_exact_total_and_every_cell_its_share(
    sizes, classes, ratio, seed, choice
):
    bins = some_bins(sizes, seed)
    labels = np.random.default_rng(seed).integers(0, classes, len(bins))
    if not round(ratio * len(bins)):
        return
    chosen = sample_bins(bins, ratio, labels, seed=seed, choice=choice)
    assert len(chosen) == round(exact_ratio(ratio) * len(bins))
    assert (np.diff(chosen) > 0).all()
    for number in range(len(sizes)):
        for label in range(classes):
            cell = (bins.bin_ids == number) & (labels == label)
            assert abs(cell[chosen].sum() - ratio * cell.sum()) < 1
    np.testing.assert_array_equal(
        chosen, sample_bins(bins, ratio, labels, seed=seed, choice=choice)
    )


def test_all_of_it_is_all_of_it():
    bins = some_bins([5, 7, 9])
    assert sample_bins(bins, 1).tolist() == list(range(21))
    assert sample_bins(some_bins([12]), 1.0).tolist() == list(range(12))


def test_a_larger_share_holds_the_smaller():
    bins = some_bins([40, 40, 40])
    for choice in ("random", "rank"):
        parts = [set(sample_bins(bins, r, choice=choice).tolist()) for r in (0.25, 0.5, 0.75)]
        assert parts[0] < parts[1] < parts[2]


def test_by_rank_takes_what_was_picked_first():
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1], 50)
    bins = make_bins(rng.standard_normal((100, 8)), labels, bin_count=5)
    chosen = sample_bins(bins, 0.5, labels, choice="rank")
    assert (bins.ranks[chosen] < 5).all()
    assert len(chosen) == 50


def test_seeds_change_which_and_not_how_many():
    bins = some_bins([30, 30])
    one, two = sample_bins(bins, 0.5, seed=1), sample_bins(bins, 0.5, seed=2)
    assert len(one) == len(two) == 30
    assert one.tolist() != two.tolist()


def test_the_legacy_generator_takes_the_same_places_of_every_bin():
    labels = np.tile(np.repeat(np.arange(10), 500), 10)
    ids = np.repeat(np.arange(10), 5000).astype("i4")
    bins = Bins(ids, np.tile(np.arange(5000), 10).astype("i4"), 10, 0)
    chosen = sample_bins(bins, 0.125, labels, compat_rng=True, seed=3)
    # 62.5 rounds to 62: as in the file of 12.5 % that the authors published.
    assert len(chosen) == 6200
    places = (chosen % 5000).reshape(10, 620)
    assert (places == places[0]).all()
    assert len(sample_bins(bins, 0.125, labels)) == 6250


# Adaptive --------------------------------------------------------------------------------------


def test_quotas_of_the_paper_and_of_the_code():
    assert bin_quotas(EQUAL, IMPORTANCE, 5000, alpha=0).tolist() == [500] * 10
    assert bin_quotas(EQUAL, IMPORTANCE, 5000).tolist() == [
        480, 476, 490, 536, 509, 534, 505, 507, 483, 480,
    ]  # fmt: skip
    assert bin_quotas(EQUAL, IMPORTANCE, 45000, alpha=1).tolist() == [
        4225, 4162, 4356, 4994, 4622, 4968, 4576, 4601, 4271, 4225,
    ]  # fmt: skip
    sizes = np.array(GEOMETRIC)
    assert bin_quotas(sizes, IMPORTANCE, 625, mode="size_weighted").tolist() == [
        60, 53, 50, 52, 43, 42, 35, 31, 26, 233,
    ]  # fmt: skip


def test_the_equation_by_the_letter_knows_no_total():
    shares = np.array(IMPORTANCE) / sum(IMPORTANCE)
    quotas = bin_quotas(EQUAL, shares, 17, mode="literal")
    assert abs(quotas.sum() - 5000) <= 10
    assert bin_quotas(EQUAL, [2.0] * 10, 17, mode="literal", alpha=1).tolist() == [5000] * 10


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    mode=st.sampled_from(["mixture", "size_weighted"]),
    alpha=st.sampled_from([0, "0.65", 1]),
    ratio=st.floats(0.2, 1),
    seed=st.integers(0, 99),
)
def test_adaptive_samples_have_the_exact_total(sizes, mode, alpha, ratio, seed):
    rng = np.random.default_rng(seed)
    bins, values = some_bins(sizes, seed), rng.random(len(sizes)) * 2
    labels = rng.integers(0, 3, len(bins))
    total = round(exact_ratio(ratio) * len(bins))
    if not total:
        return
    chosen = sample_bins_adaptively(bins, values, ratio, labels, mode=mode, alpha=alpha, seed=seed)
    quotas = bin_quotas(bins.sizes(), values, total, mode=mode, alpha=alpha)
    assert len(chosen) == total
    assert np.bincount(bins.bin_ids[chosen], minlength=len(sizes)).tolist() == quotas.tolist()
    for number, quota in enumerate(quotas.tolist()):
        inside = bins.bin_ids == number
        for label in range(3):
            cell = inside & (labels == label)
            assert abs(cell[chosen].sum() - quota * cell.sum() / inside.sum()) < 1


@pytest.mark.parametrize(
    ("importance", "options", "message"),
    [
        ([1, 1, 1], {}, r"got shape \(3,\), expected \(2,\)"),
        ([1, -1], {}, "at least 0"),
        ([0, 0], {}, "not all of them"),
        ([1, np.nan], {}, "finite"),
        ([1, 1], {"alpha": 1.5}, "alpha: got 1.5, expected 0 to 1"),
        ([1, 1], {"mode": "best"}, "mode: got 'best', expected one of mixture"),
    ],
)
def test_quotas_that_cannot_be(importance, options, message):
    with pytest.raises(SelectionError, match=message):
        bin_quotas(np.array([5, 5]), importance, 4, **options)


def test_choices_that_cannot_be():
    with pytest.raises(SelectionError, match="choice: got 'best', expected one of random, rank"):
        sample_bins(some_bins([4]), 0.5, choice="best")
    with pytest.raises(SelectionError, match=r"labels: got shape \(3,\), expected \(4,\)"):
        sample_bins(some_bins([4]), 0.5, np.zeros(3, "i8"))
