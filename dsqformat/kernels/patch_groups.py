"""Patches that share scale and offset by group: which group suits each patch best (spec 10).

Cython compiles this module ahead of time; it is Python as well, and the tests also run it
uncompiled. Nothing here checks lengths: callers do so before the loop.

`plain_patches` gives the same bits: sums of errors have a fixed order, 4 at a time.
"""

from __future__ import annotations

import cython
import numpy as np

# Values after which a group may already be worse than the best; a multiple of 4.
STRIDE = cython.declare(cython.Py_ssize_t, 32)
# Added to a number of 0 to 255, 2^52 leaves no room for a fraction: it rounds half to even.
WHOLE = cython.declare(cython.double, 4503599627370496.0)
INFINITY = cython.declare(cython.double, float("inf"))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _nearest(
    x: cython.double,
    y: cython.double,
    centres: cython.const[cython.double][:, ::1],
    near: cython.longlong[::1],
    far: cython.double[::1],
) -> cython.void:
    """Write the centres nearest to a point, nearest first, the lower number where they tie."""
    i: cython.Py_ssize_t
    k: cython.Py_ssize_t
    distance: cython.double
    dx: cython.double
    dy: cython.double
    last: cython.Py_ssize_t = near.shape[0] - 1
    for k in range(last + 1):
        far[k] = INFINITY
        near[k] = 0
    for i in range(centres.shape[1]):
        dx = x - centres[0, i]
        dy = y - centres[1, i]
        distance = dx * dx + dy * dy
        if distance < far[last]:
            k = last
            while k > 0 and distance < far[k - 1]:
                far[k] = far[k - 1]
                near[k] = near[k - 1]
                k -= 1
            far[k] = distance
            near[k] = i


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _error(
    patches: cython.const[cython.double][:, ::1],
    row: cython.Py_ssize_t,
    top: cython.double,
    gain: cython.double,
    shift: cython.double,
    limit: cython.double,
    squares: cython.double[::1],
) -> cython.double:
    """Return the squared error of a patch in a group, or anything at or above `limit`."""
    start: cython.Py_ssize_t
    size: cython.Py_ssize_t
    i: cython.Py_ssize_t
    t: cython.double
    least: cython.double = 0
    whole: cython.double = WHOLE
    # A group of scale 0 has code 0.
    inverse: cython.double = 1 / gain if gain > 0 else 0
    sum0: cython.double = 0
    sum1: cython.double = 0
    sum2: cython.double = 0
    sum3: cython.double = 0
    total: cython.double = 0
    start = 0
    while start < patches.shape[1]:
        size = min(STRIDE, patches.shape[1] - start)
        for i in range(size):
            t = (patches[row, start + i] - shift) * inverse
            squares[i] = t if t > least else least
        for i in range(size):
            t = squares[i]
            squares[i] = t if t < top else top
        for i in range(size):
            t = ((squares[i] + whole) - whole) * gain + shift - patches[row, start + i]
            squares[i] = t * t
        i = size
        while i & 3:
            squares[i] = 0
            i += 1
        for i in range(0, size, 4):
            sum0 += squares[i]
            sum1 += squares[i + 1]
            sum2 += squares[i + 2]
            sum3 += squares[i + 3]
        total = (sum0 + sum1) + (sum2 + sum3)
        # Sums only grow: what is as bad as the best by now does not become better.
        if total >= limit:
            return total
        start += size
    return total


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _code(
    patches: cython.const[cython.double][:, ::1],
    row: cython.Py_ssize_t,
    top: cython.double,
    gain: cython.double,
    shift: cython.double,
    codes: cython.uchar[:, ::1],
) -> cython.void:
    """Write the codes of a patch in a group."""
    i: cython.Py_ssize_t
    t: cython.double
    least: cython.double = 0
    whole: cython.double = WHOLE
    inverse: cython.double = 1 / gain if gain > 0 else 0
    for i in range(patches.shape[1]):
        t = (patches[row, i] - shift) * inverse
        t = t if t > least else least
        t = t if t < top else top
        codes[row, i] = cython.cast(cython.int, (t + whole) - whole)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _choose(
    patches: cython.const[cython.double][:, ::1],
    top: cython.double,
    scale: cython.const[cython.float][::1],
    offset: cython.const[cython.float][::1],
    centres: cython.const[cython.double][:, ::1],
    current: cython.const[cython.longlong][::1],
    near: cython.longlong[::1],
    far: cython.double[::1],
    squares: cython.double[::1],
    group: cython.longlong[::1],
    errors: cython.double[::1],
    codes: cython.uchar[:, ::1],
) -> cython.void:
    row: cython.Py_ssize_t
    i: cython.Py_ssize_t
    k: cython.Py_ssize_t
    low: cython.double
    high: cython.double
    value: cython.double
    found: cython.double
    best: cython.double
    for row in range(patches.shape[0]):
        best = INFINITY
        group[row] = 0
        if current.shape[0] > 0:
            group[row] = current[row]
            best = _error(patches, row, top, scale[group[row]], offset[group[row]], best, squares)
        if near.shape[0] > 0:
            low = high = patches[row, 0]
            for i in range(patches.shape[1]):
                value = patches[row, i]
                low = value if value < low else low
                high = value if value > high else high
            _nearest(low, high, centres, near, far)
            for k in range(near.shape[0]):
                found = _error(patches, row, top, scale[near[k]], offset[near[k]], best, squares)
                if found < best:
                    best = found
                    group[row] = near[k]
        errors[row] = best
        _code(patches, row, top, scale[group[row]], offset[group[row]], codes)


