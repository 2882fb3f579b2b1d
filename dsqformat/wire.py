"""The byte layout of a shard as constants and structs, each with its spec section."""

from __future__ import annotations

import hashlib
import struct
from typing import Final

import google_crc32c

# 5.1 header
MAGIC: Final = b"\x8bDSQ\r\n\x1a\n"
VERSION_MAJOR: Final = 1
VERSION_MINOR: Final = 0
# magic, major, minor, section_count, incompatible, compatible, head, file, samples, reserved, crc
HEADER: Final = struct.Struct("<8sHHIQQQQQII")
HEADER_NBYTES: Final = HEADER.size

# 5.2 directory: kind, flags, offset, nbytes, raw_nbytes, coding, reserved, crc
SECTION: Final = struct.Struct("<4sIQQQB3sI")
SECTION_REQUIRED: Final = 1
KIND_SCHEMA: Final = b"SCHM"
KIND_CHUNKS: Final = b"CHNK"
KIND_MODELS: Final = b"MODL"
KIND_GROUPS: Final = b"GRPS"
KIND_KEYS: Final = b"KEYS"
CODING_STORED: Final = 0
CODING_ZSTD: Final = 1

# 16 features
FEATURE_PATCH_MASK: Final = 1 << 0
FEATURE_RANS: Final = 1 << 1
FEATURE_GROUPS: Final = 1 << 2
KNOWN_INCOMPATIBLE: Final = FEATURE_PATCH_MASK | FEATURE_RANS | FEATURE_GROUPS

# 7 chunk table: chunk_count, segment_count, block_nbytes, zone_count
CHUNK_TABLE: Final = struct.Struct("<IIII")
DIGEST_NBYTES: Final = 16
DEFAULT_BLOCK_NBYTES: Final = 16 << 10

# 7.1 models: field number, nbytes
MODEL: Final = struct.Struct("<BI")
MAX_MODEL_NBYTES: Final = 1 << 18

# 7.2 patch groups: field number, count
GROUPS: Final = struct.Struct("<BI")
MAX_GROUPS: Final = 1 << 16

# 8 index columns: encoding, nbytes
COLUMN: Final = struct.Struct("<BI")
ENCODING_CONSTANT: Final = 0
ENCODING_PLAIN: Final = 1
ENCODING_FOR: Final = 2
ENCODING_DICT: Final = 3
ENCODING_VAR: Final = 4
ENCODING_ZSTD: Final = 5
ENCODING_QUOTIENT: Final = 6

# 9 layer segments
LAYER_PACKED: Final = 0
LAYER_ZSTD: Final = 1
LAYER_RANS: Final = 2

# 13.3 key table
KEY_TABLE_MAGIC: Final = b"\x8bDSK\r\n\x1a\n"
KEY_TABLE_HEADER: Final = struct.Struct("<8sIIQ36sI")
KEY_PAGE_NBYTES: Final = 4096
KEY_PAGE_ENTRIES: Final = 255

# 15 limits
MAX_FILE_NBYTES: Final = 1 << 40
MAX_HEAD_NBYTES: Final = 1 << 28
MAX_SECTIONS: Final = 64
MAX_SCHEMA_NBYTES: Final = 1 << 20
MAX_SNAPSHOT_NBYTES: Final = 16 << 20
MAX_PAGE_NBYTES: Final = 4 << 20
MAX_FIELDS: Final = 16
MAX_COLUMNS: Final = 256
MAX_LAYERS: Final = 8
MAX_DIMENSIONS: Final = 8
MAX_CHUNKS: Final = 1 << 20
MAX_CHUNK_SAMPLES: Final = 4096
MAX_SEGMENT_NBYTES: Final = 1 << 30
MAX_VALUES: Final = 1 << 28
MAX_COLUMN_NBYTES: Final = 1 << 28
MAX_KEY_NBYTES: Final = 4096
MAX_JSON_DEPTH: Final = 32
MAX_FOR_WIDTH: Final = 56
MAX_BIT_WIDTH: Final = 16
MAX_PATCH_BIT_WIDTH: Final = 8
MAX_QP: Final = 175
MAX_BLOCK_SIDE: Final = 4096
MAX_BLOCK_CHANNELS: Final = 64
MAX_BLOCK_LAYERS: Final = 4
# 2: no block of RFC 8878 expands further than 128 KiB from 4 bytes
MAX_ZSTD_RATIO: Final = 32768

# 13 dataset directory
DATASET_FILE: Final = "dataset.json"
SHARDS_PER_PAGE: Final = 1024
MAX_CHUNK_RUNS: Final = 256


def crc32c(data: bytes | memoryview) -> int:
    """Return the CRC-32C of `data` (spec 14)."""
    return int(google_crc32c.value(bytes(data)))


def sha256_hex(data: bytes | memoryview) -> str:
    """Return the SHA-256 of `data` as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def segment_digest(data: bytes | memoryview) -> bytes:
    """Return the first 16 bytes of the SHA-256 of a segment (spec 7)."""
    return hashlib.sha256(data).digest()[:DIGEST_NBYTES]


def ceil_div(numerator: int, denominator: int) -> int:
    """Return the smallest integer not below numerator / denominator."""
    return -(-numerator // denominator)
