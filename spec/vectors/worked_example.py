"""The annotated hex dump of section 18.1, made from the bytes of a vector."""

from __future__ import annotations

import struct

INTRODUCTION = """\
`vectors/v1/valid/worked_example.dsq` holds one sample: the codes 37, 2, 63 of section 18.2.
With scale 0.5 and offset -1, x = 17.5, 0, 30.5; layer 0 alone gives 17.75, -0.25, 29.75.
Offsets are hexadecimal; the bytes of the schema (`..`) are those of its text.
"""

HEADER = (
    (8, "magic"), (2, "version_major {}"), (2, "version_minor {}"), (4, "section_count {}"),
    (8, "incompatible_features"), (8, "compatible_features"), (8, "head_nbytes {}"),
    (8, "file_nbytes {}"), (8, "sample_count {}"), (4, "reserved"), (4, "header_crc"),
)  # fmt: skip
ENTRY = (
    (4, "kind {}"), (4, "flags: required"), (8, "offset {}"), (8, "nbytes {}"),
    (8, "raw_nbytes {}"), (1, "coding: stored"), (3, "reserved"), (4, "crc"),
)  # fmt: skip
TABLE = (
    (4, "chunk_count {}"), (4, "segment_count {}"), (4, "block_nbytes {}"), (4, "zone_count {}"),
    (4, "sample_count[0] {}"), (4, "segment_nbytes[0][0] {}"), (4, "segment_nbytes[0][1] {}"),
    (4, "segment_nbytes[0][2] {}"), (16, "segment_digest[0][0]"), (16, "segment_digest[0][1]"),
    (16, "segment_digest[0][2]"), (4, "block_crc[0]: of the index segment"),
    (4, "block_crc[1]: of layer 0"), (4, "block_crc[2]: of layer 1"),
)  # fmt: skip
CHUNK = (
    (1, "index segment, x.bit_width: CONSTANT"), (4, "nbytes {}"), (8, "value {}"),
    (1, "x.scale: CONSTANT"), (4, "nbytes {}"), (4, "value 0.5"),
    (1, "x.offset: CONSTANT"), (4, "nbytes {}"), (4, "value -1"),
    (1, "layer 0 of x: packed"), (2, "9, 0, 15 in 4 bits each"),
    (1, "layer 1 of x: packed"), (1, "1, 2, 3 in 2 bits each"),
)  # fmt: skip


def annotate(data):
    """Markdown: every byte of the worked example once, from first to last."""
    (schema_nbytes,) = struct.unpack_from("<Q", data, 64 + 16)
    directory = [*ENTRY, *ENTRY, (4, "crc of the directory")]
    schema = [(schema_nbytes, "schema: " + data[148 : 148 + schema_nbytes].decode())]
    lines, at = [], 0
    for nbytes, text in [*HEADER, *directory, *schema, *TABLE, *CHUNK]:
        part = data[at : at + nbytes]
        shown = part.decode() if "kind" in text else int.from_bytes(part, "little")
        text = text if text.startswith("schema") else text.format(shown)
        rows = [part[i : i + 8].hex(" ").upper() for i in range(0, min(nbytes, 16), 8)]
        rows = [rows[0] + " .."] if nbytes > 16 else rows
        for row, digits in enumerate(rows):
            lines.append(f"    {at + 8 * row:04x}  {digits:<27} {'' if row else text}".rstrip())
        at += nbytes
    if at != len(data):
        raise ValueError(f"the worked example has {len(data)} bytes, {at} are annotated")
    return INTRODUCTION + "\n" + "\n".join(lines) + "\n"
