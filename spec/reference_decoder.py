"""Reference decoder of DSQ shards: plain, slow, standard library only.

Written from format.md alone, to be read beside it; each function names its section. It decodes a
whole shard held in memory and verifies everything the text lets a reader verify. The schema is
read by reference_schema.py, columns by reference_columns.py, zstd frames by reference_zstd.py,
models and groups by reference_models.py, layers by reference_layers.py, segments in coding 2 by
reference_rans.py, those of `block` by reference_block.py.

    python spec/reference_decoder.py FILE.dsq [--layers N]     a JSON summary
    python spec/reference_decoder.py --vectors spec/vectors    all conformance vectors
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import struct
import sys
from pathlib import Path

from reference_block import decode_pictures
from reference_columns import Cursor, ceil_div, decode_column, zstd_content
from reference_layers import (
    decode_layers,
    group_pairs,
    join_layers,
    kept_positions,
    layer_widths,
    split_ids,
)
from reference_models import GROUPS_LIMIT, MODELS_LIMIT, parse_groups, parse_models
from reference_schema import (
    LETTERS,
    DecodeError,
    Truncated,
    Unsupported,
    check_values,
    decimals,
    fl,
    parse_schema,
    require,
)

MAGIC = b"\x8bDSQ\r\n\x1a\n"
# Section 16: bit 0, some field has `patch`; bit 1, there is `MODL`; bit 2, there is `GRPS`.
KNOWN_INCOMPATIBLE = 7
# Section 5.2: kind -> (place, required flag).
KINDS = {
    "SCHM": ("head", 1),
    "CHNK": ("head", 1),
    "KEYS": ("tail", 0),
    "MODL": ("head", 1),
    "GRPS": ("head", 1),
}
# Section 10.2: the index columns of each quantizer.
COLUMNS = {
    "raw": [],
    "lsq": [("bit_width", "int64"), ("signed", "int64"), ("scale", "float32")],
    "affine": [("bit_width", "int64"), ("scale", "float32"), ("offset", "float32")],
    "patch": [("bit_width", "int64")],
    "block": [("qp", "int64")],
}


def crc_table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # 0x1EDC6F41 reflected
        yield byte


CRC_TABLE = list(crc_table())


def crc32c(data):
    """Section 14: CRC-32C (Castagnoli)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def parse_header(data):
    """Section 5.1, in the order of checks it demands."""
    require(data[:8] == MAGIC[: len(data)], "5.1", "not a DSQ shard: wrong magic")
    if len(data) < 64:
        raise Truncated(f"section 5.1: {len(data)} bytes, the header alone has 64")
    (major, _minor, sections, incompatible, compatible, head_nbytes, file_nbytes, samples, reserved,
     crc) = struct.unpack_from("<2HI5Q2I", data, 8)  # fmt: skip
    require(crc == crc32c(data[:60]), "5.1", "header_crc does not match")
    if major != 1:
        raise Unsupported(f"section 16: version_major {major}, this reader knows 1")
    for bit in range(64):
        if incompatible & ~KNOWN_INCOMPATIBLE & 1 << bit:
            raise Unsupported(f"section 16: unknown bit {bit} of incompatible_features")
    require(2 <= sections <= 64, "5.1", f"section_count {sections}")
    require(64 + 40 * sections + 4 <= head_nbytes <= 2**28, "5.1", f"head_nbytes {head_nbytes}")
    require(head_nbytes <= file_nbytes <= 2**40, "5.1", f"file_nbytes {file_nbytes}")
    require(reserved == 0, "5.1", "reserved bytes of the header are not zero")
    if len(data) < file_nbytes:
        raise Truncated(f"section 5.1: {len(data)} of {file_nbytes} bytes")
    require(len(data) == file_nbytes, "5.1", f"{len(data)} bytes, file_nbytes {file_nbytes}")
    return {
        "section_count": sections, "incompatible_features": incompatible,
        "compatible_features": compatible, "head_nbytes": head_nbytes,
        "file_nbytes": file_nbytes, "sample_count": samples,
    }  # fmt: skip


