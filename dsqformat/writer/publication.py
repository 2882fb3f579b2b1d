"""From collected samples to a published snapshot: chunks, shards, tables, one atomic ref."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat import wire
from dsqformat.chunk import (
    ChunkInput,
    CodingOptions,
    EncodedChunk,
    FieldModel,
    FieldTuning,
    encode_chunk,
    fit_models,
)
from dsqformat.chunk.inputs import DEFAULT_ZSTD_LEVEL, Coding
from dsqformat.coding.columns import Values
from dsqformat.dataset.key_table import encode_key_table, key_hashes
from dsqformat.dataset.sample_table import MEDIA_TYPE, SampleTableWriter
from dsqformat.dataset.snapshot import (
    ROLE_KEYS,
    ROLE_SAMPLES,
    BlobEntry,
    ShardPage,
    encode_page,
    encode_snapshot,
)
from dsqformat.dataset.store import LocalStore
from dsqformat.schema import Schema
from dsqformat.shard.writer import ShardWriter, WrittenShard
from dsqformat.writer.spill import SampleSpill

# A chunk never holds more than this many times its target in packed bytes, however well the codes
# compress: the reader has to expand it.
MAX_EXPANSION: Final = 16
# Packed bytes of the samples that models are fitted to; blocks have more contexts to fill.
MODEL_SAMPLE_NBYTES: Final = 3 << 20
BLOCK_SAMPLE_NBYTES: Final = 12 << 20
MAX_MODEL_SHARE: Final = 0.02
LEAST_MODEL_NBYTES: Final = 256
_WORKERS: Final = max(1, min(8, os.cpu_count() or 1))


@dataclass(frozen=True)
class StorageOptions:
    """How bytes are laid out.

    Attributes:
        coding: "auto", "packed", "zstd" or "rans".
        zstd_level: 1 to 22.
        chunk_nbytes: what a chunk should have at full fidelity.
        shard_nbytes: what a shard should have.
        block_nbytes: unit of the link check.
    """

    coding: Coding = "auto"
    zstd_level: int = DEFAULT_ZSTD_LEVEL
    chunk_nbytes: int = 256 << 10
    shard_nbytes: int = 32 << 20
    block_nbytes: int = wire.DEFAULT_BLOCK_NBYTES

    def __post_init__(self) -> None:
        if self.coding not in ("auto", "packed", "zstd", "rans"):
            raise ValueError(f"coding {self.coding!r}: expected auto, packed, zstd or rans")
        if not 1 <= self.zstd_level <= 22:
            raise ValueError(f"zstd_level {self.zstd_level}: expected 1 to 22")
        if not 1 <= self.chunk_nbytes <= 1 << 28:
            raise ValueError(f"chunk_nbytes {self.chunk_nbytes}: expected 1 to 2^28")
        if not self.chunk_nbytes <= self.shard_nbytes <= 1 << 30:
            raise ValueError(f"shard_nbytes {self.shard_nbytes}: expected chunk_nbytes to 2^30")
        if self.block_nbytes not in (4096, 8192, 16384, 32768, 65536):
            raise ValueError(f"block_nbytes {self.block_nbytes}: a power of two, 4096 to 65536")


class SnapshotBuilder:
    """Encodes chunks on all cores, rolls shards, and keeps the sample table and the keys.

    Args:
        store: where blobs go.
        schema: of the samples.
        options: layout of the bytes.
        keyed: whether samples have keys.
        table: whether to write a sample table.
        tuning: how the encoder works, by field name.
        first: number of shards and samples of a parent snapshot that come before.
        on_chunk: called with the number of samples of each chunk written.
    """

    def __init__(
        self,
        store: LocalStore,
        schema: Schema,
        options: StorageOptions,
        *,
        keyed: bool,
        table: bool,
        tuning: Mapping[str, FieldTuning] | None = None,
        first: tuple[int, int] = (0, 0),
        on_chunk: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.store, self.schema, self.options = store, schema, options
        self._coding = CodingOptions(options.coding, options.zstd_level, tuning or {})
        self.shards: list[WrittenShard] = []
        self.packed_nbytes = 0
        self.committed: list[Path] = []
        self._first_shard, self._position = first
        self._on_chunk = on_chunk
        self._ratio: float | None = None
        self._models: dict[str, FieldModel] | None = None
        self._shard: ShardWriter | None = None
        self._hashes: list[NDArray[np.uint64]] = []
        self._keyed = keyed
        self._scratch = contextlib.ExitStack()
        self._table_path: Path | None = None
        self.table: SampleTableWriter | None = None
        if table:
            self._open_table()

    def _open_table(self) -> None:
        with contextlib.ExitStack() as undo:
            # Importing pyarrow takes long enough to be interrupted.
            undo.callback(self._scratch.close)
            folder = tempfile.TemporaryDirectory(dir=self.store.blobs, prefix=".table-")
            self._table_path = Path(self._scratch.enter_context(folder)) / "samples.parquet"
            self.table = SampleTableWriter(self._table_path, self.schema, keyed=self._keyed)
            undo.pop_all()

    # Chunks ------------------------------------------------------------------------------------

    def encode(self, spill: SampleSpill, order: NDArray[np.int64], *, last: bool = True) -> int:
        """Encode samples in an order; unless it is the last call, a short rest is left over.

        Returns:
            How many samples of `order` were written.
        """
        patches = {field.name: field.patch for field in self.schema.fields}
        raw = {field.name: field.quantizer == "raw" for field in self.schema.fields}
        sizes = spill.packed_nbytes()[order]
        if self._models is None:
            self._models = self._fit(spill, order, patches, raw, last=last)
        done = 0
        pending: deque[tuple[Future[EncodedChunk], ChunkInput, list[str] | None]] = deque()
        with ThreadPoolExecutor(_WORKERS) as pool:
            for rows in self._cut(order, sizes, last=last):
                samples = spill.take(rows, patches, raw)
                keys = spill.take_keys(rows)
                done += len(rows)
                if self._ratio is None:
                    chunk = self._encode(samples)
                    packed = max(1, int(chunk.packed_nbytes.sum()))
                    self._ratio = min(1.0, max(1 / MAX_EXPANSION, chunk.nbytes / packed))
                    self._append(chunk, samples.columns, keys)
                    continue
                pending.append((pool.submit(self._encode, samples), samples, keys))
                if len(pending) > _WORKERS:
                    self._append_next(pending)
            while pending:
                self._append_next(pending)
        return done

    def _fit(
        self,
        spill: SampleSpill,
        order: NDArray[np.int64],
        patches: Mapping[str, int | None],
        raw: Mapping[str, bool],
        *,
        last: bool,
    ) -> dict[str, FieldModel]:
        """Fit models to samples from all over the order, a bounded number."""
        if not len(order):
            return {}
        packed = int(spill.packed_nbytes()[order].sum())
        # A model is paid once a shard; what is too small to earn it back does without.
        worth: int | None = None
        if self.options.coding == "auto":
            worth = int(MAX_MODEL_SHARE * min(packed, self.options.shard_nbytes))
            worth = worth if worth >= LEAST_MODEL_NBYTES else 0
        quantizers = {field.quantizer for field in self.schema.fields}
        if not quantizers & {"patch", "block"} and (
            worth == 0 or self.options.coding not in ("auto", "rans")
        ):
            return {}
        most = BLOCK_SAMPLE_NBYTES if "block" in quantizers else MODEL_SAMPLE_NBYTES
        count = max(1, min(len(order), most * len(order) // max(1, packed)))
        rows = order[np.arange(count) * len(order) // count]
        return fit_models(
            self.schema,
            spill.take(rows, patches, raw),
            self._coding,
            complete=last and count == len(order),
            worth_nbytes=worth,
        )

    def _cut(
        self, order: NDArray[np.int64], sizes: NDArray[np.int64], *, last: bool
    ) -> Iterator[NDArray[np.int64]]:
        """Yield the samples of one chunk after the other, of about the same coded size."""
        ends = np.cumsum(sizes)
        start = 0
        while start < len(order):
            target = self.options.chunk_nbytes / (self._ratio or 1.0)
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + target, side="right"))
            stop = min(max(stop, start + 1), start + wire.MAX_CHUNK_SAMPLES)
            if stop >= len(order):
                if not last:
                    return
                stop = len(order)
            yield order[start:stop]
            start = stop

    def _encode(self, samples: ChunkInput) -> EncodedChunk:
        return encode_chunk(self.schema, samples, self._coding, self._models)

    def _append_next(
        self, pending: deque[tuple[Future[EncodedChunk], ChunkInput, list[str] | None]]
    ) -> None:
        future, samples, keys = pending.popleft()
        self._append(future.result(), samples.columns, keys)

    def _append(
        self, chunk: EncodedChunk, columns: Mapping[str, Values], keys: list[str] | None
    ) -> None:
        shard = self._shard
        if shard and shard.nbytes + chunk.nbytes > self.options.shard_nbytes:
            self._finish_shard()
            shard = None
        if shard is None:
            shard = ShardWriter(
                self.schema,
                self.store.blobs,
                block_nbytes=self.options.block_nbytes,
                models=self._models,
            )
            self._shard = shard
        if self.table is not None:
            place = (self._position, self._first_shard + len(self.shards), shard.chunk_count)
            self.table.append(place, columns, keys, chunk.settings, chunk.packed_nbytes)
        shard.append(chunk, keys)
        if keys is not None:
            self._hashes.append(key_hashes(keys))
        self._position += chunk.sample_count
        self.packed_nbytes += int(chunk.packed_nbytes.sum())
        self._on_chunk(chunk.sample_count)

    def _finish_shard(self) -> None:
        if self._shard is None:
            return
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

    # Publishing --------------------------------------------------------------------------------

    def put(self, data: bytes, role: str, media_type: str, suffix: str) -> BlobEntry:
        """Store an auxiliary blob."""
        digest = wire.sha256_hex(data)
        with self.store.new_blob() as blob:
            blob.file.write(data)
            self._commit(blob.commit, digest, suffix)
        return BlobEntry(role, digest, len(data), media_type, suffix)

    def finish(
        self,
        *,
        parent_shards: Sequence[WrittenShard] = (),
        parent_keys: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None = None,
        blobs: Sequence[BlobEntry] = (),
        provenance: Mapping[str, Any],
        parent: str | None,
    ) -> tuple[bytes, list[BlobEntry], int]:
        """Finish shards and tables.

        Returns:
            The snapshot, all its auxiliary blobs, and the bytes of its pages.
        """
        self._finish_shard()
        entries = list(blobs)
        if self.table is not None and self._table_path is not None:
            self.table.close()
            self.table = None
            entry = self.store.put_file(self._table_path, ROLE_SAMPLES, MEDIA_TYPE, "parquet")
            entries.append(entry)
        if self._keyed:
            entries.append(self._put_key_table(parent_keys))
        shards = [*parent_shards, *self.shards]
        pages = self._put_pages(shards)
        snapshot = encode_snapshot(
            self.schema, shards, pages=pages, blobs=entries, provenance=provenance, parent=parent
        )
        self.close()
        return snapshot, entries, sum(page.nbytes for page in pages)

    def _put_key_table(
        self, parent_keys: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None
    ) -> BlobEntry:
        hashes = np.concatenate([*self._hashes, np.empty(0, "<u8")])
        start = self._position - len(hashes)
        positions = np.arange(start, self._position, dtype="<u8")
        if parent_keys is not None:
            hashes = np.concatenate([parent_keys[0], hashes])
            positions = np.concatenate([parent_keys[1], positions])
        data = encode_key_table(hashes, positions)
        return self.put(data, ROLE_KEYS, "application/octet-stream", "keys")

    def _put_pages(self, shards: Sequence[WrittenShard]) -> list[ShardPage]:
        if len(shards) <= wire.SHARDS_PER_PAGE:
            return []
        pages = []
        for start in range(0, len(shards), wire.SHARDS_PER_PAGE):
            group = shards[start : start + wire.SHARDS_PER_PAGE]
            entry = self.put(encode_page(group), "page", "application/octet-stream", "page")
            samples = sum(shard.sample_count for shard in group)
            pages.append(ShardPage(entry.digest, entry.nbytes, samples, len(group)))
        return pages

    def close(self) -> None:
        """Drop temporary files."""
        if self._shard is not None:
            self._shard.close()
            self._shard = None
        if self.table is not None:
            # Closing flushes, which fails again where the disk is full.
            with contextlib.suppress(OSError):
                self.table.close()
            self.table = None
        self._scratch.close()
