"""Make a vector from samples: schema and values in, shard and expected facts out."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

import builder
import numpy as np
from block_writer import streams
from builder import (
    Chunk,
    Section,
    Shard,
    constant,
    crc32c,
    groups_content,
    keys_content,
    models_content,
    plain,
    var,
)
from expected import STRUCT_DTYPES, FieldData, field_facts, number, stored_width
from models import frozen_model, frozen_segment

# Section 10.2: the index columns of each quantizer.
COLUMNS = {
    "raw": (),
    "lsq": ("bit_width", "signed", "scale"),
    "affine": ("bit_width", "scale", "offset"),
    "patch": ("bit_width",),
    "block": ("qp",),
}


@dataclass
class ChunkData:
    """One chunk. A user column is its values, or (values, encoded column)."""

    fields: dict[str, FieldData]
    columns: dict = field(default_factory=dict)
    keys: list[str] | None = None

    @property
    def sample_count(self):
        return len(next(iter(self.fields.values())).codes)


@dataclass
class Vector:
    """One conformance vector: the bytes and what is said about them."""

    name: str
    description: str
    data: bytes
    facts: dict


def lsq(name, shape, layers=(), domain=None, dtype="float32", **more):
    domain = domain or {"kind": "unit"}
    return quantized(name, shape, layers, dtype, quantizer="lsq", domain=domain, **more)


def affine(name, shape, layers=(), dtype="float32", **more):
    return quantized(name, shape, layers, dtype, quantizer="affine", **more)


def raw(name, shape, dtype="uint8", **more):
    return quantized(name, shape, (), dtype, quantizer="raw", **more)


def patches(name, shape, layers=(), dtype="float32", **more):
    return quantized(name, shape, layers, dtype, quantizer="patch", **more)


def block(name, shape, layers=1, dtype="uint8", **more):
    return quantized(name, shape, [1] * (layers - 1), dtype, quantizer="block", **more)


def block_data(model, pictures, per_stream=1, shape=None, **more):
    """A field of `block` in one chunk; `shape` says that shapes vary: the dimensions after two."""
    sides = [[p.height, p.width, *shape] for p in pictures] if shape is not None else None
    qp = [picture.qp for picture in pictures]
    given = {"shape": sides, "qp": qp, "block": (model, pictures, per_stream)} | more
    return FieldData([None] * len(pictures), **given)


def quantized(name, shape, layers, dtype, **more):
    return {"name": name, "dtype": dtype, "shape": shape, "layers": list(layers), **more}


def schema_of(fields, columns=(), order=None):
    """Section 6, by default layer 0 of every field, then layer 1, ..."""
    columns = [c if isinstance(c, dict) else {"name": c[0], "type": c[1]} for c in columns]
    pairs = [(f["name"], layer) for f in fields for layer in range(len(f["layers"]) + 1)]
    order = sorted(pairs, key=lambda pair: pair[1]) if order is None else order
    return {"columns": columns, "fields": fields, "order": [list(pair) for pair in order]}


def column_of(kind, values):
    """The plainest encoding: constant where all values agree, else plain or var."""
    if all(builder.value_bytes(kind, v) == builder.value_bytes(kind, values[0]) for v in values):
        return constant(kind, values[0])
    return plain(kind, values) if kind in builder.LETTERS else var(kind, values)


def index_segment(schema, chunk):
    """Section 8."""
    segment = b""
    for column in schema["columns"]:
        values = chunk.columns[column["name"]]
        segment += values[1] if isinstance(values, tuple) else column_of(column["type"], values)
    for schema_field in schema["fields"]:
        data = chunk.fields[schema_field["name"]]
        wanted = [
            (f"dim{d}", "int64", [shape[d] for shape in data.shape or []])
            for d, size in enumerate(schema_field["shape"])
            if size is None
        ]
        if "patch" in schema_field:
            wanted.append(("mask", "bytes", data.mask))
        for name in COLUMNS[schema_field["quantizer"]]:
            kind = "float32" if name in ("scale", "offset") else "int64"
            wanted.append((name, kind, getattr(data, name)))
        for name, kind, values in wanted:
            segment += data.columns.get(name) or column_of(kind, values)
    return segment


def id_data(schema_field, data):
    """Section 9.4: the group ids of a field as a field of their own, of one layer."""
    grids = [
        [math.ceil(d / schema_field["patch"]) if math.prod(shape) else 0 for d in shape[:2]]
        for shape in data.shape or [schema_field["shape"]] * len(data.codes)
    ]
    width = (len(data.groups[0]) - 1).bit_length()
    return affine("ids", [None, None], patch=1), FieldData(
        data.group_ids, [width] * len(grids), shape=grids, mask=data.mask,
        frames=data.id_frames, rans=data.id_rans,
    )  # fmt: skip


def field_models(schema_field, datas):
    """(model of group ids, model of values) of a field, each None where no chunk needs it."""
    if schema_field["quantizer"] == "block":
        return None, datas[0].block[0].content() if datas else None
    ids = None
    if schema_field["quantizer"] == "patch" and datas:
        pairs = [id_data(schema_field, data) for data in datas]
        ids = rans_model(pairs[0][0], [data for _, data in pairs])
    return ids, rans_model(schema_field, datas)


def rans_model(schema_field, datas):
    """The model of a field whose chunks ask for one, frozen; else none."""
    if not any(isinstance(r, int) for data in datas for r in data.rans.values()):
        return None
    samples = [sample for data in datas for sample in rans_samples(schema_field, data)]
    return frozen_model(schema_field["layers"], samples)


def rans_samples(schema_field, data):
    """(shape, stored width, codes) of each sample; with masks, also side of patches and mask."""
    shapes = data.shape or [schema_field["shape"]] * len(data.codes)
    widths = [stored_width(schema_field, data, i) for i in range(len(shapes))]
    samples = list(zip(shapes, widths, data.codes, strict=True))
    if not any(data.mask or ()):
        return samples
    patch = schema_field["patch"]
    pairs = zip(samples, data.mask, strict=True)
    return [(*sample, patch, mask.hex()) for sample, mask in pairs]


def field_segment(schema_field, data, layer, models):
    """Sections 9, 9.4 and 9.5: one layer of one field."""
    id_model, model = models
    if schema_field["quantizer"] == "block":
        if layer in data.rans:
            return data.rans[layer]
        parts, per_stream = streams(*data.block)[layer], data.block[2]
        low = min(map(len, parts))
        width = (max(map(len, parts)) - low).bit_length()
        return builder.rans_layer(parts, per_stream, low, width)
    segment = layer_segment(schema_field, data, layer, model)
    if schema_field["quantizer"] != "patch" or layer > 0 or not segment:
        return segment
    ids = layer_segment(*id_data(schema_field, data), 0, id_model)
    return struct.pack("<I", len(ids)) + ids + segment


def layer_segment(schema_field, data, layer, model=None):
    """Section 9."""
    codes = data.codes
    if isinstance(data.rans.get(layer), bytes):
        return data.rans[layer]
    if layer in data.rans:
        samples = rans_samples(schema_field, data)
        return frozen_segment(model, schema_field["layers"], samples, layer, data.rans[layer])
    if schema_field["quantizer"] == "raw":
        dtype = STRUCT_DTYPES[schema_field["dtype"]]
        codes = [list(np.array(values, dtype).tobytes()) for values in codes]
    stored = [stored_width(schema_field, data, i) for i in range(len(codes))]
    values, widths = builder.layer_values(codes, stored, schema_field["layers"], layer)
    if layer not in data.frames:
        return builder.packed_layer(values, widths)
    per_frame, compress = data.frames[layer]
    contents = builder.frame_contents(values, widths, per_frame)
    return builder.zstd_layer([compress(c) if c else b"" for c in contents], per_frame)


def zones_of(schema, chunk):
    """Section 7: minimum and maximum, NaN left out."""
    zones = []
    for column in schema["columns"]:
        values = chunk.columns[column["name"]]
        values = values[0] if isinstance(values, tuple) else values
        if column["type"] in builder.LETTERS:
            values = [x for x in values if x == x]
            pair = (min(values), max(values)) if values else (math.inf, -math.inf)
            zones.append(struct.pack("<2q" if column["type"] == "int64" else "<2d", *pair))
    return zones


def assemble(schema, chunks, **more):
    """The shard of these chunks, for layout or for damage.

    `models` holds models by field name, `groups` pairs of scale and offset, where the chunks do
    not say them.
    """
    fields = {f["name"]: f for f in schema["fields"]}
    given, groups, models = more.pop("models", {}), dict(more.pop("groups", {})), {}
    own = {name: field_models(f, [c.fields[name] for c in chunks]) for name, f in fields.items()}
    for name, (ids, codes) in own.items():
        if fields[name]["quantizer"] == "patch" and (ids or codes):
            models[name] = builder.patch_models(ids or b"", codes or b"")
        elif codes:
            models[name] = codes
        if fields[name]["quantizer"] == "patch" and chunks:
            groups.setdefault(name, chunks[0].fields[name].groups)
    models |= given
    parts = []
    for chunk in chunks:
        segments = [index_segment(schema, chunk)]
        for name, layer in schema["order"]:
            data = chunk.fields[name]
            segments.append(field_segment(fields[name], data, layer, own[name]))
        parts.append(Chunk(chunk.sample_count, segments, zones_of(schema, chunk)))
    keys = None
    if any(chunk.keys for chunk in chunks):
        keys = keys_content([column_of("utf8", chunk.keys) for chunk in chunks])
    shard = Shard(schema, parts, **{"keys": keys} | more)
    features = int(any("patch" in f for f in schema["fields"]))
    features |= 2 * bool(models) | 4 * bool(groups)
    if features:
        shard.header.setdefault("incompatible_features", features)
    numbers = {name: number for number, name in enumerate(fields)}
    if groups:
        content = groups_content([(numbers[n], *groups[n]) for n in numbers if n in groups])
        shard.extra.insert(0, Section(b"GRPS", content, 1))
    if models:
        content = models_content([(numbers[n], models[n]) for n in numbers if n in models])
        shard.extra.insert(0, Section(b"MODL", content, 1))
    return shard


def valid_vector(name, description, schema, chunks, **more):
    """A vector with everything a reader must get from it."""
    shard = assemble(schema, chunks, **more)
    data = shard.layout()
    columns = {}
    for column in schema["columns"]:
        values = columns[column["name"]] = []
        for chunk in chunks:
            given = chunk.columns[column["name"]]
            values += map(number, given[0] if isinstance(given, tuple) else given)
    (head_nbytes,) = struct.unpack_from("<Q", data, 32)
    expected = {
        "header": {
            "section_count": struct.unpack_from("<I", data, 12)[0],
            "incompatible_features": shard.header.get("incompatible_features", 0),
            "compatible_features": shard.header.get("compatible_features", 0),
            "head_nbytes": head_nbytes,
            "file_nbytes": len(data),
            "sample_count": sum(chunk.sample_count for chunk in chunks),
        },
        "schema": schema,
        "chunks": [
            {"sample_count": c.sample_count, "segment_nbytes": [len(s) for s in c.segments]}
            for c in shard.chunks
        ],
        "columns": columns,
        "fields": {
            f["name"]: field_facts(
                f,
                [chunk.fields[f["name"]] for chunk in chunks],
                sum(name == f["name"] for name, _ in schema["order"]),
            )
            for f in schema["fields"]
        },
        "keys": None if shard.keys is None else [k for c in chunks for k in c.keys or []],
    }
    crc = f"{crc32c(data):08x}"
    facts = {"crc32c": crc, "description": description, "expected": expected, "name": name}
    return Vector(name, description, data, facts)
