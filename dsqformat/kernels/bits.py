"""From codes to layers to bits: the writing half of spec 9.

Cython compiles this module ahead of time; it is Python as well, and the tests also run it
uncompiled. Nothing here checks lengths: callers give arrays that fit together.
"""

from __future__ import annotations

import cython

# One type argument serves the loops over values of one and of two bytes.
Value = cython.fused_type(cython.uchar, cython.ushort)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _split(
    codes: cython.const[cython.ushort][::1],
    counts: cython.const[cython.longlong][::1],
    shifts: cython.const[cython.uchar][::1],
    widths: cython.const[cython.uchar][::1],
    out: Value[::1],
) -> cython.void:
    sample: cython.Py_ssize_t
    i: cython.Py_ssize_t
    count: cython.Py_ssize_t
    source: cython.Py_ssize_t = 0
    target: cython.Py_ssize_t = 0
    shift: cython.int
    mask: cython.int
    for sample in range(counts.shape[0]):
        count = counts[sample]
        if widths[sample] > 0:
            shift = cython.cast(cython.int, shifts[sample])
            mask = (1 << cython.cast(cython.int, widths[sample])) - 1
            for i in range(count):
                out[target + i] = (codes[source + i] >> shift) & mask
            target += count
        source += count


def split_uint8(
    codes: cython.const[cython.ushort][::1],
    counts: cython.const[cython.longlong][::1],
    shifts: cython.const[cython.uchar][::1],
    widths: cython.const[cython.uchar][::1],
    out: cython.uchar[::1],
) -> None:
    """Write the values of one layer, of at most 8 bits: (code >> shift) mod 2^width.

    Args:
        codes: shape (sum of counts,).
        counts: shape (n,), codes of each sample.
        shifts: shape (n,), bits below the layer.
        widths: shape (n,), bits of the layer; samples with 0 contribute nothing.
        out: shape (sum of the counts where width > 0,).
    """
    with cython.nogil:
        _split(codes, counts, shifts, widths, out)


def split_uint16(
    codes: cython.const[cython.ushort][::1],
    counts: cython.const[cython.longlong][::1],
    shifts: cython.const[cython.uchar][::1],
    widths: cython.const[cython.uchar][::1],
    out: cython.ushort[::1],
) -> None:
    """As `split_uint8`, for a layer that has more than 8 bits in some sample."""
    with cython.nogil:
        _split(codes, counts, shifts, widths, out)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _pack_sample(
    values: cython.const[Value][::1],
    first: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    width: cython.int,
    out: cython.uchar[::1],
    start: cython.Py_ssize_t,
) -> cython.int:
    """Pack one sample; return the union of the bits of its values."""
    i: cython.Py_ssize_t
    union: cython.int = 0
    pending: cython.ulonglong = 0
    bits: cython.int = 0
    whole: cython.Py_ssize_t = 0
    # Widths that divide a byte have loops without a carry, which compilers vectorize.
    if width == 8:
        whole = count
        for i in range(whole):
            out[start + i] = values[first + i] & 255
    elif width == 4:
        whole = count & ~1
        for i in range(whole >> 1):
            out[start + i] = (values[first + 2 * i] & 15) | (values[first + 2 * i + 1] & 15) << 4
    elif width == 2:
        whole = count & ~3
        for i in range(whole >> 2):
            out[start + i] = (
                (values[first + 4 * i] & 3)
                | (values[first + 4 * i + 1] & 3) << 2
                | (values[first + 4 * i + 2] & 3) << 4
                | (values[first + 4 * i + 3] & 3) << 6
            )
    start += (whole * width) >> 3
    for i in range(whole, count):
        pending |= cython.cast(cython.ulonglong, values[first + i]) << bits
        bits += width
        while bits >= 8:
            out[start] = pending & 255
            start += 1
            pending >>= 8
            bits -= 8
    if bits > 0:
        out[start] = pending & 255
    for i in range(count):
        union |= values[first + i]
    return union


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _pack(
    values: cython.const[Value][::1],
    counts: cython.const[cython.longlong][::1],
    widths: cython.const[cython.uchar][::1],
    out: cython.uchar[::1],
) -> cython.Py_ssize_t:
    sample: cython.Py_ssize_t
    count: cython.Py_ssize_t
    first: cython.Py_ssize_t = 0
    start: cython.Py_ssize_t = 0
    width: cython.int
    for sample in range(counts.shape[0]):
        width = cython.cast(cython.int, widths[sample])
        count = counts[sample]
        if width > 0:
            if _pack_sample(values, first, count, width, out, start) >> width != 0:
                return sample
            first += count
            start += (count * width + 7) >> 3
    return -1


def pack_uint8(
    values: cython.const[cython.uchar][::1],
    counts: cython.const[cython.longlong][::1],
    widths: cython.const[cython.uchar][::1],
    out: cython.uchar[::1],
) -> cython.Py_ssize_t:
    """Pack the values of each sample from a byte border on (spec 9.1).

    Args:
        values: shape (sum of the counts where width > 0,).
        counts: shape (n,), values of each sample.
        widths: shape (n,), bits per value; samples with 0 contribute nothing.
        out: shape (sum of ceil(count * width / 8),).

    Returns:
        -1, or the first sample with a value that does not fit its width.
    """
    with cython.nogil:
        fault: cython.Py_ssize_t = _pack(values, counts, widths, out)
    return fault


def pack_uint16(
    values: cython.const[cython.ushort][::1],
    counts: cython.const[cython.longlong][::1],
    widths: cython.const[cython.uchar][::1],
    out: cython.uchar[::1],
) -> cython.Py_ssize_t:
    """As `pack_uint8`, for values that may have more than 8 bits."""
    with cython.nogil:
        fault: cython.Py_ssize_t = _pack(values, counts, widths, out)
    return fault
