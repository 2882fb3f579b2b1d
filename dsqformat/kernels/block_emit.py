"""From codes to the symbols of one layer: the writing half of `block_decode` (spec A.3 and 4).

Cython compiles this module ahead of time. Nothing here checks lengths:
`dsqformat.coding.block.encoding` gives arrays that fit together.

A symbol is an int: context << 5 | symbol, or, below zero, raw bits: -1 - (count << 16 | value).
"""

from __future__ import annotations

import cython
from cython.cimports.dsqformat.kernels.block_context import (
    BIT_FIRST,
    CLASSES,
    DC_BIT_FIRST,
    DC_FIRST,
    DC_LEANINGS,
    FLAG_FIRST,
    SIGN_FIRST,
    SPAN,
    STRIDE,
    clear,
    cross,
    gradient_class,
    push,
    spread,
)
from cython.cimports.dsqformat.kernels.block_neighbours import (
    close_edges,
    dc_leaning,
    dc_rounding,
    mark_size,
    neighbours,
    predict_dc,
    start_block,
)
from cython.cimports.dsqformat.kernels.block_symbols import ac_symbol, dc_token
from cython.cimports.dsqformat.kernels.block_tree import push_quarters


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _emit_coarse(
    codes: cython.const[cython.int][:, :, ::1],
    shift: cython.int,
    rounding: cython.int,
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
    predict_dc(edges, plane, size, cell_y, cell_x, cells, bottom, cell_x > 0, cell_y > 0, dc_state)
    dc: cython.int = (codes[plane, y0, x0] + rounding) >> shift
    d: cython.int = dc - ((dc_state[0] + 32) >> 6)
    extra: cython.int = 0
    d = 2 * d if d >= 0 else -2 * d - 1
    symbols[n] = ((DC_FIRST + (size * 2 + chroma) * 6 + dc_state[1]) << 5) | dc_token(
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
        m = cython.cast(cython.int, base + open_ + bands[k] + levels[m & 8191]) << 5
        if k > last:
            symbols[n] = m | 1
            n += 1
            break
        v = rows[k]
        u = columns[k]
        a = codes[plane, y0 + v, x0 + u]
        sign = 1 if a < 0 else 0
        a = (a if a >= 0 else -a) >> shift
        symbols[n] = m | ac_symbol(a, cython.address(extra))
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
    close_edges(
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
    rounding: cython.int,
    upwards: cython.int,
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
    """Write the symbols of a refinement, of the bit `shift` of the codes; return their number."""
    chroma: cython.int = 1 if plane > 0 else 0
    y0: cython.Py_ssize_t = cell_y << 2
    x0: cython.Py_ssize_t = cell_x << 2
    first: cython.Py_ssize_t = cython.cast(cython.Py_ssize_t, size) << 10
    stop: cython.Py_ssize_t = first + (cython.cast(cython.Py_ssize_t, 16) << (2 * size))
    base: cython.int = (size * 2 + chroma) * 2 * CLASSES
    dc: cython.int = (codes[plane, y0, x0] + rounding) >> shift
    bit: cython.int = (dc + upwards) & 1
    dc_state: cython.int[4]
    k: cython.Py_ssize_t
    v: cython.Py_ssize_t
    u: cython.Py_ssize_t
    place: cython.Py_ssize_t
    last: cython.Py_ssize_t = first
    a: cython.int
    d: cython.int
    sign: cython.int
    count: cython.int = 0
    predict_dc(edges, plane, size, cell_y, cell_x, cells, bottom, cell_x > 0, cell_y > 0, dc_state)
    d = dc_leaning(dc_state[0] - 64 * (dc - bit) - 32, dc_state[1] == 5)
    symbols[n] = (DC_BIT_FIRST + (size * 2 + chroma) * DC_LEANINGS + d) << 5 | bit
    n += 1
    right_edge: cython.int = dc * 64
    lower_edge: cython.int = right_edge
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
            d = (base + open_ + bands[k] + levels[shorts[place] & 8191]) << 5
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
        d = -a if sign else a
        if v == 0:
            right_edge += d * weights[(size << 5) + u]
        if u == 0:
            lower_edge += d * weights[(size << 5) + v]
        a = min(a, 63)
        spread(shorts, profile, size, v, u, a, 5 if chroma else 6)
        cross(shorts, place, v, u, a, plane)
    close_edges(
        edges, plane, size, cell_y, cell_x, cells, bottom,
        right_edge >> (size + 2), lower_edge >> (size + 2),
    )  # fmt: skip
    nonzero[0] = count
    return n


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _emit(
    codes: cython.const[cython.int][:, :, ::1],
    leaves: cython.const[cython.uchar][:, ::1],
    shift: cython.int,
    layer: cython.int,
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
    rounding: cython.int = dc_rounding(layer, shift)
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
                    if layer == 0:
                        symbols[n] = (FLAG_FIRST + size) << 5 | (1 if split else 0)
                        n += 1
                if split:
                    top = push_quarters(stack, top, node)
                    continue
                neighbours(sizes, y >> 2, x >> 2, cells, pair)
                mark_size(sizes, y >> 2, x >> 2, cells, size)
                lit = False
                for plane in range(codes.shape[0]):
                    profile = start_block(
                        shorts, 4 * SPAN + 64, pair, plane, size, y >> 2, x >> 2, cells, lit
                    )
                    if plane > 1:
                        clear(shorts, SPAN * (2 + (plane & 1)), STRIDE * T)
                    if layer > 0:
                        n = _emit_refined(
                            codes, shift, rounding, layer & 1, places, bands, rows, columns,
                            levels, weights, shorts, edges, plane, size, y >> 2, x >> 2, cells,
                            bottom, profile, symbols, n, cython.address(count),
                        )  # fmt: skip
                    else:
                        n = _emit_coarse(
                            codes, shift, rounding, places, bands, rows, columns, levels, weights,
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
    layer: cython.int,
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
        layer: 0 for the first.
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
            codes, leaves, shift, layer, smallest, largest, places, bands, rows, columns, levels,
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
