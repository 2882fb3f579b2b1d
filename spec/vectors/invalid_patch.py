"""Invalid vectors: the quantizer `patch` (sections 5.2, 6, 7.1, 7.2, 9.4, 10.5 and 16)."""

from __future__ import annotations

import math
import struct

import builder
from assembly import ChunkData, affine, assemble, patches, schema_of
from builder import (
    LayerModel,
    Section,
    constant,
    even_stream,
    groups_content,
    models_content,
    patch_models,
    rans_layer,
    stored_frame,
)
from expected import FieldData

GROUPS_OF_3 = ([1.0, 0.5, 0.25], [0.0, 1.0, 2.0])
ENTRY = (0, *GROUPS_OF_3)
IDS = [2, 0, 1, 2]
CODES = [1, 0, 3, 2]
PACKED_IDS = b"\x00" + builder.pack_bits(IDS, 2)
PACKED_CODES = b"\x00" + builder.pack_bits(CODES, 2)


def with_patches(layer=None, *, groups=GROUPS_OF_3, masks=(b"",), shape=None, model=None, **more):
    """A sample of 2 x 2 pixels, each a patch, of two bits; `layer` is its whole segment."""
    n = len(masks)
    data = FieldData([CODES] * n, [2] * n, mask=list(masks), groups=groups, group_ids=[IDS] * n)
    models = {"models": {"x": model}} if model is not None else {}
    field = patches("x", shape or [2, 2], patch=1)
    shard = assemble(schema_of([field]), [ChunkData({"x": data})], **models, **more)
    if layer is not None:
        shard.chunks[0].segments[1] = layer
    return shard


def layer_of(ids, codes=PACKED_CODES):
    """Section 9.4."""
    return struct.pack("<I", len(ids)) + ids + codes


def field_vectors(add):
    """Sections 6, 10.2 and 10.5."""

    def field(name, text, section, /, **members):
        field = patches("x", [8, 8], [4], patch=2) | members
        schema = schema_of([{k: v for k, v in field.items() if v != "none"}], order=[("x", 0)])
        add("patch_" + name, section, text, assemble(schema, []))

    field("side_missing", "quantizer patch without the side of its patches", "6", patch="none")
    field("int16", "patch of dtype int16", "10.2", dtype="int16")
    field("dimensions_4", "four dimensions", "10.5", shape=[8, 8, 3, 2])
    for width in (0, 9):
        shard = with_patches()
        index = shard.chunks[0].segments[0]
        good, wrong = constant("int64", 2), constant("int64", width)
        shard.chunks[0].segments[0] = index.replace(good, wrong)
        add(f"patch_width_{width}", "10.2", f"patch with bit_width {width}", shard)


def section_vectors(add):
    """Sections 5.2, 7.2 and 16: `GRPS`."""

    def section(name, text, **values):
        shard = with_patches()
        for member, value in values.items():
            setattr(shard.extra[0], member, value)
        add("section_groups_" + name, "5.2", text, shard)

    def content(name, text, data):
        shard = with_patches()
        shard.extra[0].data = data
        add("groups_" + name, "7.2", text, shard)

    def one(name, text, scale=1.0, offset=0.0):
        content(name, text, groups_content([(0, [1.0, 1.0, scale], [0.0, 0.0, offset])]))

    section("optional", "GRPS without the required flag", flags=0)
    section("in_tail", "GRPS in the tail", tail=True)
    add("groups_without_bit", "16", "GRPS is there, bit 2 is not set",
        with_patches(header={"incompatible_features": 1}))  # fmt: skip
    shard = with_patches()
    shard.extra[0] = Section(b"NEWS", b"no groups")
    add("groups_bit_alone", "16", "bit 2 is set, there is no GRPS", shard)
    shard = with_patches(header={"incompatible_features": 1})
    shard.extra = []
    add("groups_missing", "7.2", "a field of patch, no GRPS", shard)
    data = FieldData([CODES], [2], [1.0], [0.0])
    shard = assemble(schema_of([affine("x", [4])]), [ChunkData({"x": data})],
                     groups={"x": GROUPS_OF_3})  # fmt: skip
    add("groups_of_affine", "7.2", "groups of a field of affine", shard)
    fields = [patches(name, [2, 2], patch=1) for name in "xy"]
    data = FieldData([CODES], [2], mask=[b""], groups=GROUPS_OF_3, group_ids=[IDS])
    shard = assemble(schema_of(fields), [ChunkData({"x": data, "y": data})])
    shard.extra[0].data = groups_content([ENTRY])
    add("groups_of_one", "7.2", "groups of one field of two", shard)
    content("field_1", "groups of field 1 of one field", groups_content([(1, *GROUPS_OF_3)]))
    content("twice", "a field twice", groups_content([ENTRY] * 2))
    content("none", "no groups of a field", groups_content([(0, [], [])]))
    content("count", "65537 groups in 5 bytes", struct.pack("<BI", 0, 65537))
    content("cut", "the last byte is missing", groups_content([ENTRY])[:-1])
    content("end", "4 bytes after the last field", groups_content([ENTRY]) + bytes(4))
    for name, scale in (("nan", math.nan), ("infinite", math.inf), ("negative", -0.5)):
        one(f"scale_{name}", f"a scale of {scale}", scale=scale)
    for name, offset in (("nan", math.nan), ("infinite", -math.inf)):
        one(f"offset_{name}", f"an offset of {offset}", offset=offset)
    shard = with_patches()
    shard.extra[0].coding, shard.extra[0].raw_nbytes = 1, 2**24
    add("groups_limit", "7.2", "2^24 bytes of groups", shard)


