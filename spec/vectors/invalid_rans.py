"""Invalid vectors: models and segments in coding 2 (sections 5.2, 7.1, 9.3 and 16)."""

from __future__ import annotations

import struct

import builder
from assembly import ChunkData, affine, assemble, lsq, raw, schema_of
from builder import LayerModel, Section, even_stream, models_content, rans_layer
from expected import FieldData
from frames import compressed_frame

VALUES = [5, 10, 0, 15]
STREAM = even_stream(VALUES, 4)
SEGMENT = rans_layer([STREAM], 1)
MODEL = builder.model(LayerModel())
GRADES = [8] * 16


def with_rans(segment, model=MODEL, *, samples=1, bit_width=4, codes=VALUES, field=None, **more):
    """Samples of one affine field whose only layer is `segment`, and the model of the field."""
    n = samples
    data = FieldData([list(codes)] * n, [bit_width] * n, [1.0] * n, [0.0] * n, rans={0: segment})
    field = field or affine("x", [len(codes)])
    return assemble(schema_of([field]), [ChunkData({"x": data})], models={"x": model}, **more)


def with_models(content):
    """The same with other bytes in `MODL`."""
    shard = with_rans(SEGMENT)
    shard.extra[0].data = content
    return shard


def section_vectors(add):
    """Sections 5.2 and 16: `MODL` in the directory, bit 1 of the features."""

    def section(name, text, error="corrupt", **values):
        shard = with_rans(SEGMENT)
        for member, value in values.items():
            setattr(shard.extra[0], member, value)
        add("section_models_" + name, "5.2", text, shard, error)

    section("optional", "MODL without the required flag", flags=0)
    section("in_tail", "MODL in the tail", tail=True)
    shard = with_rans(SEGMENT, header={"incompatible_features": 0})
    add("models_without_bit", "16", "MODL is there, bit 1 is not set", shard)
    shard = with_rans(SEGMENT)
    shard.extra[0] = Section(b"NEWS", MODEL)
    add("models_bit_alone", "16", "bit 1 is set, there is no MODL", shard)


def model_vectors(add):
    """Section 7.1."""

    def content(name, text, data, error="corrupt"):
        add("models_" + name, "7.1", text, with_models(data), error)

    def model(name, text, *layers, error="corrupt", end=b"", **values):
        data = builder.model(*(layers or [LayerModel()]), **values) + end
        add("model_" + name, "7.1", text, with_models(models_content([(0, data)])), error)

    def table(name, text, tables, moves=()):
        model(name, text, LayerModel(tables=tables, moves=list(moves)))

    content("field_1", "a model of field 1 of one field", models_content([(1, MODEL)]))
    content("twice", "two models of a field", models_content([(0, MODEL)] * 2))
    content("short", "the last byte is missing", models_content([(0, MODEL)])[:-1])
    content("end", "4 bytes after the last model", models_content([(0, MODEL)]) + bytes(4))
    long = models_content([(0, MODEL.ljust(2**18 + 1))])
    shard = with_models(compressed_frame(long))
    shard.extra[0].coding, shard.extra[0].raw_nbytes = 1, len(long)
    add("models_limit", "7.1", "a model of 2^18 + 1 bytes", shard)
    content("empty_model", "a model of 0 bytes", models_content([(0, b"")]))
    shard = assemble(
        schema_of([raw("x", [1]), affine("y", [4])]),
        [ChunkData({"x": FieldData([[1]]), "y": FieldData([VALUES], [4], [1.0], [0.0])})],
        models={"x": MODEL},
    )  # fmt: skip
    add("models_of_raw", "7.1", "a model of a raw field", shard)
    model("version", "version 2 of a model", error="unsupported", version=2)
    model("trailing_byte", "one byte after the last bit of a model", end=b"\x00")
    bits = MODEL[:-1] + bytes([MODEL[-1] | 1])
    content("spare_bits", "a spare bit of a model is set", models_content([(0, bits)]))
    model("above", "a layer of 2 bits below 15", LayerModel(15, 2))
    model("order", "layer models that do not ascend", LayerModel(0, 4), LayerModel(0, 2))
    model("order_twice", "a layer model twice", LayerModel(0, 4), LayerModel(0, 4))
    model("weights", "weights of 32768 in sum", LayerModel(weight=[16384, *[0] * 10, -16384]))
    model("bias", "a bias of 65536", LayerModel(bias=65536))
    model("border", "a border of 2^21", LayerModel(borders=[5, 2**21]))
    model("threshold", "T_13 = 4096", LayerModel(thresholds=[0] * 13 + [4096]))
    model("number", "a number with 25 zeros", LayerModel(thresholds=[2**27] * 14))
    table("tables_257", "257 tables", [GRADES] * 257)
    table("grade", "grade 81", [[81] + [8] * 15])
    table("grade_negative", "grade -1", [[-1] + [8] * 15])
    table("table_empty", "a table without a symbol", [[0] * 16])
    contexts = 16 * 69
    pair = [GRADES, [8] * 15 + [7]]
    table(
        "table_unused", "the second of two tables is nowhere in the map", pair, [(contexts, None)]
    )
    table("map_run", "a run past the last context", pair, [(contexts + 1, None)])
    three = [*pair, [8] * 14 + [7] * 2]
    table("map_table", "table 3 of three", three, [(0, 1), (0, 2), (0, 3), (contexts - 3, None)])


