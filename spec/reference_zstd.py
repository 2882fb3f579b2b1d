"""Decode one Zstandard frame with nothing but the standard library (RFC 8878).

Plain, and strict: what the RFC calls corrupted is refused, and so is what the frames of this
format never hold (a dictionary, a checksum, no content size, bytes after the frame). Section
numbers are those of the RFC. A frame is a header and blocks; a compressed block is literals
(Huffman coded) and sequences (FSE coded); a sequence copies literals, then repeats earlier output.

Memory follows the bytes really decoded, never a size that is only declared: up to 2.25 times the
content (the growing buffer and the returned copy) and less than 1 MiB besides.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import accumulate
from typing import NamedTuple

__all__ = ["ZstdError", "decompress"]

_MAGIC = 0xFD2FB528  # 3.1.1
_MAX_WINDOW_LOG = 31  # 3.1.1.1.2 leaves it to the decoder; libzstd stops here
_MAX_BLOCK_NBYTES = 128 << 10  # 3.1.1.2.4
_MAX_HUFFMAN_BITS = 11  # 4.2.1
_MAX_WEIGHTS_LOG = 6  # 4.2.1.2

_FseTable = list[tuple[int, int, int]]  # by state: symbol, bits of the next state, its baseline
_HuffmanTable = list[tuple[int, int]]  # by the next bits, as many as the tree is deep: symbol, bits


class ZstdError(ValueError):
    """The bytes are not one frame that this format allows, or not of the expected size."""


class _BlockType(IntEnum):  # 3.1.1.2.2
    RAW, RLE, COMPRESSED, RESERVED = range(4)


class _LiteralsType(IntEnum):  # 3.1.1.3.1.1
    RAW, RLE, COMPRESSED, TREELESS = range(4)


class _TableMode(IntEnum):  # 3.1.1.3.2.1
    PREDEFINED, RLE, FSE, REPEAT = range(4)


class _SequenceField(NamedTuple):
    """One of a sequence's three numbers; its value is the code's baseline + extra bits."""

    name: str
    codes: list[tuple[int, int]]  # baseline, extra bits
    max_accuracy_log: int
    predefined: list[int]  # 3.1.1.3.2.2


def _length_codes(first: int, extra_bits: list[int]) -> list[tuple[int, int]]:
    """Chain the codes: each starts where the one before ends (3.1.1.3.2.1.1)."""
    ends = accumulate((1 << nbits for nbits in extra_bits), initial=first)
    return list(zip(ends, extra_bits, strict=False))


_LITERALS_LENGTH = _SequenceField(
    "literals length",
    _length_codes(0, [0] * 16 + [1, 1, 1, 1, 2, 2, 3, 3, 4, *range(6, 17)]),
    9,
    [4, 3, *[2] * 11, 1, 1, 1, *[2] * 9, 3, 2, 1, 1, 1, 1, 1, *[-1] * 4],
)
_OFFSET = _SequenceField(
    "offset",
    [(1 << code, code) for code in range(32)],
    8,
    [1, 1, 1, 1, 1, 1, 2, 2, 2, *[1] * 15, *[-1] * 5],
)
_MATCH_LENGTH = _SequenceField(
    "match length",
    _length_codes(3, [0] * 32 + [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, *range(7, 17)]),
    9,
    [1, 4, 3, *[2] * 6, *[1] * 37, *[-1] * 7],
)


@dataclass(slots=True)
class _Frame:
    """The header's sizes and what one block leaves to the next (3.1.1.3)."""

    content_nbytes: int
    window_nbytes: int
    output: bytearray = field(default_factory=bytearray)
    huffman: _HuffmanTable | None = None
    tables: dict[str, _FseTable] = field(default_factory=dict)  # by _SequenceField.name
    offsets: list[int] = field(default_factory=lambda: [1, 4, 8])  # most recent first


class _Bytes:
    """Bytes taken from the front, never past the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, nbytes: int, what: str) -> bytes:
        left = len(self.data) - self.position
        if nbytes > left:
            raise ZstdError(f"{what}: cut short, needs {nbytes} bytes and has {left}")
        self.position += nbytes
        return self.data[self.position - nbytes : self.position]

    def number(self, nbytes: int, what: str) -> int:
        return int.from_bytes(self.take(nbytes, what), "little")

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.position, "")


class _BackwardBits:
    """Bits taken from the back; the last byte's highest set bit only marks the end (4.1)."""

    def __init__(self, data: bytes) -> None:
        _require(data[-1:] > b"\0", "bit stream: its last byte lacks the end mark")
        self.data = data
        self.left = 8 * len(data) - 9 + data[-1].bit_length()

    def read(self, nbits: int) -> int:
        """Read at most 64 bits; the first one read is the most significant."""
        self.left = left = self.left - nbits
        if left < 0:
            raise ZstdError("bit stream: ends early")
        low = left >> 3
        return int.from_bytes(self.data[low : low + 9], "little") >> (left & 7) & (1 << nbits) - 1


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ZstdError(message)


