"""From the layers of a whole chunk to numbers, in one call that releases the GIL (spec 9, 10.3)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat import kernels
from dsqformat.coding.packing import LayerData, as_octets, fault_error, length_error
from dsqformat.wire import MAX_LAYERS


def dequantize_chunk(
    layers: Sequence[LayerData],
    counts: NDArray[np.int64],
    widths: NDArray[np.uint8],
    missing: NDArray[np.uint8],
    zero_point: NDArray[np.int32],
    max_code: NDArray[np.int32] | NDArray[np.uint16],
    gain: NDArray[np.float32],
    shift: NDArray[np.float32],
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Dequantize all samples of a chunk: x = fl(fl((u' - Z) * gain) + shift) (spec 10.3).

    Args:
        layers: the first layers of a field, 1 to 8.
        counts: int64, shape (n,), values per sample.
        widths: uint8, shape (n, layers), bits of a code in each of these layers.
        missing: uint8, shape (n,), bits of a code in later layers (k of spec 9.2).
        zero_point: int32, shape (n,), Z.
        max_code: shape (n,), the largest legal code; looked at only where missing is 0.
        gain: float32, shape (n, channels); value j of a sample has channel j mod channels.
        shift: float32, shape (n, channels).
        out: where to write: float32, C-contiguous, sum(counts) values in any shape.

    Returns:
        `out`, or a new array of shape (sum(counts),).

    Raises:
        CorruptShardError: wrong length, set spare bits, or a value or code that is too large;
            it names the first sample at fault. What `out` then holds is undefined.
        ValueError: the arguments do not fit together.
    """
    codes, total = _prepare(layers, counts, widths, missing)
    values = np.empty(total, "f4") if out is None else out
    rule = _rule(len(codes[2]), zero_point, max_code, gain, shift)
    fault = kernels.dequantize_float32(*codes, *rule, _flat(values, "f4", total))
    if fault >= 0:
        raise fault_error(fault, codes[3], rule[1])
    return values


def dequantize_chunk_uint8(
    layers: Sequence[LayerData],
    counts: NDArray[np.int64],
    widths: NDArray[np.uint8],
    missing: NDArray[np.uint8],
    zero_point: NDArray[np.int32],
    max_code: NDArray[np.int32] | NDArray[np.uint16],
    gain: NDArray[np.float32],
    shift: NDArray[np.float32],
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Decode all samples to integer pictures: v = min(255, max(0, rint(fl(x * 255)))).

    Arguments, result and errors as in `dequantize_chunk`, with uint8 for float32.
    """
    codes, total = _prepare(layers, counts, widths, missing)
    values = np.empty(total, "u1") if out is None else out
    rule = _rule(len(codes[2]), zero_point, max_code, gain, shift)
    fault = kernels.dequantize_uint8(*codes, *rule, _flat(values, "u1", total))
    if fault >= 0:
        raise fault_error(fault, codes[3], rule[1])
    return values


def codes_of_chunk(
    layers: Sequence[LayerData],
    counts: NDArray[np.int64],
    widths: NDArray[np.uint8],
    missing: NDArray[np.uint8],
    max_code: NDArray[np.int32] | NDArray[np.uint16],
) -> NDArray[np.uint16]:
    """Join the layers of all samples to codes.

    Arguments and errors as in `dequantize_chunk`.

    Returns:
        uint16, shape (sum(counts),): codes without their `missing` lowest bits.
    """
    codes, total = _prepare(layers, counts, widths, missing)
    limit = _per_sample("max_code", max_code, "i4", len(codes[2]))
    joined = np.empty(total, "u2")
    fault = kernels.join_uint16(*codes, limit, joined)
    if fault >= 0:
        raise fault_error(fault, codes[3], limit)
    return joined


_Codes = tuple[
    list[NDArray[np.uint8]],
    NDArray[np.uint8],
    NDArray[np.int64],
    NDArray[np.uint8],
    NDArray[np.uint8],
]
_Rule = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]


def _prepare(
    layers: Sequence[LayerData], counts: Any, widths: Any, missing: Any
) -> tuple[_Codes, int]:
    """Check all lengths before anything is allocated from them."""
    number = len(layers)
    if not 1 <= number <= MAX_LAYERS:
        raise ValueError(f"{number} layers, expected 1 to {MAX_LAYERS}")
    counts = np.ascontiguousarray(counts, "i8")
    widths = np.ascontiguousarray(widths, "u1")
    if counts.ndim != 1 or widths.shape != (len(counts), number):
        raise ValueError(
            f"counts {counts.shape} and widths {widths.shape}: expected (n,) and (n, {number})"
        )
    missing = _per_sample("missing", missing, "u1", len(counts))
    packed = _flags(tuple(layer.packed for layer in layers))
    needed = np.empty(number, "i8")
    total = kernels.measure(packed, counts, widths, missing, needed)
    if total < 0:
        bits = [*widths[-1 - total].tolist(), int(missing[-1 - total])]
        raise ValueError(
            f"sample {-1 - total}: {counts[-1 - total]} values of {bits} bits, "
            "expected at most 2^28 values in the chunk and 16 bits in all layers"
        )
    data = [as_octets(layer.data) for layer in layers]
    for layer, octets in enumerate(data):
        if len(octets) != needed[layer]:
            width = widths[:, layer]
            item = np.where(width > 8, 16, np.where(width > 0, 8, 0))
            nbytes = (counts * (width if packed[layer] else item) + 7) >> 3
            raise length_error(f"layer {layer}", len(octets), nbytes)
    return (data, packed, counts, widths, missing), total


@cache
def _flags(packed: tuple[bool, ...]) -> NDArray[np.uint8]:
    # A dozen of the 510 possible ones occur; making an array takes as long as reading 2 KiB.
    return np.array(packed, "u1")


def _rule(count: int, zero_point: Any, max_code: Any, gain: Any, shift: Any) -> _Rule:
    gain = np.ascontiguousarray(gain, "f4")
    shift = np.ascontiguousarray(shift, "f4")
    if gain.ndim != 2 or len(gain) != count or gain.shape[1] < 1 or shift.shape != gain.shape:
        raise ValueError(
            f"gain {gain.shape} and shift {shift.shape}: expected ({count}, channels) both"
        )
    return (
        _per_sample("zero_point", zero_point, "i4", count),
        _per_sample("max_code", max_code, "i4", count),
        gain,
        shift,
    )


def _per_sample(name: str, values: Any, dtype: str, count: int) -> Any:
    array = np.ascontiguousarray(values, dtype)
    if array.shape != (count,):
        raise ValueError(f"{name}: shape {array.shape}, expected ({count},)")
    return array


def _flat(out: NDArray[Any], dtype: str, count: int) -> NDArray[Any]:
    if out.dtype != dtype or out.size != count or not out.flags.c_contiguous:
        raise ValueError(
            f"out: {out.size} values of {out.dtype}, "
            f"expected {count} of {np.dtype(dtype)}, C-contiguous"
        )
    return out.reshape(-1)
