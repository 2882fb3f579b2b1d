"""Patches that share scale and offset by group: values from codes (spec 10).

Cython compiles this module ahead of time; it is Python as well, and the tests also run it
uncompiled. Nothing here checks lengths: callers do so before the loop.

`plain_patches` gives the same bits.
"""

from __future__ import annotations

import cython
import numpy as np

# Values of a row that are dequantized at a time: their scales and offsets stay in the cache.
TILE = cython.declare(cython.Py_ssize_t, 1024)
# Added to a number of 0 to 255, 2^23 leaves no room for a fraction: it rounds half to even.
WHOLE = cython.declare(cython.float, 8388608.0)
# Stand for the output that is not asked for.
NO_FLOATS = np.empty(0, "f4")
NO_OCTETS = np.empty(0, "u1")


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _spread(
    ids: cython.const[cython.ushort][::1],
    patch: cython.Py_ssize_t,
    place: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    scale: cython.const[cython.float][::1],
    offset: cython.const[cython.float][::1],
    first: cython.Py_ssize_t,
    gains: cython.float[::1],
    shifts: cython.float[::1],
) -> cython.void:
    """Write scale and offset of `count` values from value `place` of a row on.

    `patch` is the values of a patch in a row: all patches have as many, but perhaps the last.
    `first` is the number of the id of the first patch of the row.
    """
    i: cython.Py_ssize_t = 0
    end: cython.Py_ssize_t
    number: cython.Py_ssize_t = place // patch
    gain: cython.float
    shift: cython.float
    while i < count:
        gain = scale[ids[first + number]]
        shift = offset[ids[first + number]]
        number += 1
        end = min(number * patch - place, count)
        while i < end:
            gains[i] = gain
            shifts[i] = shift
            i += 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _emit_floats(
    codes: cython.const[cython.ushort][::1],
    start: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    missing: cython.int,
    gains: cython.const[cython.float][::1],
    shifts: cython.const[cython.float][::1],
    out: cython.float[::1],
) -> cython.void:
    """Write c' * gain + shift, each operation rounded on its own."""
    i: cython.Py_ssize_t
    step: cython.float = 1 << missing
    middle: cython.float = 0.5 * ((1 << missing) - 1)
    for i in range(count):
        out[start + i] = (
            cython.cast(cython.float, cython.cast(cython.int, codes[start + i])) * step + middle
        ) * gains[i] + shifts[i]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _emit_bytes(
    codes: cython.const[cython.ushort][::1],
    start: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    missing: cython.int,
    gains: cython.const[cython.float][::1],
    shifts: cython.const[cython.float][::1],
    levels: cython.float[::1],
    out: cython.uchar[::1],
) -> cython.void:
    """Write min(255, max(0, rint(fl(x * 255)))) of the values x; `levels` is scratch."""
    i: cython.Py_ssize_t
    level: cython.float
    step: cython.float = 1 << missing
    middle: cython.float = 0.5 * ((1 << missing) - 1)
    # Named, because literals would make doubles of them.
    least: cython.float = 0
    most: cython.float = 255
    whole: cython.float = WHOLE
    # One step per loop: a comparison and what follows it would be compiled to branches.
    for i in range(count):
        level = (
            (cython.cast(cython.float, cython.cast(cython.int, codes[start + i])) * step + middle)
            * gains[i]
            + shifts[i]
        ) * most
        levels[i] = level if level > least else least
    for i in range(count):
        level = levels[i]
        levels[i] = level if level < most else most
    for i in range(count):
        out[start + i] = cython.cast(cython.int, (levels[i] + whole) - whole)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _kept_row(
    kept: cython.const[cython.uchar][::1],
    first: cython.Py_ssize_t,
    columns: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Return how many of the patches of a row are kept; an empty `kept` keeps all."""
    i: cython.Py_ssize_t
    count: cython.Py_ssize_t = 0
    if kept.shape[0] == 0:
        return columns
    for i in range(columns):
        count += kept[first + i] != 0
    return count


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _dequantize(
    codes: cython.const[cython.ushort][::1],
    missing: cython.const[cython.uchar][::1],
    ids: cython.const[cython.ushort][::1],
    scale: cython.const[cython.float][::1],
    offset: cython.const[cython.float][::1],
    shapes: cython.const[cython.longlong][:, ::1],
    patch: cython.Py_ssize_t,
    kept: cython.const[cython.uchar][::1],
    scratch: cython.float[:, ::1],
    floats: cython.float[::1],
    octets: cython.uchar[::1],
) -> cython.Py_ssize_t:
    """Write floats, or bytes if there is room for none of those."""
    sample: cython.Py_ssize_t
    number: cython.Py_ssize_t
    row: cython.Py_ssize_t
    y: cython.Py_ssize_t
    tile: cython.Py_ssize_t
    size: cython.Py_ssize_t
    tall: cython.Py_ssize_t
    columns: cython.Py_ssize_t
    there: cython.Py_ssize_t
    width: cython.Py_ssize_t
    channels: cython.Py_ssize_t
    value: cython.Py_ssize_t = 0
    cell: cython.Py_ssize_t = 0
    first: cython.Py_ssize_t = 0
    bits: cython.int
    groups: cython.Py_ssize_t = scale.shape[0]
    for number in range(ids.shape[0]):
        if ids[number] >= groups:
            return number
    for sample in range(shapes.shape[0]):
        bits = cython.cast(cython.int, missing[sample])
        channels = shapes[sample, 2]
        columns = (shapes[sample, 1] + patch - 1) // patch
        row = 0
        while row < shapes[sample, 0]:
            tall = min(patch, shapes[sample, 0] - row)
            there = _kept_row(kept, cell, columns)
            # Values of the kept patches of one row of pixels: the last patch may be narrower.
            width = there * patch
            if channels == 0:
                # A sample without values has no ids.
                there = 0
            if columns > 0 and (kept.shape[0] == 0 or kept[cell + columns - 1] != 0):
                width += shapes[sample, 1] - columns * patch
            width *= channels
            tile = 0
            while tile < width:
                size = min(TILE, width - tile)
                _spread(
                    ids, patch * channels, tile, size, scale, offset, first, scratch[0], scratch[1]
                )
                for y in range(tall):
                    if floats.shape[0] > 0:
                        _emit_floats(
                            codes, value + y * width + tile, size, bits,
                            scratch[0], scratch[1], floats,
                        )  # fmt: skip
                    else:
                        _emit_bytes(
                            codes, value + y * width + tile, size, bits,
                            scratch[0], scratch[1], scratch[2], octets,
                        )  # fmt: skip
                tile += size
            value += tall * width
            first += there
            cell += columns
            row += tall
    return -1


def dequantize_patches_float32(
    codes: cython.const[cython.ushort][::1],
    missing: cython.const[cython.uchar][::1],
    ids: cython.const[cython.ushort][::1],
    scale: cython.const[cython.float][::1],
    offset: cython.const[cython.float][::1],
    shapes: cython.const[cython.longlong][:, ::1],
    patch: cython.Py_ssize_t,
    kept: cython.const[cython.uchar][::1],
    out: cython.float[::1],
) -> cython.Py_ssize_t:
    """Write the values of all samples; return the first id at or above the groups, or -1.

    Args:
        codes: the top bits of all codes, samples after one another, kept values in C order.
        missing: shape (n,), bits below those, 0 to 16 (k of spec 9.2).
        ids: the groups of all kept patches, samples after one another, in raster order.
        scale: shape (groups,).
        offset: shape (groups,).
        shapes: shape (n, 3): height, width, channels.
        patch: side of a patch, at least 1.
        kept: one byte per patch, 0 where it is left out; empty: every patch is kept.
        out: as long as `codes`.
    """
    fault: cython.Py_ssize_t
    octets: cython.uchar[::1] = NO_OCTETS
    scratch: cython.float[:, ::1] = np.empty((3, TILE), "f4")
    with cython.nogil:
        fault = _dequantize(
            codes, missing, ids, scale, offset, shapes, patch, kept, scratch, out, octets
        )  # fmt: skip
    return fault


def dequantize_patches_uint8(
    codes: cython.const[cython.ushort][::1],
    missing: cython.const[cython.uchar][::1],
    ids: cython.const[cython.ushort][::1],
    scale: cython.const[cython.float][::1],
    offset: cython.const[cython.float][::1],
    shapes: cython.const[cython.longlong][:, ::1],
    patch: cython.Py_ssize_t,
    kept: cython.const[cython.uchar][::1],
    out: cython.uchar[::1],
) -> cython.Py_ssize_t:
    """As `dequantize_patches_float32`, but write min(255, max(0, rint(fl(x * 255))))."""
    fault: cython.Py_ssize_t
    floats: cython.float[::1] = NO_FLOATS
    scratch: cython.float[:, ::1] = np.empty((3, TILE), "f4")
    with cython.nogil:
        fault = _dequantize(
            codes, missing, ids, scale, offset, shapes, patch, kept, scratch, floats, out
        )  # fmt: skip
    return fault
