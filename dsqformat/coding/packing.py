"""Integers of a few bits as bytes and back, many samples at a time (spec 9 and 9.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat import kernels
from dsqformat.errors import CorruptShardError
from dsqformat.wire import MAX_BIT_WIDTH, MAX_VALUES

# `fault % 32` of a kernel: kind * 8 + layer.
_PADDING, _VALUE = 0, 1


@dataclass(frozen=True, slots=True)
class LayerData:
    """One layer of a chunk, all samples after one another.

    Attributes:
        data: contiguous bytes.
        packed: True: values of each sample bit-packed from a byte border on (coding 0, without
            its coding byte). False: whole values, for each sample one byte if it has at most
            8 bits in this layer, else a little-endian u16 (what the frames of coding 1 hold).
    """

    data: bytes | bytearray | memoryview | NDArray[np.uint8]
    packed: bool


def packed_nbytes(counts: NDArray[np.int64], widths: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the bytes of each packed sample, int64, shape (n,): ceil(count * width / 8).

    Args:
        counts: int64, shape (n,), values per sample.
        widths: uint8, shape (n,), bits per value.
    """
    nbytes: NDArray[np.int64] = (counts * widths + 7) >> 3
    return nbytes


def pack_values(
    values: NDArray[np.uint8] | NDArray[np.uint16],
    counts: NDArray[np.int64],
    widths: NDArray[np.uint8],
) -> bytes:
    """Pack the values of each sample from a byte border on (spec 9.1).

    Args:
        values: uint8 or uint16, all samples after one another; those of width 0 have none.
        counts: int64, shape (n,), values per sample.
        widths: uint8, shape (n,), bits per value, 0 to 16.

    Returns:
        sum(packed_nbytes(counts, widths)) bytes; spare high bits are zero.

    Raises:
        ValueError: a value does not fit its width, or the arguments do not fit together.
    """
    counts = np.ascontiguousarray(counts, "i8")
    widths = np.ascontiguousarray(widths, "u1")
    _check_samples(counts, widths)
    there = int(counts[widths > 0].sum())
    if values.shape != (there,):
        raise ValueError(f"values of shape {values.shape}, expected ({there},)")
    out = np.empty(int(packed_nbytes(counts, widths).sum()), "u1")
    if values.dtype == np.uint8:
        fault = kernels.pack_uint8(np.ascontiguousarray(values, "u1"), counts, widths, out)
    elif values.dtype == np.uint16:
        fault = kernels.pack_uint16(np.ascontiguousarray(values, "u2"), counts, widths, out)
    else:
        raise ValueError(f"values of dtype {values.dtype}, expected uint8 or uint16")
    if fault >= 0:
        raise ValueError(f"sample {fault}: a value does not fit in {widths[fault]} bits")
    return out.tobytes()


def unpack_values(
    data: bytes | memoryview, counts: NDArray[np.int64], widths: NDArray[np.uint8]
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Undo `pack_values`.

    Args:
        data: the packed bytes of all samples and nothing else.
        counts: int64, shape (n,), values per sample.
        widths: uint8, shape (n,), bits per value, 0 to 16.

    Returns:
        Values of all samples after one another, those of width 0 left out; uint8 where no width
        is above 8, else uint16.

    Raises:
        CorruptShardError: `data` is too short or too long, or a spare bit is set.
        ValueError: the arguments do not fit together.
    """
    counts = np.ascontiguousarray(counts, "i8")
    widths = np.ascontiguousarray(widths, "u1")
    _check_samples(counts, widths)
    counts = np.where(widths > 0, counts, 0)
    raw = as_octets(data)
    nbytes = packed_nbytes(counts, widths)
    if nbytes.sum() != len(raw):
        raise length_error("data", len(raw), nbytes)
    narrow = widths.max(initial=0) <= 8
    layers, packed = [raw], np.ones(1, "u1")
    nothing = np.zeros(len(counts), "i4")
    missing = np.ones(len(counts), "u1")  # no code is too large where bits are missing
    values: NDArray[Any] = np.empty(int(counts.sum()), "u1" if narrow else "u2")
    join = kernels.join_uint8 if narrow else kernels.join_uint16
    fault = join(layers, packed, counts, widths.reshape(-1, 1), missing, nothing, values)
    if fault >= 0:
        raise fault_error(fault, widths.reshape(-1, 1), nothing)
    return values


def as_octets(data: bytes | bytearray | memoryview | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return bytes as an array that shares their memory."""
    # frombuffer refuses what is empty.
    return np.frombuffer(data, "u1") if len(data) else np.empty(0, "u1")


def length_error(what: str, got: int, nbytes: NDArray[np.int64]) -> CorruptShardError:
    """Return the error for data that is not as long as its samples, of `nbytes` each."""
    ends = np.cumsum(nbytes)
    expected = int(ends[-1]) if len(ends) else 0
    where = f"{what}: {got} bytes, expected {expected} for {len(nbytes)} samples"
    if got < expected:
        where += f"; sample {int(np.searchsorted(ends, got, 'right'))} is cut off"
    return CorruptShardError(where)


def fault_error(
    fault: int, widths: NDArray[np.uint8], max_code: NDArray[np.int32]
) -> CorruptShardError:
    """Return the error for what a kernel found (see `kernels.dequant`)."""
    sample, kind, layer = fault // 32, fault % 32 // 8, fault % 8
    if kind == _PADDING:
        return CorruptShardError(
            f"sample {sample}, layer {layer}: spare bits after its last value are set, expected 0"
        )
    if kind == _VALUE:
        return CorruptShardError(
            f"sample {sample}, layer {layer}: a value has more than {widths[sample, layer]} bits"
        )
    return CorruptShardError(f"sample {sample}: a code is above the largest, {max_code[sample]}")


def _check_samples(counts: NDArray[np.int64], widths: NDArray[np.uint8]) -> None:
    if counts.ndim != 1 or counts.shape != widths.shape:
        raise ValueError(
            f"counts {counts.shape} and widths {widths.shape}: expected one per sample"
        )
    if len(counts) and not (counts.min() >= 0 and counts.max() <= MAX_VALUES):
        raise ValueError(f"counts {counts.min()} to {counts.max()}, expected 0 to 2^28")
    if widths.max(initial=0) > MAX_BIT_WIDTH:
        raise ValueError(f"widths up to {widths.max()}, expected 0 to {MAX_BIT_WIDTH}")
