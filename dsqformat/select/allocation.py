"""How finely to quantize each sample within a budget of bytes."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import TargetError

_LEAST_ERROR: Final = 1e-6
_LAMBDA_ROUNDS: Final = 80


def allocate(
    nbytes: NDArray[Any], squared_error: NDArray[Any], budget_nbytes: float
) -> NDArray[np.int64]:
    """Choose a setting for each sample so that the sum of squared errors is least.

    Lagrangian: at a price per byte each sample takes the setting of least error plus price times
    bytes, which is on its convex hull; the price is halved in on the budget, and what is left of
    it goes to the samples that gain most per byte.

    Args:
        nbytes: of each sample at each setting, shape (n, k).
        squared_error: likewise.
        budget_nbytes: for all samples together.

    Returns:
        The number of the setting of each sample: int64, shape (n,). Their bytes are never above
        the budget.

    Raises:
        TargetError: not even the smallest settings fit the budget.
        ValueError: the tables are not tables of one shape.
    """
    rate, error = np.asarray(nbytes, "f8"), np.asarray(squared_error, "f8")
    if rate.ndim != 2 or rate.shape != error.shape or not rate.shape[1]:
        raise ValueError(f"tables of {rate.shape} and {error.shape}: expected (n, k) both")
    if not len(rate):
        return np.zeros(0, "i8")
    smallest = float(rate.min(axis=1).sum())
    if smallest > budget_nbytes:
        raise TargetError(
            f"{budget_nbytes:.6g} bytes cannot be met: the smallest possible is {smallest:.6g}"
        )
    # Of equal bytes the least error, of equal errors the fewest bytes.
    fine = _chosen(rate, error, 0.0)
    if _total(rate, fine) <= budget_nbytes:
        return fine
    coarse = np.lexsort((error, rate), axis=1)[:, 0]
    low, high = 0.0, _dearest(rate, error)
    for _ in range(_LAMBDA_ROUNDS):
        price = (low + high) / 2 if low == 0 else math.sqrt(low * high)
        choice = _chosen(rate, error, price)
        if _total(rate, choice) <= budget_nbytes:
            high, coarse = price, choice
        else:
            low, fine = price, choice
        if high - low <= 1e-9 * high:
            break
    return _filled(rate, error, coarse, fine, budget_nbytes)


def _chosen(
    rate: NDArray[np.float64], error: NDArray[np.float64], price: float
) -> NDArray[np.int64]:
    cost = error + price * rate
    least = cost == cost.min(axis=1, keepdims=True)
    chosen: NDArray[np.int64] = np.where(least, rate, np.inf).argmin(axis=1)
    return chosen


def _dearest(rate: NDArray[np.float64], error: NDArray[np.float64]) -> float:
    """Return a price at which every sample takes its smallest setting, if that can be."""
    steps = np.diff(np.sort(rate, axis=1), axis=1)
    step = float(steps[steps > 0].min(initial=np.inf))
    spread = float((error.max(axis=1) - error.min(axis=1)).max())
    return 2 * max(spread, _LEAST_ERROR) / min(step, 1.0)


def _filled(
    rate: NDArray[np.float64],
    error: NDArray[np.float64],
    coarse: NDArray[np.int64],
    fine: NDArray[np.int64],
    budget_nbytes: float,
) -> NDArray[np.int64]:
    """Move samples from the coarse choice to the fine one while the budget lasts."""
    rows = np.arange(len(rate))
    dearer = rate[rows, fine] - rate[rows, coarse]
    gain = error[rows, coarse] - error[rows, fine]
    moving = np.flatnonzero((dearer > 0) & (gain > 0))
    moving = moving[np.argsort(-gain[moving] / dearer[moving], kind="stable")]
    chosen = coarse.copy()
    left = budget_nbytes - _total(rate, coarse)
    for row in moving.tolist():
        if dearer[row] <= left:
            chosen[row] = fine[row]
            left -= float(dearer[row])
    return chosen


def _total(rate: NDArray[np.float64], choice: NDArray[np.int64]) -> float:
    return float(rate[np.arange(len(rate)), choice].sum())
