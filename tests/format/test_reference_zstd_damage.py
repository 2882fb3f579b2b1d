"""What the plain Zstandard decoder of the specification refuses: bad frames, damage."""

import itertools
from collections.abc import Iterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from zstd_frames import (
    COMPRESSED,
    DISTANCE_1025,
    MAGIC,
    NO_SEQUENCES,
    RESERVED,
    RLE,
    STREAM,
    ZstdError,
    by_hand,
    compress,
    compressed,
    huffman_literals,
    kinds,
    le,
    levels,
    make_content,
    make_frame,
    raw,
    reference,
    rle_sequences,
    seeds,
    stored_literals,
)

# --- Refusals ----------------------------------------------------------------------------------

ALL_PREDEFINED = bytes([1, 0])
THREE = compressed(stored_literals(b"abc", 3, 0), NO_SEQUENCES)


def fse_weights(*stored: int) -> bytes:
    """Literals of one stream whose tree is described by these FSE bytes."""
    streams = bytes([len(stored), *stored]) + STREAM
    return le(2 | (4 | len(streams) << 10) << 4, 3) + streams + NO_SEQUENCES


def direct_weights(*pairs: int, n: int) -> bytes:
    streams = bytes([127 + n, *pairs]) + STREAM
    return le(2 | (4 | len(streams) << 10) << 4, 3) + streams + NO_SEQUENCES


