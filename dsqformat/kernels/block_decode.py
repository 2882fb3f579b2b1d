"""From the streams of block-coded pictures to pixels: one call for all streams (SPEC 4 to 9).

Cython compiles this module ahead of time. The caller, `dsqformat.coding.block.decoding`, checks
that tables, offsets and workspaces fit together; after that no stream, whatever its bytes, makes
an index leave its array or a loop run longer than its block has coefficients: every symbol
advances a position that is bounded by the block, every read is bounded by the end of its stream,
and past it the state only shrinks. A stream that does not end exactly (all bytes read, state 0)
is a fault.

Per block: entropy decoding of every layer into a sparse list of coefficients, then an inverse
transform that works on those alone. Sums of products stay below 2^24, so that they are exact in
binary32 and vectorize with the least instruction set of the platform.
"""

from __future__ import annotations

import cython
from cython.cimports.dsqformat.kernels.block_context import (
    SPAN,
    STRIDE,
    clear,
    cross,
    expect,
    gradient_class,
    push,
    spread,
)

LOW = cython.declare(cython.ulonglong, 1 << 31)
TABLE = cython.declare(cython.Py_ssize_t, 33)
LEVELS = cython.declare(cython.int, 13)
CLASSES = cython.declare(cython.int, 91)  # bands x levels
DC_FIRST = cython.declare(cython.int, 2912)
SIGN_FIRST = cython.declare(cython.int, 2960)
FLAG_FIRST = cython.declare(cython.int, 2972)
CONTEXTS = cython.declare(cython.int, 2976)
BIT_FIRST = cython.declare(cython.int, 1456)
DC_BIT_FIRST = cython.declare(cython.int, 1462)
REFINEMENT_CONTEXTS = cython.declare(cython.int, 1464)
PIXEL_LIMIT = cython.declare(cython.int, 7167)
# Slots of `status`: state, position and end of each of 4 layers, then a fault.
FAULT = cython.declare(cython.Py_ssize_t, 12)


