"""Context model and rANS for codes on a grid: one call codes all streams of a segment (spec 9.3).

Cython compiles this module ahead of time; it is Python as well, and the tests also run it
uncompiled. Nothing here checks lengths or tables: callers do so before the loop. What only the
loop can see (a value outside its range, bytes left over) comes back as the number of a sample.

The neighbourhood of a value lies in rows of interleaved channels, so that prediction and expected
error are dot products of 8 or 16 consecutive int16, which compilers turn into a few instructions.
"""

from __future__ import annotations

import cython

# Rows of the neighbourhood: NN, N, current, S; the last 16 values are room to read past a row.
SLACK = cython.declare(cython.Py_ssize_t, 16)
PREDICTOR = cython.declare(cython.Py_ssize_t, 56)  # NN 8, N 16, current 16, S 16
ENERGY = cython.declare(cython.Py_ssize_t, 34)  # N 16, current 16, gradient, constant
ENERGY_TOP = cython.declare(cython.int, 4095)
LUT = cython.declare(cython.Py_ssize_t, 4096)
FIRST_LEVEL = cython.declare(cython.int, 15)
LEVELS = cython.declare(cython.int, 16)
SYMBOLS = cython.declare(cython.Py_ssize_t, 40)
DIRECT_BITS = cython.declare(cython.int, 4)
LOW = cython.declare(cython.ulonglong, 1 << 16)
# Numbers of a configuration: see `tables.KernelTables.numbers`.
NUMBERS = cython.declare(cython.Py_ssize_t, 4)


# ---- rows of the neighbourhood ---------------------------------------------------------------


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
    rows: cython.short[::1],
    start: cython.Py_ssize_t,
) -> cython.void:
    """Put the middles of what the layers before say of a row of `count` values into `rows`."""
    i: cython.Py_ssize_t
    c: cython.Py_ssize_t
    half: cython.int = ((1 << width) >> 1) - middle
    for i in range(count):
        rows[start + i] = ((cython.cast(cython.int, codes[source + i]) >> shift) << width) + half
    for c in range(channels):
        for i in range(1, 3):
            rows[start - i * channels + c] = rows[start + c]
            rows[start + count + (i - 1) * channels + c] = rows[start + count - channels + c]


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
    rows: cython.short[::1],
    errors: cython.short[::1],
) -> cython.void:
    """Move the rows up by one and prepare the current one."""
    i: cython.Py_ssize_t
    stride: cython.Py_ssize_t = (width + 4) * channels
    row: cython.Py_ssize_t = width * channels
    middle: cython.int = (1 << (above + bits)) >> 1
    start: cython.Py_ssize_t = 2 * channels
    if y == 0:
        for i in range(4 * stride + SLACK):
            rows[i] = 0
        for i in range(2 * stride + SLACK):
            errors[i] = 0
    else:
        # The row just finished continues to both sides with its outermost pixels.
        for i in range(2 * channels):
            rows[2 * stride + i] = rows[2 * stride + 2 * channels + i % channels]
            rows[3 * stride - 2 * channels + i] = rows[3 * stride - 3 * channels + i % channels]
            errors[stride + i] = errors[stride + 2 * channels + i % channels]
            errors[2 * stride - 2 * channels + i] = errors[2 * stride - 3 * channels + i % channels]
        for i in range(2 * stride):
            rows[i] = rows[stride + i]
        for i in range(stride):
            errors[i] = errors[stride + i]
            errors[stride + i] = 0
            rows[2 * stride + i] = 0
    if above > 0:
        if y == 0:
            _fill_row(codes, first, row, channels, shift, bits, middle, rows, 3 * stride + start)
        for i in range(stride):
            rows[2 * stride + i] = rows[3 * stride + i]
        if y + 1 < height:
            _fill_row(
                codes,
                first + (y + 1) * row,
                row,
                channels,
                shift,
                bits,
                middle,
                rows,
                3 * stride + start,
            )
    # To the left of a row stands the first pixel of the row above it.
    for i in range(2 * channels):
        rows[2 * stride + i] = rows[stride + i] if y > 0 else 0
        errors[stride + i] = errors[i] if y > 0 else 0


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _end_pixel(
    rows: cython.short[::1],
    errors: cython.short[::1],
    stride: cython.Py_ssize_t,
    at: cython.Py_ssize_t,
    channels: cython.Py_ssize_t,
) -> cython.void:
    """In the first row the pixels above are those to the left."""
    c: cython.Py_ssize_t
    for c in range(channels):
        rows[stride + at + channels + c] = rows[2 * stride + at + c]
        rows[stride + at + 2 * channels + c] = rows[2 * stride + at + c]
        rows[at + channels + c] = rows[2 * stride + at + c]
        errors[at + channels + c] = errors[stride + at + c]
        errors[at + 2 * channels + c] = errors[stride + at + c]


