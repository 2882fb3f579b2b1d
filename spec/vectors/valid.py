"""The valid vectors (format.md, section 19), each a function that returns one `Vector`."""

from __future__ import annotations

import random

import builder
import valid_block
import valid_patch
import valid_rans
from assembly import ChunkData, affine, assemble, lsq, raw, schema_of, valid_vector
from builder import (
    Section,
    canonical_json,
    constant,
    dictionary,
    frame_of_reference,
    plain,
    quotient,
    stored_frame,
    var,
    zstd_column,
)  # fmt: skip
from expected import FieldData, binary32
from frames import compressed_frame

PIXEL = binary32(1 / 255)


def codes_below(limits, count, seed):
    """Seeded codes: for each limit, `count` of them from 0 up to it, both ends among them."""
    source = random.Random(seed)
    return [[0, limit] + [source.randint(0, limit) for _ in range(count - 2)] for limit in limits]


def picture(rows, columns, channels, seed):
    """Bytes that look like a picture: smooth, a little noise; so that zstd finds something."""
    source = random.Random(seed)
    return [
        min(255, (x * 5 + y * 3 + c * 40 + source.randrange(4)) % 256)
        for y in range(rows)
        for x in range(columns)
        for c in range(channels)
    ]


def worked_example():
    field = affine("x", [3], [4])
    data = FieldData([[37, 2, 63]], [6], [0.5], [-1.0])
    return valid_vector(
        "worked_example", "section 18.1: one sample of three 6-bit codes in two layers",
        schema_of([field]), [ChunkData({"x": data})],
    )  # fmt: skip


def raw_one_sample():
    return valid_vector(
        "raw_one_sample", "one raw sample of two bytes; the index segment has 0 bytes",
        schema_of([raw("image", [2])]), [ChunkData({"image": FieldData([[7, 255]])})],
    )  # fmt: skip


def raw_dtypes():
    inf = float("inf")
    values = {
        "uint8": [0, 1, 255], "int8": [-128, -1, 127], "uint16": [0, 258, 65535],
        "int16": [-32768, -2, 32767], "int32": [-(2**31), 3, 2**31 - 1],
        "int64": [-(2**63), 4, 2**63 - 1], "float16": [0.5, -65504.0, inf],
        "float32": [binary32(0.1), -0.0, float("nan")], "float64": [0.1, -inf, 1e308],
    }  # fmt: skip
    fields = [raw(f"as_{dtype}", [3], dtype) for dtype in values]
    data = {f"as_{dtype}": FieldData([v, v[::-1]]) for dtype, v in values.items()}
    return valid_vector(
        "raw_dtypes", "a raw field of each of the nine dtypes", schema_of(fields), [ChunkData(data)]
    )


def affine_uint8_exact():
    pixels = [picture(4, 4, 3, 1), [0, 255] * 24, [200 + i % 8 for i in range(48)]]
    codes = [pixels[0], pixels[1], [x - 200 for x in pixels[2]]]
    data = FieldData(codes, [8, 8, 3], [PIXEL] * 3, [0.0, 0.0, binary32(200 / 255)])
    return valid_vector(
        "affine_uint8_exact", "affine codes of bytes, exact at 8 bits and for a narrow range",
        schema_of([affine("image", [4, 4, 3], [4, 2], "uint8")]), [ChunkData({"image": data})],
    )  # fmt: skip


def affine_mixed_widths():
    widths = list(range(1, 17))
    codes = codes_below([2**b - 1 for b in widths], 5, 2)
    scale = [binary32(3.7 / (2**b - 1)) for b in widths]
    offset = [binary32(-1.3 + b / 7) for b in widths]
    return valid_vector(
        "affine_mixed_widths", "16 samples of 1 to 16 bits in layers 4 | 2 | rest",
        schema_of([affine("x", [5], [4, 2])]),
        [ChunkData({"x": FieldData(codes, widths, scale, offset)})],
    )  # fmt: skip


