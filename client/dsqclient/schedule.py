"""Who reads which samples: ranks, workers, batches, and what is left when they change.

Everything here is arithmetic on sample counts. The samples of an epoch stand in one order, that of
the permuted chunks. Ranks cut it into runs, workers cut the run of their rank at borders of
batches, and each shuffles its run with a window (window.py). All ranks and workers compute the
same cuts for themselves; they need not talk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dsqclient.pieces import Pieces, join, whole_chunks
from dsqclient.shuffle import derive_key, permutation
from dsqclient.window import WindowOrder

Even = Literal["drop", "pad"] | None

_CHUNKS: Final = 1  # what a derived key is for
_SHARE: Final = 2


@dataclass(frozen=True)
class Layout:
    """How an epoch is divided.

    Attributes:
        world_size: ranks.
        workers: worker processes of each rank, at least 1.
        batch_size: samples of a batch; None: single samples.
        drop_last: leave out the last batch of a rank when it is short.
        even: "pad": ranks repeat samples from the start of the order until all have equally many;
            "drop": samples at its end are left out; None: ranks may differ by one sample.
    """

    world_size: int = 1
    workers: int = 1
    batch_size: int | None = None
    drop_last: bool = False
    even: Even = None

    def __post_init__(self) -> None:
        if self.world_size < 1 or self.workers < 1:
            raise ValueError(f"{self.world_size} ranks, {self.workers} workers: expected 1 or more")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size {self.batch_size}: expected 1 or more, or None")
        if self.even not in ("drop", "pad", None):
            raise ValueError(f"even={self.even!r}: expected 'drop', 'pad' or None")

    @property
    def unit(self) -> int:
        """Samples handed out at once."""
        return self.batch_size or 1

    def rank_bounds(self, total: int, rank: int) -> tuple[int, int]:
        """Return the run [start, stop) of a rank in an order of `total` samples.

        With "pad" it may end past `total`: the order then starts again.
        """
        if not 0 <= rank < self.world_size:
            raise ValueError(f"rank {rank} of {self.world_size} ranks")
        if self.even is None:
            return total * rank // self.world_size, total * (rank + 1) // self.world_size
        share = total // self.world_size
        if self.even == "pad":
            share = -(-total // self.world_size)
        return share * rank, share * (rank + 1)

    def unit_count(self, share: int) -> int:
        """Return the batches (or samples) of a rank that has `share` samples."""
        return share // self.unit if self.drop_last else -(-share // self.unit)

    def worker_units(self, share: int, worker: int) -> tuple[int, int]:
        """Return the batches (or samples) [first, last) of a worker of such a rank."""
        if not 0 <= worker < self.workers:
            raise ValueError(f"worker {worker} of {self.workers} workers")
        units = self.unit_count(share)
        return units * worker // self.workers, units * (worker + 1) // self.workers

    def length(self, total: int, rank: int) -> int:
        """Return the batches (or samples) a rank sees of an order of `total` samples."""
        start, stop = self.rank_bounds(total, rank)
        return self.unit_count(stop - start)


@dataclass(frozen=True)
class Stage:
    """A part of an epoch that was read with one layout.

    An epoch that is resumed with another number of ranks or workers, or another batch size, goes
    on with what is left of it, as a further stage.

    Attributes:
        layout: how what was left was divided.
        received: batches (or samples) the training loop has received, by worker. Every rank is
            taken to be at the same place.
    """

    layout: Layout
    received: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.received) != self.layout.workers or min(self.received) < 0:
            raise ValueError(f"received {self.received}: expected {self.layout.workers} counts")

    def to_json(self) -> dict[str, Any]:
        """Return the stage as JSON."""
        return {**asdict(self.layout), "received": list(self.received)}

    @classmethod
    def from_json(cls, value: Any) -> Stage:
        """Parse what to_json returned, or raise ValueError."""
        names = {field.name for field in fields(Layout)}
        if not isinstance(value, dict) or set(value) != names | {"received"}:
            raise ValueError("stage: members differ from those of this version")
        for name in ("world_size", "workers"):
            if not _is_count(value[name]):
                raise ValueError(f"stage: {name} is {value[name]!r:.40}, expected a count")
        received = value["received"]
        if not isinstance(received, list) or not all(_is_count(count) for count in received):
            raise ValueError(f"stage: received is {received!r:.40}, expected counts")
        return cls(Layout(**{name: value[name] for name in names}), tuple(received))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


@dataclass(frozen=True)
class Schedule:
    """The order of one epoch.

    Attributes:
        chunk_count: chunks of the snapshot.
        seed: of the random order.
        epoch: number of the epoch; each has an order of its own.
        shuffle: whether the order is random.
        window: chunks among which samples are mixed.
    """

    chunk_count: int
    seed: int
    epoch: int
    shuffle: bool
    window: int

    def chunk_order(self) -> NDArray[np.int64]:
        """Return the chunk numbers in the order of this epoch, int64."""
        if not self.shuffle:
            return np.arange(self.chunk_count, dtype="i8")
        return permutation(derive_key(self.seed, self.epoch, _CHUNKS), self.chunk_count)

    def left(self, sample_count: NDArray[np.int64], stages: Sequence[Stage]) -> Pieces:
        """Return what is left of the epoch after some finished stages, in order.

        Args:
            sample_count: int64, samples of every chunk of the snapshot.
            stages: those that were read with another layout.
        """
        sequence = whole_chunks(self.chunk_order(), sample_count)
        for number, stage in enumerate(stages):
            sequence = self._left_after(sequence, number, stage)
        return sequence

    def share(
        self, sequence: Pieces, stage: int, layout: Layout, rank: int, worker: int
    ) -> WindowOrder:
        """Return the order in which one worker of one rank hands out its share.

        Args:
            sequence: what `left` returned.
            stage: number of finished stages.
            layout: how the sequence is divided.
            rank: of this process.
            worker: number of this worker.
        """
        pieces, _ = _cut(sequence, layout, rank, worker)
        return self.window_order(pieces, stage, rank, worker)

    def window_order(self, pieces: Pieces, stage: int, rank: int, worker: int) -> WindowOrder:
        """Return the window order of a share."""
        words = (self.seed, self.epoch, _SHARE, stage, rank, worker)
        return WindowOrder(pieces, self.window, derive_key(*words) if self.shuffle else None)

    def _left_after(self, sequence: Pieces, number: int, stage: Stage) -> Pieces:
        layout, total = stage.layout, sequence.sample_count
        parts = []
        for rank in range(layout.world_size):
            start, stop = layout.rank_bounds(total, rank)
            for worker in range(layout.workers):
                pieces, real = _cut(sequence, layout, rank, worker)
                order = self.window_order(pieces, number, rank, worker)
                received = stage.received[worker] * layout.unit
                parts.append(order.rest(min(received, pieces.sample_count), real))
            # A short batch that drop_last left out has not been seen yet.
            cut = start + min(layout.unit_count(stop - start) * layout.unit, stop - start)
            if cut < min(stop, total):
                parts.append(sequence.select(cut, min(stop, total)))
        if layout.even == "drop":
            parts.append(
                sequence.select(layout.rank_bounds(total, layout.world_size - 1)[1], total)
            )
        return join(parts)


def _cut(sequence: Pieces, layout: Layout, rank: int, worker: int) -> tuple[Pieces, int]:
    """Return the pieces of a share, and how many of them are no repeats."""
    total = sequence.sample_count
    start, stop = layout.rank_bounds(total, rank)
    first, last = layout.worker_units(stop - start, worker)
    low = min(start + first * layout.unit, stop)
    high = min(start + last * layout.unit, stop)
    real = sequence.select(min(low, total), min(high, total))
    parts = [real]
    # Past the end the order starts again, as often as need be.
    low = max(low, total)
    while low < high and total:
        begin = low % total
        end = min(total, begin + high - low)
        parts.append(sequence.select(begin, end))
        low += end - begin
    return join(parts), len(real)
