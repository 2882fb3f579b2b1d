"""From arrays to an index and codes, for the quantizers whose codes are bit planes (spec 10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk.index import FieldIndex
from dsqformat.chunk.inputs import FieldInput
from dsqformat.errors import SampleError
from dsqformat.quantize import affine, lsq
from dsqformat.quantize.mask import gather, pack_mask, patch_grid, pixel_mask
from dsqformat.quantize.parameters import QuantizedBatch
from dsqformat.schema import UNIT, Field


def quantize_field(field: Field, source: FieldInput) -> tuple[FieldIndex, NDArray[Any]]:
    """Quantize the samples of a chunk with `lsq` or `affine`, or take them as they are (`raw`).

    Returns:
        The index of the field; its codes, all samples after one another.

    Raises:
        SampleError: a value is not finite, or of the wrong type.
    """
    count = len(source.values)
    shape = source.shapes(len(field.shape))
    masks = [] if source.masks is None else list(source.masks)
    if field.quantizer == "raw":
        return _raw_field(field, source, shape, masks)
    bit_width = asked_setting(field, source)
    whole = source.uniform()
    if whole is not None:
        batch = _quantize(field, whole, bit_width)
        codes = batch.codes.ravel()
        counts = np.full(count, batch.codes.shape[1], "i8")
    else:
        batches = [
            _quantize(field, array[np.newaxis], bit_width[row : row + 1], row)
            for row, array in enumerate(kept_values(field, source))
        ]
        codes = np.concatenate([b.codes.ravel() for b in batches])
        batch = _joined(batches)
        counts = np.array([b.codes.size for b in batches], "i8")
    signed = batch.signed if field.quantizer == "lsq" else None
    index = FieldIndex(
        field, shape, masks, counts, batch.bit_width, signed, batch.scale, batch.offset
    )
    return index, codes


def _raw_field(
    field: Field,
    source: FieldInput,
    shape: NDArray[np.int64],
    masks: Sequence[NDArray[np.bool_]],
) -> tuple[FieldIndex, NDArray[np.uint8]]:
    dtype = field.numpy_dtype
    octets = [np.ascontiguousarray(array, dtype).tobytes() for array in kept_values(field, source)]
    counts = np.array([len(item) for item in octets], "i8")
    return FieldIndex(field, shape, masks, counts), np.frombuffer(b"".join(octets), "u1")


def asked_setting(field: Field, source: FieldInput) -> NDArray[np.uint8]:
    """Return the bit width or qp of each sample, or raise ValueError if none were given."""
    if source.setting is None:
        raise ValueError(f"field {field.name!r}: quantizer {field.quantizer} needs {field.setting}")
    return source.setting


def kept_values(field: Field, source: FieldInput) -> Sequence[NDArray[Any]] | NDArray[Any]:
    """Return the samples, or of masked ones the kept pixels, shape (kept, ...)."""
    if not source.masks:
        return source.values
    patch = field.patch or 1
    return [
        gather(array, pixel_mask(mask, array.shape[0], array.shape[1], patch))
        for array, mask in zip(source.values, source.masks, strict=True)
    ]


def _quantize(
    field: Field, values: NDArray[Any], bit_width: NDArray[np.uint8], row: int = 0
) -> QuantizedBatch:
    check_dtype(field, values, row)
    try:
        if field.quantizer == "lsq":
            return lsq.quantize(values, bit_width, field.domain or UNIT)
        return affine.quantize(values, bit_width)
    except SampleError as error:
        raise error.located(f"field {field.name!r}") from error


def check_dtype(field: Field, values: NDArray[Any], row: int = 0) -> None:
    """Raise SampleError unless values are of the type of their field."""
    if values.dtype != field.numpy_dtype:
        raise SampleError(
            f"field {field.name!r}: sample {row}: dtype {values.dtype}, expected {field.dtype}"
        )


def _joined(batches: Sequence[QuantizedBatch]) -> QuantizedBatch:
    return QuantizedBatch(
        codes=np.empty((len(batches), 0), "<u2"),
        bit_width=np.concatenate([b.bit_width for b in batches]),
        scale=np.concatenate([b.scale for b in batches]),
        offset=np.concatenate([b.offset for b in batches]),
        signed=np.concatenate([b.signed for b in batches]),
    )


def packed_masks(index: FieldIndex) -> list[bytes]:
    """Return the mask of each sample as the index stores it.

    Raises:
        SampleError: a mask does not fit its sample.
    """
    if not index.mask:
        return [b""] * len(index.shape)
    patch = index.field.patch or 1
    for row, mask in enumerate(index.mask):
        height, width = index.shape[row, :2].tolist()
        if mask.shape != patch_grid(height, width, patch):
            raise SampleError(
                f"field {index.field.name!r}: sample {row}: mask of {mask.shape} patches, "
                f"expected {patch_grid(height, width, patch)}"
            )
    return [b"" if mask.all() else pack_mask(mask) for mask in index.mask]
