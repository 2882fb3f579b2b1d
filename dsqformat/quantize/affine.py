"""`affine`: unsigned codes with scale and offset; exact for bytes at 8 bits (spec 10)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SampleError
from dsqformat.quantize.parameters import (
    QuantizedBatch,
    all_ones,
    checked_bit_widths,
    one_row_each,
)
from dsqformat.quantize.rounding import divide_half_even

EXACT_UINT8_BITS: Final = 8


def quantize(values: NDArray[Any], bit_width: Any) -> QuantizedBatch:
    """Quantize samples between their smallest and largest value.

    Args:
        values: uint8 or float32, shape (n, *shape), finite.
        bit_width: one for all or one per sample, 1 to 16; capped at 8 for uint8.

    Returns:
        Codes, bit widths as used, scales and offsets.

    Raises:
        SampleError: a value is not finite, or the range of a sample leaves float32.
        ValueError: a bit width or dtype is not allowed.
    """
    widths = checked_bit_widths(bit_width, len(values), 1, "affine")
    flat = one_row_each(values)
    if values.dtype == np.uint8:
        return _quantize_bytes(flat, np.minimum(widths, EXACT_UINT8_BITS))
    if values.dtype == np.float32:
        return _quantize_real(flat, widths)
    raise ValueError(f"affine: dtype {values.dtype}, expected uint8 or float32")


def _quantize_bytes(values: NDArray[np.uint8], widths: NDArray[np.uint8]) -> QuantizedBatch:
    top = all_ones(widths)
    low = values.min(axis=1, initial=255).astype("i4")
    high = values.max(axis=1, initial=0).astype("i4")
    low = np.minimum(low, high)
    # Where every byte has a code of its own, the sample is stored exactly, with step 1/255;
    # at 8 bits from 0, so that codes are the bytes themselves.
    exact = (widths >= EXACT_UINT8_BITS) | (high - low <= top)
    low = np.where(widths >= EXACT_UINT8_BITS, 0, low)
    if (widths >= EXACT_UINT8_BITS).all():
        codes = values.astype("<u2")
    else:
        above = np.clip(np.arange(256, dtype="i4") - low[:, np.newaxis], 0, None)
        spread = np.maximum(high - low, 1)[:, np.newaxis]
        scaled = divide_half_even(above * top[:, np.newaxis], spread)
        table = np.where(exact[:, np.newaxis], above, scaled)
        codes = np.take_along_axis(table, values.astype("i4"), axis=1).astype("<u2")
    step = np.where(exact, 1.0 / 255.0, (high - low) / (255.0 * top))
    offset = (low / 255.0).astype("f4")
    return QuantizedBatch(codes, widths, step.astype("f4"), offset, np.zeros(len(values), "u1"))


def _quantize_real(values: NDArray[np.float32], widths: NDArray[np.uint8]) -> QuantizedBatch:
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise SampleError(f"sample {int(np.argmin(finite))}: a value is NaN or infinite")
    top = all_ones(widths).astype("f4")
    empty = values.shape[1] == 0
    low = np.zeros(len(values), "f4") if empty else values.min(axis=1)
    high = low if empty else values.max(axis=1)
    with np.errstate(over="ignore"):
        scale = ((high.astype("f8") - low.astype("f8")) / top).astype("f4")
    if not np.isfinite(scale).all():
        row = int(np.argmin(np.isfinite(scale)))
        raise SampleError(f"sample {row}: its range {low[row]} to {high[row]} leaves float32")
    divisor = np.where(scale > 0, scale, np.float32(1))[:, np.newaxis]
    with np.errstate(over="ignore"):
        steps = np.rint((values - low[:, np.newaxis]) / divisor)
    codes = np.clip(steps, 0, top[:, np.newaxis]).astype("<u2")
    codes[scale == 0] = 0
    return QuantizedBatch(codes, widths, scale, low, np.zeros(len(values), "u1"))
