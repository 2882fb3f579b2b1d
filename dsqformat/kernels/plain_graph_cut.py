"""The kernel of GraphCut in NumPy: what runs where nothing could be compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LANES = 16
_BLOCK = 32


def row_products(
    rows: NDArray[np.floating[Any]],
    first: int,
    stop: int,
    vector: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """See `graph_cut.row_products`."""
    lanes = np.zeros((stop - first, _LANES))
    for place in range(0, len(vector), _LANES):
        part = slice(place, place + _LANES)
        lanes += rows[first:stop, part].astype("f8") * vector[part]
    halves = lanes[:, :8] + lanes[:, 8:]
    quarters = halves[:, :4] + halves[:, 4:]
    out[first:stop] = (quarters[:, 0] + quarters[:, 2]) + (quarters[:, 1] + quarters[:, 3])


def _add(
    total: NDArray[np.float64], carry: NDArray[np.float64], values: NDArray[np.float64]
) -> None:
    new = total + values
    part = new - total
    carry += (total - (new - part)) + (values - part)
    total[:] = new


def column_sums(
    rows: NDArray[np.floating[Any]],
    weights: NDArray[np.float64],
    block: NDArray[np.float64],
    total: NDArray[np.float64],
    carry: NDArray[np.float64],
) -> None:
    """See `graph_cut.column_sums`."""
    for place in range(0, len(rows), _BLOCK):
        block[:] = 0
        for i in range(place, min(place + _BLOCK, len(rows))):
            block += rows[i].astype("f8") * weights[i]
        _add(total, carry, block)


def accumulate(
    products: NDArray[np.float64],
    others: NDArray[np.float64],
    scale: NDArray[np.float64],
    gain: float,
    first: int,
    stop: int,
    total: NDArray[np.float64],
    carry: NDArray[np.float64],
) -> None:
    """See `graph_cut.accumulate`."""
    part = slice(first, stop)
    values = products[part] * others[part] if len(others) else products[part]
    _add(total[part], carry[part], (values * gain) * scale[part])


def evaluate(
    pool: NDArray[np.float64],
    total: NDArray[np.float64],
    carry: NDArray[np.float64],
    squares: NDArray[np.float64],
    weight: float,
    first: int,
    stop: int,
    values: NDArray[np.float64],
) -> float:
    """See `graph_cut.evaluate`."""
    part = slice(first, stop)
    found = weight * squares[part] + 2 * ((pool[part] - 2 * total[part]) - 2 * carry[part])
    values[part] = np.where(values[part] == -np.inf, -np.inf, found)
    return float(values[part].max(initial=-np.inf))
