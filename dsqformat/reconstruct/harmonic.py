"""`harmonic`: the smoothest continuation of what is visible, as a soap film spans a frame.

Inside holes the discrete Laplace equation holds: each pixel is the mean of its neighbours, of
which those beyond the border are missing. It is solved from coarse to fine by successive
over-relaxation of a chessboard. Everything is a sequence of float32 operations in a fixed order,
in the kernel as in NumPy, so that all machines get the same bits, and a picture never depends on
others of its batch.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat import kernels
from dsqformat.reconstruct.visible import pasted, visible_pixels

HARMONIC: Final = "harmonic"

# A picture is finished when no pixel moves by more than this share of its range in one sweep.
_TOLERANCE: Final = np.float32(2e-4)
_SWEEPS_BETWEEN_CHECKS: Final = 8
# A level is made coarser while it is larger than this and patches are larger than a pixel.
_COARSEST_SIDE: Final = 4
# Planes solved together: few values for the cache, but enough planes for long rows of memory.
_PART_VALUES: Final = 1 << 17
_LEAST_PLANES: Final = 96


def fill_harmonic(pictures: NDArray[Any], masks: NDArray[np.bool_], patch: int) -> NDArray[Any]:
    """Fill left-out patches with the solution of the Laplace equation.

    Args:
        pictures: uint8 or floating point, shape (n, height, width, channels); left-out pixels may
            hold anything.
        masks: boolean, shape (n, rows, columns): True for stored patches.
        patch: side of a patch.

    Returns:
        A new array of the same shape and dtype; visible pixels are bit-equal. Values stay within
        the range of the visible ones of their picture and channel; a constant comes back exactly,
        a linear ramp around a hole inside the picture to 0.1% of its range.

    Raises:
        ValueError: shapes do not fit together, a picture has no visible patch, or a visible value
            is NaN or infinite.
    """
    visible = visible_pixels(pictures, masks, patch)
    filled = np.empty(pictures.shape, "f4")
    size = max(1, math.prod(pictures.shape[1:]))
    step = max(_PART_VALUES // size, math.ceil(_LEAST_PLANES / max(1, pictures.shape[3])))
    for begin in range(0, len(pictures), step):
        rows = slice(begin, begin + step)
        filled[rows] = _filled(pictures[rows], visible[rows], patch, begin)
    return pasted(filled, pictures, visible)


def _filled(
    pictures: NDArray[Any], visible: NDArray[np.bool_], patch: int, first: int
) -> NDArray[np.float32]:
    count, height, width, channels = pictures.shape
    # Rows and columns first, planes last: a sweep then runs along contiguous memory.
    values = np.ascontiguousarray(pictures.transpose(1, 2, 0, 3), "f4")
    values = values.reshape(height, width, count * channels)
    shown = np.repeat(visible.transpose(1, 2, 0), channels, axis=2)
    low = np.where(shown, values, np.float32(np.inf)).min(axis=(0, 1))
    high = np.where(shown, values, np.float32(-np.inf)).max(axis=(0, 1))
    finite = np.isfinite(low) & np.isfinite(high)
    if not finite.all():
        number = first + int(finite.argmin()) // channels
        raise ValueError(f"picture {number}: a visible value is NaN or infinite")
    solved = _solve(np.where(shown, values, np.float32(0)), shown, high - low, patch, channels)
    solved = np.clip(solved, low, high)
    return solved.reshape(height, width, count, channels).transpose(2, 0, 1, 3)


def _solve(
    values: NDArray[np.float32],
    shown: NDArray[np.bool_],
    spread: NDArray[np.float32],
    patch: int,
    channels: int,
) -> NDArray[np.float32]:
    """Return planes (height, width, planes) with their holes filled."""
    height, width = values.shape[:2]
    if shown.all():
        return values
    if patch > 1 and min(height, width) > _COARSEST_SIDE:
        coarse = _solve(*_coarser(values, shown), spread, (patch + 1) // 2, channels)
        start = _finer(coarse, height, width)
    else:
        start = np.broadcast_to(_plane_means(values, shown), values.shape)
    begun, tolerance = np.where(shown, values, start), spread * _TOLERANCE
    kernel = kernels.harmonic_kernel()
    if kernel is None:
        return relax_plain(begun, ~shown, tolerance, patch)
    return _relax_compiled(kernel, begun, ~shown[:, :, ::channels], tolerance, patch)


def _coarser(
    values: NDArray[np.float32], shown: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Join 2x2 pixels to the mean of those visible; hidden where none is."""
    height, width = values.shape[:2]
    odd = ((0, height % 2), (0, width % 2), (0, 0))
    values, shown = np.pad(values, odd), np.pad(shown, odd)
    total = values[::2, ::2] + values[1::2, ::2]
    total = total + (values[::2, 1::2] + values[1::2, 1::2])
    seen = shown.astype("f4")
    number = seen[::2, ::2] + seen[1::2, ::2] + (seen[::2, 1::2] + seen[1::2, 1::2])
    return total / np.maximum(number, np.float32(1)), number > 0


