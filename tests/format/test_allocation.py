"""The budget solver: levels for a size or a fidelity, and one setting for each sample."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsqformat.errors import TargetError
from dsqformat.select import (
    LevelSearch,
    Window,
    allocate,
    interpolated,
    mixed_settings,
    psnr_of,
    solve_level,
    squared_error_of,
)

# Mixes ------------------------------------------------------------------------------------------


@given(
    count=st.integers(1, 400),
    level=st.floats(0, 175),
    more=st.floats(0, 3),
    seed=st.integers(0, 99),
)
def test_a_mix_has_its_share_and_never_falls_as_the_level_rises(count, level, more, seed):
    mixed = mixed_settings(level, count, seed)
    assert set(mixed.tolist()) <= {math.floor(level), math.ceil(level)}
    # Multiples of the golden ratio are within some logarithm of the even spread.
    assert abs(mixed.mean() - level) <= 5 / count + 0.02
    assert (mixed_settings(level + more, count, seed) >= mixed).all()
    assert np.array_equal(mixed, mixed_settings(level, count, seed))


def test_a_mix_is_even_over_every_stretch():
    mixed = mixed_settings(7.3, 10_000)
    shares = mixed.reshape(100, 100).mean(axis=1) - 7
    assert abs(shares - 0.3).max() < 0.03


# One level for all ------------------------------------------------------------------------------


@st.composite
def ladders(draw):
    """A table of values that rise with the level, as a codec's bytes do, with kinks."""
    count = draw(st.integers(2, 60))
    rises = draw(st.lists(st.floats(0.001, 0.8), min_size=count, max_size=count))
    return np.exp(np.cumsum(rises)) * draw(st.floats(1, 1e6))


@given(values=ladders(), place=st.floats(0.001, 0.999), start=st.floats(0, 1))
def test_a_level_is_found_and_its_value_is_never_above(values, place, start):
    goal = values[0] ** (1 - place) * values[-1] ** place
    top = len(values) - 1
    measured = []

    def measure(level):
        measured.append(level)
        return interpolated(range(len(values)), values)(level)

    window = Window(0.99 * goal, goal, 0.996 * goal)
    if 0.996 * goal < values[0]:
        return
    level, value = solve_level(measure, 0, top, window, start=start * top, slope=0.1)
    assert 0.99 * goal <= value <= goal
    assert 0 <= level <= top
    assert len(measured) == len(set(measured)) <= 24


def test_few_measurements_where_the_curve_is_like_a_codec():
    for goal in (40.0, 151.0, 700.0, 1900.0):
        measured = []

        def measure(level, measured=measured):
            measured.append(level)
            return 12 * math.exp(0.03 * level)

        window = Window(0.99 * goal, goal, 0.996 * goal)
        solve_level(measure, 0, 175, window, start=75, slope=0.035)
        assert len(measured) <= 4


@given(st.integers(0, 1000), st.floats(0.02, 0.05))
@settings(max_examples=50)
def test_noise_ends_the_search_below_the_window(seed, noise):
    rng = np.random.default_rng(seed)
    search = LevelSearch(0, 12, Window(99, 100, 99.6), start=6, slope=0.02)
    told = 0
    while (level := search.propose()) is not None and told < 60:
        search.tell(level, 80 * math.exp(0.03 * level) * (1 + noise * rng.standard_normal()))
        told += 1
    assert told < 60
    assert search.best is None or search.best[1] <= 100


def test_levels_that_are_whole_only():
    level, value = solve_level(
        lambda x: 10.0 * x, 0, 9, Window(50, 57, 55), start=1, slope=0.1, rounded=round
    )
    assert (level, value) == (5, 50)


def test_what_cannot_be_met_names_what_can():
    def solve(goal):
        window = Window(0.99 * goal, goal, goal)
        return solve_level(lambda x: 100 * 2**x, 0, 4, window, start=2, slope=0.5, what="bytes")

    with pytest.raises(TargetError, match="bytes: 50 cannot be met: the smallest possible is 100"):
        solve(50)
    with pytest.raises(TargetError, match="largest possible is 1600"):
        solve(5000)
    assert solve(1600) == (4, 1600)
    with pytest.raises(ValueError, match="0 < low <= aim <= high"):
        Window(2, 1, 1)
    with pytest.raises(ValueError, match="ascending levels"):
        interpolated([1, 1], [2, 3])


@given(st.floats(5, 80), st.integers(1, 1 << 40))
def test_errors_and_decibels(psnr, count):
    assert psnr_of(squared_error_of(psnr, count), count) == pytest.approx(psnr)
    assert psnr_of(0, count) == math.inf


# One setting for each sample --------------------------------------------------------------------


@st.composite
def tables(draw):
    """Bytes and errors of a few samples at a few settings."""
    count, settings_ = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    numbers = st.lists(st.integers(1, 60), min_size=count * settings_, max_size=count * settings_)
    rate = np.array(draw(numbers), "f8").reshape(count, settings_)
    error = np.array(draw(numbers), "f8").reshape(count, settings_)
    return rate, error


@given(tables(), st.floats(0, 1.2))
def test_allocation_fits_and_is_near_the_best_there_is(drawn, share):
    rate, error = drawn
    low, high = rate.min(axis=1).sum(), rate.max(axis=1).sum()
    budget = low + share * (high - low)
    chosen = allocate(rate, error, budget)
    rows = np.arange(len(rate))
    assert rate[rows, chosen].sum() <= budget
    best = min(
        error[rows, list(choice)].sum()
        for choice in itertools.product(range(rate.shape[1]), repeat=len(rate))
        if rate[rows, list(choice)].sum() <= budget
    )
    # Lagrangian: at most one sample's step away from the best of all choices.
    assert error[rows, chosen].sum() <= best + (error.max(axis=1) - error.min(axis=1)).max()


def test_allocation_beats_one_setting_for_all():
    rng = np.random.default_rng(0)
    bits = np.arange(1, 9)
    busy = rng.gamma(2, 1, (2000, 1))
    rate = np.tile(96.0 * bits, (2000, 1))
    error = busy * 4.0**-bits * 1e6
    chosen = allocate(rate, error, 2000 * 96 * 4.0)
    rows = np.arange(2000)
    assert 0.999 * 2000 * 96 * 4 <= rate[rows, chosen].sum() <= 2000 * 96 * 4
    assert error[rows, chosen].sum() < 0.85 * error[:, 3].sum()
    assert np.corrcoef(chosen, np.log(busy[:, 0]))[0, 1] > 0.8


def test_allocation_of_nothing_and_of_the_impossible():
    assert len(allocate(np.zeros((0, 3)), np.zeros((0, 3)), 5)) == 0
    with pytest.raises(TargetError, match="the smallest possible is 7"):
        allocate(np.array([[3.0, 4.0], [4.0, 5.0]]), np.ones((2, 2)), 6.5)
    with pytest.raises(ValueError, match="expected"):
        allocate(np.zeros((2, 3)), np.zeros((3, 2)), 5)
