"""Writes a shard: chunks wait in an unnamed file, since the head that describes them is first."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from dsqformat import wire
from dsqformat.chunk import EncodedChunk, FieldModel
from dsqformat.schema import Schema
from dsqformat.shard.chunk_table import ChunkTable
from dsqformat.shard.head import build_head
from dsqformat.shard.keys import encode_key_section, encode_keys

_COPY_NBYTES = 1 << 20


@dataclass(frozen=True)
class WrittenShard:
    """What a snapshot says of a shard (spec 13.1).

    Attributes:
        digest: SHA-256 of the file, hex.
        nbytes: bytes of the file.
        head_nbytes: bytes of its head.
        head_digest: SHA-256 of its head, hex.
        sample_count: samples.
        chunk_count: chunks.
        chunk_samples: runs (samples, chunks); empty if there are more than 256.
        segment_nbytes: bytes of each segment number, summed over the chunks.
    """

    digest: str
    nbytes: int
    head_nbytes: int
    head_digest: str
    sample_count: int
    chunk_count: int
    chunk_samples: tuple[tuple[int, int], ...]
    segment_nbytes: tuple[int, ...]


def chunk_sample_runs(sample_counts: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the sample counts of the chunks of a shard as a snapshot states them (spec 13.1)."""
    runs = tuple((count, len(list(group))) for count, group in groupby(sample_counts))
    return runs if len(runs) <= wire.MAX_CHUNK_RUNS else ()


class ShardWriter:
    """Collects chunks and writes them as one shard.

    Args:
        schema: of the samples.
        scratch: directory for the unnamed temporary file; it vanishes with the process.
        block_nbytes: unit of the link check, a power of two from 4096 to 65536.
        models: by field name.
    """

    def __init__(
        self,
        schema: Schema,
        scratch: Path,
        *,
        block_nbytes: int = wire.DEFAULT_BLOCK_NBYTES,
        models: Mapping[str, FieldModel] | None = None,
    ) -> None:
        self.schema = schema
        self.models = models or {}
        self.block_nbytes = block_nbytes
        self.nbytes = 0
        self.sample_count = 0
        # Closed by finish() or close(); unnamed, so that it vanishes with the process.
        body = tempfile.TemporaryFile(dir=scratch, prefix=".")  # noqa: SIM115
        self._body = cast(BinaryIO, body)
        self._sample_counts: list[int] = []
        self._segment_nbytes: list[list[int]] = []
        self._digests: list[bytes] = []
        self._crcs: list[int] = []
        self._zones: list[np.ndarray] = []
        self._keys: list[bytes] = []

    @property
    def chunk_count(self) -> int:
        """Chunks so far."""
        return len(self._sample_counts)

    def append(self, chunk: EncodedChunk, keys: Sequence[str] | None = None) -> None:
        """Add a chunk.

        Args:
            chunk: encoded with the schema of this shard.
            keys: one per sample, for all chunks of the shard or for none.
        """
        if self.chunk_count and (keys is None) == bool(self._keys):
            raise ValueError("either all chunks of a shard have keys or none")
        for segment in chunk.segments:
            self._body.write(segment)
            self._digests.append(wire.segment_digest(segment))
            for start in range(0, len(segment), self.block_nbytes):
                self._crcs.append(wire.crc32c(segment[start : start + self.block_nbytes]))
        self._sample_counts.append(chunk.sample_count)
        self._segment_nbytes.append([len(segment) for segment in chunk.segments])
        self._zones.append(chunk.zone)
        if keys is not None:
            self._keys.append(encode_keys(keys))
        self.nbytes += chunk.nbytes
        self.sample_count += chunk.sample_count

    def finish(self, file: BinaryIO) -> WrittenShard:
        """Write the whole shard to `file` and return what identifies it."""
        table = self._chunk_table()
        tail = [(wire.KIND_KEYS, encode_key_section(self._keys))] if self._keys else []
        head = build_head(self.schema, table, tail, self.models)
        digest = hashlib.sha256(head)
        file.write(head)
        self._body.seek(0)
        while piece := self._body.read(_COPY_NBYTES):
            digest.update(piece)
            file.write(piece)
        for _, content in tail:
            digest.update(content)
            file.write(content)
        self.close()
        return WrittenShard(
            digest=digest.hexdigest(),
            nbytes=len(head) + self.nbytes + sum(len(content) for _, content in tail),
            head_nbytes=len(head),
            head_digest=wire.sha256_hex(head),
            sample_count=self.sample_count,
            chunk_count=len(table),
            chunk_samples=chunk_sample_runs(self._sample_counts),
            segment_nbytes=tuple(table.segment_nbytes.sum(axis=0).tolist()),
        )

    def close(self) -> None:
        """Drop the temporary file."""
        self._body.close()

    def _chunk_table(self) -> ChunkTable:
        segments, zones = self.schema.segment_count, len(self.schema.zone_columns)
        chunks = self.chunk_count
        digests = np.frombuffer(b"".join(self._digests), "u1")
        zone = np.array(self._zones, "<u8") if self._zones else np.zeros(0, "<u8")
        return ChunkTable(
            block_nbytes=self.block_nbytes,
            sample_count=np.array(self._sample_counts, "i8"),
            segment_nbytes=np.array(self._segment_nbytes, "i8").reshape(chunks, segments),
            segment_digest=digests.reshape(chunks, segments, wire.DIGEST_NBYTES),
            block_crc=np.array(self._crcs, "<u4"),
            zone=zone.reshape(chunks, zones, 2),
        )
