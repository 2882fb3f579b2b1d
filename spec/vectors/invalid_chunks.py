"""Invalid vectors: index columns, layers, quantizers, masks, keys, limits (sections 2, 8 to 15)."""

from __future__ import annotations

import math
import struct

import builder
from assembly import ChunkData, affine, assemble, raw, schema_of
from builder import (
    PLAIN,
    column,
    constant,
    dictionary,
    frame_of_reference,
    keys_content,
    plain,
    quotient,
    stored_frame,
    var,
    zstd_column,
    zstd_layer,
)  # fmt: skip
from expected import FieldData, binary32
from frames import compressed_frame
from samples import base, with_affine, with_column, with_layer, with_lsq, with_mask

SMALL = [3, 1, 2]


def index_vectors(add):
    """Section 8: columns as a whole."""

    def bad(name, text, kind, encoded, values=SMALL):
        add("column_" + name, "8", text, with_column(kind, encoded, values))

    good = plain("int64", SMALL)
    bad("trailing_byte", "one byte after the last column of the index", "int64", good + b"\x00")
    bad("past_end", "nbytes of the last column exceeds the segment", "int64",
        good[:1] + struct.pack("<I", len(good)) + good[5:])  # fmt: skip
    bad("huge", "nbytes of 4 GiB", "int64", good[:1] + b"\xff" * 4 + good[5:])
    shard = with_column("int64", b"")
    add("column_missing", "8", "an index segment of 0 bytes that should hold a column", shard)
    bad("encoding_7", "encoding 7", "int64", column(7, good[5:]))
    bad("constant_short", "CONSTANT of 4 bytes for int64", "int64", column(0, bytes(4)))
    bad("constant_utf8", "CONSTANT of invalid UTF-8", "utf8", column(0, b"\xff"), "abc")
    bad("plain_short", "PLAIN with one byte too few", "int64", column(PLAIN, good[5:-1]))
    bad("plain_long", "PLAIN with one byte too many", "int64", column(PLAIN, good[5:] + b"\x00"))
    bad("plain_utf8", "PLAIN of utf8", "utf8", column(PLAIN, b"abc"), "abc")
    bad("for_float", "FOR of float64", "float64", frame_of_reference(SMALL, 2), [3.0, 1.0, 2.0])
    bad("for_width_0", "FOR of width 0", "int64", frame_of_reference([3] * 3, 0), [3] * 3)
    bad("for_width_57", "FOR of width 57", "int64", frame_of_reference(SMALL, 57))
    top = 2**63 - 1
    bad("for_overflow", "a FOR value above the largest i64", "int64",
        frame_of_reference([top - 1, top, top + 1], 2), [top - 1, top, top])  # fmt: skip
    bad("for_short", "FOR with one byte too few", "int64", column(2, frame_of_reference(
        [0, 1, 255], 8)[5:-1]), [0, 1, 255])  # fmt: skip
    bad("var_int64", "VAR of int64", "int64", column(4, constant("int64", 8) + bytes(24)), [0] * 3)
    nested_vectors(bad, add)
    quotient_vectors(bad)
    for name, data in (
        ("overlong", b"\xc0\xaf"), ("surrogate", b"\xed\xa0\x80"), ("cut", b"\xe2\x82"),
        ("above", b"\xf4\x90\x80\x80"),
    ):  # fmt: skip
        values = var("bytes", [b"ok", data, b"ok"])
        bad(f"utf8_{name}", f"utf8 value {data.hex()}", "utf8", values, "abc")
    spare = frame_of_reference(SMALL, 2)
    add("column_for_spare_bits", "9.1", "spare bits of a FOR column are not zero",
        with_column("int64", spare[:-1] + bytes([spare[-1] | 0x80])))  # fmt: skip


