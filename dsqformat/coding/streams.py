"""The lengths of the streams of a segment in coding 2 (spec 9.3.1)."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import CorruptShardError
from dsqformat.wire import MAX_CHUNK_SAMPLES, ceil_div

# samples per stream, shortest stream, bits of the differences to it
HEADER: Final = struct.Struct("<HIB")


def pack_lengths(per_stream: int, lengths: NDArray[np.int64]) -> bytes:
    """Return samples per stream and stream lengths as they stand in front of the streams.

    Args:
        per_stream: samples of each stream, 1 to 4096.
        lengths: int64, shape (streams,), at least one.
    """
    low = int(lengths.min())
    over = (lengths - low).tolist()
    width = max(over).bit_length()
    packed: int = sum(value << i * width for i, value in enumerate(over))
    octets = packed.to_bytes(ceil_div(len(over) * width, 8), "little")
    return HEADER.pack(per_stream, low, width) + octets


def parse_lengths(
    data: bytes | memoryview, samples: int, what: str
) -> tuple[int, NDArray[np.int64], NDArray[np.uint8]]:
    """Take the data of a segment apart, checking every length against its bytes.

    Args:
        data: what follows the coding byte; untrusted.
        samples: samples of the chunk, at least 1.
        what: name of the segment for error messages.

    Returns:
        Samples per stream; where each stream ends in the bytes of all, int64, shape (streams,);
        those bytes, uint8.

    Raises:
        CorruptShardError: the bytes contradict spec 9.3.1.
    """
    if len(data) < HEADER.size:
        raise CorruptShardError(f"{what}: {len(data)} bytes are too few for coding 2")
    per_stream, low, width = HEADER.unpack_from(data)
    if not 1 <= per_stream <= MAX_CHUNK_SAMPLES or width > 32:
        raise CorruptShardError(f"{what}: {per_stream} samples per stream, lengths of {width} bits")
    streams = ceil_div(samples, per_stream)
    start = HEADER.size + ceil_div(streams * width, 8)
    if len(data) < start:
        raise CorruptShardError(f"{what}: {len(data)} bytes end before {streams} stream lengths")
    packed = np.frombuffer(data[HEADER.size : start], "u1") if width else np.empty(0, "u1")
    bits = np.unpackbits(packed, bitorder="little")
    if bits[streams * width :].any():
        raise CorruptShardError(f"{what}: spare bits after the stream lengths are set")
    over = bits[: streams * width].reshape(streams, width).astype("i8")
    lengths = low + over @ (1 << np.arange(width, dtype="i8"))
    if int(lengths.sum()) != len(data) - start:
        raise CorruptShardError(
            f"{what}: streams of {int(lengths.sum())} bytes in {len(data) - start} bytes"
        )
    body = np.frombuffer(data[start:], "u1") if len(data) > start else np.empty(0, "u1")
    return per_stream, np.cumsum(lengths), body