def affine_eight_layers():
    widths = [16, 7, 8, 1]
    codes = codes_below([2**b - 1 for b in widths], 3, 3)
    data = FieldData(codes, widths, [0.25, 0.0, 1.0, 2.0], [0.0, 1.5, -1.0, 1e-30])
    data.offset[3] = binary32(1e-30)
    return valid_vector(
        "affine_eight_layers", "eight layers of one bit and the rest; scale 0; a tiny offset",
        schema_of([affine("x", [3], [1] * 7)]), [ChunkData({"x": data})],
    )  # fmt: skip


def affine_overflow():
    data = FieldData([[0, 1, 15]], [4], [binary32(3e38)], [binary32(1e38)])
    return valid_vector(
        "affine_overflow", "section 17: x overflows to infinity and is returned as such",
        schema_of([affine("x", [3], [2])]), [ChunkData({"x": data})],
    )  # fmt: skip


def lsq_unit():
    widths = [*range(2, 17), 2, 5, 8, 16]
    signed = [0] * 15 + [1] * 4
    limits = [2**b - 2 if s else 2 ** (b - 1) - 1 for b, s in zip(widths, signed, strict=True)]
    codes = codes_below(limits, 4, 4)
    scale = [binary32(1 / (2 ** (b - 1) - 1)) for b in widths]
    return valid_vector(
        "lsq_unit", "lsq of 2 to 16 bits, unsigned and signed mixed, layers 4 | 2 | rest",
        schema_of([lsq("image", [4], [4, 2], dtype="uint8")]),
        [ChunkData({"image": FieldData(codes, widths, scale, signed=signed)})],
    )  # fmt: skip


def lsq_centered():
    data = FieldData(
        codes_below([14, 254, 7], 6, 5), [4, 8, 4], [binary32(0.5 / 7), PIXEL, 0.0],
        signed=[1, 1, 0],
    )  # fmt: skip
    return valid_vector(
        "lsq_centered", "lsq in domain centered: shift 0.5; scale 0",
        schema_of([lsq("image", [2, 3], [3], {"kind": "centered"}, "uint8")]),
        [ChunkData({"image": data})],
    )  # fmt: skip


def lsq_normalized():
    domain = {
        "kind": "normalized", "mean": ["0.485", "0.456", "4.06e-1"],
        "std": ["0.229", "0.224", "0.225"],
    }  # fmt: skip
    one = {"kind": "normalized", "mean": ["-0.5"], "std": ["1E+1"]}
    colour = FieldData(
        codes_below([254, 30, 2046], 12, 6), [8, 5, 11],
        [binary32(2.64 / 127), binary32(2.1 / 15), binary32(2.5 / 1023)], signed=[1, 1, 1],
    )  # fmt: skip
    vector = FieldData(
        codes_below([7, 14, 3], 2, 7), [4, 4, 3], [binary32(0.3), 0.125, 0.0], signed=[0, 1, 0]
    )
    return valid_vector(
        "lsq_normalized", "lsq with a mean and std for each channel, and with one for all",
        schema_of([
            lsq("image", [2, 2, 3], [4, 2], domain, "uint8"), lsq("vector", [2], [], one),
        ]),
        [ChunkData({"image": colour, "vector": vector})],
    )  # fmt: skip


def zstd_several_frames():
    widths = [12, 8, 3, 9, 16]
    data = FieldData(
        codes_below([2**b - 1 for b in widths], 3, 8), widths, [0.5] * 5, [0.0] * 5,
        frames={0: (2, stored_frame), 1: (4096, stored_frame), 2: (1, stored_frame)},
    )  # fmt: skip
    return valid_vector(
        "zstd_several_frames",
        "zstd layers of 1, 2 or all samples per frame; one and two bytes per value in one frame; "
        "a sample without bits in the last layer, whose frame has length 0",
        schema_of([affine("x", [3], [3, 4])]), [ChunkData({"x": data})],
    )  # fmt: skip


