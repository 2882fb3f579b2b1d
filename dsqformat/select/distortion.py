"""PSNR and the squared error it stands for."""

from __future__ import annotations

import math
from typing import Final

_PEAK: Final = 255


def psnr_of(squared_error: float, value_count: int) -> float:
    """Return 10 log10(255^2 / MSE) in dB, infinite without an error.

    Args:
        squared_error: sum over all values of all samples, of values from 0 to 255.
        value_count: how many values.
    """
    if squared_error <= 0 or not value_count:
        return math.inf
    return 10 * math.log10(_PEAK**2 * value_count / squared_error)


def squared_error_of(psnr: float, value_count: int) -> float:
    """Return the sum of squared errors that so many values may have: the inverse of `psnr_of`."""
    return _PEAK**2 * value_count / 10 ** (psnr / 10)