def segment_vectors(add):
    """Section 9.3; the usual segment is one stream of the values 5, 10, 0, 15."""

    def bad(name, text, segment, model=MODEL, section="9.3", **more):
        add("rans_" + name, section, text, with_rans(segment, model, **more))

    shard = with_rans(SEGMENT)
    shard.extra, shard.header = [], {}
    add("rans_without_model", "9.3", "coding 2 in a shard without models", shard)
    data = {"x": FieldData([VALUES], [4], [1.0], [0.0]),
            "y": FieldData([VALUES], [4], [1.0], [0.0], rans={0: SEGMENT})}  # fmt: skip
    shard = assemble(schema_of([affine("x", [4]), affine("y", [4])]), [ChunkData(data)],
                     models={"x": MODEL})  # fmt: skip
    add("rans_without_own_model", "9.3", "coding 2 in a field without a model", shard)
    data["x"].rans, data["y"] = {0: SEGMENT}, FieldData([VALUES], rans={0: SEGMENT})
    shard = assemble(schema_of([affine("x", [4]), raw("y", [4])]), [ChunkData(data)],
                     models={"x": MODEL})  # fmt: skip
    add("rans_of_raw", "9.3", "coding 2 of a raw field", shard)
    bad("without_layer_model", "3 bits, the model has 4", rans_layer([even_stream([5], 3)], 1),
        bit_width=3, codes=[5])  # fmt: skip
    bad("channels", "three channels, the model has one", SEGMENT, codes=[5, 10, 0],
        field=affine("x", [1, 1, 3]))  # fmt: skip
    samples = FieldData([VALUES, VALUES[:1]], [4] * 2, [1.0] * 2, [0.0] * 2,
                        mask=[b"", b"\x02"], rans={0: rans_layer([STREAM] * 2, 1)})  # fmt: skip
    shard = assemble(schema_of([affine("x", [2, 2], patch=1)]), [ChunkData({"x": samples})],
                     models={"x": MODEL})  # fmt: skip
    add("rans_mask", "9.3", "symbols of values that a mask leaves out", shard)
    bad("header_short", "6 bytes of data", SEGMENT[:7])
    bad("per_stream_0", "R = 0", rans_layer([STREAM], 0))
    bad("per_stream_4097", "R = 4097", rans_layer([STREAM], 4097))
    bad("width_33", "lengths of 33 bits", rans_layer([STREAM], 1, 0, 33))
    bad("spare_bits", "a spare bit of the lengths is set",
        rans_layer([STREAM], 1, 2, 3, bytes([0x81])), section="9.1")  # fmt: skip
    bad("lengths_missing", "the lengths of three streams are cut",
        b"\x02" + struct.pack("<HIB", 1, 0, 32) + bytes(11), samples=3)  # fmt: skip
    bad("lengths_long", "the lengths exceed the segment", rans_layer([STREAM], 1, 4, 0, b""))
    bad("lengths_huge", "a length of 2^33 - 2",
        rans_layer([STREAM], 1, 2**32 - 1, 32, b"\xff" * 4))  # fmt: skip
    bad("lengths_short", "a byte after the last stream", SEGMENT + b"\x00")
    bad("state", "a stream that has not come to its end after the last value",
        rans_layer([even_stream([*VALUES, 1], 4)], 1))  # fmt: skip
    bad("runs_on", "a stream that runs on after the last value",
        rans_layer([STREAM + bytes(4)], 1))  # fmt: skip
    bad("bytes_left", "the state ends at 0, two bytes of the stream are left",
        rans_layer([bytes(14)], 1), codes=[0] * 4)  # fmt: skip
    bad("stream_cut", "a stream without its last byte", rans_layer([STREAM[:-1]], 1))
    bad("unwanted", "a segment of empty streams where no sample has values",
        rans_layer([b""], 1, 0, 0), section="9", codes=[])  # fmt: skip
    data = FieldData([VALUES], [4], [1.0], signed=[1], rans={0: SEGMENT})
    shard = assemble(schema_of([lsq("x", [4])]), [ChunkData({"x": data})],
                     models={"x": MODEL})  # fmt: skip
    add("rans_code", "10.2", "the code 2^b - 1 of a signed lsq sample", shard)
    table = [[80] + [0] * 15]
    bomb = builder.model(LayerModel(tables=table))
    data = FieldData([[0]], [4], [1.0], [0.0], rans={0: rans_layer([b""], 1, 0, 0)})
    shard = assemble(schema_of([affine("x", [2**20])]), [ChunkData({"x": data})],
                     models={"x": bomb})  # fmt: skip
    add("rans_bomb", "9.3", "2^20 values that cost nothing, more than 32768 times 7 bytes", shard)
    data = FieldData([[0] * 2**16], [4], [1.0], [0.0], mask=[b"\x01"],
                     rans={0: rans_layer([b""], 1, 0, 0)})  # fmt: skip
    shard = assemble(schema_of([affine("x", [2**9, 2**9], patch=256)]), [ChunkData({"x": data})],
                     models={"x": bomb})  # fmt: skip
    add("rans_mask_bomb", "9.3", "2^16 values kept of 2^18, more than 32768 times 7 bytes", shard)
    wide = FieldData([[0]], [4], [1.0], [0.0], rans={0: rans_layer([bytes(40)], 1)})
    shard = assemble(schema_of([affine("x", [2**20 + 1])]), [ChunkData({"x": wide})],
                     models={"x": bomb})  # fmt: skip
    add("rans_wide_row", "9.3", "a row of 2^20 + 1 values, and 40 bytes", shard)


GROUPS = (section_vectors, model_vectors, segment_vectors)
