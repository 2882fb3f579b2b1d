"""Invalid vectors: header, section directory, schema and chunk table (sections 5 to 7)."""

from __future__ import annotations

import struct

from assembly import ChunkData, affine, assemble, lsq, raw, schema_of
from builder import Section, canonical_json, crc32c, stored_frame
from expected import FieldData
from frames import compressed_frame
from samples import base, base_schema


def header_vectors(add):
    """Sections 5.1 and 16."""

    def header(name, text, error="corrupt", section="5.1", **values):
        add(name, section, text, base(header=values), error)

    header("magic_text_mode", "CR LF of the magic turned into LF LF", magic=b"\x8bDSQ\n\n\x1a\n")
    header("header_crc", "header_crc is wrong", header_crc=0x12345678)
    header("version_major", "version_major 2", "unsupported", "16", version_major=2)
    header("version_major_0", "version_major 0", "unsupported", "16", version_major=0)
    for bit in (3, 48, 63):
        header(
            f"incompatible_bit_{bit}", f"unknown bit {bit} of incompatible_features",
            "unsupported", "16", incompatible_features=1 << bit,
        )  # fmt: skip
    header("patch_bit_without_field", "bit 0 is set, no field has a patch", "corrupt", "16",
           incompatible_features=1)  # fmt: skip
    header("section_count_1", "section_count 1", section_count=1)
    header("section_count_65", "section_count 65", section_count=65)
    header("head_nbytes_small", "head_nbytes ends within the directory", head_nbytes=147)
    header("file_nbytes_small", "file_nbytes below head_nbytes", file_nbytes=150)
    header("file_nbytes_limit", "file_nbytes above 2^40", file_nbytes=2**40 + 1)
    header("head_nbytes_limit", "head_nbytes above 2^28",
           head_nbytes=2**28 + 1, file_nbytes=2**29)  # fmt: skip
    header("header_reserved", "a reserved byte of the header is 1", reserved=1)
    header("sample_count", "sample_count of the header is not the sum over the chunks",
           section="7", sample_count=4)  # fmt: skip


def changed(index, **values):
    """`base` with other values in one entry of its directory (0 SCHM, 1 CHNK, 2 KEYS)."""
    shard = base()
    shard.sections = shard.usual_sections()
    for name, value in values.items():
        setattr(shard.sections[index], name, value)
    return shard


def directory_vectors(add):
    """Section 5.2."""

    def entry(name, text, index, error="corrupt", **values):
        add(name, "5.2", text, changed(index, **values), error)

    add("directory_crc", "5.2", "the checksum of the directory is wrong", base(directory_crc=1))
    entry("section_crc", "the checksum of SCHM is wrong", 0, crc=1)
    entry("section_flags", "a reserved flag of KEYS is set", 2, flags=2)
    entry("section_reserved", "a reserved byte of an entry is 1", 1, reserved=b"\x00\x01\x00")
    entry("section_coding", "coding 2", 2, coding=2)
    entry("section_raw_nbytes", "raw_nbytes differs from nbytes, though stored", 2, raw_nbytes=9)
    entry("section_past_end", "KEYS ends after the file", 2, nbytes=1000)
    entry("section_wrap", "offset + nbytes wraps around 2^64", 2, nbytes=2**64 - 100)
    entry("schema_optional", "SCHM without the required flag", 0, flags=0)
    entry("keys_required", "KEYS with the required flag", 2, flags=1)
    for name, kind in (("lower", b"keys"), ("blank", b"KEY "), ("high", b"KE\xc4S")):
        entry(f"section_kind_{name}", f"kind {kind!r}", 2, kind=kind)
    entry(
        "table_missing", "no CHNK (an unknown optional section instead)", 1, kind=b"CHNX", flags=0
    )
    entry("section_duplicate", "two sections CHNK", 0, kind=b"CHNK")
    entry("keys_in_head", "KEYS in the head", 2, tail=False)
    entry("schema_in_tail", "SCHM in the tail", 0, tail=True)
    extra = [Section(b"NEWS", b"something a reader must know", 1)]
    add("section_required", "5.2", "an unknown section with the required flag",
        base(extra=extra), "unsupported")  # fmt: skip
    extra = [Section(b"NEWS", b"something optional", crc=1)]
    add("section_optional_crc", "5.2", "wrong checksum of an unknown optional section",
        base(extra=extra))  # fmt: skip
    extra = [Section(b"NONE", b"")]
    add("section_empty", "5.2", "a section of 0 bytes", base(extra=extra))
    tiling_vectors(add)


