"""Choosing block sizes and codes by rate and distortion.

Cython compiles this module ahead of time. Nothing here checks lengths:
`dsqformat.coding.block.encoding` gives arrays that fit together.
"""

from __future__ import annotations

import cython
from cython.cimports.dsqformat.kernels.block_context import (
    CLASSES,
    DC_FIRST,
    FLAG_FIRST,
    SPAN,
    STRIDE,
    clear,
    cross,
    push,
    spread,
)
from cython.cimports.dsqformat.kernels.block_neighbours import (
    close_edges,
    mark_size,
    neighbours,
    predict_dc,
    start_block,
)
from cython.cimports.dsqformat.kernels.block_symbols import ac_symbol, dc_token


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
    predict_dc(edges, plane, size, cell_y, cell_x, cells, bottom, nb_left, nb_upper, dc_state)
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
        token = dc_token(2 * d if d >= 0 else -2 * d - 1, cython.address(extra))
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
            row = map_[base + open_ + bands[k] + levels[m & 8191]]
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
            cost = costs[row + ac_symbol(a, cython.address(extra))] + extra
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
    close_edges(
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
        neighbours(sizes, cell_y, cell_x, cells, pair)
        for plane in range(codes.shape[0]):
            profile = start_block(
                shorts, 4 * SPAN + 64, pair, plane, size, cell_y, cell_x, cells, lit
            )
            if plane > 1:
                clear(shorts, SPAN * (2 + (plane & 1)), STRIDE * T)
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
    mark_size(sizes, cell_y, cell_x, cells, size)
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
