"""Damage a shard and put its checksums right, so that a reader gets to see the damage.

Works on shards whose head is stored without compression, such as most conformance vectors.
"""

from __future__ import annotations

import hashlib
import random
import struct

import google_crc32c

ENTRY = struct.Struct("<4sI3QB3sI")  # spec 5.2


def reseal(data: bytes) -> bytes:
    """Return a shard with all checksums recomputed from its own lengths, as far as they go.

    Args:
        data: a shard whose lengths may have been damaged; they are only followed within it.
    """
    shard = bytearray(data)
    (section_count,) = struct.unpack_from("<I", shard, 12)
    (head_nbytes,) = struct.unpack_from("<Q", shard, 32)
    end = 64 + 40 * min(section_count, 64)
    if end + 4 > len(shard):
        return _seal(shard, 0, 60, 60)
    for at in range(64, end, 40):
        kind, _, offset, nbytes, *_ = ENTRY.unpack_from(shard, at)
        if offset + nbytes > len(shard):
            continue
        if kind == b"CHNK":
            _reseal_segments(shard, offset, nbytes, head_nbytes)
        if kind == b"KEYS":
            _reseal_keys(shard, offset, nbytes)
        _seal(shard, offset, offset + nbytes, at + 36)
    _seal(shard, 64, end, end)
    return _seal(shard, 0, 60, 60)


def damaged_shards(data: bytes, count: int, seed: int) -> list[bytes]:
    """Return `count` seeded variants of a shard, each with a few bytes changed and resealed."""
    source = random.Random(seed)
    variants = []
    while len(variants) < count:
        shard = bytearray(data)
        for _ in range(source.choice((1, 1, 1, 2, 3))):
            at = source.randrange(8, len(shard))
            # Small changes meet more borders than random bytes do.
            shard[at] = source.choice(
                (
                    shard[at] ^ 1 << source.randrange(8),
                    shard[at] + 1 & 255,
                    shard[at] - 1 & 255,
                    0,
                    255,
                )
            )
        variants.append(reseal(bytes(shard)))
    return variants


def _seal(shard: bytearray, start: int, stop: int, at: int) -> bytes:
    struct.pack_into("<I", shard, at, google_crc32c.value(bytes(shard[start:stop])))
    return bytes(shard)


def _reseal_segments(shard: bytearray, offset: int, nbytes: int, head_nbytes: int) -> None:
    """Recompute segment digests and block checksums (spec 7)."""
    if nbytes < 16:
        return
    chunks, segments, block_nbytes, _ = struct.unpack_from("<4I", shard, offset)
    lengths_at = offset + 16 + 4 * chunks
    digest_at = lengths_at + 4 * chunks * segments
    crc_at, start = digest_at + 16 * chunks * segments, head_nbytes
    if crc_at > offset + nbytes or not block_nbytes:
        return
    for number, length in enumerate(
        struct.unpack_from(f"<{chunks * segments}I", shard, lengths_at)
    ):
        segment = bytes(shard[start : start + length])
        digest = hashlib.sha256(segment).digest()[:16]
        shard[digest_at + 16 * number : digest_at + 16 * number + 16] = digest
        for first in range(0, len(segment), block_nbytes):
            if crc_at + 4 > offset + nbytes:
                return
            crc = google_crc32c.value(segment[first : first + block_nbytes])
            struct.pack_into("<I", shard, crc_at, crc)
            crc_at += 4
        start += length


def _reseal_keys(shard: bytearray, offset: int, nbytes: int) -> None:
    """Recompute the checksums of the parts (spec 12)."""
    (chunks,) = struct.unpack_from("<I", shard, offset) if nbytes >= 4 else (0,)
    start = offset + 4 + 8 * chunks
    if start > offset + nbytes:
        return
    for chunk in range(chunks):
        (length,) = struct.unpack_from("<I", shard, offset + 4 + 4 * chunk)
        part = bytes(shard[start : min(start + length, offset + nbytes)])
        struct.pack_into("<I", shard, offset + 4 + 4 * (chunks + chunk), google_crc32c.value(part))
        start += length