def tiling_vectors(add):
    """Section 5.2: holes, overlap, order."""
    data = b"beforehole" + bytes(4)
    hole = Section(b"NEWS", data, nbytes=10, crc=crc32c(data[:10]))
    add("hole_in_head", "5.2", "4 bytes after the last head section belong to nothing",
        base(extra=[hole]))  # fmt: skip
    data = bytes(4) + b"afterhole"
    hole = Section(b"NEWS", data, nbytes=9, crc=crc32c(data[4:]), shift=4, tail=True)
    add("hole_before_tail", "5.2", "4 bytes after the last chunk belong to nothing",
        base(keys=None, extra=[hole]))  # fmt: skip
    data = b"at the end" + bytes(4)
    hole = Section(b"NEWS", data, nbytes=10, crc=crc32c(data[:10]), tail=True)
    add("hole_at_end", "5.2", "4 bytes at the end of the file belong to nothing",
        base(extra=[hole]))  # fmt: skip
    shard = base()
    end = shard.usual_sections()[1].data[-4:] + b"own"
    overlap = Section(b"NEWS", b"own", nbytes=7, crc=crc32c(end), shift=-4)
    shard.extra = [overlap]
    add("overlap", "5.2", "a section begins within the one before it", shard)
    pair = [
        Section(b"NEWA", b"late", crc=crc32c(b"soon"), shift=4),
        Section(b"NEWB", b"soon", crc=crc32c(b"late"), shift=-4),
    ]
    add("section_order", "5.2", "two entries are not in the order of offset", base(extra=pair))
    shard = base()
    shard.chunks[0].segment_nbytes = [len(s) + (i == 2) for i, s in enumerate(
        shard.chunks[0].segments)]  # fmt: skip
    add(
        "segment_sum",
        "5.2",
        "the chunk table states one byte more than lies before the tail",
        shard,
    )


def with_schema(content):
    """`base` with other bytes in SCHM, and bit 0 of the features as they want it."""
    data = content if isinstance(content, bytes) else canonical_json(content)
    shard = changed(0, data=data)
    shard.header["incompatible_features"] = int(b'"patch"' in data)
    return shard


def json_vectors(add):
    """Section 2: canonical JSON."""
    text = canonical_json(base_schema())
    forms = {
        "json_space": (text.replace(b",", b", ", 1), "a space after a comma"),
        "json_newline": (text + b"\n", "a newline at the end"),
        "json_order": (
            text.replace(b'"name":"label","type":"int64"', b'"type":"int64","name":"label"'),
            "members that are not sorted",
        ),
        "json_duplicate": (
            text.replace(b'"name":"label"', b'"name":"label","name":"label"'), "a member twice",
        ),
        "json_escape": (text.replace(b'"label"', b'"\\u006cabel"'), "an escape without need"),
        "json_float": (text.replace(b"[3]", b"[3.0]"), "a floating-point number"),
        "json_exponent": (text.replace(b"[3]", b"[3e0]"), "an integer with an exponent"),
        "json_minus_zero": (text.replace(b'["x",0]', b'["x",-0]'), "the integer -0"),
        "json_nan": (text.replace(b"[3]", b"[NaN]"), "NaN, which is no JSON"),
        "json_big_integer": (text.replace(b"[3]", b"[9007199254740992]"), "an integer of 2^53"),
        "json_utf8": (text.replace(b"label", b"lab\xffl"), "invalid UTF-8"),
        "json_surrogate": (text.replace(b"label", b"\\ud800"), "half of a surrogate pair"),
        "json_bom": (b"\xef\xbb\xbf" + text, "a byte order mark"),
        "json_cut": (text[:-1], "no closing brace"),
        "json_two": (text + b"{}", "a second object after the schema"),
    }  # fmt: skip
    for name, (content, description) in forms.items():
        add(name, "2", description, with_schema(content))
    nested = text.replace(b'"columns":[', b'"columns":[' + b"[" * 40 + b"]" * 40 + b",")
    add("json_nesting", "15", "arrays nested 42 deep", with_schema(nested))
    nested = b"[" * 100_000 + b"]" * 100_000
    frame = compressed_frame(nested)
    add("json_nesting_bomb", "2", "100000 nested arrays in a small frame",
        changed(0, data=frame, coding=1, raw_nbytes=len(nested)))  # fmt: skip
    add("schema_limit", "6", "a schema above 1 MiB", changed(
        0, data=stored_frame(b"{}", stated=2**20 + 1), coding=1, raw_nbytes=2**20 + 1))  # fmt: skip


