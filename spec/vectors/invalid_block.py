"""Invalid vectors: the quantizer `block` (sections 6, 7.1, 9.5, 10.6 and annex A)."""

from __future__ import annotations

import builder
from assembly import ChunkData, affine, assemble, block, block_data, schema_of
from block_model import ABSENT, CONTEXTS, BlockModel, LayerTables, one_table, quiet_model
from block_writer import BlockPicture, stream
from builder import constant, rans_layer
from expected import FieldData

FLAT = [0] * 30  # a table of all symbols


def tiny(layers=1, **more):
    """A model of blocks of 4 x 4 whose only table has all symbols."""
    tables = [one_table(FLAT, CONTEXTS[min(layer, 1)]) for layer in range(layers)]
    return BlockModel(tables, **{"sizes": (0, 0)} | more)


def coded(symbols, layer=0):
    """A stream of these symbols (context, t) or (None, bits, raw) for `tiny`."""
    return stream(symbols, one_table(FLAT, CONTEXTS[min(layer, 1)]).starts())


DC, END = (2912, 0), (0, 1)
DC_BIT = 1470  # of a luma block of 4 x 4 without neighbours
STREAM = coded([DC, END])
SEGMENT = rans_layer([STREAM], 1, len(STREAM), 0)


def with_block(*segments, model=None, samples=1, field=None, content=None, **more):
    """Samples of 4 x 4 pixels, their segments, and the model, or other bytes in its place."""
    layers = max(1, len(segments))
    model, field = model or tiny(layers), field or block("x", [4, 4], layers)
    rest = [] if None in field["shape"] else None
    data = block_data(model, [BlockPicture(4, 4)] * samples, shape=rest)
    data.rans = dict(enumerate(segments))
    content = {} if content is None else {"models": {"x": content}}
    return assemble(schema_of([field]), [ChunkData({"x": data})], **content, **more)


def field_vectors(add):
    """Sections 6, 10.2 and 10.6: what a field says."""

    def field(name, text, section, layers=1, /, **members):
        schema = schema_of([block("x", [8, 8, 3], layers) | members], order=[("x", 0)])
        add("block_" + name, section, text, assemble(schema, []))

    field("float32", "block of dtype float32", "10.2", dtype="float32")
    field("five_layers", "five layers", "6", 5)
    field("layers_2", "a layer of two bits", "6", layers=[1, 2])
    field("patch", "block with the side of patches", "6", patch=4)
    field("dimensions_1", "one dimension", "10.6", shape=[8])
    field("dimensions_4", "four dimensions", "10.6", shape=[2, 8, 8, 3])
    field("height_0", "height 0", "10.6", shape=[0, 8, 3])
    field("width_4097", "width 4097", "10.6", shape=[8, 4097, 3])
    field("channels_0", "no channels", "10.6", shape=[8, 8, 0])
    field("channels_65", "65 channels", "10.6", shape=[8, 8, 65])
    field("channels_null", "a number of channels that varies", "10.6", shape=[8, 8, None])


def index_vectors(add):
    """Sections 10.2 and 10.6: what the index says."""
    for name, qp in (("176", 176), ("negative", -1)):
        shard = with_block(SEGMENT)
        shard.chunks[0].segments[0] = constant("int64", qp)
        add(f"block_qp_{name}", "10.2", f"qp {qp}", shard)
    for name, side in (("0", 0), ("4097", 4097)):
        shard = with_block(SEGMENT, field=block("x", [None, 4]))
        shard.chunks[0].segments[0] = constant("int64", side) + constant("int64", 64)
        add(f"block_side_{name}", "10.6", f"a sample of height {side}", shard)


