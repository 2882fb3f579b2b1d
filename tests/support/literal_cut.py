"""The formulas of GraphCut as the papers print them, at O(M^2) a pick: what the fast way must do.

Numbers are exact: features are fractions, and cosines are decimals of 60 digits.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

DIGITS = 60
# Decimals nearer than this to one another stand for equal numbers.
EQUAL = Decimal(10) ** -40


def dot(x: list[Fraction], y: list[Fraction]) -> Fraction:
    return sum((a * b for a, b in zip(x, y, strict=True)), Fraction(0))


def decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)


def cosine(x: list[Fraction], y: list[Fraction]) -> Decimal:
    """The cosine, 0 where a vector is zero."""
    squares = dot(x, x) * dot(y, y)
    return decimal(dot(x, y)) / decimal(squares).sqrt() if squares else Decimal(0)


def gain(kernel: list[list[Any]], pool: list[int], chosen: list[int], x: int) -> Any:
    """The authors' code: sum over V of s(j, x) - 2 * sum over S of s(j, x)."""
    return sum(kernel[j][x] for j in pool) - 2 * sum(kernel[j][x] for j in chosen)


def paper(distance: list[list[Any]], pool: list[int], chosen: list[int], x: int) -> Any:
    """The paper: squared distances to S less those to the rest of V."""
    inside = set(chosen)
    return sum(distance[p][x] for p in chosen) - sum(
        distance[p][x] for p in pool if p not in inside
    )


def literal_order(features: list[list[Fraction]], sizes: list[int], metric: str) -> list[int]:
    """Pick all samples, each time by going through the whole formula for each candidate."""
    with localcontext() as context:
        context.prec = DIGITS
        value: Callable[[list[list[Any]], list[int], list[int], int], Any] = gain
        if metric == "euclidean":
            value = paper
            table: list[list[Any]] = [
                [sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) for y in features]
                for x in features
            ]
        elif metric == "cosine":
            half = Decimal("0.5")
            table = [[half + half * cosine(x, y) for y in features] for x in features]
        else:
            table = [[dot(x, y) for y in features] for x in features]
        pool, order = list(range(len(features))), []
        for size in sizes:
            chosen: list[int] = []
            for _ in range(size):
                left = [x for x in pool if x not in chosen]
                values = [value(table, pool, chosen, x) for x in left]
                best = max(values)
                slack = EQUAL if metric == "cosine" else 0
                chosen.append(
                    next(x for x, v in zip(left, values, strict=True) if best - v <= slack)
                )
            order += chosen
            pool = [x for x in pool if x not in chosen]
        return order
