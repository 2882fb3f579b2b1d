"""Valid vectors of the quantizer `block` (9.5, annex A), each a function as in valid.py."""

from __future__ import annotations

import builder
import numpy as np
from assembly import ChunkData, affine, block, block_data, patches, raw, schema_of, valid_vector
from block_model import BlockModel, one_table, quiet_model, varied_layer, varied_model
from block_writer import BlockPicture, random_picture
from expected import FieldData


def corner(size, values):
    """Codes of a block that are these in its low frequencies and 0 elsewhere."""
    codes = np.zeros((size, size), int)
    for v, row in enumerate(values):
        codes[v, : len(row)] = row
    return codes


def one_field(name, description, data, field, **more):
    """A vector of one chunk of one field x."""
    chunks = [ChunkData({"x": data})]
    return valid_vector(name, description, schema_of([field], **more), chunks)


def by_hand_model():
    """That of section 18.5."""
    return BlockModel([one_table([0])], sizes=(0, 0))


def block_by_hand():
    picture = BlockPicture(4, 4, 64, codes={(0, 0, 0): corner(4, [[-1]])})
    data = block_data(by_hand_model(), [picture])
    return one_field("block_by_hand", "section 18.5: one block of two symbols", data,
                     block("x", [4, 4]))  # fmt: skip


def block_of_no_bytes():
    model = quiet_model(3, 2, flags=1, channel_offsets=[1600, 2049, 0])
    pictures = [BlockPicture(40, 33, qp) for qp in (100, 3, 175)]
    zeros = builder.rans_layer([bytes(43), bytes(40), b""], 1, 0, 6)
    data = {
        "x": block_data(model, pictures, 2),
        "zeros": block_data(quiet_model(sizes=(0, 1)), [BlockPicture(8, 8)] * 3, rans={0: zeros}),
    }
    return valid_vector(
        "block_of_no_bytes", "pictures that the model expects: all streams have 0 bytes; streams "
        "of zeros, which say what those of 0 bytes say",
        schema_of([block("x", [40, 33, 3], 2), block("zeros", [8, 8])]), [ChunkData(data)],
    )  # fmt: skip


def block_grey():
    model = varied_model(1, 40)
    pictures = [random_picture(model, 37, 44, seed, qp=80) for seed in (1, 2)]
    return one_field(
        "block_grey", "two dimensions, one layer, all block sizes, sides that need padding",
        block_data(model, pictures, 2), block("x", [37, 44]),
    )  # fmt: skip


def block_two_layers():
    model = varied_model(2, 50, planes=3, flags=1, sizes=(1, 2), channel_offsets=[1900, 2100, 1700])
    pictures = [random_picture(model, 17, 9, seed, qp=90, layers=2) for seed in (3, 4)]
    return one_field(
        "block_two_layers", "red, green and blue, blocks of 8 and 16, a stream for each sample",
        block_data(model, pictures), block("x", [17, 9, 3], 2),
    )  # fmt: skip


def block_four_layers():
    weights = [*range(40, 72, 2)]
    model = varied_model(4, 60, planes=5, flags=1, weights=weights)
    pictures = [random_picture(model, 7, 12, seed, amount=2, layers=4) for seed in (6, 7)]
    return one_field(
        "block_four_layers", "five planes, the first three decorrelated, weights, four layers",
        block_data(model, pictures, 4), block("x", [7, 12, 5], 4),
    )  # fmt: skip


def block_sizes():
    fields, data = [], {}
    for s in range(4):
        model = varied_model(1, 70 + s, sizes=(s, s), planes=1 + (s == 1))
        name = f"of_{4 << s}"
        pictures = [random_picture(model, 9, 33, 8 + s, amount=1.5)]
        fields.append(block(name, [9, 33, 2] if s == 1 else [9, 33]))
        data[name] = block_data(model, pictures)
    order = [(f["name"], 0) for f in fields[::-1]]
    return valid_vector(
        "block_sizes", "four fields, each of one block size",
        schema_of(fields, order=order), [ChunkData(data)],
    )  # fmt: skip


def block_qp():
    tables = [varied_layer(2976, 80), varied_layer(1534, 81)]
    offsets = [[-8, 31, -8, 31, -8, 31, -8], [31, -8, 31, -8, 31, -8, 31]]
    model = BlockModel(tables, 2, channel_offsets=[0, 4095], offsets=offsets,
                       weights=[1, 255] * 8)  # fmt: skip
    qps = [0, 1, 15, 16, 47, 96, 120, 127, 128, 144, 159, 175]
    pictures = [
        random_picture(model, 8, 8, 12 + i, qp=qp, layers=2) for i, qp in enumerate(qps)
    ]  # fmt: skip
    return one_field(
        "block_qp", "a qp for each sample, from 0 to 175; extreme offsets and weights; 5 samples "
        "to a stream", block_data(model, pictures, 5), block("x", [8, 8, 2], 2),
    )  # fmt: skip


def block_shapes():
    model = varied_model(2, 90, planes=2)
    shapes = [(1, 1), (1, 33), (40, 3), (16, 16), (5, 66), (2, 2)]
    pictures = [
        random_picture(model, *shape, 20 + i, amount=1.5, layers=2)
        for i, shape in enumerate(shapes)
    ]  # fmt: skip
    return one_field(
        "block_shapes", "height and width vary; one stream of at most 4096 samples",
        block_data(model, pictures, 4096, [2]), block("x", [None, None, 2], 2),
    )  # fmt: skip


