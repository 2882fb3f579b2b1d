"""Make a vector from samples: schema and values in, shard and expected facts out."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

import builder
import numpy as np
from builder import (
    Chunk,
    Section,
    Shard,
    constant,
    crc32c,
    keys_content,
    models_content,
    plain,
    var,
)
from expected import STRUCT_DTYPES, FieldData, field_facts, number, stored_width
from models import frozen_model, frozen_segment


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
        if schema_field["quantizer"] != "raw":
            wanted.append(("bit_width", "int64", data.bit_width))
            if schema_field["quantizer"] == "lsq":
                wanted.append(("signed", "int64", data.signed))
            wanted.append(("scale", "float32", data.scale))
            if schema_field["quantizer"] == "affine":
                wanted.append(("offset", "float32", data.offset))
        for name, kind, values in wanted:
            segment += data.columns.get(name) or column_of(kind, values)
    return segment


def rans_model(schema_field, datas):
    """The model of a field whose chunks ask for one, frozen; else none."""
    if not any(isinstance(r, int) for data in datas for r in data.rans.values()):
        return None
    samples = [sample for data in datas for sample in rans_samples(schema_field, data)]
    return frozen_model(schema_field["layers"], samples)


def rans_samples(schema_field, data):
    """(shape, stored width, codes) of each sample."""
    shapes = data.shape or [schema_field["shape"]] * len(data.codes)
    widths = [stored_width(schema_field, data, i) for i in range(len(shapes))]
    return list(zip(shapes, widths, data.codes, strict=True))


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
    """The shard of these chunks, for layout or for damage; `models` holds some by field name."""
    fields = {f["name"]: f for f in schema["fields"]}
    models = dict(more.pop("models", {}))
    for name, schema_field in fields.items():
        frozen = rans_model(schema_field, [chunk.fields[name] for chunk in chunks])
        models |= {name: frozen} if frozen else {}
    parts = []
    for chunk in chunks:
        segments = [index_segment(schema, chunk)]
        for name, layer in schema["order"]:
            data = chunk.fields[name]
            segments.append(layer_segment(fields[name], data, layer, models.get(name)))
        parts.append(Chunk(chunk.sample_count, segments, zones_of(schema, chunk)))
    keys = None
    if any(chunk.keys for chunk in chunks):
        keys = keys_content([column_of("utf8", chunk.keys) for chunk in chunks])
    shard = Shard(schema, parts, **{"keys": keys} | more)
    features = int(any("patch" in f for f in schema["fields"])) | 2 * bool(models)
    if features:
        shard.header.setdefault("incompatible_features", features)
    if models:
        content = models_content([(list(fields).index(name), models[name]) for name in models])
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
