"""Receives heads and chunks, and verifies them while they arrive (spec 14)."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator

from dsqclient.transport import HttpSource
from dsqformat import wire
from dsqformat.bytesource import ByteSource
from dsqformat.dataset import ShardEntry
from dsqformat.errors import CorruptShardError, DatasetError, TruncatedShardError
from dsqformat.shard import ShardHead, ShardReader, parse_head
from dsqformat.shard.writer import chunk_sample_runs

_LOGGER = logging.getLogger(__name__)


def open_shard(source: ByteSource, entry: ShardEntry) -> ShardReader:
    """Fetch and verify the head of a shard, and return a reader of the shard.

    Raises:
        CorruptShardError: the head differs from its digest, or from what the snapshot says.
        DatasetError: the source has no such shard.
    """
    return ShardReader(source, entry.path, head=_parsed(fetch_head(source, entry), entry))


def fetch_head(source: ByteSource, entry: ShardEntry) -> bytes:
    """Fetch the head of a shard in one request; one that differs from its digest, once more.

    Raises:
        CorruptShardError: it differs again.
        DatasetError: the source has no such shard.
    """
    data = b""
    for attempt in range(2):
        if attempt:
            _LOGGER.warning("shard %s: head differs from its digest; fetching again", entry.path)
            forget(source, entry.path)
        data = b"".join(stream_bytes(source, entry.path, 0, entry.head_nbytes))
        if hashlib.sha256(data).hexdigest() == entry.head_digest:
            return data
    raise CorruptShardError(
        f"shard {entry.path}: head: SHA-256 {wire.sha256_hex(data)[:16]}..., expected "
        f"{entry.head_digest[:16]}..., twice; the copy at {source.location} is damaged",
        shard=entry.path,
        offset=0,
    )


def _parsed(data: bytes, entry: ShardEntry) -> ShardHead:
    head = parse_head(data, nbytes=entry.nbytes)
    found = (head.header.sample_count, len(head.chunks), head.header.file_nbytes)
    if found != (entry.sample_count, entry.chunk_count, entry.nbytes):
        raise CorruptShardError(
            f"shard {entry.path}: head has {found} samples, chunks and bytes, the snapshot says "
            f"{(entry.sample_count, entry.chunk_count, entry.nbytes)}",
            shard=entry.path,
        )
    if entry.chunk_samples not in ((), chunk_sample_runs(head.chunks.sample_count.tolist())):
        raise CorruptShardError(
            f"shard {entry.path}: samples of its chunks differ from what the snapshot says",
            shard=entry.path,
        )
    return head


def receive_segments(
    shard: ShardReader, chunk: int, count: int, *, cancelled: threading.Event | None = None
) -> Iterator[memoryview]:
    """Fetch the first segments of a chunk in one closed range; yield each once it is complete.

    Every block is checked as soon as its last byte is there. A bad block is fetched once more,
    alone; each complete segment is held against its digest.

    Args:
        shard: the shard, its head verified.
        chunk: number of the chunk in the shard.
        count: segments to fetch, the index segment included.
        cancelled: when set, the transfer ends with TransferCancelled.

    Raises:
        CorruptShardError: a block is bad twice, or a segment is not what the head says; names
            shard, chunk, block and offset.
        DatasetError: the source has no such shard.
    """
    table = shard.chunks
    start = shard.head.header.head_nbytes + int(table.chunk_offset[chunk])
    nbytes = [int(n) for n in table.segment_nbytes[chunk, :count]]
    buffer = bytearray(sum(nbytes))
    view = memoryview(buffer)
    pieces = stream_bytes(shard.source, shard.path, start, start + len(buffer), cancelled)
    received = begin = 0
    for segment in range(count):
        end = begin + nbytes[segment]
        for block, crc in enumerate(table.block_crcs(chunk, segment).tolist()):
            low = begin + block * table.block_nbytes
            high = min(low + table.block_nbytes, end)
            while received < high:
                piece = next(pieces, b"")
                if not piece:
                    raise TruncatedShardError(
                        f"shard {shard.path}: chunk {chunk}: ends at byte {start + received}",
                        shard=shard.path,
                        chunk=chunk,
                        offset=start + received,
                    )
                view[received : received + len(piece)] = piece
                received += len(piece)
            if wire.crc32c(view[low:high]) != crc:
                where = f"chunk {chunk}: segment {segment}: block {block}"
                view[low:high] = _mend(shard, chunk, block, (start + low, start + high), crc, where)
        data = view[begin:end]
        if wire.segment_digest(data) != table.segment_digest[chunk, segment].tobytes():
            raise CorruptShardError(
                f"shard {shard.path}: chunk {chunk}: segment {segment}: SHA-256 differs from the "
                f"chunk table, though every block is sound: {shard.source.location} cannot be "
                "trusted",
                shard=shard.path,
                chunk=chunk,
                offset=start + begin,
            )
        yield data
        begin = end


def _mend(
    shard: ShardReader, chunk: int, block: int, span: tuple[int, int], crc: int, where: str
) -> bytes:
    """Fetch one bad block again, alone."""
    _LOGGER.warning("shard %s: %s: checksum is wrong; fetching it again", shard.path, where)
    forget(shard.source, shard.path)
    data = shard.source.read(shard.path, *span)
    found = wire.crc32c(data)
    if found != crc:
        raise CorruptShardError(
            f"shard {shard.path}: {where}: offset {span[0]}: CRC-32C {found:08x}, expected "
            f"{crc:08x}, twice; the copy at {shard.source.location} is damaged",
            shard=shard.path,
            chunk=chunk,
            block=block,
            offset=span[0],
        )
    return data


def stream_bytes(
    source: ByteSource,
    path: str,
    start: int,
    stop: int,
    cancelled: threading.Event | None = None,
) -> Iterator[bytes]:
    """Yield a range of a blob as it arrives; a missing blob is a DatasetError."""
    try:
        if isinstance(source, HttpSource):
            yield from source.stream(path, start, stop, cancelled=cancelled)
        else:
            yield from source.stream(path, start, stop)
    except FileNotFoundError as error:
        raise DatasetError(
            f"{source.location}: {path} is missing; the copy is incomplete, or was cleaned up "
            f"since the snapshot was read ({error})"
        ) from error


def forget(source: ByteSource, path: str) -> None:
    """Let the next read of a file ask the source again, whatever was kept of it."""
    if isinstance(source, HttpSource):
        source.forget(path)
