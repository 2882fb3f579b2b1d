"""What quantizing does to pictures: batch in, batch as a trainer would see it out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.quantize import affine, lsq
from dsqformat.quantize.parameters import gains_shifts, zero_points
from dsqformat.quantize.patch import quantize_alone
from dsqformat.schema import UNIT, Domain, Field

# uint8 or float32 (n, height, width, channels) -> float32 of the same shape, bytes as [0, 1]
RoundTrip = Callable[[NDArray[Any]], NDArray[np.float32]]

_PROBE_WITHOUT_LOW_BITS: Final = 8


def probe_bits(low_bits: int) -> int:
    """Return the bit width at which sensitivity is probed, given that of the insensitive half.

    It is the low width itself, or 8 where that is 0 (dropped) or 1 (`lsq` has no such width).
    """
    if low_bits < 0:
        raise ValueError(f"low_bits={low_bits}: expected 0 or more")
    return low_bits if low_bits >= 2 else _PROBE_WITHOUT_LOW_BITS


def lsq_round_trip(bit_width: int, domain: Domain = UNIT) -> RoundTrip:
    """Return linear symmetric quantization at one bit width and back (Yu & Yu 4.1).

    Args:
        bit_width: 2 to 16.
        domain: in which the largest magnitude is taken.
    """

    def round_trip(pictures: NDArray[Any]) -> NDArray[np.float32]:
        batch = lsq.quantize(pictures, bit_width, domain)
        field = Field("image", str(pictures.dtype), pictures.shape[1:], "lsq", domain=domain)
        zero = zero_points("lsq", batch.bit_width, batch.signed)[:, np.newaxis]
        gain, shift = gains_shifts(field, batch.scale, None)
        return _dequantized(batch.codes.astype("i4") - zero, gain, shift, pictures.shape)

    return round_trip


def affine_round_trip(bit_width: int) -> RoundTrip:
    """Return quantization between smallest and largest value at 1 to 16 bits, and back."""

    def round_trip(pictures: NDArray[Any]) -> NDArray[np.float32]:
        batch = affine.quantize(pictures, bit_width)
        gain, shift = batch.scale[:, np.newaxis], batch.offset[:, np.newaxis]
        return _dequantized(batch.codes, gain, shift, pictures.shape)

    return round_trip


def patch_round_trip(bit_width: int, patch: int) -> RoundTrip:
    """Return quantization of each patch in a range of its own at 1 to 8 bits, and back."""
    return lambda pictures: quantize_alone(pictures, bit_width, patch)


def _dequantized(
    codes: NDArray[Any],
    gain: NDArray[np.float32],
    shift: NDArray[np.float32],
    shape: tuple[int, ...],
) -> NDArray[np.float32]:
    """Each operation rounded to float32, as a decoder does (spec 10.3)."""
    values = codes.astype("f4").reshape(len(codes), -1, gain.shape[1])
    back: NDArray[np.float32] = values * gain[:, np.newaxis] + shift[:, np.newaxis]
    return back.reshape(shape)
