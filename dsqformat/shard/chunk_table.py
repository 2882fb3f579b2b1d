"""The chunk table: sizes, digests, checksums and zones of all chunks of a shard (spec 7)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat import wire
from dsqformat.errors import CorruptShardError, TruncatedShardError
from dsqformat.schema import Schema


@dataclass(frozen=True)
class ChunkTable:
    """Sizes, digests, checksums and zones of the chunks of a shard (spec 7).

    Attributes:
        block_nbytes: bytes of a block.
        sample_count: int64, shape (chunks,).
        segment_nbytes: int64, shape (chunks, segments).
        segment_digest: uint8, shape (chunks, segments, 16).
        block_crc: uint32, shape (blocks,).
        zone: uint64 bit patterns, shape (chunks, zone columns, 2).
    """

    block_nbytes: int
    sample_count: NDArray[np.int64]
    segment_nbytes: NDArray[np.int64]
    segment_digest: NDArray[np.uint8]
    block_crc: NDArray[np.uint32]
    zone: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.sample_count)

    @cached_property
    def chunk_offset(self) -> NDArray[np.int64]:
        """Offset of each chunk from the first one, and the end of the last: shape (chunks + 1,)."""
        return _starts(self.segment_nbytes.sum(axis=1))

    @cached_property
    def chunk_start(self) -> NDArray[np.int64]:
        """Number of the first sample of each chunk, and the total: shape (chunks + 1,)."""
        return _starts(self.sample_count)

    @cached_property
    def _block_start(self) -> NDArray[np.int64]:
        return _starts(_blocks(self.segment_nbytes, self.block_nbytes).ravel())

    def segment_offset(self, chunk: int, segment: int) -> int:
        """Offset of a segment from the first chunk of the shard."""
        return int(self.chunk_offset[chunk] + self.segment_nbytes[chunk, :segment].sum())

    def block_crcs(self, chunk: int, segment: int) -> NDArray[np.uint32]:
        """CRC-32C of each block of one segment."""
        number = chunk * self.segment_nbytes.shape[1] + segment
        return self.block_crc[self._block_start[number] : self._block_start[number + 1]]

    def check_segment(self, chunk: int, segment: int, data: bytes | memoryview) -> None:
        """Verify the blocks of a whole segment.

        Raises:
            CorruptShardError: naming the first bad block.
        """
        view = memoryview(data)
        if len(view) != self.segment_nbytes[chunk, segment]:
            raise TruncatedShardError(
                f"chunk {chunk}: segment {segment}: {len(view)} bytes, "
                f"expected {self.segment_nbytes[chunk, segment]}",
                chunk=chunk,
            )
        for block, expected in enumerate(self.block_crcs(chunk, segment).tolist()):
            start = block * self.block_nbytes
            found = wire.crc32c(view[start : start + self.block_nbytes])
            if found != expected:
                raise CorruptShardError(
                    f"chunk {chunk}: segment {segment}: block {block}: "
                    f"CRC-32C {found:08x}, expected {expected:08x}",
                    chunk=chunk,
                    block=block,
                    offset=self.segment_offset(chunk, segment) + start,
                )

    def check_digest(self, chunk: int, segment: int, data: bytes | memoryview) -> None:
        """Verify the truncated SHA-256 of a whole segment, or raise CorruptShardError."""
        if wire.segment_digest(data) != self.segment_digest[chunk, segment].tobytes():
            raise CorruptShardError(
                f"chunk {chunk}: segment {segment}: SHA-256 differs from the chunk table",
                chunk=chunk,
            )


def parse_chunk_table(data: bytes, schema: Schema) -> ChunkTable:
    """Parse the content of `CHNK`.

    Raises:
        CorruptShardError: a count contradicts the schema, the limits or the length.
    """
    if len(data) < wire.CHUNK_TABLE.size:
        raise CorruptShardError(f"chunk table: {len(data)} bytes, expected at least 16")
    chunks, segments, block_nbytes, zones = wire.CHUNK_TABLE.unpack_from(data)
    if chunks > wire.MAX_CHUNKS:
        raise CorruptShardError(f"chunk table: {chunks} chunks, expected at most {wire.MAX_CHUNKS}")
    if segments != schema.segment_count or zones != len(schema.zone_columns):
        raise CorruptShardError(
            f"chunk table: {segments} segments and {zones} zones, the schema has "
            f"{schema.segment_count} and {len(schema.zone_columns)}"
        )
    if block_nbytes & (block_nbytes - 1) or not 4096 <= block_nbytes <= 65536:
        raise CorruptShardError(f"chunk table: block_nbytes {block_nbytes}")
    take = _Cursor(data, wire.CHUNK_TABLE.size)
    sample_count = take.array("<u4", (chunks,)).astype("i8")
    segment_nbytes = take.array("<u4", (chunks, segments)).astype("i8")
    digest = take.array("u1", (chunks, segments, wire.DIGEST_NBYTES))
    if chunks and not (sample_count.min() >= 1 and sample_count.max() <= wire.MAX_CHUNK_SAMPLES):
        raise CorruptShardError("chunk table: a chunk has not 1 to 4096 samples")
    if segment_nbytes.size and segment_nbytes.max() > wire.MAX_SEGMENT_NBYTES:
        raise CorruptShardError("chunk table: a segment has more than 2^30 bytes")
    block_crc = take.array("<u4", (int(_blocks(segment_nbytes, block_nbytes).sum()),))
    zone = take.array("<u8", (chunks, zones, 2))
    take.finish()
    return ChunkTable(block_nbytes, sample_count, segment_nbytes, digest, block_crc, zone)


class _Cursor:
    """Takes arrays one after the other off a byte string."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._data, self._offset = data, offset

    def array(self, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        count = int(np.prod(shape, dtype=object)) if shape else 1
        nbytes = count * np.dtype(dtype).itemsize
        if nbytes > len(self._data) - self._offset:
            raise CorruptShardError(
                f"chunk table: {nbytes} bytes at {self._offset} end past its {len(self._data)}"
            )
        array = np.frombuffer(self._data, dtype, count, self._offset).reshape(shape)
        self._offset += nbytes
        return array

    def finish(self) -> None:
        if self._offset != len(self._data):
            raise CorruptShardError(
                f"chunk table: {len(self._data) - self._offset} bytes after its end"
            )


def encode_chunk_table(chunks: ChunkTable) -> bytes:
    """Return the content of `CHNK`."""
    counts = (len(chunks), chunks.segment_nbytes.shape[1], chunks.block_nbytes)
    return b"".join(
        [
            wire.CHUNK_TABLE.pack(*counts, chunks.zone.shape[1]),
            chunks.sample_count.astype("<u4").tobytes(),
            chunks.segment_nbytes.astype("<u4").tobytes(),
            chunks.segment_digest.tobytes(),
            chunks.block_crc.astype("<u4").tobytes(),
            chunks.zone.astype("<u8").tobytes(),
        ]
    )


def _starts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    starts = np.zeros(len(lengths) + 1, "i8")
    np.cumsum(lengths, out=starts[1:])
    return starts


def _blocks(nbytes: NDArray[np.int64], block_nbytes: int) -> NDArray[np.int64]:
    return -(-nbytes // block_nbytes)
