"""From transform coefficients to symbols and streams: the writing half of `block_decode`.

Cython compiles this module ahead of time. `search` chooses block sizes and codes by rate and
distortion, `emit` turns codes into symbols of one layer, `finish` codes symbols as a stream.
Nothing here checks lengths: `dsqformat.coding.block.encoding` gives arrays that fit together.

A symbol is an int: context << 5 | symbol, or, below zero, raw bits: -1 - (count << 16 | value).
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

CLASSES = cython.declare(cython.int, 91)
DC_FIRST = cython.declare(cython.int, 2912)
SIGN_FIRST = cython.declare(cython.int, 2960)
FLAG_FIRST = cython.declare(cython.int, 2972)
BIT_FIRST = cython.declare(cython.int, 1456)
DC_BIT_FIRST = cython.declare(cython.int, 1462)
LOW = cython.declare(cython.ulonglong, 1 << 31)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _log2(value: cython.int) -> cython.int:
    n: cython.int = 0
    while value > 1:
        value >>= 1
        n += 1
    return n


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _dc_token(value: cython.int, extra: cython.p_int) -> cython.int:
    """Return the token of a DC residual in zigzag; extra: its number of raw bits."""
    n: cython.int
    extra[0] = 0
    if value < 8:
        return value
    n = _log2(value)
    extra[0] = n - 1
    return 8 + 2 * (n - 3) + ((value >> (n - 1)) & 1)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _ac_symbol(a: cython.int, extra: cython.p_int) -> cython.int:
    """Return the symbol of a magnitude; extra: its number of raw bits."""
    n: cython.int
    extra[0] = 0
    if a == 0:
        return 0
    if a <= 12:
        return a + 1
    n = _log2(a - 9)
    extra[0] = n
    return 12 + n


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _predict_dc(
    edges: cython.const[cython.int][::1],
    plane: cython.Py_ssize_t,
    size: cython.int,
    cell_y: cython.Py_ssize_t,
    cell_x: cython.Py_ssize_t,
    cells: cython.Py_ssize_t,
    bottom: cython.Py_ssize_t,
    nb_left: cython.bint,
    nb_upper: cython.bint,
    out: cython.p_int,
) -> cython.void:
    """Fill out[0:4]: prediction in 1/64, context, edge of the left and of the upper block."""
    span: cython.Py_ssize_t = 1 << size
    i: cython.Py_ssize_t
    left: cython.int = 0
    upper: cython.int = 0
    out[0] = 0
    out[1] = 5
    if nb_left:
        for i in range(span):
            left += edges[((plane * 16 + ((cell_y + i) & 15)) * cells) + cell_x - 1]
        left = (left >> size) << (size + 2)
        out[0] = left
        out[1] = 0
    if nb_upper:
        for i in range(span):
            upper += edges[bottom + ((plane * 16 + ((cell_y - 1) & 15)) * cells) + cell_x + i]
        upper = (upper >> size) << (size + 2)
        out[0] = upper
        out[1] = 0
    if nb_left and nb_upper:
        out[0] = (left + upper) >> 1
        i = left - upper if left >= upper else upper - left
        out[1] = (i >= 128) + (i >= 256) + (i >= 512) + (i >= 1024)
    out[2] = left
    out[3] = upper


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _close(
    edges: cython.int[::1],
    plane: cython.Py_ssize_t,
    size: cython.int,
    cell_y: cython.Py_ssize_t,
    cell_x: cython.Py_ssize_t,
    cells: cython.Py_ssize_t,
    bottom: cython.Py_ssize_t,
    right_edge: cython.int,
    lower_edge: cython.int,
) -> cython.void:
    i: cython.Py_ssize_t
    span: cython.Py_ssize_t = 1 << size
    for i in range(span):
        edges[((plane * 16 + ((cell_y + i) & 15)) * cells) + cell_x + span - 1] = right_edge
        edges[bottom + ((plane * 16 + ((cell_y + span - 1) & 15)) * cells) + cell_x + i] = (
            lower_edge
        )


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _neighbours(
    sizes: cython.const[cython.uchar][::1],
    cell_y: cython.Py_ssize_t,
    cell_x: cython.Py_ssize_t,
    cells: cython.Py_ssize_t,
    out: cython.pointer(cython.Py_ssize_t),
) -> cython.void:
    """Fill out[0:2]: the cells where the left and the upper block begin."""
    z: cython.int
    out[0] = 0
    out[1] = 0
    if cell_x > 0:
        z = sizes[(cell_y & 15) * cells + cell_x - 1]
        out[0] = (((cell_y >> z) << z) & 15) * cells + (((cell_x - 1) >> z) << z)
    if cell_y > 0:
        z = sizes[((cell_y - 1) & 15) * cells + cell_x]
        out[1] = ((((cell_y - 1) >> z) << z) & 15) * cells + ((cell_x >> z) << z)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _mark(
    sizes: cython.uchar[::1],
    cell_y: cython.Py_ssize_t,
    cell_x: cython.Py_ssize_t,
    cells: cython.Py_ssize_t,
    size: cython.int,
) -> cython.void:
    i: cython.Py_ssize_t
    span: cython.Py_ssize_t = 1 << size
    for i in range(span):
        sizes[((cell_y + i) & 15) * cells + cell_x + span - 1] = cython.cast(cython.uchar, size)
        sizes[((cell_y + span - 1) & 15) * cells + cell_x + i] = cython.cast(cython.uchar, size)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _start_plane(
    shorts: cython.short[::1],
    begin: cython.Py_ssize_t,
    pair: cython.pointer(cython.Py_ssize_t),
    plane: cython.Py_ssize_t,
    size: cython.int,
    cell_y: cython.Py_ssize_t,
    cell_x: cython.Py_ssize_t,
    cells: cython.Py_ssize_t,
    lit: cython.bint,
) -> cython.Py_ssize_t:
    """Prepare the accumulator and the empty profile of a plane; return the profile's place."""
    left: cython.Py_ssize_t = 4 * SPAN
    upper: cython.Py_ssize_t = left
    if cell_x > 0:
        left = begin + (plane * 16 * cells + pair[0]) * 64
        upper = left
    if cell_y > 0:
        upper = begin + (plane * 16 * cells + pair[1]) * 64
        if cell_x == 0:
            left = upper
    profile: cython.Py_ssize_t = begin + ((plane * 16 + (cell_y & 15)) * cells + cell_x) * 64
    expect(shorts, left, upper, size, SPAN * (2 + ((plane - 1) & 1)) if lit else 0)
    clear(shorts, profile, 64)
    if plane > 1:
        clear(shorts, SPAN * (2 + (plane & 1)), STRIDE * (4 << size))
    return profile


