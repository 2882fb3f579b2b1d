"""Valid vectors of coding 2 (format.md, sections 7.1 and 9.3), each a function as in valid.py."""

from __future__ import annotations

import random

import builder
from assembly import ChunkData, affine, lsq, raw, schema_of, valid_vector
from builder import LayerModel, even_stream, rans_layer
from expected import FieldData, binary32
from models import frozen_segment

PIXEL = binary32(1 / 255)


def slope(rows, columns, channels, top, seed):
    """Codes up to `top` that look like a picture: smooth, with a little noise and an edge."""
    source = random.Random(seed)
    noise = max(1, top // 40)
    smooth = [
        top * (3 * x + 2 * y + 4 * c + 9 * (x > y)) // 60
        for y in range(rows)
        for x in range(columns)
        for c in range(channels)
    ]
    return [min(top, max(0, code + source.randint(-noise, noise))) for code in smooth]


def rans_by_hand():
    samples = [[1, 2, 3, 4], [7, 7, 7, 7], [5, 10, 0, 15]]
    streams = [even_stream(samples[0] + samples[1], 4), even_stream(samples[2], 4)]
    data = FieldData(
        samples, [4] * 3, [0.5] * 3, [-1.0] * 3, rans={0: rans_layer(streams, 2, 2, 3)}
    )
    return valid_vector(
        "rans_by_hand",
        "the plainest model: no weights, one table of 16 equal frequencies; the last stream is "
        "that of section 18.4",
        schema_of([affine("x", [4])]), [ChunkData({"x": data})],
        models={"x": builder.model(LayerModel())},
    )  # fmt: skip


def rans_empty_streams():
    table = [[0] * 5 + [80] + [0] * 10]
    data = FieldData([[5] * 6] * 3, [4] * 3, [1.0] * 3, [0.0] * 3,
                     rans={0: rans_layer([b""] * 2, 2, 0, 0)})  # fmt: skip
    return valid_vector(
        "rans_empty_streams",
        "a table of one symbol: it costs nothing, and streams have 0 bytes",
        schema_of([affine("x", [2, 3])]), [ChunkData({"x": data})],
        models={"x": builder.model(LayerModel(tables=table))},
    )  # fmt: skip


def rans_one_layer():
    codes = [slope(7, 6, 3, 15, seed) for seed in range(3)]
    data = FieldData(codes, [4] * 3, [binary32(1 / 15)] * 3, [0.0, 0.25, -0.5], rans={0: 2})
    return valid_vector(
        "rans_one_layer", "affine codes of 4 bits in one layer, three channels, two streams",
        schema_of([affine("image", [7, 6, 3], (), "uint8")]), [ChunkData({"image": data})],
    )  # fmt: skip


def rans_three_layers():
    codes = [slope(6, 7, 3, 255, seed) for seed in (4, 5)]
    data = FieldData(codes, [8] * 2, [PIXEL] * 2, [0.0] * 2, rans={0: 1, 1: 2, 2: 4096})
    return valid_vector(
        "rans_three_layers",
        "8-bit pictures in layers 4 | 2 | 2, each in the light of those before",
        schema_of([affine("image", [6, 7, 3], [4, 2], "uint8")]), [ChunkData({"image": data})],
    )  # fmt: skip


def rans_classes():
    codes, plan = [slope(6, 9, 1, 63, seed) for seed in (40, 41, 42)], [4]
    codes[2] = [63 * (i % 3 > 0) for i in range(54)]
    first = LayerModel(0, 4, 5, [2, 9, 14], [0, 0, -512, 0, 0, 0, 1024, 3000, 64, 0, 0, 3])
    second = LayerModel(4, 2, -3, [5, 6, 7, 9, 11, 30, 100], [300, -200] * 5 + [500] * 8 + [-9] * 6)
    model = builder.model(first, second)
    samples = [([6, 9], 6, sample) for sample in codes]
    segments = {layer: frozen_segment(model, plan, samples, layer, 2) for layer in (0, 1)}
    data = FieldData(codes, [6] * 3, [1.0] * 3, [0.0] * 3, rans=segments)
    return valid_vector(
        "rans_classes",
        "a model with 4 classes in layer 0 and 8 in layer 1, whose weights and biases differ",
        schema_of([affine("x", [6, 9], plan)]), [ChunkData({"x": data})], models={"x": model},
    )  # fmt: skip


def rans_among_codings():
    codes = [slope(5, 5, 1, top, seed) for top, seed in ((1023, 6), (255, 7), (1023, 8), (7, 9))]
    data = FieldData(
        codes, [10, 8, 10, 3], [0.5] * 4, [0.0] * 4, rans={1: 3, 3: 1},
        frames={2: (2, builder.stored_frame)},
    )  # fmt: skip
    return valid_vector(
        "rans_among_codings",
        "layers 3 | 2 | 3 | rest as packed, rANS, zstd, rANS; samples without bits in the later "
        "ones, whose streams have 0 bytes",
        schema_of([affine("x", [5, 5, 1], [3, 2, 3])]), [ChunkData({"x": data})],
    )  # fmt: skip


def rans_lsq_widths():
    widths, signed = [2, 4, 6, 9, 12, 16, 8, 8], [1, 0, 1, 0, 1, 1, 1, 0]
    limits = [2**b - 2 if s else 2 ** (b - 1) - 1 for b, s in zip(widths, signed, strict=True)]
    codes = [slope(4, 5, 1, limit, seed) for seed, limit in enumerate(limits, 10)]
    scale = [binary32(1 / (2 ** (b - 1) - 1)) for b in widths]
    data = FieldData(codes, widths, scale, signed=signed, rans={0: 3, 1: 8})
    return valid_vector(
        "rans_lsq_widths",
        "grey pictures of lsq codes of 2 to 16 bits, signed and not, layers 5 | rest: raw bits",
        schema_of([lsq("image", [4, 5], [5])]), [ChunkData({"image": data})],
    )  # fmt: skip


def rans_shapes():
    shapes = [[1, 1, 2], [1, 6, 2], [6, 1, 2], [0, 5, 2], [3, 4, 2], [2, 0, 2]]
    codes = [slope(*shape, 63, seed) for seed, shape in enumerate(shapes)]
    data = FieldData(codes, [6] * 6, [1.0] * 6, [0.0] * 6, shape=shapes, rans={0: 2, 1: 6})
    return valid_vector(
        "rans_shapes",
        "variable height and width: one pixel, one row, one column, none; layers 1 | 5",
        schema_of([affine("image", [None, None, 2], [1])]), [ChunkData({"image": data})],
    )  # fmt: skip


def rans_several_fields():
    fields = [
        affine("video", [2, 3, 4], [6]), raw("target", [1]), affine("grid", [2, 2, 2, 4]),
        lsq("vector", [9], [3]), affine("number", []),
    ]  # fmt: skip
    chunks = []
    for seed in (20, 30):
        n = 3 if seed == 20 else 1
        codes = {
            "video": [slope(6, 1, 4, 255, seed + i) for i in range(n)],
            "target": [[i] for i in range(n)],
            "grid": [slope(4, 2, 4, 127, seed + i) for i in range(n)],
            "vector": [slope(1, 9, 1, 62, seed + i) for i in range(n)],
            "number": [[seed + i] for i in range(n)],
        }
        zeros, ones, streams = [0.0] * n, [1.0] * n, {0: 2}
        chunks.append(ChunkData({
            "video": FieldData(codes["video"], [8] * n, ones, zeros, rans={0: 2, 1: 2}),
            "target": FieldData(codes["target"]),
            "grid": FieldData(codes["grid"], [7] * n, ones, zeros, rans=streams),
            "vector": FieldData(codes["vector"], [6] * n, ones, signed=[1] * n, rans={1: 1}),
            "number": FieldData(codes["number"], [5] * n, ones, zeros, rans=streams),
        }))  # fmt: skip
    return valid_vector(
        "rans_several_fields",
        "models of four fields of 0 to 4 dimensions beside a raw one, in two chunks",
        schema_of(fields), chunks,
    )  # fmt: skip


def masked(shape, patch, mask, codes):
    """The codes that a mask keeps, a string of 0 and 1 for each patch; and the mask as bytes."""
    across, row, channels = -(-shape[1] // patch), shape[1] * shape[2], shape[2]
    kept = [
        code
        for place, code in enumerate(codes)
        if mask[place // row // patch * across + place % row // channels // patch] == "1"
    ]
    return kept, int(mask[::-1], 2).to_bytes(-(-len(mask) // 8), "little")


def rans_masks_by_hand():
    samples = [[1, 2, 3, 4], [7, 9], []]
    streams = [even_stream(samples[0] + samples[1], 4), b""]
    data = FieldData(
        samples, [4] * 3, [0.5] * 3, [0.0] * 3, mask=[b"", bytes([0b1010]), bytes(1)],
        rans={0: rans_layer(streams, 2, 0, 3)},
    )  # fmt: skip
    return valid_vector(
        "rans_masks_by_hand",
        "patch masks and the plainest model: what is left out has no symbols",
        schema_of([affine("x", [2, 2], patch=1)]), [ChunkData({"x": data})],
        models={"x": builder.model(LayerModel())},
    )  # fmt: skip


def rans_masks():
    shapes = [[5, 7, 3], [4, 6, 3], [5, 4, 3], [3, 3, 3], [2, 5, 3], [4, 4, 3]]
    grids = ["010111011010", "111111", "000101", "0000", "111", "0011"]
    parts = [
        masked(shape, 2, mask, slope(*shape, 255, seed))
        for seed, (shape, mask) in enumerate(zip(shapes, grids, strict=True), 50)
    ]
    codes, masks = [kept for kept, _ in parts], [mask for _, mask in parts]
    masks[4] = b""
    data = FieldData(codes, [8] * 6, [PIXEL] * 6, [0.0] * 6, shape=shapes, mask=masks,
                     rans={0: 2, 1: 1, 2: 6})  # fmt: skip
    return valid_vector(
        "rans_masks",
        "patch masks on 8-bit pictures in layers 4 | 2 | 2: the first pixel, a first row and "
        "column, all or nothing left out",
        schema_of([affine("image", [None, None, 3], [4, 2], "uint8", patch=2)]),
        [ChunkData({"image": data})],
    )  # fmt: skip


VALID = [
    rans_by_hand, rans_empty_streams, rans_one_layer, rans_three_layers, rans_classes,
    rans_among_codings, rans_lsq_widths, rans_shapes, rans_several_fields,
    rans_masks_by_hand, rans_masks,
]  # fmt: skip
