"""The `KEYS` section: names of samples, chunk by chunk, in the tail that training never fetches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dsqformat import wire
from dsqformat.coding.columns import ColumnReader, encode_column
from dsqformat.errors import CorruptShardError


@dataclass(frozen=True)
class KeyParts:
    """Where the keys of each chunk stand in the section (spec 12).

    Attributes:
        offset: of each part from the start of the section, and the end of the last.
        crc: CRC-32C of each part.
    """

    offset: tuple[int, ...]
    crc: tuple[int, ...]


def key_parts_nbytes(chunk_count: int) -> int:
    """Return the bytes in front of the parts."""
    return 4 + 8 * chunk_count


def parse_key_parts(data: bytes, chunk_count: int, section_nbytes: int) -> KeyParts:
    """Parse what stands in front of the parts.

    Args:
        data: the first key_parts_nbytes(chunk_count) bytes of the section.
        chunk_count: chunks of the shard.
        section_nbytes: length of the section.

    Raises:
        CorruptShardError: the counts or lengths contradict the shard.
    """
    start = key_parts_nbytes(chunk_count)
    if len(data) < start or int.from_bytes(data[:4], "little") != chunk_count:
        raise CorruptShardError(f"section KEYS: does not begin with {chunk_count} parts")
    nbytes, crc = np.frombuffer(data[4:start], "<u4").reshape(2, chunk_count).tolist()
    offset = [start]
    for length in nbytes:
        offset.append(offset[-1] + length)
    if offset[-1] != section_nbytes:
        raise CorruptShardError(
            f"section KEYS: parts end at {offset[-1]}, the section has {section_nbytes} bytes"
        )
    return KeyParts(tuple(offset), tuple(crc))


def parse_keys(part: bytes, crc: int, sample_count: int, what: str) -> list[str]:
    """Verify and decode the keys of one chunk.

    Raises:
        CorruptShardError: the checksum is wrong, or a key is empty or too long.
    """
    found = wire.crc32c(part)
    if found != crc:
        raise CorruptShardError(f"{what}: keys: CRC-32C {found:08x}, expected {crc:08x}")
    reader = ColumnReader(memoryview(part), sample_count, what)
    keys = [str(key) for key in reader.read("key", "utf8")]
    reader.finish()
    for key in keys:
        if not 1 <= len(key.encode("utf-8")) <= wire.MAX_KEY_NBYTES:
            raise CorruptShardError(f"{what}: a key has not 1 to {wire.MAX_KEY_NBYTES} bytes")
    return keys


def encode_keys(keys: Sequence[str]) -> bytes:
    """Return the part of one chunk."""
    return encode_column(list(keys), "utf8")


def encode_key_section(parts: Sequence[bytes]) -> bytes:
    """Return the whole section from its parts."""
    nbytes = np.array([len(part) for part in parts], "<u4")
    crc = np.array([wire.crc32c(part) for part in parts], "<u4")
    count = len(parts).to_bytes(4, "little")
    return b"".join([count, nbytes.tobytes(), crc.tobytes(), *parts])
