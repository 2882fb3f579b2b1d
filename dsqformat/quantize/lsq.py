"""`lsq`: linear symmetric quantization with a bit width per sample (Yu & Yu 2025, 4.1; spec 10)."""

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
from dsqformat.schema import Domain

# From this width on every byte comes back exactly (domain unit), so wider codes only cost bytes.
EXACT_UINT8_BITS: Final = 9


def quantize(values: NDArray[Any], bit_width: Any, domain: Domain) -> QuantizedBatch:
    """Quantize samples symmetrically around zero.

    Args:
        values: uint8 or float32, shape (n, *shape), finite.
        bit_width: one for all or one per sample, 2 to 16; capped at 9 where that is exact.
        domain: in which the largest magnitude is taken.

    Returns:
        Codes, bit widths as used, scales; signed is 1 where a code stands for a negative value.

    Raises:
        SampleError: a value is not finite.
        ValueError: a bit width or dtype is not allowed.
    """
    widths = checked_bit_widths(bit_width, len(values), 2, "lsq")
    if values.dtype == np.uint8 and domain.kind == "unit":
        widths = np.minimum(widths, EXACT_UINT8_BITS)
        codes, scale = _quantize_bytes(one_row_each(values), all_ones(widths - 1))
    elif values.dtype in (np.uint8, np.float32):
        codes, scale = _quantize_real(
            one_row_each(_to_domain(values, domain)), all_ones(widths - 1)
        )
    else:
        raise ValueError(f"lsq: dtype {values.dtype}, expected uint8 or float32")
    signed = (codes.min(axis=1, initial=0) < 0).astype("u1")
    zero_point = np.where(signed == 1, all_ones(widths - 1), 0)
    stored = (codes + zero_point[:, np.newaxis]).astype("<u2")
    return QuantizedBatch(stored, widths, scale, np.zeros(len(values), "f4"), signed)


def _quantize_bytes(
    values: NDArray[np.uint8], largest: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The integer rule: q = rint(x Q / m), ties to even, so that every platform agrees."""
    peak = values.max(axis=1, initial=0).astype("i4")
    divisor = np.maximum(peak, 1)[:, np.newaxis]
    # 256 possible bytes: round them once per sample, then look every value up.
    table = divide_half_even(np.arange(256, dtype="i4") * largest[:, np.newaxis], divisor)
    codes = np.take_along_axis(table, values.astype("i4"), axis=1)
    codes[peak == 0] = 0
    scale = (peak.astype("f8") / (255.0 * largest)).astype("f4")
    return codes, scale


def _to_domain(values: NDArray[Any], domain: Domain) -> NDArray[np.float32]:
    unit = values.astype("f4", copy=False)
    if values.dtype == np.uint8:
        unit = unit / np.float32(255)
    if domain.kind == "centered":
        return unit - np.float32(0.5)
    if domain.kind == "normalized":
        # What leaves float32 here is refused later, by the sample.
        with np.errstate(over="ignore"):
            normalized: NDArray[np.float32] = (unit - domain.mean_f32) / domain.std_f32
        return normalized
    return unit


def _quantize_real(
    values: NDArray[np.float32], largest: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The float32 rule: every operation is one correctly rounded IEEE operation."""
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise SampleError(
            f"sample {int(np.argmin(finite))}: a value is NaN or infinite in its domain"
        )
    peak = np.abs(values).max(axis=1, initial=0)
    scale = (peak / largest.astype("f4")).astype("f4")
    divisor = np.where(scale > 0, scale, np.float32(1))[:, np.newaxis]
    # A subnormal scale is far from m / Q in relative terms: the clamp below takes care of it.
    with np.errstate(over="ignore"):
        quotient = np.rint(values / divisor)
    bound = largest[:, np.newaxis].astype("f4")
    codes = np.clip(quotient, -bound, bound).astype("i4")
    codes[scale == 0] = 0
    return codes, scale