# ---- state of the coder ---------------------------------------------------------------------


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _word(data: cython.const[cython.uchar][::1], at: cython.Py_ssize_t) -> cython.ulonglong:
    byte: cython.p_const_uchar = cython.address(data[at])
    return (
        cython.cast(cython.ulonglong, byte[0])
        | cython.cast(cython.ulonglong, byte[1]) << 8
        | cython.cast(cython.ulonglong, byte[2]) << 16
        | cython.cast(cython.ulonglong, byte[3]) << 24
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _open(
    data: cython.const[cython.uchar][::1],
    start: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    status: cython.longlong[::1],
    slot: cython.Py_ssize_t,
) -> cython.void:
    """Read the first bytes of a stream into a state: nbytes mod 4, then words."""
    x: cython.ulonglong = 0
    at: cython.Py_ssize_t = start + ((end - start) & 3)
    i: cython.Py_ssize_t
    for i in range(at - 1, start - 1, -1):
        x = x << 8 | data[i]
    while x < LOW and at < end:
        x = x << 32 | _word(data, at)
        at += 4
    status[slot] = cython.cast(cython.longlong, x)
    status[slot + 1] = at
    status[slot + 2] = end


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _binary(
    data: cython.const[cython.uchar][::1],
    tables: cython.const[cython.ushort][::1],
    table: cython.Py_ssize_t,
    status: cython.longlong[::1],
    slot: cython.Py_ssize_t,
) -> cython.int:
    """Decode one symbol of a flag, a sign or a bit: every symbol but 0 counts as 1."""
    x: cython.ulonglong = cython.cast(cython.ulonglong, status[slot])
    at: cython.Py_ssize_t = status[slot + 1]
    low: cython.uint = cython.cast(cython.uint, x & 4095)
    first: cython.uint = tables[table + 1]
    second: cython.uint = tables[table + 2]
    symbol: cython.int = 1
    if low < first:
        symbol = 0
        x = first * (x >> 12) + low
    elif low < second:
        x = (second - first) * (x >> 12) + low - first
    else:
        symbol = 2
        x = _step(tables, table, x, cython.address(symbol))
    if x < LOW and at < status[slot + 2]:
        x = x << 32 | _word(data, at)
        at += 4
    if symbol == 31:
        symbol = cython.cast(cython.int, x & 31)
        x >>= 5
        if x < LOW and at < status[slot + 2]:
            x = x << 32 | _word(data, at)
            at += 4
    status[slot] = cython.cast(cython.longlong, x)
    status[slot + 1] = at
    return 1 if symbol > 0 else 0


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _step(
    tables: cython.const[cython.ushort][::1],
    table: cython.Py_ssize_t,
    x: cython.ulonglong,
    symbol: cython.p_int,
) -> cython.ulonglong:
    """Find the symbol at or above symbol[0] and return the state after it."""
    low: cython.uint = cython.cast(cython.uint, x & 4095)
    k: cython.Py_ssize_t = symbol[0]
    # The last entry is 4096, above every remainder: the loop ends at 31.
    while low >= tables[table + k + 1]:
        k += 1
    start: cython.uint = tables[table + k]
    symbol[0] = cython.cast(cython.int, k)
    return cython.cast(cython.ulonglong, tables[table + k + 1] - start) * (x >> 12) + low - start


# ---- layer 0 of one plane of one block ------------------------------------------------------


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _coarse(
    data: cython.const[cython.uchar][::1],
    status: cython.longlong[::1],
    tables: cython.const[cython.ushort][::1],
    shorts: cython.short[::1],
    edges: cython.int[::1],
    places: cython.const[cython.short][::1],
    bands: cython.const[cython.short][::1],
    rows: cython.const[cython.uchar][::1],
    columns: cython.const[cython.uchar][::1],
    levels: cython.const[cython.uchar][::1],
    weights: cython.const[cython.int][::1],
    where: cython.ushort[::1],
    values: cython.int[::1],
    mine: cython.Py_ssize_t,
    plane: cython.Py_ssize_t,
    size: cython.int,
    cell_y: cython.Py_ssize_t,
    cell_x: cython.Py_ssize_t,
    cells: cython.Py_ssize_t,
    bottom: cython.Py_ssize_t,
    profile: cython.Py_ssize_t,
    nb_left: cython.bint,
    nb_upper: cython.bint,
) -> cython.int:
    """Decode DC and AC of layer 0; return the number of coefficients that are not 0, DC apart.

    `cells` is the length of a row of cells in `edges`, `bottom` where the lower edges begin.
    The accumulator is ready; the profile at `profile` is empty.
    """
    x: cython.ulonglong = cython.cast(cython.ulonglong, status[0])
    at: cython.Py_ssize_t = status[1]
    end: cython.Py_ssize_t = status[2]
    chroma: cython.int = 1 if plane > 0 else 0
    log: cython.int = size + 2
    span: cython.Py_ssize_t = 1 << size
    i: cython.Py_ssize_t
    left: cython.int = 0
    upper: cython.int = 0
    prediction: cython.int = 0
    context: cython.int = 5
    if nb_left:
        for i in range(span):
            left += edges[((plane * 16 + ((cell_y + i) & 15)) * cells) + cell_x - 1]
        left = (left >> size) << log
        prediction = left
        context = 0
    if nb_upper:
        for i in range(span):
            upper += edges[bottom + ((plane * 16 + ((cell_y - 1) & 15)) * cells) + cell_x + i]
        upper = (upper >> size) << log
        prediction = upper
        context = 0
    if nb_left and nb_upper:
        prediction = (left + upper) >> 1
        i = left - upper if left >= upper else upper - left
        context = (i >= 128) + (i >= 256) + (i >= 512) + (i >= 1024)
    # DC: a token, and for a large one raw bits.
    symbol: cython.int = 0
    bits: cython.int
    x = _step(
        tables, tables[DC_FIRST + (size * 2 + chroma) * 6 + context], x, cython.address(symbol)
    )
    if x < LOW and at < end:
        x = x << 32 | _word(data, at)
        at += 4
    if symbol == 31:
        symbol = cython.cast(cython.int, x & 31)
        x >>= 5
        if x < LOW and at < end:
            x = x << 32 | _word(data, at)
            at += 4
    if symbol >= 8:
        bits = 2 + ((symbol - 8) >> 1)
        symbol = (2 | (symbol & 1)) << bits | cython.cast(cython.int, x & ((1 << bits) - 1))
        x >>= bits
        if x < LOW and at < end:
            x = x << 32 | _word(data, at)
            at += 4
    dc: cython.int = ((prediction + 32) >> 6) + ((symbol >> 1) ^ -(symbol & 1))
    dc = min(32767, max(-32767, dc))
    g1: cython.int = -((dc * 64 - left) * 3) >> 3 if nb_left else 0
    g2: cython.int = -((dc * 64 - upper) * 3) >> 3 if nb_upper else 0
    # AC.
    base: cython.Py_ssize_t = (
        ((size * 2 + chroma) * 2 + (0 if nb_left or nb_upper else 1)) * 2 * CLASSES
    )
    first: cython.Py_ssize_t = cython.cast(cython.Py_ssize_t, size) << 10
    stop: cython.Py_ssize_t = first + (cython.cast(cython.Py_ssize_t, 16) << (2 * size))
    k: cython.Py_ssize_t = first + 1
    place: cython.Py_ssize_t
    table: cython.Py_ssize_t
    open_: cython.Py_ssize_t = CLASSES
    prev: cython.int = 0
    m: cython.int
    a: cython.int
    clipped: cython.int
    count: cython.Py_ssize_t = 0
    low: cython.uint
    f1: cython.uint
    f2: cython.uint
    v: cython.Py_ssize_t
    u: cython.Py_ssize_t
    right_edge: cython.int = dc * 64
    lower_edge: cython.int = right_edge
    g: cython.int = g1
    weight: cython.int = 5 if chroma else 6
    sign: cython.int
    while k < stop:
        place = places[k]
        m = shorts[place] + prev
        if k - first < 3:
            g = g1 if k - first == 1 else g2
            m += min(64, (g if g >= 0 else -g) >> 3)
        table = tables[base + open_ + bands[k] + levels[m & 4095]]
        low = cython.cast(cython.uint, x & 4095)
        f1 = tables[table + 1]
        if low < f1:
            x = f1 * (x >> 12) + low
            if x < LOW and at < end:
                x = x << 32 | _word(data, at)
                at += 4
            prev = 0
            open_ = 0
            k += 1
            continue
        f2 = tables[table + 2]
        if low < f2:
            x = (f2 - f1) * (x >> 12) + low - f1
            if x < LOW and at < end:
                x = x << 32 | _word(data, at)
                at += 4
            break
        symbol = 2
        x = _step(tables, table, x, cython.address(symbol))
        if x < LOW and at < end:
            x = x << 32 | _word(data, at)
            at += 4
        if symbol > 12:
            if symbol == 31:
                symbol = cython.cast(cython.int, x & 31)
                x >>= 5
                if x < LOW and at < end:
                    x = x << 32 | _word(data, at)
                    at += 4
                if symbol == 1:
                    break
                if symbol == 0:
                    prev = 0
                    open_ = 0
                    k += 1
                    continue
            if symbol > 26:
                status[FAULT] = 1
                break
            a = symbol - 1
            if symbol >= 14:
                bits = symbol - 12
                a = (1 << bits | cython.cast(cython.int, x & ((1 << bits) - 1))) + 9
                x >>= bits
                if x < LOW and at < end:
                    x = x << 32 | _word(data, at)
                    at += 4
                a = min(a, 32767)
        else:
            a = symbol - 1
        if k - first < 3:
            status[0] = cython.cast(cython.longlong, x)
            status[1] = at
            sign = _binary(
                data, tables, tables[SIGN_FIRST + chroma * 6 + gradient_class(g)], status, 0
            )
            x = cython.cast(cython.ulonglong, status[0])
            at = status[1]
        else:
            sign = cython.cast(cython.int, x & 1)
            x >>= 1
            if x < LOW and at < end:
                x = x << 32 | _word(data, at)
                at += 4
        clipped = a if a < 63 else 63
        v = rows[k]
        u = columns[k]
        push(shorts, place, clipped, chroma)
        spread(shorts, profile, size, v, u, clipped, weight)
        cross(shorts, place, v, u, clipped, plane)
        prev = clipped << (1 if chroma else 2)
        open_ = CLASSES
        a = (a ^ -sign) + sign
        count += 1
        where[mine + count] = cython.cast(cython.ushort, k - first)
        values[mine + count] = a
        if v == 0:
            right_edge += a * weights[(size << 5) + u]
        if u == 0:
            lower_edge += a * weights[(size << 5) + v]
        k += 1
    status[0] = cython.cast(cython.longlong, x)
    status[1] = at
    right_edge >>= log
    lower_edge >>= log
    for i in range(span):
        edges[((plane * 16 + ((cell_y + i) & 15)) * cells) + cell_x + span - 1] = right_edge
        edges[bottom + ((plane * 16 + ((cell_y + span - 1) & 15)) * cells) + cell_x + i] = (
            lower_edge
        )
    values[mine] = dc
    return cython.cast(cython.int, count)


# ---- a refinement layer of one plane of one block -------------------------------------------


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _refine(
    data: cython.const[cython.uchar][::1],
    status: cython.longlong[::1],
    layer: cython.Py_ssize_t,
    tables: cython.const[cython.ushort][::1],
    shorts: cython.short[::1],
    places: cython.const[cython.short][::1],
    bands: cython.const[cython.short][::1],
    rows: cython.const[cython.uchar][::1],
    columns: cython.const[cython.uchar][::1],
    levels: cython.const[cython.uchar][::1],
    where: cython.ushort[::1],
    values: cython.int[::1],
    mine: cython.Py_ssize_t,
    spare: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    plane: cython.Py_ssize_t,
    size: cython.int,
    profile: cython.Py_ssize_t,
) -> cython.int:
    """Double the coefficients of a block, add one bit each and the new ones; return their count.

    `where` and `values` are replaced; the accumulator is ready, the profile empty.
    """
    slot: cython.Py_ssize_t = 3 * layer
    map_: cython.Py_ssize_t = CONTEXTS + (layer - 1) * REFINEMENT_CONTEXTS
    chroma: cython.int = 1 if plane > 0 else 0
    first: cython.Py_ssize_t = cython.cast(cython.Py_ssize_t, size) << 10
    stop: cython.Py_ssize_t = first + (cython.cast(cython.Py_ssize_t, 16) << (2 * size))
    base: cython.Py_ssize_t = map_ + (size * 2 + chroma) * 2 * CLASSES
    weight: cython.int = 5 if chroma else 6
    i: cython.Py_ssize_t
    k: cython.Py_ssize_t
    v: cython.Py_ssize_t
    u: cython.Py_ssize_t
    place: cython.Py_ssize_t
    a: cython.int
    d: cython.int
    values[mine] = 2 * values[mine] + _binary(
        data, tables, tables[map_ + DC_BIT_FIRST + chroma], status, slot
    )
    # Both sides of every coefficient that is known already expect more.
    for i in range(count):
        k = first + where[mine + 1 + i]
        place = places[k]
        v = rows[k]
        u = columns[k]
        a = values[mine + 1 + i]
        a = 2 * (a if a >= 0 else -a)
        a = a if a < 63 else 63
        push(shorts, place, a, chroma)
        d = (5 * a + 1) >> 1 if chroma == 0 else 2 * a
        if u > 0:
            shorts[place - 1] += cython.cast(cython.short, d)
            shorts[place + STRIDE - 1] += cython.cast(cython.short, a)
        if v > 0:
            shorts[place - STRIDE] += cython.cast(cython.short, d)
            shorts[place - STRIDE + 1] += cython.cast(cython.short, a)
            if u > 0:
                shorts[place - STRIDE - 1] += cython.cast(cython.short, a)
    known: cython.Py_ssize_t = 0
    next_: cython.Py_ssize_t = first + where[mine + 1] if count > 0 else stop
    total: cython.Py_ssize_t = 0
    open_: cython.Py_ssize_t = CLASSES
    over: cython.bint = False
    x: cython.ulonglong = cython.cast(cython.ulonglong, status[slot])
    at: cython.Py_ssize_t = status[slot + 1]
    end: cython.Py_ssize_t = status[slot + 2]
    table: cython.Py_ssize_t
    symbol: cython.int
    sign: cython.int
    low: cython.uint
    f1: cython.uint
    k = first + 1
    while k < stop:
        if k == next_:
            a = values[mine + 1 + known]
            sign = 1 if a < 0 else 0
            a = a if a >= 0 else -a
            status[slot] = cython.cast(cython.longlong, x)
            status[slot + 1] = at
            symbol = _binary(
                data, tables, tables[map_ + BIT_FIRST + chroma * 3 + min(a, 3) - 1], status, slot
            )
            x = cython.cast(cython.ulonglong, status[slot])
            at = status[slot + 1]
            a = min(2 * a + symbol, 32767)
            known += 1
            next_ = first + where[mine + 1 + known] if known < count else stop
        elif over:
            # Nothing new any more: on to the next known one.
            k = next_
            continue
        else:
            place = places[k]
            table = tables[base + open_ + bands[k] + levels[shorts[place] & 4095]]
            low = cython.cast(cython.uint, x & 4095)
            f1 = tables[table + 1]
            if low < f1:
                x = f1 * (x >> 12) + low
                if x < LOW and at < end:
                    x = x << 32 | _word(data, at)
                    at += 4
                open_ = 0
                k += 1
                continue
            symbol = 1
            x = _step(tables, table, x, cython.address(symbol))
            if x < LOW and at < end:
                x = x << 32 | _word(data, at)
                at += 4
            if symbol == 31:
                symbol = cython.cast(cython.int, x & 31)
                x >>= 5
                if x < LOW and at < end:
                    x = x << 32 | _word(data, at)
                    at += 4
            if symbol > 2:
                status[FAULT] = 1
                symbol = 1
            if symbol == 1:
                over = True
                continue
            if symbol == 0:
                open_ = 0
                k += 1
                continue
            a = 1
            sign = cython.cast(cython.int, x & 1)
            x >>= 1
            if x < LOW and at < end:
                x = x << 32 | _word(data, at)
                at += 4
            push(shorts, place, 1, chroma)
            open_ = CLASSES
        i = a if a < 63 else 63
        v = rows[k]
        u = columns[k]
        spread(shorts, profile, size, v, u, cython.cast(cython.int, i), weight)
        cross(shorts, places[k], v, u, cython.cast(cython.int, i), plane)
        where[spare + total] = cython.cast(cython.ushort, k - first)
        values[spare + total] = (a ^ -sign) + sign
        total += 1
        k += 1
    status[slot] = cython.cast(cython.longlong, x)
    status[slot + 1] = at
    for i in range(total):
        where[mine + 1 + i] = where[spare + i]
        values[mine + 1 + i] = values[spare + i]
    return cython.cast(cython.int, total)


# ---- pixels ---------------------------------------------------------------------------------


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _second(
    basis: cython.const[cython.float][::1],
    mine: cython.Py_ssize_t,
    temp: cython.float[::1],
    pixels: cython.short[::1],
    at: cython.Py_ssize_t,
    row_nbytes: cython.Py_ssize_t,
    size: cython.int,
    T: cython.Py_ssize_t,
    used: cython.Py_ssize_t,
) -> cython.void:
    """Second stage: rows of the block from `used` columns of frequencies; empties `temp`."""
    n: cython.Py_ssize_t
    m: cython.Py_ssize_t
    u: cython.Py_ssize_t
    c: cython.float
    shift: cython.int = 9 - size
    round_: cython.int = 1 << (8 - size)
    limit: cython.float = cython.cast(cython.float, 65535 >> size)
    value: cython.int
    sums: cython.float[32]
    for n in range(used * T):
        # Rounded as integers: an arithmetic shift, also of what is negative.
        value = (cython.cast(cython.int, temp[n]) + 32) >> 6
        c = cython.cast(cython.float, value)
        c = limit if c > limit else c
        temp[n] = -limit if c < -limit else c
    for n in range(T):
        c = temp[n] * 64
        for m in range(T):
            sums[m] = c
        for u in range(1, used):
            c = temp[u * T + n]
            for m in range(T):
                sums[m] += c * basis[mine + u * 32 + m]
        for m in range(T):
            value = (cython.cast(cython.int, sums[m]) + round_) >> shift
            value = value if value < PIXEL_LIMIT else PIXEL_LIMIT
            pixels[at + n * row_nbytes + m] = cython.cast(
                cython.short, value if value > -PIXEL_LIMIT else -PIXEL_LIMIT
            )
    for n in range(used * T):
        temp[n] = 0


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _inverse(
    where: cython.const[cython.ushort][::1],
    values: cython.const[cython.int][::1],
    mine: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
    rows: cython.const[cython.uchar][::1],
    columns: cython.const[cython.uchar][::1],
    bands: cython.const[cython.short][::1],
    band_steps: cython.const[cython.longlong][:, ::1],
    sample: cython.Py_ssize_t,
    offsets: cython.const[cython.int][::1],
    basis: cython.const[cython.float][::1],
    temp: cython.float[::1],
    pixels: cython.short[::1],
    at: cython.Py_ssize_t,
    row_nbytes: cython.Py_ssize_t,
    size: cython.int,
    chroma: cython.int,
) -> cython.void:
    """Dequantize a block and write its values, with 4 bits of fraction, to `pixels`."""
    T: cython.Py_ssize_t = cython.cast(cython.Py_ssize_t, 4) << size
    shift: cython.int = 5 + 2 * size
    half: cython.longlong = cython.cast(cython.longlong, 1) << (shift - 1)
    limit: cython.longlong = 65535 >> size
    c: cython.longlong
    a: cython.int = values[mine]
    f: cython.float
    i: cython.Py_ssize_t
    n: cython.Py_ssize_t
    m: cython.Py_ssize_t
    u: cython.Py_ssize_t
    v: cython.Py_ssize_t
    used: cython.Py_ssize_t = 0
    value: cython.int
    # The DC of a prefix of layers is a floor: its middle lies offsets[6] sixteenths above.
    c = (cython.cast(cython.longlong, a) * 16 + offsets[6]) * band_steps[sample, chroma * 8 + 7]
    c = -((-c + half) >> shift) if c < 0 else (c + half) >> shift
    c = min(limit, max(-limit, c))
    if count == 0:
        value = cython.cast(cython.int, (64 * c + 32) >> 6)
        value = cython.cast(
            cython.int, min(limit, max(-limit, cython.cast(cython.longlong, value)))
        )
        value = (64 * value + (1 << (8 - size))) >> (9 - size)
        value = min(PIXEL_LIMIT, max(-PIXEL_LIMIT, value))
        for n in range(T):
            for m in range(T):
                pixels[at + n * row_nbytes + m] = cython.cast(cython.short, value)
        return
    f = cython.cast(cython.float, 64 * c)
    for n in range(T):
        temp[n] = f
    for i in range(count):
        n = (cython.cast(cython.Py_ssize_t, size) << 10) + where[mine + 1 + i]
        v = rows[n]
        u = columns[n]
        a = values[mine + 1 + i]
        m = chroma * 8 + bands[n] // LEVELS
        if a >= 0:
            c = (
                cython.cast(cython.longlong, a) * 16 + offsets[chroma * 3 + min(a, 3) - 1]
            ) * band_steps[sample, m]
            c = min(limit, (c + half) >> shift)
        else:
            a = -a
            c = (
                cython.cast(cython.longlong, a) * 16 + offsets[chroma * 3 + min(a, 3) - 1]
            ) * band_steps[sample, m]
            c = -min(limit, (c + half) >> shift)
        f = cython.cast(cython.float, c)
        if u > used:
            used = u
        m = (cython.cast(cython.Py_ssize_t, size) << 10) + v * 32
        if size == 1:
            for n in range(8):
                temp[u * 8 + n] += f * basis[m + n]
        else:
            for n in range(T):
                temp[u * T + n] += f * basis[m + n]
    # Loops of known length vectorize best.
    if size == 1:
        _second(basis, 1024, temp, pixels, at, row_nbytes, 1, 8, used + 1)
    elif size == 2:
        _second(basis, 2048, temp, pixels, at, row_nbytes, 2, 16, used + 1)
    elif size == 3:
        _second(basis, 3072, temp, pixels, at, row_nbytes, 3, 32, used + 1)
    else:
        _second(basis, 0, temp, pixels, at, row_nbytes, 0, 4, used + 1)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _colour(
    pixels: cython.const[cython.short][::1],
    strip: cython.Py_ssize_t,
    row_nbytes: cython.Py_ssize_t,
    height: cython.Py_ssize_t,
    width: cython.Py_ssize_t,
    planes: cython.Py_ssize_t,
    rgb: cython.bint,
    shifts: cython.const[cython.int][::1],
    as_floats: cython.bint,
    octets: cython.uchar[::1],
    floats: cython.float[::1],
    at: cython.Py_ssize_t,
    line: cython.int[::1],
) -> cython.void:
    """Turn rows of planes into interleaved channels: bytes, or binary32 with 1 for 255."""
    y: cython.Py_ssize_t
    i: cython.Py_ssize_t
    c: cython.Py_ssize_t
    p: cython.Py_ssize_t
    o: cython.Py_ssize_t
    a: cython.int
    b: cython.int
    d: cython.int
    top: cython.int = 255 << 14
    for y in range(height):
        p = y * row_nbytes
        if rgb:
            for i in range(width):
                a = 591 * pixels[p + i]
                b = 724 * pixels[p + strip + i]
                d = 418 * pixels[p + 2 * strip + i]
                line[i] = a + b - d + shifts[0]
                line[width + i] = a + 2 * d + shifts[1]
                line[2 * width + i] = a - b - d + shifts[2]
        for c in range(3 if rgb else 0, planes):
            for i in range(width):
                line[c * width + i] = 1024 * pixels[p + c * strip + i] + shifts[c]
        o = at + y * width * planes
        if as_floats:
            for c in range(planes):
                for i in range(width):
                    a = line[c * width + i]
                    a = a if a > 0 else 0
                    a = a if a < top else top
                    floats[o + i * planes + c] = cython.cast(cython.float, a) / 4177920.0
            continue
        for i in range(width * planes):
            a = (line[i] + 8192) >> 14
            a = a if a > 0 else 0
            line[i] = a if a < 255 else 255
        if planes == 3:
            for i in range(width):
                octets[o + 3 * i] = cython.cast(cython.uchar, line[i])
                octets[o + 3 * i + 1] = cython.cast(cython.uchar, line[width + i])
                octets[o + 3 * i + 2] = cython.cast(cython.uchar, line[2 * width + i])
        else:
            for c in range(planes):
                for i in range(width):
                    octets[o + i * planes + c] = cython.cast(cython.uchar, line[c * width + i])


# ---- all streams ----------------------------------------------------------------------------


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _decode(
    data: cython.const[cython.uchar][::1],
    starts: cython.const[cython.longlong][:, ::1],
    ends: cython.const[cython.longlong][:, ::1],
    firsts: cython.const[cython.longlong][::1],
    shapes: cython.const[cython.int][:, ::1],
    targets: cython.const[cython.longlong][::1],
    band_steps: cython.const[cython.longlong][:, ::1],
    offsets: cython.const[cython.int][::1],
    tables: cython.const[cython.ushort][::1],
    planes: cython.Py_ssize_t,
    smallest: cython.int,
    largest: cython.int,
    rgb: cython.bint,
    shifts: cython.const[cython.int][::1],
    places: cython.const[cython.short][::1],
    bands: cython.const[cython.short][::1],
    rows: cython.const[cython.uchar][::1],
    columns: cython.const[cython.uchar][::1],
    levels: cython.const[cython.uchar][::1],
    weights: cython.const[cython.int][::1],
    basis: cython.const[cython.float][::1],
    shorts: cython.short[::1],
    edges: cython.int[::1],
    sizes: cython.uchar[::1],
    where: cython.ushort[::1],
    values: cython.int[::1],
    temp: cython.float[::1],
    pixels: cython.short[::1],
    line: cython.int[::1],
    status: cython.longlong[::1],
    as_floats: cython.bint,
    octets: cython.uchar[::1],
    floats: cython.float[::1],
) -> cython.Py_ssize_t:
    layers: cython.Py_ssize_t = starts.shape[0]
    stack: cython.int[64]
    counts: cython.int[64]
    top: cython.int
    stream: cython.Py_ssize_t
    sample: cython.Py_ssize_t
    layer: cython.Py_ssize_t
    plane: cython.Py_ssize_t
    super_y: cython.Py_ssize_t
    super_x: cython.Py_ssize_t
    y: cython.Py_ssize_t
    x: cython.Py_ssize_t
    node: cython.int
    size: cython.int
    split: cython.bint
    height: cython.Py_ssize_t
    width: cython.Py_ssize_t
    unit: cython.Py_ssize_t = cython.cast(cython.Py_ssize_t, 4) << smallest
    cells: cython.Py_ssize_t
    profiles: cython.Py_ssize_t  # of one layer, in shorts
    base: cython.Py_ssize_t
    bottom: cython.Py_ssize_t
    strip: cython.Py_ssize_t
    cell_y: cython.Py_ssize_t
    cell_x: cython.Py_ssize_t
    i: cython.Py_ssize_t
    span: cython.Py_ssize_t
    left: cython.Py_ssize_t
    upper: cython.Py_ssize_t
    left_cell: cython.Py_ssize_t
    upper_cell: cython.Py_ssize_t
    z: cython.int
    profile: cython.Py_ssize_t
    extra: cython.Py_ssize_t
    zeros: cython.Py_ssize_t = 4 * SPAN
    lit: cython.bint  # some earlier plane of this block has coefficients
    dirty: cython.int  # bits of the cross accumulators that are not empty
    for stream in range(starts.shape[1]):
        for layer in range(layers):
            _open(data, starts[layer, stream], ends[layer, stream], status, 3 * layer)
        for sample in range(firsts[stream], firsts[stream + 1]):
            height = (shapes[sample, 0] + unit - 1) // unit * unit
            width = (shapes[sample, 1] + unit - 1) // unit * unit
            cells = width >> 2
            bottom = planes * 16 * cells
            profiles = planes * 16 * cells * 64
            strip = 32 * width
            for super_y in range(0, height, 32):
                for super_x in range(0, width, 32):
                    stack[0] = 3
                    top = 1
                    # A node is y << 8 | x << 3 | size, places in the superblock.
                    while top > 0:
                        top -= 1
                        node = stack[top]
                        size = node & 7
                        y = super_y + (node >> 8)
                        x = super_x + ((node >> 3) & 31)
                        span = cython.cast(cython.Py_ssize_t, 4) << size
                        if y >= height or x >= width:
                            continue
                        split = size > largest or y + span > height or x + span > width
                        if not split and size > smallest:
                            split = _binary(data, tables, tables[FLAG_FIRST + size], status, 0) > 0
                        if split:
                            node += -1
                            z = cython.cast(cython.int, span >> 1)
                            stack[top] = node + (z << 8) + (z << 3)
                            stack[top + 1] = node + (z << 8)
                            stack[top + 2] = node + (z << 3)
                            stack[top + 3] = node
                            top += 4
                            continue
                        span >>= 2
                        cell_y = y >> 2
                        cell_x = x >> 2
                        left_cell = 0
                        upper_cell = 0
                        if x > 0:
                            z = sizes[(cell_y & 15) * cells + cell_x - 1]
                            left_cell = (((cell_y >> z) << z) & 15) * cells + (
                                ((cell_x - 1) >> z) << z
                            )
                        if y > 0:
                            z = sizes[((cell_y - 1) & 15) * cells + cell_x]
                            upper_cell = ((((cell_y - 1) >> z) << z) & 15) * cells + (
                                (cell_x >> z) << z
                            )
                        for i in range(span):
                            sizes[((cell_y + i) & 15) * cells + cell_x + span - 1] = cython.cast(
                                cython.uchar, size
                            )
                            sizes[((cell_y + span - 1) & 15) * cells + cell_x + i] = cython.cast(
                                cython.uchar, size
                            )
                        for layer in range(layers):
                            lit = False
                            dirty = 0
                            base = zeros + 64 + layer * profiles
                            for plane in range(planes):
                                left = zeros
                                upper = zeros
                                if x > 0:
                                    left = base + (plane * 16 * cells + left_cell) * 64
                                    upper = left
                                if y > 0:
                                    upper = base + (plane * 16 * cells + upper_cell) * 64
                                    if x == 0:
                                        left = upper
                                extra = 0
                                if lit:
                                    extra = SPAN * (2 + ((plane - 1) & 1))
                                expect(shorts, left, upper, size, extra)
                                profile = (
                                    base + ((plane * 16 + (cell_y & 15)) * cells + cell_x) * 64
                                )
                                clear(shorts, profile, 64)
                                if plane > 1 and dirty & (1 << (plane & 1)):
                                    clear(shorts, SPAN * (2 + (plane & 1)), STRIDE * (span * 4))
                                    dirty &= ~(1 << (plane & 1))
                                if layer == 0:
                                    counts[plane] = _coarse(
                                        data, status, tables, shorts, edges, places, bands, rows,
                                        columns, levels, weights, where, values,
                                        plane * 1025, plane, size, cell_y, cell_x, cells,
                                        bottom, profile, x > 0, y > 0,
                                    )  # fmt: skip
                                else:
                                    counts[plane] = _refine(
                                        data, status, layer, tables, shorts, places, bands, rows,
                                        columns, levels, where, values,
                                        plane * 1025, planes * 1025, counts[plane], plane, size,
                                        profile,
                                    )  # fmt: skip
                                if counts[plane] > 0:
                                    lit = True
                                    dirty |= 1 << (plane & 1)
                            if lit:
                                clear(shorts, SPAN, STRIDE * span * 4)
                                clear(shorts, 2 * SPAN, STRIDE * span * 4)
                                clear(shorts, 3 * SPAN, STRIDE * span * 4)
                        for plane in range(planes):
                            _inverse(
                                where, values, plane * 1025, counts[plane], rows,
                                columns, bands, band_steps, sample, offsets, basis, temp, pixels,
                                plane * strip + (y - super_y) * width + x, width, size,
                                1 if plane > 0 else 0,
                            )  # fmt: skip
                _colour(
                    pixels, strip, width, min(32, shapes[sample, 0] - super_y), shapes[sample, 1],
                    planes, rgb, shifts, as_floats, octets, floats,
                    targets[sample] + super_y * shapes[sample, 1] * planes, line,
                )  # fmt: skip
        if status[FAULT] != 0:
            return stream
        for layer in range(layers):
            if status[3 * layer] != 0 or status[3 * layer + 1] != status[3 * layer + 2]:
                return stream
    return -1


def decode_streams(
    data: cython.const[cython.uchar][::1],
    starts: cython.const[cython.longlong][:, ::1],
    ends: cython.const[cython.longlong][:, ::1],
    firsts: cython.const[cython.longlong][::1],
    shapes: cython.const[cython.int][:, ::1],
    targets: cython.const[cython.longlong][::1],
    band_steps: cython.const[cython.longlong][:, ::1],
    offsets: cython.const[cython.int][::1],
    tables: cython.const[cython.ushort][::1],
    planes: cython.Py_ssize_t,
    smallest: cython.int,
    largest: cython.int,
    rgb: cython.bint,
    shifts: cython.const[cython.int][::1],
    places: cython.const[cython.short][::1],
    bands: cython.const[cython.short][::1],
    rows: cython.const[cython.uchar][::1],
    columns: cython.const[cython.uchar][::1],
    levels: cython.const[cython.uchar][::1],
    weights: cython.const[cython.int][::1],
    basis: cython.const[cython.float][::1],
    shorts: cython.short[::1],
    edges: cython.int[::1],
    sizes: cython.uchar[::1],
    where: cython.ushort[::1],
    values: cython.int[::1],
    temp: cython.float[::1],
    pixels: cython.short[::1],
    line: cython.int[::1],
    status: cython.longlong[::1],
    as_floats: cython.bint,
    octets: cython.uchar[::1],
    floats: cython.float[::1],
) -> cython.Py_ssize_t:
    """Decode streams to pictures; see `dsqformat.coding.block.decoding` for what the arrays hold.

    Args:
        data: all streams; stream s of layer l is data[starts[l, s] : ends[l, s]].
        starts: shape (layers, streams).
        ends: likewise.
        firsts: shape (streams + 1,), the first sample of each stream.
        shapes: shape (samples, 2), height and width.
        targets: shape (samples,), where each sample begins in the output.
        band_steps: shape (samples, 16), steps in 1/64 by luma or chroma and band; 7 is DC.
        offsets: shape (7,), sixteenths of a step added to magnitudes 1, 2 and more, and to DC.
        tables: the context maps of all layers, then the tables they point to.
        planes: channels of a picture.
        smallest: index of the smallest block size.
        largest: index of the largest.
        rgb: the first three channels are red, green and blue.
        shifts: shape (planes,), offset of each channel in 2^-14.
        places, bands, rows, columns, levels, weights, basis: of `dsqformat.coding.block.layout`.
        shorts, edges, sizes, where, values, temp, pixels, line, status: workspaces, zeros.
        as_floats: write `floats`, not `octets`.
        octets: bytes of all samples, or empty.
        floats: values of all samples, or empty.

    Returns:
        -1, or the first stream that contradicts the syntax.
    """
    with cython.nogil:
        fault: cython.Py_ssize_t = _decode(
            data, starts, ends, firsts, shapes, targets, band_steps, offsets, tables, planes,
            smallest, largest, rgb, shifts, places, bands, rows, columns, levels, weights, basis,
            shorts, edges, sizes, where, values, temp, pixels, line, status, as_floats, octets,
            floats,
        )  # fmt: skip
    return fault
