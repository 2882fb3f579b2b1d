"""Zstandard frames written by libzstd and by hand, for the plain decoder of the specification."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import zstandard
from hypothesis import strategies as st

SOURCE = Path(__file__).resolve().parents[2] / "spec" / "reference_zstd.py"
NAME = "spec_reference_zstd"


def load_reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location(NAME, SOURCE)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {SOURCE}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return module


reference = load_reference()
ZstdError = reference.ZstdError


# --- Content of the kinds a dataset holds, and frames of it ------------------------------------


def text(rng: np.random.Generator, n: int) -> bytes:
    words = [rng.choice(list(b"etaoinshrdlucm"), rng.integers(2, 10)) for _ in range(400)]
    ranks = np.minimum(rng.zipf(1.3, n // 3 + 1) - 1, 399)
    return b" ".join(bytes(words[rank].astype("u1")) for rank in ranks)[:n]


def runs(rng: np.random.Generator, n: int) -> bytes:
    return (
        np.repeat(rng.integers(0, 9, n // 8 + 1), rng.integers(1, 300, n // 8 + 1))[:n]
        .astype("u1")
        .tobytes()
    )


def nibbles(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.clip(np.rint(rng.normal(8, 2, n)), 0, 15).astype("u1")


def packed_nibbles(rng: np.random.Generator, n: int) -> bytes:
    codes = nibbles(rng, 2 * n)
    return (codes[::2] | codes[1::2] << 4).tobytes()


KINDS: dict[str, Callable[[np.random.Generator, int], bytes]] = {
    "zeros": lambda rng, n: bytes(n),
    "runs": runs,
    "two values": lambda rng, n: rng.integers(0, 2, n).astype("u1").tobytes(),
    "four values": lambda rng, n: rng.integers(7, 11, n).astype("u1").tobytes(),
    "wide": lambda rng, n: np.minimum(rng.exponential(30, n), 255).astype("u1").tobytes(),
    "random": lambda rng, n: rng.bytes(n),
    "text": text,
    "4-bit codes": lambda rng, n: nibbles(rng, n).tobytes(),
    "packed 4-bit codes": packed_nibbles,
    "walk": lambda rng, n: np.cumsum(rng.integers(-2, 3, n)).astype("u1").tobytes(),
    "mixed": lambda rng, n: rng.bytes(n // 3) + text(rng, n // 3) + bytes(n - n // 3 * 2),
}

kinds = st.sampled_from(sorted(KINDS))
# The long ones fill more than one block of 128 KiB, and more than two.
lengths = st.one_of(st.integers(0, 400), st.integers(0, 20_000), st.integers(130_000, 300_000))
seeds = st.integers(0, 2**32 - 1)
levels = st.integers(-5, 19)


def make_content(kind: str, n: int, seed: int) -> bytes:
    return KINDS[kind](np.random.default_rng(seed), n)[:n]


def compress(content: bytes, level: int, window_log: int = 0) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, source_size=len(content), window_log=window_log
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(content)


# --- Frames written by hand, so that every mode is met whatever an encoder prefers -------------

RAW, RLE, COMPRESSED, RESERVED = range(4)
NO_SEQUENCES = b"\x00"


def le(value: int, nbytes: int) -> bytes:
    return value.to_bytes(nbytes, "little")


MAGIC = le(0xFD2FB528, 4)


def make_frame(n: int, *blocks: tuple[int, int, bytes], header: bytes | None = None) -> bytes:
    """Join blocks of (type, Block_Size, bytes) to a frame of n bytes, window 128 KiB."""
    frame = MAGIC + (b"\x80\x38" + le(n, 4) if header is None else header)
    for i, (kind, size, stored) in enumerate(blocks, 1):
        frame += le((i == len(blocks)) | kind << 1 | size << 3, 3) + stored
    return frame


def raw(stored: bytes) -> tuple[int, int, bytes]:
    return RAW, len(stored), stored


def compressed(*parts: bytes) -> tuple[int, int, bytes]:
    stored = b"".join(parts)
    return COMPRESSED, len(stored), stored


def stored_literals(stored: bytes, n: int, size_format: int, kind: int = RAW) -> bytes:
    flag_bits, nbytes = {0: (3, 1), 1: (4, 2), 2: (3, 1), 3: (4, 3)}[size_format]
    # One-byte headers have one bit of Size_Format; the next bit already belongs to the size.
    flags = kind | (size_format << 2 if flag_bits == 4 else 0)
    return le(flags | n << flag_bits, nbytes) + stored


# The worked examples of RFC 8878 sections 4.2.1.3 and 4.2.2. The text says "0145"; by its own
# table of codes (0000 is 4, 0001 is 5) the bytes hold 0, 1, 5, 4, and so libzstd reads them.
TREE = bytes([127 + 5, 0x43, 0x20, 0x10])
STREAM = bytes([0x10, 0x0D])
STREAM_LITERALS = b"\0\1\5\4"


def huffman_literals(kind: int, size_format: int, *, n: int | None = None) -> bytes:
    streams = STREAM if size_format == 0 else le(2, 2) * 3 + STREAM * 4
    streams = (TREE if kind == 2 else b"") + streams
    width, nbytes = {0: (10, 3), 1: (10, 3), 2: (14, 4), 3: (18, 5)}[size_format]
    n = (16 if size_format else 4) if n is None else n
    sizes = n | len(streams) << width
    return le(kind | size_format << 2 | sizes << 4, nbytes) + streams


def rle_sequences(n: int, ll_code: int, of_code: int, ml_code: int, bits: bytes) -> bytes:
    count = bytes([n]) if n < 128 else le(255, 1) + le(n - 0x7F00, 2)
    return count + bytes([0b01_01_01_00, ll_code, of_code, ml_code]) + bits


# 2047 bytes of output, then offset code 10: value 1024 + 4, a distance of 1025.
DISTANCE_1025 = (
    (RLE, 1024, b"a"),
    (RLE, 1023, b"b"),
    compressed(b"\0", rle_sequences(1, 0, 10, 0, le(1 << 10 | 4, 2))),
)


def by_hand() -> dict[str, tuple[bytes, bytes]]:
    """Frames and their content, by name."""
    made = {
        "no bytes": (make_frame(0, raw(b"")), b""),
        "raw block": (make_frame(3, raw(b"abc")), b"abc"),
        "RLE block": (make_frame(500, (RLE, 500, b"z")), b"z" * 500),
        "two blocks": (make_frame(5, raw(b"abc"), (RLE, 2, b"d")), b"abcdd"),
        # Four sequences, each one literal and a match of 3 from offset value 4 - 3 = 1.
        "RLE tables": (
            make_frame(
                17, compressed(stored_literals(b"abcde", 5, 0), rle_sequences(4, 1, 2, 0, b"\0\1"))
            ),
            b"aaaabbbbccccdddde",
        ),
    }
    for size_format in range(4):
        for name, stored, kind in (("raw", b"x" * 20, RAW), ("RLE", b"x", RLE)):
            block = compressed(stored_literals(stored, 20, size_format, kind), NO_SEQUENCES)
            made[f"{name} literals {size_format}"] = (make_frame(20, block), b"x" * 20)
        tree = compressed(huffman_literals(2, size_format), NO_SEQUENCES)
        treeless = compressed(huffman_literals(3, size_format), NO_SEQUENCES)
        content = STREAM_LITERALS * (4 if size_format else 1)
        made[f"Huffman {size_format}"] = (make_frame(len(content), tree), content)
        # The tree outlives a block without Huffman literals.
        made[f"treeless {size_format}"] = (
            make_frame(2 * len(content) + 1, tree, raw(b"-"), treeless),
            content + b"-" + content,
        )
    # More than 0x7F00 sequences, not one bit long: offset value 1 after no literals means the
    # second of the recent offsets, so that 4 and 1 take turns.
    n_sequences = 0x7F00 + 10
    content = bytearray(b"abcdefgh")
    for offset in itertools.islice(itertools.cycle([4, 1]), n_sequences):
        for _ in range(3):
            content.append(content[-offset])
    block = compressed(stored_literals(b"", 0, 0), rle_sequences(n_sequences, 0, 0, 0, b"\1"))
    made["three-byte count"] = (
        make_frame(len(content), raw(b"abcdefgh"), block),
        bytes(content),
    )
    # RLE tables, then the same by Repeat_Mode.
    first = compressed(stored_literals(b"abcd", 4, 0), rle_sequences(4, 1, 2, 0, b"\0\1"))
    again = compressed(stored_literals(b"efgh", 4, 0), bytes([4, 0b11_11_11_00]), b"\0\1")
    made["repeated RLE tables"] = (
        make_frame(32, first, raw(b""), again),
        b"".join(bytes([letter]) * 4 for letter in b"abcdefgh"),
    )
    # Window descriptor 0x01: 1024 + 128 bytes, enough for a distance of 1025.
    made["window of 1152 bytes"] = (
        make_frame(2050, *DISTANCE_1025, header=b"\x40\1" + le(2050 - 256, 2)),
        b"a" * 1024 + b"b" * 1023 + b"aab",
    )
    return made
