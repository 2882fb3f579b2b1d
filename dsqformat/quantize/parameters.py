"""What the parameters of a quantizer mean: widths, zero points, gains (spec 10.2 and 10.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.schema import Field
from dsqformat.wire import MAX_BIT_WIDTH


@dataclass(frozen=True)
class QuantizedBatch:
    """Codes and parameters of n samples.

    Attributes:
        codes: uint16, shape (n, values), unsigned codes u as they are stored.
        bit_width: uint8, shape (n,).
        scale: float32, shape (n,).
        offset: float32, shape (n,); zero for `lsq`.
        signed: uint8, shape (n,); zero for `affine`.
    """

    codes: NDArray[np.uint16]
    bit_width: NDArray[np.uint8]
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]
    signed: NDArray[np.uint8]


def all_ones(bits: NDArray[Any]) -> NDArray[np.int32]:
    """Return 2^bits - 1, int32."""
    ones: NDArray[np.int32] = np.left_shift(np.int32(1), bits.astype("i4")) - np.int32(1)
    return ones


def one_row_each(values: NDArray[Any]) -> NDArray[Any]:
    """Return samples of any shape as rows, shape (n, values), n and values possibly 0."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


def stored_widths(
    quantizer: str, bit_width: NDArray[np.uint8], signed: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """Return the bits B of a code in the layers, uint8, shape (n,)."""
    if quantizer == "lsq" and signed is not None:
        return (bit_width - 1 + signed).astype("u1")
    return bit_width


def zero_points(
    quantizer: str, bit_width: NDArray[np.uint8], signed: NDArray[np.uint8] | None
) -> NDArray[np.int32]:
    """Return the code Z that stands for zero, int32, shape (n,)."""
    if quantizer == "lsq" and signed is not None:
        return np.where(signed == 1, all_ones(bit_width - 1), 0).astype("i4")
    return np.zeros(len(bit_width), "i4")


def max_codes(
    quantizer: str, bit_width: NDArray[np.uint8], signed: NDArray[np.uint8] | None
) -> NDArray[np.int32]:
    """Return the largest legal code, int32, shape (n,)."""
    if quantizer == "lsq" and signed is not None:
        half = all_ones(bit_width - 1)
        return np.where(signed == 1, 2 * half, half).astype("i4")
    return all_ones(bit_width)


def gains_shifts(
    field: Field, scale: NDArray[np.float32], offset: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return gain and shift of every sample and channel.

    Args:
        field: of the samples.
        scale: float32, shape (n,).
        offset: float32, shape (n,), for `affine`.

    Returns:
        Two float32 arrays of shape (n, channels).
    """
    gain = np.ascontiguousarray(scale.reshape(-1, 1), "f4")
    if field.quantizer == "affine" and offset is not None:
        return gain, np.ascontiguousarray(offset.reshape(-1, 1), "f4")
    domain = field.domain
    if domain is None or domain.kind == "unit":
        return gain, np.zeros_like(gain)
    if domain.kind == "centered":
        return gain, np.full_like(gain, 0.5)
    with np.errstate(over="ignore"):
        gain = np.multiply(gain, domain.std_f32, dtype="f4")
    shift = np.broadcast_to(domain.mean_f32, gain.shape)
    return np.ascontiguousarray(gain), np.ascontiguousarray(shift)


def checked_bit_widths(bit_width: Any, count: int, least: int, quantizer: str) -> NDArray[np.uint8]:
    """Return one bit width per sample, uint8, shape (n,).

    Raises:
        ValueError: a width is not `least` to 16.
    """
    widths = np.broadcast_to(np.asarray(bit_width), (count,))
    if len(widths) and not (least <= widths.min() and widths.max() <= MAX_BIT_WIDTH):
        reason = ": its step would be divided by 2^(1-1) - 1 = 0" if widths.min() == 1 else ""
        raise ValueError(
            f"{quantizer}: bit width {int(widths.min())} to {int(widths.max())}, "
            f"expected {least} to {MAX_BIT_WIDTH}{reason}"
        )
    return widths.astype("u1")
