"""Context model and rANS for codes on a grid: one call codes all streams of a segment (spec 9.3).

Cython compiles this module ahead of time; it is Python as well, and the tests also run it
uncompiled. Nothing here checks lengths or tables: callers do so before the loop. What only the
loop can see (a value outside its range, bytes left over) comes back as the number of a sample.

What of a context does not depend on the current row is summed up for a whole row at once
(`_prepare`); the rest follows value by value and waits for the value before. So that a processor
has something else to do meanwhile, several streams ("lanes") are decoded in step.
"""

from __future__ import annotations

import cython
from cython.cimports.dsqformat.kernels.plain_layout import (
    BUCKETS,
    CLASSES,
    CURRENT,
    CURRENT_TAPS,
    DIRECT_BITS,
    EN,
    ENERGY,
    ENERGY_TOP,
    ERRORS,
    FIRST_LEVEL,
    LANES,
    LEVELS,
    LUT,
    MIDDLE,
    NN,
    NUMBERS,
    ROWS,
    SLACK,
    SS,
    SYMBOLS,
    WINDOW,
    N,
    S,
    copy,
    dot,
)

# The type of the number of channels picks the copy of a function: for 3 or 1 of them, whose loops
# over channels compilers unroll, or for any number.
Channels = cython.fused_type(cython.uchar, cython.ushort, cython.int)


# ---- rows ------------------------------------------------------------------------------------


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _fill_row(
    codes: cython.const[cython.ushort][::1],
    source: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    channels: cython.Py_ssize_t,
    shift: cython.int,
    width: cython.int,
    middle: cython.int,
    shorts: cython.short[::1],
    row: cython.Py_ssize_t,
) -> cython.void:
    """Put the middles of what the layers before say of `count` values into a row."""
    i: cython.Py_ssize_t
    start: cython.Py_ssize_t = row + 2 * channels
    half: cython.int = ((1 << width) >> 1) - middle
    for i in range(count):
        shorts[start + i] = ((cython.cast(cython.int, codes[source + i]) >> shift) << width) + half
    _extend(shorts, row, count, channels)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _extend(
    shorts: cython.short[::1],
    row: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    channels: cython.Py_ssize_t,
) -> cython.void:
    """Continue a row to both sides with its outermost pixels."""
    i: cython.Py_ssize_t
    end: cython.Py_ssize_t = row + 2 * channels + count
    for i in range(channels):
        shorts[row + i] = shorts[row + channels + i] = shorts[row + 2 * channels + i]
        shorts[end + i] = shorts[end + channels + i] = shorts[end - channels + i]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _copy_row(
    shorts: cython.short[::1],
    source: cython.Py_ssize_t,
    target: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
) -> cython.void:
    copy(shorts, source, target, cython.cast(cython.int, count))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _start_row(
    codes: cython.const[cython.ushort][::1],
    first: cython.Py_ssize_t,
    y: cython.Py_ssize_t,
    height: cython.Py_ssize_t,
    width: cython.Py_ssize_t,
    channels: cython.Py_ssize_t,
    above: cython.int,
    shift: cython.int,
    bits: cython.int,
    shorts: cython.short[::1],
    at: cython.Py_ssize_t,
) -> cython.void:
    """Move the rows up by one and prepare the current one; `at` is where they begin."""
    i: cython.Py_ssize_t
    count: cython.Py_ssize_t = width * channels
    stride: cython.Py_ssize_t = count + 4 * channels + SLACK
    middle: cython.int = (1 << (above + bits)) >> 1
    if y == 0:
        for i in range(ROWS * stride):
            shorts[at + i] = 0
        if above > 0:
            for i in range(min(height, 2)):
                _fill_row(
                    codes,
                    first + i * count,
                    count,
                    channels,
                    shift,
                    bits,
                    middle,
                    shorts,
                    at + (S + i) * stride,
                )
            if height == 1:
                _copy_row(shorts, at + S * stride, at + SS * stride, stride)
            _copy_row(shorts, at + S * stride, at + NN * stride, stride)
            _copy_row(shorts, at + S * stride, at + N * stride, stride)
    else:
        _extend(shorts, at + CURRENT * stride, count, channels)
        _extend(shorts, at + ERRORS * stride, count, channels)
        _copy_row(shorts, at + N * stride, at + NN * stride, stride)
        _copy_row(shorts, at + CURRENT * stride, at + N * stride, stride)
        _copy_row(shorts, at + ERRORS * stride, at + EN * stride, stride)
    if above > 0:
        _copy_row(shorts, at + S * stride, at + MIDDLE * stride, stride)
        _copy_row(shorts, at + SS * stride, at + S * stride, stride)
        if y + 2 < height:
            _fill_row(
                codes,
                first + (y + 2) * count,
                count,
                channels,
                shift,
                bits,
                middle,
                shorts,
                at + SS * stride,
            )
    # To the left of a row stands the first pixel of the row above it.
    for i in range(2 * channels):
        shorts[at + CURRENT * stride + i] = shorts[at + N * stride + i]
        shorts[at + ERRORS * stride + i] = shorts[at + EN * stride + i]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _end_pixel(
    channels: cython.Py_ssize_t,
    above: cython.int,
    shorts: cython.short[::1],
    at: cython.Py_ssize_t,
    stride: cython.Py_ssize_t,
) -> cython.void:
    """In the first row the pixels above are those to the left; `at` is the pixel in row NN."""
    k: cython.Py_ssize_t
    value: cython.short
    for k in range(channels):
        value = shorts[at + ERRORS * stride + k]
        shorts[at + EN * stride + channels + k] = value
        shorts[at + EN * stride + 2 * channels + k] = value
        if above == 0:
            value = shorts[at + CURRENT * stride + k]
            shorts[at + NN * stride + channels + k] = shorts[at + N * stride + channels + k] = value
            shorts[at + NN * stride + 2 * channels + k] = value
            shorts[at + NN * stride + 3 * channels + k] = value
            shorts[at + N * stride + 2 * channels + k] = value
            shorts[at + N * stride + 3 * channels + k] = value


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _clamp(value: cython.int, top: cython.int) -> cython.int:
    value = 0 if value < 0 else value
    return top if value > top else value