# ---- choosing codes and sizes ---------------------------------------------------------------


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _search_plane(
    coefs: cython.const[cython.float][:, :, :, ::1],
    codes: cython.int[:, :, ::1],
    map_: cython.const[cython.ushort][::1],
    costs: cython.const[cython.float][::1],
    lam: cython.float,
    places: cython.const[cython.short][::1],
    bands: cython.const[cython.short][::1],
    rows: cython.const[cython.uchar][::1],
    columns: cython.const[cython.uchar][::1],
    levels: cython.const[cython.uchar][::1],
    weights: cython.const[cython.int][::1],
    shorts: cython.short[::1],
    edges: cython.int[::1],
    plane: cython.Py_ssize_t,
    size: cython.int,
    cell_y: cython.Py_ssize_t,
    cell_x: cython.Py_ssize_t,
    cells: cython.Py_ssize_t,
    bottom: cython.Py_ssize_t,
    profile: cython.Py_ssize_t,
    nonzero: cython.p_int,
) -> cython.float:
    """Choose the codes of one plane of one block; return distortion + lam * bits."""
    chroma: cython.int = 1 if plane > 0 else 0
    y0: cython.Py_ssize_t = cell_y << 2
    x0: cython.Py_ssize_t = cell_x << 2
    nb_left: cython.bint = cell_x > 0
    nb_upper: cython.bint = cell_y > 0
    dc_state: cython.int[4]
    _predict_dc(edges, plane, size, cell_y, cell_x, cells, bottom, nb_left, nb_upper, dc_state)
    prediction: cython.int = (dc_state[0] + 32) >> 6
    row: cython.Py_ssize_t = map_[DC_FIRST + (size * 2 + chroma) * 6 + dc_state[1]]
    c: cython.float = coefs[size, plane, y0, x0]
    near: cython.int = cython.cast(cython.int, c + 0.5 if c >= 0 else c - 0.5)
    trial: cython.int
    token: cython.int
    d: cython.int
    extra: cython.int = 0
    dc: cython.int = near
    cost: cython.float
    total: cython.float = 1e30
    for trial in range(2):
        d = near
        if trial == 1:
            if near == prediction:
                break
            d = near - 1 if near > prediction else near + 1
        # A token has at most 13 raw bits.
        d = min(16000, max(-16000, d - prediction))
        token = _dc_token(2 * d if d >= 0 else -2 * d - 1, cython.address(extra))
        cost = lam * (costs[row + token] + extra)
        d = min(32767, max(-32767, d + prediction))
        cost += (c - d) * (c - d)
        if cost < total:
            total = cost
            dc = d
    codes[plane, y0, x0] = dc
    g1: cython.int = -((dc * 64 - dc_state[2]) * 3) >> 3 if nb_left else 0
    g2: cython.int = -((dc * 64 - dc_state[3]) * 3) >> 3 if nb_upper else 0
    base: cython.Py_ssize_t = (
        ((size * 2 + chroma) * 2 + (0 if nb_left or nb_upper else 1)) * 2 * CLASSES
    )
    first: cython.Py_ssize_t = cython.cast(cython.Py_ssize_t, size) << 10
    stop: cython.Py_ssize_t = first + (cython.cast(cython.Py_ssize_t, 16) << (2 * size))
    k: cython.Py_ssize_t
    last: cython.Py_ssize_t = first
    tail: cython.float = 0
    for k in range(first + 1, stop):
        c = coefs[size, plane, y0 + rows[k], x0 + columns[k]]
        tail += c * c
        if c > 0.5 or c < -0.5:
            last = k
    best: cython.float = 1e30
    best_k: cython.Py_ssize_t = first
    spent: cython.float = 0
    open_: cython.Py_ssize_t = CLASSES
    prev: cython.int = 0
    m: cython.int
    a: cython.int
    a0: cython.int
    chosen: cython.int
    here: cython.float
    place: cython.Py_ssize_t
    v: cython.Py_ssize_t
    u: cython.Py_ssize_t
    k = first + 1
    while True:
        row = 0
        place = 0
        if k < stop:
            place = places[k]
            m = shorts[place] + prev
            if k - first < 3:
                d = g1 if k - first == 1 else g2
                m += min(64, (d if d >= 0 else -d) >> 3)
            row = map_[base + open_ + bands[k] + levels[m & 4095]]
        if open_ > 0:
            cost = spent + tail
            if k < stop:
                cost += lam * costs[row + 1]
            if cost < best:
                best = cost
                best_k = k - 1
        if k > last:
            break
        v = rows[k]
        u = columns[k]
        c = coefs[size, plane, y0 + v, x0 + u]
        tail -= c * c
        m = 1 if c < 0 else 0
        c = -c if c < 0 else c
        a0 = min(32767, cython.cast(cython.int, c + 0.5))
        chosen = 0
        here = 1e30
        for trial in range(3):
            a = a0 - trial
            if trial == 2:
                if a0 < 2:
                    break
                a = 0
            if a < 0:
                break
            cost = costs[row + _ac_symbol(a, cython.address(extra))] + extra
            cost = (c - a) * (c - a) + lam * (cost + (1 if a > 0 else 0))
            if cost < here:
                here = cost
                chosen = a
        spent += here
        codes[plane, y0 + v, x0 + u] = -chosen if m else chosen
        if chosen > 0:
            a = min(chosen, 63)
            push(shorts, place, a, chroma)
            prev = a << (1 if chroma else 2)
            open_ = CLASSES
        else:
            prev = 0
            open_ = 0
        k += 1
    right_edge: cython.int = dc * 64
    lower_edge: cython.int = right_edge
    count: cython.int = 0
    for k in range(first + 1, best_k + 1):
        v = rows[k]
        u = columns[k]
        a = codes[plane, y0 + v, x0 + u]
        if a == 0:
            continue
        count += 1
        if v == 0:
            right_edge += a * weights[(size << 5) + u]
        if u == 0:
            lower_edge += a * weights[(size << 5) + v]
        a = min(63, a if a >= 0 else -a)
        spread(shorts, profile, size, v, u, a, 5 if chroma else 6)
        cross(shorts, places[k], v, u, a, plane)
    for k in range(best_k + 1, stop):
        codes[plane, y0 + rows[k], x0 + columns[k]] = 0
    _close(
        edges, plane, size, cell_y, cell_x, cells, bottom,
        right_edge >> (size + 2), lower_edge >> (size + 2),
    )  # fmt: skip
    nonzero[0] = count
    return total + best


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _keep(
    restore: cython.bint,
    codes: cython.int[:, :, ::1],
    shorts: cython.short[::1],
    edges: cython.int[::1],
    saved: cython.int[::1],
    size: cython.int,
    cell_y: cython.Py_ssize_t,
    cell_x: cython.Py_ssize_t,
    cells: cython.Py_ssize_t,
    bottom: cython.Py_ssize_t,
) -> cython.void:
    """Save what a leaf wrote, or write it back."""
    planes: cython.Py_ssize_t = codes.shape[0]
    span: cython.Py_ssize_t = 1 << size
    T: cython.Py_ssize_t = 4 << size
    at: cython.Py_ssize_t = planes * 1280 * size
    p: cython.Py_ssize_t
    i: cython.Py_ssize_t
    j: cython.Py_ssize_t
    a: cython.Py_ssize_t
    b: cython.Py_ssize_t
    for p in range(planes):
        for i in range(T):
            for j in range(T):
                if restore:
                    codes[p, 4 * cell_y + i, 4 * cell_x + j] = saved[at + j]
                else:
                    saved[at + j] = codes[p, 4 * cell_y + i, 4 * cell_x + j]
            at += T
        a = 4 * SPAN + 64 + ((p * 16 + (cell_y & 15)) * cells + cell_x) * 64
        for i in range(64):
            if restore:
                shorts[a + i] = cython.cast(cython.short, saved[at + i])
            else:
                saved[at + i] = shorts[a + i]
        at += 64
        for i in range(span):
            a = ((p * 16 + ((cell_y + i) & 15)) * cells) + cell_x + span - 1
            b = bottom + ((p * 16 + ((cell_y + span - 1) & 15)) * cells) + cell_x + i
            if restore:
                edges[a] = saved[at]
                edges[b] = saved[at + 1]
            else:
                saved[at] = edges[a]
                saved[at + 1] = edges[b]
            at += 2


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _search_node(
    coefs: cython.const[cython.float][:, :, :, ::1],
    codes: cython.int[:, :, ::1],
    leaves: cython.uchar[:, ::1],
    map_: cython.const[cython.ushort][::1],
    costs: cython.const[cython.float][::1],
    lam: cython.float,
    smallest: cython.int,
    largest: cython.int,
    places: cython.const[cython.short][::1],
    bands: cython.const[cython.short][::1],
    rows: cython.const[cython.uchar][::1],
    columns: cython.const[cython.uchar][::1],
    levels: cython.const[cython.uchar][::1],
    weights: cython.const[cython.int][::1],
    shorts: cython.short[::1],
    edges: cython.int[::1],
    sizes: cython.uchar[::1],
    saved: cython.int[::1],
    y0: cython.Py_ssize_t,
    x0: cython.Py_ssize_t,
    size: cython.int,
) -> cython.float:
    """Choose the partition of a node; return its distortion + lam * bits."""
    height: cython.Py_ssize_t = codes.shape[1]
    width: cython.Py_ssize_t = codes.shape[2]
    if y0 >= height or x0 >= width:
        return 0
    T: cython.Py_ssize_t = 4 << size
    cells: cython.Py_ssize_t = width >> 2
    bottom: cython.Py_ssize_t = codes.shape[0] * 16 * cells
    cell_y: cython.Py_ssize_t = y0 >> 2
    cell_x: cython.Py_ssize_t = x0 >> 2
    pair: cython.Py_ssize_t[2]
    plane: cython.Py_ssize_t
    profile: cython.Py_ssize_t
    i: cython.Py_ssize_t
    j: cython.Py_ssize_t
    count: cython.int = 0
    lit: cython.bint = False
    leaf: cython.bint = size <= largest and y0 + T <= height and x0 + T <= width
    whole: cython.float = 1e30
    parts: cython.float = 0
    if leaf:
        whole = 0
        if size > smallest:
            whole = lam * costs[map_[FLAG_FIRST + size]]
            parts = lam * costs[map_[FLAG_FIRST + size] + 1]
        _neighbours(sizes, cell_y, cell_x, cells, pair)
        for plane in range(codes.shape[0]):
            profile = _start_plane(
                shorts, 4 * SPAN + 64, pair, plane, size, cell_y, cell_x, cells, lit
            )
            whole += _search_plane(
                coefs, codes, map_, costs, lam, places, bands, rows, columns, levels, weights,
                shorts, edges, plane, size, cell_y, cell_x, cells, bottom, profile,
                cython.address(count),
            )  # fmt: skip
            if count > 0:
                lit = True
        if lit:
            for i in range(1, 4):
                clear(shorts, SPAN * i, STRIDE * T)
        if size > smallest:
            _keep(False, codes, shorts, edges, saved, size, cell_y, cell_x, cells, bottom)
    if size > smallest:
        for i in range(2):
            for j in range(2):
                parts += _search_node(
                    coefs, codes, leaves, map_, costs, lam, smallest, largest, places, bands, rows,
                    columns, levels, weights, shorts, edges, sizes, saved, y0 + i * (T >> 1),
                    x0 + j * (T >> 1), size - 1,
                )  # fmt: skip
                if leaf and parts >= whole:
                    break
            if leaf and parts >= whole:
                break
        if parts < whole:
            return parts
        _keep(True, codes, shorts, edges, saved, size, cell_y, cell_x, cells, bottom)
    _mark(sizes, cell_y, cell_x, cells, size)
    for i in range(T >> 2):
        for j in range(T >> 2):
            leaves[cell_y + i, cell_x + j] = cython.cast(cython.uchar, size)
    return whole


