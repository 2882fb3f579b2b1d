"""Coresets: random, by score, and CCS."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat.errors import SelectionError
from dsqformat.select import ccs_coreset, random_coreset, score_coreset
from dsqformat.select.ratios import exact_ratio

scores_lists = st.lists(
    st.one_of(st.integers(-3, 3).map(float), st.floats(-1e300, 1e300)), min_size=1, max_size=60
)


def kept_of(ratio, count):
    return round(exact_ratio(ratio) * count)


@given(st.integers(1, 80), st.floats(0.05, 1), st.integers(0, 99), st.booleans())
def test_random_coresets_have_the_exact_total(count, ratio, seed, labelled):
    labels = np.random.default_rng(seed).integers(0, 3, count) if labelled else None
    if not kept_of(ratio, count):
        return
    chosen = random_coreset(count, ratio, labels, seed=seed)
    assert len(chosen) == kept_of(ratio, count)
    assert (np.diff(chosen) > 0).all()
    assert chosen.dtype == np.int64
    if labelled:
        for label in range(3):
            size = (labels == label).sum()
            assert abs((labels[chosen] == label).sum() - ratio * size) < 1
    np.testing.assert_array_equal(chosen, random_coreset(count, ratio, labels, seed=seed))


def test_random_coresets_nest_and_differ_by_seed():
    small, large = random_coreset(100, 0.2, seed=4), random_coreset(100, 0.5, seed=4)
    assert set(small.tolist()) < set(large.tolist())
    assert small.tolist() != random_coreset(100, 0.2, seed=5).tolist()


@given(scores_lists, st.floats(0.05, 1), st.sampled_from(["highest", "lowest"]))
def test_score_coresets_keep_one_end_and_the_first_of_equals(scores, ratio, keep):
    kept = kept_of(ratio, len(scores))
    if not kept:
        return
    sign = -1 if keep == "highest" else 1
    expected = sorted(range(len(scores)), key=lambda i: (sign * scores[i], i))[:kept]
    assert score_coreset(scores, ratio, keep=keep).tolist() == sorted(expected)


def test_classes_in_proportion_or_equal():
    labels = np.array(["a"] * 60 + ["b"] * 30 + ["c"] * 10)
    scores = np.arange(100.0)
    for make in (
        lambda **o: random_coreset(100, 0.3, labels, **o),
        lambda **o: score_coreset(scores, 0.3, labels, **o),
        lambda **o: ccs_coreset(scores, 0.3, labels, hardest="lowest", **o),
    ):
        names, counts = np.unique(labels[make()], return_counts=True)
        assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {"a": 18, "b": 9, "c": 3}
        assert np.unique(labels[make(balance="equal")], return_counts=True)[1].tolist() == [10] * 3
    top = score_coreset(scores, 0.3, labels)
    assert top.tolist() == [*range(42, 60), *range(81, 90), *range(97, 100)]


# CCS -------------------------------------------------------------------------------------------


def literal_ccs_sizes(values, quota, strata):
    """How many of each stratum, by walking through the paper's loop."""
    least, most = min(values), max(values)
    width = (most - least) / strata
    place = [min(strata - 1, int((v - least) / width)) if width else 0 for v in values]
    sizes = {s: place.count(s) for s in range(strata)}
    budget = {}
    for visited, stratum in enumerate(sorted(sizes, key=lambda s: (sizes[s], s))):
        budget[stratum] = min(sizes[stratum], quota // (strata - visited))
        quota -= budget[stratum]
    return place, budget


@given(
    st.lists(st.integers(-40, 40), min_size=2, max_size=80),
    st.sampled_from(["0", "0.1", "0.3"]),
    st.integers(1, 60),
    st.floats(0.1, 1),
    st.sampled_from(["highest", "lowest"]),
)
def test_ccs_is_its_loop(scores, beta, strata, ratio, hardest):
    count, kept = len(scores), kept_of(ratio, len(scores))
    dropped = int(exact_ratio(beta) * count)
    if not kept:
        return
    if count - dropped < kept:
        with pytest.raises(SelectionError, match=r"ccs: .* are wanted and .* are left"):
            ccs_coreset(scores, ratio, hardest=hardest, beta=beta, strata=strata)
        return
    chosen = ccs_coreset(scores, ratio, hardest=hardest, beta=beta, strata=strata)
    assert len(set(chosen.tolist())) == kept
    sign = 1 if hardest == "lowest" else -1
    pool = sorted(sorted(range(count), key=lambda i: (sign * scores[i], i))[dropped:])
    assert set(chosen.tolist()) <= set(pool)
    place, budget = literal_ccs_sizes([scores[i] for i in pool], kept, strata)
    found = dict.fromkeys(budget, 0)
    for i in chosen:
        found[place[pool.index(i)]] += 1
    assert found == budget


def test_the_top_sample_stays_where_all_scores_are_negative():
    scores = -np.arange(1.0, 51.0)
    # One sample per stratum: all are kept, the highest too.
    assert ccs_coreset(scores, 1, hardest="lowest").tolist() == list(range(50))
    singles = np.concatenate([[-1.0], np.full(99, -3.0)])
    assert ccs_coreset(singles, 0.04, hardest="lowest")[0] == 0


@given(scores_lists, st.integers(0, 9))
def test_any_scores_give_the_exact_total(scores, seed):
    kept = kept_of(0.5, len(scores))
    if kept:
        chosen = ccs_coreset(scores, 0.5, hardest="highest", beta=0.2, seed=seed)
        assert len(chosen) == kept


def test_rare_strata_are_kept_whole():
    scores = np.concatenate([np.zeros(900), np.linspace(0.5, 1, 50)])
    chosen = ccs_coreset(scores, 0.2, hardest="lowest")
    assert (chosen >= 900).sum() == 50
    assert len(chosen) == 190


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.6}, r"50 samples are wanted and 40 of 100 are left .* lower beta to 0\.5 or"),
        ({"beta": 1.2}, r"beta: got 1\.2, expected 0 to 1"),
        ({"strata": 0}, "strata: got 0"),
        ({"hardest": "top"}, "hardest: got 'top', expected one of highest, lowest"),
        ({"labels": [0] * 99 + [1], "beta": "0.6"}, "class 0: ccs: 50 samples are wanted"),
        ({"labels": [0] * 100, "balance": "fair"}, "balance: got 'fair'"),
    ],
)
def test_what_ccs_cannot_do(options, message):
    arguments = {"hardest": "lowest"} | options
    with pytest.raises(SelectionError, match=message):
        ccs_coreset(np.arange(100.0), 0.5, **arguments)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0, np.nan], "scores: that of sample 1 is NaN or infinite"),
        (np.ones((2, 2)), r"got float64 of shape \(2, 2\), expected one number per sample"),
        ([], "expected one number per sample"),
        (["a", "b"], "expected one number per sample"),
    ],
)
def test_scores_that_cannot_be(scores, message):
    with pytest.raises(SelectionError, match=message):
        score_coreset(scores, 0.5)
    with pytest.raises(SelectionError, match="keep: got 'top'"):
        score_coreset([1.0, 2], 0.5, keep="top")
