"""Bits by sensitivity, and sensitivity itself."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat.errors import SelectionError, TargetError
from dsqformat.select import (
    bits_by_class,
    budgeted_bit_levels,
    gradient_distance,
    gradient_distance_from_products,
    gradient_distance_from_sums,
    last_layer_distance,
    last_layer_residuals,
    ranked_bit_levels,
    two_bit_levels,
)
from dsqformat.select.ratios import exact_ratio

sensitivities = st.lists(
    st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 2)), min_size=1, max_size=50
)

# Two levels ------------------------------------------------------------------------------------


@given(
    sensitivities,
    st.sampled_from([(10, 6), (8, 0), (4, 0), (16, 2), (9, 9)]),
    st.fractions(0, 1, max_denominator=100),
    st.booleans(),
)
def test_the_most_sensitive_get_more_and_the_mean_is_not_exceeded(values, pair, share, per_class):
    high, low = pair
    average = low + share * (high - low)
    labels = np.arange(len(values)) % 3 if per_class else np.zeros(len(values), "i8")
    bits = two_bit_levels(values, high, low, average, labels if per_class else None)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label).tolist()
        mine = bits[members].tolist()
        assert len(members) * average - (high - low) < sum(mine) <= len(members) * average or (
            high == low
        )
        order = sorted(members, key=lambda i: (-values[i], i))
        assert [bits[i] for i in order] == sorted(mine, reverse=True)


def test_settings_of_the_paper():
    values = np.random.default_rng(0).random(50_000)
    for high, low, average in ((16, 16, 16), (10, 6, 8), (8, 0, 4), (4, 0, 2)):
        bits = two_bit_levels(values, high, low)
        assert bits.mean() == average
        assert set(bits.tolist()) == {high, low}
    # Uneven splits, as in its table 3: the decimals mean what they say.
    for average, share in (("6.4", 0.8), (5.44, 0.68), (4, 0.5), (2.56, 0.32), (1.28, 0.16)):
        bits = two_bit_levels(values, 8, 0, average)
        assert (bits == 8).mean() == share


def test_ties_go_to_the_lower_index_and_permutations_follow():
    assert two_bit_levels([0.5, 0.5, 0.5, 0.5], 8, 0).tolist() == [8, 8, 0, 0]
    assert two_bit_levels([0.0, 0.5, -0.0, 0.5], 8, 0, 6).tolist() == [8, 8, 0, 8]
    values = np.random.default_rng(1).random(40)
    turn = np.random.default_rng(2).permutation(40)
    assert (two_bit_levels(values, 8, 2)[turn] == two_bit_levels(values[turn], 8, 2)).all()
    assert (two_bit_levels(values, 16, 16) == 16).all()


def test_a_class_may_lose_all_unless_each_is_divided():
    values, labels = np.array([0.9, 0.8, 0.2, 0.1]), np.array(["x", "x", "y", "y"])
    together = two_bit_levels(values, 8, 0)
    assert bits_by_class(together, labels) == {"x": {8: 2}, "y": {0: 2}}
    assert bits_by_class(two_bit_levels(values, 8, 0, labels=labels), labels) == {
        "x": {0: 1, 8: 1},
        "y": {0: 1, 8: 1},
    }


# More levels -----------------------------------------------------------------------------------


@given(sensitivities, st.lists(st.integers(1, 9), min_size=1, max_size=6), st.booleans())
def test_levels_by_rank(values, parts, per_class):
    levels = [(2 * i, Fraction(part, sum(parts))) for i, part in enumerate(parts, 1)]
    labels = np.arange(len(values)) % 2 if per_class else None
    bits = ranked_bit_levels(values, levels[::-1], labels)
    assert (bits == ranked_bit_levels(values, levels, labels)).all()
    mean = sum(b * share for b, share in levels)
    assert bits.sum() <= len(values) * mean
    assert bits.sum() > len(values) * mean - 2 * len(parts) * (2 if per_class else 1)
    if not per_class:
        order = sorted(range(len(values)), key=lambda i: (-values[i], i))
        assert bits[order].tolist() == sorted(bits.tolist(), reverse=True)


def test_two_levels_are_levels():
    values = np.random.default_rng(0).random(37)
    expected = two_bit_levels(values, 10, 6, 7)
    assert (ranked_bit_levels(values, [(10, "0.25"), (6, 0.75)]) == expected).all()
    thirds = ranked_bit_levels(values[:30], [(8, "1/3"), (4, "1/3"), (0, "1/3")])
    assert np.unique(thirds, return_counts=True)[1].tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, np.nan], 8, 0), "sensitivity: that of sample 1 is NaN"),
        (([1.0], 8, 1), "bits: got 1, expected 2 to 16, or 0 to drop samples"),
        (([1.0], 17, 2), "bits: got 17, expected 2 to 16"),
        (([1.0], 2, 8), "got 2 for high and 8 for low; swap them"),
        (([1.0], 8, 2, 9), "average bits: got 9, expected 2 to 8"),
        (([1.0], 8, 8, 7), "average bits: got 7, expected 8 to 8"),
        (([1.0, 2], 8, 2, 4, [0]), r"labels: got shape \(1,\)"),
    ],
)
def test_levels_that_cannot_be(arguments, message):
    with pytest.raises(SelectionError, match=message):
        two_bit_levels(*arguments)


def test_shares_that_do_not_make_one():
    with pytest.raises(SelectionError, match=r'make 0\.99, expected 1; write thirds as "1/3"'):
        ranked_bit_levels([1.0], [(8, 0.33), (4, 0.33), (2, 0.33)])
    with pytest.raises(SelectionError, match=r"share of a level: got 3/2, expected 0 to 1"):
        ranked_bit_levels([1.0], [(8, 1.5), (4, -0.5)])


# A budget of bytes -----------------------------------------------------------------------------


@st.composite
def tables(draw):
    count, levels = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    nbytes = np.sort(rng.integers(0, 40, (count, levels)), axis=1)
    distortion = rng.random((count, levels))
    if draw(st.booleans()):
        distortion = -np.sort(-distortion, axis=1)
    if draw(st.booleans()):  # equal samples, equal gains
        nbytes[:] = nbytes[0]
        distortion[:] = np.round(distortion[0], 1)
    return nbytes, distortion


@given(tables())
def test_budgets_are_kept_and_more_bytes_never_hurt(drawn):
    nbytes, distortion = drawn
    widths = [0, 2, 4, 8, 16][: nbytes.shape[1]]
    rows = np.arange(len(nbytes))
    before = np.inf
    for budget in range(int(nbytes.min(axis=1).sum()), int(nbytes.max(axis=1).sum()) + 2):
        bits = budgeted_bit_levels(nbytes, distortion, widths, budget)
        column = np.array([widths.index(b) for b in bits.tolist()])
        assert nbytes[rows, column].sum() <= budget
        total = distortion[rows, column].sum()
        assert total <= before + 1e-12
        before = total
        again = budgeted_bit_levels(nbytes, distortion, widths, budget)
        np.testing.assert_array_equal(bits, again)
    # With room for all, each has its best.
    assert before == pytest.approx(distortion.min(axis=1).sum())


@given(tables())
def test_budgets_are_spent_about_as_well_as_can_be(drawn):
    nbytes, distortion = (table[:4] for table in drawn)
    rows = np.arange(len(nbytes))
    widths = list(range(nbytes.shape[1]))
    budget = int(nbytes.min(axis=1).sum() + nbytes.max(axis=1).sum()) // 2
    best = min(
        sum(distortion[i, c] for i, c in zip(rows, choice, strict=True))
        for choice in itertools.product(widths, repeat=len(nbytes))
        if sum(nbytes[i, c] for i, c in zip(rows, choice, strict=True)) <= budget
    )
    found = budgeted_bit_levels(nbytes, distortion, widths, budget)
    # At most one sample short of the optimum.
    assert distortion[rows, found].sum() <= best + np.ptp(distortion, axis=1).max() + 1e-12


def test_budgets_that_cannot_be():
    nbytes, distortion = np.array([[4, 8], [4, 8]]), np.array([[1.0, 0], [2, 0]])
    assert budgeted_bit_levels(nbytes, distortion, [4, 8], 12).tolist() == [4, 8]
    with pytest.raises(TargetError, match="7 bytes cannot be met: the smallest possible is 8"):
        budgeted_bit_levels(nbytes, distortion, [4, 8], 7)
    with pytest.raises(SelectionError, match="distortion: that of sample 1 is not finite"):
        budgeted_bit_levels(nbytes, [[1, 0], [np.nan, 0]], [4, 8], 12)
    with pytest.raises(SelectionError, match="a column for each of 3 levels"):
        budgeted_bit_levels(nbytes, distortion, [2, 4, 8], 12)
    with pytest.raises(SelectionError, match="at least 0"):
        budgeted_bit_levels(-nbytes, distortion, [4, 8], 12)


# Sensitivity -----------------------------------------------------------------------------------


def exact_distance(g1, g2):
    """1 - cos in 200 bits."""
    a, b = ([Fraction(float(v)) for v in g] for g in (g1, g2))
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    s1, s2 = sum(x * x for x in a), sum(y * y for y in b)
    if not s1 or not s2:
        return 0.0 if s1 == s2 else 1.0
    # 1 - c = (1 - c^2) / (1 + c): what cancels is exact.
    cosine = float(dot) / (float(s1) ** 0.5 * float(s2) ** 0.5)
    sine = float(1 - dot * dot / (s1 * s2))
    return sine / (1 + cosine) if cosine > 0 else 1 - cosine


@given(st.integers(0, 2**32), st.sampled_from([0, 1e-7, 1e-5, 1e-2, 1, 100]))
def test_distances_are_right_where_one_less_cosine_cancels(seed, noise):
    rng = np.random.default_rng(seed)
    g1 = rng.standard_normal((4, 30))
    g2 = 3 * (g1 + noise * rng.standard_normal((4, 30)))
    expected = np.array([exact_distance(a, b) for a, b in zip(g1, g2, strict=True)])
    np.testing.assert_allclose(gradient_distance(g1, g2), expected, rtol=1e-6, atol=1e-30)
    sums = ((g1 - g2) ** 2).sum(axis=1), (g1**2).sum(axis=1), (g2**2).sum(axis=1)
    np.testing.assert_allclose(gradient_distance_from_sums(*sums), expected, rtol=1e-6, atol=1e-14)
    products = (g1 * g2).sum(axis=1), *sums[1:]
    np.testing.assert_allclose(gradient_distance_from_products(*products), expected, atol=1e-14)


def test_single_precision_keeps_small_distances():
    rng = np.random.default_rng(0)
    g1 = rng.standard_normal((1, 1_000_000)).astype("f4")
    g2 = (g1 + 1e-4 * rng.standard_normal(g1.shape)).astype("f4")
    true = exact_distance(g1[0, :20_000], g2[0, :20_000])
    assert gradient_distance(g1, g2)[0] == pytest.approx(true, rel=0.05)
    assert gradient_distance(g1, g2)[0] == pytest.approx(5e-9, rel=0.05)
    # Sums of the same length, made in float64 from single precision, find it too.
    wide1, wide2 = g1.astype("f8"), g2.astype("f8")
    sums = [((wide1 - wide2) ** 2).sum(axis=1), (wide1**2).sum(axis=1), (wide2**2).sum(axis=1)]
    assert gradient_distance_from_sums(*sums)[0] == pytest.approx(5e-9, rel=0.05)


@given(st.integers(0, 2**32), st.floats(1e-6, 1e6), st.integers(2, 5))
def test_scale_does_not_matter_and_sameness_is_zero(seed, factor, width):
    rng = np.random.default_rng(seed)
    g1, g2 = rng.standard_normal((2, 3, width))
    np.testing.assert_allclose(
        gradient_distance(g1 * factor, g2), gradient_distance(g1, g2 / factor), rtol=1e-12
    )
    assert gradient_distance(g1, g1).tolist() == [0, 0, 0]
    found = gradient_distance(g1, g2)
    assert ((found >= 0) & (found <= 2)).all()
    np.testing.assert_allclose(gradient_distance(g1, -g1), 2)


def test_zero_gradients():
    g1 = np.array([[0.0, 0], [0, 0], [1, 0], [1e-200, 0], [5e-324, 0]])
    g2 = np.array([[0.0, 0], [0, 1], [0, 0], [0, 1e-200], [5e-324, 0]])
    assert gradient_distance(g1, g2).tolist() == [0, 1, 1, 1, 0]
    squares = np.array([0.0, 0, 1]), np.array([0.0, 1, 0])
    assert gradient_distance_from_sums([0, 1, 1], *squares).tolist() == [0, 1, 1]
    assert gradient_distance_from_products([0, 0, 0], *squares).tolist() == [0, 1, 1]
    hidden = np.ones((3, 2))
    r1, r2 = np.array([[0.0, 0], [0, 0], [1, -1]]), np.array([[0.0, 0], [1, -1], [0, 0]])
    assert last_layer_distance(r1, hidden, r2, 2 * hidden).tolist() == [0, 1, 1]


@given(st.integers(0, 2**32), st.sampled_from([1e-6, 1e-2, 1]))
def test_factors_give_what_their_products_give(seed, noise):
    rng = np.random.default_rng(seed)
    r1, h1 = rng.standard_normal((5, 3)), rng.standard_normal((5, 4))
    r2, h2 = (v + noise * rng.standard_normal(v.shape) for v in (r1, h1))

    def written(r, h):
        bias = np.hstack([h, np.ones((5, 1))])
        return np.einsum("nc,nd->ncd", r, bias).reshape(5, -1)

    expected = gradient_distance(written(r1, h1), written(r2, h2))
    np.testing.assert_allclose(last_layer_distance(r1, h1, r2, h2), expected, rtol=1e-6)


@pytest.mark.parametrize("double", [False, True])
def test_residuals_are_derivatives(double):
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((4, 5)), np.array([0, 4, 2, 2])

    def loss(z):
        powers = np.exp(z - z.max(axis=1, keepdims=True))
        p = powers / powers.sum(axis=1, keepdims=True)
        if double:
            powers = np.exp(p)
            p = powers / powers.sum(axis=1, keepdims=True)
        return -np.log(p[np.arange(4), labels])

    found = last_layer_residuals(logits, labels, double_softmax=double)
    for column in range(5):
        step = 1e-6 * np.eye(5)[column]
        slope = (loss(logits + step) - loss(logits - step)) / 2e-6
        np.testing.assert_allclose(found[:, column], slope, atol=1e-8)


def test_gradients_that_cannot_be():
    good, bad = np.ones((2, 3)), np.array([[1.0, 1, 1], [1, np.nan, 1]])
    with pytest.raises(SelectionError, match="those of sample 1 are NaN or infinite"):
        gradient_distance(good, bad)
    with pytest.raises(SelectionError, match=r"got shapes \(2, 3\) and \(3, 3\)"):
        gradient_distance(good, np.ones((3, 3)))
    with pytest.raises(SelectionError, match=r"a sum of sample 0 is -1\.0"):
        gradient_distance_from_sums([1.0], [-1.0], [1.0])
    with pytest.raises(SelectionError, match="a sum of sample 0 is nan"):
        gradient_distance_from_products([np.nan], [1.0], [1.0])
    with pytest.raises(SelectionError, match=r"sums of shapes \[\(1,\), \(2,\), \(2,\)\]"):
        gradient_distance_from_products([0], [1, 1], [1, 1])
    with pytest.raises(SelectionError, match="hidden vectors of 2 and 2 samples, expected pairs"):
        last_layer_distance(good, good, np.ones((2, 4)), good)
    with pytest.raises(SelectionError, match="labels: got 0 to 3, expected 0 to 2; the network"):
        last_layer_residuals(good, np.array([0, 3]))
    with pytest.raises(SelectionError, match=r"labels: got float64 of shape \(2,\)"):
        last_layer_residuals(good, np.array([0.0, 1]))


def test_average_bits_are_exact():
    assert exact_ratio(5.44) * 100 / 8 == 68
    assert (two_bit_levels(np.arange(100.0), 8, 0, 5.44) == 8).sum() == 68