def decompress(frame: bytes, expected_nbytes: int) -> bytes:
    """Decode exactly one frame (3.1.1).

    Args:
        frame: the frame from its magic number to its last block, and not a byte more.
        expected_nbytes: the content size, known from elsewhere.

    Returns:
        The content, of expected_nbytes bytes.

    Raises:
        ZstdError: the frame is malformed or cut short, does not declare expected_nbytes, names a
            dictionary, has a checksum, or is followed by other bytes.
    """
    source = _Bytes(frame)
    state = _parse_frame_header(source)
    if state.content_nbytes != expected_nbytes:
        raise ZstdError(f"content size: got {state.content_nbytes}, expected {expected_nbytes}")
    is_last = False
    while not is_last:
        start = source.position
        try:
            is_last = _decode_block(source, state)
        except ZstdError as error:
            raise ZstdError(f"block at byte {start}: {error}") from error
    n_decoded, n_trailing = len(state.output), len(frame) - source.position
    _require(n_decoded == expected_nbytes, f"got {n_decoded} bytes, expected {expected_nbytes}")
    _require(not n_trailing, f"{n_trailing} bytes after the last block, expected none")
    return bytes(state.output)


def _parse_frame_header(source: _Bytes) -> _Frame:
    """Read the content size and the window size (3.1.1.1)."""
    magic = source.number(4, "magic number")
    _require(magic == _MAGIC, f"magic number: got {magic:#010x}, expected {_MAGIC:#010x}")
    descriptor = source.number(1, "frame header")
    size_flag, is_single_segment = descriptor >> 6, bool(descriptor & 0x20)
    _require(not descriptor & 8, "frame header: the reserved bit is set")
    _require(not descriptor & 4, "frame header: there is a checksum, expected none")
    _require(not descriptor & 3, "frame header: there is a dictionary, expected none")
    _require(size_flag > 0 or is_single_segment, "frame header: no content size, expected one")
    window = 0 if is_single_segment else source.number(1, "window descriptor")
    window_log = 10 + (window >> 3)
    _require(window_log <= _MAX_WINDOW_LOG, f"window log {window_log}, at most {_MAX_WINDOW_LOG}")
    content_nbytes = source.number(1 << size_flag, "content size")
    if size_flag == 1:
        content_nbytes += 256  # 3.1.1.1.4: the two-byte form starts where the one-byte form ends
    window_nbytes = content_nbytes if is_single_segment else (8 + (window & 7)) << window_log - 3
    return _Frame(content_nbytes, window_nbytes)


def _decode_block(source: _Bytes, frame: _Frame) -> bool:
    """Append one block to the output; return whether it is the last (3.1.1.2)."""
    header = source.number(3, "block header")
    kind, nbytes = _BlockType(header >> 1 & 3), header >> 3
    _require(kind is not _BlockType.RESERVED, "block type 3 is reserved")
    # The limit holds for a block's bytes as well as for what they decode to (3.1.1.2.4).
    limit = min(frame.window_nbytes, _MAX_BLOCK_NBYTES)
    _require(nbytes <= limit, f"{kind.name} block: {nbytes} bytes, at most {limit}")
    room = min(limit, frame.content_nbytes - len(frame.output))
    stored = source.take(1 if kind is _BlockType.RLE else nbytes, f"{kind.name} block")
    if kind is _BlockType.COMPRESSED:
        _decode_compressed_block(_Bytes(stored), room, frame)
    else:
        _require(nbytes <= room, f"{kind.name} block: {nbytes} bytes, room for {room}")
        frame.output += stored * nbytes if kind is _BlockType.RLE else stored
    return bool(header & 1)