def parse_directory(data, header):
    """Section 5.2: all entries by kind; only the start of the tail is left to check."""
    end = 64 + 40 * header["section_count"]
    require(
        struct.unpack_from("<I", data, end)[0] == crc32c(data[64:end]),
        "5.2", "the checksum of the section directory does not match",
    )  # fmt: skip
    head, tail = {}, {}
    for at in range(64, end, 40):
        kind, flags, offset, nbytes, raw, coding, reserved, crc = struct.unpack_from(
            "<4sI3QB3sI", data, at
        )
        require(re.fullmatch(rb"[A-Z0-9]{4}", kind), "5.2", f"kind {kind!r}")
        kind = kind.decode()
        require(kind not in head and kind not in tail, "5.2", f"two sections {kind}")
        require(flags <= 1, "5.2", f"{kind}: reserved flags are set")
        require(reserved == bytes(3), "5.2", f"{kind}: reserved bytes are not zero")
        require(coding <= 1, "5.2", f"{kind}: coding {coding}")
        require(nbytes >= 1 and raw >= 1, "5.2", f"{kind}: an empty section")
        require(coding or raw == nbytes, "5.2", f"{kind}: raw_nbytes differs from nbytes")
        place = "head" if offset < header["head_nbytes"] else "tail"
        require(place == "tail" or not tail, "5.2", f"{kind}: not in the order of offsets")
        require(offset + nbytes <= header["file_nbytes"], "5.2", f"{kind}: ends past the file")
        require(crc == crc32c(data[offset : offset + nbytes]), "5.2", f"{kind}: wrong checksum")
        if kind in KINDS:
            require(place == KINDS[kind][0], "5.2", f"{kind} in the {place}")
            require(KINDS[kind][1] == flags, "5.2", f"{kind}: wrong required flag")
        elif flags:
            raise Unsupported(f"section 5.2: unknown required section {kind}")
        sections = head if place == "head" else tail
        sections[kind] = {"offset": offset, "nbytes": nbytes, "raw_nbytes": raw, "coding": coding}
    require("SCHM" in head and "CHNK" in head, "5.2", "SCHM or CHNK is missing")
    check_tiling(head, end + 4, header["head_nbytes"])
    return head, tail


def check_tiling(sections, start, stop):
    """Section 5.2: the sections fill [start, stop) without holes or overlap."""
    for kind, section in sections.items():
        require(section["offset"] == start, "5.2", f"{kind} begins not at byte {start}")
        start += section["nbytes"]
    require(start == stop, "5.2", f"sections end at byte {start}, not {stop}")


def section_content(data, section):
    """Section 5.2: the content behind an entry; its checksum has been verified."""
    stored = data[section["offset"] : section["offset"] + section["nbytes"]]
    return zstd_content(stored, section["raw_nbytes"]) if section["coding"] else stored


def parse_chunk_table(content, schema, header):
    """Section 7: one dict for each chunk."""
    cursor = Cursor(content, "7")
    chunk_count, segment_count, block_nbytes, zone_count = cursor.numbers(4, "I")
    zoned = [c for c in schema["columns"] if c["type"] in ("int64", "float32", "float64")]
    require(chunk_count <= 2**20, "7", f"chunk_count {chunk_count}")
    require(segment_count == 1 + len(schema["order"]), "7", f"segment_count {segment_count}")
    require(block_nbytes in (4096, 8192, 16384, 32768, 65536), "7", f"block_nbytes {block_nbytes}")
    require(zone_count == len(zoned), "7", f"zone_count {zone_count}")
    counts = cursor.numbers(chunk_count, "I")
    require(all(1 <= n <= 4096 for n in counts), "7", "a chunk has not 1 to 4096 samples")
    require(sum(counts) == header["sample_count"], "7", "sample_count differs from the header")
    chunks = [{"sample_count": n, "block_nbytes": block_nbytes, "zones": {}} for n in counts]
    for chunk in chunks:
        chunk["segment_nbytes"] = cursor.numbers(segment_count, "I")
        require(max(chunk["segment_nbytes"]) <= 2**30, "7", "a segment is above 2^30 bytes")
    for chunk in chunks:
        chunk["digests"] = [cursor.take(16) for _ in range(segment_count)]
    for chunk in chunks:
        chunk["block_crcs"] = [
            cursor.numbers(ceil_div(nbytes, block_nbytes), "I")
            for nbytes in chunk["segment_nbytes"]
        ]
    for chunk in chunks:
        for column in zoned:
            letter = "q" if column["type"] == "int64" else "d"
            chunk["zones"][column["name"]] = cursor.numbers(2, letter)
    cursor.end()
    return chunks


