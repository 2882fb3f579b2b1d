"""Valid vectors of the quantizer `patch` (7.2, 9.4, 10.5), each a function as in valid.py."""

from __future__ import annotations

import random

import builder
from assembly import ChunkData, patches, schema_of, valid_vector
from builder import LayerModel, Section, even_stream, groups_content, rans_layer, stored_frame
from expected import FieldData, binary32
from frames import compressed_frame


def groups_of(count, seed):
    """Scale and offset of so many groups."""
    source = random.Random(seed)
    scale = [binary32(source.uniform(0, 0.02)) for _ in range(count)]
    return scale, [binary32(source.uniform(-0.2, 0.9)) for _ in range(count)]


def patch_data(shapes, bit_width, groups, seed, *, patch, mask=None, counts=None, **more):
    """Seeded codes and group ids; `counts` are (values, patches) where a mask leaves some out."""
    source, codes, ids = random.Random(seed), [], []
    for i, shape in enumerate(shapes):
        values, channels = shape[0] * shape[1], shape[2] if len(shape) == 3 else 1
        kept = -(-shape[0] // patch) * -(-shape[1] // patch) if values * channels else 0
        values *= channels
        values, kept = counts[i] if counts else (values, kept)
        codes.append([source.randrange(2 ** bit_width[i]) for _ in range(values)])
        ids.append([source.randrange(len(groups[0])) for _ in range(kept)])
    mask = mask or [b""] * len(shapes)
    return FieldData(codes, bit_width, mask=mask, groups=groups, group_ids=ids, **more)


def one_field(name, description, field, *datas, order=None, **more):
    """A vector of one field x, a chunk for each of `datas`."""
    chunks = [ChunkData({"x": data}) for data in datas]
    return valid_vector(name, description, schema_of([field], order=order), chunks, **more)


def patch_one_group():
    widths = list(range(1, 9))
    data = patch_data([[3, 1, 3]] * 8, widths, groups_of(1, 1), 1, patch=2)
    return one_field(
        "patch_one_group", "one group: ids take 0 bytes; 1 to 8 bits in layers 2 | 2 | rest; "
        "smaller patches at the edges",
        patches("x", [3, 1, 3], [2, 2], "uint8", patch=2), data,
    )  # fmt: skip


def patch_three_groups():
    groups = [0.25, binary32(0.1), 3.0], [-1.0, 0.0, binary32(1e6)]
    data = patch_data([[4, 5]] * 3, [4, 6, 8], groups, 2, patch=2)
    return one_field(
        "patch_three_groups", "ids of 2 bits, packed; two dimensions; float32",
        patches("x", [4, 5], [3], patch=2), data,
    )  # fmt: skip


def patch_zstd():
    shapes = [[6, 6, 1], [1, 9, 2], [8, 3, 1], [3, 2, 3]]
    data = patch_data(shapes, [5, 2, 8, 7], groups_of(257, 3), 3, patch=3, shape=shapes,
                      id_frames={0: (2, stored_frame)}, frames={1: (3, stored_frame)})  # fmt: skip
    return one_field(
        "patch_zstd", "257 groups: ids of 9 bits in zstd frames, two bytes each; shapes vary; "
        "samples of fewer bits", patches("x", [None] * 3, [4], "uint8", patch=3), data,
    )  # fmt: skip


def patch_65536_groups():
    groups = [0.0] * 65535 + [0.5], [0.0] * 65534 + [0.25, -1.0]
    data = FieldData([[1, 2, 3], [0, 3, 1]], [2, 2], mask=[b""] * 2, groups=groups,
                     group_ids=[[65535, 0, 65534], [1, 65535, 65535]])  # fmt: skip
    content = groups_content([(0, *groups)])
    field = patches("x", [1, 3], patch=1)
    shard = one_field("", "", field, data)
    schema = builder.canonical_json(schema_of([field]))
    sections = [
        Section(b"SCHM", schema, 1),
        Section(b"GRPS", compressed_frame(content), 1, 1, len(content)),
        Section(b"CHNK", table_of(shard), 1),
    ]
    return one_field(
        "patch_65536_groups", "65536 groups in a zstd frame, ids of 16 bits", field, data,
        sections=sections,
    )  # fmt: skip


def table_of(vector):
    """The content of CHNK of a vector whose sections are all stored."""
    for at in range(64, len(vector.data), 40):
        if vector.data[at : at + 4] == b"CHNK":
            offset, nbytes = (
                int.from_bytes(vector.data[at + i : at + i + 8], "little") for i in (8, 16)
            )
            return vector.data[offset : offset + nbytes]
    raise ValueError("no CHNK")


def patch_masks():
    # 5 x 4 x 2 in patches of 3: a grid of 2 x 2, the right and lower patches are smaller.
    masks = [bytes([0b0110]), bytes([0b1000]), b"", bytes([0]), bytes([0b1111])]
    counts = [(18, 2), (4, 1), (40, 4), (0, 0), (40, 4)]
    data = patch_data([[5, 4, 2]] * 5, [6, 8, 3, 4, 5], groups_of(5, 4), 4, patch=3, mask=masks,
                      counts=counts, id_frames={0: (4096, stored_frame)})  # fmt: skip
    return one_field(
        "patch_masks", "patch masks: left-out patches have no group id, and values 0",
        patches("x", [5, 4, 2], [4], "uint8", patch=3), data,
    )  # fmt: skip


def patch_rans_by_hand():
    ids, codes = [[1, 2, 3, 0], [2, 2, 0, 1]], [[1, 0, 1, 1] * 4, [0, 1] * 8]
    id_streams = [even_stream(ids[0] + ids[1], 2)]
    streams = [even_stream(sample, 1) for sample in codes]
    data = FieldData(
        codes, [1, 1], mask=[b""] * 2, groups=groups_of(4, 5), group_ids=ids,
        rans={0: rans_layer(streams, 1)}, id_rans={0: rans_layer(id_streams, 2)},
    )  # fmt: skip
    models = [builder.model(LayerModel(bits=bits)) for bits in (2, 1)]
    return one_field(
        "patch_rans_by_hand", "the plainest models of group ids and of codes",
        patches("x", [4, 4], patch=2), data, models={"x": builder.patch_models(*models)},
    )  # fmt: skip


def patch_rans():
    shapes = [[3, 5, 3], [4, 3, 3]]
    chunks = [
        patch_data([shape] * 2, [6, 4], groups_of(9, 6), seed, patch=2, shape=[shape] * 2,
                   rans={0: 2, 1: 1}, id_rans={0: 2})
        for seed, shape in enumerate(shapes)
    ]  # fmt: skip
    return one_field(
        "patch_rans", "models of ids and codes, two layers, two chunks",
        patches("x", [None, None, 3], [3], "uint8", patch=2), *chunks,
    )  # fmt: skip


def patch_rans_masks():
    masks = [bytes([0b0110]), b"", bytes([0b1011]), bytes([0])]
    data = patch_data([[5, 4, 2]] * 4, [5] * 4, groups_of(5, 4), 11, patch=3, mask=masks,
                      counts=[(18, 2), (40, 4), (28, 3), (0, 0)],
                      rans={0: 2, 1: 4}, id_rans={0: 3})  # fmt: skip
    return one_field(
        "patch_rans_masks", "patch masks, ids and codes in coding 2, two layers",
        patches("x", [5, 4, 2], [3], patch=3), data,
    )  # fmt: skip


def patch_rans_alone():
    fields = [patches(name, [3, 4], [2], patch=2) for name in ("ids", "codes")]
    data = {
        "ids": patch_data([[3, 4]] * 2, [3] * 2, groups_of(6, 7), 7, patch=2, id_rans={0: 1}),
        "codes": patch_data([[3, 4]] * 2, [3] * 2, groups_of(6, 7), 7, patch=2, rans={1: 2}),
    }
    return valid_vector(
        "patch_rans_alone", "a field with a model of its group ids alone, one of its codes alone",
        schema_of(fields), [ChunkData(data)],
    )  # fmt: skip


def patch_constant():
    groups = [0.0, 0.0, 0.0, binary32(3e38)], [0.5, -0.25, 1.5, binary32(1e38)]
    codes = [0, 1, 2, 3, 3, 2, 1, 0] + [0] * 6 + [1, 3]
    data = FieldData([codes], [2], mask=[b""], groups=groups, group_ids=[[0, 1, 2, 3]])
    return one_field(
        "patch_constant", "groups of scale 0, below 0 and above 1; one that overflows to infinity",
        patches("x", [2, 8], [1], "uint8", patch=2), data,
    )  # fmt: skip


def patch_no_values():
    shapes = [[0, 5, 1], [3, 0, 1], [4, 4, 0], [2, 3, 2]]
    masks = [b"", b"", b"\x01", bytes([0b10])]
    counts = [(0, 0), (0, 0), (0, 0), (4, 1)]
    first = patch_data(shapes, [4] * 4, groups_of(2, 8), 8, patch=2, mask=masks, shape=shapes,
                       counts=counts)  # fmt: skip
    second = patch_data(shapes[:3], [8] * 3, groups_of(2, 8), 9, patch=2, shape=shapes[:3])
    return one_field(
        "patch_no_values", "samples without values, which have no group ids, among others; a "
        "chunk of nothing else",
        patches("x", [None] * 3, [2], patch=2), first, second,
    )  # fmt: skip


def patch_reduced():
    fields = [patches(name, [3, 4], [1, 2], "uint8", patch=2) for name in "ab"]
    data = {
        name: patch_data([[3, 4]] * 2, [7, 2], groups_of(4 - 3 * number, 11), number, patch=2)
        for number, name in enumerate("ab")
    }
    return valid_vector(
        "patch_reduced", "two fields with groups of their own, without their last layers",
        schema_of(fields, order=[("b", 0), ("a", 0), ("a", 1)]), [ChunkData(data)],
    )  # fmt: skip


VALID = [
    patch_one_group, patch_three_groups, patch_zstd, patch_65536_groups, patch_masks,
    patch_rans_by_hand, patch_rans, patch_rans_masks, patch_rans_alone, patch_constant,
    patch_no_values, patch_reduced,
]  # fmt: skip
