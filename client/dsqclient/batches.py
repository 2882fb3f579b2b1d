"""Cuts batches from decoded chunks: array operations only, nothing per sample."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqclient.ahead import map_ahead
from dsqclient.window import WindowOrder
from dsqformat.chunk import Chunk

# Transfers at once: while one waits for its round trip, others use the link.
_TRANSFERS = 4


@dataclass(frozen=True)
class _Held:
    """A decoded chunk in the window, and its rows in the order in which they go out."""

    values: dict[str, Any]
    dealt: NDArray[np.int64]


def read_batches(
    order: WindowOrder,
    load: Callable[[int, threading.Event], Chunk],
    names: Sequence[str],
    *,
    batch_size: int | None,
    drop_last: bool = False,
    skip: int = 0,
    prefetch: int = 4,
) -> Generator[dict[str, Any]]:
    """Yield batches of the samples of a share, in its order.

    At most `order.window` chunks are held, besides `prefetch` under way.

    Args:
        order: which samples, and when.
        load: returns a decoded chunk, given its number and an event that is set when nobody wants
            it any more.
        names: fields and columns to put into a batch.
        batch_size: samples of a batch; None: as many as happen to be at hand.
        drop_last: leave out a short batch at the end.
        skip: samples at the start that were handed out before.
        prefetch: chunks to load ahead; 0: none, and no threads.

    Yields:
        By name an array (n, *shape), or a list of n where shapes differ or values are strings.
        An array may be a view of a chunk; no two batches share memory that both show.
    """
    step, offset = order.locate(skip) if skip else (0, 0)
    if step >= order.step_count:
        return
    numbers = range(order.held(step).start, len(order.pieces))
    chunk_numbers = [int(order.pieces.chunk[piece]) for piece in numbers]
    with closing(map_ahead(load, chunk_numbers, depth=prefetch, threads=_TRANSFERS)) as chunks:
        held: dict[int, _Held] = {}
        arriving = zip(numbers, chunks, strict=True)
        waiting = _Waiting()
        for now in range(step, order.step_count):
            for piece in order.held(now):
                if piece not in held:
                    piece, chunk = next(arriving)
                    values = {**chunk.fields, **chunk.columns}
                    values = {name: values[name] for name in names}
                    held[piece] = _Held(values, order.dealt(piece, chunk.sample_count))
                    del chunk
            owner, row = _step(order, now, held)
            waiting.add(owner[offset:], row[offset:])
            offset = 0
            while waiting.count >= (batch_size or 1):
                yield _gather(held, *waiting.take(batch_size or waiting.count), names)
            keep = set(order.held(now + 1)) | waiting.owners()
            held = {piece: item for piece, item in held.items() if piece in keep}
        if waiting.count and not drop_last:
            yield _gather(held, *waiting.take(waiting.count), names)


def _step(
    order: WindowOrder, step: int, held: dict[int, _Held]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return piece and row of every sample a step hands out."""
    owners, rows = [], []
    for piece in order.held(step):
        dealt = held[piece].dealt
        part = dealt[order.part(piece, step, len(dealt))]
        owners.append(np.full(len(part), piece, "i8"))
        rows.append(part)
    owner, row = np.concatenate(owners), np.concatenate(rows)
    mixed = order.mixed(step, len(owner))
    return (owner, row) if mixed is None else (owner[mixed], row[mixed])


class _Waiting:
    """Samples that were handed out and are not in a batch yet."""

    def __init__(self) -> None:
        self._owner = self._row = np.zeros(0, "i8")

    @property
    def count(self) -> int:
        return len(self._owner)

    def owners(self) -> set[int]:
        return set(np.unique(self._owner).tolist())

    def add(self, owner: NDArray[np.int64], row: NDArray[np.int64]) -> None:
        self._owner = np.concatenate([self._owner, owner])
        self._row = np.concatenate([self._row, row])

    def take(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        taken = self._owner[:count], self._row[:count]
        self._owner, self._row = self._owner[count:], self._row[count:]
        return taken


def _gather(
    held: dict[int, _Held],
    owner: NDArray[np.int64],
    row: NDArray[np.int64],
    names: Sequence[str],
) -> dict[str, Any]:
    """Return the named values of some samples of the held chunks."""
    pieces = np.unique(owner).tolist()
    places = [_as_slice(np.flatnonzero(owner == piece)) for piece in pieces]
    rows = [_as_slice(row[place]) for place in places]
    batch: dict[str, Any] = {}
    for name in names:
        values = [held[piece].values[name] for piece in pieces]
        first = values[0]
        if not all(isinstance(v, np.ndarray) and v.shape[1:] == first.shape[1:] for v in values):
            by_piece = dict(zip(pieces, values, strict=True))
            pairs = zip(owner.tolist(), row.tolist(), strict=True)
            batch[name] = [by_piece[o][r] for o, r in pairs]
        elif len(pieces) == 1:
            batch[name] = first[rows[0]]
        else:
            joined = np.empty((len(owner), *first.shape[1:]), first.dtype)
            for place, chosen, value in zip(places, rows, values, strict=True):
                joined[place] = value[chosen]
            batch[name] = joined
    return batch


def _as_slice(numbers: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Return ascending consecutive numbers as a slice: slicing copies nothing."""
    first, last = int(numbers[0]), int(numbers[-1])
    if last - first == len(numbers) - 1 and (np.diff(numbers) == 1).all():
        return slice(first, last + 1)
    return numbers
