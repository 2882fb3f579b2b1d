"""Everything in a shard before its first chunk: header, directory, schema, table (spec 5-7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dsqformat import wire
from dsqformat.canonical import canonical_json, parse_canonical_json
from dsqformat.chunk import FieldModel, PatchModel
from dsqformat.coding.zstd import compress_frame, decompress_frame
from dsqformat.errors import CorruptShardError, TruncatedShardError, UnsupportedFeatureError
from dsqformat.schema import Schema
from dsqformat.schema_json import schema_from_json, schema_to_json
from dsqformat.shard.chunk_table import ChunkTable, encode_chunk_table, parse_chunk_table
from dsqformat.shard.models import encode_groups, encode_models, parse_models

# Place, required flag, and whether a shard must have them, of the kinds of spec 5.2.
_KNOWN_KINDS: Final = {
    wire.KIND_SCHEMA: ("head", True, True),
    wire.KIND_CHUNKS: ("head", True, True),
    wire.KIND_MODELS: ("head", True, False),
    wire.KIND_GROUPS: ("head", True, False),
    wire.KIND_KEYS: ("tail", False, False),
}
_ZSTD_LEVEL: Final = 19
# The longest content of sections that may be compressed and are not limited elsewhere.
_MAX_NBYTES: Final = {
    wire.KIND_MODELS: wire.MAX_FIELDS * (wire.MAX_MODEL_NBYTES + wire.MODEL.size),
    wire.KIND_GROUPS: wire.MAX_FIELDS * (8 * wire.MAX_GROUPS + wire.GROUPS.size),
}


@dataclass(frozen=True)
class Header:
    """The fixed 64 bytes at the start of a shard (spec 5.1)."""

    version_minor: int
    section_count: int
    incompatible_features: int
    compatible_features: int
    head_nbytes: int
    file_nbytes: int
    sample_count: int


@dataclass(frozen=True)
class Section:
    """An entry of the section directory (spec 5.2)."""

    kind: bytes
    required: bool
    offset: int
    nbytes: int
    raw_nbytes: int
    coding: int
    crc: int

    @property
    def name(self) -> str:
        """The kind as text."""
        return self.kind.decode("ascii")

    def check(self, stored: bytes | memoryview) -> None:
        """Verify the stored bytes of this section, or raise CorruptShardError."""
        found = wire.crc32c(stored)
        if found != self.crc:
            raise CorruptShardError(
                f"section {self.name}: CRC-32C {found:08x}, expected {self.crc:08x}",
                offset=self.offset,
            )

    def content(self, stored: bytes | memoryview) -> bytes:
        """Verify the stored bytes of this section and return its content.

        Raises:
            CorruptShardError: the checksum or the zstd frame is wrong.
        """
        self.check(stored)
        if self.coding == wire.CODING_STORED:
            return bytes(stored)
        return decompress_frame(stored, self.raw_nbytes, f"section {self.name}")


@dataclass(frozen=True)
class ShardHead:
    """What the head of a shard says.

    Attributes:
        header: the fixed header.
        sections: the directory, in order of offset.
        schema: fields and columns.
        chunks: the chunk table.
        models: by field name.
    """

    header: Header
    sections: tuple[Section, ...]
    schema: Schema
    chunks: ChunkTable
    models: Mapping[str, FieldModel]

    def section(self, kind: bytes) -> Section | None:
        """Return the section of this kind, or None."""
        return next((section for section in self.sections if section.kind == kind), None)


# Parsing ---------------------------------------------------------------------------------------


def parse_header(data: bytes | memoryview) -> Header:
    """Parse and verify the first 64 bytes of a shard, in the order of spec 5.1.

    Raises:
        TruncatedShardError: fewer than 64 bytes.
        CorruptShardError: wrong magic, checksum or constraint.
        UnsupportedFeatureError: another major version, or an unknown incompatible feature.
    """
    start = bytes(data[: wire.HEADER_NBYTES])
    if start[: len(wire.MAGIC)] != wire.MAGIC[: len(start)]:
        raise CorruptShardError(
            f"not a DSQ shard: begins with {start[:8].hex()}, expected {wire.MAGIC.hex()}", offset=0
        )
    if len(start) < wire.HEADER_NBYTES:
        raise TruncatedShardError(f"header: {len(start)} bytes, expected 64", offset=len(start))
    fields = wire.HEADER.unpack(start)
    crc = wire.crc32c(start[:60])
    if crc != fields[10]:
        raise CorruptShardError(f"header: CRC-32C {crc:08x}, expected {fields[10]:08x}", offset=60)
    if fields[1] != wire.VERSION_MAJOR:
        raise UnsupportedFeatureError(
            f"format version {fields[1]}.{fields[2]}, this reader knows {wire.VERSION_MAJOR}; "
            "upgrade dsqformat"
        )
    unknown = fields[4] & ~wire.KNOWN_INCOMPATIBLE
    if unknown:
        raise UnsupportedFeatureError(
            f"incompatible feature bit {(unknown & -unknown).bit_length() - 1} is unknown; "
            "upgrade dsqformat"
        )
    header = Header(
        version_minor=fields[2],
        section_count=fields[3],
        incompatible_features=fields[4],
        compatible_features=fields[5],
        head_nbytes=fields[6],
        file_nbytes=fields[7],
        sample_count=fields[8],
    )
    _check_header(header, reserved=fields[9])
    return header


def _check_header(header: Header, reserved: int) -> None:
    if reserved:
        raise CorruptShardError(f"header: reserved bytes are {reserved:#x}, expected 0", offset=56)
    if not 2 <= header.section_count <= wire.MAX_SECTIONS:
        raise CorruptShardError(f"header: {header.section_count} sections, expected 2 to 64")
    least = _directory_end(header.section_count)
    if not least <= header.head_nbytes <= wire.MAX_HEAD_NBYTES:
        raise CorruptShardError(
            f"header: head_nbytes {header.head_nbytes}, expected {least} to {wire.MAX_HEAD_NBYTES}"
        )
    if not header.head_nbytes <= header.file_nbytes <= wire.MAX_FILE_NBYTES:
        raise CorruptShardError(
            f"header: file_nbytes {header.file_nbytes}, expected {header.head_nbytes} to 2^40"
        )


def parse_head(data: bytes | memoryview, *, nbytes: int | None = None) -> ShardHead:
    """Parse and verify the head of a shard.

    Args:
        data: the first bytes of the shard, at least head_nbytes of them.
        nbytes: length of the whole shard, if known.

    Raises:
        TruncatedShardError: `data` ends before the head, or the shard before its file_nbytes.
        CorruptShardError: the bytes contradict the spec.
        UnsupportedFeatureError: they need what this version does not have.
    """
    view = memoryview(data)
    header = parse_header(view)
    if nbytes is not None and nbytes > header.file_nbytes:
        raise CorruptShardError(f"shard: {nbytes} bytes, expected {header.file_nbytes}")
    if len(view) < header.head_nbytes:
        raise TruncatedShardError(
            f"head: {len(view)} bytes, expected {header.head_nbytes}", offset=len(view)
        )
    if nbytes is not None and nbytes < header.file_nbytes:
        raise TruncatedShardError(
            f"shard: {nbytes} bytes, expected {header.file_nbytes}", offset=nbytes
        )
    sections = _parse_directory(view, header)
    contents = {}
    for section in sections:
        stored = view[section.offset : section.offset + section.nbytes]
        if section.raw_nbytes > _MAX_NBYTES.get(section.kind, section.raw_nbytes):
            raise CorruptShardError(
                f"section {section.name}: {section.raw_nbytes} bytes, expected at most "
                f"{_MAX_NBYTES[section.kind]}"
            )
        if section.kind in _KNOWN_KINDS and section.offset < header.head_nbytes:
            contents[section.kind] = section.content(stored)
        elif section.offset < header.head_nbytes:
            section.check(stored)  # the content of an unknown kind is ignored, whatever it is
    schema = schema_from_json(
        parse_canonical_json(
            contents[wire.KIND_SCHEMA], limit=wire.MAX_SCHEMA_NBYTES, what="section SCHM"
        )
    )
    models = parse_models(
        contents.get(wire.KIND_MODELS, b""), contents.get(wire.KIND_GROUPS, b""), schema
    )
    if header.incompatible_features != _features(schema, models):
        raise CorruptShardError(
            f"header: incompatible_features {header.incompatible_features:#x}, schema and models "
            f"have {_features(schema, models):#x}"
        )
    chunks = parse_chunk_table(contents[wire.KIND_CHUNKS], schema)
    _check_totals(header, sections, chunks)
    return ShardHead(header, sections, schema, chunks, models)


def _features(schema: Schema, models: Mapping[str, FieldModel]) -> int:
    """Return the incompatible features that a shard uses (spec 16)."""
    masked = any(field.patch is not None for field in schema.fields)
    grouped = any(isinstance(model, PatchModel) for model in models.values())
    coded = any(not isinstance(m, PatchModel) or m.coded for m in models.values())
    return (
        (wire.FEATURE_PATCH_MASK if masked else 0)
        | (wire.FEATURE_RANS if coded else 0)
        | (wire.FEATURE_GROUPS if grouped else 0)
    )


def _directory_end(section_count: int) -> int:
    return wire.HEADER_NBYTES + section_count * wire.SECTION.size + 4


def _parse_directory(data: memoryview, header: Header) -> tuple[Section, ...]:
    end = _directory_end(header.section_count)
    entries = data[wire.HEADER_NBYTES : end - 4]
    expected = int.from_bytes(data[end - 4 : end], "little")
    found = wire.crc32c(entries)
    if found != expected:
        raise CorruptShardError(
            f"section directory: CRC-32C {found:08x}, expected {expected:08x}", offset=end - 4
        )
    sections = tuple(_parse_section(fields) for fields in wire.SECTION.iter_unpack(entries))
    _check_sections(sections, header)
    position = end
    for section in sections:
        if section.offset >= header.head_nbytes:
            break
        if section.offset != position:
            raise CorruptShardError(
                f"section {section.name}: at {section.offset}, expected {position}"
            )
        position += section.nbytes
    if position != header.head_nbytes:
        raise CorruptShardError(
            f"head sections end at {position}, expected head_nbytes {header.head_nbytes}"
        )
    return sections


def _parse_section(fields: tuple[Any, ...]) -> Section:
    kind, flags, offset, nbytes, raw_nbytes, coding, reserved, crc = fields
    if not all(48 <= byte <= 57 or 65 <= byte <= 90 for byte in kind):
        raise CorruptShardError(f"section directory: kind {kind.hex()} is not four of A-Z, 0-9")
    name = kind.decode("ascii")
    if flags & ~wire.SECTION_REQUIRED or any(reserved):
        raise CorruptShardError(f"section {name}: reserved bits are not zero")
    if coding not in (wire.CODING_STORED, wire.CODING_ZSTD):
        raise CorruptShardError(f"section {name}: coding {coding}, expected 0 or 1")
    stored = coding == wire.CODING_STORED
    if not nbytes or not raw_nbytes or (stored and nbytes != raw_nbytes):
        raise CorruptShardError(f"section {name}: {nbytes} bytes stored for {raw_nbytes}")
    if max(nbytes, offset) > wire.MAX_FILE_NBYTES:
        raise CorruptShardError(f"section {name}: beyond 2^40 bytes")
    return Section(
        kind, bool(flags & wire.SECTION_REQUIRED), offset, nbytes, raw_nbytes, coding, crc
    )


def _check_sections(sections: Sequence[Section], header: Header) -> None:
    kinds = [section.kind for section in sections]
    if len(set(kinds)) != len(kinds):
        raise CorruptShardError("section directory: a kind appears twice")
    for section in sections:
        place = "head" if section.offset < header.head_nbytes else "tail"
        if section.kind not in _KNOWN_KINDS:
            if section.required:
                raise UnsupportedFeatureError(
                    f"section {section.name} is required and unknown; upgrade dsqformat"
                )
        elif _KNOWN_KINDS[section.kind][:2] != (place, section.required):
            raise CorruptShardError(f"section {section.name}: wrong place or required flag")
    for kind, (_, _, mandatory) in _KNOWN_KINDS.items():
        if mandatory and kind not in kinds:
            raise CorruptShardError(f"section {kind.decode('ascii')} is missing")
    if any(s.kind == wire.KIND_KEYS and s.coding != wire.CODING_STORED for s in sections):
        raise CorruptShardError("section KEYS: coding 1, expected 0")


def _check_totals(header: Header, sections: Sequence[Section], chunks: ChunkTable) -> None:
    if int(chunks.sample_count.sum()) != header.sample_count:
        raise CorruptShardError(
            f"header: {header.sample_count} samples, the chunk table has "
            f"{int(chunks.sample_count.sum())}"
        )
    position = header.head_nbytes + int(chunks.chunk_offset[-1])
    for section in sections:
        if section.offset < header.head_nbytes:
            continue
        if section.offset != position:
            raise CorruptShardError(
                f"section {section.name}: at {section.offset}, expected {position}"
            )
        position += section.nbytes
    if position != header.file_nbytes:
        raise CorruptShardError(
            f"header: file_nbytes {header.file_nbytes}, the parts end at {position}"
        )


# Building --------------------------------------------------------------------------------------


def build_head(
    schema: Schema,
    chunks: ChunkTable,
    tail: Sequence[tuple[bytes, bytes]],
    models: Mapping[str, FieldModel] | None = None,
) -> bytes:
    """Return the head of a shard.

    Args:
        schema: fields and columns.
        chunks: the finished chunk table.
        tail: (kind, stored content) of each tail section, in order.
        models: by field name.
    """
    table = encode_chunk_table(chunks)
    schema_json = canonical_json(schema_to_json(schema))
    head = [_stored(wire.KIND_SCHEMA, schema_json), _stored(wire.KIND_CHUNKS, table)]
    models = models or {}
    shared = [
        (wire.KIND_MODELS, encode_models(models, schema)),
        (wire.KIND_GROUPS, encode_groups(models, schema)),
    ]
    head[1:1] = [_stored(kind, content) for kind, content in shared if content]
    start = _directory_end(len(head) + len(tail))
    head_nbytes = start + sum(len(stored) for _, stored, _, _ in head)
    parts = [*head, *((kind, data, len(data), wire.CODING_STORED) for kind, data in tail)]
    entries, offset = [], start
    for number, (kind, stored, raw_nbytes, coding) in enumerate(parts):
        if number == len(head):
            offset = head_nbytes + int(chunks.chunk_offset[-1])
        flags = wire.SECTION_REQUIRED if _KNOWN_KINDS[kind][1] else 0
        entries.append(
            wire.SECTION.pack(
                kind, flags, offset, len(stored), raw_nbytes, coding, b"", wire.crc32c(stored)
            )
        )
        offset += len(stored)
    file_nbytes = offset if tail else head_nbytes + int(chunks.chunk_offset[-1])
    fields = (
        wire.MAGIC,
        wire.VERSION_MAJOR,
        wire.VERSION_MINOR,
        len(parts),
        _features(schema, models),
        0,
        head_nbytes,
        file_nbytes,
        int(chunks.sample_count.sum()),
        0,
    )
    header = wire.HEADER.pack(*fields, 0)[:60]
    directory = b"".join(entries)
    return b"".join(
        [
            header,
            wire.crc32c(header).to_bytes(4, "little"),
            directory,
            wire.crc32c(directory).to_bytes(4, "little"),
            *(stored for _, stored, _, _ in head),
        ]
    )


def _stored(kind: bytes, content: bytes) -> tuple[bytes, bytes, int, int]:
    packed = compress_frame(content, _ZSTD_LEVEL)
    if len(packed) < len(content):
        return kind, packed, len(content), wire.CODING_ZSTD
    return kind, content, len(content), wire.CODING_STORED
