"""A PyTorch dataset that streams from a path or a URL."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final, Literal, NamedTuple

import torch
from torch.utils.data import IterableDataset, get_worker_info

from dsqclient.batches import read_batches
from dsqclient.chunks import ChunkLoader
from dsqclient.epochs import EpochClock, Start
from dsqclient.filling import AUTO, ChunkFiller
from dsqclient.opening import open_source
from dsqclient.pieces import whole_chunks
from dsqclient.position import Position, parse_state
from dsqclient.retry import HttpOptions
from dsqclient.schedule import Even, Layout, Schedule
from dsqclient.tensors import Sample, split_samples, to_tensors
from dsqclient.transport import HttpSource
from dsqclient.window import WindowOrder
from dsqformat.chunk.decode import Output
from dsqformat.dataset import Snapshot, load_snapshot
from dsqformat.reconstruct import Reconstructor
from dsqformat.schema import Schema

_LOADER_TOKEN: Final = "StreamingLoader"


class StreamingDataset(IterableDataset[Sample]):
    """Streams a snapshot, in order or shuffled, whole or in equal shares of ranks and workers.

    With `batch_size`, yields dicts of tensors (n, ...) by name: pass it to a loader with
    `batch_size=None`. Strings and bytes, and fields whose shapes differ within a batch, are lists
    of n. Without it, yields dicts of single samples; columns then are Python values.

    Ranks get shares that differ by at most one sample, by the rule of `even`. The workers of a
    rank divide its batches (its samples, without `batch_size`) so that their counts differ by one
    at most: only the last batch of a rank can be short, and len() is the true number of batches
    for any number of workers. A chunk at a border is read by both neighbours.

    Shuffling draws a new order for each epoch: a permutation of all chunks, then of the samples
    of `shuffle_window` chunks. It depends on seed, epoch, ranks and workers, never on timing.

    The epoch counts up with every iteration. `set_epoch` sets it. To stop and go on in mid-epoch,
    use `StreamingLoader`, or torchdata's StatefulDataLoader.

    Args:
        path_or_url: the directory that holds dataset.json: a local path or an http(s) URL.
        batch_size: samples of a batch; None: single samples.
        layers: layers of every field to fetch and decode; None: all.
        fields: names of the fields to yield; None: all.
        columns: names of the columns to yield; None: all.
        shuffle: whether the order is random.
        seed: of the random order.
        shuffle_window: chunks among which samples are mixed; bounds the memory.
        rank: of this process; by default that of torch.distributed, else $RANK, else 0.
        world_size: processes that share the epoch; likewise, $WORLD_SIZE, 1.
        even: "pad": every rank has as many samples as the largest share, by repeating some from
            the start of the order; "drop": as the smallest, by leaving out some at its end; None:
            ranks may differ by one. "auto": None for one rank, "pad" for several.
        drop_last: leave out a short batch at the end of a rank's share.
        transform: called with each batch (each sample, without batch_size); its result is yielded.
        output: "float32": quantized uint8 fields as [0, 1]; "source": as uint8.
        fill: what becomes of patches that are not stored. "auto": what the snapshot's provenance
            says, else zeros; "harmonic" or "mean": these; "none": zeros, and a boolean entry
            NAME.mask (n, rows, columns) for the model, true for stored patches; or a Reconstructor
            with weights.
        channels_first: permute pictures (height, width, 1, 3 or 4 channels) to (channels, height,
            width); a view, so that the memory stays in channels-last order.
        rate_limit: most bytes per second to receive over HTTP, shared by the workers of this
            rank: each has an equal part.
        prefetch: chunks that each worker fetches ahead; 0: none, and no threads.
        options: timeouts, retries and headers for HTTP.
        ref: name of a ref, or the id of a snapshot.

    Raises:
        DatasetError: there is no such dataset, ref or snapshot.
        FetchError: the server cannot be reached.
        ValueError: an argument is out of range, or names a field or column there is not.
    """

    def __init__(
        self,
        path_or_url: str | os.PathLike[str],
        *,
        batch_size: int | None = None,
        layers: int | None = None,
        fields: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        shuffle: bool = False,
        seed: int = 0,
        shuffle_window: int = 8,
        rank: int | None = None,
        world_size: int | None = None,
        even: Even | Literal["auto"] = "auto",
        drop_last: bool = False,
        transform: Callable[[Sample], Any] | None = None,
        output: Output = "float32",
        fill: str | Reconstructor = AUTO,
        channels_first: bool = True,
        rate_limit: float | None = None,
        prefetch: int = 4,
        options: HttpOptions | None = None,
        ref: str = "main",
    ) -> None:
        if shuffle_window < 1 or prefetch < 0:
            raise ValueError("shuffle_window: expected 1 or more; prefetch: 0 or more")
        if output not in ("float32", "source"):
            raise ValueError(f"output={output!r}: expected 'float32' or 'source'")
        self.rank, self.world_size = _resolve_rank(rank, world_size)
        if even == "auto":
            even = "pad" if self.world_size > 1 else None
        self.batch_size = batch_size
        self.shuffle, self.seed, self.shuffle_window = shuffle, int(seed), shuffle_window
        self.transform, self.channels_first, self.prefetch = transform, channels_first, prefetch
        self.rate_limit = rate_limit
        self._layout = Layout(self.world_size, 1, batch_size, drop_last, even)
        source = open_source(path_or_url, rate_limit=rate_limit, options=options)
        self.snapshot: Snapshot = load_snapshot(source, ref)
        self._names = _chosen(self.snapshot.schema, fields, columns)
        wanted = [f.name for f in self.snapshot.schema.fields if f.name in self._names]
        filler = ChunkFiller(self.snapshot, wanted, fill)
        self._names += filler.mask_names
        self._loader = ChunkLoader(
            source, self.snapshot, layers=layers, fields=wanted, output=output, filler=filler
        )
        self._clock = EpochClock()
        self._carries_position = False
        # Of this process: where its last iteration stands, and where a worker is told to begin.
        self._position: Position | None = None
        self._own_start: Start | None = None

    @property
    def schema(self) -> Schema:
        """Fields and columns of the samples."""
        return self.snapshot.schema

    @property
    def layers(self) -> int | None:
        """Layers of every field that are fetched; None: all."""
        return self._loader.layers

    @property
    def epoch(self) -> int:
        """Number of the epoch that the next iteration reads."""
        return self._clock.next_start().epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration read this epoch, from its start."""
        if epoch < 0:
            raise ValueError(f"epoch {epoch}: expected 0 or more")
        self._clock.set_next(Start(int(epoch)))

    def close(self) -> None:
        """Close connections and temporary files; they come back when reading goes on."""
        self._loader.source.close()

    def __len__(self) -> int:
        """Batches (samples, without batch_size) of an epoch on this rank, for any workers."""
        return self._layout.length(self.snapshot.sample_count, self.rank)

    def __repr__(self) -> str:
        return (
            f"<StreamingDataset {self._loader.source.location!r}: {len(self)} "
            f"{'samples' if self.batch_size is None else 'batches'} on rank {self.rank} of "
            f"{self.world_size}>"
        )

    def __iter__(self) -> Generator[Any]:
        """Begin an iteration and take its epoch; nothing is fetched before the first next()."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 0)
        token: object = info.seed - info.id if info is not None else None
        if self._carries_position:
            token = _LOADER_TOKEN
        if self._own_start is not None:
            start, self._own_start = self._own_start, None
            self._clock.begin_at(start, token, workers=workers)
        else:
            start = self._clock.begin(token, workers=workers)
        if info is not None:
            self._loader.begin_process()
            self._share_rate(workers)
        position = Position.begin(start, self.layout_of(workers))
        self._position = position
        if self._carries_position:
            # A loader begins with its first process, whoever's turn it was: let that one have it.
            worker = (worker + position.next_worker) % position.layout.workers
        return self._read(position, worker)

    # State --------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return where the iteration stands: small, JSON, and enough to go on exactly there.

        For iterations in this process, and for StatefulDataLoader, which calls this in workers.

        Raises:
            RuntimeError: the workers of a plain DataLoader are reading: they are ahead of the
                training loop, and only they know where they are.
        """
        info = get_worker_info()
        if info is None and self._clock.workers:
            raise RuntimeError(
                "StreamingDataset.state_dict(): the workers of a loader read this dataset, so its "
                "position is not known here; use dsqclient.StreamingLoader and its state_dict(), "
                "or torchdata.stateful_dataloader.StatefulDataLoader"
            )
        position = self._position or Position.begin(self._clock.next_start(), self.layout_of(0))
        return self.describe(position, worker=None if info is None else info.id)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iteration go on where `state` was taken.

        Another number of ranks or workers, or another batch size, than when it was taken is fine:
        what is left of the epoch then is divided anew.

        Raises:
            ValueError: the state is of another snapshot, seed or shuffling, or no state at all.
        """
        start, worker = parse_state(state, self._identity())
        info = get_worker_info()
        if worker is None:
            self._position = None
            self._clock.set_next(start)
            return
        stage = start.stages[-1]
        if info is None or (info.id, info.num_workers) != (worker, stage.layout.workers):
            raise ValueError(
                f"this is the state of worker {worker} of {stage.layout.workers} of a "
                "StatefulDataLoader; load the state of the loader, with as many workers"
            )
        self._own_start = start

    def describe(self, position: Position, *, worker: int | None = None) -> dict[str, Any]:
        """Return the state_dict of a position in this dataset."""
        state = {**self._identity(), **position.to_start().to_json()}
        return state if worker is None else {**state, "worker": worker}

    # For StreamingLoader ------------------------------------------------------------------------

    def carry_position(self) -> None:
        """Let iterations yield Carried items."""
        self._carries_position = True

    def announce_start(self) -> Start:
        """Fix where the next iteration of a StreamingLoader begins, for all its workers."""
        return self._clock.announce(_LOADER_TOKEN)

    def next_start(self) -> Start:
        """Return where the next iteration would begin."""
        return self._clock.next_start()

    def _identity(self) -> dict[str, Any]:
        """Return what a state must agree on to mean anything here."""
        return {
            "format": "dsq-position",
            "version": 1,
            "snapshot": self.snapshot.id,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "shuffle_window": self.shuffle_window,
        }

    # Reading ------------------------------------------------------------------------------------

    def layout_of(self, workers: int) -> Layout:
        """Return how an epoch is divided when each rank has so many workers (0: none)."""
        layout = self._layout
        return Layout(
            layout.world_size, max(workers, 1), layout.batch_size, layout.drop_last, layout.even
        )

    def _share_rate(self, workers: int) -> None:
        source = self._loader.source
        if self.rate_limit is not None and isinstance(source, HttpSource):
            source.rate_limit = self.rate_limit / workers

    def _order(self, position: Position, worker: int) -> WindowOrder:
        layout, finished = position.layout, position.finished
        schedule = Schedule(
            chunk_count=self._loader.chunk_count,
            seed=self.seed,
            epoch=position.epoch,
            shuffle=self.shuffle,
            window=self.shuffle_window,
        )
        lone = layout.world_size == layout.workers == 1
        if lone and not finished and not position.received[worker]:
            # A lone reader finds the sample counts on its way: no head is fetched before its time.
            return schedule.window_order(whole_chunks(schedule.chunk_order()), 0, 0, 0)
        sequence = schedule.left(self._loader.sample_counts(), finished)
        return schedule.share(sequence, len(finished), layout, self.rank, worker)

    def _read(self, position: Position, worker: int) -> Generator[Any]:
        # All that may fail is in here: some loaders let errors of iter() kill the worker.
        layout = position.layout
        batches = read_batches(
            self._order(position, worker),
            self._loader.load,
            self._names,
            batch_size=layout.batch_size,
            drop_last=layout.drop_last,
            skip=position.received[worker] * layout.unit,
            prefetch=self.prefetch,
        )
        with closing(batches):
            for batch in batches:
                tensors = to_tensors(self.schema, batch, channels_first=self.channels_first)
                for item in [tensors] if self.batch_size is not None else split_samples(tensors):
                    result = item if self.transform is None else self.transform(item)
                    position.count(worker)
                    if self._carries_position:
                        yield Carried(position.epoch, worker, position.received[worker], result)
                    else:
                        yield result


class Carried(NamedTuple):
    """What a worker sends to a StreamingLoader.

    Attributes:
        epoch: that the worker reads.
        worker: its number.
        received: batches (samples) of this worker up to and with this one.
        item: the batch (sample).
    """

    epoch: int
    worker: int
    received: int
    item: Any


def _chosen(
    schema: Schema, fields: Sequence[str] | None, columns: Sequence[str] | None
) -> tuple[str, ...]:
    chosen_fields = [f.name for f in schema.fields] if fields is None else list(fields)
    chosen_columns = [c.name for c in schema.columns] if columns is None else list(columns)
    for name in chosen_fields:
        schema.field(name)
    for name in chosen_columns:
        schema.column(name)
    if not chosen_fields and not chosen_columns:
        raise ValueError("fields and columns: nothing was chosen")
    return (*chosen_fields, *chosen_columns)


def _resolve_rank(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return rank and world size, asking torch.distributed, then the environment."""
    if (rank is None) != (world_size is None):
        raise ValueError(f"rank={rank} and world_size={world_size}: give both or neither")
    if rank is not None and world_size is not None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size} ranks")
        return rank, world_size
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    found = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not all(text.isdigit() for text in found) or int(found[0]) >= int(found[1]):
        raise ValueError(f"RANK={found[0]!r}, WORLD_SIZE={found[1]!r}: not a rank of a world")
    return int(found[0]), int(found[1])