def schema_vectors(add):
    """Section 6; `base` has one affine field x with layers 0 and 1, and one column, label."""

    def schema(name, text, change, error="corrupt", section="6", /):
        value = base_schema()
        change(value, value["fields"][0], value["columns"][0])
        add("schema_" + name, section, text, with_schema(value), error)

    def field(name, text, error="corrupt", section="6", /, **members):
        schema(name, text, lambda s, f, c: f.update(members), error, section)

    def column(name, text, error="corrupt", /, **members):
        schema(name, text, lambda s, f, c: c.update(members), error)

    def order(name, text, *pairs):
        schema(name, text, lambda s, f, c: s.update(order=list(pairs)))

    add("schema_array", "6", "an array, not an object", with_schema([]))
    schema("member_missing", "no member order", lambda s, f, c: s.pop("order"))
    schema("field_member_missing", "a field without layers", lambda s, f, c: f.pop("layers"))
    schema("no_fields", "no fields", lambda s, f, c: s.update(fields=[], order=[]))
    schema("unknown_member", "an unknown member", lambda s, f, c: s.update(extra=1), "unsupported")
    field("unknown_field_member", "an unknown member of a field", "unsupported", gamma="2.2")
    column("unknown_column_member", "an unknown member of a column", "unsupported", unit="m")
    field("unknown_quantizer", "an unknown quantizer", "unsupported", quantizer="log")
    field("unknown_dtype", "an unknown dtype", "unsupported", dtype="bfloat16")
    column("unknown_type", "an unknown column type", "unsupported", type="int128")
    field("quantizer_number", "a quantizer that is no string", quantizer=3)
    column("bin_id_float", "bin_id of type float32", name="bin_id", type="float32")
    column("names_of_utf8", "names at a utf8 column", type="utf8", names=["a"])
    column("names_number", "names that are not all strings", names=["a", 1])
    column("name_empty", "an empty name", name="")
    column("name_dot", "a dot in a name", name="x.scale")
    column("name_long", "a name of 65 characters", name="a" * 65)
    column("name_key", "a column named key", name="key")
    column("name_twice", "a column with the name of a field", name="x")
    column("name_newline", "a name that ends in a newline", name="label\n")
    field("shape_negative", "a negative dimension", shape=[-1])
    field("shape_limit", "a dimension above 2^28", shape=[2**28 + 1, 0])
    field("shape_boolean", "a dimension that is a boolean", shape=[True])
    field("shape_nine", "nine dimensions", shape=[1] * 9)
    field("layer_17", "a layer of 17 bits", layers=[17])
    field("layer_0", "a layer of 0 bits", layers=[0])
    field("layers_nine", "nine layers", layers=[1] * 8)
    field("raw_layers", "raw with two layers", quantizer="raw")
    field("lsq_without_domain", "lsq without a domain", quantizer="lsq")
    field("affine_domain", "affine with a domain", domain={"kind": "unit"})
    field("affine_dtype", "affine of dtype float64", "corrupt", "10.2", dtype="float64")
    field("patch_0", "a patch of side 0", shape=[3, 3], patch=0)
    field("patch_one_dimension", "a patch at a field of one dimension", "corrupt", "11", patch=2)
    order("order_empty", "no layer of a field in order")
    order("order_hole", "layer 1 without layer 0", ["x", 1])
    order("order_beyond", "a layer that the plan does not have", ["x", 0], ["x", 1], ["x", 2])
    order("order_twice", "a layer is twice in order", ["x", 0], ["x", 0])
    order("order_descending", "layer 1 before layer 0", ["x", 1], ["x", 0])
    order("order_unknown", "order names an unknown field", ["x", 0], ["y", 1])
    many = [{"name": f"c{i}", "type": "int64"} for i in range(257)]
    schema("columns_257", "257 user columns", lambda s, f, c: s.update(columns=many))
    fields = [raw(f"f{i}", [1]) for i in range(17)]
    pairs = [[f"f{i}", 0] for i in range(17)]
    schema("fields_17", "17 fields", lambda s, f, c: s.update(fields=fields, order=pairs))
    data = ChunkData({"x": FieldData([[1] * 4], mask=[b""])})
    add("patch_without_bit", "16", "a field has a patch, bit 0 is not set", assemble(
        schema_of([raw("x", [2, 2], patch=2)]), [data], header={"incompatible_features": 0}
    ))  # fmt: skip


