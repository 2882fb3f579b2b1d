"""Successive over-relaxation of the Laplace equation in the holes of pictures, in binary32.

Cython compiles this module ahead of time. `dsqformat.reconstruct.harmonic` does the same in NumPy,
operation by operation, where that was not possible; both give the same bits.
"""

from __future__ import annotations

import cython


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _move(
    plane: cython.p_float,
    place: cython.Py_ssize_t,
    stride: cython.Py_ssize_t,
    weight: cython.float,
    neighbours: cython.float,
) -> cython.float:
    """Move a pixel towards the mean of its neighbours; return by how much."""
    move: cython.float = plane[place - stride] + plane[place + stride]
    move = move + plane[place - 1]
    move = move + plane[place + 1]
    move = move - neighbours * plane[place]
    move = move * weight
    plane[place] = plane[place] + move
    return move


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sweep(
    plane: cython.p_float,
    places: cython.const[cython.int][::1],
    stride: cython.Py_ssize_t,
    weight: cython.const[cython.float][::1],
    neighbours: cython.const[cython.float][::1],
) -> cython.void:
    k: cython.Py_ssize_t
    p: cython.Py_ssize_t
    for k in range(places.shape[0]):
        p = places[k]
        _move(plane, p, stride, weight[p], neighbours[p])


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _last_sweep(
    plane: cython.p_float,
    places: cython.const[cython.int][::1],
    stride: cython.Py_ssize_t,
    weight: cython.const[cython.float][::1],
    neighbours: cython.const[cython.float][::1],
) -> cython.float:
    """Sweep once more and return the largest move."""
    k: cython.Py_ssize_t
    p: cython.Py_ssize_t
    move: cython.float
    largest: cython.float = 0
    for k in range(places.shape[0]):
        p = places[k]
        move = _move(plane, p, stride, weight[p], neighbours[p])
        if move < 0:
            move = -move
        if move > largest:
            largest = move
    return largest


def relax(
    framed: cython.float[:, :, ::1],
    places: cython.const[cython.int][::1],
    weight: cython.const[cython.float][::1],
    neighbours: cython.const[cython.float][::1],
    tolerance: cython.const[cython.float][::1],
    sweeps: cython.Py_ssize_t,
    checks: cython.Py_ssize_t,
) -> None:
    """Sweep over the holes of a picture until each of its planes has settled.

    Args:
        framed: float32, shape (planes, height + 2, width + 2), with a frame of zeros; changed.
        places: int32, offsets of hole pixels in a plane: first the white fields of the chessboard,
            then the black ones.
        weight: float32, shape ((height + 2) * (width + 2),), over-relaxation / neighbours.
        neighbours: float32, the same shape, how many a pixel has.
        tolerance: float32, shape (planes,), a plane has settled when no pixel moves further.
        sweeps: between two checks of that.
        checks: at most.
    """
    count: cython.Py_ssize_t = places.shape[0]
    size: cython.Py_ssize_t = framed.shape[1] * framed.shape[2]
    stride: cython.Py_ssize_t = framed.shape[2]
    number: cython.Py_ssize_t
    _check: cython.Py_ssize_t
    _sweeps: cython.Py_ssize_t
    k: cython.Py_ssize_t
    plane: cython.p_float
    if weight.shape[0] != size or neighbours.shape[0] != size:
        raise ValueError("relax: sizes do not fit together")
    if tolerance.shape[0] != framed.shape[0]:
        raise ValueError("relax: one tolerance for each plane")
    for k in range(count):
        # Each pixel reads a row above and one below.
        if not stride < places[k] < size - stride - 1:
            raise ValueError("relax: a place is outside of the picture")
    if count == 0:
        return
    with cython.nogil:
        for number in range(framed.shape[0]):
            plane = cython.address(framed[number, 0, 0])
            for _check in range(checks):
                for _sweeps in range(sweeps - 1):
                    _sweep(plane, places, stride, weight, neighbours)
                if _last_sweep(plane, places, stride, weight, neighbours) <= tolerance[number]:
                    break
