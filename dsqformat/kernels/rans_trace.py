"""From codes on a grid to contexts and symbols: the first half of writing (spec 9.3.4 to 9.3.8).

Cython compiles this module ahead of time, together with `.pxd` files beside it. Nothing here checks
lengths or tables: callers do so before the loop.
"""

from __future__ import annotations

import cython
from cython.cimports.dsqformat.kernels.rans_context import (
    CURRENT,
    CURRENT_TAPS,
    DIRECT_BITS,
    EN,
    ERRORS,
    FIRST_LEVEL,
    LEVELS,
    LUT,
    MIDDLE,
    NN,
    NUMBERS,
    SLACK,
    SS,
    N,
    S,
    end_pixel,
    leave_out,
    start_row,
)
from cython.cimports.dsqformat.kernels.rans_pixels import (
    Layer,
    Pixel,
    expect,
    keep,
    place,
    set_layer,
    start_pixels,
)
from cython.cimports.dsqformat.kernels.rans_sums import classes_of, prepare, sums_of
from cython.cimports.dsqformat.kernels.rans_vectors import all_of, quad, store


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _bin(offset: cython.int, bits: cython.int) -> cython.int:
    """Return the last part of a context: where in its range the value is expected."""
    if bits > DIRECT_BITS:
        return (offset & 15) >> 2
    return offset >> (bits - 2) if bits > 2 else offset


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _fold(value: cython.int, expected: cython.int, top: cython.int) -> cython.int:
    """Return the residual as a natural number not above `top`."""
    reach: cython.int = min(expected, top - expected)
    d: cython.int = value - expected
    if abs(d) > reach:
        return abs(d) + reach
    return 2 * d if d >= 0 else -2 * d - 1


