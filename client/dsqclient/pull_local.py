"""What a pull finds in the directory it copies into."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dsqclient.copy_plan import LocalSegments, ShardPlan
from dsqformat import wire
from dsqformat.bytesource import LocalSource
from dsqformat.dataset import ShardEntry, Snapshot
from dsqformat.errors import DsqError
from dsqformat.shard import ShardHead, ShardReader, parse_head
from dsqformat.shard.writer import chunk_sample_runs


class LocalIndex:
    """Finds segments that are in the shards of the snapshot that is here already."""

    def __init__(self, source: LocalSource, present: Snapshot | None) -> None:
        self._source = source
        self._by_first_index: dict[bytes, str] = {}
        for entry in present.read_shards(source) if present is not None else ():
            with contextlib.suppress(DsqError, OSError):  # damaged: then it is fetched
                table = self._shard(entry.path, entry).chunks
                if len(table):
                    self._by_first_index[table.segment_digest[0, 0].tobytes()] = entry.path

    def _shard(self, path: str, entry: ShardEntry | None = None) -> ShardReader:
        head_nbytes = entry.head_nbytes if entry is not None else None
        return ShardReader(self._source, path, head_nbytes=head_nbytes)

    def segments(self, head: ShardHead) -> LocalSegments:
        """Return where segments of the local shard are that begins with the same samples."""
        if not len(head.chunks):
            return {}
        path = self._by_first_index.get(head.chunks.segment_digest[0, 0].tobytes())
        if path is None:
            return {}
        shard = self._shard(path)
        table, start = shard.chunks, shard.head.header.head_nbytes
        return {
            table.segment_digest[chunk, number].tobytes(): (
                self._source.root / path,
                start + table.segment_offset(chunk, number),
            )
            for chunk in range(len(table))
            for number in range(table.segment_nbytes.shape[1])
        }


class Journal:
    """Remembers which reduced shards are done: their names cannot be told beforehand."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(OSError, ValueError):
            value = json.loads(path.read_bytes())
            self._entries = value if isinstance(value, dict) else {}

    def find(self, digest: str) -> ShardEntry | None:
        """Return the entry of the reduced copy of a shard."""
        value = self._entries.get(digest)
        if value is None:
            return None
        try:
            runs = tuple((int(samples), int(chunks)) for samples, chunks in value["chunk_samples"])
            segments = tuple(int(nbytes) for nbytes in value["segment_nbytes"])
            return ShardEntry(**{**value, "chunk_samples": runs, "segment_nbytes": segments})
        except (KeyError, TypeError, ValueError):
            return None

    def add(self, digest: str, entry: ShardEntry) -> None:
        """Note that a shard is done."""
        self._entries[digest] = asdict(entry)
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self._entries))
        new.replace(self._path)

    def remove(self) -> None:
        """Forget everything."""
        self._path.unlink(missing_ok=True)


def describe_shard(plan: ShardPlan, digest: str) -> ShardEntry:
    """Return what a snapshot says of the copy of a shard."""
    head = parse_head(plan.head)
    table = head.chunks
    return ShardEntry(
        digest=digest,
        nbytes=plan.nbytes,
        head_nbytes=len(plan.head),
        head_digest=wire.sha256_hex(plan.head),
        sample_count=head.header.sample_count,
        chunk_count=len(table),
        chunk_samples=chunk_sample_runs(table.sample_count.tolist()),
        segment_nbytes=tuple(table.segment_nbytes.sum(axis=0).tolist()),
    )