def model_vectors(add):
    """Section 7.1."""
    pixel = builder.model(LayerModel(bits=2))
    for name, text, model, error in (
        ("neither", "a model of neither ids nor codes", patch_models(b"", b""), "corrupt"),
        ("short", "a model of 3 bytes", bytes(3), "corrupt"),
        ("cut", "ids_nbytes exceeds the model", patch_models(pixel, b"")[:-1], "corrupt"),
        ("alone", "a pixel model without ids_nbytes", pixel, "corrupt"),
        ("version", "version 2 of the model of the codes",
         patch_models(pixel, builder.model(LayerModel(), version=2)), "unsupported"),
    ):  # fmt: skip
        shard = with_patches(model=pixel)
        next(s for s in shard.extra if s.kind == b"MODL").data = models_content([(0, model)])
        add(f"patch_model_{name}", "7.1", text, shard, error)


def segment_vectors(add):
    """Sections 9 and 9.4; the usual segment holds the ids 2, 0, 1, 2 and the codes 1, 0, 3, 2."""

    def bad(name, text, layer, section="9.4", **more):
        add("patch_" + name, section, text, with_patches(layer, **more))

    bad("layer_missing", "a layer 0 of 0 bytes", b"")
    bad("layer_short", "3 bytes, too few for ids_nbytes", bytes(3))
    bad("ids_long", "ids_nbytes exceeds the segment", layer_of(PACKED_IDS, b"")[:-1])
    bad("ids_missing", "no bytes of ids", layer_of(b""), "9")
    bad("ids_unwanted", "a coding byte of ids of one group", layer_of(b"\x00"), "9",
        groups=([1.0], [0.0]))  # fmt: skip
    bad("ids_trailing_byte", "one byte after the ids", layer_of(PACKED_IDS + b"\x00"), "9")
    bad("codes_missing", "no bytes of codes", layer_of(PACKED_IDS, b""), "9")
    three = b"\x00" + builder.pack_bits([2, 0, 1, 3], 2)
    bad("id_packed", "the id 3 of three groups", layer_of(three))
    bad("id_zstd", "the id 3 of three groups, in a frame",
        layer_of(builder.zstd_layer([stored_frame(bytes([2, 0, 1, 3]))], 1)))  # fmt: skip
    pixel = builder.model(LayerModel(bits=2))
    both = patch_models(pixel, pixel)
    ids = rans_layer([even_stream(IDS, 2)], 1)
    bad("id_rans", "the id 3 of three groups, in coding 2",
        layer_of(rans_layer([even_stream([2, 0, 1, 3], 2)], 1)), model=both)  # fmt: skip
    bad("ids_without_model", "ids in coding 2, a model of the codes alone", layer_of(ids), "9.3",
        model=patch_models(b"", pixel))  # fmt: skip
    bad("codes_without_model", "codes in coding 2, a model of the ids alone",
        layer_of(PACKED_IDS, rans_layer([even_stream(CODES, 2)], 1)), "9.3",
        model=patch_models(pixel, b""))  # fmt: skip
    bad("ids_layer_model", "ids of two bits, the model has three", layer_of(ids), "9.3",
        model=patch_models(builder.model(LayerModel(bits=3)), b""))  # fmt: skip
    bad("ids_state", "a stream of ids that does not come to its end",
        layer_of(rans_layer([even_stream([*IDS, 1], 2)], 1)), "9.3", model=both)  # fmt: skip
    codes = PACKED_CODES + builder.pack_bits(CODES[1:], 2)
    bad("ids_mask", "the id of a patch that a mask leaves out, in coding 2",
        layer_of(rans_layer([even_stream(IDS, 2)] * 2, 1), codes), "9.3",
        model=both, masks=(b"", b"\x0e"))  # fmt: skip
    shard = with_patches(shape=[2, 2, 0])
    shard.chunks[0].segments[1] = layer_of(b"", b"")
    add("patch_unwanted", "9", "ids_nbytes where no sample has values", shard)


GROUPS = (field_vectors, section_vectors, model_vectors, segment_vectors)
