"""The sections `MODL` and `GRPS`: what all chunks of a shard share (spec 7.1 and 7.2)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk import FieldModel, PatchModel
from dsqformat.coding.block import BlockModel
from dsqformat.coding.rans import PixelModel
from dsqformat.errors import CorruptShardError
from dsqformat.schema import Field, Schema
from dsqformat.wire import GROUPS, MAX_GROUPS, MODEL

# All shards of a snapshot mostly have the same models; as arrays one may take 64 MiB.
_KEPT_MODELS: Final = 4
_LENGTH_NBYTES: Final = 4


def parse_models(models: bytes, groups: bytes, schema: Schema) -> dict[str, FieldModel]:
    """Parse and validate what a head says of the models of its fields.

    Args:
        models: content of `MODL`; empty where there is none.
        groups: content of `GRPS`; likewise.
        schema: of the shard.

    Returns:
        The models by field name; of each `patch` field there is one.

    Raises:
        CorruptShardError: a section contradicts spec 7.1 or 7.2.
        UnsupportedFeatureError: a model of a newer version.
    """
    found: dict[str, FieldModel] = {}
    for field, scale, offset in _parse_groups(groups, schema):
        found[field.name] = PatchModel(scale, offset)
    missing = [f.name for f in schema.fields if f.quantizer == "patch" and f.name not in found]
    if missing:
        raise CorruptShardError(f"section GRPS: no groups of field {missing[0]!r}")
    for field, data in _parse_entries(models, schema):
        found[field.name] = _parse_model(field, data, found.get(field.name))
    return found


def _parse_entries(data: bytes, schema: Schema) -> list[tuple[Field, bytes]]:
    entries = []
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
        entries.append((field, data[offset : offset + nbytes]))
        offset, last = offset + nbytes, number
    return entries


def _parse_model(field: Field, data: bytes, groups: FieldModel | None) -> FieldModel:
    what = f"model of {field.name!r}"
    if field.quantizer == "block":
        return _block_model(field, data, what)
    if not isinstance(groups, PatchModel):
        return _pixel_model(data, what)
    nbytes = int.from_bytes(data[:_LENGTH_NBYTES], "little")
    end = _LENGTH_NBYTES + nbytes
    if len(data) < max(end, _LENGTH_NBYTES + 1):
        raise CorruptShardError(f"{what}: {nbytes} bytes for group ids in {len(data)} bytes")
    ids = _pixel_model(data[_LENGTH_NBYTES:end], f"{what}: group ids") if nbytes else None
    codes = _pixel_model(data[end:], what) if len(data) > end else None
    return PatchModel(groups.scale, groups.offset, ids, codes)


def _block_model(field: Field, data: bytes, what: str) -> BlockModel:
    model = _parsed_block(data, what)
    planes = (field.shape[2] or 0) if len(field.shape) == 3 else 1
    if model.planes != planes or len(model.layers) != field.layer_count:
        raise CorruptShardError(
            f"{what}: {model.planes} channels and {len(model.layers)} layers, the field has "
            f"{planes} and {field.layer_count}"
        )
    return model


@lru_cache(maxsize=_KEPT_MODELS)
def _pixel_model(data: bytes, what: str) -> PixelModel:
    return PixelModel.from_bytes(data, what)


@lru_cache(maxsize=_KEPT_MODELS)
def _parsed_block(data: bytes, what: str) -> BlockModel:
    return BlockModel.from_bytes(data, what)


def encode_models(models: Mapping[str, FieldModel], schema: Schema) -> bytes:
    """Return the content of `MODL`; empty without models."""
    parts = []
    for number, field in enumerate(schema.fields):
        model = models.get(field.name)
        if model is None or (isinstance(model, PatchModel) and not model.coded):
            continue
        data = _patch_bytes(model) if isinstance(model, PatchModel) else model.to_bytes()
        parts += [MODEL.pack(number, len(data)), data]
    return b"".join(parts)


def _patch_bytes(model: PatchModel) -> bytes:
    ids = model.ids.to_bytes() if model.ids is not None else b""
    codes = model.codes.to_bytes() if model.codes is not None else b""
    return len(ids).to_bytes(_LENGTH_NBYTES, "little") + ids + codes


# Groups ----------------------------------------------------------------------------------------


def _parse_groups(
    data: bytes, schema: Schema
) -> list[tuple[Field, NDArray[np.float32], NDArray[np.float32]]]:
    groups = []
    position, last = 0, -1
    while position < len(data):
        if len(data) - position < GROUPS.size:
            raise CorruptShardError(f"section GRPS: {len(data) - position} bytes at its end")
        number, count = GROUPS.unpack_from(data, position)
        position += GROUPS.size
        left = (len(data) - position) // 8
        if not last < number < len(schema.fields) or not 1 <= count <= min(MAX_GROUPS, left):
            raise CorruptShardError(f"section GRPS: {count} groups of field {number}")
        field = schema.fields[number]
        if field.quantizer != "patch":
            raise CorruptShardError(f"section GRPS: field {field.name!r} is {field.quantizer}")
        # A copy, because numbers in the middle of a section stand at odd addresses.
        values = np.frombuffer(data, "<f4", 2 * count, position).copy()
        scale, offset = values[:count], values[count:]
        if not np.isfinite(values).all() or (scale < 0).any():
            raise CorruptShardError(
                f"section GRPS: field {field.name!r}: a scale or offset is not finite, "
                "or a scale negative"
            )
        groups.append((field, scale, offset))
        position, last = position + 8 * count, number
    return groups


def encode_groups(models: Mapping[str, FieldModel], schema: Schema) -> bytes:
    """Return the content of `GRPS`; empty where no field has groups."""
    parts = []
    for number, field in enumerate(schema.fields):
        model = models.get(field.name)
        if isinstance(model, PatchModel):
            parts.append(GROUPS.pack(number, len(model.scale)))
            parts += [model.scale.astype("<f4").tobytes(), model.offset.astype("<f4").tobytes()]
    return b"".join(parts)
