"""Bins by GraphCut: the papers' formula to the letter, ties, sizes, invariances, errors."""

import itertools
import os
import threading
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsqformat.errors import DsqError, SelectionError
from dsqformat.select import (
    LastLayerGradients,
    bin_size_table,
    estimate_bins,
    make_bins,
)
from dsqformat.select.graph_cut import greedy_order
from dsqformat.select.points import METRICS, points_of
from literal_cut import literal_order

SOAK = os.environ.get("DSQ_SOAK") == "1"

metrics = st.sampled_from(METRICS)


def order_of(features, sizes, metric, threads=1):
    count = len(features)
    points = points_of(features, np.arange(count), metric)
    return greedy_order(points, np.array(sizes), threads=threads).tolist()


def fractions(array):
    return [[Fraction(float(value)) for value in row] for row in array]


def outer(gradients):
    """The gradients written out, C (d + 1) numbers each."""
    ones = np.ones((len(gradients), int(gradients.bias)))
    hidden = np.hstack([np.asarray(gradients.hiddens, "f8"), ones])
    return np.einsum("nc,nd->ncd", np.asarray(gradients.residuals, "f8"), hidden).reshape(
        len(gradients), -1
    )


@st.composite
def cuts(draw, most=14):
    """Whole numbers as features, with many zeros, duplicates, multiples and ties; and sizes."""
    count, width = draw(st.integers(1, most)), draw(st.integers(1, 4))
    reach = draw(st.sampled_from([0, 1, 2, 7]))
    rows = st.lists(st.integers(-reach, reach), min_size=width, max_size=width)
    features = np.array(draw(st.lists(rows, min_size=count, max_size=count)), "f8")
    if draw(st.booleans()):  # duplicates and multiples of the first rows
        copies = draw(st.lists(st.integers(0, count - 1), min_size=count, max_size=count))
        features = features[copies] * draw(st.sampled_from([1, 3, 0.5]))
    cutting = sorted(draw(st.sets(st.integers(1, count - 1), max_size=3))) if count > 1 else []
    sizes = np.diff([0, *cutting, count]).tolist()
    return features, sizes


# The formula -----------------------------------------------------------------------------------


@given(cuts(), metrics, st.sampled_from(["f4", "f8"]))
@settings(max_examples=5000 if SOAK else 100)
def test_degenerate_features_in_the_order_of_the_formula(drawn, metric, dtype):
    features, sizes = drawn
    expected = literal_order(fractions(features), sizes, metric)
    assert order_of(features.astype(dtype), sizes, metric) == expected


@given(st.integers(0, 2**32), st.integers(2, 24), st.integers(1, 40), metrics)
@settings(max_examples=500 if SOAK else 20)
def test_random_features_in_the_order_of_the_formula(seed, count, width, metric):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((count, width)) + rng.integers(0, 3)
    if seed % 2:
        features = features.astype("f4")
    sizes = bin_size_table(np.array([count]), min(3, count))[0].tolist()
    assert order_of(features, sizes, metric) == literal_order(fractions(features), sizes, metric)


def euclidean_order(features, sizes):
    """The paper's formula with all distances at hand, for more samples than fractions allow."""
    squares = ((features[:, None, :] - features[None]) ** 2).sum(axis=2)
    pool, order = np.ones(len(features), "?"), []
    for size in sizes:
        chosen = np.zeros(len(features), "?")
        for _ in range(size):
            values = squares[chosen].sum(axis=0) - squares[pool & ~chosen].sum(axis=0)
            values[~pool | chosen] = -np.inf
            order.append(int(values.argmax()))
            chosen[order[-1]] = True
        pool &= ~chosen
    return order


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_hundreds_of_samples_in_the_order_of_the_formula(seed, metric):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((330, 24)) + rng.random(24)
    features[100:110] = features[5]
    sizes = [33] * 10
    if metric == "dot":
        # The rest of the formula: what it is with a square of 0 for each.
        kernel = features @ features.T
        pool, expected = np.ones(330, "?"), []
        for size in sizes:
            chosen = np.zeros(330, "?")
            for _ in range(size):
                values = kernel[pool].sum(axis=0) - 2 * kernel[chosen].sum(axis=0)
                values = np.round(values, 9)  # sums over rows do not tie where numbers do
                values[~pool | chosen] = -np.inf
                expected.append(int(values.argmax()))
                chosen[expected[-1]] = True
            pool &= ~chosen
    else:
        rows = features
        if metric == "cosine":
            rows = features / np.linalg.norm(features, axis=1, keepdims=True)
        expected = euclidean_order(rows, sizes)
    for threads in (1, 3):
        assert order_of(features, sizes, metric, threads) == expected


