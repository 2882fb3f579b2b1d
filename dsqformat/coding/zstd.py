"""Zstandard frames as the format allows them (spec 2): size stated, no dictionary, no checksum."""

from __future__ import annotations

import threading

import zstandard

from dsqformat.errors import CorruptShardError
from dsqformat.wire import MAX_ZSTD_RATIO

_local = threading.local()


def compress_frame(data: bytes | memoryview, level: int) -> bytes:
    """Return `data` as one zstd frame.

    Args:
        data: any bytes.
        level: 1 to 22.
    """
    compressors: dict[int, zstandard.ZstdCompressor] = _local.__dict__.setdefault("compressors", {})
    if level not in compressors:
        compressors[level] = zstandard.ZstdCompressor(
            level=level, write_checksum=False, write_content_size=True, write_dict_id=False
        )
    return compressors[level].compress(data)


def decompress_frame(frame: bytes | memoryview, expected_nbytes: int, what: str) -> bytes:
    """Decompress one zstd frame whose content must have a known length.

    The stated content size is compared before anything is allocated: zstandard's
    `max_output_size` has no effect on frames that state one.

    Args:
        frame: exactly one frame.
        expected_nbytes: length of the content.
        what: what the frame holds, for error messages.

    Raises:
        CorruptShardError: anything but a frame of that content.
    """
    if not 0 < expected_nbytes <= MAX_ZSTD_RATIO * len(frame):
        raise CorruptShardError(
            f"{what}: {expected_nbytes} bytes cannot come from a zstd frame of {len(frame)}"
        )
    try:
        parameters = zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError as error:
        raise CorruptShardError(f"{what}: not a zstd frame: {error}") from error
    if parameters.content_size != expected_nbytes:
        raise CorruptShardError(
            f"{what}: zstd frame states {parameters.content_size} bytes, expected {expected_nbytes}"
        )
    if parameters.dict_id or parameters.has_checksum:
        raise CorruptShardError(f"{what}: zstd frame has a dictionary ID or a checksum")
    if not hasattr(_local, "decompressor"):
        _local.decompressor = zstandard.ZstdDecompressor()
    try:
        content: bytes = _local.decompressor.decompress(
            frame, max_output_size=max(expected_nbytes, 1), allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise CorruptShardError(f"{what}: zstd: {error}") from error
    if len(content) != expected_nbytes:
        raise CorruptShardError(
            f"{what}: zstd frame held {len(content)} bytes, expected {expected_nbytes}"
        )
    return content