def zstd_compressed():
    codes = [picture(16, 16, 3, seed) for seed in range(4)]
    data = FieldData(
        codes, [8] * 4, [PIXEL] * 4, [0.0] * 4,
        frames={layer: (3, compressed_frame) for layer in range(3)},
    )  # fmt: skip
    return valid_vector(
        "zstd_compressed", "real zstd frames: Huffman literals, FSE sequences, repeats",
        schema_of([affine("image", [16, 16, 3], [4, 2], "uint8")]),
        [ChunkData({"image": data})],
    )  # fmt: skip


def rle_frame(content):
    """One RLE block: as far as four bytes can expand."""
    block = (len(content) << 3 | 3).to_bytes(3, "little") + content[:1]
    return b"\x28\xb5\x2f\xfd\xa0" + len(content).to_bytes(4, "little") + block


def zstd_rle_frame():
    data = FieldData([[9] * (1 << 17)], frames={0: (1, rle_frame)})
    return valid_vector(
        "zstd_rle_frame", "131072 raw bytes in one RLE block of 4 bytes",
        schema_of([raw("x", [1 << 17])]), [ChunkData({"x": data})],
    )  # fmt: skip


def zstd_head():
    schema = schema_of([raw("image", [2])], [("label", "int64")])
    chunks = [
        ChunkData({"image": FieldData([[i, i + 1]])}, {"label": [i]}) for i in range(6)
    ]  # fmt: skip
    shard = assemble(schema, chunks)
    table = shard.table_content()
    sections = [
        Section(b"CHNK", compressed_frame(table), 1, 1, len(table)),
        Section(b"SCHM", compressed_frame(canonical_json(schema)), 1, 1,
                len(canonical_json(schema))),
    ]  # fmt: skip
    return valid_vector(
        "zstd_head", "chunk table and schema stored as zstd frames, the table first",
        schema, chunks, sections=sections,
    )  # fmt: skip


def column_encodings():
    """Each column in another encoding; the values are small so that they can be read off."""
    n = 6
    small = [3, 1, 2, 3, 1, 3]
    big = [-(2**62) + x * 2**53 for x in (0, 7, 1, 2, 5, 7)]
    reals = [0.5, -2.0, 0.5, 0.5, 8.0, -2.0]
    words = ["ok", "", "Grüße", "ok", "ok", ""]
    blobs = [b"\x00\xff", b"", b"a", b"a", b"", b"\x00\xff"]
    picks = [0, 1, 0, 0, 2, 1]
    word_picks, blob_picks = [0, 1, 2, 0, 0, 1], [0, 1, 2, 2, 1, 0]
    rows = {
        "constant_int64": ("int64", [-5] * n, constant("int64", -5)),
        "constant_float32": ("float32", [0.25] * n, constant("float32", 0.25)),
        "constant_float64": ("float64", [0.1] * n, constant("float64", 0.1)),
        "constant_utf8": ("utf8", ["日本"] * n, constant("utf8", "日本")),
        "constant_bytes": ("bytes", [b""] * n, constant("bytes", b"")),
        "plain_int64": ("int64", big, plain("int64", big)),
        "plain_float32": ("float32", reals, plain("float32", reals)),
        "plain_float64": ("float64", reals, plain("float64", reals)),
        "for_width_2": ("int64", small, frame_of_reference(small, 2)),
        "for_base_0": ("int64", small, frame_of_reference(small, 7, 0)),
        "for_width_56": ("int64", big, frame_of_reference(big, 56)),
        "quotient_plain": ("float32", [binary32(x / 3.0) for x in (-(2**53), 0, 5, 5, 1, 7)],
                           quotient(3.0, plain("int64", [-(2**53), 0, 5, 5, 1, 7]))),
        "quotient_for": ("float32", [binary32(x / 32385) for x in (201, 255, 254, 201, 3, 255)],
                         quotient(32385.0, frame_of_reference([201, 255, 254, 201, 3, 255], 8))),
        "quotient_constant": ("float32", [PIXEL] * n, quotient(255.0, constant("int64", 1))),
        "quotient_infinite": ("float32", [float("inf"), 0.0, float("-inf")] * 2,
                              quotient(5e-324, plain("int64", [1, 0, -1] * 2))),
        "dict_plain": ("float64", reals, dictionary(plain("float64", [0.5, -2.0, 8.0]), 3, picks)),
        "dict_for": ("int64", [9, 7, 9, 9, 8, 7],
                     dictionary(frame_of_reference([9, 7, 8], 2), 3, picks)),
        "dict_of_one": ("float32", [1.5] * n, dictionary(plain("float32", [1.5]), 1, [0] * n)),
        "dict_utf8": ("utf8", words, dictionary(var("utf8", ["ok", "", "Grüße"]), 3, word_picks)),
        "dict_bytes": ("bytes", blobs,
                       dictionary(var("bytes", [b"\x00\xff", b"", b"a"]), 3, blob_picks)),
        "var_plain": ("utf8", words, var("utf8", words)),
        "var_for": ("bytes", blobs, var("bytes", blobs, frame_of_reference([2, 0, 1, 1, 0, 2], 2))),
        "var_constant": ("bytes", [b"ab", b"cd", b"ef"] * 2,
                         var("bytes", [b"ab", b"cd", b"ef"] * 2, constant("int64", 2))),
    }  # fmt: skip
    for name in ("plain_float64", "for_base_0", "dict_utf8", "var_plain"):
        kind, values, encoded = rows[name]
        rows["zstd_" + name] = (kind, values, zstd_column(encoded, compressed_frame(encoded[5:])))
    schema = schema_of([raw("x", [])], [(name, kind) for name, (kind, _, _) in rows.items()])
    columns = {name: (values, encoded) for name, (_, values, encoded) in rows.items()}
    return valid_vector(
        "column_encodings", "every encoding of section 8 with every type and nesting it allows",
        schema, [ChunkData({"x": FieldData([[i] for i in range(n)])}, columns)],
    )  # fmt: skip