def quotient_vectors(bad):
    """Section 8: QUOTIENT."""

    def one(name, text, encoded, kind="float32"):
        bad("quotient_" + name, text, kind, encoded, [3.0, 1.0, 2.0])

    good = plain("int64", SMALL)
    for name, divisor in (
        ("0", 0.0),
        ("negative", -1.0),
        ("infinite", math.inf),
        ("nan", math.nan),
    ):
        one(f"divisor_{name}", f"QUOTIENT with divisor {divisor}", quotient(divisor, good))
    one("numerator", "a numerator of 2^53 + 1", quotient(1.0, plain("int64", [3, 1, 2**53 + 1])))
    one("lowest", "a numerator of -2^63", quotient(1.0, plain("int64", [3, 1, -(2**63)])))
    one("float64", "QUOTIENT of float64", quotient(1.0, good), "float64")
    one("of_dict", "numerators in encoding DICT", quotient(1.0, dictionary(good, 3, [0, 1, 2])))
    one("of_float", "numerators of 4 bytes", quotient(1.0, plain("float32", [3.0, 1.0, 2.0])))
    one("short", "QUOTIENT of 7 bytes", column(6, bytes(7)))
    one(
        "trailing_byte",
        "one byte after the numerators",
        column(6, quotient(1.0, good)[5:] + b"\x00"),
    )


def nested_vectors(bad, add):
    """Section 8: DICT, VAR and ZSTD."""
    entries, texts = plain("int64", SMALL), var("utf8", ["a", "b", "c"])
    picks = [0, 1, 2]
    bad("dict_empty", "DICT of 0 values", "int64", dictionary(column(PLAIN, b""), 0, [], 0))
    four = plain("int64", [3, 1, 2, 0])
    bad("dict_large", "DICT of 4 values for 3 samples", "int64", dictionary(four, 4, picks))
    bad(
        "dict_index", "a DICT index of 3 among 3 values", "int64", dictionary(entries, 3, [0, 1, 3])
    )
    bad("dict_width", "DICT width 3 where 2 is enough", "int64", dictionary(entries, 3, picks, 3))
    bad("dict_of_constant", "a nested column of encoding CONSTANT in DICT", "int64",
        dictionary(constant("int64", 3), 1, [0] * 3), [3] * 3)  # fmt: skip
    bad("dict_of_dict", "DICT within DICT", "int64", dictionary(
        dictionary(entries, 3, picks), 3, picks))  # fmt: skip
    bad("dict_of_zstd", "ZSTD within DICT", "int64", dictionary(
        zstd_column(entries, stored_frame(entries[5:])), 3, picks))  # fmt: skip
    bad("dict_trailing_byte", "one byte after the indexes of DICT", "int64",
        column(3, dictionary(entries, 3, picks)[5:] + b"\x00"))  # fmt: skip
    bad("var_negative", "a length of -1 in VAR", "utf8",
        var("utf8", ["a", "b", "c"], plain("int64", [1, -1, 3])), "abc")  # fmt: skip
    bad("var_long", "lengths of VAR exceed its values", "utf8",
        var("utf8", ["a", "b", "c"], plain("int64", [1, 1, 2])), "abc")  # fmt: skip
    bad("var_short", "bytes after the last value of VAR", "utf8",
        var("utf8", ["a", "b", "c"], plain("int64", [1, 1, 0])), "abc")  # fmt: skip
    bad("var_huge", "a length of 2^62 in VAR", "bytes",
        var("bytes", [b"a", b"b", b"c"], plain("int64", [1, 1, 2**62])), "abc")  # fmt: skip
    bad("var_of_dict", "lengths of VAR in encoding DICT", "utf8", var(
        "utf8", ["a", "b", "c"], dictionary(plain("int64", [1]), 1, [0] * 3)), "abc")  # fmt: skip
    frame = stored_frame(texts[5:])
    for inner in (0, 5, 6):
        payload = struct.pack("<BI", inner, len(texts) - 5) + frame
        bad(
            f"zstd_inner_{inner}",
            f"ZSTD of inner encoding {inner}",
            "utf8",
            column(5, payload),
            "abc",
        )
    frame = stored_frame(b"\x03")
    bad("zstd_inner_short", "the frame of ZSTD holds a PLAIN column cut short", "int64",
        zstd_column(column(PLAIN, b"\x03"), frame))  # fmt: skip
    encoded = zstd_column(texts, stored_frame(texts[5:]), inner_nbytes=len(texts))
    add("column_zstd_nbytes", "2", "inner nbytes of ZSTD differs from the size its frame states",
        with_column("utf8", encoded, "abc"))  # fmt: skip


