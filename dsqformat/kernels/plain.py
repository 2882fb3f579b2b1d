"""The kernels in NumPy: what runs where nothing could be compiled, and what tests compare with.

Same names, arguments and results as `bits` and `dequant`, where they are documented.
Samples of equal count and width are decoded together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
Values = NDArray[np.uint8] | NDArray[np.uint16]

MAX_COUNT = 1 << 28
PADDING, VALUE, CODE = 0, 1, 2


def split_uint8(codes: U16, counts: I64, shifts: U8, widths: U8, out: Values) -> None:
    """See `bits.split_uint8`."""
    shift = np.repeat(shifts.astype("u2"), counts)
    mask = np.repeat(((1 << widths.astype("u4")) - 1).astype("u2"), counts)
    out[...] = ((codes >> shift) & mask)[np.repeat(widths > 0, counts)]


def split_uint16(codes: U16, counts: I64, shifts: U8, widths: U8, out: U16) -> None:
    """See `bits.split_uint16`."""
    split_uint8(codes, counts, shifts, widths, out)


def pack_uint8(values: Values, counts: I64, widths: U8, out: U8) -> int:
    """See `bits.pack_uint8`."""
    there = np.where(widths > 0, counts, 0)
    firsts = np.cumsum(there) - there
    sizes = _nbytes(True, counts, widths)
    starts = np.cumsum(sizes) - sizes
    bad = np.zeros(len(counts), bool)
    for rows, count, width in _groups(counts, widths):
        matrix = values[_places(firsts[rows], count)]
        bad[rows] = (matrix >> width).any(axis=1) if width < 16 else False
        out[_places(starts[rows], (count * width + 7) >> 3)] = _pack_rows(matrix, width)
    return int(np.argmax(bad)) if bad.any() else -1


def pack_uint16(values: U16, counts: I64, widths: U8, out: U8) -> int:
    """See `bits.pack_uint16`."""
    return pack_uint8(values, counts, widths, out)


def measure(packed: U8, counts: I64, widths: U8, missing: U8, needed: I64) -> int:
    """See `dequant.measure`."""
    out_of_range = (counts < 0) | (counts > MAX_COUNT)
    sums = np.cumsum(np.where(out_of_range, 0, counts))
    bad = out_of_range | (sums > MAX_COUNT) | (widths.sum(axis=1, dtype="i8") + missing > 16)
    if bad.any():
        return -1 - int(np.argmax(bad))
    for layer in range(len(needed)):
        needed[layer] = _nbytes(bool(packed[layer]), counts, widths[:, layer]).sum()
    return int(sums[-1]) if len(sums) else 0


def join_uint16(
    layers: list[U8], packed: U8, counts: I64, widths: U8, missing: U8, max_code: I32, out: Values
) -> int:
    """See `dequant.join_uint16`."""
    bad = np.zeros((len(counts), 3, 8), bool)
    out[...] = 0
    for layer, data in enumerate(layers):
        width = widths[:, layer]
        is_packed = bool(packed[layer])
        part = np.zeros(len(out), "u2")
        bad[:, PADDING if is_packed else VALUE, layer] = _expand(
            data, is_packed, counts, width, part
        )
        out <<= np.repeat(width, counts)
        out |= part.astype(out.dtype)
    legal = np.where(missing == 0, max_code, 65535)
    bad[:, CODE, 0] = _any_in_sample(out > np.repeat(legal, counts), counts)
    return _first_fault(bad)


def join_uint8(
    layers: list[U8], packed: U8, counts: I64, widths: U8, missing: U8, max_code: I32, out: U8
) -> int:
    """See `dequant.join_uint8`."""
    return join_uint16(layers, packed, counts, widths, missing, max_code, out)


def dequantize_float32(
    layers: list[U8],
    packed: U8,
    counts: I64,
    widths: U8,
    missing: U8,
    zero_point: I32,
    max_code: I32,
    gain: F32,
    shift: F32,
    out: F32,
) -> int:
    """See `dequant.dequantize_float32`."""
    codes = np.empty(len(out), "u2")
    fault = join_uint16(layers, packed, counts, widths, missing, max_code, codes)
    if fault >= 0:
        return fault
    step = np.exp2(missing.astype("f4"))
    middle = ((step - 1) / 2 - zero_point).astype("f4")
    out[...] = codes
    with np.errstate(over="ignore"):
        if len(counts) and (counts == counts[0]).all() and counts[0] % gain.shape[1] == 0:
            rows = out.reshape(len(counts), -1, gain.shape[1])
            rows *= step[:, None, None]
            rows += middle[:, None, None]
            rows *= gain[:, None, :]
            rows += shift[:, None, :]
            return -1
        sample = np.repeat(np.arange(len(counts)), counts)
        channel = (np.arange(len(out)) - (np.cumsum(counts) - counts)[sample]) % gain.shape[1]
        out *= step[sample]
        out += middle[sample]
        out *= gain[sample, channel]
        out += shift[sample, channel]
    return -1


def dequantize_uint8(
    layers: list[U8],
    packed: U8,
    counts: I64,
    widths: U8,
    missing: U8,
    zero_point: I32,
    max_code: I32,
    gain: F32,
    shift: F32,
    out: U8,
) -> int:
    """See `dequant.dequantize_uint8`."""
    levels = np.empty(len(out), "f4")
    fault = dequantize_float32(
        layers, packed, counts, widths, missing, zero_point, max_code, gain, shift, levels
    )
    with np.errstate(over="ignore"):
        levels *= 255
    out[...] = np.rint(np.clip(levels, 0, 255)) if fault < 0 else 0
    return fault


def _first_fault(bad: NDArray[np.bool_]) -> int:
    samples = bad.any(axis=(1, 2))
    if not samples.any():
        return -1
    sample = int(np.argmax(samples))
    return sample * 32 + int(np.argmax(bad[sample]))


def _any_in_sample(flags: NDArray[np.bool_], counts: I64) -> NDArray[np.bool_]:
    total = np.concatenate([[0], np.cumsum(flags)])
    ends = np.cumsum(counts)
    result: NDArray[np.bool_] = total[ends] > total[ends - counts]
    return result


def _nbytes(packed: bool, counts: I64, widths: U8) -> I64:
    """Return the bytes of each sample in one layer (spec 9)."""
    item = (widths > 0).astype("i8") + (widths > 8)
    nbytes: I64 = (counts * widths + 7) >> 3 if packed else counts * item
    return nbytes


def _groups(counts: I64, widths: U8) -> Iterator[tuple[NDArray[np.intp], int, int]]:
    """Yield (samples, count, width) for each pair that occurs, empty samples left out."""
    pairs, group = np.unique(np.stack([counts, widths.astype("i8")]), axis=1, return_inverse=True)
    for number, (count, width) in enumerate(pairs.T.tolist()):
        if count and width:
            yield np.flatnonzero(group.reshape(-1) == number), count, width


def _places(starts: I64, size: int) -> Any:
    """Return an index of shape (samples, size) that begins each row at its start."""
    return starts[:, None] + np.arange(size)


def _expand(data: U8, packed: bool, counts: I64, widths: U8, out: U16) -> NDArray[np.bool_]:
    """Write the values of one layer to `out`; return which samples break a rule."""
    sizes = _nbytes(packed, counts, widths)
    starts = np.cumsum(sizes) - sizes
    firsts = np.cumsum(counts) - counts
    bad = np.zeros(len(counts), bool)
    for rows, count, width in _groups(counts, widths):
        raw = data[_places(starts[rows], int(sizes[rows[0]]))]
        if packed:
            values = _unpack_rows(raw, count, width)
            spare = (count * width) & 7
            bad[rows] = (raw[:, -1] >> spare) > 0 if spare else False
        else:
            values = raw if width <= 8 else raw.view("<u2")
            bad[rows] = (values >> width).any(axis=1) if width not in (8, 16) else False
        out[_places(firsts[rows], count)] = values
    return bad


def _pack_rows(values: NDArray[Any], width: int) -> U8:
    """Pack each row from a byte border on; groups of 8 values are `width` bytes."""
    rows, count = values.shape
    groups = -(-count // 8)
    padded = np.zeros((rows, groups, 2, 4), "<u8")
    padded.reshape(rows, -1)[:, :count] = values
    quads = (padded << (np.arange(4) * width).astype("<u8")).sum(axis=3, dtype="<u8")
    words = np.zeros((rows, groups, 2), "<u8")
    bits = 4 * width
    words[..., 0] = quads[..., 0]
    if bits < 64:
        words[..., 0] |= quads[..., 1] << np.uint64(bits)
        words[..., 1] = quads[..., 1] >> np.uint64(64 - bits)
    else:
        words[..., 1] = quads[..., 1]
    octets = words.view("u1")[..., :width].reshape(rows, -1)
    return octets[:, : (count * width + 7) >> 3]


def _unpack_rows(raw: U8, count: int, width: int) -> NDArray[Any]:
    """Undo `_pack_rows`."""
    rows = len(raw)
    groups = -(-count // 8)
    padded = np.zeros((rows, groups * width), "u1")
    padded[:, : raw.shape[1]] = raw
    octets = np.zeros((rows, groups, 16), "u1")
    octets[..., :width] = padded.reshape(rows, groups, width)
    words = octets.view("<u8")
    quads = np.empty((rows, groups, 2), "<u8")
    bits = 4 * width
    quads[..., 0] = words[..., 0]
    if bits < 64:
        quads[..., 1] = words[..., 0] >> np.uint64(bits)
        quads[..., 1] |= words[..., 1] << np.uint64(64 - bits)
    else:
        quads[..., 1] = words[..., 1]
    shifts = (np.arange(4) * width).astype("<u8")
    values: NDArray[Any] = (quads[..., None] >> shifts) & np.uint64((1 << width) - 1)
    return values.reshape(rows, -1)[:, :count]