def _finer(coarse: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Double both sides by linear interpolation: 3/4 of the nearest pixel, 1/4 of the next."""
    for axis, length in ((0, height), (1, width)):
        ends: list[tuple[int, int]] = [(0, 0)] * 3
        ends[axis] = (1, 1)
        padded = np.moveaxis(np.pad(coarse, ends, "edge"), axis, 0)
        near = padded[1:-1] * np.float32(0.75)
        doubled = np.empty((2 * len(near), *near.shape[1:]), "f4")
        doubled[::2] = near + padded[:-2] * np.float32(0.25)
        doubled[1::2] = near + padded[2:] * np.float32(0.25)
        coarse = np.moveaxis(doubled[:length], 0, axis)
    return coarse


def _plane_means(values: NDArray[np.float32], shown: NDArray[np.bool_]) -> NDArray[np.float32]:
    total = np.zeros(values.shape[2], "f4")
    for row in values.reshape(-1, values.shape[2]):
        total += row
    mean: NDArray[np.float32] = total / np.maximum(shown.sum(axis=(0, 1)), 1).astype("f4")
    return mean


def relax_plain(
    values: NDArray[np.float32],
    hole: NDArray[np.bool_],
    tolerance: NDArray[np.float32],
    patch: int,
) -> NDArray[np.float32]:
    """Sweep over the holes of planes until each has settled.

    Args:
        values: shape (height, width, planes), what to begin with.
        hole: boolean, the same shape: True where pixels may move.
        tolerance: shape (planes,).
        patch: side of a patch.
    """
    height, width, planes = values.shape
    framed = np.zeros((height + 2, width + 2, planes), "f4")
    framed[1:-1, 1:-1] = values
    omega, neighbours = _weights(height, width, patch)
    neighbours = neighbours[..., np.newaxis]
    weight = hole * (omega / neighbours)
    result = np.empty_like(values)
    active = np.arange(planes)
    for _ in range(_most_checks(height, width)):
        for _ in range(_SWEEPS_BETWEEN_CHECKS):
            moved = _sweep(framed, weight, neighbours)
        settled = moved <= tolerance[active]
        if settled.any():
            result[:, :, active[settled]] = framed[1:-1, 1:-1, settled]
            framed, weight = framed[:, :, ~settled], weight[:, :, ~settled]
            active = active[~settled]
        if not len(active):
            return result
    result[:, :, active] = framed[1:-1, 1:-1]
    return result


def _relax_compiled(
    kernel: ModuleType,
    values: NDArray[np.float32],
    hole: NDArray[np.bool_],
    tolerance: NDArray[np.float32],
    patch: int,
) -> NDArray[np.float32]:
    """The same by the kernel; `hole` has one plane for all channels of a picture."""
    height, width, planes = values.shape
    pictures = hole.shape[2]
    framed = np.zeros((pictures, planes // pictures, height + 2, width + 2), "f4")
    framed[:, :, 1:-1, 1:-1] = values.transpose(2, 0, 1).reshape(pictures, -1, height, width)
    omega, inner = _weights(height, width, patch)
    neighbours = np.ones((height + 2, width + 2), "f4")
    neighbours[1:-1, 1:-1] = inner
    weight = (omega / neighbours).ravel()
    tolerances = tolerance.reshape(pictures, -1)
    black = (np.add.outer(np.arange(height), np.arange(width)) % 2).astype("?")
    for number in range(pictures):
        fields = []
        for colour in (~black, black):
            y, x = np.nonzero(hole[:, :, number] & colour)
            fields.append((y + 1) * (width + 2) + x + 1)
        kernel.relax(
            framed[number],
            np.concatenate(fields).astype("i4"),
            weight,
            neighbours.ravel(),
            tolerances[number],
            _SWEEPS_BETWEEN_CHECKS,
            _most_checks(height, width),
        )
    relaxed = framed[:, :, 1:-1, 1:-1].reshape(planes, height, width)
    return np.ascontiguousarray(relaxed.transpose(1, 2, 0))


def _weights(height: int, width: int, patch: int) -> tuple[np.float32, NDArray[np.float32]]:
    """Return the factor of over-relaxation, and how many neighbours each pixel has."""
    neighbours = np.full((height, width), 4, "f4")
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        neighbours[edge] -= 1
    # A picture of one pixel has no neighbours, and then no hole either.
    return np.float32(over_relaxation(patch)), np.maximum(neighbours, 1)


def _most_checks(height: int, width: int) -> int:
    return math.ceil(4 * (height + width) / _SWEEPS_BETWEEN_CHECKS)


def over_relaxation(patch: int) -> float:
    """Return the factor of over-relaxation, 1 to 2, for holes of a few patches across."""
    return 2 / (1 + math.sin(math.pi / (1 + 6 * patch)))


def _sweep(
    framed: NDArray[np.float32], weight: NDArray[np.float32], neighbours: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Move the white and then the black fields of the chessboard; return the largest move."""
    height, width, planes = weight.shape
    largest = np.zeros(planes, "f4")
    for row, column in ((0, 0), (1, 1), (0, 1), (1, 0)):
        here = framed[1 + row : height + 1 : 2, 1 + column : width + 1 : 2]
        if not here.size:
            continue
        move = (
            framed[row:height:2, 1 + column : width + 1 : 2]
            + (framed[2 + row : height + 2 : 2, 1 + column : width + 1 : 2])
        )
        move += framed[1 + row : height + 1 : 2, column:width:2]
        move += framed[1 + row : height + 1 : 2, 2 + column : width + 2 : 2]
        move -= neighbours[row::2, column::2] * here
        move *= weight[row::2, column::2]
        here += move
        np.maximum(largest, np.abs(move).max(axis=(0, 1)), out=largest)
    return largest