# ---- context of a value ----------------------------------------------------------------------


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _prepare(
    kind: Channels,
    number: cython.Py_ssize_t,
    begin: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    above: cython.int,
    zero: cython.int,
    numbers: cython.const[cython.int][::1],
    borders: cython.const[cython.int][::1],
    weights: cython.const[cython.short][::1],
    bias: cython.const[cython.int][::1],
    energy: cython.const[cython.short][::1],
    shorts: cython.short[::1],
    rows: cython.Py_ssize_t,
    stride: cython.Py_ssize_t,
    ints: cython.int[::1],
    sums: cython.Py_ssize_t,
    width: cython.Py_ssize_t,
) -> cython.void:
    """Sum up for some pixels what does not depend on the current row.

    `number` is the configuration, `rows` and `sums` are where rows and results begin. Results are,
    one after another: sums of prediction, of energy and of the gradient, one per value of the row;
    where the weights of the current row begin and the activity, one per pixel.
    """
    c: cython.Py_ssize_t
    x: cython.Py_ssize_t
    k: cython.Py_ssize_t
    i: cython.Py_ssize_t
    at: cython.Py_ssize_t
    weight: cython.Py_ssize_t
    lanes: cython.Py_ssize_t
    # Where the window of taps is gathered: behind the rows.
    window: cython.Py_ssize_t = rows + ROWS * stride
    total: cython.int
    activity: cython.int
    north: cython.int
    here: cython.int
    count: cython.Py_ssize_t
    group: cython.Py_ssize_t
    if Channels is cython.uchar:
        c = 3
    elif Channels is cython.ushort:
        c = 1
    else:
        c = kind
    count = width * c
    lanes = (5 * c + 7) // 8 * 8
    for x in range(begin, end):
        at = rows + (x + 2) * c
        activity = 0
        for k in range(c):
            i = at + N * stride + k
            here = shorts[i]
            north = abs(here - shorts[i - c]) + abs(here - shorts[i + c])
            ints[sums + 2 * count + x * c + k] = north
            activity += north + abs(here - shorts[at + NN * stride + k])
            if above > 0:
                i = at + MIDDLE * stride + k
                here = shorts[i]
                activity += abs(here - shorts[at + S * stride + k]) + abs(here - shorts[i + c])
        group = numbers[number * NUMBERS + 4]
        for i in range(CLASSES - 1):
            if borders[number * (CLASSES - 1) + i] <= activity:
                group += 1
        i = at - 2 * c
        copy(shorts, i + NN * stride, window, lanes)
        copy(shorts, i + N * stride, window + lanes, lanes)
        if above > 0:
            copy(shorts, at + MIDDLE * stride, window + 2 * lanes, lanes)
            copy(shorts, i + S * stride, window + 3 * lanes, lanes)
            copy(shorts, i + SS * stride, window + 4 * lanes, lanes)
        group *= c
        for k in range(c):
            weight = (group + k) * (5 * lanes + CURRENT_TAPS)
            if above > 0:
                total = dot(shorts, window, weights, weight, 5 * lanes)
            else:
                total = dot(shorts, window, weights, weight, 2 * lanes)
            ints[sums + x * c + k] = total + 128 + ((bias[group + k] + zero) << 8)
            weight = (number * c + k) * ENERGY
            total = dot(shorts, at + EN * stride - c, energy, weight, 16)
            ints[sums + count + x * c + k] = total + (
                cython.cast(cython.int, energy[weight + ENERGY - 1]) << 8
            )
        ints[sums + 3 * count + x] = group * (5 * lanes + CURRENT_TAPS) + 5 * lanes
        ints[sums + 3 * count + width + x] = activity


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _predict(
    kind: Channels,
    above: cython.int,
    top: cython.int,
    weights: cython.const[cython.short][::1],
    weight: cython.Py_ssize_t,
    shorts: cython.short[::1],
    here: cython.Py_ssize_t,
    total: cython.int,
) -> cython.int:
    """Return the predicted value in sixteenths, 0 to `top`.

    `weight` is where the weights of the current row begin, `here` the pixel in it, `total` what
    `_prepare` summed up.
    """
    c: cython.Py_ssize_t
    if Channels is cython.uchar:
        c = 3
    elif Channels is cython.ushort:
        c = 1
    else:
        c = kind
    # Channels of this pixel that are not known yet have weights of 0.
    if c > 3:
        total += dot(shorts, here - 2 * c, weights, weight, 16)
    else:
        total += dot(shorts, here - 2 * c, weights, weight, 8)
    return _clamp(total >> 8, top)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _foresee(
    kind: Channels,
    energy: cython.const[cython.short][::1],
    term: cython.Py_ssize_t,
    shorts: cython.short[::1],
    error: cython.Py_ssize_t,
    gradient: cython.int,
    total: cython.int,
) -> cython.int:
    """Return the expected error in sixteenths, 0 to ENERGY_TOP.

    `term` is where the weights of the current errors begin, `error` the pixel in their row,
    `total` what `_prepare` summed up.
    """
    c: cython.Py_ssize_t
    if Channels is cython.uchar:
        c = 3
    elif Channels is cython.ushort:
        c = 1
    else:
        c = kind
    total += dot(shorts, error - c, energy, term, 8)
    total += _clamp(gradient, ENERGY_TOP) * energy[term + 8]
    return _clamp(total >> 8, ENERGY_TOP)


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
def _error(value: cython.int, predicted: cython.int, coarse: cython.int) -> cython.int:
    error: cython.int = abs((value << 4) - predicted) >> coarse
    return ENERGY_TOP if error > ENERGY_TOP else error


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


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _unfold(z: cython.int, expected: cython.int, top: cython.int) -> cython.int:
    # Without branches, which nobody could foresee.
    other: cython.int = top - expected
    reach: cython.int = min(expected, other)
    down: cython.int = expected >= other
    near: cython.int = (z >> 1) ^ -(z & 1)
    far: cython.int = ((z - reach) ^ -down) + down
    return expected + (far if z > 2 * reach else near)


