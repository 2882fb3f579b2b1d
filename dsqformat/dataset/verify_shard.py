"""Checks every byte of a shard against the spec, and goes on after a problem."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from dsqformat import wire
from dsqformat.bytesource import ByteSource
from dsqformat.chunk import ChunkIndex, decode_chunk, parse_index
from dsqformat.chunk.encode import encode_zones
from dsqformat.errors import DsqError
from dsqformat.schema import Schema
from dsqformat.shard import ShardHead, parse_head, parse_header
from dsqformat.shard.keys import key_parts_nbytes, parse_key_parts, parse_keys
from dsqformat.shard.writer import WrittenShard, chunk_sample_runs

_FIRST_READ_NBYTES: Final = 64 << 10


@dataclass(frozen=True)
class Problem:
    """Something that contradicts the spec.

    Attributes:
        path: of the file in the dataset.
        message: what, got, expected.
        section: of the spec.
        offset: in the file, where it is known.
    """

    path: str
    message: str
    section: str
    offset: int | None = None

    def __str__(self) -> str:
        place = f"spec {self.section}" + ("" if self.offset is None else f", byte {self.offset}")
        return f"{self.path}: {self.message} ({place})"


@dataclass
class VerifyReport:
    """What was checked and what was wrong.

    Attributes:
        problems: everything that was wrong.
        notes: what could not be checked, and what is odd but allowed.
        file_count: files read.
        shard_count: shards checked.
        chunk_count: chunks checked.
        segment_count: segments whose checksums and digest were compared.
        sample_count: samples decoded.
        nbytes: bytes read.
    """

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    file_count: int = 0
    shard_count: int = 0
    chunk_count: int = 0
    segment_count: int = 0
    sample_count: int = 0
    nbytes: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return not self.problems

    def add(self, path: str, section: str, error: Exception | str, base: int = 0) -> None:
        """Take note of a problem.

        Args:
            path: of the file.
            section: of the spec that is contradicted.
            error: what is wrong; its offset counts from `base`.
            base: offset in the file.
        """
        offset = getattr(error, "offset", None)
        text = " ".join(str(error).split())
        at = None if offset is None else base + int(offset)
        self.problems.append(Problem(path, text, section, at))


@dataclass(frozen=True)
class CheckedChunk:
    """What a chunk says of its samples, to be compared with the tables of the dataset.

    Attributes:
        number: of the chunk in its shard.
        sample_count: its samples.
        index: the parsed index, or None where it is damaged.
        keys: of the samples; None where they are damaged, empty where there are none.
    """

    number: int
    sample_count: int
    index: ChunkIndex | None
    keys: list[str] | None


def verify_shard(
    source: ByteSource,
    path: str,
    report: VerifyReport,
    *,
    entry: WrittenShard | None = None,
    schema: Schema | None = None,
    on_bytes: Callable[[int], None] = lambda nbytes: None,
) -> Iterator[CheckedChunk]:
    """Check a shard from its first byte to its last, in one pass.

    Args:
        source: where the file is.
        path: of the file in the source.
        report: what is found goes there.
        entry: what a snapshot says of the shard, or None.
        schema: of the snapshot, or None.
        on_bytes: called with the length of each piece that was read.

    Yields:
        Each chunk, as far as it could be read.
    """
    check = _ShardCheck(source, path, report, on_bytes)
    try:
        size = source.size(path)
    except (OSError, DsqError) as error:
        report.add(path, "13", f"cannot be read: {_reason(error)}")
        return
    report.file_count += 1
    report.shard_count += 1
    try:
        head = check.head(size, entry, schema)
        if head is not None:
            yield from check.chunks(head)
            check.unknown_tails(head)
        check.whole(size, entry)
    except (OSError, DsqError) as error:
        report.add(path, "5", _reason(error))


def _reason(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return str(strerror or error)


class _ShardCheck:
    """Reads a shard in order, feeding one SHA-256 with every byte."""

    def __init__(
        self,
        source: ByteSource,
        path: str,
        report: VerifyReport,
        on_bytes: Callable[[int], None],
    ) -> None:
        self._source, self._path, self._report = source, path, report
        self._on_bytes = on_bytes
        self._digest = hashlib.sha256()
        self._position = 0

    # Head --------------------------------------------------------------------------------------

    def head(
        self, size: int, entry: WrittenShard | None, schema: Schema | None
    ) -> ShardHead | None:
        """Check everything in front of the first chunk; None where it is damaged."""
        data = self._read(min(size, _FIRST_READ_NBYTES, wire.HEADER_NBYTES))
        try:
            header = parse_header(data)
            data += self._read(max(0, min(size, header.head_nbytes) - len(data)))
            head = parse_head(data, nbytes=size)
        except DsqError as error:
            self._report.add(self._path, _head_section(str(error)), error)
            return None
        if entry is not None:
            self._compare_entry(head, data, entry)
        if schema is not None and head.schema != schema:
            self._problem("13.1", "its schema differs from that of the snapshot")
        return head

    def _compare_entry(self, head: ShardHead, data: bytes, entry: WrittenShard) -> None:
        found: dict[str, Any] = {
            "head_nbytes": head.header.head_nbytes,
            "head_digest": wire.sha256_hex(data),
            "sample_count": head.header.sample_count,
            "chunk_count": len(head.chunks),
            "chunk_samples": chunk_sample_runs(head.chunks.sample_count.tolist()),
            "segment_nbytes": tuple(head.chunks.segment_nbytes.sum(axis=0).tolist()),
        }
        for name, value in found.items():
            expected = getattr(entry, name)
            if value != expected:
                self._problem("13.1", f"{name} is {value}, the snapshot says {expected}")

    # Chunks ------------------------------------------------------------------------------------

    def chunks(self, head: ShardHead) -> Iterator[CheckedChunk]:
        """Check and yield each chunk; the keys stand behind them and are read first."""
        keys = self._keys(head)
        for number in range(len(head.chunks)):
            start = self._position
            data = memoryview(self._read(int(head.chunks.segment_nbytes[number].sum())))
            segments = self._segments(head, number, data)
            index = self._index(head, number, segments[0], start)
            if index is not None:
                self._decode(head, number, segments, start)
            self._report.chunk_count += 1
            count = int(head.chunks.sample_count[number])
            self._report.sample_count += count
            yield CheckedChunk(number, count, index, keys[number])

    def _segments(self, head: ShardHead, number: int, data: memoryview) -> list[memoryview | None]:
        """Return the segments of a chunk, None for each whose checksums are wrong."""
        table, position = head.chunks, 0
        segments: list[memoryview | None] = []
        for segment, nbytes in enumerate(table.segment_nbytes[number].tolist()):
            part = data[position : position + nbytes]
            position += nbytes
            self._report.segment_count += 1
            try:
                table.check_segment(number, segment, part)
                table.check_digest(number, segment, part)
            except DsqError as error:
                self._report.add(self._path, "7", error, head.header.head_nbytes)
                segments.append(None)
                continue
            segments.append(part)
        return segments

    def _index(
        self, head: ShardHead, number: int, segment: memoryview | None, start: int
    ) -> ChunkIndex | None:
        if segment is None:
            return None
        count = int(head.chunks.sample_count[number])
        try:
            index = parse_index(head.schema, segment, count, f"chunk {number}: index")
        except DsqError as error:
            self._report.add(self._path, "8", error, start)
            return None
        self._zones(head, number, index)
        return index

    def _zones(self, head: ShardHead, number: int, index: ChunkIndex) -> None:
        columns = head.schema.zone_columns
        expected = encode_zones(columns, index.columns)
        for row, column in enumerate(columns):
            kind = "<i8" if column.type == "int64" else "<f8"
            found = head.chunks.zone[number, row].astype("<u8").view(kind)
            wanted = expected[row].view(kind)
            if not np.array_equal(found, wanted):
                self._problem(
                    "7",
                    f"chunk {number}: zone of column {column.name!r} is {found.tolist()}, "
                    f"its values span {wanted.tolist()}",
                )

    def _decode(
        self, head: ShardHead, number: int, segments: Sequence[memoryview | None], start: int
    ) -> None:
        """Decode the chunk with every number of layers, as far as segments are sound."""
        sound = next((i for i, s in enumerate(segments) if s is None), len(segments))
        usable = [segment for segment in segments[:sound] if segment is not None]
        count = int(head.chunks.sample_count[number])
        for layers in range(1, head.schema.layer_count + 1):
            used = head.schema.prefix_segments(layers)
            if used > sound:
                return
            try:
                decode_chunk(
                    head.schema,
                    count,
                    usable[:used],
                    layers=layers,
                    models=head.models,
                    what=f"chunk {number}",
                )
            except DsqError as error:
                self._report.add(self._path, "9", f"with {layers} layers: {error}", start)
                return

    # Tail --------------------------------------------------------------------------------------

    def _keys(self, head: ShardHead) -> list[list[str] | None]:
        """Return the keys of each chunk; empty lists where there are none, None where damaged."""
        count = len(head.chunks)
        section = head.section(wire.KIND_KEYS)
        if section is None:
            return [[] for _ in range(count)]
        stored = self._source.read(self._path, section.offset, section.offset + section.nbytes)
        try:
            section.content(stored)
        except DsqError as error:
            self._report.add(self._path, "5.2", error)
        try:
            start = key_parts_nbytes(count)
            parts = parse_key_parts(stored[:start], count, len(stored))
        except DsqError as error:
            self._report.add(self._path, "12", error, section.offset)
            return [None] * count
        keys: list[list[str] | None] = []
        for number, samples in enumerate(head.chunks.sample_count.tolist()):
            part = stored[parts.offset[number] : parts.offset[number + 1]]
            try:
                keys.append(parse_keys(part, parts.crc[number], samples, f"chunk {number}"))
            except DsqError as error:
                self._report.add(self._path, "12", error, section.offset + parts.offset[number])
                keys.append(None)
        self._unique(keys)
        return keys

    def _unique(self, keys: Sequence[list[str] | None]) -> None:
        seen: set[str] = set()
        for key in (key for part in keys for key in part or ()):
            if key in seen:
                self._problem("12", f"two samples have the same key {key!r:.80}")
                return
            seen.add(key)

    def unknown_tails(self, head: ShardHead) -> None:
        """Compare the checksums of tail sections that this version does not know."""
        for section in head.sections:
            known = section.kind in (wire.KIND_SCHEMA, wire.KIND_CHUNKS, wire.KIND_KEYS)
            if known or section.offset < head.header.head_nbytes:
                continue
            stored = self._source.read(self._path, section.offset, section.offset + section.nbytes)
            found = wire.crc32c(stored)
            if found != section.crc:
                self._problem(
                    "5.2",
                    f"section {section.name}: CRC-32C {found:08x}, expected {section.crc:08x}",
                )

    def whole(self, size: int, entry: WrittenShard | None) -> None:
        """Read what is left, and compare length and digest of the whole file."""
        for piece in self._source.stream(self._path, self._position, size):
            self._take(piece)
        if entry is None:
            return
        if size != entry.nbytes:
            self._problem("13.1", f"{size} bytes, the snapshot says {entry.nbytes}")
        if self._digest.hexdigest() != entry.digest:
            self._problem("13", f"SHA-256 is {self._digest.hexdigest()}, its name says otherwise")

    def _read(self, nbytes: int) -> bytes:
        data = self._source.read(self._path, self._position, self._position + nbytes)
        self._take(data)
        return data

    def _take(self, data: bytes) -> None:
        self._digest.update(data)
        self._position += len(data)
        self._report.nbytes += len(data)
        self._on_bytes(len(data))

    def _problem(self, section: str, message: str) -> None:
        self._report.add(self._path, section, message)


def _head_section(message: str) -> str:
    """Return the section of the spec that an error of the head is about."""
    starts = {
        "section directory": "5.2",
        "section": "5.2",
        "head sections": "5.2",
        "schema": "6",
        "column": "6",
        "field": "6",
        "order": "6",
        "chunk table": "7",
    }
    return next((spec for start, spec in starts.items() if message.startswith(start)), "5.1")
