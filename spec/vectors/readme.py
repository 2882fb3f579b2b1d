"""The README of the vectors: one line for each file."""

from __future__ import annotations

INTRODUCTION = """\
# Conformance vectors of the DSQ format, version 1

Written by `python spec/vectors/generate.py`, which imports no reader and no writer of the format:
`builder.py` and `block_writer.py` lay out bytes, `expected.py` and `block_pixels.py` say what
they mean.
`python spec/reference_decoder.py --vectors spec/vectors` runs them all.
The library runs them in `tests/format/test_vectors.py`.
Real zstd frames, models and rANS segments stand in `frames.json` and `models.json`.
Vectors of a released version are never changed; a later version of the format adds a folder.

A reader conforms (format.md, section 19) if it decodes every valid vector to the stated values
and rejects every invalid one with the stated kind of error.

## JSON beside a vector

`v1/valid/NAME.json`: `name`, `description`, `crc32c` (of the whole file, in hexadecimal) and
`expected`:

| Member | Meaning |
|---|---|
| `header` | values of section 5.1 |
| `schema` | the schema object of section 6 |
| `chunks` | for each chunk `sample_count` and `segment_nbytes`, index segment first |
| `columns` | user columns over all samples of the shard |
| `fields` | for each field the members below |
| `keys` | null if the shard has none |

| Member of a field | Meaning |
|---|---|
| `shape`, `mask` | of each sample; mask null: all patches kept |
| `codes` | of each sample: its kept values with all layers, in C order; null for `raw`, `block` |
| `group_ids` | only of `patch`: of each sample those of its kept patches, in raster order |
| `bit_width`, ... | the columns of the quantizer |
| `layers` | for M = "1", "2", ...: what the first M layers decode to |

Each member of `layers` has `values_sha256`, over the little-endian bytes of the values of all
samples one after the other, left-out ones as 0 (the dtype of the field for `raw`, binary32 for all
others); `first_values`, the first four of them; and, only for dtype `uint8`, `picture_sha256`, over
the integer pictures v of section 10.3 (of `block`: A.9.3).

Floats are strings in hexadecimal notation (`0x1.8p+0`, C99 `%a`), `nan`, `inf` or `-inf`; bytes
are hexadecimal digits; integers may need 64 bits.

`v1/invalid/NAME.json`: `name`, `description` of what is wrong, `crc32c`, `error` (`corrupt`,
`truncated` or `unsupported`) and `section`, the section of format.md that is broken.
Each vector is broken in one place only; all checksums that are not the point are right.
"""


def readme(valid, invalid):
    """Markdown with both tables."""
    lines = [INTRODUCTION, f"## Valid: {len(valid)} files in `v1/valid`", ""]
    lines += ["| File | Bytes | What it shows |", "|---|---|---|"]
    for vector in valid:
        lines.append(f"| `{vector.name}.dsq` | {len(vector.data)} | {vector.description} |")
    lines += ["", f"## Invalid: {len(invalid)} files in `v1/invalid`", ""]
    lines += ["| File | Bytes | Error | Section | What is wrong |", "|---|---|---|---|---|"]
    for vector in invalid:
        facts = vector.facts
        lines.append(
            f"| `{vector.name}.dsq` | {len(vector.data)} | {facts['error']} | {facts['section']} "
            f"| {vector.description} |"
        )
    return "\n".join(lines) + "\n"
