"""Sound shards that the invalid vectors damage."""

from __future__ import annotations

from assembly import ChunkData, affine, assemble, lsq, raw, schema_of
from expected import FieldData


def base(**more):
    """Two chunks: affine 6 bits in two layers, a label, keys."""
    schema = schema_of([affine("x", [3], [4])], [("label", "int64")])
    first = FieldData([[37, 2, 63], [0, 1, 2]], [6, 6], [0.5, 0.5], [-1.0, -1.0])
    second = FieldData([[5, 6, 7]], [6], [0.5], [-1.0])
    chunks = [
        ChunkData({"x": first}, {"label": [3, 8]}, ["a", "b"]),
        ChunkData({"x": second}, {"label": [5]}, ["c"]),
    ]
    return assemble(schema, chunks, **more)


def base_schema():
    """The schema of `base`, to be changed freely."""
    return schema_of([affine("x", [3], [4])], [("label", "int64")])


def with_column(kind, encoded, values=(3, 1, 2)):
    """Three raw samples with one user column; `values` are for its zone."""
    chunk = ChunkData({"x": FieldData([[0], [1], [2]])}, {"c": (list(values), encoded)})
    return assemble(schema_of([raw("x", [1])], [("c", kind)]), [chunk])


def with_affine(codes, bit_width, *, plan=(), shape=None, scale=1.0, offset=0.0):
    """One chunk of affine samples."""
    n = len(codes)
    data = FieldData(codes, bit_width, [scale] * n, [offset] * n)
    field = affine("x", shape or [len(codes[0])], plan)
    return assemble(schema_of([field]), [ChunkData({"x": data})])


def with_lsq(codes, bit_width, signed, *, scale=1.0, domain=None):
    """One chunk of lsq samples."""
    n = len(codes)
    data = FieldData(codes, bit_width, [scale] * n, signed=signed)
    field = lsq("x", [len(codes[0])], (), domain)
    return assemble(schema_of([field]), [ChunkData({"x": data})])


def with_layer(segment, codes=((1, 2, 3),), bit_width=(4,)):
    """One chunk whose only layer segment is `segment`."""
    shard = with_affine([list(c) for c in codes], list(bit_width))
    shard.chunks[0].segments[1] = segment
    return shard


def with_mask(mask):
    """One raw sample of 3 x 5 in patches of 2 (6 of them) with this mask; it keeps one pixel."""
    field = raw("x", [3, 5], patch=2)
    return assemble(schema_of([field]), [ChunkData({"x": FieldData([[9]], mask=[mask])})])