def _decode_compressed_block(block: _Bytes, room: int, frame: _Frame) -> None:
    """Append what literals and sequences give together (3.1.1.3 and 3.1.1.4)."""
    literals = _Bytes(_decode_literals(block, room, frame))
    output = frame.output
    end = len(output) + room
    for literals_length, offset_value, match_length in _decode_sequences(block, frame):
        if len(output) + literals_length + match_length > end:
            raise ZstdError(f"sequences: more output than the {room} bytes there is room for")
        output += literals.take(literals_length, "literals")
        offset = _resolve_offset(offset_value, literals_length, frame.offsets)
        reach = min(len(output), frame.window_nbytes)
        if not 0 < offset <= reach:
            raise ZstdError(f"match offset: got {offset}, expected 1 to {reach}")
        start = len(output) - offset
        if match_length <= offset:
            output += output[start : start + match_length]
        else:  # the match runs into its own copy
            output += (output[start:] * (match_length // offset + 1))[:match_length]
    rest = literals.rest()
    _require(len(output) + len(rest) <= end, f"literals: more than the {room} bytes of room")
    output += rest


def _resolve_offset(offset_value: int, literals_length: int, offsets: list[int]) -> int:
    """Turn an Offset_Value into a distance and put that first in the history (3.1.1.5)."""
    index = offset_value - 1 + (literals_length == 0)
    if offset_value > 3:
        offset, index = offset_value - 3, 2
    elif index == 3:
        offset, index = offsets[0] - 1, 2
    else:
        offset = offsets[index]
    del offsets[index]
    offsets.insert(0, offset)
    return offset


def _decode_literals(block: _Bytes, room: int, frame: _Frame) -> bytes:
    """Decode the literals section (3.1.1.3.1)."""
    first = block.number(1, "literals header")
    kind, size_format = _LiteralsType(first & 3), first >> 2 & 3
    if kind in (_LiteralsType.RAW, _LiteralsType.RLE):
        n_more, n_flag_bits = ((0, 3), (1, 4), (0, 3), (2, 4))[size_format]
        nbytes = (first | block.number(n_more, "literals header") << 8) >> n_flag_bits
        stored_nbytes = nbytes if kind is _LiteralsType.RAW else 1
    else:
        n_more, width = ((2, 10), (2, 10), (3, 14), (4, 18))[size_format]
        sizes = (first | block.number(n_more, "literals header") << 8) >> 4
        nbytes, stored_nbytes = sizes & (1 << width) - 1, sizes >> width
    _require(nbytes <= room, f"literals: {nbytes} bytes, room for {room}")
    stored = _Bytes(block.take(stored_nbytes, f"{kind.name} literals"))
    if kind is _LiteralsType.RAW:
        return stored.data
    if kind is _LiteralsType.RLE:
        return stored.data * nbytes
    if kind is _LiteralsType.COMPRESSED:
        frame.huffman = _build_huffman_table(_read_weights(stored))
    if frame.huffman is None:
        raise ZstdError("treeless literals: no Huffman tree came before")
    return _decode_huffman_streams(stored, nbytes, 4 if size_format else 1, frame.huffman)


def _decode_huffman_streams(
    source: _Bytes, nbytes: int, n_streams: int, table: _HuffmanTable
) -> bytes:
    """Decode one stream, or four behind a jump table (3.1.1.3.1.6)."""
    if n_streams == 1:
        return _decode_huffman_stream(source.rest(), nbytes, table)
    # Erratum 7297: with fewer literals the last stream would hold less than nothing.
    _require(nbytes >= 6, f"four Huffman streams: {nbytes} literals, expected at least 6")
    sizes = [source.number(2, "jump table") for _ in range(3)]
    streams = [source.take(size, "Huffman stream") for size in sizes]
    quarter = (nbytes + 3) // 4
    literals = b"".join(_decode_huffman_stream(stream, quarter, table) for stream in streams)
    return literals + _decode_huffman_stream(source.rest(), nbytes - 3 * quarter, table)


def _decode_huffman_stream(data: bytes, n_symbols: int, table: _HuffmanTable) -> bytes:
    """Decode one backward stream, which must end with its last symbol (4.2.2)."""
    depth, mask = len(table).bit_length() - 1, len(table) - 1
    # A look-up peeks at up to 11 bits, at the end of the stream beyond it: 16 zero bits stand
    # there, and no symbol may use one of them.
    left = _BackwardBits(data).left + 16
    padded = bytes(2) + data
    symbols = bytearray()
    while len(symbols) < n_symbols and left > 16:
        # Some 32 bytes at a time, since shifting an integer costs its whole length.
        low = max(left - 256, 0) >> 3
        window = int.from_bytes(padded[low : (left + 7) >> 3], "little")
        left -= 8 * low
        while left > 16 and len(symbols) < n_symbols:
            symbol, nbits = table[window >> left - depth & mask]
            symbols.append(symbol)
            left -= nbits
        left += 8 * low
    if left != 16 or len(symbols) != n_symbols:
        raise ZstdError(f"Huffman stream: does not end with its symbol {n_symbols}")
    return bytes(symbols)


def _read_weights(source: _Bytes) -> list[int]:
    """Read every Huffman weight but the last, which is left out (4.2.1.1)."""
    header = source.number(1, "Huffman tree header")
    if header < 128:
        return _decode_fse_weights(_Bytes(source.take(header, "Huffman weights")))
    n_weights = header - 127
    pairs = source.take((n_weights + 1) // 2, "Huffman weights")
    return [weight for pair in pairs for weight in (pair >> 4, pair & 15)][:n_weights]


def _decode_fse_weights(source: _Bytes) -> list[int]:
    """Decode weights by two states in turn until the bits run out (4.2.1.2)."""
    table = _read_fse_table(source, _MAX_HUFFMAN_BITS + 1, _MAX_WEIGHTS_LOG)
    bits = _BackwardBits(source.rest())
    accuracy_log = len(table).bit_length() - 1
    state, other = bits.read(accuracy_log), bits.read(accuracy_log)
    weights: list[int] = []
    while len(weights) < 254:
        weight, nbits, baseline = table[state]
        weights.append(weight)
        if nbits > bits.left:
            return [*weights, table[other][0]]
        state, other = other, baseline + bits.read(nbits)
    raise ZstdError("Huffman weights: more than 255")


def _build_huffman_table(weights: list[int]) -> _HuffmanTable:
    """Find the last weight and hand out the codes (4.2.1 and 4.2.1.3)."""
    total = sum(1 << weight >> 1 for weight in weights)
    depth = total.bit_length()
    _require(0 < depth <= _MAX_HUFFMAN_BITS, f"Huffman tree: depth {depth}, expected 1 to 11")
    missing = (1 << depth) - total
    _require(missing.bit_count() == 1, f"Huffman weights: {missing} short, not a power of two")
    weights = [*weights, missing.bit_length()]
    _require(1 in weights, "Huffman weights: none is 1, expected at least two")
    table: _HuffmanTable = []
    for weight in range(1, depth + 1):
        for symbol in (i for i, other in enumerate(weights) if other == weight):
            table += [(symbol, depth + 1 - weight)] * (1 << weight - 1)
    return table


def _decode_sequences(block: _Bytes, frame: _Frame) -> Iterator[tuple[int, int, int]]:
    """Yield each literals length, Offset_Value and match length (3.1.1.3.2)."""
    n_sequences = block.number(1, "number of sequences")
    if n_sequences == 255:
        n_sequences = 0x7F00 + block.number(2, "number of sequences")
    elif n_sequences > 127:
        n_sequences = (n_sequences - 128 << 8) + block.number(1, "number of sequences")
    if n_sequences == 0:
        _require(block.position == len(block.data), "no sequences, but more bytes follow")
        return
    modes = block.number(1, "sequence table modes")
    _require(not modes & 3, "sequence table modes: reserved bits are set")
    for kind, shift in ((_LITERALS_LENGTH, 6), (_OFFSET, 4), (_MATCH_LENGTH, 2)):
        mode = _TableMode(modes >> shift & 3)
        try:
            frame.tables[kind.name] = _read_sequence_table(kind, mode, block, frame)
        except ZstdError as error:
            raise ZstdError(f"{kind.name} table: {error}") from error
    yield from _decode_sequence_bits(_BackwardBits(block.rest()), n_sequences, frame.tables)


def _read_sequence_table(
    kind: _SequenceField, mode: _TableMode, block: _Bytes, frame: _Frame
) -> _FseTable:
    """Make or find the decoding table of one field (3.1.1.3.2.1)."""
    if mode is _TableMode.PREDEFINED:
        return _PREDEFINED_TABLES[kind.name]
    if mode is _TableMode.FSE:
        return _read_fse_table(block, len(kind.codes), kind.max_accuracy_log)
    if mode is _TableMode.RLE:
        code = block.number(1, "code")
        _require(code < len(kind.codes), f"code {code}, at most {len(kind.codes) - 1}")
        return [(code, 0, 0)]
    _require(kind.name in frame.tables, "repeated, but none came before")
    return frame.tables[kind.name]


def _decode_sequence_bits(
    bits: _BackwardBits, n_sequences: int, tables: dict[str, _FseTable]
) -> Iterator[tuple[int, int, int]]:
    """Run the three FSE states over the bit stream (3.1.1.3.2.1.2)."""
    fields = (_LITERALS_LENGTH, _OFFSET, _MATCH_LENGTH)
    ll_codes, of_codes, ml_codes = (kind.codes for kind in fields)
    ll_table, of_table, ml_table = (tables[kind.name] for kind in fields)
    ll_state, of_state, ml_state = (
        bits.read(len(table).bit_length() - 1) for table in (ll_table, of_table, ml_table)
    )
    for n_left in range(n_sequences - 1, -1, -1):
        ll_code, ll_next_nbits, ll_next = ll_table[ll_state]
        of_code, of_next_nbits, of_next = of_table[of_state]
        ml_code, ml_next_nbits, ml_next = ml_table[ml_state]
        ll_base, ll_nbits = ll_codes[ll_code]
        of_base, of_nbits = of_codes[of_code]
        ml_base, ml_nbits = ml_codes[ml_code]
        # One read for three numbers, cut up from its low end: offset, match, literals.
        extra = bits.read(of_nbits + ml_nbits + ll_nbits)
        literals_length = ll_base + (extra & (1 << ll_nbits) - 1)
        extra >>= ll_nbits
        match_length = ml_base + (extra & (1 << ml_nbits) - 1)
        offset_value = of_base + (extra >> ml_nbits)
        if n_left:  # the next states, likewise: literals, match, offset
            step = bits.read(ll_next_nbits + ml_next_nbits + of_next_nbits)
            of_state = of_next + (step & (1 << of_next_nbits) - 1)
            step >>= of_next_nbits
            ml_state = ml_next + (step & (1 << ml_next_nbits) - 1)
            ll_state = ll_next + (step >> ml_next_nbits)
        elif bits.left:
            raise ZstdError(f"sequences: {bits.left} bits are left after the last")
        yield literals_length, offset_value, match_length


def _read_fse_table(source: _Bytes, n_symbols: int, max_accuracy_log: int) -> _FseTable:
    """Read the probabilities of up to n_symbols symbols and build their table (4.1.1)."""
    # 128 bytes hold any description: 53 symbols, at most 12 bits each.
    bits = int.from_bytes(source.data[source.position : source.position + 128], "little")
    accuracy_log, n_used = 5 + (bits & 15), 4
    _require(accuracy_log <= max_accuracy_log, f"accuracy log {accuracy_log} > {max_accuracy_log}")
    probabilities: list[int] = []
    remaining = 1 << accuracy_log
    while remaining and len(probabilities) < n_symbols:
        # Values 0 to remaining + 1 are possible; the n_short smallest take one bit less.
        width = (remaining + 1).bit_length()
        n_short = (1 << width) - 2 - remaining
        value = bits >> n_used & (1 << width) - 1
        n_used += width
        if (low_bits := value & (1 << width - 1) - 1) < n_short:
            value = low_bits
            n_used -= 1
        elif value != low_bits:
            value -= n_short
        probabilities.append(value - 1)
        remaining -= abs(value - 1)
        n_zeros = 3 if value == 1 else 0  # after a probability of 0: how many more of them
        while n_zeros == 3:
            n_zeros = bits >> n_used & 3
            n_used += 2
            probabilities += [0] * n_zeros
    is_within = not remaining and len(probabilities) <= n_symbols
    _require(is_within, f"FSE distribution: more than {n_symbols} symbols")
    n_present = len(probabilities) - probabilities.count(0)
    _require(n_present > 1, f"FSE distribution: {n_present} symbol present, expected at least 2")
    source.take((n_used + 7) // 8, "FSE distribution")
    return _build_fse_table(probabilities)


def _build_fse_table(probabilities: list[int]) -> _FseTable:
    """Spread the symbols over the states and give each state its successors (4.1.1)."""
    size = sum(abs(probability) for probability in probabilities)
    symbols, end = [0] * size, size
    for symbol, probability in enumerate(probabilities):
        if probability == -1:  # "less than 1": one state, from the table's end downwards
            end -= 1
            symbols[end] = symbol
    position, step = 0, (size >> 1) + (size >> 3) + 3
    for symbol, probability in enumerate(probabilities):
        for _ in range(probability):
            symbols[position] = symbol
            position = (position + step) % size
            while position >= end:
                position = (position + step) % size
    table: _FseTable = []
    shares = [abs(probability) for probability in probabilities]
    for symbol in symbols:
        nbits = size.bit_length() - shares[symbol].bit_length()
        table.append((symbol, nbits, (shares[symbol] << nbits) - size))
        shares[symbol] += 1
    return table


_PREDEFINED_TABLES = {
    kind.name: _build_fse_table(kind.predefined)
    for kind in (_LITERALS_LENGTH, _OFFSET, _MATCH_LENGTH)
}