def block_magnitudes():
    model = varied_model(3, 100, sizes=(1, 1), planes=2)
    dc = [16383 * 4 + 1, 32766 * 4 + 1, 32767 * 4 + 1], [-16384 * 4, -32767 * 4 - 2, -32767 * 4 + 1]
    rows = [
        [[12, -13, 16, 17, -24, 25, 40, 41], [48, 51, 52, -53, 68, 69, 100], [-164, 165]],
        [[292, 293, -548, 549, 1060, 1061, 2084], [2085, 4132, -4133, 8228, 8229], [16420]],
        [[16421, 32804, -32805, 65573], [131067, 131068, -131071, 140000], [-262143]],
    ]
    pictures = [
        BlockPicture(8, 24, qp, codes={
            (0, 8 * i, plane): corner(8, [[own[i]], *rows[i]]) for i in range(3) for plane in (0, 1)
        })
        for qp, own in zip((0, 40), dc, strict=True)
    ]  # fmt: skip
    pictures.append(random_picture(model, 8, 24, 30, layers=3))
    pictures[2].tail = True
    return one_field(
        "block_magnitudes", "codes of every class up to the bound and beyond it, in three layers; "
        "blocks that end with zeros and no end symbol",
        block_data(model, pictures, 3), block("x", [8, 24, 2], 3),
    )  # fmt: skip


def block_expectations():
    model = varied_model(2, 110, sizes=(3, 3), planes=3)
    sign = np.where(np.add.outer(np.arange(8), np.arange(8)) % 3, 1, -1)
    codes = {}
    for plane, (large, small) in enumerate(((110, 3), (118, 2), (118, -2))):
        for y, x in ((0, 32), (32, 0)):
            codes[y, x, plane] = corner(32, large * sign)
        codes[32, 32, plane] = corner(32, [[9, 0, small], [0, 0, 0, small], [small, 0, small]])
    return one_field(
        "block_expectations",
        "blocks of 32 beside codes so large that from 4096 to 4347, and more, is expected",
        block_data(model, [BlockPicture(64, 64, 0, codes=codes)]), block("x", [64, 64, 3], 2),
    )  # fmt: skip


def block_64_channels():
    model = varied_model(1, 120, planes=64, sizes=(0, 0), flags=1)
    return one_field(
        "block_64_channels", "64 channels, the first three decorrelated",
        block_data(model, [random_picture(model, 3, 4, 31)]), block("x", [3, 4, 64]),
    )  # fmt: skip


def block_reduced():
    model = varied_model(4, 130, planes=3, flags=1, sizes=(0, 1))
    pictures = [random_picture(model, 8, 7, seed, layers=4) for seed in (32, 33)]
    return one_field(
        "block_reduced", "a shard with two of the four layers of its field and its model",
        block_data(model, pictures, 2), block("x", [8, 7, 3], 4), order=[("x", 0), ("x", 1)],
    )  # fmt: skip


def block_no_samples():
    fields = [block("b", [None, 5, 3], 2), patches("p", [4, 4, 3], [2], "uint8", patch=4)]
    return valid_vector(
        "block_no_samples", "fields of block and patch without samples: no model, but groups",
        schema_of(fields), [], groups={"p": ([0.5, 2.0], [0.0, -1.0])},
    )  # fmt: skip


def block_among_fields():
    fields = [
        patches("p", [2, 4], [2], "uint8", patch=2), raw("r", [2]), block("b", [None, 8], 2),
        affine("a", [5], [3]),
    ]  # fmt: skip
    model = varied_model(2, 140, sizes=(0, 2))
    groups, chunks = ([0.25, 0.0], [0.0, 0.5]), []
    for number, n in enumerate((2, 1)):
        codes = [[(i * 5 + row + number) % 16 for i in range(8)] for row in range(n)]
        pictures = [
            random_picture(model, 6 + row, 8, 40 + number + row, layers=2) for row in range(n)
        ]
        ids = [[row % 2, 1] for row in range(n)]
        chunks.append(ChunkData({
            "p": FieldData(codes, [4] * n, mask=[b""] * n, groups=groups, group_ids=ids,
                           rans={0: 2}),
            "r": FieldData([[row, 7] for row in range(n)]),
            "b": block_data(model, pictures, 2, []),
            "a": FieldData([c[:5] for c in codes], [4] * n, [0.5] * n, [1.0] * n, rans={1: 1}),
        }, {"label": list(range(n))}, [f"{number}/{row}" for row in range(n)]))  # fmt: skip
    return valid_vector(
        "block_among_fields", "fields of four quantizers, three of them with models, two chunks",
        schema_of(fields, [("label", "int64")]), chunks,
    )  # fmt: skip


VALID = [
    block_by_hand, block_of_no_bytes, block_grey, block_two_layers,
    block_four_layers, block_sizes, block_qp, block_shapes, block_magnitudes, block_expectations,
    block_64_channels, block_reduced, block_no_samples, block_among_fields,
]  # fmt: skip
