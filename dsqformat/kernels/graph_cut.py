"""One step of GraphCut: inner products of every row with one, and sums that keep their precision.

Cython compiles this module ahead of time; it is Python as well, and the tests also run it
uncompiled. Nothing here checks lengths: callers do so before the loop.

`plain_graph_cut` gives the same bits: what is added to what is fixed, by lanes and by blocks, so
that any number of threads on any machine chooses the same samples.
"""

from __future__ import annotations

import cython

# Rows that are added up plainly before their sum goes into one that carries its error.
BLOCK = cython.declare(cython.Py_ssize_t, 32)
INFINITY = cython.declare(cython.double, float("inf"))

# Rows are stored in single precision where that is exact: half as many bytes move through memory.
Value = cython.fused_type(cython.float, cython.double)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _product(
    rows: cython.const[Value][:, ::1],
    row: cython.Py_ssize_t,
    vector: cython.const[cython.double][::1],
) -> cython.double:
    """Return the inner product in double precision: 16 lanes, then halves added to halves."""
    lanes = cython.declare(cython.double[16])
    i: cython.Py_ssize_t
    k: cython.Py_ssize_t
    for k in range(16):
        lanes[k] = 0
    for i in range(vector.shape[0] // 16):
        for k in range(16):
            lanes[k] += cython.cast(cython.double, rows[row, 16 * i + k]) * vector[16 * i + k]
    for k in range(8):
        lanes[k] += lanes[k + 8]
    for k in range(4):
        lanes[k] += lanes[k + 4]
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])


def row_products(
    rows: cython.const[Value][:, ::1],
    first: cython.Py_ssize_t,
    stop: cython.Py_ssize_t,
    vector: cython.const[cython.double][::1],
    out: cython.double[::1],
) -> None:
    """Write the inner products of rows `first` to `stop` with one vector.

    Args:
        rows: shape (m, d), d a multiple of 16.
        first: the first row.
        stop: the row after the last.
        vector: shape (d,).
        out: shape (m,), written from `first` to `stop`.
    """
    i: cython.Py_ssize_t
    with cython.nogil:
        for i in range(first, stop):
            out[i] = _product(rows, i, vector)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _add(
    total: cython.double[::1],
    carry: cython.double[::1],
    place: cython.Py_ssize_t,
    value: cython.double,
) -> cython.void:
    """Add to a sum of two numbers, the second of which is what the first lacks."""
    old: cython.double = total[place]
    new: cython.double = old + value
    part: cython.double = new - old
    carry[place] += (old - (new - part)) + (value - part)
    total[place] = new


def column_sums(
    rows: cython.const[Value][:, ::1],
    weights: cython.const[cython.double][::1],
    block: cython.double[::1],
    total: cython.double[::1],
    carry: cython.double[::1],
) -> None:
    """Add the weighted sum of all rows to a compensated sum.

    Args:
        rows: shape (m, d).
        weights: shape (m,).
        block: shape (d,), scratch.
        total: shape (d,), added to.
        carry: shape (d,), added to: what `total` lacks.
    """
    i: cython.Py_ssize_t
    k: cython.Py_ssize_t
    place: cython.Py_ssize_t = 0
    weight: cython.double
    with cython.nogil:
        while place < rows.shape[0]:
            for k in range(rows.shape[1]):
                block[k] = 0
            for i in range(place, min(place + BLOCK, rows.shape[0])):
                weight = weights[i]
                for k in range(rows.shape[1]):
                    block[k] += cython.cast(cython.double, rows[i, k]) * weight
            for k in range(rows.shape[1]):
                _add(total, carry, k, block[k])
            place += BLOCK


def accumulate(
    products: cython.const[cython.double][::1],
    others: cython.const[cython.double][::1],
    scale: cython.const[cython.double][::1],
    gain: cython.double,
    first: cython.Py_ssize_t,
    stop: cython.Py_ssize_t,
    total: cython.double[::1],
    carry: cython.double[::1],
) -> None:
    """Add products * others * gain * scale to compensated sums, from `first` to `stop`.

    Args:
        products: shape (m,).
        others: shape (m,) or (0,), which stands for ones.
        scale: shape (m,).
        gain: one more factor.
        first: the first place.
        stop: the place after the last.
        total: shape (m,), added to.
        carry: shape (m,), added to: what `total` lacks.
    """
    i: cython.Py_ssize_t
    with cython.nogil:
        if others.shape[0] > 0:
            for i in range(first, stop):
                _add(total, carry, i, ((products[i] * others[i]) * gain) * scale[i])
        else:
            for i in range(first, stop):
                _add(total, carry, i, (products[i] * gain) * scale[i])


def evaluate(
    pool: cython.const[cython.double][::1],
    total: cython.const[cython.double][::1],
    carry: cython.const[cython.double][::1],
    squares: cython.const[cython.double][::1],
    weight: cython.double,
    first: cython.Py_ssize_t,
    stop: cython.Py_ssize_t,
    values: cython.double[::1],
) -> cython.double:
    """Write weight * squares + 2 * (pool - 2 * (total + carry)) and return the largest.

    Args:
        pool: shape (m,).
        total: shape (m,).
        carry: shape (m,), what `total` lacks.
        squares: shape (m,).
        weight: of the squares.
        first: the first place.
        stop: the place after the last.
        values: shape (m,), written; -inf stays where it is.
    """
    i: cython.Py_ssize_t
    value: cython.double
    best: cython.double = -INFINITY
    gone: cython.double = -INFINITY
    with cython.nogil:
        for i in range(first, stop):
            value = weight * squares[i] + 2 * ((pool[i] - 2 * total[i]) - 2 * carry[i])
            value = gone if values[i] == gone else value
            values[i] = value
            best = value if value > best else best
    return best