def choose_groups(
    patches: cython.const[cython.double][:, ::1],
    top: cython.int,
    scale: cython.const[cython.float][::1],
    offset: cython.const[cython.float][::1],
    centres: cython.const[cython.double][:, ::1],
    current: cython.const[cython.longlong][::1],
    tried: cython.Py_ssize_t,
    group: cython.longlong[::1],
    errors: cython.double[::1],
    codes: cython.uchar[:, ::1],
) -> None:
    """Find the group that distorts each patch least, of those nearest by range.

    Args:
        patches: shape (m, k), k at least 1, finite.
        top: the largest code, 1 to 255.
        scale: shape (groups,), at least 0.
        offset: shape (groups,).
        centres: shape (2, groups), smallest and largest value of the patches that belong there.
        current: shape (m,), groups that patches leave only for a better one; or empty.
        tried: how many groups to try, at most all: those whose centres are nearest. 0: keep
            `current`.
        group: shape (m,), written: the groups found; the first of those that are as good.
        errors: shape (m,), written: squared errors, in double precision.
        codes: shape (m, k), written: clamp(rint((x - offset) * (1 / scale)), 0, top), in double
            precision; 0 in a group of scale 0.
    """
    near: cython.longlong[::1] = np.empty(tried, "i8")
    far: cython.double[::1] = np.empty(tried)
    squares: cython.double[::1] = np.empty(STRIDE)
    with cython.nogil:
        _choose(
            patches, top, scale, offset, centres, current, near, far, squares,
            group, errors, codes,
        )  # fmt: skip


def find_nearest(
    points: cython.const[cython.double][:, ::1],
    centres: cython.const[cython.double][:, ::1],
    found: cython.longlong[::1],
) -> None:
    """Write the number of the centre nearest to each point, the lowest where they tie.

    Args:
        points: shape (2, m).
        centres: shape (2, c), c at least 1.
        found: shape (m,).
    """
    i: cython.Py_ssize_t
    near: cython.longlong[::1] = np.empty(1, "i8")
    far: cython.double[::1] = np.empty(1)
    with cython.nogil:
        for i in range(points.shape[1]):
            _nearest(points[0, i], points[1, i], centres, near, far)
            found[i] = near[0]