def column_values():
    nan, inf = float("nan"), float("inf")
    columns = {
        "lowest": [-(2**63), 2**63 - 1, 0],
        "single": [nan, -inf, binary32(1e-45)],
        "double": [-0.0, nan, 5e-324],
        "only_nan": [nan, nan, nan],
        "text": ["\x00", "é ﬀ 😀", ""],
        "blob": [b"\x00" * 3, b"\x80\xff", b""],
        "label": [2, 0, 1],
        "bin_id": [0, 0, 1],
        "bin_rank": [0, 1, 0],
    }
    kinds = ["int64", "float32", "float64", "float64", "utf8", "bytes", "int64", "int64", "int64"]
    described = [
        {"name": n, "type": kind} for n, kind in zip(columns, kinds, strict=True)
    ]  # fmt: skip
    described[6]["names"] = ["cat", "dog", 'a "quoted"\n name, é']
    data = {"x": FieldData([[0.5], [1.5], [2.5]])}
    return valid_vector(
        "column_values",
        "extremes of every column type, NaN left out of zones, names of a label, bin columns",
        schema_of([raw("x", [1], "float32")], described), [ChunkData(data, columns)],
    )  # fmt: skip


def several_fields():
    fields = [
        affine("image", [2, 2], [4, 2], "uint8"),
        lsq("spectrum", [4], [3]),
        raw("target", [2], "int16"),
    ]
    order = [
        ("target", 0), ("spectrum", 0), ("image", 0), ("image", 1), ("spectrum", 1), ("image", 2),
    ]  # fmt: skip
    data = {
        "image": FieldData(codes_below([255, 255, 63], 4, 9), [8, 8, 6], [PIXEL] * 3, [0.0] * 3),
        "spectrum": FieldData(
            codes_below([62, 31, 6], 4, 10), [6, 6, 3], [0.5, 0.25, 2.0], signed=[1, 0, 1]
        ),
        "target": FieldData([[1, -1], [300, -300], [0, 7]]),
    }
    return valid_vector(
        "several_fields", "fields of three quantizers whose layers interleave in a chosen order",
        schema_of(fields, [("label", "int64")], order), [ChunkData(data, {"label": [4, 5, 4]})],
    )  # fmt: skip


