"""Reads a shard through a ByteSource: head first, then any chunk, any prefix of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dsqformat import wire
from dsqformat.bytesource import ByteSource
from dsqformat.chunk import Chunk, decode_chunk
from dsqformat.chunk.decode import Output
from dsqformat.errors import CorruptShardError, DsqError
from dsqformat.schema import Schema
from dsqformat.shard.chunk_table import ChunkTable
from dsqformat.shard.head import ShardHead, parse_head
from dsqformat.shard.keys import KeyParts, key_parts_nbytes, parse_key_parts, parse_keys

# Enough for the head of most shards when nobody has told its size.
_FIRST_READ_NBYTES = 64 << 10


class ShardReader:
    """A shard that is read by range.

    Args:
        source: where the file is.
        path: of the file in the source.
        head: the parsed head, if it is already known.
        head_nbytes: size of the head, if known (a snapshot says it): one read instead of two.
        head_digest: SHA-256 of the head in hex, if known; it is then verified.

    Raises:
        DsqError: the head cannot be read or is not sound.
    """

    def __init__(
        self,
        source: ByteSource,
        path: str,
        *,
        head: ShardHead | None = None,
        head_nbytes: int | None = None,
        head_digest: str | None = None,
    ) -> None:
        self.source = source
        self.path = path
        self.head = head or self._read_head(head_nbytes, head_digest)
        self._key_parts: KeyParts | None = None

    @property
    def schema(self) -> Schema:
        """Fields and columns of the samples."""
        return self.head.schema

    @property
    def chunks(self) -> ChunkTable:
        """The chunk table."""
        return self.head.chunks

    @property
    def has_keys(self) -> bool:
        """Whether the samples have keys."""
        return self.head.section(wire.KIND_KEYS) is not None

    def chunk_range(self, chunk: int, layers: int | None = None) -> tuple[int, int]:
        """Return the byte range of a chunk up to its first `layers` layers (None: all)."""
        start = self.head.header.head_nbytes
        end = self.chunks.segment_offset(chunk, self.schema.prefix_segments(layers))
        return start + int(self.chunks.chunk_offset[chunk]), start + end

    def read_segments(self, chunk: int, layers: int | None = None) -> list[memoryview]:
        """Read the first segments of a chunk in one range and verify their blocks.

        Args:
            chunk: number of the chunk.
            layers: layers of every field to read; None for all.

        Raises:
            CorruptShardError: naming shard, chunk, block and offset.
        """
        start, stop = self.chunk_range(chunk, layers)
        data = memoryview(self.source.read(self.path, start, stop))
        segments, position = [], 0
        for number in range(self.schema.prefix_segments(layers)):
            nbytes = int(self.chunks.segment_nbytes[chunk, number])
            segment = data[position : position + nbytes]
            segments.append(self._verified(chunk, number, segment))
            position += nbytes
        return segments

    def _verified(self, chunk: int, number: int, segment: memoryview) -> memoryview:
        """Check the blocks of a segment; a bad one is read once more, since links lie."""
        try:
            try:
                self.chunks.check_segment(chunk, number, segment)
            except CorruptShardError as error:
                segment = self._repaired(segment, chunk, number, error)
                self.chunks.check_segment(chunk, number, segment)
        except DsqError as error:
            raise error.located(f"shard {self.path}", shard=self.path) from error
        return segment

    def _repaired(
        self, segment: memoryview, chunk: int, number: int, error: CorruptShardError
    ) -> memoryview:
        if error.block is None:
            raise error
        repaired, size = bytearray(segment), self.chunks.block_nbytes
        base = self.head.header.head_nbytes + self.chunks.segment_offset(chunk, number)
        for block, expected in enumerate(self.chunks.block_crcs(chunk, number).tolist()):
            start, stop = block * size, min(len(segment), (block + 1) * size)
            if wire.crc32c(segment[start:stop]) != expected:
                repaired[start:stop] = self.source.read(self.path, base + start, base + stop)
        return memoryview(repaired)

    def read_chunk(
        self,
        chunk: int,
        *,
        layers: int | None = None,
        fields: Iterable[str] | None = None,
        output: Output = "float32",
    ) -> Chunk:
        """Read, verify and decode a chunk.

        Args:
            chunk: number of the chunk, from 0.
            layers: layers of every field; None for all.
            fields: names of the fields to decode; None for all.
            output: "float32": quantized uint8 fields as [0, 1]; "source": as uint8.

        Raises:
            CorruptShardError: bytes that contradict the format or a checksum.
        """
        segments = self.read_segments(chunk, layers)
        return self.decode(chunk, segments, layers=layers, fields=fields, output=output)

    def decode(
        self,
        chunk: int,
        segments: Sequence[bytes | memoryview],
        *,
        layers: int | None = None,
        fields: Iterable[str] | None = None,
        output: Output = "float32",
    ) -> Chunk:
        """Decode segments of a chunk that have been read and verified already."""
        try:
            return decode_chunk(
                self.schema,
                int(self.chunks.sample_count[chunk]),
                segments,
                layers=layers,
                fields=fields,
                output=output,
                models=self.head.models,
                what=f"chunk {chunk}",
            )
        except DsqError as error:
            where = f"shard {self.path}"
            raise error.located(where, shard=self.path, chunk=chunk) from error

    def read_keys(self, chunk: int) -> list[str]:
        """Read the keys of a chunk; an empty list if the samples have none.

        Raises:
            CorruptShardError: naming shard and chunk.
        """
        section = self.head.section(wire.KIND_KEYS)
        if section is None:
            return []
        if self._key_parts is None:
            nbytes = key_parts_nbytes(len(self.chunks))
            stop = section.offset + min(nbytes, section.nbytes)
            data = self.source.read(self.path, section.offset, stop)
            try:
                self._key_parts = parse_key_parts(data, len(self.chunks), section.nbytes)
            except DsqError as error:
                raise error.located(f"shard {self.path}", shard=self.path) from error
        start, stop = (section.offset + self._key_parts.offset[chunk + i] for i in (0, 1))
        part = self.source.read(self.path, start, stop)
        what = f"shard {self.path}: chunk {chunk}"
        count = int(self.chunks.sample_count[chunk])
        return parse_keys(part, self._key_parts.crc[chunk], count, what)

    def _read_head(self, head_nbytes: int | None, head_digest: str | None) -> ShardHead:
        nbytes = self.source.size(self.path) if head_nbytes is None else None
        first = min(nbytes, _FIRST_READ_NBYTES) if nbytes is not None else head_nbytes
        try:
            data = self.source.read(self.path, 0, first)
            if nbytes is not None and len(data) >= wire.HEADER_NBYTES:
                declared = wire.HEADER.unpack(data[: wire.HEADER_NBYTES])[6]
                if first is not None and first < declared <= min(nbytes, wire.MAX_HEAD_NBYTES):
                    data = self.source.read(self.path, 0, declared)
            if head_digest is not None and wire.sha256_hex(data) != head_digest:
                data = self.source.read(self.path, 0, head_nbytes)
            if head_digest is not None and wire.sha256_hex(data) != head_digest:
                raise CorruptShardError("head: SHA-256 differs from the snapshot")
            return parse_head(data, nbytes=nbytes)
        except DsqError as error:
            raise error.located(f"shard {self.path}", shard=self.path) from error
