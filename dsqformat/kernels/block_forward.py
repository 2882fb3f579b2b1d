"""Forward transforms of whole planes, in binary32: only the encoder needs them.

Cython compiles this module ahead of time. Loops add rows to rows, so that they vectorize.
"""

from __future__ import annotations

import cython


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _block(
    plane: cython.const[cython.float][:, ::1],
    y: cython.Py_ssize_t,
    x: cython.Py_ssize_t,
    T: cython.Py_ssize_t,
    rows: cython.const[cython.float][:, ::1],
    columns: cython.const[cython.float][:, ::1],
    scale: cython.float,
    out: cython.float[:, ::1],
) -> cython.void:
    half: cython.float[1024]
    sums: cython.float[32]
    k: cython.Py_ssize_t
    n: cython.Py_ssize_t
    m: cython.Py_ssize_t
    c: cython.float
    for k in range(T):
        for m in range(T):
            sums[m] = 0
        for n in range(T):
            c = rows[k, n] * scale
            for m in range(T):
                sums[m] += c * plane[y + n, x + m]
        for m in range(T):
            half[k * T + m] = sums[m]
    for k in range(T):
        for m in range(T):
            sums[m] = 0
        for n in range(T):
            c = half[k * T + n]
            for m in range(T):
                sums[m] += c * columns[n, m]
        for m in range(T):
            out[y + k, x + m] = sums[m]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _plane(
    plane: cython.const[cython.float][:, ::1],
    size: cython.int,
    rows: cython.const[cython.float][:, ::1],
    columns: cython.const[cython.float][:, ::1],
    scale: cython.float,
    out: cython.float[:, ::1],
) -> cython.void:
    T: cython.Py_ssize_t = cython.cast(cython.Py_ssize_t, 4) << size
    y: cython.Py_ssize_t
    x: cython.Py_ssize_t
    row: cython.Py_ssize_t
    column: cython.Py_ssize_t
    for row in range(plane.shape[0] // T):
        y = row * T
        for column in range(plane.shape[1] // T):
            x = column * T
            # Loops of known length vectorize best.
            if size == 0:
                _block(plane, y, x, 4, rows, columns, scale, out)
            elif size == 1:
                _block(plane, y, x, 8, rows, columns, scale, out)
            elif size == 2:
                _block(plane, y, x, 16, rows, columns, scale, out)
            else:
                _block(plane, y, x, 32, rows, columns, scale, out)


def transform_plane(
    plane: cython.const[cython.float][:, ::1],
    size: cython.int,
    rows: cython.const[cython.float][:, ::1],
    columns: cython.const[cython.float][:, ::1],
    scale: cython.float,
    out: cython.float[:, ::1],
) -> None:
    """Transform all whole blocks of one size.

    Args:
        plane: shape (height, width).
        size: index of the block size, T = 4 << size.
        rows: shape (T, T), the basis, one frequency to a row.
        columns: its transpose.
        scale: factor of the result.
        out: shape (height, width); a block's coefficients stand where its values did.
    """
    with cython.nogil:
        _plane(plane, size, rows, columns, scale, out)