def search(
    coefs: cython.const[cython.float][:, :, :, ::1],
    codes: cython.int[:, :, ::1],
    leaves: cython.uchar[:, ::1],
    map_: cython.const[cython.ushort][::1],
    costs: cython.const[cython.float][::1],
    lam: cython.float,
    smallest: cython.int,
    largest: cython.int,
    places: cython.const[cython.short][::1],
    bands: cython.const[cython.short][::1],
    rows: cython.const[cython.uchar][::1],
    columns: cython.const[cython.uchar][::1],
    levels: cython.const[cython.uchar][::1],
    weights: cython.const[cython.int][::1],
    shorts: cython.short[::1],
    edges: cython.int[::1],
    sizes: cython.uchar[::1],
    saved: cython.int[::1],
) -> None:
    """Choose codes and block sizes of one picture.

    Args:
        coefs: shape (4, planes, height, width), coefficients in steps for each block size.
        codes: shape (planes, height, width), written.
        leaves: shape (height / 4, width / 4), the index of the block size of each cell, written.
        map_: shape (2976,), row of `costs` of each context.
        costs: bits of each symbol, rows of 32.
        lam: squared steps per bit.
        smallest: index of the smallest block size.
        largest: index of the largest.
        places, bands, rows, columns, levels, weights: of `dsqformat.coding.block.layout`.
        shorts, edges, sizes, saved: workspaces.
    """
    y: cython.Py_ssize_t
    x: cython.Py_ssize_t
    with cython.nogil:
        for y in range(0, codes.shape[1], 32):
            for x in range(0, codes.shape[2], 32):
                _search_node(
                    coefs, codes, leaves, map_, costs, lam, smallest, largest, places, bands, rows,
                    columns, levels, weights, shorts, edges, sizes, saved, y, x, 3,
                )  # fmt: skip


