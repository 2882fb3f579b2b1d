"""From arrays to the segments of a chunk (spec 8 to 11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk import blocks, patches
from dsqformat.chunk.index import ChunkIndex, FieldIndex, encode_index
from dsqformat.chunk.inputs import ChunkInput, CodingOptions, EncodedChunk, FieldInput
from dsqformat.chunk.layer_encoding import encode_layers
from dsqformat.chunk.models import FieldModel, PatchModel
from dsqformat.chunk.quantizing import packed_masks, quantize_field
from dsqformat.coding.block import BlockModel
from dsqformat.coding.layers import layer_widths
from dsqformat.coding.rans import PixelModel, fit
from dsqformat.schema import Column, Field, Schema


def encode_chunk(
    schema: Schema,
    samples: ChunkInput,
    options: CodingOptions | None = None,
    models: Mapping[str, FieldModel] | None = None,
) -> EncodedChunk:
    """Quantize, split and code the samples of one chunk.

    Args:
        schema: of the shard.
        samples: what to encode, 1 to 4096 samples.
        options: how to code it.
        models: by field name; without one `block` and `patch` cannot be coded, and a field of
            bit planes has no "rans".

    Raises:
        SampleError: a value is not finite, or of the wrong type or shape.
    """
    options = options or CodingOptions()
    indices: dict[str, FieldIndex] = {}
    masks: dict[str, list[bytes]] = {}
    layers: dict[str, list[bytes]] = {}
    for field in schema.fields:
        model = (models or {}).get(field.name)
        index, layers[field.name] = _encode_field(field, samples.fields[field.name], options, model)
        indices[field.name] = index
        if field.patch is not None:
            masks[field.name] = packed_masks(index)
    chunk_index = ChunkIndex(samples.sample_count, dict(samples.columns), indices)
    segments = [encode_index(schema, chunk_index, masks)]
    segments += [layers[name][layer] for name, layer in schema.order]
    return EncodedChunk(
        sample_count=samples.sample_count,
        segments=segments,
        zone=encode_zones(schema.zone_columns, samples.columns),
        settings={
            f"{name}.{index.field.setting}": index.setting
            for name, index in indices.items()
            if index.setting is not None
        },
        packed_nbytes=np.sum([i.packed_nbytes for i in indices.values()], axis=0, dtype="i8"),
    )


def _encode_field(
    field: Field, source: FieldInput, options: CodingOptions, model: FieldModel | None
) -> tuple[FieldIndex, list[bytes]]:
    if field.quantizer == "block":
        if not isinstance(model, BlockModel):
            raise ValueError(f"field {field.name!r}: quantizer block needs a model")
        return blocks.encode_field(field, source, model)
    if field.quantizer == "patch":
        if not isinstance(model, PatchModel):
            raise ValueError(f"field {field.name!r}: quantizer patch needs groups")
        return patches.encode_field(field, source, model, options)
    index, codes = quantize_field(field, source)
    pixels = model if isinstance(model, PixelModel) else None
    return index, encode_layers(index, codes, options, pixels)


def fit_models(
    schema: Schema,
    samples: ChunkInput,
    options: CodingOptions,
    *,
    complete: bool,
    worth_nbytes: int | None = None,
) -> dict[str, FieldModel]:
    """Fit models to some samples.

    Args:
        schema: of the shard.
        samples: at least one; of many, a bounded part is looked at.
        options: which coding; models of pixels are fitted only where it uses them.
        complete: whether the models will code nothing else.
        worth_nbytes: models of pixels that are larger are left out; None: all stay.

    Returns:
        Models by name of the fields that can have one; `block` and `patch` always have.
    """
    models: dict[str, FieldModel] = {}
    rans = options.coding in ("auto", "rans") and (worth_nbytes is None or worth_nbytes > 0)
    for field in schema.fields:
        source = samples.fields[field.name]
        tuning = options.tuning_of(field.name)
        if field.quantizer == "block":
            models[field.name] = blocks.fit_field(field, source, tuning)
        elif field.quantizer == "patch":
            model = patches.fit_field(field, source, tuning, rans=rans, complete=complete)
            models[field.name] = patches.worthwhile(model, worth_nbytes)
        elif field.quantizer != "raw" and rans:
            pixels = _fit_pixels(field, source, complete=complete)
            if pixels is not None and _worth(pixels, worth_nbytes):
                models[field.name] = pixels
    return models


def _fit_pixels(field: Field, source: FieldInput, *, complete: bool) -> PixelModel | None:
    """Return a model of codes; None for shapes that cannot be laid out, or nothing to code."""
    index, codes = quantize_field(field, source)
    try:
        widths = layer_widths(index.stored_width, field.layers)
        return fit(codes, index.shape, widths, masks=index.patch_masks, complete=complete)
    except ValueError:
        return None


def _worth(model: PixelModel, worth_nbytes: int | None) -> bool:
    return worth_nbytes is None or len(model.to_bytes()) <= worth_nbytes


def encode_zones(columns: Sequence[Column], values: Mapping[str, Any]) -> NDArray[np.uint64]:
    """Return minimum and maximum of numeric columns as bit patterns, shape (columns, 2)."""
    zone = np.zeros((len(columns), 2), "<u8")
    for number, column in enumerate(columns):
        if column.type == "int64":
            array = np.asarray(values[column.name], "i8")
            zone[number] = np.array([array.min(), array.max()], "<i8").view("<u8")
        else:
            real = np.asarray(values[column.name], "f8")
            real = real[~np.isnan(real)]
            ends = [real.min(), real.max()] if len(real) else [np.inf, -np.inf]
            zone[number] = np.array(ends, "<f8").view("<u8")
    return zone