@given(cuts(most=9), cuts(most=9), metrics, st.booleans())
@settings(max_examples=3000 if SOAK else 50)
def test_gradients_in_the_order_of_what_they_stand_for(drawn, hidden, metric, bias):
    (residuals, sizes), hiddens = drawn, hidden[0]
    hiddens = np.resize(hiddens, (len(residuals), hiddens.shape[1]))
    gradients = LastLayerGradients(residuals, hiddens, bias)
    expected = literal_order(fractions(outer(gradients)), sizes, metric)
    assert order_of(gradients, sizes, metric) == expected


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("classes", "width"), [(3, 40), (40, 3)])
def test_random_gradients_in_the_order_of_what_they_stand_for(metric, classes, width):
    rng = np.random.default_rng(classes)
    gradients = LastLayerGradients(
        rng.standard_normal((200, classes)).astype("f4"), rng.standard_normal((200, width))
    )
    sizes = [50, 50, 100]
    written = outer(gradients)
    assert order_of(gradients, sizes, metric) == order_of(written, sizes, metric)


def test_the_vector_of_one_dimension():
    features = np.array([[0.0], [1], [2], [3], [10]])
    assert order_of(features, [5], "euclidean") == [3, 2, 4, 0, 1]
    assert order_of(features, [2, 3], "euclidean")[:3] == [3, 2, 1]
    bins = make_bins(features, bin_count=2, per_class=False, metric="euclidean")
    assert bins.bin_ids.tolist() == [1, 1, 0, 0, 1]
    assert bins.ranks[[3, 2]].tolist() == [0, 1]
    assert bins.ranks[1] == 0


def test_the_first_pick_is_next_to_the_mean():
    features = np.random.default_rng(3).standard_normal((400, 7)) + 5
    first = order_of(features, [400], "euclidean")[0]
    away = np.linalg.norm(features - features.mean(axis=0), axis=1)
    assert first == away.argmin()


# Invariances -----------------------------------------------------------------------------------


@given(cuts(), st.integers(-50, 50), st.sampled_from([0.5, 2, 3, 1e-150, 1e150, 7e-300]))
def test_orders_survive_what_does_not_change_the_metric(drawn, offset, factor):
    features, sizes = drawn
    moved = order_of(features + offset, sizes, "euclidean")
    assert moved == order_of(features, sizes, "euclidean")
    assert order_of(features * factor, sizes, "euclidean") == moved
    assert order_of(features * factor, sizes, "cosine") == order_of(features, sizes, "cosine")
    turned = features[:, ::-1]
    assert order_of(turned, sizes, "dot") == order_of(features, sizes, "dot")


def test_each_row_may_have_a_scale_of_its_own():
    rng = np.random.default_rng(5)
    features = rng.standard_normal((300, 20))
    scaled = features * 10.0 ** rng.integers(-200, 200, (300, 1))
    for sizes in ([300], [30] * 10):
        assert order_of(scaled, sizes, "cosine") == order_of(features, sizes, "cosine")


def test_a_far_origin_takes_no_digits_away():
    rng = np.random.default_rng(6)
    features = rng.integers(0, 50, (200, 5)) / 64
    assert order_of(features + 2.0**30, [20] * 10, "euclidean") == order_of(
        features, [20] * 10, "euclidean"
    )