def read_segments(data, start, chunk):
    """Section 7: the segments of a chunk, after both checks of section 14."""
    segments = []
    for nbytes, digest, crcs in zip(
        chunk["segment_nbytes"], chunk["digests"], chunk["block_crcs"], strict=True
    ):
        segment = data[start : start + nbytes]
        require(hashlib.sha256(segment).digest()[:16] == digest, "7", "wrong segment_digest")
        for block, crc in enumerate(crcs):
            first = block * chunk["block_nbytes"]
            actual = crc32c(segment[first : first + chunk["block_nbytes"]])
            require(actual == crc, "7", f"wrong block_crc of block {block}")
        segments.append(segment)
        start += nbytes
    return segments


def decode_index(segment, schema, n):
    """Section 8: all columns of a chunk, user columns first."""
    wanted = [(column["name"], column["type"]) for column in schema["columns"]]
    for field in schema["fields"]:
        name = field["name"]
        dims = [d for d, size in enumerate(field["shape"]) if size is None]
        wanted += [(f"{name}.dim{d}", "int64") for d in dims]
        wanted += [(f"{name}.mask", "bytes")] if "patch" in field else []
        wanted += [(f"{name}.{column}", kind) for column, kind in COLUMNS[field["quantizer"]]]
    cursor = Cursor(segment, "8")
    index = {name: decode_column(cursor, kind, n) for name, kind in wanted}
    cursor.end()
    return index


def check_zones(zones, index):
    """Section 7: minimum and maximum of each numeric column, NaN left out."""
    for name, zone in zones.items():
        values = [x for x in index[name] if x == x]
        expected = (min(values), max(values)) if values else (math.inf, -math.inf)
        require(zone == expected, "7", f"zone of column {name} is {zone}, not {expected}")


def parameters(field, index, i):
    """Section 10.2: stored width B, zero point Z and largest legal code of sample i."""
    if field["quantizer"] == "raw":
        return 8, 0, 255
    lsq = field["quantizer"] == "lsq"
    b = index[field["name"] + ".bit_width"][i]
    if field["quantizer"] == "patch":
        require(1 <= b <= 8, "10.2", f"bit width {b}")
        return b, 0, 2**b - 1
    scale = index[field["name"] + ".scale"][i]
    require((2 if lsq else 1) <= b <= 16, "10.2", f"bit width {b}")
    require(math.isfinite(scale) and scale >= 0, "10.2", f"scale {scale}")
    if not lsq:
        offset = index[field["name"] + ".offset"][i]
        require(math.isfinite(offset), "10.2", f"offset {offset}")
        return b, 0, 2**b - 1
    signed = index[field["name"] + ".signed"][i]
    require(signed in (0, 1), "10.2", f"signed {signed}")
    return (b, 2 ** (b - 1) - 1, 2**b - 2) if signed else (b - 1, 0, 2 ** (b - 1) - 1)


def gains_shifts(field, index, i):
    """Section 10.3: (gain, shift) for each channel of sample i; one pair serves all channels."""
    scale = index[field["name"] + ".scale"][i]
    if field["quantizer"] == "affine":
        return [(scale, index[field["name"] + ".offset"][i])]
    domain = field["domain"]
    if domain["kind"] != "normalized":
        return [(scale, 0.5 if domain["kind"] == "centered" else 0.0)]
    mean, std = decimals(domain["mean"]), decimals(domain["std"])
    pairs = [(fl(scale * s), m) for m, s in zip(mean, std, strict=True)]
    require(all(math.isfinite(gain) for gain, _ in pairs), "10.3", "a gain is not finite")
    return pairs


def sample_shapes(field, index, n):
    """Sections 6 and 8: the shape of each sample, within the limits of section 15."""
    columns = [
        [size] * n if size is not None else index[f"{field['name']}.dim{d}"]
        for d, size in enumerate(field["shape"])
    ]
    shapes = [list(shape) for shape in zip(*columns, strict=True)] if columns else [[]] * n
    require(all(0 <= d <= 2**28 for shape in shapes for d in shape), "15", "size of a dimension")
    for shape in shapes:
        check_values(shape)
    # A dimension of 0 counts as 1.
    values = sum(math.prod(max(1, d) for d in shape) for shape in shapes)
    require(values <= 2**28, "15", "above 2^28 values of a field in a chunk")
    return shapes