# ---- writing ---------------------------------------------------------------------------------


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
    levels: cython.const[cython.uchar][::1],
    shorts: cython.short[::1],
    ints: cython.int[::1],
    contexts: cython.int[::1],
    symbols: cython.uchar[::1],
    extras: cython.ushort[::1],
    seen: cython.int[:, ::1],
    every: cython.Py_ssize_t,
) -> None:
    """Write context, symbol and extra bits of every value.

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
        bias: per class and channel, in 1/16.
        energy: per configuration and channel ENERGY weights.
        levels: per configuration LUT levels.
        shorts: scratch; see `segment.scratch`.
        ints: scratch.
        contexts: out, one per value that has bits.
        symbols: out, likewise.
        extras: out, likewise.
        seen: out, what `geometry.SEEN` says of each channel of every `every`-th pixel until `seen`
            is full.
        every: at least 1.
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
    kind: cython.int = channels
    above: cython.int
    bits: cython.int
    middle: cython.int
    coarse: cython.int
    top: cython.int
    p: cython.int
    level: cython.int
    gradient: cython.int
    offset: cython.int
    value: cython.int
    base: cython.int
    z: cython.int
    size: cython.int
    row: cython.Py_ssize_t = 0
    pixel: cython.Py_ssize_t = 0
    with cython.nogil:
        for sample in range(first.shape[0]):
            c = config[sample]
            if c < 0:
                continue
            above = numbers[c * NUMBERS]
            bits = numbers[c * NUMBERS + 1]
            middle = (1 << (above + bits)) >> 1
            top = ((1 << (above + bits)) - 1) << 4
            coarse = max(0, above + bits - 8)
            count = widths[sample] * channels
            stride = count + 4 * channels + SLACK
            source = first[sample]
            for y in range(heights[sample]):
                _start_row(
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
                )
                if y > 0:
                    _prepare(
                        kind,
                        c,
                        0,
                        widths[sample],
                        above,
                        middle << 4,
                        numbers,
                        borders,
                        weights,
                        bias,
                        energy,
                        shorts,
                        0,
                        stride,
                        ints,
                        0,
                        widths[sample],
                    )
                for x in range(widths[sample]):
                    if y == 0:
                        _prepare(
                            kind,
                            c,
                            x,
                            x + 1,
                            above,
                            middle << 4,
                            numbers,
                            borders,
                            weights,
                            bias,
                            energy,
                            shorts,
                            0,
                            stride,
                            ints,
                            0,
                            widths[sample],
                        )
                    at = (x + 2) * channels
                    for k in range(channels):
                        p = _predict(
                            kind,
                            above,
                            top,
                            weights,
                            ints[3 * count + x] + k * vector,
                            shorts,
                            at + CURRENT * stride,
                            ints[x * channels + k],
                        )
                        gradient = ints[2 * count + x * channels + k] + abs(
                            cython.cast(cython.int, shorts[at + CURRENT * stride - channels + k])
                            - shorts[at + N * stride - channels + k]
                        )
                        gradient = min(gradient >> coarse, ENERGY_TOP)
                        level = levels[
                            c * LUT
                            + _foresee(
                                kind,
                                energy,
                                (c * channels + k) * ENERGY + 16,
                                shorts,
                                at + ERRORS * stride,
                                gradient,
                                ints[count + x * channels + k],
                            )
                        ]
                        if x == 0 and y == 0:
                            level = FIRST_LEVEL
                        value = codes[source]
                        base = (value >> bits) << bits
                        if row < seen.shape[0] and pixel == 0:
                            _watch(seen, row, shorts, at, stride, channels)
                            size = cython.cast(cython.int, vector) + 24
                            seen[row, size] = gradient
                            seen[row, size + 1] = ints[3 * count + widths[sample] + x]
                            seen[row, size + 2] = _error(value, p, coarse)
                            seen[row, size + 3] = value - middle
                            row += 1
                        if bits <= DIRECT_BITS:
                            offset = _clamp(p - (base << 4) + 16, (16 << bits) + 16)
                        else:
                            offset = _clamp(p - (base << 4), (16 << bits) - 16)
                        contexts[n] = (
                            numbers[c * NUMBERS + 2]
                            + (cython.cast(cython.int, k) * LEVELS + level)
                            * numbers[c * NUMBERS + 3]
                            + _bin(offset, bits)
                        )
                        extras[n] = 0
                        if bits <= DIRECT_BITS:
                            symbols[n] = value - base
                        else:
                            z = _fold(value - base, offset >> 4, (1 << bits) - 1)
                            if z < 16:
                                symbols[n] = z
                            else:
                                size = 4
                                while z >> (size + 1) > 0:
                                    size += 1
                                symbols[n] = 16 + 2 * (size - 4) + ((z >> (size - 1)) & 1)
                                extras[n] = z & ((1 << (size - 1)) - 1)
                        shorts[at + CURRENT * stride + k] = value - middle
                        shorts[at + ERRORS * stride + k] = _error(value, p, coarse)
                        n += 1
                        source += 1
                    pixel = pixel + 1 if pixel + 1 < every else 0
                    if y == 0:
                        _end_pixel(channels, above, shorts, at, stride)


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


def encode_streams(
    contexts: cython.const[cython.int][::1],
    symbols: cython.const[cython.uchar][::1],
    extras: cython.const[cython.ushort][::1],
    stream_end: cython.const[cython.longlong][::1],
    table_of: cython.const[cython.ushort][::1],
    ranges: cython.const[cython.uint][::1],
    out: cython.uchar[::1],
    lengths: cython.longlong[::1],
) -> cython.Py_ssize_t:
    """Write all streams after one another.

    Args:
        contexts: as `trace` wrote them.
        symbols: likewise.
        extras: likewise.
        stream_end: shape (streams,), the number of values up to the end of each stream.
        table_of: the table of each context.
        ranges: per table SYMBOLS times frequency << 16 | start.
        out: at least 5 bytes per value and 4 per stream; filled from the end.
        lengths: out, bytes of each stream.

    Returns:
        Where in `out` the first stream begins, or -1 - i if value i has a symbol of frequency 0.
    """
    at: cython.Py_ssize_t = out.shape[0]
    end: cython.Py_ssize_t
    begin: cython.Py_ssize_t
    i: cython.Py_ssize_t
    stream: cython.Py_ssize_t
    state: cython.ulonglong
    entry: cython.ulonglong
    frequency: cython.ulonglong
    symbol: cython.int
    size: cython.int
    fault: cython.Py_ssize_t = 0
    with cython.nogil:
        for stream in range(stream_end.shape[0] - 1, -1, -1):
            begin = stream_end[stream - 1] if stream > 0 else 0
            end = at
            state = 0
            for i in range(stream_end[stream] - 1, begin - 1, -1):
                symbol = symbols[i]
                if symbol >= 16:
                    size = 3 + ((symbol - 16) >> 1)
                    if state >> (32 - size) > 0:
                        out[at - 1] = state & 255
                        out[at - 2] = (state >> 8) & 255
                        at -= 2
                        state >>= 16
                    state = state << size | extras[i]
                entry = ranges[table_of[contexts[i]] * SYMBOLS + symbol]
                frequency = entry >> 16
                if frequency == 0:
                    fault = -1 - i
                    break
                if state >> 20 >= frequency:
                    out[at - 1] = state & 255
                    out[at - 2] = (state >> 8) & 255
                    at -= 2
                    state >>= 16
                state = ((state // frequency) << 12) + (entry & 65535) + state % frequency
            if fault < 0:
                break
            while state > 0:
                at -= 1
                out[at] = state & 255
                state >>= 8
            lengths[stream] = end - at
    return fault if fault < 0 else at


# ---- reading ---------------------------------------------------------------------------------


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _decode_samples(
    kind: Channels,
    stream: cython.Py_ssize_t,
    lanes: cython.Py_ssize_t,
    sample: cython.Py_ssize_t,
    step: cython.Py_ssize_t,
    data: cython.const[cython.uchar][::1],
    codes: cython.ushort[::1],
    first: cython.const[cython.longlong][::1],
    height: cython.Py_ssize_t,
    width: cython.Py_ssize_t,
    number: cython.Py_ssize_t,
    numbers: cython.const[cython.int][::1],
    borders: cython.const[cython.int][::1],
    weights: cython.const[cython.short][::1],
    bias: cython.const[cython.int][::1],
    energy: cython.const[cython.short][::1],
    levels: cython.const[cython.uchar][::1],
    table_of: cython.const[cython.ushort][::1],
    nearest: cython.const[cython.uchar][::1],
    starts: cython.const[cython.short][::1],
    states: cython.longlong[::1],
    shorts: cython.short[::1],
    ints: cython.int[::1],
) -> cython.Py_ssize_t:
    """Decode samples `sample`, `sample + step`, ..., one per lane from `stream` on, all alike.

    Returns:
        -1, or the sample in which the data turned out to be corrupt.
    """
    c: cython.Py_ssize_t
    y: cython.Py_ssize_t
    x: cython.Py_ssize_t
    k: cython.Py_ssize_t
    lane: cython.Py_ssize_t
    at: cython.Py_ssize_t
    place: cython.Py_ssize_t
    target: cython.Py_ssize_t
    table: cython.Py_ssize_t
    context: cython.Py_ssize_t
    pos: cython.Py_ssize_t
    end: cython.Py_ssize_t
    above: cython.int = numbers[number * NUMBERS]
    bits: cython.int = numbers[number * NUMBERS + 1]
    contexts: cython.Py_ssize_t = numbers[number * NUMBERS + 2]
    bins: cython.Py_ssize_t = numbers[number * NUMBERS + 3]
    middle: cython.int = (1 << (above + bits)) >> 1
    coarse: cython.int = max(0, above + bits - 8)
    top: cython.int = ((1 << (above + bits)) - 1) << 4
    expected: cython.int
    # Up to DIRECT_BITS a place in the range and a margin on both sides, else a part of a code.
    margin: cython.int = 16 if bits <= DIRECT_BITS else 0
    reach: cython.int = (16 << bits) + 16 if bits <= DIRECT_BITS else (16 << bits) - 16
    mask: cython.int = -1 if bits <= DIRECT_BITS else 15
    shift: cython.int = 2 if bits > DIRECT_BITS else max(0, bits - 2)
    offset: cython.int
    gradient: cython.int
    west: cython.int
    p: cython.int
    level: cython.int
    value: cython.int
    base: cython.int
    size: cython.int
    state: cython.ulonglong
    more: cython.ulonglong
    word: cython.ulonglong
    slot: cython.int
    start: cython.Py_ssize_t
    # Where the starts of symbols of table 0 would stand.
    symbols: cython.Py_ssize_t = numbers[number * NUMBERS + 5]
    spread: cython.Py_ssize_t = numbers[number * NUMBERS + 6]

    count: cython.Py_ssize_t
    stride: cython.Py_ssize_t
    room: cython.Py_ssize_t
    results: cython.Py_ssize_t
    vector: cython.Py_ssize_t
    if Channels is cython.uchar:
        c = 3
    elif Channels is cython.ushort:
        c = 1
    else:
        c = kind
    vector = (5 * c + 7) // 8 * 40 + CURRENT_TAPS
    count = width * c
    stride = count + 4 * c + SLACK
    room = ROWS * stride + WINDOW
    results = 3 * count + 2 * width
    for y in range(height):
        for lane in range(lanes):
            _start_row(
                codes,
                first[sample + lane * step],
                y,
                height,
                width,
                c,
                above,
                0,
                bits,
                shorts,
                lane * room,
            )
            if y > 0:
                _prepare(
                    kind,
                    number,
                    0,
                    width,
                    above,
                    middle << 4,
                    numbers,
                    borders,
                    weights,
                    bias,
                    energy,
                    shorts,
                    lane * room,
                    stride,
                    ints,
                    lane * results,
                    width,
                )
        for x in range(width):
            if y == 0:
                for lane in range(lanes):
                    _prepare(
                        kind,
                        number,
                        x,
                        x + 1,
                        above,
                        middle << 4,
                        numbers,
                        borders,
                        weights,
                        bias,
                        energy,
                        shorts,
                        lane * room,
                        stride,
                        ints,
                        lane * results,
                        width,
                    )
            for k in range(c):
                for lane in range(lanes):
                    at = lane * room + (x + 2) * c
                    place = lane * results
                    p = _predict(
                        kind,
                        above,
                        top,
                        weights,
                        ints[place + 3 * count + x] + k * vector,
                        shorts,
                        at + CURRENT * stride,
                        ints[place + x * c + k],
                    )
                    west = shorts[at + CURRENT * stride - c + k]
                    gradient = ints[place + 2 * count + x * c + k]
                    gradient += abs(west - shorts[at + N * stride - c + k])
                    expected = _foresee(
                        kind,
                        energy,
                        (number * c + k) * ENERGY + 16,
                        shorts,
                        at + ERRORS * stride,
                        gradient >> coarse,
                        ints[place + count + x * c + k],
                    )
                    level = levels[number * LUT + expected]
                    if x == 0 and y == 0:
                        level = FIRST_LEVEL
                    target = first[sample + lane * step] + y * count + x * c + k
                    base = cython.cast(cython.int, codes[target]) << bits
                    # Where in the range of the layer the value is expected, and its margin.
                    offset = _clamp(p - (base << 4) + margin, reach)
                    context = contexts + (k * LEVELS + level) * bins + ((offset & mask) >> shift)
                    table = table_of[context]
                    start = symbols + table * spread
                    state = states[3 * (stream + lane)]
                    pos = states[3 * (stream + lane) + 1]
                    end = states[3 * (stream + lane) + 2]
                    slot = cython.cast(cython.int, state & 4095)
                    if bits <= 2:
                        value = (
                            cython.cast(cython.int, starts[start + 1] <= slot)
                            + cython.cast(cython.int, starts[start + 2] <= slot)
                            + cython.cast(cython.int, starts[start + 3] <= slot)
                        )
                    else:
                        value = nearest[table * BUCKETS + (slot >> 6)]
                        while starts[start + value + 1] <= slot:
                            value += 1
                    state = cython.cast(
                        cython.ulonglong, starts[start + value + 1] - starts[start + value]
                    ) * (state >> 12) + cython.cast(cython.ulonglong, slot - starts[start + value])
                    more = (state < 65536) & (pos < end)
                    word = cython.cast(cython.ulonglong, data[pos]) << 8 | data[pos + 1]
                    state = state << (more << 4) | (word & (0 - more))
                    pos += 2 * cython.cast(cython.Py_ssize_t, more)
                    if bits > DIRECT_BITS:
                        if value >= 16:
                            size = 3 + ((value - 16) >> 1)
                            value = (2 | (value & 1)) << size | cython.cast(
                                cython.int, state & ((1 << size) - 1)
                            )
                            state >>= size
                            more = (state < 65536) & (pos < end)
                            word = cython.cast(cython.ulonglong, data[pos]) << 8 | data[pos + 1]
                            state = state << (more << 4) | (word & (0 - more))
                            pos += 2 * cython.cast(cython.Py_ssize_t, more)
                            if value >> bits > 0:
                                return sample + lane * step
                        value = _unfold(value, offset >> 4, (1 << bits) - 1)
                    states[3 * (stream + lane)] = state
                    states[3 * (stream + lane) + 1] = pos
                    value += base
                    codes[target] = value
                    shorts[at + CURRENT * stride + k] = value - middle
                    shorts[at + ERRORS * stride + k] = _error(value, p, coarse)
            if y == 0:
                for lane in range(lanes):
                    _end_pixel(c, above, shorts, lane * room + (x + 2) * c, stride)
    return -1


def decode_streams(
    data: cython.const[cython.uchar][::1],
    stream_end: cython.const[cython.longlong][::1],
    samples_per_stream: cython.Py_ssize_t,
    codes: cython.ushort[::1],
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
    levels: cython.const[cython.uchar][::1],
    table_of: cython.const[cython.ushort][::1],
    nearest: cython.const[cython.uchar][::1],
    starts: cython.const[cython.short][::1],
    ranges: cython.const[cython.uint][::1],
    states: cython.longlong[::1],
    shorts: cython.short[::1],
    ints: cython.int[::1],
) -> cython.Py_ssize_t:
    """Refine the codes of all samples by one layer.

    Args:
        data: the streams after one another, and two bytes more.
        stream_end: shape (streams,), where each ends in `data`.
        samples_per_stream: R.
        codes: what the layers before say of each code (0 in the first); becomes the codes to the
            precision of this layer.
        first: as for `trace`.
        heights: as for `trace`.
        widths: as for `trace`.
        config: as for `trace`.
        channels: as for `trace`.
        numbers: as for `trace`.
        borders: as for `trace`.
        weights: as for `trace`.
        bias: as for `trace`.
        energy: as for `trace`.
        levels: as for `trace`.
        table_of: the table of each context.
        nearest: per table BUCKETS symbols, each the one with which its part of the slots begins.
        starts: per table, as far apart as `numbers` says, the start of each symbol, 4096, and more
            numbers above every slot.
        ranges: per table SYMBOLS times frequency << 16 | start; for decoders without compilers.
        states: scratch, three numbers for each of LANES.
        shorts: as for `trace`, for LANES of them.
        ints: likewise.

    Returns:
        -1, or the sample in which the data turned out to be corrupt.
    """
    group: cython.Py_ssize_t
    turn: cython.Py_ssize_t
    block: cython.Py_ssize_t
    lane: cython.Py_ssize_t
    lanes: cython.Py_ssize_t
    some: cython.Py_ssize_t
    sample: cython.Py_ssize_t
    other: cython.Py_ssize_t
    pos: cython.Py_ssize_t
    end: cython.Py_ssize_t
    size: cython.Py_ssize_t
    i: cython.Py_ssize_t
    streams: cython.Py_ssize_t = stream_end.shape[0]
    samples: cython.Py_ssize_t = first.shape[0]
    state: cython.ulonglong
    alike: cython.bint
    three: cython.uchar = 3
    one: cython.ushort = 1
    several: cython.int = channels
    fault: cython.Py_ssize_t = -1
    with cython.nogil:
        for block in range((streams + LANES - 1) // LANES):
            group = block * LANES
            lanes = min(LANES, streams - group)
            for lane in range(lanes):
                pos = stream_end[group + lane - 1] if group + lane > 0 else 0
                end = stream_end[group + lane]
                # All of a short stream, else what makes the rest a multiple of 2 bytes.
                size = min(end - pos, 4 - ((end - pos) & 1))
                state = 0
                for i in range(size):
                    state = state << 8 | data[pos + i]
                states[3 * lane] = state
                states[3 * lane + 1] = pos + size
                states[3 * lane + 2] = end
            for turn in range(samples_per_stream):
                sample = group * samples_per_stream + turn
                if sample >= samples:
                    break
                # The last stream may have fewer samples.
                some = lanes
                if sample + (some - 1) * samples_per_stream >= samples:
                    some -= 1
                alike = True
                for lane in range(1, some):
                    other = sample + lane * samples_per_stream
                    if (
                        config[other] != config[sample]
                        or heights[other] != heights[sample]
                        or widths[other] != widths[sample]
                    ):
                        alike = False
                for lane in range(1 if alike else some):
                    other = sample + lane * samples_per_stream
                    if config[other] < 0:
                        continue
                    if channels == 3:
                        fault = _decode_samples(
                            three,
                            lane,
                            some if alike else 1,
                            other,
                            samples_per_stream,
                            data,
                            codes,
                            first,
                            heights[other],
                            widths[other],
                            config[other],
                            numbers,
                            borders,
                            weights,
                            bias,
                            energy,
                            levels,
                            table_of,
                            nearest,
                            starts,
                            states,
                            shorts,
                            ints,
                        )
                    elif channels == 1:
                        fault = _decode_samples(
                            one,
                            lane,
                            some if alike else 1,
                            other,
                            samples_per_stream,
                            data,
                            codes,
                            first,
                            heights[other],
                            widths[other],
                            config[other],
                            numbers,
                            borders,
                            weights,
                            bias,
                            energy,
                            levels,
                            table_of,
                            nearest,
                            starts,
                            states,
                            shorts,
                            ints,
                        )
                    else:
                        fault = _decode_samples(
                            several,
                            lane,
                            some if alike else 1,
                            other,
                            samples_per_stream,
                            data,
                            codes,
                            first,
                            heights[other],
                            widths[other],
                            config[other],
                            numbers,
                            borders,
                            weights,
                            bias,
                            energy,
                            levels,
                            table_of,
                            nearest,
                            starts,
                            states,
                            shorts,
                            ints,
                        )
                    if fault >= 0:
                        break
                if fault >= 0:
                    break
            if fault >= 0:
                break
            for lane in range(lanes):
                if states[3 * lane] != 0 or states[3 * lane + 1] != states[3 * lane + 2]:
                    fault = min((group + lane + 1) * samples_per_stream, samples) - 1
                    break
            if fault >= 0:
                break
    return fault
