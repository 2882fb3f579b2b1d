"""Fields of quantizer `patch`: codes in bit planes, a group id for each patch (spec 9.4, 10.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk.index import FieldIndex
from dsqformat.chunk.inputs import CodingOptions, FieldInput, FieldTuning
from dsqformat.chunk.layer_decoding import parse_layers
from dsqformat.chunk.layer_encoding import encode_layers
from dsqformat.chunk.models import PatchModel
from dsqformat.chunk.quantizing import asked_setting, check_dtype
from dsqformat.coding.dequant import codes_of_chunk
from dsqformat.coding.layers import layer_widths
from dsqformat.coding.rans import PixelModel, fit
from dsqformat.errors import CorruptShardError, SampleError
from dsqformat.quantize.mask import pixel_mask
from dsqformat.quantize.patch import dequantize_patches, fit_groups, quantize_patches
from dsqformat.schema import Field
from dsqformat.wire import MAX_PATCH_BIT_WIDTH

_LENGTH_NBYTES: Final = 4


# Encoding --------------------------------------------------------------------------------------


def fit_field(
    field: Field, source: FieldInput, tuning: FieldTuning, *, rans: bool, complete: bool
) -> PatchModel:
    """Find the groups of a dataset, and fit models of ids and codes.

    Args:
        field: of quantizer patch.
        source: some samples.
        tuning: how many groups, and how patches find theirs.
        rans: whether models of ids and codes are wanted.
        complete: whether the models will code nothing else.

    Raises:
        SampleError: a value is not finite.
    """
    values = source.values
    for row, array in enumerate(values):
        check_dtype(field, array, row)
    try:
        groups = fit_groups(
            values,
            int(_bit_width(field, source)[0]),
            tuning.group_count,
            patch=field.patch or 1,
            method=tuning.grouping,
            masks=source.masks,
        )
    except SampleError as error:
        raise error.located(f"field {field.name!r}") from error
    model = PatchModel(groups.scale, groups.offset, groups=groups)
    if not rans:
        return model
    index, codes, ids = _quantize(field, source, model)
    return replace(
        model,
        ids=_fit(_id_index(index, model), ids, complete=complete) if model.id_width else None,
        codes=_fit(index, codes, complete=complete),
    )


def worthwhile(model: PatchModel, worth_nbytes: int | None) -> PatchModel:
    """Return the groups with those models of ids and codes that are not too large."""

    def kept(part: PixelModel | None) -> PixelModel | None:
        if part is None or worth_nbytes is None or len(part.to_bytes()) <= worth_nbytes:
            return part
        return None

    return replace(model, ids=kept(model.ids), codes=kept(model.codes))


def encode_field(
    field: Field, source: FieldInput, model: PatchModel, options: CodingOptions
) -> tuple[FieldIndex, list[bytes]]:
    """Return the index of a field and its layer segments.

    Raises:
        SampleError: a value is not finite, or of the wrong type.
    """
    index, codes, ids = _quantize(field, source, model)
    segments = encode_layers(index, codes, options, model.codes)
    if segments[0]:
        (id_segment,) = encode_layers(_id_index(index, model), ids, options, model.ids)
        prefix = len(id_segment).to_bytes(_LENGTH_NBYTES, "little")
        segments[0] = prefix + id_segment + segments[0]
    return index, segments


def _fit(index: FieldIndex, codes: NDArray[np.uint16], *, complete: bool) -> PixelModel | None:
    try:
        widths = layer_widths(index.stored_width, index.field.layers)
        return fit(codes, index.shape, widths, masks=index.patch_masks, complete=complete)
    except ValueError:
        # Nothing to code: other codings serve.
        return None


def _bit_width(field: Field, source: FieldInput) -> NDArray[np.uint8]:
    widths = asked_setting(field, source)
    if len(widths) and not 1 <= widths.min() == widths.max() <= MAX_PATCH_BIT_WIDTH:
        raise SampleError(
            f"field {field.name!r}: bit widths {widths.min()} to {widths.max()}: quantizer patch "
            f"takes one for all samples, 1 to {MAX_PATCH_BIT_WIDTH}, since they share their groups"
        )
    return widths


def _quantize(
    field: Field, source: FieldInput, model: PatchModel
) -> tuple[FieldIndex, NDArray[np.uint16], NDArray[np.uint16]]:
    """Return the index of a field, its codes and its group ids, all samples after one another."""
    if model.groups is None:
        raise ValueError(f"field {field.name!r}: the groups of a file cannot code new samples")
    widths, shape = _bit_width(field, source), source.shapes(len(field.shape))
    whole = source.uniform()
    if whole is not None:
        check_dtype(field, whole)
        codes, ids = quantize_patches(whole, model.groups)
        counts = np.full(len(whole), codes.shape[1], "i8")
        return FieldIndex(field, shape, [], counts, widths), codes.ravel(), ids.ravel()
    parts = [_quantize_one(field, source, row, model) for row in range(len(source.values))]
    counts = np.array([len(codes) for codes, _ in parts], "i8")
    index = FieldIndex(field, shape, list(source.masks or ()), counts, widths)
    all_codes, all_ids = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return index, all_codes, all_ids


def _quantize_one(
    field: Field, source: FieldInput, row: int, model: PatchModel
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    array = source.values[row]
    check_dtype(field, array, row)
    if model.groups is None:
        raise ValueError("no groups")
    mask = source.masks[row] if source.masks else None
    masks = None if mask is None else [mask]
    codes, ids = quantize_patches(array[np.newaxis], model.groups, masks)
    if mask is None:
        return codes[0], ids[0]
    pixels = pixel_mask(mask, array.shape[0], array.shape[1], field.patch or 1)
    kept = mask.ravel() if array.size else slice(0)
    return codes[0].reshape(array.shape)[pixels].ravel(), ids[0][kept]


# Decoding --------------------------------------------------------------------------------------


def decode_field(
    index: FieldIndex,
    segments: Sequence[bytes | memoryview],
    model: PatchModel | None,
    *,
    whole_bytes: bool,
) -> NDArray[Any]:
    """Decode the first layers of a field.

    Args:
        index: of the field.
        segments: the verified bytes of its first layers.
        model: of the field.
        whole_bytes: return uint8; otherwise float32.

    Returns:
        The values of all samples after one another; of masked samples the kept ones.

    Raises:
        CorruptShardError: the bytes contradict the spec.
    """
    if model is None:
        raise CorruptShardError("no groups of its patches")
    codes, missing, ids = decode_codes(index, segments, model)
    return dequantize_patches(
        codes,
        missing,
        ids,
        model.scale,
        model.offset,
        index.shape,
        index.field.patch or 1,
        index.mask or None,
        "uint8" if whole_bytes else "float32",
    )


def decode_codes(
    index: FieldIndex, segments: Sequence[bytes | memoryview], model: PatchModel
) -> tuple[NDArray[np.uint16], NDArray[np.uint8], NDArray[np.uint16]]:
    """Return what the first layers hold: codes, the bits each lacks, and group ids.

    Returns:
        uint16, the top bits of all codes; uint8, shape (n,), bits of a code in later layers;
        uint16, group ids of all kept patches.

    Raises:
        CorruptShardError: the bytes contradict spec 9.
    """
    if len(segments[0]) and not index.value_count.any():
        raise CorruptShardError(f"layer 0: {len(segments[0])} bytes, no sample has values")
    ids_segment, first = _divide(memoryview(segments[0]))
    layers, widths = parse_layers(index, [first, *segments[1:]], model.codes)
    missing = (index.stored_width - widths.sum(axis=1)).astype("u1")
    codes = codes_of_chunk(layers, index.value_count, widths, missing, index.max_code)
    return codes, missing, _decode_ids(index, ids_segment, model)


def _divide(segment: memoryview) -> tuple[memoryview, memoryview]:
    """Part layer 0 into the segments of group ids and of codes."""
    if not len(segment):
        return segment, segment
    nbytes = int.from_bytes(segment[:_LENGTH_NBYTES], "little")
    end = _LENGTH_NBYTES + nbytes
    if len(segment) < end:
        raise CorruptShardError(f"layer 0: {nbytes} bytes of group ids in {len(segment)} bytes")
    return segment[_LENGTH_NBYTES:end], segment[end:]


def _decode_ids(index: FieldIndex, segment: memoryview, model: PatchModel) -> NDArray[np.uint16]:
    own = _id_index(index, model)
    try:
        layers, widths = parse_layers(own, [segment], model.ids)
    except CorruptShardError as error:
        raise error.located("group ids") from error
    missing = np.zeros(len(own.shape), "u1")
    return codes_of_chunk(layers, own.value_count, widths, missing, own.max_code)


def _id_index(index: FieldIndex, model: PatchModel) -> FieldIndex:
    """Return the index of the group ids: pictures of one value per patch, in one layer."""
    patch = index.field.patch or 1
    grid = np.stack([-(-index.shape[:, axis] // patch) for axis in (0, 1)], axis=1)
    # A sample without values, such as one of no channels, has no group ids.
    grid[np.prod(index.shape, axis=1) == 0] = 0
    counts = np.prod(grid, axis=1)
    if index.mask:
        kept = np.array([int(mask.sum()) for mask in index.mask], "i8")
        counts = np.minimum(counts, kept)
    field = Field(index.field.name, "float32", (None, None), "affine")
    widths = np.full(len(grid), model.id_width, "u1")
    return FieldIndex(field, grid, index.mask, counts, widths)


__all__ = ["decode_codes", "decode_field", "encode_field", "fit_field", "worthwhile"]