def reduced():
    fields = [
        affine("image", [2, 2], [4, 2], "uint8"), lsq("vector", [3], [2]), raw("label", [1]),
    ]  # fmt: skip
    order = [("image", 0), ("vector", 0), ("label", 0), ("image", 1)]
    data = {
        "image": FieldData(codes_below([255, 31, 3], 4, 11), [8, 5, 2], [PIXEL] * 3, [0.0] * 3),
        "vector": FieldData(
            codes_below([254, 127, 2], 3, 12), [8, 8, 2], [0.5, 0.25, 1.0], signed=[1, 0, 1]
        ),
        "label": FieldData([[3], [1], [2]]),
    }
    return valid_vector(
        "reduced", "a shard without the last layers of two fields: codes of few bits are complete",
        schema_of(fields, (), order), [ChunkData(data)],
    )  # fmt: skip


def variable_shapes():
    shapes = [[1, 3, 2], [2, 3, 1], [3, 3, 3]]
    codes = [codes_below([2**b - 1], b * 2 + 3, b)[0] for b in (1, 2, 3)]
    codes = [
        (sample * 9)[: shape[0] * 3 * shape[2]] for sample, shape in zip(codes, shapes, strict=True)
    ]
    text = [list("né".encode()), list(b"longer"), [33]]
    data = {
        "image": FieldData(codes, [1, 2, 3], [1.0, 0.5, 0.25], [0.0] * 3, shape=shapes),
        "text": FieldData(text, shape=[[len(t)] for t in text]),
    }
    return valid_vector(
        "variable_shapes", "dimensions 0 and 2 of a picture and the length of a raw text vary",
        schema_of([affine("image", [None, 3, None], [1]), raw("text", [None])]), [ChunkData(data)],
    )  # fmt: skip


def zero_size_samples():
    domain = {"kind": "centered"}
    first = {
        "image": FieldData(
            [[], [5, 6], []], [4, 4, 2], [1.0, 2.0, 0.0], signed=[1, 1, 0], shape=[[0], [2], [0]]
        ),
        "empty": FieldData([[]] * 3),
    }
    second = {
        "image": FieldData([[], []], [4, 8], [1.0, 2.0], signed=[1, 0], shape=[[0], [0]]),
        "empty": FieldData([[]] * 2),
    }
    return valid_vector(
        "zero_size_samples",
        "samples without values among others, a chunk of nothing else: segments of 0 bytes",
        schema_of([lsq("image", [None], [2], domain), raw("empty", [3, 0], "float64")]),
        [ChunkData(first), ChunkData(second)],
    )  # fmt: skip


def scalar_field():
    data = FieldData([[3], [9]], [4, 4], [0.5, 0.5], [1.0, 1.0])
    return valid_vector(
        "scalar_field", "a field of shape []: one value per sample",
        schema_of([affine("x", [])]), [ChunkData({"x": data})],
    )  # fmt: skip


def zero_chunks():
    return valid_vector(
        "zero_chunks", "no chunks, no samples",
        schema_of([affine("image", [2, 2], [4], "uint8")], [("label", "int64")]), [],
    )  # fmt: skip


def zero_chunks_keys():
    return valid_vector(
        "zero_chunks_keys", "no chunks, and the keys of none",
        schema_of([raw("image", [2])]), [], keys=builder.keys_content([]),
    )  # fmt: skip


def chunks_and_keys():
    keys = [["a", "train/0001.png"], ["日本語"], ["b" * 300, "ключ", "z"]]
    chunks = []
    for number, own in enumerate(keys):
        n = len(own)
        data = FieldData(
            codes_below([63] * n, 4, 20 + number), [6] * n, [0.5] * n, [float(number)] * n
        )
        labels = [number] if number == 1 else list(range(number, number + n))
        chunks.append(ChunkData({"x": data}, {"label": labels}, own))
    return valid_vector(
        "chunks_and_keys", "three chunks of 2, 1 and 3 samples with keys",
        schema_of([affine("x", [4], [4])], [("label", "int64")]), chunks,
    )  # fmt: skip


