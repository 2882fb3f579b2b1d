"""Copies a shard into a file that can be gone on with after a kill."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from dsqclient.copy_plan import Block, ShardPlan
from dsqclient.verified import forget, stream_bytes
from dsqformat import wire
from dsqformat.bytesource import ByteSource
from dsqformat.errors import CorruptShardError, TruncatedShardError

_LOGGER = logging.getLogger(__name__)

_READ_NBYTES: Final = 1 << 20

# Whether bytes of a copy came from its source, were here, or were made anew.
Gain = Literal["received", "here", "made"]


class ShardCopy:
    """A copy under way, in a file that is gone on with if it exists.

    Args:
        source: where the shard is.
        plan: what to copy.
        part: the file; its name begins with a dot.
        on_bytes: called with the bytes gained, and where they came from.
    """

    def __init__(
        self,
        source: ByteSource,
        plan: ShardPlan,
        part: Path,
        on_bytes: Callable[[int, Gain], None],
    ) -> None:
        self._source, self._plan, self._part, self._on_bytes = source, plan, part, on_bytes

    def run(self) -> str:
        """Fill the file and verify all of it.

        Returns:
            Its SHA-256, hex.

        Raises:
            CorruptShardError: the source sends something else than its snapshot says.
        """
        descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            position = self._keep_what_is_sound(descriptor)
            self._on_bytes(position, "here")
            if position < len(self._plan.head):
                os.pwrite(descriptor, self._plan.head[position:], position)
                self._on_bytes(len(self._plan.head) - position, "made")
            self._fill(descriptor, max(position, len(self._plan.head)))
            start = self._plan.nbytes - len(self._plan.tail)
            os.pwrite(descriptor, self._plan.tail, start)
            self._on_bytes(len(self._plan.tail), "made")
            return self._verified_digest(descriptor)
        except OSError as error:
            if error.filename is None and error.errno is not None:
                raise OSError(error.errno, os.strerror(error.errno), str(self._part)) from error
            raise
        finally:
            os.close(descriptor)

    def _keep_what_is_sound(self, descriptor: int) -> int:
        """Cut the file after its last byte that is not known to be wrong; return its length."""
        nbytes = os.fstat(descriptor).st_size
        keep = 0
        if os.pread(descriptor, len(self._plan.head), 0) == self._plan.head:
            keep = min(nbytes, self._plan.nbytes - len(self._plan.tail))
            for block in self._plan.blocks:
                if block.target + block.nbytes > keep:
                    break
                data = os.pread(descriptor, block.nbytes, block.target)
                if block.crc is not None and wire.crc32c(data) != block.crc:
                    keep = block.target
        os.ftruncate(descriptor, keep)
        return keep

    def _fill(self, descriptor: int, position: int) -> None:
        blocks = [b for b in self._plan.blocks if b.target + b.nbytes > position]
        stops = _run_stops(blocks)
        run = _Run(self._source, self._plan.path)
        for block, stop in zip(blocks, stops, strict=True):
            have = max(0, position - block.target)
            if block.local is not None and self._copy_local(descriptor, block):
                self._on_bytes(block.nbytes - have, "here")
                continue
            data = bytearray(os.pread(descriptor, have, block.target) if have else b"")
            while len(data) < block.nbytes:
                origin = block.origin + len(data)
                piece = run.take(origin, max(stop, block.origin + block.nbytes), block, len(data))
                os.pwrite(descriptor, piece, block.target + len(data))
                data += piece
                self._on_bytes(len(piece), "received")
            if block.crc is not None and wire.crc32c(bytes(data)) != block.crc:
                os.pwrite(descriptor, self._fetched_again(block), block.target)
        run.close()

    def _copy_local(self, descriptor: int, block: Block) -> bool:
        """Copy a block from a local file; False if it is not there as it should be."""
        if block.local is None:
            return False
        path, offset = block.local
        try:
            with path.open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), block.nbytes, offset)
        except OSError:
            return False
        if wire.crc32c(data) != block.crc:
            return False
        os.pwrite(descriptor, data, block.target)
        return True

    def _fetched_again(self, block: Block) -> bytes:
        path = self._plan.path
        _LOGGER.warning("shard %s: offset %d: bad checksum; fetching again", path, block.origin)
        forget(self._source, path)
        data = self._source.read(path, block.origin, block.origin + block.nbytes)
        found = wire.crc32c(data)
        if found != block.crc:
            raise CorruptShardError(
                f"shard {path}: offset {block.origin}: CRC-32C {found:08x}, expected "
                f"{block.crc:08x}, twice; the copy at {self._source.location} is damaged",
                shard=path,
                offset=block.origin,
            )
        return data

    def _verified_digest(self, descriptor: int) -> str:
        """Read the file once more: what is published has been seen whole."""
        plan, whole = self._plan, hashlib.sha256(self._plan.head)
        position = len(plan.head)
        for nbytes, expected in plan.segments:
            digest = hashlib.sha256()
            for piece in _pieces(descriptor, position, position + nbytes):
                digest.update(piece)
                whole.update(piece)
            if digest.digest()[: wire.DIGEST_NBYTES] != expected:
                raise self._discarded(f"the segment at {position} of the copy")
            position += nbytes
        for piece in _pieces(descriptor, position, plan.nbytes):
            whole.update(piece)
        if plan.digest is not None and whole.hexdigest() != plan.digest:
            raise self._discarded("the file")
        return whole.hexdigest()

    def _discarded(self, what: str) -> CorruptShardError:
        self._part.unlink(missing_ok=True)
        return CorruptShardError(
            f"shard {self._plan.path}: SHA-256 of {what} differs, though its blocks are sound: "
            f"{self._source.location} cannot be trusted; what was received was deleted",
            shard=self._plan.path,
        )


class _Run:
    """One transfer of consecutive bytes, from which blocks are taken."""

    def __init__(self, source: ByteSource, path: str) -> None:
        self._source, self._path = source, path
        self._pieces: Iterator[bytes] = iter(())
        self._rest = b""
        self._position = -1

    def take(self, origin: int, stop: int, block: Block, have: int) -> bytes:
        """Return bytes from `origin` on, at least one and at most to the end of the block."""
        if origin != self._position:
            self._pieces = stream_bytes(self._source, self._path, origin, stop)
            self._position, self._rest = origin, b""
        if not self._rest:
            self._rest = next(self._pieces, b"")
        if not self._rest:
            raise TruncatedShardError(
                f"shard {self._path}: ends at byte {origin}", shard=self._path, offset=origin
            )
        most = block.nbytes - have
        piece, self._rest = self._rest[:most], self._rest[most:]
        self._position += len(piece)
        return piece

    def close(self) -> None:
        self._pieces = iter(())


def _run_stops(blocks: Sequence[Block]) -> list[int]:
    """Return, for each block, where the run of consecutive blocks to fetch ends in the source."""
    stops = [0] * len(blocks)
    for number in range(len(blocks) - 1, -1, -1):
        block = blocks[number]
        end = block.origin + block.nbytes
        following = blocks[number + 1] if number + 1 < len(blocks) else None
        joined = following is not None and following.local is None and following.origin == end
        stops[number] = stops[number + 1] if joined else end
    return stops


def _pieces(descriptor: int, start: int, stop: int) -> Iterator[bytes]:
    while start < stop:
        piece = os.pread(descriptor, min(_READ_NBYTES, stop - start), start)
        if not piece:
            return
        start += len(piece)
        yield piece
