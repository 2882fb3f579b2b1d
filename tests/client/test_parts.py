"""Small parts of the client on their own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest

import dsqclient
from client_data import Written
from dsqclient.ahead import map_ahead
from dsqclient.batches import read_batches
from dsqclient.chunks import ChunkLoader, needed_segments
from dsqclient.pieces import whole_chunks
from dsqclient.verified import open_shard
from dsqclient.window import WindowOrder
from dsqformat.bytesource import LocalSource
from dsqformat.dataset import load_snapshot
from dsqformat.errors import CorruptShardError
from dsqformat.schema import Field, Schema

# map_ahead -------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_results_come_in_order_and_errors_in_their_place(depth):
    def work(item: int, cancelled: threading.Event) -> int:
        time.sleep(0.001 * (item % 3))
        if item == 30:
            raise KeyError("thirty")
        return item * item

    results = map_ahead(work, range(100), depth=depth, threads=4)
    for item in range(30):
        assert next(results) == item * item
    with pytest.raises(KeyError, match="thirty"):
        next(results)
    assert list(results) == []
    assert list(map_ahead(work, [], depth=depth, threads=4)) == []


def test_the_lead_is_bounded_and_grows_from_one():
    begun: list[int] = []

    def work(item: int, cancelled: threading.Event) -> int:
        begun.append(item)
        return item

    results = map_ahead(work, range(50), depth=4, threads=2)
    for item in range(10):
        assert next(results) == item
        assert len(begun) <= min(2 * item + 2, item + 1 + 4)
    results.close()


def test_closing_cancels_what_is_under_way():
    begun, ended = threading.Event(), threading.Event()

    def work(item: int, cancelled: threading.Event) -> int:
        if item:
            begun.set()
            if cancelled.wait(20):
                ended.set()
        return item

    results = map_ahead(work, range(9), depth=3, threads=3)
    assert next(results) == 0
    assert begun.wait(20)
    results.close()
    assert ended.wait(20)


# Batches ---------------------------------------------------------------------------------------


def loader_of(written: Written, **options) -> ChunkLoader:
    source = LocalSource(written.path)
    snapshot = load_snapshot(source)
    return ChunkLoader(
        source,
        snapshot,
        **{"layers": None, "fields": ["image"], "output": "float32", **options},
    )


@pytest.mark.parametrize(("window", "prefetch"), [(1, 0), (3, 2), (8, 4)])
def test_no_more_chunks_are_held_than_the_window_and_the_lead(written, window, prefetch):
    loader = loader_of(written)
    alive: weakref.WeakSet[object] = weakref.WeakSet()

    def load(number: int, cancelled: threading.Event):
        chunk = loader.load(number, cancelled)
        array = chunk.fields["image"]
        base = array if array.base is None else array.base
        alive.add(_Watched(base))
        return replace(chunk, fields={"image": array}, columns={**chunk.columns})

    class _Watched:
        """Lives as long as an array does."""

        def __init__(self, array: np.ndarray) -> None:
            weakref.finalize(array, self._drop)
            self._kept = [self]

        def _drop(self) -> None:
            self._kept.clear()

    order = WindowOrder(whole_chunks(np.arange(loader.chunk_count)), window, 1)
    most = 0
    for batch in read_batches(order, load, ["image", "index"], batch_size=7, prefetch=prefetch):
        most = max(most, len(alive))
        assert len(batch["image"]) == len(batch["index"])
    assert 0 < most <= window + prefetch + 3


def test_sample_counts_come_from_the_snapshot_or_the_heads(written):
    loader = loader_of(written)
    expected = loader.sample_counts()
    assert expected.sum() == len(written.images)
    asked = loader_of(written)
    asked.entries = tuple(
        type(entry)(**{**vars(entry), "chunk_samples": ()}) for entry in asked.entries
    )
    assert asked.sample_counts().tolist() == expected.tolist()


def test_a_head_that_contradicts_the_snapshot_is_refused(written):
    source = LocalSource(written.path)
    entry = load_snapshot(source).shards[0]
    assert len(open_shard(source, entry).chunks) == entry.chunk_count
    for change in (
        {"sample_count": entry.sample_count + 1},
        {"chunk_samples": ((1, entry.sample_count),)},
        {"head_digest": "0" * 64},
    ):
        with pytest.raises(CorruptShardError, match=r"shard blobs/\w+\.dsq: "):
            open_shard(source, type(entry)(**{**vars(entry), **change}))


def test_needed_segments_reach_to_the_last_layer_asked_for():
    fields = (
        Field("a", "uint8", (4,), "affine", (4, 2)),
        Field("b", "uint8", (4,), "affine", (4,)),
    )
    schema = Schema(fields)  # index, a0, b0, a1, b1, a2
    assert needed_segments(schema, ["a", "b"], None) == 6
    assert needed_segments(schema, ["b"], None) == 5
    assert needed_segments(schema, ["a"], 1) == 2
    assert needed_segments(schema, ["a", "b"], 1) == 3
    assert needed_segments(schema, [], None) == 1
    with pytest.raises(ValueError, match="layers=0"):
        needed_segments(schema, ["a"], 0)


# The package -----------------------------------------------------------------------------------


def test_public_names_are_there_and_torch_is_not_imported_for_reading():
    for name in dsqclient.__all__:
        assert getattr(dsqclient, name) is not None
    with pytest.raises(AttributeError):
        _ = dsqclient.nothing
    code = (
        "import sys, dsqclient, dsqclient.commands, dsqclient.pull;"
        "print([m for m in ('torch', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
