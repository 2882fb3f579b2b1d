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
        matrix = _rows(values, firsts[rows], count)
        bad[rows] = (matrix >> width).any(axis=1) if width < 16 else False
        _set_rows(out, starts[rows], _pack_rows(matrix, width))
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
        if layer:
            out <<= _spread(width, counts)
        out |= part.astype(out.dtype, copy=False)
    # The check of codes costs a pass; most widths have no illegal code.
    limited = (missing == 0) & (max_code < (1 << widths.sum(axis=1, dtype="i8")) - 1) & (counts > 0)
    if limited.any():
        there = counts > 0
        top = np.zeros(len(counts), "i8")
        top[there] = np.maximum.reduceat(out, (np.cumsum(counts) - counts)[there])
        bad[:, CODE, 0] = limited & (top > max_code)
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
    channels = gain.shape[1]
    with np.errstate(over="ignore"):
        if len(counts) and (counts == counts[0]).all() and counts[0] % channels == 0:
            values = codes.reshape(len(counts), -1, channels) * step[:, None, None]
            values += middle[:, None, None]
            values *= gain[:, None, :]
            np.add(values, shift[:, None, :], out=out.reshape(values.shape))
            return -1
        sample = np.repeat(np.arange(len(counts)), counts)
        channel = (np.arange(len(out)) - (np.cumsum(counts) - counts)[sample]) % channels
        np.multiply(codes, step[sample], out=out)
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


def _spread(per_sample: U8, counts: I64) -> Any:
    """Return one number per value, or one for all where all samples agree."""
    if len(per_sample) and (per_sample == per_sample[0]).all():
        return per_sample[0]
    return np.repeat(per_sample, counts)


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


def _rows(flat: NDArray[Any], starts: I64, size: int) -> NDArray[Any]:
    """Return `size` items from each start on as the rows of a matrix; a view where it can be."""
    if int(starts[-1] - starts[0]) == size * (len(starts) - 1):
        first = int(starts[0])
        return flat[first : first + size * len(starts)].reshape(-1, size)
    gathered: NDArray[Any] = flat[_places(starts, size)]
    return gathered


def _set_rows(flat: NDArray[Any], starts: I64, rows: NDArray[Any]) -> None:
    """Write the rows of a matrix to `flat`, each from its start on."""
    size = rows.shape[1]
    if int(starts[-1] - starts[0]) == size * (len(starts) - 1):
        first = int(starts[0])
        flat[first : first + size * len(starts)].reshape(-1, size)[...] = rows
    else:
        flat[_places(starts, size)] = rows


def _places(starts: I64, size: int) -> NDArray[np.int64]:
    return starts[:, None] + np.arange(size)


def _expand(data: U8, packed: bool, counts: I64, widths: U8, out: U16) -> NDArray[np.bool_]:
    """Write the values of one layer to `out`; return which samples break a rule."""
    sizes = _nbytes(packed, counts, widths)
    starts = np.cumsum(sizes) - sizes
    firsts = np.cumsum(counts) - counts
    bad = np.zeros(len(counts), bool)
    for rows, count, width in _groups(counts, widths):
        raw = _rows(data, starts[rows], int(sizes[rows[0]]))
        if packed:
            values = _unpack_rows(raw, count, width)
            spare = (count * width) & 7
            bad[rows] = (raw[:, -1] >> spare) > 0 if spare else False
        else:
            values = raw if width <= 8 else raw.view("<u2")
            bad[rows] = (values >> width).any(axis=1) if width not in (8, 16) else False
        _set_rows(out, firsts[rows], values)
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
    if width == 8:
        return raw
    if width in (1, 2, 4):
        steps = np.arange(0, 8, width, dtype="u1")
        parts = (raw[:, :, None] >> steps) & np.uint8((1 << width) - 1)
        return parts.reshape(rows, -1)[:, :count]
    if width == 16:
        return raw.view("<u2")
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