def model_vectors(add):
    """Sections 7.1, A.6 and A.7."""

    def bad(name, text, model, section="A.6", **more):
        content = model.content() if isinstance(model, BlockModel) else model
        add("block_model_" + name, section, text, with_block(SEGMENT, content=content, **more))

    def table(name, text, *tables, moves=((CONTEXTS[0], None),), length=None):
        layer = LayerTables(list(tables), list(moves), length)
        bad("table_" + name, text, BlockModel([layer], sizes=(0, 0)), "A.7")

    shard = with_block(SEGMENT)
    shard.extra, shard.header = [], {}
    add("block_without_model", "7.1", "a field of block without a model, and samples", shard)
    shard = assemble(
        schema_of([block("x", [4, 4]), affine("y", [1])]),
        [ChunkData({
            "x": block_data(tiny(), [BlockPicture(4, 4)], rans={0: SEGMENT}),
            "y": FieldData([[1]], [1], [1.0], [0.0]),
        })],
    )  # fmt: skip
    shard.extra[0].data = builder.models_content([(1, builder.model(builder.LayerModel(bits=1)))])
    add("block_without_own_model", "7.1", "only another field has a model", shard)
    bad("channels", "three planes for one channel", tiny(planes=3), "7.1")
    bad("layers", "two layers for one of the field", tiny(2), "7.1")
    good = tiny().content()
    bad("short", "a model of 3 bytes", good[:3])
    bad("planes_0", "no planes", b"\x00" + good[1:])
    bad("planes_65", "65 planes", tiny(planes=65), field=block("x", [4, 4, 64]))
    bad("flags", "a reserved flag", tiny(flags=4))
    bad("rgb", "rgb with two planes", tiny(planes=2, flags=1), field=block("x", [4, 4, 2]))
    bad("sizes", "the smallest size above the largest", tiny(sizes=(1, 0)))
    bad("sizes_4", "a largest size of 64", tiny(sizes=(0, 4)))
    bad("layers_0", "no layers", tiny(layer_count=0))
    bad("layers_5", "five layers", tiny(5))
    bad("channel_offset", "a channel_offset of 4096", tiny(channel_offsets=[4096]))
    bad("weight_0", "a weight of 0", tiny(weights=[64] * 15 + [0]))
    bad("weights_64", "weights that are all 64", tiny(weights=[64] * 16))
    for name, offset in (("low", -9), ("high", 32)):
        bad(f"offset_{name}", f"an offset of {offset}", tiny(offsets=[[0] * 6 + [offset]]))
    bad("offsets_cut", "ends within the offsets", good[:9])
    bad("end", "one byte after the tables", tiny(end=b"\x00"))
    quiet = quiet_model(sizes=(0, 0)).content()
    bad("spare_bits", "a spare bit is set", quiet[:-1] + bytes([quiet[-1] | 1]))
    bad("tables_cut", "ends within the tables", good[:-1], "A.7")
    bad("tables_missing", "no bits of tables", good[:13], "A.7")
    table("256", "256 tables", *[[0]] * 256)
    table("length_31", "a table of length 31", [0] * 31)
    table("length_negative", "a table of length -1", [], length=-1)
    table("high", "z of 41", [41])
    table("low", "z of -42", [ABSENT - 1])
    table("zeros", "a number with 20 zeros", [2**19])
    table("run", "a run past the last context", [0], moves=[(CONTEXTS[0] + 1, None)])
    rest = CONTEXTS[0] - 1
    table("number", "table 1 of one", [0], moves=[(0, 1), (rest, None)])
    table("number_negative", "table -1", [0], moves=[(0, -1), (rest, None)])


def segment_vectors(add):
    """Sections 9.3.1 and 9.5; the usual segment is one stream of two symbols."""

    def bad(name, text, *segments, section="9.3", **more):
        add("block_" + name, section, text, with_block(*segments, **more))

    bad("segment_missing", "a segment of 0 bytes", b"", section="9.5")
    bad("packed", "coding 0", b"\x00" + bytes(16), section="9.5")
    bad("per_stream_0", "R = 0", rans_layer([STREAM], 0))
    bad("per_stream_4097", "R = 4097", rans_layer([STREAM], 4097))
    bad("lengths_long", "the lengths exceed the segment", rans_layer([STREAM], 1, 9, 0, b""))
    bad("stream_missing", "one stream where two samples need two", SEGMENT, samples=2)
    bit = coded([(DC_BIT, 1)], 1)
    bad("per_stream_differs", "R = 2 in layer 0, 1 in layer 1",
        rans_layer([coded([DC, END] * 2)], 2), rans_layer([bit] * 2, 1), samples=2,
        section="9.5")  # fmt: skip
    bad("layer_missing", "layer 1 has 0 bytes", SEGMENT, b"", section="9.5")
    stream_vectors(bad)


def stream_vectors(bad):
    """Sections A.4 and A.8."""

    def one(name, text, symbols, section="A.8", **more):
        data = symbols if isinstance(symbols, bytes) else coded(symbols)
        bad("stream_" + name, text, rans_layer([data], 1), section=section, **more)

    one("state", "the state is not 0 after the last sample", [DC, END, (2912, 3)])
    one("runs_on", "a stream with a word after its end", STREAM + bytes([1, 0, 0, 0]))
    long = [(2912, 31), (None, 13, 8191), (0, 26), (None, 14, 9999), (2960, 1), (0, 5), END]
    one("cut", "a stream without its last byte", coded(long)[:-1])
    one("symbol_27", "symbol 27 of a code", [DC, (0, 27), END], section="A.4")
    one("symbol_escaped", "symbol 31 of a code, escaped", [DC, (0, 31), END], section="A.4")
    further = rans_layer([coded([(DC_BIT, 0), (0, 3)], 1)], 1)
    bad("stream_symbol_3", "symbol 3 of a code in layer 1", SEGMENT, further, section="A.4")
    further = rans_layer([coded([(DC_BIT, 0), (0, 1), (0, 1)], 1)], 1)
    bad("stream_further_state", "the state of layer 1 is not 0 after the last sample", SEGMENT,
        further, section="A.8")  # fmt: skip


GROUPS = (field_vectors, index_vectors, model_vectors, segment_vectors)
