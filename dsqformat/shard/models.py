"""The `MODL` section: the entropy-coding models of the fields of a shard (spec 7.1)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from dsqformat.coding.rans import PixelModel
from dsqformat.errors import CorruptShardError
from dsqformat.schema import Schema
from dsqformat.wire import MODEL

# All shards of a snapshot mostly have the same models; as arrays one may take 64 MiB.
_KEPT_MODELS = 4


def parse_models(data: bytes, schema: Schema) -> dict[str, PixelModel]:
    """Parse and validate the content of `MODL`.

    Returns:
        The models by field name.

    Raises:
        CorruptShardError: a field number or a model contradicts spec 7.1.
        UnsupportedFeatureError: a model of a newer version.
    """
    models: dict[str, PixelModel] = {}
    offset, last = 0, -1
    while offset < len(data):
        if len(data) - offset < MODEL.size:
            raise CorruptShardError(f"section MODL: {len(data) - offset} bytes at its end")
        number, nbytes = MODEL.unpack_from(data, offset)
        offset += MODEL.size
        if not last < number < len(schema.fields) or nbytes > len(data) - offset:
            raise CorruptShardError(f"section MODL: a model of field {number} with {nbytes} bytes")
        field = schema.fields[number]
        if field.quantizer == "raw":
            raise CorruptShardError(f"section MODL: field {field.name!r} is raw and has a model")
        models[field.name] = _parsed(data[offset : offset + nbytes], f"model of {field.name!r}")
        offset, last = offset + nbytes, number
    return models


@lru_cache(maxsize=_KEPT_MODELS)
def _parsed(data: bytes, what: str) -> PixelModel:
    return PixelModel.from_bytes(data, what)


def encode_models(models: Mapping[str, PixelModel], schema: Schema) -> bytes:
    """Return the content of `MODL`; empty without models."""
    parts = []
    for number, field in enumerate(schema.fields):
        if field.name in models:
            data = models[field.name].to_bytes()
            parts += [MODEL.pack(number, len(data)), data]
    return b"".join(parts)