# ---- context of a value ----------------------------------------------------------------------


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _dot16(
    a: cython.p_short, at: cython.Py_ssize_t, b: cython.p_const_short, bt: cython.Py_ssize_t
) -> cython.int:
    i: cython.Py_ssize_t
    total: cython.int = 0
    for i in range(16):
        total += cython.cast(cython.int, a[at + i]) * cython.cast(cython.int, b[bt + i])
    return total


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _dot8(
    a: cython.p_short, at: cython.Py_ssize_t, b: cython.p_const_short, bt: cython.Py_ssize_t
) -> cython.int:
    i: cython.Py_ssize_t
    total: cython.int = 0
    for i in range(8):
        total += cython.cast(cython.int, a[at + i]) * cython.cast(cython.int, b[bt + i])
    return total


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _gradient(
    here: cython.p_short,
    stride: cython.Py_ssize_t,
    channels: cython.Py_ssize_t,
    coarse: cython.int,
) -> cython.int:
    w: cython.int = here[2 * stride - channels]
    n: cython.int = here[stride]
    nw: cython.int = here[stride - channels]
    ne: cython.int = here[stride + channels]
    total: cython.int = abs(w - nw) + abs(n - nw) + abs(n - ne)
    return min(total >> coarse, ENERGY_TOP)


# The next two are not inlined: compilers unroll the sums inside of loops instead of vectorizing
# them. They take pointers, because slices are large arguments.


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _predict(
    pixel: cython.p_short,
    stride: cython.Py_ssize_t,
    channels: cython.Py_ssize_t,
    above: cython.int,
    total_bits: cython.int,
    weights: cython.p_const_short,
    bias: cython.int,
) -> cython.int:
    """Return the predicted value in sixteenths, 0 to 16 (2^bits - 1).

    `pixel` is the place of the current pixel in the row NN, `weights` those of the channel.
    """
    total: cython.int = _dot8(pixel, 0, weights, 0)
    total += _dot16(pixel, stride - channels, weights, 8)
    total += _dot16(pixel, 2 * stride - 2 * channels, weights, 24)
    if above > 0:
        total += _dot16(pixel, 3 * stride - channels, weights, 40)
    total = ((total + 128) >> 8) + bias + (16 << (total_bits - 1))
    return max(0, min(total, ((1 << total_bits) - 1) << 4))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _energy(
    pixel: cython.p_short,
    here: cython.p_short,
    stride: cython.Py_ssize_t,
    channels: cython.Py_ssize_t,
    coarse: cython.int,
    weights: cython.p_const_short,
) -> cython.int:
    """Return the expected error in sixteenths, 0 to ENERGY_TOP.

    `pixel` is the place of the current pixel in the upper row of errors, `here` that of the value
    in the row NN.
    """
    total: cython.int = _dot16(pixel, -channels, weights, 0)
    total += _dot16(pixel, stride - 2 * channels, weights, 16)
    total += _gradient(here, stride, channels, coarse) * weights[32]
    return max(0, min((total >> 8) + weights[33], ENERGY_TOP))


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _bin(predicted: cython.int, base: cython.int, bits: cython.int) -> cython.int:
    """Return the last part of a context: where in its range the value is expected."""
    offset: cython.int = predicted - (base << 4)
    if bits <= DIRECT_BITS:
        offset = max(0, min(offset + 16, (16 << bits) + 16))
        return offset >> (bits - 2) if bits > 2 else offset
    offset = max(0, min(offset, ((1 << bits) - 1) << 4))
    return (offset & 15) >> 2


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _error(value: cython.int, predicted: cython.int, coarse: cython.int) -> cython.int:
    return min(abs((value << 4) - predicted) >> coarse, ENERGY_TOP)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _whole(predicted: cython.int, base: cython.int, bits: cython.int) -> cython.int:
    """Return the predicted value of a layer, 0 to 2^bits - 1."""
    offset: cython.int = predicted - (base << 4)
    return max(0, min(offset, ((1 << bits) - 1) << 4)) >> 4


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
    reach: cython.int = min(expected, top - expected)
    if z > 2 * reach:
        z -= reach
        return expected + z if expected < top - expected else expected - z
    return expected + (z >> 1) if z & 1 == 0 else expected - ((z + 1) >> 1)


