"""Exact integer rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def divide_half_even(numerator: NDArray[np.int32], denominator: NDArray[Any]) -> NDArray[np.int32]:
    """Return numerator / denominator rounded to the nearest integer, ties to even.

    Args:
        numerator: not negative, below 2^30.
        denominator: positive, broadcast against the numerator.
    """
    quotient, rest = np.divmod(numerator, denominator)
    twice = 2 * rest
    up = (twice > denominator) | ((twice == denominator) & (quotient & 1 == 1))
    rounded: NDArray[np.int32] = (quotient + up).astype("i4")
    return rounded