# ---- symbols --------------------------------------------------------------------------------


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _emit_coarse(
    codes: cython.const[cython.int][:, :, ::1],
    shift: cython.int,
    places: cython.const[cython.short][::1],
    bands: cython.const[cython.short][::1],
    rows: cython.const[cython.uchar][::1],
    columns: cython.const[cython.uchar][::1],
    levels: cython.const[cython.uchar][::1],
    weights: cython.const[cython.int][::1],
    shorts: cython.short[::1],
    edges: cython.int[::1],
    plane: cython.Py_ssize_t,
    size: cython.int,
    cell_y: cython.Py_ssize_t,
    cell_x: cython.Py_ssize_t,
    cells: cython.Py_ssize_t,
    bottom: cython.Py_ssize_t,
    profile: cython.Py_ssize_t,
    symbols: cython.int[::1],
    n: cython.Py_ssize_t,
    nonzero: cython.p_int,
) -> cython.Py_ssize_t:
    """Write the symbols of layer 0 of one plane of one block; return their new number."""
    chroma: cython.int = 1 if plane > 0 else 0
    y0: cython.Py_ssize_t = cell_y << 2
    x0: cython.Py_ssize_t = cell_x << 2
    dc_state: cython.int[4]
    _predict_dc(edges, plane, size, cell_y, cell_x, cells, bottom, cell_x > 0, cell_y > 0, dc_state)
    dc: cython.int = codes[plane, y0, x0] >> shift
    d: cython.int = dc - ((dc_state[0] + 32) >> 6)
    extra: cython.int = 0
    d = 2 * d if d >= 0 else -2 * d - 1
    symbols[n] = ((DC_FIRST + (size * 2 + chroma) * 6 + dc_state[1]) << 5) | _dc_token(
        d, cython.address(extra)
    )
    n += 1
    if extra > 0:
        symbols[n] = -1 - (extra << 16 | (d & ((1 << extra) - 1)))
        n += 1
    g1: cython.int = -((dc * 64 - dc_state[2]) * 3) >> 3 if cell_x > 0 else 0
    g2: cython.int = -((dc * 64 - dc_state[3]) * 3) >> 3 if cell_y > 0 else 0
    base: cython.Py_ssize_t = (
        ((size * 2 + chroma) * 2 + (0 if cell_x > 0 or cell_y > 0 else 1)) * 2 * CLASSES
    )
    first: cython.Py_ssize_t = cython.cast(cython.Py_ssize_t, size) << 10
    stop: cython.Py_ssize_t = first + (cython.cast(cython.Py_ssize_t, 16) << (2 * size))
    k: cython.Py_ssize_t
    last: cython.Py_ssize_t = first
    a: cython.int
    for k in range(stop - 1, first, -1):
        a = codes[plane, y0 + rows[k], x0 + columns[k]]
        if (a if a >= 0 else -a) >> shift != 0:
            last = k
            break
    right_edge: cython.int = dc * 64
    lower_edge: cython.int = right_edge
    open_: cython.Py_ssize_t = CLASSES
    prev: cython.int = 0
    m: cython.int
    g: cython.int = 0
    sign: cython.int
    count: cython.int = 0
    place: cython.Py_ssize_t
    v: cython.Py_ssize_t
    u: cython.Py_ssize_t
    for k in range(first + 1, stop):
        place = places[k]
        m = shorts[place] + prev
        if k - first < 3:
            g = g1 if k - first == 1 else g2
            m += min(64, (g if g >= 0 else -g) >> 3)
        m = cython.cast(cython.int, base + open_ + bands[k] + levels[m & 4095]) << 5
        if k > last:
            symbols[n] = m | 1
            n += 1
            break
        v = rows[k]
        u = columns[k]
        a = codes[plane, y0 + v, x0 + u]
        sign = 1 if a < 0 else 0
        a = (a if a >= 0 else -a) >> shift
        symbols[n] = m | _ac_symbol(a, cython.address(extra))
        n += 1
        if a == 0:
            prev = 0
            open_ = 0
            continue
        if extra > 0:
            symbols[n] = -1 - (extra << 16 | (a - 9 - (1 << extra)))
            n += 1
        if k - first < 3:
            symbols[n] = (SIGN_FIRST + chroma * 6 + gradient_class(g)) << 5 | sign
        else:
            symbols[n] = -1 - (1 << 16 | sign)
        n += 1
        count += 1
        m = -a if sign else a
        if v == 0:
            right_edge += m * weights[(size << 5) + u]
        if u == 0:
            lower_edge += m * weights[(size << 5) + v]
        a = min(a, 63)
        push(shorts, place, a, chroma)
        spread(shorts, profile, size, v, u, a, 5 if chroma else 6)
        cross(shorts, place, v, u, a, plane)
        prev = a << (1 if chroma else 2)
        open_ = CLASSES
    _close(
        edges, plane, size, cell_y, cell_x, cells, bottom,
        right_edge >> (size + 2), lower_edge >> (size + 2),
    )  # fmt: skip
    nonzero[0] = count
    return n


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _emit_refined(
    codes: cython.const[cython.int][:, :, ::1],
    shift: cython.int,
    places: cython.const[cython.short][::1],
    bands: cython.const[cython.short][::1],
    rows: cython.const[cython.uchar][::1],
    columns: cython.const[cython.uchar][::1],
    levels: cython.const[cython.uchar][::1],
    shorts: cython.short[::1],
    plane: cython.Py_ssize_t,
    size: cython.int,
    y0: cython.Py_ssize_t,
    x0: cython.Py_ssize_t,
    profile: cython.Py_ssize_t,
    symbols: cython.int[::1],
    n: cython.Py_ssize_t,
    nonzero: cython.p_int,
) -> cython.Py_ssize_t:
    """Write the symbols of a refinement, of the bit `shift` of the codes; return their number."""
    chroma: cython.int = 1 if plane > 0 else 0
    first: cython.Py_ssize_t = cython.cast(cython.Py_ssize_t, size) << 10
    stop: cython.Py_ssize_t = first + (cython.cast(cython.Py_ssize_t, 16) << (2 * size))
    base: cython.int = (size * 2 + chroma) * 2 * CLASSES
    k: cython.Py_ssize_t
    v: cython.Py_ssize_t
    u: cython.Py_ssize_t
    place: cython.Py_ssize_t
    last: cython.Py_ssize_t = first
    a: cython.int
    d: cython.int
    sign: cython.int
    count: cython.int = 0
    symbols[n] = (DC_BIT_FIRST + chroma) << 5 | ((codes[plane, y0, x0] >> shift) & 1)
    n += 1
    for k in range(first + 1, stop):
        v = rows[k]
        u = columns[k]
        a = codes[plane, y0 + v, x0 + u]
        a = (a if a >= 0 else -a) >> shift
        if a == 1:
            last = k
        if a < 2:
            continue
        place = places[k]
        a = min(63, 2 * (a >> 1))
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
    open_: cython.int = CLASSES
    over: cython.bint = False
    for k in range(first + 1, stop):
        place = places[k]
        v = rows[k]
        u = columns[k]
        a = codes[plane, y0 + v, x0 + u]
        sign = 1 if a < 0 else 0
        a = (a if a >= 0 else -a) >> shift
        if a > 1:
            symbols[n] = (BIT_FIRST + chroma * 3 + min(a >> 1, 3) - 1) << 5 | (a & 1)
            n += 1
        elif over:
            continue
        else:
            d = (base + open_ + bands[k] + levels[shorts[place] & 4095]) << 5
            if k > last:
                symbols[n] = d | 1
                n += 1
                over = True
                continue
            symbols[n] = d | (2 if a > 0 else 0)
            n += 1
            open_ = 0
            if a == 0:
                continue
            symbols[n] = -1 - (1 << 16 | sign)
            n += 1
            push(shorts, place, 1, chroma)
            open_ = CLASSES
        count += 1
        a = min(a, 63)
        spread(shorts, profile, size, v, u, a, 5 if chroma else 6)
        cross(shorts, place, v, u, a, plane)
    nonzero[0] = count
    return n


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _emit(
    codes: cython.const[cython.int][:, :, ::1],
    leaves: cython.const[cython.uchar][:, ::1],
    shift: cython.int,
    refined: cython.bint,
    smallest: cython.int,
    largest: cython.int,
    places: cython.const[cython.short][::1],
    bands: cython.const[cython.short][::1],
    rows: cython.const[cython.uchar][::1],
    columns: cython.const[cython.uchar][::1],
    levels: cython.const[cython.uchar][::1],
    weights: cython.const[cython.int][::1],
    shorts: cython.short[::1],
    edges: cython.int[::1],
    sizes: cython.uchar[::1],
    symbols: cython.int[::1],
    n: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    height: cython.Py_ssize_t = codes.shape[1]
    width: cython.Py_ssize_t = codes.shape[2]
    cells: cython.Py_ssize_t = width >> 2
    bottom: cython.Py_ssize_t = codes.shape[0] * 16 * cells
    stack: cython.int[64]
    pair: cython.Py_ssize_t[2]
    top: cython.int
    node: cython.int
    size: cython.int
    z: cython.int
    split: cython.bint
    lit: cython.bint
    count: cython.int = 0
    super_y: cython.Py_ssize_t
    super_x: cython.Py_ssize_t
    y: cython.Py_ssize_t
    x: cython.Py_ssize_t
    T: cython.Py_ssize_t
    i: cython.Py_ssize_t
    plane: cython.Py_ssize_t
    profile: cython.Py_ssize_t
    for super_y in range(0, height, 32):
        for super_x in range(0, width, 32):
            stack[0] = 3
            top = 1
            while top > 0:
                top -= 1
                node = stack[top]
                size = node & 7
                y = super_y + (node >> 8)
                x = super_x + ((node >> 3) & 31)
                T = 4 << size
                if y >= height or x >= width:
                    continue
                if n + 3100 * codes.shape[0] > symbols.shape[0]:
                    return -1
                split = leaves[y >> 2, x >> 2] < size
                if size > smallest and size <= largest and y + T <= height and x + T <= width:
                    if not refined:
                        symbols[n] = (FLAG_FIRST + size) << 5 | (1 if split else 0)
                        n += 1
                if split:
                    node += -1
                    z = cython.cast(cython.int, T >> 1)
                    stack[top] = node + (z << 8) + (z << 3)
                    stack[top + 1] = node + (z << 8)
                    stack[top + 2] = node + (z << 3)
                    stack[top + 3] = node
                    top += 4
                    continue
                _neighbours(sizes, y >> 2, x >> 2, cells, pair)
                _mark(sizes, y >> 2, x >> 2, cells, size)
                lit = False
                for plane in range(codes.shape[0]):
                    profile = _start_plane(
                        shorts, 4 * SPAN + 64, pair, plane, size, y >> 2, x >> 2, cells, lit
                    )
                    if refined:
                        n = _emit_refined(
                            codes, shift, places, bands, rows, columns, levels, shorts, plane,
                            size, y, x, profile, symbols, n, cython.address(count),
                        )  # fmt: skip
                    else:
                        n = _emit_coarse(
                            codes, shift, places, bands, rows, columns, levels, weights,
                            shorts, edges, plane, size, y >> 2, x >> 2, cells, bottom, profile,
                            symbols, n, cython.address(count),
                        )  # fmt: skip
                    if count > 0:
                        lit = True
                if lit:
                    for i in range(1, 4):
                        clear(shorts, SPAN * i, STRIDE * T)
    return n


def emit(
    codes: cython.const[cython.int][:, :, ::1],
    leaves: cython.const[cython.uchar][:, ::1],
    shift: cython.int,
    refined: cython.bint,
    smallest: cython.int,
    largest: cython.int,
    places: cython.const[cython.short][::1],
    bands: cython.const[cython.short][::1],
    rows: cython.const[cython.uchar][::1],
    columns: cython.const[cython.uchar][::1],
    levels: cython.const[cython.uchar][::1],
    weights: cython.const[cython.int][::1],
    shorts: cython.short[::1],
    edges: cython.int[::1],
    sizes: cython.uchar[::1],
    symbols: cython.int[::1],
    n: cython.Py_ssize_t,
) -> cython.Py_ssize_t:
    """Write the symbols of one layer of one picture.

    Args:
        codes: shape (planes, height, width), of all layers.
        leaves: shape (height / 4, width / 4).
        shift: bits of the codes that later layers hold.
        refined: this is not layer 0.
        smallest, largest: indices of block sizes.
        places, bands, rows, columns, levels, weights: of `dsqformat.coding.block.layout`.
        shorts, edges, sizes: workspaces.
        symbols: written from n on.
        n: symbols that are there.

    Returns:
        The new number of symbols, or -1 where `symbols` is too short.
    """
    with cython.nogil:
        n = _emit(
            codes, leaves, shift, refined, smallest, largest, places, bands, rows, columns, levels,
            weights, shorts, edges, sizes, symbols, n,
        )  # fmt: skip
    return n


def tally(
    symbols: cython.const[cython.int][::1], n: cython.Py_ssize_t, counts: cython.longlong[::1]
) -> None:
    """Add the symbols to their histogram, shape (contexts * 32,)."""
    i: cython.Py_ssize_t
    with cython.nogil:
        for i in range(n):
            if symbols[i] >= 0:
                counts[symbols[i]] += 1


# ---- streams --------------------------------------------------------------------------------


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _spill(out: cython.uchar[::1], at: cython.Py_ssize_t, x: cython.ulonglong) -> cython.void:
    i: cython.Py_ssize_t
    for i in range(4):
        out[at + i] = cython.cast(cython.uchar, (x >> (8 * i)) & 255)


def finish(
    symbols: cython.const[cython.int][::1],
    n: cython.Py_ssize_t,
    tables: cython.const[cython.ushort][::1],
    first: cython.Py_ssize_t,
    out: cython.uchar[::1],
) -> cython.Py_ssize_t:
    """Code symbols, last first, as one stream at the end of `out` (SPEC 8).

    Args:
        symbols: of `emit`.
        n: their number.
        tables: the context maps of all layers, then the tables they point to.
        first: where the map of this layer begins.
        out: at least 5 * n + 8 bytes.

    Returns:
        Where the stream begins in `out`.
    """
    x: cython.ulonglong = 0
    at: cython.Py_ssize_t = out.shape[0]
    i: cython.Py_ssize_t
    op: cython.int
    bits: cython.int
    table: cython.Py_ssize_t
    symbol: cython.int
    start: cython.ulonglong
    f: cython.ulonglong
    with cython.nogil:
        for i in range(n - 1, -1, -1):
            op = symbols[i]
            if op < 0:
                op = -1 - op
                bits = op >> 16
                if x >> (63 - bits) != 0:
                    at -= 4
                    _spill(out, at, x)
                    x >>= 32
                x = x << bits | cython.cast(cython.ulonglong, op & 65535)
                continue
            table = tables[first + (op >> 5)]
            symbol = op & 31
            start = tables[table + symbol]
            f = tables[table + symbol + 1] - start
            if f == 0 or symbol == 31:
                # Not in the table: the escape symbol, then five raw bits.
                if x >> 58 != 0:
                    at -= 4
                    _spill(out, at, x)
                    x >>= 32
                x = x << 5 | cython.cast(cython.ulonglong, symbol)
                start = tables[table + 31]
                f = 4096 - start
            if x >= f << 51:
                at -= 4
                _spill(out, at, x)
                x >>= 32
            x = (x // f << 12) + start + x % f
        bits = 0
        while bits < 8 and x >> (8 * bits) != 0:
            bits += 1
        # The lowest words last; what is above them begins the stream.
        while bits >= 4:
            at -= 4
            _spill(out, at, x)
            x >>= 32
            bits -= 4
        at -= bits
        for i in range(bits):
            out[at + i] = cython.cast(cython.uchar, (x >> (8 * i)) & 255)
    return at
