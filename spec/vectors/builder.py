"""Lay out DSQ shards byte by byte, right or deliberately wrong (format.md, sections 5 to 12).

Standard library only and independent of every reader and writer. A `Shard` holds plain lists and
dicts; change what should be wrong, and `layout` computes offsets, lengths and checksums around
it, so that a broken vector is broken in one place. A checksum that is itself to be wrong is set
to a number; None means computed.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from typing import Any

CONSTANT, PLAIN, FOR, DICT, VAR, ZSTD, QUOTIENT = range(7)
LETTERS = {"int64": "q", "float32": "f", "float64": "d"}
BLOCK_NBYTES = 4096


def crc32c(data):
    """Section 14, bit by bit: vectors are small."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def canonical_json(value):
    """Section 2; `value` holds no floats."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def pack_bits(values, width):
    """Section 9.1."""
    bits = 0
    for position, value in enumerate(values):
        bits |= value << position * width
    return bits.to_bytes((len(values) * width + 7) // 8, "little")


# Index columns (section 8): each function returns an encoded column.


def column(encoding, payload):
    """Encoding, nbytes, payload: anything goes."""
    return struct.pack("<BI", encoding, len(payload)) + payload


def value_bytes(kind, value):
    """One value as its bytes."""
    if kind in LETTERS:
        return struct.pack("<" + LETTERS[kind], value)
    return value.encode() if kind == "utf8" else value


def constant(kind, value):
    return column(CONSTANT, value_bytes(kind, value))


def plain(kind, values):
    values = [value_bytes(kind, value) for value in values]
    return column(PLAIN, b"".join(bytes(plane) for plane in zip(*values, strict=True)))


def frame_of_reference(values, width, base=None):
    base = min(values) if base is None else base
    packed = pack_bits([value - base for value in values], width)
    return column(FOR, struct.pack("<qB", base, width) + packed)


def dictionary(nested, k, indexes, width=None):
    width = (k - 1).bit_length() if width is None else width
    return column(DICT, struct.pack("<HB", k, width) + nested + pack_bits(indexes, width))


def var(kind, values, lengths=None):
    values = [value_bytes(kind, value) for value in values]
    lengths = plain("int64", map(len, values)) if lengths is None else lengths
    return column(VAR, lengths + b"".join(values))


def quotient(divisor, numerators):
    """`numerators` is an encoded int64 column."""
    return column(QUOTIENT, struct.pack("<d", divisor) + numerators)


def zstd_column(encoded, frame, inner_nbytes=None):
    """The column `encoded` again, its payload replaced by `frame`, which should hold it."""
    inner, nbytes = struct.unpack_from("<BI", encoded)
    nbytes = nbytes if inner_nbytes is None else inner_nbytes
    return column(ZSTD, struct.pack("<BI", inner, nbytes) + frame)


def stored_frame(content, *, checksum=b"", sized=True, stated=None, dictionary_id=False):
    """A zstd frame of uncompressed blocks, or one that breaks the rules of section 2."""
    stated = len(content) if stated is None else stated
    if sized:  # single segment, 4-byte content size
        descriptor, header = 0xA0, struct.pack("<I", stated)
    else:  # a window of 1 KiB instead
        descriptor, header = 0x00, b"\x00"
    if dictionary_id:
        descriptor, header = descriptor | 1, b"\x07" + header
    descriptor |= 4 if checksum else 0
    frame = b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + header
    frame += (len(content) << 3 | 1).to_bytes(3, "little") + content
    return frame + checksum


# Layer segments (section 9): `samples` holds, for each sample, its values in this layer.


def layer_values(codes, stored_widths, plan, number):
    """Cut codes into one layer: (values of each sample, width of each sample)."""
    samples, widths = [], []
    for sample, stored in zip(codes, stored_widths, strict=True):
        left = stored
        for planned in plan[:number]:
            left -= min(planned, left)
        width = min(plan[number], left) if number < len(plan) else left
        samples.append([code >> left - width & (1 << width) - 1 for code in sample])
        widths.append(width)
    return samples, widths


def packed_layer(samples, widths):
    pairs = list(zip(samples, widths, strict=True))
    if not any(len(sample) * width for sample, width in pairs):
        return b""
    return b"\x00" + b"".join(pack_bits(sample, width) for sample, width in pairs)


def frame_contents(samples, widths, per_frame):
    """What the frames of a zstd layer hold."""
    parts = [
        b"".join(value.to_bytes(1 if width <= 8 else 2, "little") for value in sample if width)
        for sample, width in zip(samples, widths, strict=True)
    ]
    return [b"".join(parts[i : i + per_frame]) for i in range(0, len(parts), per_frame)]


def zstd_layer(frames, per_frame):
    lengths = struct.pack(f"<{len(frames)}I", *map(len, frames))
    return b"\x01" + struct.pack("<I", per_frame) + lengths + b"".join(frames)


# Models and coding 2 (sections 7.1 and 9.3)


class Bits:
    """Section 7.1.1: a string of bits as text."""

    def __init__(self):
        self.text = ""

    def u(self, n, value):
        self.text += f"{value:0{n}b}" if n else ""

    def eg(self, order, value):
        digits = f"{value + (1 << order):b}"
        self.text += "0" * (len(digits) - order - 1) + digits

    def sg(self, order, value):
        self.eg(order, 2 * value if value >= 0 else -2 * value - 1)

    def content(self):
        text = self.text + "0" * (-len(self.text) % 8)
        return bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))


@dataclass
class LayerModel:
    """Section 7.1.2, for C = 1; all zero and one table of equal frequencies unless said."""

    above: int = 0
    bits: int = 4
    bias: int = 0
    borders: list[int] = field(default_factory=list)
    weight: list[int] | None = None
    thresholds: list[int] = field(default_factory=lambda: [0] * 14)
    tables: list[list[int]] | None = None  # grades
    moves: list[tuple[int, int | None]] = field(default_factory=list)  # (run, then this table)

    def write(self, text):
        symbols = 1 << self.bits if self.bits <= 4 else 16 + 2 * (self.bits - 4)
        tables = [[8] * symbols] if self.tables is None else self.tables
        text.u(4, self.above)
        text.u(4, self.bits - 1)
        text.u(3, len(self.borders))
        for before, border in zip([0, *self.borders], self.borders, strict=False):
            text.eg(4, border - before)
        text.u(2, 0)
        text.u(4, 7)
        weight = self.weight or [0] * (24 if self.above else 12)
        for j in range(len(self.borders) + 1):  # each class has those of the one before, moved on
            text.sg(3, self.bias + j)
            for number in weight[j:] + weight[:j]:
                text.sg(7, number)
        for _ in range(6):
            text.sg(7, 0)
        for before, threshold in zip([0, *self.thresholds], self.thresholds, strict=False):
            text.eg(2, threshold - before)
        text.eg(4, len(tables) - 1)
        text.u(2, 0)
        for before, table in zip([[0] * symbols, *tables], tables, strict=False):
            for old, grade in zip(before, table, strict=True):
                text.sg(0, grade - old)
        for run, table in self.moves:
            text.eg(1, run)
            if table is not None:
                text.u((len(tables) - 1).bit_length(), table)


def model(*layers, version=1, channels=1):
    """Section 7.1.2."""
    text = Bits()
    text.u(8, version)
    text.u(2, channels - 1)
    text.u(6, len(layers) - 1)
    for layer in layers:
        layer.write(text)
    return text.content()


def groups_content(groups):
    """Section 7.2, of (field number, scale, offset)."""
    return b"".join(
        struct.pack(f"<BI{2 * len(scale)}f", number, len(scale), *scale, *offset)
        for number, scale, offset in groups
    )


def patch_models(ids, codes):
    """Section 7.1: the model of a field of `patch`, of two pixel models or nothing."""
    return struct.pack("<I", len(ids)) + ids + codes


def models_content(models):
    """Section 7.1, of (field number, model) pairs."""
    return b"".join(struct.pack("<BI", number, len(data)) + data for number, data in models)


def even_stream(symbols, bits):
    """Section 9.3.9: symbols of which all 2^bits have the same frequency; X may be left at 0."""
    state, out, frequency = 0, b"", 4096 >> bits
    for symbol in reversed(symbols):
        if state >> 20 >= frequency:
            out, state = struct.pack(">H", state & 0xFFFF) + out, state >> 16
        state = (state // frequency << 12) + symbol * frequency + state % frequency
    return state.to_bytes((state.bit_length() + 7) // 8, "big") + out


def rans_layer(streams, per_stream, low=0, width=8, over=None):
    """Section 9.3.1."""
    over = pack_bits([len(stream) - low for stream in streams], width) if over is None else over
    return b"\x02" + struct.pack("<HIB", per_stream, low, width) + over + b"".join(streams)


# Keys (section 12)


def keys_content(parts, *, chunk_count=None, crcs=None):
    crcs = [crc32c(part) for part in parts] if crcs is None else crcs
    count = len(parts) if chunk_count is None else chunk_count
    numbers = [count, *map(len, parts), *crcs]
    return struct.pack(f"<{len(numbers)}I", *numbers) + b"".join(parts)


# The shard


@dataclass
class Chunk:
    """One chunk; zones holds the (minimum, maximum) of each numeric column, as packed bytes."""

    sample_count: int
    segments: list[bytes]
    zones: list[bytes] = field(default_factory=list)
    digests: list[bytes | None] | None = None
    block_crcs: list[int] | None = None
    segment_nbytes: list[int] | None = None  # when the table is to state other lengths


@dataclass
class Section:
    """One entry of the directory with its stored bytes; offsets follow from the order."""

    kind: bytes
    data: bytes
    flags: int = 0
    coding: int = 0
    raw_nbytes: int | None = None
    reserved: bytes = bytes(3)
    crc: int | None = None
    nbytes: int | None = None
    shift: int = 0  # added to the offset that the layout would give it
    tail: bool = False


@dataclass
class Shard:
    """All parts of a shard; `header` and `table` override single values by name."""

    schema: Any
    chunks: list[Chunk]
    keys: bytes | None = None
    extra: list[Section] = field(default_factory=list)
    header: dict[str, Any] = field(default_factory=dict)
    table: dict[str, Any] = field(default_factory=dict)
    table_end: bytes = b""
    sections: list[Section] | None = None  # instead of the usual ones
    directory_crc: int | None = None

    def usual_sections(self):
        schema = self.schema if isinstance(self.schema, bytes) else canonical_json(self.schema)
        head = [Section(b"SCHM", schema, 1), Section(b"CHNK", self.table_content(), 1)]
        tail = [] if self.keys is None else [Section(b"KEYS", self.keys, tail=True)]
        head += [section for section in self.extra if not section.tail]
        return head + tail + [section for section in self.extra if section.tail]

    def table_content(self):
        """Section 7."""
        columns = self.schema["columns"] if isinstance(self.schema, dict) else []
        segment_count = max((len(c.segments) for c in self.chunks), default=0)
        if isinstance(self.schema, dict):
            segment_count = 1 + len(self.schema["order"])
        values = {
            "chunk_count": len(self.chunks),
            "segment_count": segment_count,
            "block_nbytes": BLOCK_NBYTES,
            "zone_count": sum(c["type"] in LETTERS for c in columns),
        } | self.table
        names = ("chunk_count", "segment_count", "block_nbytes", "zone_count")
        content = struct.pack("<4I", *(values[name] for name in names))
        for chunk in self.chunks:
            content += struct.pack("<I", chunk.sample_count)
        for chunk in self.chunks:
            lengths = chunk.segment_nbytes or [len(segment) for segment in chunk.segments]
            content += struct.pack(f"<{len(lengths)}I", *lengths)
        for chunk in self.chunks:
            digests = [hashlib.sha256(segment).digest()[:16] for segment in chunk.segments]
            content += b"".join(chunk.digests or digests)
        for chunk in self.chunks:
            crcs = [crc32c(block) for segment in chunk.segments for block in blocks(segment)]
            crcs = crcs if chunk.block_crcs is None else chunk.block_crcs
            content += struct.pack(f"<{len(crcs)}I", *crcs)
        return content + b"".join(b"".join(c.zones) for c in self.chunks) + self.table_end

    def layout(self):
        """The bytes of the file."""
        sections = self.usual_sections() if self.sections is None else self.sections
        body = b"".join(segment for chunk in self.chunks for segment in chunk.segments)
        head = b"".join(section.data for section in sections if not section.tail)
        tail = b"".join(section.data for section in sections if section.tail)
        head_nbytes = 64 + 40 * len(sections) + 4 + len(head)
        directory = directory_entries(sections, head_nbytes + len(body))
        crc = crc32c(directory) if self.directory_crc is None else self.directory_crc
        values = {
            "magic": b"\x8bDSQ\r\n\x1a\n",
            "version_major": 1,
            "version_minor": 0,
            "section_count": len(sections),
            "incompatible_features": 0,
            "compatible_features": 0,
            "head_nbytes": head_nbytes,
            "file_nbytes": head_nbytes + len(body) + len(tail),
            "sample_count": sum(chunk.sample_count for chunk in self.chunks),
            "reserved": 0,
        } | self.header
        names = list(values)[:10]  # an override keeps its place
        header = struct.pack("<8s2HI5QI", *(values[name] for name in names))
        header += struct.pack("<I", values.get("header_crc", crc32c(header)))
        return header + directory + struct.pack("<I", crc) + head + body + tail


def blocks(segment):
    """Section 7: the blocks of one segment."""
    return [segment[i : i + BLOCK_NBYTES] for i in range(0, len(segment), BLOCK_NBYTES)]


def directory_entries(sections, tail_start):
    """Section 5.2."""
    at = {False: 64 + 40 * len(sections) + 4, True: tail_start}
    entries = b""
    for section in sections:
        nbytes = len(section.data) if section.nbytes is None else section.nbytes
        raw = nbytes if section.raw_nbytes is None else section.raw_nbytes
        crc = crc32c(section.data) if section.crc is None else section.crc
        offset = at[section.tail] + section.shift
        entries += struct.pack(
            "<4sI3QB3sI", section.kind, section.flags, offset, nbytes, raw, section.coding,
            section.reserved, crc,
        )  # fmt: skip
        at[section.tail] += len(section.data)
    return entries
