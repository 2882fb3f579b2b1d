"""Sequences of samples, written down as runs of rows of chunks: cutting, joining, counting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

# `stop` of a piece that goes to the end of a chunk whose sample count is not known yet.
TO_THE_END: Final = -1


@dataclass(frozen=True)
class Pieces:
    """A sequence of samples as consecutive pieces, each some rows of one chunk.

    Attributes:
        chunk: int64, shape (pieces,), number of the chunk in the snapshot.
        start: int64, shape (pieces,), first row.
        stop: int64, shape (pieces,), one after the last row, or TO_THE_END.
        picked: for pieces whose rows are no run: their row numbers; start and stop then count in
            these.
    """

    chunk: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    picked: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.chunk)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Samples of each piece; all counts must be known."""
        if (self.stop == TO_THE_END).any():
            raise ValueError("pieces: the sample counts of some chunks are not known")
        return self.stop - self.start

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Samples up to the end of each piece."""
        return np.cumsum(self.lengths)

    @property
    def sample_count(self) -> int:
        """Samples of the whole sequence."""
        return int(self.ends[-1]) if len(self) else 0

    def rows(self, piece: int, chunk_sample_count: int) -> NDArray[np.int64]:
        """Return the rows of a piece in order, int64.

        Args:
            piece: number of the piece.
            chunk_sample_count: samples of its chunk.
        """
        start, stop = int(self.start[piece]), int(self.stop[piece])
        if piece in self.picked:
            return self.picked[piece][start:stop]
        return np.arange(start, chunk_sample_count if stop == TO_THE_END else stop, dtype="i8")

    def select(self, start: int, stop: int) -> Pieces:
        """Return the samples [start, stop) of the sequence."""
        total = self.sample_count
        if not 0 <= start <= stop <= total:
            raise ValueError(f"samples [{start}, {stop}) of {total}")
        if start == stop:
            return NOTHING
        first = int(np.searchsorted(self.ends, start, "right"))
        last = int(np.searchsorted(self.ends, stop, "left"))
        chosen = slice(first, last + 1)
        starts, stops = self.start[chosen].copy(), self.stop[chosen].copy()
        stops[-1] -= int(self.ends[last]) - stop
        starts[0] += start - int(self.ends[first] - self.lengths[first])
        picked = {i - first: rows for i, rows in self.picked.items() if first <= i <= last}
        return Pieces(self.chunk[chosen], starts, stops, picked)


NOTHING: Final = Pieces(np.zeros(0, "i8"), np.zeros(0, "i8"), np.zeros(0, "i8"))


def whole_chunks(order: NDArray[np.int64], sample_count: NDArray[np.int64] | None = None) -> Pieces:
    """Return the sequence of all samples of some chunks.

    Args:
        order: int64, shape (pieces,), chunk numbers.
        sample_count: samples of every chunk of the snapshot; None: not known yet.
    """
    stop = np.full(len(order), TO_THE_END, "i8")
    if sample_count is not None:
        stop = sample_count[order].astype("i8")
    return Pieces(order, np.zeros(len(order), "i8"), stop)


def picked_rows(chunk: int, rows: NDArray[np.int64]) -> Pieces:
    """Return a sequence of one piece: these rows of a chunk, in this order."""
    numbers = np.array([[chunk], [0], [len(rows)]], "i8")
    return Pieces(numbers[0], numbers[1], numbers[2], {0: rows})


def join(parts: Sequence[Pieces]) -> Pieces:
    """Return the sequences one after the other."""
    kept = [part for part in parts if len(part)]
    if not kept:
        return NOTHING
    picked: dict[int, NDArray[np.int64]] = {}
    offset = 0
    for part in kept:
        picked.update({offset + i: rows for i, rows in part.picked.items()})
        offset += len(part)
    return Pieces(
        np.concatenate([part.chunk for part in kept]),
        np.concatenate([part.start for part in kept]),
        np.concatenate([part.stop for part in kept]),
        picked,
    )