REFUSED: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 0, "magic number: cut short"),
    "other magic": (b"\x28\xb5\x2f\xfe" + bytes(9), 0, "magic number: got 0xfe2fb528"),
    "skippable frame": (le(0x184D2A50, 4) + le(0, 4), 0, "magic number"),
    "reserved bit": (make_frame(3, raw(b"abc"), header=b"\x28\3"), 3, "reserved bit"),
    "checksum": (make_frame(3, raw(b"abc"), header=b"\x24\3") + bytes(4), 3, "checksum"),
    "dictionary": (make_frame(3, raw(b"abc"), header=b"\x21\7\3"), 3, "dictionary"),
    "no content size": (make_frame(3, raw(b"abc"), header=b"\0\0"), 3, "no content size"),
    "window of 4 GiB": (make_frame(3, raw(b"abc"), header=b"\x80\xb0\3\0\0\0"), 3, "window log"),
    "other size": (make_frame(3, raw(b"abc")), 4, "content size: got 3, expected 4"),
    "negative size": (make_frame(3, raw(b"abc")), -1, "content size"),
    "too little": (make_frame(4, raw(b"abc")), 4, "got 3 bytes, expected 4"),
    "too much raw": (make_frame(4, raw(b"abc"), raw(b"de")), 4, "2 bytes, room for 1"),
    "too much RLE": (make_frame(4, raw(b"abc"), (RLE, 4, b"z")), 4, "4 bytes, room for 1"),
    "too many literals": (make_frame(4, raw(b"zz"), THREE), 4, "literals: 3 bytes, room for 2"),
    "bytes after": (make_frame(3, raw(b"abc")) + b"\0", 3, "1 bytes after the last block"),
    "two frames": (make_frame(3, raw(b"abc")) * 2, 3, "after the last block"),
    "reserved block": (make_frame(3, (RESERVED, 0, b"")), 3, "block type 3"),
    "block beyond a single segment": (
        make_frame(2, (RLE, 3, b"a"), header=b"\x20\2"),
        2,
        "3 bytes, at most 2",
    ),
    "block beyond window": (
        make_frame(2000, (RLE, 1500, b"a"), (RLE, 500, b"b"), header=b"\x40\0" + le(1744, 2)),
        2000,
        "1500 bytes, at most 1024",
    ),
    "block of 128 KiB + 1": (make_frame(140000, (RLE, 131073, b"a")), 140000, "at most 131072"),
    "empty compressed block": (make_frame(9, compressed()), 9, "literals header: cut short"),
    "no sequence count": (
        make_frame(9, compressed(stored_literals(b"abc", 3, 0))),
        9,
        "number of sequences: cut short",
    ),
    "literals cut short": (
        make_frame(9, compressed(stored_literals(b"abc", 9, 0))),
        9,
        "RAW literals: cut short",
    ),
    "literals beyond content": (
        make_frame(9, compressed(stored_literals(b"a", 10, 0, RLE), NO_SEQUENCES)),
        9,
        "literals: 10 bytes, room for 9",
    ),
    "treeless without tree": (
        make_frame(64, compressed(huffman_literals(3, 0), NO_SEQUENCES)),
        64,
        "no Huffman tree",
    ),
    "four streams of five": (
        make_frame(64, compressed(huffman_literals(2, 1, n=5), NO_SEQUENCES)),
        64,
        "expected at least 6",
    ),
    "one literal too many": (
        make_frame(64, compressed(huffman_literals(2, 0, n=5), NO_SEQUENCES)),
        64,
        "Huffman stream: does not end",
    ),
    "one literal too few": (
        make_frame(64, compressed(huffman_literals(2, 0, n=3), NO_SEQUENCES)),
        64,
        "Huffman stream: does not end",
    ),
    "no weights": (make_frame(64, compressed(fse_weights())), 64, "accuracy log|symbol"),
    "weights all zero": (make_frame(64, compressed(direct_weights(0, n=2))), 64, "depth 0"),
    "weight of 15": (make_frame(64, compressed(direct_weights(0xF1, n=2))), 64, "depth 15"),
    "no power of two": (make_frame(64, compressed(direct_weights(0x41, 0x10, n=3))), 64, "short"),
    "no weight of 1": (make_frame(64, compressed(direct_weights(0x20, n=1))), 64, "none is 1"),
    "weights' accuracy": (make_frame(64, compressed(fse_weights(2, 0, 1))), 64, "accuracy log 7"),
    "256 weights": (
        # Probabilities 31 and -1: thirty states of the first symbol step without reading a bit.
        make_frame(64, compressed(fse_weights(0xE0, 0x03, 0, 0, 0, 0, 1))),
        64,
        "more than 255",
    ),
    "distribution of one": (
        # Accuracy log 5, then value 33, the largest: all six bits are set.
        make_frame(64, compressed(fse_weights(0xF0, 0x03, 1))),
        64,
        "expected at least 2",
    ),
    "distribution of too many": (
        # Accuracy log 5, value 1 in five bits: probability 0; then "three more", many times.
        make_frame(64, compressed(fse_weights(0x10, 0xFE, 0xFF, 0xFF, 0xFF))),
        64,
        "FSE distribution: more than 12",
    ),
    "bytes without sequences": (
        make_frame(3, compressed(stored_literals(b"abc", 3, 0), b"\0\0")),
        3,
        "more bytes follow",
    ),
    "reserved mode bits": (
        make_frame(9, compressed(stored_literals(b"abc", 3, 0), b"\1\1\1")),
        9,
        "reserved bits",
    ),
    "repeated before": (
        make_frame(9, compressed(stored_literals(b"abc", 3, 0), b"\1\xfc\1")),
        9,
        "literals length table: repeated",
    ),
    "literals length code 36": (
        make_frame(9, compressed(stored_literals(b"a", 1, 0), rle_sequences(1, 36, 0, 0, b"\1"))),
        9,
        "code 36, at most 35",
    ),
    "offset code 32": (
        make_frame(9, compressed(stored_literals(b"a", 1, 0), rle_sequences(1, 1, 32, 0, b"\1"))),
        9,
        "code 32, at most 31",
    ),
    "match length code 53": (
        make_frame(9, compressed(stored_literals(b"a", 1, 0), rle_sequences(1, 1, 0, 53, b"\1"))),
        9,
        "code 53, at most 52",
    ),
    "no bit stream": (
        make_frame(9, compressed(stored_literals(b"a", 1, 0), rle_sequences(1, 1, 0, 0, b""))),
        9,
        "end mark",
    ),
    "no end mark": (
        make_frame(9, compressed(stored_literals(b"a", 1, 0), rle_sequences(1, 1, 0, 0, b"\0"))),
        9,
        "end mark",
    ),
    "bits missing": (
        make_frame(9, compressed(stored_literals(b"a", 1, 0), ALL_PREDEFINED, b"\1")),
        9,
        "ends early",
    ),
    "bits left over": (
        make_frame(9, compressed(stored_literals(b"a", 1, 0), rle_sequences(1, 1, 0, 0, b"\2"))),
        9,
        "1 bits are left",
    ),
    "literals used up": (
        make_frame(9, compressed(stored_literals(b"a", 1, 0), rle_sequences(1, 2, 0, 0, b"\1"))),
        9,
        "literals: cut short",
    ),
    "sequences beyond content": (
        make_frame(3, raw(b""), compressed(b"\x08a", rle_sequences(1, 1, 0, 0, b"\1"))),
        3,
        "sequences: more output",
    ),
    "rest beyond content": (
        make_frame(
            12, compressed(stored_literals(b"a", 12, 0, RLE), rle_sequences(1, 1, 0, 0, b"\1"))
        ),
        12,
        "literals: more than",
    ),
    "offset before the start": (
        # Offset code 2 and two zero bits: value 4, distance 1, with nothing decoded yet.
        make_frame(9, compressed(b"\0", rle_sequences(1, 0, 2, 0, b"\4"))),
        9,
        "match offset: got 1, expected 1 to 0",
    ),
    "offset of zero": (
        # No literals and value 3: the most recent offset, 1, less 1.
        make_frame(9, raw(b"abc"), compressed(b"\0", rle_sequences(1, 0, 1, 0, b"\3"))),
        9,
        "match offset: got 0",
    ),
    "offset beyond the window": (
        make_frame(2050, *DISTANCE_1025, header=b"\x40\0" + le(2050 - 256, 2)),
        2050,
        "match offset: got 1025, expected 1 to 1024",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    frame, n, message = REFUSED[name]
    with pytest.raises(ZstdError, match=message):
        reference.decompress(frame, n)


def test_refused_as_written_by_libzstd() -> None:
    content = b"abcabcabc" * 20
    dictionary = zstandard.ZstdCompressionDict(b"abcabcdefghi" * 50)
    for compressor, message in (
        (zstandard.ZstdCompressor(write_checksum=True), "checksum"),
        (zstandard.ZstdCompressor(write_content_size=False), "no content size"),
        (zstandard.ZstdCompressor(dict_data=dictionary), "match offset"),
    ):
        with pytest.raises(ZstdError, match=message):
            reference.decompress(compressor.compress(content), len(content))


def check_damaged(frame: bytes, n: int) -> bool:
    """Whether a frame of n bytes of content, damaged, is refused, or else read as libzstd does."""
    try:
        decoded = reference.decompress(frame, n)
    except ZstdError:
        return True
    # For a content size of 0 python-zstandard returns b"" and looks no further.
    return len(decoded) == n and zstandard.ZstdDecompressor().decompress(frame) == decoded


# --- Damage ------------------------------------------------------------------------------------


def small_frames() -> Iterator[tuple[bytes, int]]:
    """Short frames that between them hold every mode."""
    for name, (frame, content) in by_hand().items():
        if name != "three-byte count":
            yield frame, len(content)
    for kind, level in (("text", 19), ("4-bit codes", 3), ("runs", 1), ("wide", 6)):
        content = make_content(kind, 700, 2)
        yield compress(content, level), len(content)


def test_every_prefix_is_refused() -> None:
    for frame, n in small_frames():
        for cut in range(len(frame)):
            with pytest.raises(ZstdError):
                reference.decompress(frame[:cut], n)


def test_every_bit_flip_is_refused_or_read_as_libzstd_does() -> None:
    for frame, n in small_frames():
        for i, bit in itertools.product(range(len(frame)), range(8)):
            damaged = bytearray(frame)
            damaged[i] ^= 1 << bit
            assert check_damaged(bytes(damaged), n), (frame.hex(), i, bit)


@given(
    kind=kinds,
    n=st.one_of(st.integers(1, 3000), st.integers(130_000, 140_000)),
    seed=seeds,
    level=levels,
    damages=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    cut=st.one_of(st.none(), st.floats(0, 1, exclude_max=True)),
)
def test_damage_is_refused_or_read_as_libzstd_does(
    kind: str,
    n: int,
    seed: int,
    level: int,
    damages: list[tuple[float, int]],
    cut: float | None,
) -> None:
    content = make_content(kind, n, seed)
    frame = bytearray(compress(content, level))
    for where, value in damages:
        # Most of what can go wrong stands in the first bytes: headers, tables, jump table.
        frame[int(where**3 * len(frame))] = value
    if cut is not None:
        del frame[int(cut * len(frame)) :]
    assert check_damaged(bytes(frame), len(content))


@given(body=st.binary(max_size=200), n=st.integers(0, 255))
def test_any_bytes_are_refused_or_read_as_libzstd_does(body: bytes, n: int) -> None:
    block = COMPRESSED, len(body), body
    for frame in (body, MAGIC + body, make_frame(n, block, header=bytes([0x20, n]))):
        assert check_damaged(frame, n)
