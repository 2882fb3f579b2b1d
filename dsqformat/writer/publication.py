"""From encoded chunks to a published snapshot: shards, tables, one atomic ref."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from dsqformat import wire
from dsqformat.dataset.key_table import key_hashes
from dsqformat.dataset.sample_table import MEDIA_TYPE
from dsqformat.dataset.snapshot import (
    ROLE_KEYS,
    ROLE_SAMPLES,
    BlobEntry,
    ShardPage,
    encode_page,
    encode_snapshot,
)
from dsqformat.dataset.store import LocalStore, NewBlob
from dsqformat.shard.writer import ShardWriter, WrittenShard
from dsqformat.writer.encoding import ChunkEncoder, CodedChunk, Fineness
from dsqformat.writer.parent import ParentSnapshot
from dsqformat.writer.spill import SampleSpill
from dsqformat.writer.tables import TablesBuilder
from dsqformat.writer.tally import Tally

_COPY_NBYTES: Final = 1 << 20


@dataclass(frozen=True)
class Encoded:
    """A chunk of a shard that may have to be encoded again.

    Attributes:
        shard: number of the shard among those of this writer.
        place: position of its first sample, number of the shard, number of the chunk in it.
        rows: numbers of its samples in the spill.
        settings: as `EncodedChunk` has them.
        packed_nbytes: likewise.
        hashes: of the keys, or None.
        tally: of this chunk alone.
    """

    shard: int
    place: tuple[int, int, int]
    rows: NDArray[np.int64]
    settings: Mapping[str, NDArray[np.uint8]]
    packed_nbytes: NDArray[np.int64]
    hashes: NDArray[np.uint64] | None
    tally: Tally


@dataclass(frozen=True)
class Prepared:
    """A snapshot that is ready to be published, and the files that go with it.

    Attributes:
        snapshot: its bytes.
        entries: its auxiliary files, pages left out.
        files: contents that have to be stored still, with their suffix.
        table: path of the sample table, or None.
        nbytes: of the shards, the auxiliary files, the pages and the snapshot of this writer.
        other_blob_nbytes: of these, auxiliary files that are neither table nor keys.
        pages_nbytes: of these, pages.
    """

    snapshot: bytes
    entries: list[BlobEntry]
    files: list[tuple[bytes, str]]
    table: Path | None
    nbytes: int
    other_blob_nbytes: int
    pages_nbytes: int


class SnapshotBuilder:
    """Rolls shards of encoded chunks, and keeps the sample table and the keys.

    Args:
        store: where blobs go.
        encoder: of the samples.
        keyed: whether samples have keys.
        table: whether to write a sample table.
        parent: the snapshot that is appended to.
        rewindable: whether shards may have to be encoded again: they get their names only when
            everything is published, and the sample table is written last.
        on_chunk: called with the number of samples of each chunk written.
    """

    def __init__(
        self,
        store: LocalStore,
        encoder: ChunkEncoder,
        *,
        keyed: bool,
        table: bool,
        parent: ParentSnapshot | None = None,
        rewindable: bool = False,
        on_chunk: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.store, self.encoder = store, encoder
        self.schema, self.options = encoder.schema, encoder.options
        self.shards: list[WrittenShard] = []
        self.tally = Tally()
        self.committed: list[Path] = []
        self.chunks: list[Encoded] = []
        self._waiting: list[Path] = []
        self._first_shard = len(parent.shards) if parent else 0
        self._first_position = parent.snapshot.sample_count if parent else 0
        self._parent = parent
        self._on_chunk = on_chunk
        self._shard: ShardWriter | None = None
        self._keyed, self._with_table, self._rewindable = keyed, table, rewindable
        self._tables = TablesBuilder(store.blobs, self.schema, keyed=keyed, parent=parent)
        if table and not rewindable:
            self._tables.begin()

    # Chunks ------------------------------------------------------------------------------------

    def encode(
        self,
        spill: SampleSpill,
        order: NDArray[np.int64],
        fineness: Fineness | None = None,
        *,
        last: bool = True,
    ) -> int:
        """Encode samples in an order; unless it is the last call, a short rest is left over.

        Args:
            spill: the samples.
            order: numbers of those to be encoded.
            fineness: how finely, if not as given.
            last: whether these are all samples there will be.

        Returns:
            How many samples of `order` were written.
        """
        done = 0
        for coded in self.encoder.chunks(spill, order, fineness, last=last):
            self._append(coded)
            done += len(coded.rows)
        return done

    def rewind(self, shard_count: int) -> int:
        """Drop all shards but the first few, to be encoded again; only if rewindable.

        Returns:
            How many samples are left.
        """
        if not self._rewindable:
            raise ValueError("this builder does not keep what it needs to begin again")
        if self._shard is not None:
            self._shard.close()
            self._shard = None
        for path in self._waiting[shard_count:]:
            path.unlink(missing_ok=True)
        del self._waiting[shard_count:], self.shards[shard_count:]
        self.chunks = [chunk for chunk in self.chunks if chunk.shard < shard_count]
        self._tables.hashes = [c.hashes for c in self.chunks if c.hashes is not None]
        self.tally = Tally()
        for chunk in self.chunks:
            self.tally.add(chunk.tally)
        return self.tally.sample_count

    def _append(self, coded: CodedChunk) -> None:
        chunk, shard = coded.encoded, self._shard
        if shard and shard.nbytes + chunk.nbytes > self.options.shard_nbytes:
            self.finish_shard()
            shard = None
        if shard is None:
            shard = ShardWriter(
                self.schema,
                self.store.blobs,
                block_nbytes=self.options.block_nbytes,
                models=self.encoder.models,
            )
            self._shard = shard
        position = self._first_position + self.tally.sample_count
        place = (position, self._first_shard + len(self.shards), shard.chunk_count)
        self._tables.append(place, coded.columns, coded.keys, chunk.settings, chunk.packed_nbytes)
        shard.append(chunk, coded.keys)
        tally = Tally.of(self.schema, coded)
        self.tally.add(tally)
        hashes = None if coded.keys is None else key_hashes(coded.keys)
        if hashes is not None:
            self._tables.hashes.append(hashes)
        if self._rewindable:
            number, packed = len(self.shards), chunk.packed_nbytes
            self.chunks.append(
                Encoded(number, place, coded.rows, chunk.settings, packed, hashes, tally)
            )
        self._on_chunk(chunk.sample_count)

    def finish_shard(self) -> None:
        """Finish the shard under way, if there is one."""
        if self._shard is None:
            return
        if self._rewindable:
            descriptor, name = tempfile.mkstemp(dir=self.store.blobs, prefix=".new-")
            self._waiting.append(Path(name))
            with os.fdopen(descriptor, "wb") as file:
                written = self._shard.finish(file)
        else:
            with self.store.new_blob() as blob:
                written = self._shard.finish(blob.file)
                self._commit(blob.commit, written.digest, "dsq")
        self.shards.append(written)
        self._shard = None

    def _commit(self, commit: Callable[[str, str], Path], digest: str, suffix: str) -> None:
        known = (self.store.blobs / f"{digest}.{suffix}").exists()
        path = commit(digest, suffix)
        if not known:
            self.committed.append(path)

    def tables_nbytes(
        self,
        spill: SampleSpill,
        order: NDArray[np.int64],
        fineness: Fineness,
        total_nbytes: Callable[[], int],
    ) -> int:
        """Return about what a snapshot takes besides its shards; only before samples are encoded.

        Args:
            spill: the samples.
            order: in which they will be encoded.
            fineness: how finely.
            total_nbytes: returns the bytes of everything with the chunks there are.
        """
        columns = {f"{f.name}.{f.setting}": f for f in self.schema.fields if f.setting}
        packed = spill.packed_nbytes()
        for start in range(0, len(order), wire.MAX_CHUNK_SAMPLES):
            rows = order[start : start + wire.MAX_CHUNK_SAMPLES]
            settings = {
                name: fineness.settings.get(field.name, np.full(len(spill), 8, "u1"))[rows]
                for name, field in columns.items()
            }
            keys = spill.take_keys(rows)
            hashes = None if keys is None else key_hashes(keys)
            if hashes is not None:
                self._tables.hashes.append(hashes)
            tally = Tally(sample_count=len(rows))
            self.tally.add(tally)
            place = (self._first_position + start, self._first_shard, len(self.chunks))
            self.chunks.append(Encoded(0, place, rows, settings, packed[rows], hashes, tally))
        nbytes = total_nbytes()
        self.rewind(0)
        return nbytes

    # Publishing --------------------------------------------------------------------------------

    def prepare(
        self,
        spill: SampleSpill,
        dropped: SampleSpill,
        *,
        blobs: Sequence[BlobEntry] = (),
        kept: Sequence[BlobEntry] = (),
        provenance: Mapping[str, Any],
        expected: str | None,
    ) -> Prepared:
        """Finish shards and tables, and store none of them yet.

        Args:
            spill: the samples, if the table is written last.
            dropped: samples without a payload.
            blobs: auxiliary files of this writer, stored already.
            kept: those of the parent.
            provenance: of the snapshot.
            expected: id of the snapshot it replaces.
        """
        self.finish_shard()
        entries, files = [*kept, *blobs], []
        # Two roles with the same content share a file.
        other_blob_nbytes = sum({blob.path: blob.nbytes for blob in blobs}.values())
        added = other_blob_nbytes
        table = self._finish_table(spill, dropped)
        if table is not None:
            with table.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            nbytes = table.stat().st_size
            entries.append(BlobEntry(ROLE_SAMPLES, digest, nbytes, MEDIA_TYPE, "parquet"))
            added += nbytes
        if self._keyed:
            data = self._tables.keys(self._first_position + self.tally.sample_count)
            media_type = "application/octet-stream"
            digest = wire.sha256_hex(data)
            entries.append(BlobEntry(ROLE_KEYS, digest, len(data), media_type, "keys"))
            files.append((data, "keys"))
            added += len(data)
        shards = [*(self._parent.shards if self._parent else ()), *self.shards]
        pages, contents = _pages(shards)
        snapshot = encode_snapshot(
            self.schema, shards, pages=pages, blobs=entries, provenance=provenance, parent=expected
        )
        pages_nbytes = sum(page.nbytes for page in pages)
        added += len(snapshot) + pages_nbytes + sum(shard.nbytes for shard in self.shards)
        files += [(content, "page") for content in contents]
        return Prepared(snapshot, entries, files, table, added, other_blob_nbytes, pages_nbytes)

    def store_all(self, prepared: Prepared) -> None:
        """Store what a prepared snapshot refers to, and drop temporary files."""
        for path, written in zip(self._waiting, self.shards, strict=False):
            # The name of a shard that waits is not its own yet.
            with path.open("r+b") as file:
                blob = NewBlob(path, cast(BinaryIO, file))
                self._commit(blob.commit, written.digest, "dsq")
        self._waiting = []
        if prepared.table is not None:
            with self.store.new_blob() as blob, prepared.table.open("rb") as file:
                shutil.copyfileobj(file, blob.file, _COPY_NBYTES)
                digest = next(e.digest for e in prepared.entries if e.role == ROLE_SAMPLES)
                self._commit(blob.commit, digest, "parquet")
        for content, suffix in prepared.files:
            with self.store.new_blob() as blob:
                blob.file.write(content)
                self._commit(blob.commit, wire.sha256_hex(content), suffix)
        self.close()

    def _finish_table(self, spill: SampleSpill, dropped: SampleSpill) -> Path | None:
        """Write the rest of the sample table, or all of it if it is written last."""
        if not self._with_table:
            return None
        if self._rewindable:
            self._tables.begin()
        for chunk in self.chunks:
            columns, keys = spill.take_columns(chunk.rows), spill.take_keys(chunk.rows)
            self._tables.append(chunk.place, columns, keys, chunk.settings, chunk.packed_nbytes)
        return self._tables.complete(dropped)

    def close(self) -> None:
        """Drop temporary files."""
        if self._shard is not None:
            self._shard.close()
            self._shard = None
        for path in self._waiting:
            path.unlink(missing_ok=True)
        self._waiting = []
        self._tables.close()


def _pages(shards: Sequence[WrittenShard]) -> tuple[list[ShardPage], list[bytes]]:
    """Return the pages of a snapshot of many shards, and their contents."""
    if len(shards) <= wire.SHARDS_PER_PAGE:
        return [], []
    pages, contents = [], []
    for start in range(0, len(shards), wire.SHARDS_PER_PAGE):
        group = shards[start : start + wire.SHARDS_PER_PAGE]
        content = encode_page(group)
        samples = sum(shard.sample_count for shard in group)
        pages.append(ShardPage(wire.sha256_hex(content), len(content), samples, len(group)))
        contents.append(content)
    return pages, contents