# ---- writing: contexts and symbols, then bytes -----------------------------------------------


def trace(
    codes: cython.const[cython.ushort][::1],
    first: cython.const[cython.longlong][::1],
    heights: cython.const[cython.longlong][::1],
    widths: cython.const[cython.longlong][::1],
    config: cython.const[cython.int][::1],
    channels: cython.Py_ssize_t,
    numbers: cython.const[cython.int][::1],
    weights: cython.const[cython.short][::1],
    bias: cython.const[cython.int][::1],
    energy: cython.const[cython.short][::1],
    levels: cython.const[cython.uchar][::1],
    rows: cython.short[::1],
    errors: cython.short[::1],
    contexts: cython.int[::1],
    symbols: cython.uchar[::1],
    extras: cython.ushort[::1],
    seen: cython.short[:, ::1],
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
        numbers: per configuration: bits above, bits, first context, contexts per level.
        weights: per configuration and channel PREDICTOR weights in 1/4096.
        bias: per configuration and channel, in 1/16.
        energy: per configuration and channel ENERGY weights.
        levels: per configuration LUT levels.
        rows: scratch, 4 (width + 4) channels + SLACK of the widest sample.
        errors: scratch, 2 (width + 4) channels + SLACK.
        contexts: out, one per value that has bits.
        symbols: out, likewise.
        extras: out, likewise.
        seen: out, rows of PREDICTOR neighbours, 32 errors, gradient, error and the value less the
            middle of its range, of each channel of every `every`-th pixel until `seen` is full.
        every: at least 1.
    """
    sample: cython.Py_ssize_t
    y: cython.Py_ssize_t
    x: cython.Py_ssize_t
    k: cython.Py_ssize_t
    i: cython.Py_ssize_t
    n: cython.Py_ssize_t = 0
    c: cython.Py_ssize_t
    ck: cython.Py_ssize_t
    at: cython.Py_ssize_t
    stride: cython.Py_ssize_t
    source: cython.Py_ssize_t
    above: cython.int
    bits: cython.int
    middle: cython.int
    coarse: cython.int
    p: cython.int
    level: cython.int
    expected: cython.int
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
            coarse = max(0, above + bits - 8)
            stride = (widths[sample] + 4) * channels
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
                    rows,
                    errors,
                )
                for x in range(widths[sample]):
                    at = (x + 2) * channels
                    for k in range(channels):
                        ck = c * channels + k
                        p = _predict(
                            cython.address(rows[at]),
                            stride,
                            channels,
                            above,
                            above + bits,
                            cython.address(weights[ck * PREDICTOR]),
                            bias[ck],
                        )
                        expected = _energy(
                            cython.address(errors[at]),
                            cython.address(rows[at + k]),
                            stride,
                            channels,
                            coarse,
                            cython.address(energy[ck * ENERGY]),
                        )
                        level = levels[c * LUT + expected]
                        if x == 0 and y == 0:
                            level = FIRST_LEVEL
                        value = codes[source]
                        base = (value >> bits) << bits
                        if row < seen.shape[0] and pixel == 0:
                            for i in range(8):
                                seen[row, i] = rows[at + i]
                            for i in range(16):
                                seen[row, 8 + i] = rows[stride + at - channels + i]
                                seen[row, 24 + i] = rows[2 * stride + at - 2 * channels + i]
                                seen[row, 40 + i] = rows[3 * stride + at - channels + i]
                                seen[row, 56 + i] = errors[at - channels + i]
                                seen[row, 72 + i] = errors[stride + at - 2 * channels + i]
                            seen[row, 88] = _gradient(
                                cython.address(rows[at + k]), stride, channels, coarse
                            )
                            seen[row, 89] = _error(value, p, coarse)
                            seen[row, 90] = value - middle
                            row += 1
                        contexts[n] = (
                            numbers[c * NUMBERS + 2]
                            + (cython.cast(cython.int, k) * LEVELS + level)
                            * numbers[c * NUMBERS + 3]
                            + _bin(p, base, bits)
                        )
                        extras[n] = 0
                        if bits <= DIRECT_BITS:
                            symbols[n] = value - base
                        else:
                            z = _fold(value - base, _whole(p, base, bits), (1 << bits) - 1)
                            if z < 16:
                                symbols[n] = z
                            else:
                                size = 4
                                while z >> (size + 1) > 0:
                                    size += 1
                                symbols[n] = 16 + 2 * (size - 4) + ((z >> (size - 1)) & 1)
                                extras[n] = z & ((1 << (size - 1)) - 1)
                        rows[2 * stride + at + k] = value - middle
                        errors[stride + at + k] = _error(value, p, coarse)
                        n += 1
                        source += 1
                    pixel = pixel + 1 if pixel + 1 < every else 0
                    if y == 0:
                        _end_pixel(rows, errors, stride, at, channels)


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
    weights: cython.const[cython.short][::1],
    bias: cython.const[cython.int][::1],
    energy: cython.const[cython.short][::1],
    levels: cython.const[cython.uchar][::1],
    table_of: cython.const[cython.ushort][::1],
    symbol_of: cython.const[cython.uchar][::1],
    ranges: cython.const[cython.uint][::1],
    rows: cython.short[::1],
    errors: cython.short[::1],
) -> cython.Py_ssize_t:
    """Refine the codes of all samples by one layer.

    Args:
        data: the streams after one another.
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
        weights: as for `trace`.
        bias: as for `trace`.
        energy: as for `trace`.
        levels: as for `trace`.
        table_of: the table of each context.
        symbol_of: per table 4096 symbols.
        ranges: per table SYMBOLS times frequency << 16 | start.
        rows: as for `trace`.
        errors: as for `trace`.

    Returns:
        -1, or the sample in which the data turned out to be corrupt.
    """
    sample: cython.Py_ssize_t
    last: cython.Py_ssize_t
    stream: cython.Py_ssize_t
    y: cython.Py_ssize_t
    x: cython.Py_ssize_t
    k: cython.Py_ssize_t
    c: cython.Py_ssize_t
    ck: cython.Py_ssize_t
    at: cython.Py_ssize_t
    stride: cython.Py_ssize_t
    target: cython.Py_ssize_t
    table: cython.Py_ssize_t
    context: cython.Py_ssize_t
    pos: cython.Py_ssize_t = 0
    end: cython.Py_ssize_t
    above: cython.int
    bits: cython.int
    middle: cython.int
    coarse: cython.int
    p: cython.int
    level: cython.int
    expected: cython.int
    value: cython.int
    base: cython.int
    size: cython.int
    symbol: cython.int
    state: cython.ulonglong
    entry: cython.ulonglong
    slot: cython.ulonglong
    fault: cython.Py_ssize_t = -1
    with cython.nogil:
        for stream in range(stream_end.shape[0]):
            end = stream_end[stream]
            sample = stream * samples_per_stream
            last = min(sample + samples_per_stream, first.shape[0])
            # The state is all of a short stream, else what makes the rest a multiple of 2 bytes.
            size = cython.cast(cython.int, min(end - pos, 4 - ((end - pos) & 1)))
            state = 0
            for x in range(size):
                state = state << 8 | data[pos + x]
            pos += size
            while sample < last:
                c = config[sample]
                if c < 0:
                    sample += 1
                    continue
                above = numbers[c * NUMBERS]
                bits = numbers[c * NUMBERS + 1]
                middle = (1 << (above + bits)) >> 1
                coarse = max(0, above + bits - 8)
                stride = (widths[sample] + 4) * channels
                target = first[sample]
                for y in range(heights[sample]):
                    _start_row(
                        codes,
                        first[sample],
                        y,
                        heights[sample],
                        widths[sample],
                        channels,
                        above,
                        0,
                        bits,
                        rows,
                        errors,
                    )
                    for x in range(widths[sample]):
                        at = (x + 2) * channels
                        for k in range(channels):
                            ck = c * channels + k
                            p = _predict(
                                cython.address(rows[at]),
                                stride,
                                channels,
                                above,
                                above + bits,
                                cython.address(weights[ck * PREDICTOR]),
                                bias[ck],
                            )
                            expected = _energy(
                                cython.address(errors[at]),
                                cython.address(rows[at + k]),
                                stride,
                                channels,
                                coarse,
                                cython.address(energy[ck * ENERGY]),
                            )
                            level = levels[c * LUT + expected]
                            if x == 0 and y == 0:
                                level = FIRST_LEVEL
                            base = cython.cast(cython.int, codes[target]) << bits
                            context = (
                                numbers[c * NUMBERS + 2]
                                + (cython.cast(cython.int, k) * LEVELS + level)
                                * numbers[c * NUMBERS + 3]
                                + _bin(p, base, bits)
                            )
                            table = table_of[context]
                            slot = state & 4095
                            symbol = symbol_of[(table << 12) + cython.cast(cython.Py_ssize_t, slot)]
                            entry = ranges[table * SYMBOLS + symbol]
                            state = (entry >> 16) * (state >> 12) + slot - (entry & 65535)
                            if state < LOW and pos < end:
                                state = (
                                    state << 16
                                    | cython.cast(cython.ulonglong, data[pos]) << 8
                                    | data[pos + 1]
                                )
                                pos += 2
                            if bits <= DIRECT_BITS:
                                value = symbol
                            else:
                                value = symbol
                                if symbol >= 16:
                                    size = 3 + ((symbol - 16) >> 1)
                                    value = (2 | (symbol & 1)) << size | cython.cast(
                                        cython.int, state & ((1 << size) - 1)
                                    )
                                    state >>= size
                                    if state < LOW and pos < end:
                                        state = (
                                            state << 16
                                            | cython.cast(cython.ulonglong, data[pos]) << 8
                                            | data[pos + 1]
                                        )
                                        pos += 2
                                    if value >> bits > 0:
                                        fault = sample
                                        value = 0
                                value = _unfold(value, _whole(p, base, bits), (1 << bits) - 1)
                            value += base
                            codes[target] = value
                            rows[2 * stride + at + k] = value - middle
                            errors[stride + at + k] = _error(value, p, coarse)
                            target += 1
                        if y == 0:
                            _end_pixel(rows, errors, stride, at, channels)
                    if fault >= 0:
                        break
                if fault >= 0:
                    break
                sample += 1
            if fault < 0 and (state != 0 or pos != end):
                fault = last - 1
            if fault >= 0:
                break
            pos = end
    return fault
