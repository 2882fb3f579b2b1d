"""The plain Zstandard decoder of the specification against libzstd, by hand and at random."""

import ast
import itertools
import sys
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from zstd_frames import (
    KINDS,
    NO_SEQUENCES,
    RAW,
    RLE,
    SOURCE,
    ZstdError,
    by_hand,
    compress,
    compressed,
    kinds,
    le,
    lengths,
    levels,
    make_content,
    make_frame,
    raw,
    reference,
    rle_sequences,
    seeds,
    stored_literals,
)

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
