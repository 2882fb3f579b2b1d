"""The constants of the block syntax as arrays: scans, bands, levels, bases, steps (spec A.2 to 5).

Everything here follows from a few formulas of the specification; the kernels and the plain
decoders read the same arrays.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

SIZES: Final = (4, 8, 16, 32)

PROBABILITY_BITS: Final = 12

# Symbols of AC tables; magnitudes 1 to 12 are ZERO + 1 + magnitude, larger ones have classes.
ZERO: Final = 0
END: Final = 1
LAST_AC_SYMBOL: Final = 26
ESCAPE: Final = 31
SYMBOLS: Final = 32
MAX_CODE: Final = 32767

BANDS: Final = 7
LEVELS: Final = 13
LEVEL_INPUTS: Final = 8192  # what is expected of a coefficient stays below 6500
STRIDE: Final = 34  # of the accumulators of expected magnitude: two guard columns

# Contexts of layer 0.
AC_CONTEXTS: Final = 4 * 2 * 2 * 2 * BANDS * LEVELS
DC_FIRST: Final = AC_CONTEXTS
SIGN_FIRST: Final = DC_FIRST + 4 * 2 * 6
FLAG_FIRST: Final = SIGN_FIRST + 2 * 6
CONTEXTS: Final = FLAG_FIRST + 4
# Contexts of a refinement layer.
NEW_CONTEXTS: Final = 4 * 2 * 2 * BANDS * LEVELS
BIT_FIRST: Final = NEW_CONTEXTS
DC_BIT_FIRST: Final = BIT_FIRST + 2 * 3
DC_LEANINGS: Final = 9
REFINEMENT_CONTEXTS: Final = DC_BIT_FIRST + 4 * 2 * DC_LEANINGS

MAX_TABLES: Final = 255
TABLE_STRIDE: Final = 33  # starts of 32 symbols and 4096

MAX_QP: Final = 175
MAX_LAYERS: Final = 4
MAX_SIDE: Final = 4096
MAX_PLANES: Final = 64

# 16 steps to the octave: 2^(k / 16) in units of 2^-16.
OCTAVE: Final = (
    65536, 68438, 71468, 74632, 77936, 81386, 84990, 88752,
    92682, 96785, 101070, 105545, 110218, 115098, 120194, 125515,
)  # fmt: skip

# Entry |m| of the HEVC basis: round(64 sqrt(2) cos(pi m / 64)) with HEVC's adjustments.
_COSINES: Final = (
    64, 90, 90, 90, 89, 88, 87, 85, 83, 82, 80, 78, 75, 73, 70, 67,
    64, 61, 57, 54, 50, 46, 43, 38, 36, 31, 25, 22, 18, 13, 9, 4,
)  # fmt: skip

_BAND_STARTS: Final = (1.9, 2.9, 3.9, 5.9, 7.9, 10.9)


def step_of(qp: int) -> int:
    """Return the quantization step of `qp` (0 to 175) in 1/64: round(32 * 2^(qp/16))."""
    return ((OCTAVE[qp % 16] << (qp // 16)) + 1024) >> 11


STEPS: Final = np.array([step_of(qp) for qp in range(MAX_QP + 1)], "i8")


def basis(size: int) -> NDArray[np.int32]:
    """Return the integer DCT basis, int32, shape (size, size): row k is frequency k."""
    full = np.zeros((32, 32), "i4")
    for k in range(32):
        for n in range(32):
            m, sign = (k * (2 * n + 1)) % 128, 1
            m = 128 - m if m > 64 else m
            if m > 32:
                m, sign = 64 - m, -1
            full[k, n] = sign * (64 if k == 0 else (0 if m == 32 else _COSINES[m]))
    return np.ascontiguousarray(full[:: 32 // size, :size])


def scan(size: int) -> list[tuple[int, int]]:
    """Return the positions (v, u) of a block from low to high frequency, by diagonals."""
    places = [(v, u) for v in range(size) for u in range(size)]
    return sorted(places, key=lambda p: (p[0] + p[1], p[0] if (p[0] + p[1]) % 2 else -p[0]))


def dc_rounding(layer: int, layers: int) -> int:
    """Return what is added to DC codes before the bits of layers after `layer` are cut off.

    Every other refinement rounds up (spec A.4.2), so that the codes of the first of three layers
    lie in the middle of what they stand for.
    """
    return sum((further & 1) << (layers - 1 - further) for further in range(layer + 1, layers))


def band(v: int, u: int, size: int) -> int:
    """Return the band class of a position, 0 to 6; the first diagonal has its own."""
    if v + u <= 1:
        return 0
    return max(1, sum((v + u) * 8 / size > start for start in _BAND_STARTS))


def edge_weight(k: int, size: int) -> int:
    """Return 64 times the basis function k at the last sample, times sqrt(size)."""
    if k == 0:
        return 64
    return round(64 * math.sqrt(2) * math.cos(math.pi * k * (2 * size - 1) / (2 * size)))


def level(magnitude: int) -> int:
    """Return the level of an expected magnitude: min(12, floor(2 log2(1 + m/4)))."""
    return min(LEVELS - 1, int(2 * math.log2(1 + magnitude / 4)))


# Tables over (size index, scan position): 1024 entries per size.
SCAN_ROW: Final = np.zeros((4, 1024), "u1")
SCAN_COLUMN: Final = np.zeros((4, 1024), "u1")
SCAN_PLACE: Final = np.zeros((4, 1024), "i2")
SCAN_BAND: Final = np.zeros((4, 1024), "i2")
EDGE_WEIGHTS: Final = np.zeros((4, 32), "i4")
BASES: Final = np.zeros((4, 32, 32), "i4")
for _index, _size in enumerate(SIZES):
    for _k, (_v, _u) in enumerate(scan(_size)):
        SCAN_ROW[_index, _k] = _v
        SCAN_COLUMN[_index, _k] = _u
        SCAN_PLACE[_index, _k] = _v * STRIDE + _u
        SCAN_BAND[_index, _k] = band(_v, _u, _size) * LEVELS
    EDGE_WEIGHTS[_index, :_size] = [edge_weight(_k, _size) for _k in range(_size)]
    BASES[_index, :_size, :_size] = basis(_size)
# Bands by position, 7 for DC.
BANDS_OF: Final = tuple(
    np.array([[band(v, u, n) if v + u else BANDS for u in range(n)] for v in range(n)])
    for n in SIZES
)
LEVEL_OF: Final = np.array([level(m) for m in range(LEVEL_INPUTS)], "u1")

# Basis as binary32, [size][row][column]: sums stay below 2^24, so float arithmetic is exact.
BASES_FLOAT: Final = BASES.astype("f4")
