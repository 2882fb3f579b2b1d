"""Decoded chunks of a snapshot by their number: fetched, verified, decoded."""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqclient.ahead import map_ahead
from dsqclient.filling import ChunkFiller
from dsqclient.verified import open_shard, receive_segments
from dsqformat.bytesource import ByteSource
from dsqformat.chunk import Chunk
from dsqformat.chunk.decode import Output
from dsqformat.dataset import Snapshot
from dsqformat.errors import DatasetError
from dsqformat.schema import Schema
from dsqformat.shard import ShardReader

# Heads of open shards: some 150 bytes a chunk, so this is the index of several 10 GB.
_KEPT_HEADS_NBYTES: Final = 64 << 20
# Heads are small: a few at once hide the round trips.
_HEADS_AT_ONCE: Final = 4


class ChunkLoader:
    """Loads chunks of a snapshot, numbered from 0 through all shards.

    May be forked or pickled; safe to use from several threads.

    Args:
        source: the files of the dataset.
        snapshot: which state of it.
        layers: layers of every field; None: all.
        fields: names of the fields to decode.
        output: "float32" or "source".
        filler: what becomes of left-out patches; None: zeros.
    """

    def __init__(
        self,
        source: ByteSource,
        snapshot: Snapshot,
        *,
        layers: int | None,
        fields: Sequence[str],
        output: Output,
        filler: ChunkFiller | None = None,
    ) -> None:
        self.source = source
        self.snapshot = snapshot
        self.layers = layers
        self.fields = tuple(fields)
        self.output: Output = output
        self._filler = filler
        self.segment_count = needed_segments(snapshot.schema, self.fields, layers)
        self.entries = tuple(snapshot.read_shards(source))
        self._first_chunk = np.cumsum([0, *(e.chunk_count for e in self.entries)]).tolist()
        self._sample_count: NDArray[np.int64] | None = None
        self._shards: OrderedDict[int, ShardReader] = OrderedDict()
        self._renew_locks()

    def _renew_locks(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._opening: dict[int, threading.Lock] = {}

    def __getstate__(self) -> dict[str, Any]:
        hidden = ("_lock", "_opening", "_shards")
        return {name: value for name, value in self.__dict__.items() if name not in hidden}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._shards = OrderedDict()
        self._renew_locks()

    def begin_process(self) -> None:
        """Renew locks inherited through fork: whoever held them then does not exist here."""
        if self._pid != os.getpid():
            self._renew_locks()

    @property
    def chunk_count(self) -> int:
        """Chunks of the snapshot."""
        return int(self._first_chunk[-1])

    def sample_counts(self) -> NDArray[np.int64]:
        """Return the samples of every chunk, int64, shape (chunks,).

        The snapshot says them, but for shards of very irregular chunks: the heads of those are
        fetched by the first call.
        """
        if self._sample_count is None:
            asked = [number for number, e in enumerate(self.entries) if not e.chunk_samples]
            heads = map_ahead(
                lambda number, _: self.shard(number).chunks.sample_count,
                asked,
                depth=2 * _HEADS_AT_ONCE,
                threads=_HEADS_AT_ONCE,
            )
            from_heads = dict(zip(asked, heads, strict=True))
            counts = [np.zeros(0, "i8")]
            for number, entry in enumerate(self.entries):
                runs = np.array(entry.chunk_samples, "i8").reshape(-1, 2)
                counts.append(from_heads.get(number, np.repeat(runs[:, 0], runs[:, 1])))
            self._sample_count = np.concatenate(counts).astype("i8")
        return self._sample_count

    def load(self, chunk: int, cancelled: threading.Event | None = None) -> Chunk:
        """Fetch, verify and decode one chunk.

        Args:
            chunk: its number in the snapshot.
            cancelled: when set, the transfer ends with TransferCancelled.

        Raises:
            CorruptShardError: damage that fetching again did not mend.
            DatasetError: a shard is missing.
            FetchError: the transport failed after its retries.
        """
        number = bisect_right(self._first_chunk, chunk) - 1
        shard, local = self.shard(number), chunk - self._first_chunk[number]
        segments = list(receive_segments(shard, local, self.segment_count, cancelled=cancelled))
        decoded = shard.decode(
            local, segments, layers=self.layers, fields=self.fields, output=self.output
        )
        return decoded if self._filler is None else self._filler(decoded)

    def shard(self, number: int) -> ShardReader:
        """Return the reader of a shard, fetching and verifying its head when it is new."""
        with self._lock:
            found = self._shards.get(number)
            if found is not None:
                self._shards.move_to_end(number)
                return found
            opening = self._opening.setdefault(number, threading.Lock())
        with opening:  # another thread may be fetching the same head
            with self._lock:
                if number in self._shards:
                    return self._shards[number]
            entry = self.entries[number]
            shard = open_shard(self.source, entry)
            if shard.schema != self.snapshot.schema:
                raise DatasetError(f"shard {entry.path}: its schema differs from the snapshot's")
            with self._lock:
                self._shards[number] = shard
                self._opening.pop(number, None)
                self._drop_oldest()
            return shard

    def _drop_oldest(self) -> None:
        kept = sum(self.entries[number].head_nbytes for number in self._shards)
        while kept > _KEPT_HEADS_NBYTES and len(self._shards) > 1:
            number, _ = self._shards.popitem(last=False)
            kept -= self.entries[number].head_nbytes


def needed_segments(schema: Schema, fields: Sequence[str], layers: int | None) -> int:
    """Return how many leading segments of a chunk hold some layers of some fields.

    Args:
        schema: of the shards.
        fields: names; without any, the index segment alone is needed.
        layers: layers of every field, 1 or more; None: all.
    """
    if layers is not None and layers < 1:
        raise ValueError(f"layers={layers}: expected 1 or more, or None for all")
    numbers = [0]
    for field in fields:
        schema.field(field)
        numbers += [
            number
            for (name, layer), number in schema.segment_of.items()
            if name == field and (layers is None or layer < layers)
        ]
    return max(numbers) + 1