def layer_vectors(add):
    """Section 9; the usual layer holds 1, 2, 3 in 4 bits: 00 21 03."""

    def bad(name, text, segment, section="9", **more):
        add("layer_" + name, section, text, with_layer(segment, **more))

    good = bytes([0x00, 0x21, 0x03])
    bad("missing", "a layer segment of 0 bytes that should hold values", b"")
    bad("coding_3", "coding 3", b"\x03" + good[1:])
    bad("coding_255", "coding 255", b"\xff" + good[1:])
    bad("packed_short", "packed data with one byte too few", good[:-1])
    bad("packed_long", "packed data with one byte too many", good + b"\x00")
    bad("packed_spare_bits", "spare bits of packed data are not zero", b"\x00\x21\x13", "9.1")
    bad("unwanted", "a coding byte where all samples have no values", b"\x00",
        codes=[[]])  # fmt: skip
    shard = with_affine([[1, 2, 3]], [4], plan=[4])
    shard.chunks[0].segments[2] = b"\x00"
    add("layer_unwanted_last", "9", "a coding byte in a layer of 0 bits", shard)
    values = bytes([1, 2, 3])
    frame = stored_frame(values)
    bad("zstd_good_but_long", "one byte after the last frame", zstd_layer([frame], 1) + b"\x00")
    bad("zstd_value", "a value of 16 in 4 bits", zstd_layer([stored_frame(b"\x01\x02\x10")], 1))
    wide = stored_frame(struct.pack("<3H", 1, 2, 1 << 9))
    bad("zstd_value_wide", "a value of 512 in 9 bits", zstd_layer([wide], 1), bit_width=[9])
    bad("zstd_per_frame_0", "R = 0", zstd_layer([frame], 0))
    bad("zstd_per_frame_4097", "R = 4097", zstd_layer([frame], 4097))
    bad("zstd_too_few_frames", "one frame where two samples need two", zstd_layer([frame], 1),
        codes=[[1, 2, 3]] * 2, bit_width=[4] * 2)  # fmt: skip
    bad("zstd_lengths_long", "the lengths of frames exceed the segment",
        b"\x01" + struct.pack("<2I", 1, len(frame) + 1) + frame)  # fmt: skip
    bad(
        "zstd_lengths_huge", "a length of 4 GiB", b"\x01" + struct.pack("<2I", 1, 2**32 - 1) + frame
    )
    bad("zstd_frame_missing", "a frame of length 0 that should hold values",
        zstd_layer([frame, b""], 1), codes=[[1, 2, 3]] * 2, bit_width=[4] * 2)  # fmt: skip
    shard = with_affine([[1, 2, 3], [1, 2, 3]], [8, 4], plan=[4])
    shard.chunks[0].segments[2] = zstd_layer([frame, stored_frame(b"")], 1)
    add("layer_zstd_frame_unwanted", "9", "a frame where a sample has no bits in the layer", shard)