def decode_field(field, index, segments, n, model, groups):
    """Sections 9 to 11: the samples of one field from its first layers."""
    shapes = sample_shapes(field, index, n)
    if field["quantizer"] == "block":
        return decode_block_field(field, index, segments, shapes, model)
    masks = index.get(field["name"] + ".mask", [b""] * n)
    kept = [kept_positions(field, shape, mask) for shape, mask in zip(shapes, masks, strict=True)]
    raw, letter = field["quantizer"] == "raw", LETTERS[field["dtype"]]
    counts = [len(places) * (struct.calcsize("<" + letter) if raw else 1) for places in kept]
    stored = [parameters(field, index, i)[0] for i in range(n)]
    ids, model_of_codes = None, model
    if field["quantizer"] == "patch":
        model_of_ids, model_of_codes = model or (None, None)
        ids, rest = split_ids(field, segments[0], shapes, masks, len(groups), model_of_ids)
        segments = [rest, *segments[1:]]
    widths = [layer_widths(width, field["layers"]) for width in stored]
    layers = decode_layers(segments, shapes, kept, counts, widths, model_of_codes)
    samples = []
    for i in range(n):
        sample = {"shape": shapes[i], "mask": masks[i] or None, "codes": None}
        own = [layer[i] for layer in layers]
        if raw:  # section 10.1
            values = picture = struct.unpack(f"<{len(kept[i])}{letter}", bytes(own[0]))
        else:
            sample["codes"] = codes = join_layers(own, widths[i], counts[i])
            if ids is None:
                sources = gains_shifts(field, index, i)
                pairs = [sources[place % len(sources)] for place in kept[i]]
            else:
                sample["group_ids"] = ids[i]
                pairs = group_pairs(field, shapes[i], masks[i], kept[i], ids[i], groups)
            values = dequantize(field, index, i, codes, pairs, sum(widths[i][len(own) :]))
            picture = [to_uint8(x) for x in values]
        count, zero = math.prod(shapes[i]), 0 if raw and letter not in "efd" else 0.0
        sample["values"] = spread(values, kept[i], count, zero)
        if field["dtype"] == "uint8":
            sample["picture"] = spread(picture, kept[i], count, 0)
        samples.append(sample)
    return samples


def decode_block_field(field, index, segments, shapes, model):
    """Sections 9.5 and 10.6: the samples of one field of `block` from its first layers."""
    qps = index[field["name"] + ".qp"]
    require(all(0 <= qp <= 175 for qp in qps), "10.2", "a qp is not 0 to 175")
    sides = [side for shape in shapes for side in shape[:2]]
    require(all(1 <= side <= 4096 for side in sides), "10.6", "a side is not 1 to 4096")
    decoded = decode_pictures(segments, model, shapes, qps)
    return [
        {"shape": shape, "mask": None, "codes": None, "values": values, "picture": picture}
        for shape, (picture, values) in zip(shapes, decoded, strict=True)
    ]


def dequantize(field, index, i, codes, pairs, missing):
    """Section 10.3: two operations for each code, one rounding each; u' - Z is exact."""
    _, zero_point, largest = parameters(field, index, i)
    if not missing:
        require(max(codes, default=0) <= largest, "10.2", f"a code above {largest}")
    return [
        fl(fl((code - zero_point) * gain) + shift)
        for code, (gain, shift) in zip(codes, pairs, strict=True)
    ]


def to_uint8(x):
    """Section 10.3: rint comes last here: the same, and infinities need no care."""
    return round(min(255.0, max(0.0, fl(x * 255.0))))


def spread(values, positions, count, zero):
    """Section 11: values at their places, left-out ones 0."""
    if len(values) == count:
        return list(values)
    full = [zero] * count
    for position, value in zip(positions, values, strict=True):
        full[position] = value
    return full


