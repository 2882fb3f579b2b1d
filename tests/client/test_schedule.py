"""The arithmetic of shares, windows and resumption: pure functions, held against plain counting."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dsqclient.pieces import NOTHING, Pieces, join, whole_chunks
from dsqclient.schedule import Layout, Schedule, Stage
from dsqclient.shuffle import derive_key, permutation
from dsqclient.window import WindowOrder

SAMPLE_COUNTS = st.lists(st.integers(1, 12), max_size=9).map(lambda v: np.array(v, "i8"))
LAYOUTS = st.builds(
    Layout,
    world_size=st.integers(1, 4),
    workers=st.integers(1, 4),
    batch_size=st.one_of(st.none(), st.integers(1, 9)),
    drop_last=st.booleans(),
    even=st.sampled_from([None, "drop", "pad"]),
)
SCHEDULES = st.tuples(st.integers(0, 99), st.integers(0, 3), st.booleans(), st.integers(1, 5))


def samples_of(pieces: Pieces, counts: np.ndarray) -> list[tuple[int, int]]:
    return [
        (int(chunk), int(row))
        for i, chunk in enumerate(pieces.chunk)
        for row in pieces.rows(i, int(counts[chunk]))
    ]


def handed_out(order: WindowOrder, counts: np.ndarray) -> list[tuple[int, int]]:
    """All samples in the order of WindowOrder, straight from its description."""
    result = []
    for step in range(order.step_count):
        here = []
        for i in order.held(step):
            chunk = int(order.pieces.chunk[i])
            rows = order.dealt(i, int(counts[chunk]))
            here += [(chunk, int(row)) for row in rows[order.part(i, step, len(rows))]]
        mixed = order.mixed(step, len(here))
        result += here if mixed is None else [here[k] for k in mixed]
    return result


def all_samples(counts: np.ndarray) -> list[tuple[int, int]]:
    return [(chunk, row) for chunk, count in enumerate(counts) for row in range(count)]


@given(st.integers(0, 2**64 - 1), st.integers(0, 300))
def test_a_permutation_holds_every_number_once(key, count):
    assert sorted(permutation(key, count).tolist()) == list(range(count))


def test_random_orders_are_fixed_for_good():
    """Resuming with a later release, or on another machine, must find the same order."""
    assert derive_key(1, 2, 3) == 0xD0734750FDE362B3
    assert permutation(derive_key(7), 8).tolist() == [5, 4, 2, 3, 1, 0, 7, 6]
    assert derive_key(1, 2) != derive_key(2, 1)


@given(SAMPLE_COUNTS, st.integers(1, 6), st.one_of(st.none(), st.integers(0, 99)))
def test_a_window_hands_out_every_sample_once_and_holds_few_pieces(counts, window, key):
    order = WindowOrder(whole_chunks(np.arange(len(counts)), counts), window, key)
    assert sorted(handed_out(order, counts)) == all_samples(counts)
    for step in range(order.step_count):
        assert len(order.held(step)) <= window
        assert all(piece <= step for piece in order.held(step))
    if key is None:
        assert handed_out(order, counts) == all_samples(counts)


@given(SAMPLE_COUNTS, st.integers(1, 6), st.one_of(st.none(), st.integers(0, 99)), st.data())
def test_locate_and_rest_agree_with_counting(counts, window, key, data):
    order = WindowOrder(whole_chunks(np.arange(len(counts)), counts), window, key)
    everything = handed_out(order, counts)
    done = data.draw(st.integers(0, len(everything)))
    step, offset = order.locate(done)
    before = 0
    for earlier in range(step):
        rows = [order.dealt(i, int(counts[i])) for i in order.held(earlier)]
        parts = [
            order.part(i, earlier, len(r)) for i, r in zip(order.held(earlier), rows, strict=True)
        ]
        before += sum(part.stop - part.start for part in parts)
    assert before + offset == done
    rest = order.rest(done, len(order.pieces))
    assert sorted(samples_of(rest, counts)) == sorted(everything[done:])


@given(SAMPLE_COUNTS, st.data())
def test_select_and_join_are_slicing_and_adding(counts, data):
    pieces = whole_chunks(np.arange(len(counts)), counts)
    total = pieces.sample_count
    start = data.draw(st.integers(0, total))
    stop = data.draw(st.integers(start, total))
    assert samples_of(pieces.select(start, stop), counts) == all_samples(counts)[start:stop]
    halves = [pieces.select(0, start), NOTHING, pieces.select(start, total)]
    assert samples_of(join(halves), counts) == all_samples(counts)


@given(SAMPLE_COUNTS, LAYOUTS, SCHEDULES)
def test_shares_hold_every_sample_once_by_the_stated_rule(counts, layout, values):
    schedule = Schedule(len(counts), *values)
    sequence = schedule.left(counts, [])
    total = sequence.sample_count
    seen: Counter[tuple[int, int]] = Counter()
    rank_sizes, lengths = [], []
    for rank in range(layout.world_size):
        shares = [
            handed_out(schedule.share(sequence, 0, layout, rank, worker), counts)
            for worker in range(layout.workers)
        ]
        units = [-(-len(share) // layout.unit) for share in shares]
        assert max(units) - min(units) <= 1
        assert sum(units) == layout.length(total, rank)
        # Only the very last batch of a rank may be short.
        short = [len(s) % layout.unit for s in shares if len(s) % layout.unit]
        assert len(short) <= (0 if layout.drop_last else 1)
        rank_sizes.append(sum(len(share) for share in shares))
        lengths.append(layout.length(total, rank))
        for share in shares:
            seen.update(share)
    if not layout.drop_last:
        assert max(rank_sizes) - min(rank_sizes) <= 1
    if layout.even is not None:
        assert len(set(rank_sizes)) == len(set(lengths)) == 1
    expected = Counter(all_samples(counts))
    if layout.drop_last:
        assert layout.even == "pad" or max(seen.values(), default=1) == 1
    elif layout.even is None:
        assert seen == expected
    elif layout.even == "drop":
        assert max(seen.values(), default=1) == 1
        assert sum(seen.values()) == total // layout.world_size * layout.world_size
    elif total:
        assert set(seen) == set(expected)
        assert sum(seen.values()) == -(-total // layout.world_size) * layout.world_size
        repeats = [n for _, n in sorted(seen.items())]
        assert max(repeats) - min(repeats) <= 1


@given(SAMPLE_COUNTS, LAYOUTS.filter(lambda v: v.batch_size is None and not v.drop_last))
def test_shares_of_single_samples_differ_by_one_at_most(counts, layout):
    assume(layout.even is None)
    schedule = Schedule(len(counts), 0, 0, True, 3)
    sequence = schedule.left(counts, [])
    sizes = [
        schedule.share(sequence, 0, layout, rank, worker).pieces.sample_count
        for rank in range(layout.world_size)
        for worker in range(layout.workers)
    ]
    assert max(sizes) - min(sizes) <= 1
    assert sum(sizes) == counts.sum()


@given(SAMPLE_COUNTS, st.lists(LAYOUTS, min_size=1, max_size=3), SCHEDULES, st.data())
def test_a_change_of_layout_in_mid_epoch_loses_and_repeats_nothing(counts, layouts, values, data):
    """Each stage stops somewhere; what all stages received and what is left make up the epoch."""
    schedule = Schedule(len(counts), *values)
    stages: list[Stage] = []
    seen: Counter[tuple[int, int]] = Counter()
    repeats = 0
    for number, layout in enumerate(layouts):
        sequence = schedule.left(counts, stages)
        received = [data.draw(st.integers(0, 4)) for _ in range(layout.workers)]
        for rank in range(layout.world_size):
            for worker in range(layout.workers):
                share = schedule.share(sequence, number, layout, rank, worker)
                seen.update(handed_out(share, counts)[: received[worker] * layout.unit])
        if layout.even == "pad":
            repeats += layout.world_size * -(-sequence.sample_count // layout.world_size)
        stages.append(Stage(layout, tuple(received)))
        assert Stage.from_json(json.loads(json.dumps(stages[-1].to_json()))) == stages[-1]
    left = samples_of(schedule.left(counts, stages), counts)
    assert len(set(left)) == len(left)
    total = Counter(left) + seen
    assert set(total) == set(all_samples(counts))
    if not repeats:
        assert set(total.values()) <= {1}


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {
        tuple(Schedule(40, seed, epoch, True, 4).chunk_order().tolist())
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9
    assert Schedule(40, 0, 5, False, 4).chunk_order().tolist() == list(range(40))


def test_the_first_batch_needs_two_chunks_of_the_window():
    counts = np.full(20, 85, "i8")
    order = WindowOrder(whole_chunks(np.arange(20), counts), 8, 1)
    ready = [0]
    for step in range(2):
        parts = [order.part(i, step, 85) for i in order.held(step)]
        ready.append(ready[-1] + sum(part.stop - part.start for part in parts))
    assert ready[2] >= 64
    assert all(a < b for a, b in pairwise(ready))


def test_wrong_layouts_and_stages_are_refused():
    with pytest.raises(ValueError, match="even='both'"):
        Layout(even="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_size 0"):
        Layout(batch_size=0)
    with pytest.raises(ValueError, match="0 workers"):
        Layout(workers=0)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        Layout(world_size=2).rank_bounds(10, 2)
    with pytest.raises(ValueError, match="expected 2 counts"):
        Stage(Layout(workers=2), (1,))
    with pytest.raises(ValueError, match="members differ"):
        Stage.from_json({"workers": 1})
