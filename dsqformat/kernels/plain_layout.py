"""Numbers that the kernels of `rans` share with the rest; `rans_context.pxd` repeats them in C.

Around a value lie rows of interleaved channels with margins of two pixels: the decoded ones, those
of errors, and the middles of what the layers before say (spec 9.3.4).
"""

from __future__ import annotations

from typing import Final

# Rows, in the order in which they lie in memory; each has room behind it to read past its end.
NN: Final = 0
N: Final = 1
CURRENT: Final = 2
MIDDLE: Final = 3
S: Final = 4
SS: Final = 5
EN: Final = 6
ERRORS: Final = 7
ROWS: Final = 8
SLACK: Final = 32
# Weights of the current row, of the expected error, and the most classes of a configuration.
CURRENT_TAPS: Final = 16
ENERGY: Final = 26
CLASSES: Final = 8
ENERGY_TOP: Final = 4095
LUT: Final = 4096
FIRST_LEVEL: Final = 15
LEVELS: Final = 16
SYMBOLS: Final = 40
DIRECT_BITS: Final = 4
# Parts of the range of slots for which a first symbol to look at is kept.
BUCKETS: Final = 64
# Numbers of a configuration: see `model.KernelTables.numbers`.
NUMBERS: Final = 7
# Streams decoded in step, in groups of four.
QUADS: Final = 4
LANES: Final = 16


def row_lanes(channels: int) -> int:
    """Return the room for five pixels in a vector of weights, a multiple of 8."""
    return -(-5 * channels // 8) * 8