def domain_vectors(add):
    """Section 10.3: the domain of lsq."""

    def domain(name, text, value, error="corrupt", section="10.3"):
        schema = schema_of([lsq("x", [3], [4], value)], [("label", "int64")])
        add("domain_" + name, section, text, with_schema(schema), error)

    def normalized(mean, std):
        return {"kind": "normalized", "mean": mean, "std": std}

    domain("unknown", "an unknown domain", {"kind": "logarithmic"}, "unsupported")
    domain("unknown_member", "an unknown member", {"kind": "unit", "peak": "2"}, "unsupported")
    domain("mean_of_unit", "domain unit with a mean", {"kind": "unit", "mean": ["0"], "std": ["1"]})
    domain("std_missing", "domain normalized without std", {"kind": "normalized", "mean": ["0"]})
    domain("count", "two means for a last dimension of 3", normalized(["0", "1"], ["1", "1"]))
    domain("lengths", "three means, one std", normalized(["0", "0", "0"], ["1"]))
    add("domain_patch", "10.3", "a patch and a mean for each index of the second dimension",
        with_schema(schema_of([lsq("x", [3, 3], [4], normalized(["0"] * 3, ["1"] * 3), patch=2)],
                              [("label", "int64")])))  # fmt: skip
    domain("number", "a mean that is not a string", normalized([0], ["1"]))
    domain("std_zero", "std 0", normalized(["0"], ["0.0"]))
    domain("std_underflow", "std that rounds to 0 in binary32", normalized(["0"], ["1e-60"]))
    domain("std_negative", "a negative std", normalized(["0"], ["-1"]))
    domain("mean_overflow", "a mean that is infinite in binary32", normalized(["1e39"], ["1"]))
    for name, text in (("nan", "nan"), ("plus", "+1"), ("point", ".5"), ("blank", " 1")):
        domain(f"decimal_{name}", f"{text!r} as a decimal string", normalized([text], ["1"]),
               section="2")  # fmt: skip


def table_vectors(add):
    """Section 7."""

    def table(name, text, section="7", **values):
        add("table_" + name, section, text, base(table=values))

    def chunk(name, text, section="7", **values):
        shard = base()
        for member, value in values.items():
            setattr(shard.chunks[0], member, value)
        add(name, section, text, shard)

    table("segment_count", "segment_count 4 for order of two pairs", segment_count=4)
    table("zone_count", "zone_count 2 for one numeric column", zone_count=2)
    table("block_nbytes_odd", "block_nbytes 5000", block_nbytes=5000)
    table("block_nbytes_small", "block_nbytes 2048", block_nbytes=2048)
    table("block_nbytes_large", "block_nbytes 131072", block_nbytes=131072)
    table("chunk_count_limit", "chunk_count 2^20 + 1", chunk_count=2**20 + 1)
    table("chunk_count_huge", "chunk_count 2^20 in a table of two chunks", chunk_count=2**20)
    add("table_trailing_byte", "7", "one byte after the chunk table", base(table_end=b"\x00"))
    shard = changed(1)
    shard.sections[1].data = shard.sections[1].data[:-1]
    add("table_short", "7", "the last byte of the chunk table is missing", shard)
    chunk("chunk_empty", "a chunk of 0 samples", sample_count=0)
    chunk("chunk_of_4097", "a chunk of 4097 samples", sample_count=4097)
    segments = base().chunks[0].segments
    chunk("segment_limit", "a segment above 2^30 bytes", segment_nbytes=[2**30 + 1, 0, 0],
          block_crcs=[])  # fmt: skip
    chunk("segment_digest", "a segment_digest is wrong", digests=[bytes(16)] * 3)
    crcs = [crc32c(segment) for segment in segments]
    chunk("block_crc", "a block_crc is wrong", block_crcs=[crcs[0], crcs[1] ^ 1, crcs[2]])
    for name, pair in (("minimum", (2, 8)), ("maximum", (3, 9)), ("swapped", (8, 3))):
        chunk(
            f"zone_{name}", f"zone {pair} of a column of 3 and 8", zones=[struct.pack("<2q", *pair)]
        )
    schema = schema_of([affine("x", [3])], [("weight", "float64")])
    data = FieldData([[1, 2, 3]], [2], [1.0], [0.0])
    shard = assemble(schema, [ChunkData({"x": data}, {"weight": [0.5]})])
    shard.chunks[0].zones = [struct.pack("<2d", float("nan"), 0.5)]
    add("zone_nan", "7", "NaN as the minimum of a zone", shard)


GROUPS = (
    header_vectors, directory_vectors, json_vectors, schema_vectors, domain_vectors, table_vectors,
)  # fmt: skip