def several_blocks():
    data = FieldData([[i * 7 % 251 for i in range(9000)]])
    return valid_vector(
        "several_blocks", "a segment of 9001 bytes in blocks of 4096, the last one short",
        schema_of([raw("x", [9000])]), [ChunkData({"x": data})],
    )  # fmt: skip


def mask_raw():
    # 3 x 5 pixels in patches of 2: a grid of 2 x 3, the right and lower patches are smaller.
    masks = [bytes([0b101011]), b"", bytes([0]), bytes([0b111111])]
    kept = [[0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 14], range(15), [], range(15)]
    codes = [[1000 + p for p in places] for places in kept]
    return valid_vector(
        "mask_raw", "patch masks on raw uint16: edge patches, the empty mask, none kept, all kept",
        schema_of([raw("image", [3, 5], "uint16", patch=2)]),
        [ChunkData({"image": FieldData(codes, mask=masks)})],
    )  # fmt: skip


def mask_affine():
    # 5 x 4 x 2 in patches of 3: a grid of 2 x 2.
    masks = [bytes([0b0110]), bytes([0b1000]), b""]
    sizes = [3 * 1 * 2 + 2 * 3 * 2, 2 * 1 * 2, 40]
    codes = [codes_below([2**b - 1], size, b)[0] for b, size in zip((6, 8, 3), sizes, strict=True)]
    data = FieldData(codes, [6, 8, 3], [0.25, PIXEL, 0.125], [0.5, 0.0, 0.25], mask=masks)
    return valid_vector(
        "mask_affine", "patch masks on affine codes; left-out values are 0, not offset",
        schema_of([affine("image", [5, 4, 2], [4], "uint8", patch=3)]),
        [ChunkData({"image": data})],
    )  # fmt: skip


def mask_normalized():
    domain = {"kind": "normalized", "mean": ["0.5", "0.25", "0"], "std": ["0.5", "1", "0.125"]}
    shapes = [[2, 3, 3], [1, 1, 3], [0, 4, 3]]
    masks = [bytes([0b10]), bytes([1]), b""]
    codes = [[0, 6, 14, 1, 2, 3], [7, 8, 9], []]
    data = FieldData(codes, [4] * 3, [0.5] * 3, signed=[1] * 3, shape=shapes, mask=masks)
    return valid_vector(
        "mask_normalized", "patch masks with variable shapes and a mean for each channel",
        schema_of([lsq("image", [None, None, 3], [2], domain, patch=2)]),
        [ChunkData({"image": data})],
    )  # fmt: skip


def unknown_sections():
    extra = [
        Section(b"X0Y1", b"anything at all"),
        Section(b"GRPT", b"not read by version 1.0"),
        Section(b"ZZZZ", compressed_frame(bytes(300)), 0, 1, 300),
        Section(b"TAIL", b"also ignored", tail=True),
    ]
    data = {"x": FieldData([[1], [2]])}
    return valid_vector(
        "unknown_sections", "optional sections of unknown kind in head and tail",
        schema_of([raw("x", [1])]), [ChunkData(data, keys=["k0", "k1"])], extra=extra,
    )  # fmt: skip


def newer_minor_version():
    header = {"version_minor": 65535, "compatible_features": 1 << 63 | 1}
    return valid_vector(
        "newer_minor_version", "another minor version and unknown bits of compatible_features",
        schema_of([raw("x", [1])]), [ChunkData({"x": FieldData([[1]])})], header=header,
    )  # fmt: skip


VALID = [
    worked_example, raw_one_sample, raw_dtypes, affine_uint8_exact, affine_mixed_widths,
    affine_eight_layers, affine_overflow, lsq_unit, lsq_centered, lsq_normalized,
    zstd_several_frames, zstd_compressed, zstd_rle_frame, zstd_head, column_encodings,
    column_values, several_fields, reduced, variable_shapes, zero_size_samples, scalar_field,
    zero_chunks, zero_chunks_keys, chunks_and_keys, several_blocks, mask_raw, mask_affine,
    mask_normalized, unknown_sections, newer_minor_version, *valid_rans.VALID,
    *valid_patch.VALID, *valid_block.VALID,
]  # fmt: skip
