"""The key table: a position by its key with about one ranged read (spec 13.3)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dsqformat import wire
from dsqformat.bytesource import ByteSource
from dsqformat.errors import CorruptShardError

_ENTRY = np.dtype([("hash", ">u8"), ("position", "<u8")])
_UNUSED = (1 << 64) - 1
_USED_NBYTES = wire.KEY_PAGE_ENTRIES * _ENTRY.itemsize
# Pages read at once around the place where a uniformly distributed hash should stand.
_GUESS_PAGES = 3


def key_hash(key: str) -> int:
    """Return the first 8 bytes of the SHA-256 of a key, as an integer."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8")).digest()[:8], "big")


def key_hashes(keys: Iterable[str]) -> NDArray[np.uint64]:
    """Return the hash of each key, uint64, shape (n,)."""
    digests = b"".join(hashlib.sha256(key.encode("utf-8")).digest()[:8] for key in keys)
    return np.frombuffer(digests, ">u8").astype("<u8")


def encode_key_table(hashes: NDArray[np.uint64], positions: NDArray[np.uint64]) -> bytes:
    """Return the key table.

    Args:
        hashes: uint64, shape (n,), of the keys.
        positions: uint64, shape (n,).
    """
    pages = wire.ceil_div(len(hashes), wire.KEY_PAGE_ENTRIES)
    entries = np.full(pages * wire.KEY_PAGE_ENTRIES, _UNUSED, _ENTRY)
    order = np.lexsort((positions, hashes))
    entries["hash"][: len(hashes)] = hashes[order]
    entries["position"][: len(hashes)] = positions[order]
    header = wire.KEY_TABLE_HEADER.pack(wire.KEY_TABLE_MAGIC, 1, 0, len(hashes), b"", 0)[:60]
    parts = [header, wire.crc32c(header).to_bytes(4, "little")]
    for page in entries.reshape(pages, wire.KEY_PAGE_ENTRIES):
        content = page.tobytes() + bytes(12)
        parts += [content, wire.crc32c(content).to_bytes(4, "little")]
    return b"".join(parts)


class KeyTable:
    """A key table that is read by range.

    Args:
        source: where the file is.
        path: of the file in the source.

    Raises:
        CorruptShardError: the header is not sound.
    """

    def __init__(self, source: ByteSource, path: str) -> None:
        self._source, self._path = source, path
        header = source.read(path, 0, wire.KEY_TABLE_HEADER.size)
        magic, version, reserved, count, rest, crc = wire.KEY_TABLE_HEADER.unpack(header)
        if magic != wire.KEY_TABLE_MAGIC or wire.crc32c(header[:60]) != crc:
            raise CorruptShardError(f"key table {path}: the header is not sound")
        if version != 1 or reserved or any(rest) or count > wire.MAX_FILE_NBYTES:
            raise CorruptShardError(f"key table {path}: version {version} or reserved bytes")
        self.count = int(count)
        self._pages = wire.ceil_div(self.count, wire.KEY_PAGE_ENTRIES)

    def positions(self, key: str) -> list[int]:
        """Return the positions whose keys have the hash of `key`; mostly none or one.

        Raises:
            CorruptShardError: a page is damaged.
        """
        wanted, low, high = key_hash(key), 0, self._pages
        if not high:
            return []
        guess = int(wanted * self._pages >> 64)
        while low < high:
            first = max(low, min(guess, high - 1) - _GUESS_PAGES // 2)
            last = min(high, first + _GUESS_PAGES)
            entries = self._read(first, last)
            if first > low and wanted <= entries["hash"][0]:
                high = first + 1 if wanted == entries["hash"][0] else first
            elif last < high and wanted > entries["hash"][-1]:
                low = last
            elif last < high and wanted == entries["hash"][-1]:
                return self._matches(self._read(first, min(self._pages, last + 1)), wanted)
            else:
                return self._matches(entries, wanted)
            guess = (low + high) // 2
        return []

    def entries(self) -> NDArray[np.void]:
        """Read and verify the whole table; fields `hash` and `position`."""
        return self._read(0, self._pages)[: self.count]

    @staticmethod
    def _matches(entries: NDArray[np.void], wanted: int) -> list[int]:
        found = entries["position"][entries["hash"] == wanted].tolist()
        return [position for position in found if position != _UNUSED]

    def _read(self, first: int, last: int) -> NDArray[np.void]:
        start = wire.KEY_TABLE_HEADER.size + first * wire.KEY_PAGE_NBYTES
        stop = wire.KEY_TABLE_HEADER.size + last * wire.KEY_PAGE_NBYTES
        data = self._source.read(self._path, start, stop)
        parts = []
        for page in range(last - first):
            content = data[page * wire.KEY_PAGE_NBYTES : (page + 1) * wire.KEY_PAGE_NBYTES]
            crc = int.from_bytes(content[-4:], "little")
            if wire.crc32c(content[:-4]) != crc or any(content[_USED_NBYTES:-4]):
                raise CorruptShardError(f"key table {self._path}: page {first + page} is damaged")
            parts.append(np.frombuffer(content[:_USED_NBYTES], _ENTRY))
        return np.concatenate(parts) if parts else np.empty(0, _ENTRY)