def frame_vectors(add):
    """Section 2: zstd frames; the content is that of a layer, 01 02 03."""

    def bad(name, text, frame):
        add("frame_" + name, "2", text, with_layer(zstd_layer([frame], 1)))

    values = bytes([1, 2, 3])
    good = stored_frame(values)
    xxh64 = bytes.fromhex("a5e54e0c")  # of 01 02 03, the low half
    bad(
        "checksum",
        "a zstd frame with a checksum, a right one",
        stored_frame(values, checksum=xxh64),
    )
    bad("unsized", "a zstd frame that states no content size", stored_frame(values, sized=False))
    bad(
        "dictionary_id",
        "a zstd frame with a dictionary ID",
        stored_frame(values, dictionary_id=True),
    )
    bad("too_small", "a zstd frame of 2 bytes, 3 expected", stored_frame(values[:2]))
    bad("too_large", "a zstd frame of 4 bytes, 3 expected", stored_frame(values + b"\x01"))
    bad("states_less", "states 3 bytes, holds 4", stored_frame(values + b"\x01", stated=3))
    bad("states_more", "states 3 bytes, holds 2", stored_frame(values[:2], stated=3))
    bad("magic", "the magic of the frame is wrong", b"\x29" + good[1:])
    bad(
        "reserved_bit", "the reserved bit of the frame header is set", good[:4] + b"\xa8" + good[5:]
    )
    bad("cut", "the last byte of the frame is missing", good[:-1])
    bad("trailing_byte", "one byte after the frame", good + b"\x00")
    bad(
        "two", "two frames of together 3 bytes", stored_frame(values[:2]) + stored_frame(values[2:])
    )
    bad("skippable", "a skippable frame before the frame", b"\x50\x2a\x4d\x18" + bytes(4) + good)
    bad(
        "block_type_3",
        "a block of the reserved type 3",
        good[:9] + bytes([good[9] | 6]) + good[10:],
    )
    frame = stored_frame(b"", stated=2**20)
    data = FieldData([[0]], [1], [1.0], [0.0])
    shard = assemble(schema_of([affine("x", [2**20])]), [ChunkData({"x": data})])
    shard.chunks[0].segments[1] = zstd_layer([frame], 1)
    add("frame_bomb", "2", "1 MiB expected and stated, more than 32768 times the frame", shard)


def quantizer_vectors(add):
    """Sections 10.2 and 10.3."""

    def bad(name, text, shard, section="10.2"):
        add("quantizer_" + name, section, text, shard)

    nan, inf = float("nan"), float("inf")
    codes = [[0, 1, 2]]
    bad("affine_width_0", "affine with bit_width 0", with_affine(codes, [0]))
    bad("affine_width_17", "affine with bit_width 17", with_affine(codes, [17]))
    bad("affine_width_negative", "affine with bit_width -1", affine_width(-1))
    bad("affine_width_huge", "affine with bit_width 2^62", affine_width(2**62))
    bad("lsq_width_1", "lsq with bit_width 1", with_lsq([[0, 1, 0]], [1], [1]))
    bad("lsq_width_17", "lsq with bit_width 17", with_lsq(codes, [17], [0]))
    bad("lsq_signed_2", "signed 2", with_lsq(codes, [4], [2]))
    bad("lsq_code", "the code 2^b - 1 of a signed lsq sample", with_lsq([[0, 15, 2]], [4], [1]))
    for name, scale in (("nan", nan), ("infinite", inf), ("negative", -1.0)):
        bad(
            f"affine_scale_{name}",
            f"affine with scale {scale}",
            with_affine(codes, [4], scale=scale),
        )
        bad(f"lsq_scale_{name}", f"lsq with scale {scale}", with_lsq(codes, [4], [1], scale=scale))
    for name, offset in (("nan", nan), ("infinite", -inf)):
        shard = with_affine(codes, [4], offset=offset)
        bad(f"affine_offset_{name}", f"affine with offset {offset}", shard)
    domain = {"kind": "normalized", "mean": ["0"], "std": ["1e30"]}
    shard = with_lsq([[7, 7, 7]], [4], [1], scale=binary32(1e30), domain=domain)
    bad("gain_overflow", "scale * std is infinite; code 0 times it would be NaN", shard, "10.3")


def affine_width(bit_width):
    """One affine sample whose index alone says `bit_width`."""
    shard = with_affine([[0, 1, 2]], [4])
    index = shard.chunks[0].segments[0]
    good = constant("int64", 4)
    shard.chunks[0].segments[0] = index.replace(good, constant("int64", bit_width), 1)
    return shard


def mask_vectors(add):
    """Section 11: 6 patches, of which the last is the single pixel kept."""
    add("mask_long", "11", "a mask of 2 bytes for 6 patches", with_kept(b"\x20\x00"))
    add("mask_spare_bits", "11", "a spare bit of a mask is set", with_kept(b"\x60"))
    data = FieldData([[9] * 35], mask=[bytes([1])])  # 9 patches of 2 x 2 at most
    shard = assemble(schema_of([raw("x", [5, 7], patch=2)]), [ChunkData({"x": data})])
    add("mask_short", "11", "a mask of 1 byte for 12 patches", shard)


