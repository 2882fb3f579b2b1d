"""Whole numbers in proportion to weights: an exact total, and never more than there is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SelectionError


def apportion(
    weights: Sequence[Any] | NDArray[Any], sizes: Sequence[int] | NDArray[Any], total: int
) -> NDArray[np.int64]:
    """Divide `total` among cells by capped largest remainder.

    x = total * weight / sum of weights. Cells whose x is above their size get their size, and the
    others share the rest likewise. Of each x the whole part is taken; the units missing then go to
    the largest fractions, to the lower cell where they tie. Cells without weight get something
    only when all others are full, by size.

    Args:
        weights: at least 0 each: integers, fractions or finite floats, taken exactly.
        sizes: what each cell holds.
        total: at most the sum of the sizes.

    Returns:
        int64, one number per cell, `total` together.

    Raises:
        SelectionError: more is asked for than there is, or a weight is negative or not finite.
    """
    room = [int(size) for size in sizes]
    if total > sum(room) or total < 0:
        raise SelectionError(f"{total} samples were asked for, there are {sum(room)}")
    shares = _exact(weights)
    if len(shares) != len(room):
        raise SelectionError(f"weights: got {len(shares)}, expected one for each of {len(room)}")
    result = [0] * len(room)
    with_weight = [i for i, share in enumerate(shares) if share]
    first = min(total, sum(room[i] for i in with_weight))
    _divide(with_weight, shares, room, first, result)
    _divide([i for i, share in enumerate(shares) if not share], room, room, total - first, result)
    return np.array(result, "i8")


def _exact(weights: Sequence[Any] | NDArray[Any]) -> list[int]:
    """Return integers in the same proportions."""
    try:
        exact = [Fraction(weight) for weight in np.asarray(weights, "O").tolist()]
    except (ValueError, OverflowError) as error:
        raise SelectionError(f"weights: {error}; expected finite numbers") from error
    if any(weight < 0 for weight in exact):
        raise SelectionError("weights: got a negative one, expected at least 0 each")
    common = math.lcm(*(weight.denominator for weight in exact))
    return [int(weight * common) for weight in exact]


def _divide(
    cells: list[int], shares: list[int], room: list[int], total: int, result: list[int]
) -> None:
    """Divide a total that fits among cells, all with a share unless they have no room."""
    while True:
        whole = sum(shares[i] for i in cells)
        full = [i for i in cells if total * shares[i] > room[i] * whole]
        if not full:
            break
        for i in full:
            result[i] = room[i]
            total -= room[i]
        taken = set(full)
        cells = [i for i in cells if i not in taken]
    if not whole:
        return
    fractions = []
    for i in cells:
        result[i], left = divmod(total * shares[i], whole)
        fractions.append((-left, i))
    missing = total - sum(result[i] for i in cells)
    for _, i in sorted(fractions):
        if missing and result[i] < room[i]:
            result[i] += 1
            missing -= 1