@pytest.mark.parametrize("metric", METRICS)
def test_equal_samples_come_in_their_order(metric):
    assert order_of(np.ones((50, 3)), [5] * 10, metric) == list(range(50))
    assert order_of(np.zeros((50, 3)), [5] * 10, metric) == list(range(50))


@given(st.integers(0, 2**32), metrics, st.booleans())
def test_threads_do_not_matter(seed, metric, per_class):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((600, 33)).astype("f4") * 10
    labels = rng.integers(0, 5, 600)
    made = [
        make_bins(features, labels, bin_count=7, metric=metric, per_class=per_class, threads=n)
        for n in (1, 2, 5)
    ]
    for other in made[1:]:
        np.testing.assert_array_equal(other.bin_ids, made[0].bin_ids)
        np.testing.assert_array_equal(other.ranks, made[0].ranks)


# What bins are ---------------------------------------------------------------------------------


@given(
    counts=st.lists(st.integers(4, 30), min_size=1, max_size=6),
    bin_count=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_bins_hold_everything_once_and_each_class_evenly(counts, bin_count, seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([f"c{i}" for i in range(len(counts))], counts))
    features = rng.standard_normal((len(labels), 5))
    bins = make_bins(features, labels, bin_count=bin_count)
    assert len(bins) == sum(bins.sizes()) == len(labels)
    assert np.ptp(bins.sizes()) <= 1
    for name in np.unique(labels):
        sizes = []
        for number in range(bin_count):
            ranks = bins.ranks[(labels == name) & (bins.bin_ids == number)]
            assert sorted(ranks) == list(range(len(ranks)))
            sizes.append(len(ranks))
        assert max(sizes) - min(sizes) <= 1


def test_each_class_is_as_if_it_were_alone():
    rng = np.random.default_rng(8)
    features, labels = rng.standard_normal((90, 6)), np.tile([4, 1, 9], 30)
    bins = make_bins(features, labels, bin_count=5)
    for label in (1, 4, 9):
        alone = make_bins(features[labels == label], bin_count=5, per_class=False)
        np.testing.assert_array_equal(alone.bin_ids, bins.bin_ids[labels == label])
        np.testing.assert_array_equal(alone.ranks, bins.ranks[labels == label])


def test_sizes_of_a_share_of_the_remainder():
    table = bin_size_table(np.array([5000]), 10, "geometric")
    assert table.tolist() == [[500, 450, 405, 364, 328, 295, 266, 239, 215, 1938]]


def test_sizes_as_the_authors_round_them():
    assert (bin_size_table(np.full(10, 5000), 10, "compat") == 500).all()
    table = bin_size_table(np.array([301, 402, 503]), 10, "compat")
    assert table.sum(axis=1).tolist() == [301, 402, 503]
    assert np.ptp(table.sum(axis=0)) > 1
    per_bin, left = round(1206 / 10), np.array([301, 402, 503])
    for column in table.T[:-1]:
        assert column.tolist() == [round(per_bin / left.sum() * count) for count in left]
        left -= column


def test_a_memory_map_will_do(tmp_path):
    features = np.random.default_rng(1).standard_normal((60, 9)).astype("f2")
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(
        make_bins(mapped, per_class=False).bin_ids, make_bins(features, per_class=False).bin_ids
    )


def test_zero_rows_are_counted_and_neutral():
    features = np.array([[0.0, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [1, 1]])
    bins = make_bins(features, per_class=False, bin_count=1)
    assert bins.zero_rows == 1
    assert literal_order(fractions(features), [6], "cosine") == np.argsort(bins.ranks).tolist()


# Progress and cost -----------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("per_class", [True, False])
def test_progress_rises_to_all(threads, per_class):
    rng = np.random.default_rng(2)
    told = []
    make_bins(
        rng.standard_normal((900, 4)),
        rng.integers(0, 3, 900),
        per_class=per_class,
        threads=threads,
        progress=lambda done, total: told.append((done, total)),
    )
    assert len({total for _, total in told}) == 1
    assert all(a < b for a, b in itertools.pairwise(done for done, _ in told))
    assert told[-1][0] == told[-1][1]


class StopError(Exception):
    """What a callback may raise."""


@pytest.mark.parametrize("threads", [1, 2])
def test_progress_may_end_the_run(threads):
    def stop(done, total):
        raise StopError

    features, labels = np.ones((800, 3)), np.arange(800) % 4
    before = threading.active_count()
    with pytest.raises(StopError):
        make_bins(features, labels, threads=threads, progress=stop)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and "ThreadPool" in thread.name:
            thread.join(10)
    assert threading.active_count() <= before


def test_costs_grow_as_the_square_of_the_pool():
    features = np.ones((2000, 100), "f4")
    one = estimate_bins(features, per_class=False, threads=1)
    assert one.multiply_adds == 2000 * 2001 // 2 * 112
    assert one.seconds > 0
    assert one.nbytes > features.nbytes
    ten = estimate_bins(features, np.arange(2000) % 10, threads=1)
    assert ten.multiply_adds == 10 * (200 * 201 // 2) * 112
    assert "2.3e+07 multiply-adds" in str(ten)
    assert "1 thread" in str(ten)
    gradients = LastLayerGradients(np.ones((50, 10)), np.ones((50, 64)))
    assert estimate_bins(gradients, per_class=False).multiply_adds == 50 * 51 // 2 * (16 + 80)


# Errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "labels", "options", "message"),
    [
        (np.ones((9, 2)), None, {}, "labels: there are none; give them, or make bins of all"),
        (np.ones((9, 2)), [0] * 8 + [1], {"bin_count": 3}, r"class 1: 1 samples are fewer than"),
        (np.ones((9, 2)), [0] * 8, {}, r"labels: got shape \(8,\), expected \(9,\)"),
        (np.ones((9, 2)), [0.5] * 9, {}, "labels: got dtype float64"),
        (np.ones((9, 2)), [0] * 9, {"metric": "manhattan"}, "metric: got 'manhattan', expected"),
        (np.ones((9, 2)), [0] * 9, {"bin_count": 0}, "bins: got 0, expected at least 1"),
        (np.ones((9, 2)), [0] * 9, {"bin_count": 2, "sizes": "odd"}, "bin sizes: got 'odd'"),
        (np.ones((9, 2)), [0] * 9, {"bin_count": 9, "sizes": "geometric"}, "bin 5 would get none"),
        (np.ones((9, 2, 2)), [0] * 9, {}, r"features: got shape \(9, 2, 2\)"),
        (np.ones((9, 0)), [0] * 9, {}, r"features: got shape \(9, 0\)"),
        (np.ones((9, 2), "c8"), [0] * 9, {}, "features: got dtype complex64"),
        (LastLayerGradients(np.ones((9, 2)), np.ones((8, 2))), [0] * 9, {}, "9 residuals and 8"),
    ],
)
def test_what_cannot_be_done_is_one_line(features, labels, options, message):
    with pytest.raises(SelectionError, match=message) as caught:
        make_bins(features, labels, **options)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, DsqError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_features_that_are_no_numbers_name_the_sample(bad, dtype):
    features = np.ones((5000, 3), dtype)
    features[4321, 1] = bad
    with pytest.raises(SelectionError, match="features: sample 4321 has NaN or infinite values"):
        make_bins(features, per_class=False)
    for part in (0, 1):
        factors = [np.ones((5000, 3)), np.ones((5000, 3))]
        factors[part] = features
        with pytest.raises(SelectionError, match="sample 4321"):
            make_bins(LastLayerGradients(*factors), np.zeros(5000, "i8"))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 12))
def test_every_table_of_sizes_adds_up_or_says_why_not(counts, bin_count):
    for rule in ("balanced", "geometric", "compat"):
        try:
            table = bin_size_table(np.array(counts), bin_count, rule)
        except SelectionError as error:
            small = min(counts) < bin_count
            assert ("fewer than" if small else "none of its") in str(error)  # noqa: PT017
            assert small or rule != "balanced"
            continue
        assert table.sum(axis=1).tolist() == counts
        assert (table > 0).all()