def with_kept(mask):
    shard = with_mask(bytes([0b100000]))
    index = shard.chunks[0].segments[0]
    if index != constant("bytes", bytes([0b100000])):
        raise ValueError("the index should be the mask alone")
    shard.chunks[0].segments[0] = constant("bytes", mask)
    return shard


def key_vectors(add):
    """Section 12: two chunks with the keys a, b and c."""

    def bad(name, text, *parts, tail=b"", section="12", **more):
        parts = parts or (var("utf8", ["a", "b"]), constant("utf8", "c"))
        add("keys_" + name, section, text, base(keys=keys_content(parts, **more) + tail))

    two, one = var("utf8", ["a", "b"]), constant("utf8", "c")
    bad("chunk_count", "keys of three chunks for two", two, one, one)
    bad("chunk_count_huge", "chunk_count 2^32 - 1", chunk_count=2**32 - 1)
    empty = assemble(schema_of([raw("x", [1])]), [], keys=keys_content([], chunk_count=2))
    add("keys_of_no_chunks", "12", "chunk_count 2 in a shard without chunks", empty)
    bad("part_crc", "the checksum of a part is wrong", crcs=[builder.crc32c(two), 0])
    bad("trailing_byte", "one byte after the last part", tail=b"\x00")
    bad("part_trailing_byte", "one byte after the column of a part", two + b"\x00", one)
    bad("empty", "an empty key", var("utf8", ["a", ""]), one)
    bad("long", "a key of 4097 bytes", two, constant("utf8", "é" * 2048 + "c"))
    bad("duplicate", "a key occurs twice", two, constant("utf8", "a"))
    bad("too_few", "one key for two samples", var("utf8", ["a"]), one, section="8")
    bad("utf8", "a key of invalid UTF-8", two, constant("bytes", b"\xfe"), section="8")
    shard = base()
    shard.sections = shard.usual_sections()
    content = shard.keys
    keys = shard.sections[2]
    keys.data, keys.coding, keys.raw_nbytes = stored_frame(content), 1, len(content)
    add("keys_coding", "12", "KEYS stored as a zstd frame", shard)


def limit_vectors(add):
    """Section 15: sizes that must be refused before anything is allocated."""

    def dims(name, text, field, **values):
        chunk = ChunkData({"x": FieldData([[0]] * 2, **values)})
        add("limit_" + name, "15", text, assemble(schema_of([field]), [chunk]))

    dims("values_fixed", "a shape of 2^29 values", raw("x", [2**28, 2]))
    dims("values_variable", "a sample of 2^40 values", raw("x", [None, 2**20]),
         shape=[[2**20, 2**20]] * 2)  # fmt: skip
    dims("values_chunk", "two samples of 2^28 values in a chunk", raw("x", [None]),
         shape=[[2**28]] * 2)  # fmt: skip
    dims("dimension_negative", "a dimension of -1", raw("x", [None, None]), shape=[[-1, -1]] * 2)
    dims("dimension", "a dimension of 2^62 beside one of 0", raw("x", [None, None]),
         shape=[[2**62, 0]] * 2)  # fmt: skip
    dims("values_zero", "dimensions of 2^28 twice beside one of 0", raw("x", [None] * 3),
         shape=[[2**28, 2**28, 0]] * 2)  # fmt: skip
    add("limit_shape", "15", "a shape of 2^29 values in the schema of no samples",
        assemble(schema_of([raw("x", [2**15, None, 2**14])]), []))  # fmt: skip
    large = dictionary(var("bytes", [b"a" * 2**17]), 1, [0] * 4096)
    encoded = zstd_column(large, compressed_frame(large[5:]))
    field = raw("x", [0])
    chunk = ChunkData({"x": FieldData([[]] * 4096)}, {"c": ([b""] * 4096, encoded)})
    add("limit_column", "15", "4096 times a value of 128 KiB in one column",
        assemble(schema_of([field], [("c", "bytes")]), [chunk]))  # fmt: skip


GROUPS = (
    index_vectors, layer_vectors, frame_vectors, quantizer_vectors, mask_vectors, key_vectors,
    limit_vectors,
)  # fmt: skip
