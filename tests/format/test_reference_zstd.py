"""The plain Zstandard decoder of the specification against libzstd, by hand and at random."""

import ast
import importlib.util
import itertools
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import zstandard
from hypothesis import given
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


def check_damaged(frame: bytes, n: int) -> bool:
    """Whether a frame of n bytes of content, damaged, is refused, or else read as libzstd does."""
    try:
        decoded = reference.decompress(frame, n)
    except ZstdError:
        return True
    # For a content size of 0 python-zstandard returns b"" and looks no further.
    return len(decoded) == n and zstandard.ZstdDecompressor().decompress(frame) == decoded


# --- Round trips -------------------------------------------------------------------------------


@given(kind=kinds, n=lengths, seed=seeds, level=levels, window_log=st.sampled_from([0, 0, 10, 17]))
def test_round_trip(kind: str, n: int, seed: int, level: int, window_log: int) -> None:
    content = make_content(kind, n, seed)
    frame = compress(content, level, window_log)
    assert reference.decompress(frame, len(content)) == content


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_round_trip_of_several_blocks(kind: str) -> None:
    content = make_content(kind, 300_000, 1)
    for level in (-5, 1, 3, 12, 19):
        assert reference.decompress(compress(content, level), len(content)) == content


class ModeRecorder:
    """Notes which paths of the format a decoder takes, from the arguments of its functions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: set[tuple[object, ...]] = set()
        self._monkeypatch = monkeypatch
        self._watch("_decode_block", lambda source, _: self._block(source))
        self._watch("_decode_literals", lambda block, *_: self._literals(block))
        self._watch(
            "_read_weights",
            lambda source: ("weights", "FSE" if source.data[0] < 128 else "direct"),
        )
        self._watch("_read_sequence_table", lambda kind, mode, *_: (kind.name, mode.name))
        self._watch("_resolve_offset", lambda value, ll, _: ("offset", min(value, 4), ll > 0))
        self._watch(
            "_decode_sequence_bits",
            lambda bits, n, _: ("count bytes", 1 + (n > 127) + (n >= 0x7F00)),
        )

    def _watch(self, name: str, note: Callable[..., tuple[object, ...]]) -> None:
        inner = getattr(reference, name)

        def watched(*arguments: object) -> object:
            self.seen.add(note(*arguments))
            return inner(*arguments)

        self._monkeypatch.setattr(reference, name, watched)

    @staticmethod
    def _block(source: object) -> tuple[object, ...]:
        kind = source.data[source.position] >> 1 & 3  # type: ignore[attr-defined]
        return "block", reference._BlockType(kind).name

    @staticmethod
    def _literals(block: object) -> tuple[object, ...]:
        first = block.data[0]  # type: ignore[attr-defined]
        kind, size_format = reference._LiteralsType(first & 3).name, first >> 2 & 3
        return "literals", kind, size_format


@pytest.fixture
def modes(monkeypatch: pytest.MonkeyPatch) -> ModeRecorder:
    return ModeRecorder(monkeypatch)


FIELDS = ("literals length", "offset", "match length")


def test_libzstd_makes_use_of_the_modes(modes: ModeRecorder) -> None:
    for kind in ("zeros", "text", "4-bit codes", "runs", "wide", "mixed"):
        content = make_content(kind, 400_000, 0)
        for level in (1, 6, 16):
            assert reference.decompress(compress(content, level), len(content)) == content
    expected = {
        *(("block", kind) for kind in ("RAW", "RLE", "COMPRESSED")),
        *(("weights", kind) for kind in ("direct", "FSE")),
        *itertools.product(FIELDS, ("PREDEFINED", "FSE", "REPEAT")),
        *itertools.product(("offset",), (1, 2, 3, 4), (False, True)),
        *(("count bytes", n) for n in (1, 2)),
    }
    assert expected - modes.seen == set()
    assert modes.seen & set(itertools.product(("literals",), ("COMPRESSED",), (1, 2, 3)))
    assert modes.seen & set(itertools.product(("literals",), ("TREELESS",), (1, 2, 3)))


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


@pytest.mark.parametrize("name", by_hand())
def test_frame_written_by_hand(name: str) -> None:
    frame, content = by_hand()[name]
    assert zstandard.ZstdDecompressor().decompress(frame) == content
    assert reference.decompress(frame, len(content)) == content


def test_frames_written_by_hand_meet_the_other_modes(modes: ModeRecorder) -> None:
    for frame, content in by_hand().values():
        reference.decompress(frame, len(content))
    expected = {
        *itertools.product(("literals",), ("RAW", "RLE"), (0, 1, 3)),
        *itertools.product(("literals",), ("COMPRESSED", "TREELESS"), (0, 1, 2, 3)),
        *itertools.product(FIELDS, ("RLE", "REPEAT")),
        ("count bytes", 3),
    }
    assert expected - modes.seen == set()


def test_content_size_in_every_width() -> None:
    # Section 3.1.1.1.4; the two-byte form is offset by 256.
    for header, n in (
        (bytes([0x20, 200]), 200),
        (b"\x60" + le(0, 2), 256),
        (b"\xa0" + le(300, 4), 300),
        (b"\xe0" + le(300, 8), 300),
        (b"\x40" + b"\x00" + le(44, 2), 300),
    ):
        assert reference.decompress(make_frame(n, (RLE, n, b"k"), header=header), n) == b"k" * n


@given(
    data=st.binary(min_size=20, max_size=40),
    widths=st.lists(st.sampled_from([0, 1, 3, 8, 57, 63, 64]), min_size=1),
)
def test_bits_are_read_from_the_last_to_the_first(data: bytes, widths: list[int]) -> None:
    digits = "".join(f"{byte:08b}" for byte in reversed(data))
    bits = reference._BackwardBits(data + b"\1")
    for width in widths:
        if width > len(digits):
            with pytest.raises(ZstdError, match="ends early"):
                bits.read(width)
            return
        assert bits.read(width) == int(digits[:width] or "0", 2)
        digits = digits[width:]
        assert bits.left == len(digits)


def test_repeat_offsets_follow_the_worked_example() -> None:
    # RFC 8878 section 3.1.1.5, table of offset_value, literals_length and the three offsets.
    offsets = [1, 4, 8]
    for offset_value, literals_length, expected in (
        (1114, 11, [1111, 1, 4]),
        (1, 22, [1111, 1, 4]),
        (2225, 22, [2222, 1111, 1]),
        (1114, 111, [1111, 2222, 1111]),
        (3336, 33, [3333, 1111, 2222]),
        (2, 22, [1111, 3333, 2222]),
        (3, 33, [2222, 1111, 3333]),
        (3, 0, [2221, 2222, 1111]),
        (1, 0, [2222, 2221, 1111]),
    ):
        assert reference._resolve_offset(offset_value, literals_length, offsets) == expected[0]
        assert offsets == expected


def test_fse_table_follows_the_worked_example() -> None:
    # RFC 8878 section 4.1.1: a probability of 5 of 128.
    cells = [cell for cell in reference._build_fse_table([5, 123]) if cell[0] == 0]
    assert [(nbits, baseline) for _, nbits, baseline in cells] == [
        (5, 32),
        (5, 64),
        (5, 96),
        (4, 0),
        (4, 16),
    ]


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


# --- Memory and imports ------------------------------------------------------------------------


def peak_nbytes(frame: bytes, n: int) -> int:
    tracemalloc.start()
    try:
        reference.decompress(frame, n)
    except ZstdError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def test_declared_sizes_cost_no_memory() -> None:
    gib = 1 << 30
    huge_literals = compressed(stored_literals(b"a", 0xFFFFF, 3, RLE), NO_SEQUENCES)
    # A hundred matches of up to 128 KiB, in 200 bytes.
    long_matches = compressed(b"\0", rle_sequences(100, 0, 0, 52, b"\xff" * 200 + b"\1"))
    for frame, n in (
        (make_frame(99, raw(b"abcdefgh"), long_matches), 99),
        (make_frame(gib, raw(b"abc")), gib),
        (make_frame(gib, huge_literals), gib),
        (make_frame(gib, (RAW, 0x1FFFFF, b"abc")), gib),
        (make_frame(9, *[(RLE, 131072, b"a")] * 9, header=b"\x80\x40" + le(9, 4)), 9),
    ):
        assert peak_nbytes(frame, n) < 1 << 20


def test_memory_follows_the_content() -> None:
    content = bytes(8 << 20)
    assert peak_nbytes(compress(content, 3), len(content)) < 2.25 * len(content) + (1 << 20)


def test_imports_only_the_standard_library() -> None:
    tree = ast.parse(SOURCE.read_text())
    names = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    assert names <= set(sys.stdlib_module_names) | {"collections.abc"}