def trace(
    codes: cython.const[cython.ushort][::1],
    first: cython.const[cython.longlong][::1],
    heights: cython.const[cython.longlong][::1],
    widths: cython.const[cython.longlong][::1],
    config: cython.const[cython.int][::1],
    channels: cython.Py_ssize_t,
    numbers: cython.const[cython.int][::1],
    borders: cython.const[cython.int][::1],
    weights: cython.const[cython.short][::1],
    bias: cython.const[cython.int][::1],
    energy: cython.const[cython.short][::1],
    mixes: cython.const[cython.short][::1],
    constants: cython.const[cython.int][::1],
    levels: cython.const[cython.uchar][::1],
    shorts: cython.short[::1],
    ints: cython.int[::1],
    contexts: cython.int[::1],
    symbols: cython.uchar[::1],
    extras: cython.ushort[::1],
    seen: cython.int[:, ::1],
    every: cython.Py_ssize_t,
    kept: cython.const[cython.uchar][::1],
) -> None:
    """Write context, symbol and extra bits of every value that is kept.

    Args:
        codes: codes to the precision of this layer, all samples after one another.
        first: shape (n,), the first value of each sample.
        heights: shape (n,), rows of each sample.
        widths: shape (n,), pixels of a row.
        config: shape (n,), configuration of each sample; below 0: no values in this layer.
        channels: 1 to 4.
        numbers: per configuration: bits above, bits, first context, contexts per level, first
            class, where in `starts` table 0 of the model would begin, distance of its tables.
        borders: per configuration CLASSES - 1 ascending activities that begin a class.
        weights: per class and channel the weights of prediction in 1/4096; see `geometry`.
        bias: per class and channel, in 1/16; for NumPy, here it is part of `constants`.
        energy: per configuration and channel ENERGY weights.
        mixes: per class the weights of the current row, as `model` makes them.
        constants: per class what sums of prediction and energy begin with, likewise.
        levels: per configuration LUT levels.
        shorts: scratch; see `layer_codes.scratch`.
        ints: scratch.
        contexts: out, one per value that has bits.
        symbols: out, likewise.
        extras: out, likewise.
        seen: out, what `geometry.SEEN` says of each channel of every `every`-th pixel until `seen`
            is full.
        every: at least 1.
        kept: for each pixel of all samples whether it is kept; empty if all are.
    """
    sample: cython.Py_ssize_t
    y: cython.Py_ssize_t
    x: cython.Py_ssize_t
    k: cython.Py_ssize_t
    n: cython.Py_ssize_t = 0
    c: cython.Py_ssize_t
    at: cython.Py_ssize_t
    count: cython.Py_ssize_t
    stride: cython.Py_ssize_t
    source: cython.Py_ssize_t
    vector: cython.Py_ssize_t = (5 * channels + 7) // 8 * 40 + CURRENT_TAPS
    above: cython.int
    bits: cython.int
    middle: cython.int
    level: cython.int
    offset: cython.int
    value: cython.int
    z: cython.int
    size: cython.int
    sums: cython.Py_ssize_t
    row: cython.Py_ssize_t = 0
    passed: cython.Py_ssize_t = 0
    # Samples come one by one: the first of four places is in use.
    layer: Layer
    pixel: Pixel
    predicted: quad
    foreseen: quad
    four: cython.int[4]
    with cython.nogil:
        for sample in range(first.shape[0]):
            c = config[sample]
            if c < 0:
                continue
            above = numbers[c * NUMBERS]
            bits = numbers[c * NUMBERS + 1]
            middle = (1 << (above + bits)) >> 1
            set_layer(cython.address(layer), channels, above, bits, c, energy)
            sums = sums_of(0, widths[sample], channels)
            count = widths[sample] * channels
            stride = count + 4 * channels + SLACK
            source = first[sample]
            for y in range(heights[sample]):
                start_row(
                    codes,
                    first[sample],
                    y,
                    heights[sample],
                    widths[sample],
                    channels,
                    above,
                    bits,
                    bits,
                    shorts,
                    0,
                    ints,
                    0,
                )
                if y > 0:
                    prepare(
                        channels,
                        c,
                        0,
                        widths[sample],
                        above,
                        numbers,
                        borders,
                        weights,
                        constants,
                        energy,
                        shorts,
                        0,
                        stride,
                        ints,
                        sums,
                        widths[sample],
                    )
                for x in range(widths[sample]):
                    at = (x + 2) * channels
                    if kept.shape[0] > 0 and kept[source // channels] == 0:
                        leave_out(channels, ints, 4 * at)
                        if y == 0:
                            end_pixel(channels, above, shorts, at, stride, ints, 4 * at)
                        for k in range(channels):
                            shorts[at + CURRENT * stride + k] = ints[4 * (at + k)]
                            shorts[at + ERRORS * stride + k] = ints[4 * (at + k)] >> 16
                        source += channels
                        continue
                    if y == 0:
                        prepare(
                            channels,
                            c,
                            x,
                            x + 1,
                            above,
                            numbers,
                            borders,
                            weights,
                            constants,
                            energy,
                            shorts,
                            0,
                            stride,
                            ints,
                            sums,
                            widths[sample],
                        )
                    start_pixels(
                        channels,
                        cython.address(pixel),
                        x,
                        above,
                        mixes,
                        shorts,
                        0,
                        stride,
                        ints,
                        0,
                        widths[sample],
                        1,
                    )
                    for k in range(channels):
                        predicted = expect(
                            cython.address(layer),
                            cython.address(pixel),
                            k,
                            cython.address(foreseen),
                        )
                        store(four, foreseen)
                        level = levels[c * LUT + four[0]]
                        if x == 0 and y == 0:
                            level = FIRST_LEVEL
                        store(
                            four,
                            place(
                                cython.address(layer),
                                cython.address(pixel),
                                k,
                                predicted,
                                cython.address(foreseen),
                            ),
                        )
                        offset = four[0]
                        value = codes[source] - middle
                        keep(
                            cython.address(layer),
                            cython.address(pixel),
                            k,
                            all_of(value),
                            predicted,
                            ints,
                            4 * (at + k),
                        )
                        size = ints[4 * (at + k)] >> 16
                        if row < seen.shape[0] and passed == 0:
                            _watch(seen, row, shorts, at, stride, channels)
                            store(four, pixel.gradient)
                            seen[row, vector + 24] = four[0]
                            seen[row, vector + 25] = ints[
                                sums + classes_of(widths[sample], channels) + widths[sample] + x
                            ]
                            seen[row, vector + 26] = size
                            seen[row, vector + 27] = value
                            row += 1
                        shorts[at + CURRENT * stride + k] = value
                        shorts[at + ERRORS * stride + k] = size
                        store(four, foreseen)
                        value -= four[0]
                        contexts[n] = (
                            numbers[c * NUMBERS + 2]
                            + (cython.cast(cython.int, k) * LEVELS + level)
                            * numbers[c * NUMBERS + 3]
                            + _bin(offset, bits)
                        )
                        extras[n] = 0
                        if bits <= DIRECT_BITS:
                            symbols[n] = value
                        else:
                            z = _fold(value, offset >> 4, (1 << bits) - 1)
                            if z < 16:
                                symbols[n] = z
                            else:
                                size = 4
                                while z >> (size + 1) > 0:
                                    size += 1
                                symbols[n] = 16 + 2 * (size - 4) + ((z >> (size - 1)) & 1)
                                extras[n] = z & ((1 << (size - 1)) - 1)
                        n += 1
                        source += 1
                    passed = passed + 1 if passed + 1 < every else 0
                    if y == 0:
                        end_pixel(channels, above, shorts, at, stride, ints, 4 * at)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _watch(
    seen: cython.int[:, ::1],
    row: cython.Py_ssize_t,
    shorts: cython.short[::1],
    at: cython.Py_ssize_t,
    stride: cython.Py_ssize_t,
    channels: cython.Py_ssize_t,
) -> cython.void:
    """Note what stands around a pixel; `at` is its place in row NN."""
    i: cython.Py_ssize_t
    lanes: cython.Py_ssize_t = (5 * channels + 7) // 8 * 8
    left: cython.Py_ssize_t = at - 2 * channels
    errors: cython.Py_ssize_t = 5 * lanes + CURRENT_TAPS
    for i in range(lanes):
        seen[row, i] = shorts[left + NN * stride + i]
        seen[row, lanes + i] = shorts[left + N * stride + i]
        seen[row, 2 * lanes + i] = shorts[at + MIDDLE * stride + i]
        seen[row, 3 * lanes + i] = shorts[left + S * stride + i]
        seen[row, 4 * lanes + i] = shorts[left + SS * stride + i]
    for i in range(CURRENT_TAPS):
        seen[row, 5 * lanes + i] = shorts[left + CURRENT * stride + i]
    for i in range(16):
        seen[row, errors + i] = shorts[at + EN * stride - channels + i]
    for i in range(8):
        seen[row, errors + 16 + i] = shorts[at + ERRORS * stride - channels + i]
