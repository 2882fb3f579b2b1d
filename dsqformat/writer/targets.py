"""What a dataset shall take or be like, instead of how finely each sample is quantized."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from dsqformat.select.distortion import squared_error_of
from dsqformat.select.levels import Window

# A size is met within one per cent from below, a fidelity within 0.15 dB from above.
SIZE_TOLERANCE: Final = 0.01
PSNR_TOLERANCE_DB: Final = 0.15
_SIZE_AIM: Final = 0.004
_PSNR_AIM_DB: Final = 0.06


@dataclass(frozen=True)
class TotalNbytes:
    """So many bytes for everything that is written: shards, tables, keys, snapshot, refs.

    Attributes:
        nbytes: never more, and no more than one per cent less.
    """

    nbytes: int

    def __post_init__(self) -> None:
        if self.nbytes < 1:
            raise ValueError(f"total of {self.nbytes} bytes: expected 1 or more")

    def __str__(self) -> str:
        return f"a total of {self.nbytes:,} bytes"


@dataclass(frozen=True)
class NbytesPerSample:
    """So many bytes per sample with a payload, everything counted as `TotalNbytes` does.

    Attributes:
        nbytes: never more, and no more than one per cent less.
    """

    nbytes: float

    def __post_init__(self) -> None:
        if not 0 < self.nbytes < math.inf:
            raise ValueError(f"{self.nbytes} bytes per sample: expected more than 0")

    def __str__(self) -> str:
        return f"{self.nbytes:g} bytes per sample"


@dataclass(frozen=True)
class Psnr:
    """A fidelity: 10 log10(255^2 / mean squared error over all values of all samples).

    Attributes:
        decibels: no less, and no more than 0.15 dB more.
    """

    decibels: float

    def __post_init__(self) -> None:
        if not 5 <= self.decibels <= 80:
            raise ValueError(f"PSNR of {self.decibels} dB: expected 5 to 80")

    def __str__(self) -> str:
        return f"a PSNR of {self.decibels:g} dB"


Target = TotalNbytes | NbytesPerSample | Psnr


def size_window(target: TotalNbytes | NbytesPerSample, sample_count: int) -> Window:
    """Return what everything that is written may take, in bytes."""
    if isinstance(target, TotalNbytes):
        most = float(target.nbytes)
    else:
        most = target.nbytes * max(1, sample_count)
    return Window((1 - SIZE_TOLERANCE) * most, most, (1 - _SIZE_AIM) * most)


def error_window(target: Psnr, value_count: int) -> Window:
    """Return what the sum of squared errors of so many values may be."""
    most = squared_error_of(target.decibels, max(1, value_count))
    least = squared_error_of(target.decibels + PSNR_TOLERANCE_DB, max(1, value_count))
    aim = squared_error_of(target.decibels + _PSNR_AIM_DB, max(1, value_count))
    return Window(least, most, aim)