def decode_keys(content, chunks):
    """Section 12: the keys of all samples."""
    cursor = Cursor(content, "12")
    (chunk_count,) = cursor.numbers(1, "I")
    require(chunk_count == len(chunks), "12", f"keys of {chunk_count} chunks, not {len(chunks)}")
    sizes, crcs = cursor.numbers(chunk_count, "I"), cursor.numbers(chunk_count, "I")
    keys = []
    for nbytes, crc, chunk in zip(sizes, crcs, chunks, strict=True):
        part = cursor.take(nbytes)
        require(crc32c(part) == crc, "12", "wrong checksum of the keys of a chunk")
        column = Cursor(part, "12")
        keys += decode_column(column, "utf8", chunk["sample_count"])
        column.end()
    cursor.end()
    require(all(1 <= len(key.encode()) <= 4096 for key in keys), "12", "a key's length")
    require(len(set(keys)) == len(keys), "12", "a key occurs twice")
    return keys


def decode_shard(data, layers=None):
    """Decode a whole shard from its bytes.

    `layers` limits every field to its first layers. Returns header, schema, chunks, columns (all
    columns of section 8, by name), fields (by name, a list of samples: shape, mask, codes, which
    are None for raw and block, group_ids for patch, values, and picture for uint8) and keys (None
    if there are none).
    """
    if layers is not None and layers < 1:
        raise ValueError(f"layers must be at least 1, got {layers}")
    header = parse_header(data)
    head, tail = parse_directory(data, header)
    require(head["SCHM"]["raw_nbytes"] <= 2**20, "6", "a schema above 1 MiB")
    schema = parse_schema(section_content(data, head["SCHM"]))
    patched = any("patch" in field for field in schema["fields"])
    require(patched == header["incompatible_features"] & 1, "16", "bit 0 and the schema disagree")
    contents = []
    for bit, kind, limit, section in (
        (1, "MODL", MODELS_LIMIT, "7.1"),
        (2, "GRPS", GROUPS_LIMIT, "7.2"),
    ):
        there = header["incompatible_features"] >> bit & 1
        require((kind in head) == there, "16", f"bit {bit} and the directory disagree")
        require(not there or head[kind]["raw_nbytes"] <= limit, section, f"{kind} is too large")
        contents.append(section_content(data, head[kind]) if there else b"")
    models = parse_models(contents[0], schema, header["sample_count"])
    groups = parse_groups(contents[1], schema)
    chunks = parse_chunk_table(section_content(data, head["CHNK"]), schema, header)
    start = header["head_nbytes"]
    check_tiling(
        tail, start + sum(sum(chunk["segment_nbytes"]) for chunk in chunks), header["file_nbytes"]
    )
    columns, fields = {}, {field["name"]: [] for field in schema["fields"]}
    for chunk in chunks:
        segments = read_segments(data, start, chunk)
        start += sum(chunk["segment_nbytes"])
        index = decode_index(segments[0], schema, chunk["sample_count"])
        check_zones(chunk["zones"], index)
        for name, values in index.items():
            columns.setdefault(name, []).extend(values)
        for field in schema["fields"]:
            own = [
                segment
                for segment, (name, layer) in zip(segments[1:], schema["order"], strict=True)
                if name == field["name"] and (layers is None or layer < layers)
            ]
            shared = models.get(field["name"]), groups.get(field["name"])
            fields[field["name"]] += decode_field(field, index, own, chunk["sample_count"], *shared)
    keys = None
    if "KEYS" in tail:
        require(tail["KEYS"]["coding"] == 0, "12", "KEYS are not stored with coding 0")
        keys = decode_keys(section_content(data, tail["KEYS"]), chunks)
    return {
        "header": header, "schema": schema, "chunks": chunks,
        "columns": columns, "fields": fields, "keys": keys,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description="Decode a DSQ shard, slowly and strictly.")
    parser.add_argument("file", nargs="?", help="the shard")
    parser.add_argument("--layers", type=int, help="decode only the first layers of each field")
    parser.add_argument("--vectors", metavar="DIR", help="run the conformance vectors in DIR")
    arguments = parser.parse_args()
    if (arguments.file is None) == (arguments.vectors is None):
        parser.error("give either a file or --vectors DIR")
    if arguments.layers is not None and arguments.layers < 1:
        parser.error("--layers must be at least 1")
    import reference_vectors  # imports this file in turn

    if arguments.vectors:
        return 1 if reference_vectors.run_vectors(Path(arguments.vectors)) else 0
    try:
        shard = decode_shard(Path(arguments.file).read_bytes(), arguments.layers)
    except DecodeError as error:
        print(f"{arguments.file}: {type(error).__name__.lower()}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(reference_vectors.describe(shard), indent=1, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
