"""Opens a dataset and reads samples by position, slice or key (spec 13)."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat import wire
from dsqformat.bytesource import ByteSource, LocalSource
from dsqformat.chunk import Chunk
from dsqformat.chunk.decode import Output, join_rows
from dsqformat.dataset.key_table import KeyTable
from dsqformat.dataset.snapshot import ROLE_KEYS, ShardEntry, Snapshot, load_snapshot
from dsqformat.errors import DatasetError, UnknownKeyError
from dsqformat.schema import Schema
from dsqformat.shard.reader import ShardReader

# Decoded chunks and open shards to keep: random access mostly stays near where it was.
_CHUNK_CACHE: Final = 4
_SHARD_CACHE: Final = 64
_PAGE_CACHE: Final = 4


def open_dataset(path: str | os.PathLike[str], *, ref: str = "main") -> Dataset:
    """Open a dataset directory on a local disk.

    Args:
        path: the directory that holds dataset.json.
        ref: name of a ref, or the id of a snapshot.

    Raises:
        DatasetError: there is no such dataset, ref or snapshot.
    """
    source = LocalSource(path)
    return Dataset(source, load_snapshot(source, ref))


class Dataset:
    """A snapshot of a dataset, read through a ByteSource.

    `dataset[i]` is a dict of one sample, `dataset[a:b]` and `dataset[[3, 1, 4]]` are dicts of
    batches: arrays (n, *shape), or lists where shapes differ. uint8 fields come back as uint8.

    Args:
        source: the files of the dataset.
        snapshot: which state of it.
    """

    def __init__(self, source: ByteSource, snapshot: Snapshot) -> None:
        self.source = source
        self.snapshot = snapshot
        self._shards: OrderedDict[int, ShardReader] = OrderedDict()
        self._chunks: OrderedDict[tuple[int, int], Chunk] = OrderedDict()
        self._pages: OrderedDict[int, tuple[ShardEntry, ...]] = OrderedDict()
        groups = snapshot.pages or snapshot.shards
        self._group_start = np.cumsum([0, *(group.sample_count for group in groups)]).tolist()
        self._key_table: KeyTable | None = None

    @property
    def schema(self) -> Schema:
        """Fields and columns of the samples."""
        return self.snapshot.schema

    @property
    def has_keys(self) -> bool:
        """Whether samples can be looked up by key."""
        return self.snapshot.blob(ROLE_KEYS) is not None

    def __len__(self) -> int:
        return self.snapshot.sample_count

    def __repr__(self) -> str:
        fields = ", ".join(f"{f.name}: {f.dtype}{list(f.shape)}" for f in self.schema.fields)
        return f"<Dataset {self.source.location!r}: {len(self)} samples of {{{fields}}}>"

    def __enter__(self) -> Dataset:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget cached chunks and release the source."""
        self._chunks.clear()
        self._shards.clear()
        self.source.close()

    # Shards and chunks -------------------------------------------------------------------------

    def shard_entry(self, number: int) -> ShardEntry:
        """Return what the snapshot says of a shard."""
        if not self.snapshot.pages:
            return self.snapshot.shards[number]
        page, row = divmod(number, wire.SHARDS_PER_PAGE)
        return self._page(page)[row]

    def shard(self, number: int) -> ShardReader:
        """Return the reader of a shard, reading and verifying its head when it is new."""
        if number in self._shards:
            self._shards.move_to_end(number)
            return self._shards[number]
        entry = self.shard_entry(number)
        reader = ShardReader(
            self.source,
            entry.path,
            head_nbytes=entry.head_nbytes,
            head_digest=entry.head_digest,
        )
        if reader.schema != self.schema:
            raise DatasetError(f"shard {entry.path}: its schema differs from the snapshot's")
        _remember(self._shards, number, reader, _SHARD_CACHE)
        return reader

    def iter_chunks(
        self,
        *,
        layers: int | None = None,
        fields: Iterable[str] | None = None,
        output: Output = "source",
    ) -> Iterator[Chunk]:
        """Yield the decoded chunks in order.

        Args:
            layers: layers of every field; None for all.
            fields: names of the fields to decode; None for all.
            output: "source": quantized uint8 fields as uint8; "float32": as [0, 1].
        """
        wanted = None if fields is None else list(fields)
        for number in range(self.snapshot.shard_count):
            shard = self.shard(number)
            for chunk in range(len(shard.chunks)):
                yield shard.read_chunk(chunk, layers=layers, fields=wanted, output=output)

    def keys(self) -> Iterator[str]:
        """Yield the keys of the samples in order; nothing when they have none."""
        for number in range(self.snapshot.shard_count):
            shard = self.shard(number)
            for chunk in range(len(shard.chunks)):
                yield from shard.read_keys(chunk)

    # Samples -----------------------------------------------------------------------------------

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[Any]) -> dict[str, Any]:
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self))))
        if isinstance(index, int | np.integer):
            shard, chunk, row = self._place(int(index))
            return self._chunk(shard, chunk).sample(row)
        return self.take(np.asarray(index))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for chunk in self.iter_chunks():
            for row in range(chunk.sample_count):
                yield chunk.sample(row)

    def take(self, positions: NDArray[Any]) -> dict[str, Any]:
        """Return a batch of samples in the order of `positions`; each chunk is decoded once.

        Args:
            positions: integers, shape (n,); negative ones count from the end.

        Raises:
            IndexError: a position that does not exist.
        """
        if positions.ndim != 1 or (len(positions) and positions.dtype.kind not in "iu"):
            raise TypeError(f"positions: expected integers of one dimension, got {positions!r:.60}")
        if not len(positions):
            return self._empty_batch()
        places = [self._place(int(position)) for position in positions]
        order = sorted(range(len(places)), key=places.__getitem__)
        parts, start = [], 0
        while start < len(order):
            shard, chunk, _ = places[order[start]]
            end = start
            while end < len(order) and places[order[end]][:2] == (shard, chunk):
                end += 1
            rows = np.array([places[number][2] for number in order[start:end]])
            parts.append(self._chunk(shard, chunk).rows(rows))
            start = end
        batch = join_rows(parts)
        if order == list(range(len(order))):
            return batch
        inverse = np.empty(len(order), "i8")
        inverse[order] = np.arange(len(order))
        return Chunk(len(order), {}, batch, {}).rows(inverse)

    def position_of(self, key: str) -> int:
        """Return the position of the sample with this key.

        Raises:
            UnknownKeyError: there is none, or the samples have no keys.
        """
        blob = self.snapshot.blob(ROLE_KEYS)
        if blob is None:
            raise UnknownKeyError(f"key {key!r}: the samples of this dataset have no keys")
        if self._key_table is None:
            self._key_table = KeyTable(self.source, blob.path)
        for position in self._key_table.positions(key):
            shard, chunk, row = self._place(position)
            if self.shard(shard).read_keys(chunk)[row] == key:
                return position
        raise UnknownKeyError(f"key {key!r}: no sample of this dataset has it")

    def by_key(self, key: str) -> dict[str, Any]:
        """Return the sample with this key, or raise UnknownKeyError."""
        return self[self.position_of(key)]

    def to_numpy(
        self,
        fields: Iterable[str] | None = None,
        *,
        layers: int | None = None,
        output: Output = "source",
    ) -> dict[str, Any]:
        """Decode the whole dataset into memory.

        Args:
            fields: names of the fields; None for all. Columns always come along.
            layers: layers of every field; None for all.
            output: "source": quantized uint8 fields as uint8; "float32": as [0, 1].

        Returns:
            Per name an array (n, *shape), or a list where shapes differ or values are strings.
        """
        chunks = self.iter_chunks(layers=layers, fields=fields, output=output)
        parts = [chunk.rows(slice(None)) for chunk in chunks]
        return join_rows(parts) if parts else self._empty_batch()

    def _empty_batch(self) -> dict[str, Any]:
        batch: dict[str, Any] = {
            field.name: np.empty((0, *(d or 0 for d in field.shape)), field.numpy_dtype)
            for field in self.schema.fields
        }
        for column in self.schema.columns:
            batch[column.name] = np.empty(0, column.type) if column.numeric else []
        return batch

    def _page(self, number: int) -> tuple[ShardEntry, ...]:
        if number not in self._pages:
            entries = self.snapshot.read_page(self.source, number)
            _remember(self._pages, number, entries, _PAGE_CACHE)
        return self._pages[number]

    def _chunk(self, shard: int, chunk: int) -> Chunk:
        if (shard, chunk) in self._chunks:
            self._chunks.move_to_end((shard, chunk))
        else:
            decoded = self.shard(shard).read_chunk(chunk, output="source")
            _remember(self._chunks, (shard, chunk), decoded, _CHUNK_CACHE)
        return self._chunks[shard, chunk]

    def _place(self, position: int) -> tuple[int, int, int]:
        """Return shard number, chunk number and row of a position."""
        count = len(self)
        if not -count <= position < count:
            raise IndexError(f"position {position}: the dataset has {count} samples")
        position %= count
        group = bisect_right(self._group_start, position) - 1
        position -= self._group_start[group]
        shard = group
        if self.snapshot.pages:
            shard = group * wire.SHARDS_PER_PAGE
            for entry in self._page(group):
                if position < entry.sample_count:
                    break
                position -= entry.sample_count
                shard += 1
        starts = self.shard(shard).chunks.chunk_start
        chunk = int(np.searchsorted(starts, position, side="right")) - 1
        return shard, chunk, position - int(starts[chunk])


def _remember(cache: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    cache[key] = value
    while len(cache) > most:
        cache.popitem(last=False)
