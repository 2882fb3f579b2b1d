r"""GraphCut in closed form: the greedy order of dataset quantization (Zhou et al., algorithm 1).

With the pool V, M = |V|, and the chosen S, k = |S|, the paper picks the x of V \ S with the
largest P(x) = sum_{S} ||f(p) - f(x)||^2 - sum_{V \ S} ||f(p) - f(x)||^2. That is

    P(x) = (2k - M) ||f(x)||^2 + 2 (f(x) . sum_V f - 2 f(x) . sum_S f) + a number without x,

so a pick costs one product of the remaining rows with the row picked. For rows of norm 1 the first
term is such a number too, and the rest is what the authors' code maximizes; with metric "dot" the
rest alone counts, as there for texts.

Sums carry their rounding errors along. Values that differ by less than what rounding can do to them
are taken as equal, and of equal ones the lowest index is picked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.kernels import graph_cut_kernel
from dsqformat.select.points import LANES, Points

_UNIT: Final = 2.0**-53
# Besides those of the lanes, roundings that a value has gone through: of a block of a sum (32),
# and the steps from products to values.
_ROUNDINGS: Final = 48
# How many times such an error enters the difference of two values.
_TIMES: Final = 12
# Rows are moved together when one in so many has been picked.
_COMPACT: Final = 16
# Multiply-adds below which another thread costs more than it helps.
_SHARE_WORTH: Final = 1 << 18

_NO_OTHERS: Final = np.empty(0)

# (place of the first row, row after the last) -> largest value there
_Step = Callable[[int, int], float]


def greedy_order(
    points: Points,
    sizes: NDArray[np.int64],
    *,
    threads: int = 1,
    on_steps: Callable[[int], None] | None = None,
) -> NDArray[np.int64]:
    """Pick all points, bin after bin, each bin from what the earlier ones left.

    Args:
        points: m of them.
        sizes: of the bins in their order, at least 1 each, m together.
        threads: how many share the rows; the result does not depend on it.
        on_steps: called now and then with rows that have been gone through since the last call;
            m (m + 1) / 2 in all.

    Returns:
        The places of the points in pick order: int64, shape (m,).
    """
    order = np.empty(len(points), "i8")
    place = steps = 0
    with _team(threads) as share:
        cut = _Cut(points, share)
        for size in sizes.tolist():
            cut.open_bin()
            for _ in range(size):
                steps += cut.remaining
                order[place] = cut.pick()
                place += 1
                if on_steps is not None and steps >= len(points) << 6:
                    on_steps(steps)
                    steps = 0
            cut.close_bin()
    if on_steps is not None and steps:
        on_steps(steps)
    return order


class _Cut:
    """The pool, the rows left of it, and the sums of products that their values are made of."""

    def __init__(self, points: Points, share: Callable[[_Step, int, int], float]) -> None:
        self._kernel: Any = graph_cut_kernel()
        self._share = share
        lanes = points.width / LANES + (5 if len(points.others) else 0)
        self._tolerance = _TIMES * _UNIT * (lanes + _ROUNDINGS) * len(points) * points.reach
        self._live = np.arange(len(points))
        self._rows, self._others = points.rows, points.others
        self._scale, self._squares = points.scale, points.squares
        self._products, self._second = np.empty((2, len(points)))
        self._base = self._pool_products()
        self._total, self._carry, self._values = np.zeros((3, len(points)))
        self._pool = self._base
        self._pool_size = len(points)
        self._picked = self._gone = 0
        self._best = 0.0

    @property
    def remaining(self) -> int:
        """Points not picked yet."""
        return len(self._live) - self._gone

    def open_bin(self) -> None:
        """Begin an empty bin: the pool is what is left."""
        self._compact()
        # As in the first bin, but less what the earlier bins hold: one rounding for each bin.
        self._pool = self._base + (self._total + self._carry)
        self._pool_size = len(self._live)
        self._picked = 0
        self._best = self._share(self._evaluate, len(self._live), 0)

    def close_bin(self) -> None:
        """Leave the picked points out from now on."""
        self._compact()

    def pick(self) -> int:
        """Choose the best point, the first of equals, and return its place among all."""
        place = int((self._values >= self._best - self._tolerance).argmax())
        chosen = int(self._live[place])
        self._values[place] = -np.inf
        self._picked += 1
        self._gone += 1
        vectors = [self._rows[place].astype("f8")]
        if len(self._others):
            vectors.append(self._others[place].astype("f8"))
        gain = float(self._scale[place])

        def step(first: int, stop: int) -> float:
            self._advance(vectors, gain, first, stop)
            return self._evaluate(first, stop)

        if self._gone * _COMPACT >= len(self._live):
            self._compact()
        self._best = self._share(step, len(self._live), self._width())
        return chosen

    def _advance(
        self, vectors: list[NDArray[np.float64]], gain: float, first: int, stop: int
    ) -> None:
        """Add the products with the point just picked."""
        others = _NO_OTHERS
        self._kernel.row_products(self._rows, first, stop, vectors[0], self._products)
        if len(vectors) > 1:
            others = self._second
            self._kernel.row_products(self._others, first, stop, vectors[1], others)
        self._kernel.accumulate(
            self._products, others, self._scale, gain, first, stop, self._total, self._carry
        )

    def _evaluate(self, first: int, stop: int) -> float:
        best: float = self._kernel.evaluate(
            self._pool, self._total, self._carry, self._squares,
            float(2 * self._picked - self._pool_size), first, stop, self._values,
        )  # fmt: skip
        return best

    def _width(self) -> int:
        second = self._others.shape[1] if len(self._others) else 0
        return int(self._rows.shape[1] + second)

    def _compact(self) -> None:
        """Move the rows that are left together, in their order."""
        if not self._gone:
            return
        kept = np.flatnonzero(self._values > -np.inf)
        self._rows = self._rows[kept]
        if len(self._others):
            self._others = self._others[kept]
        for name in ("_live", "_scale", "_squares", "_base", "_pool", "_total", "_carry"):
            setattr(self, name, getattr(self, name)[kept])
        self._values = self._values[kept]
        self._products, self._second = self._products[: len(kept)], self._second[: len(kept)]
        self._gone = 0

    def _pool_products(self) -> NDArray[np.float64]:
        """Return the products of each point with the sum of all."""
        if not len(self._others):
            vector = self._summed(self._rows, self._scale)
            self._kernel.row_products(self._rows, 0, len(self._rows), vector, self._products)
            return self._products * self._scale
        # The sum is a matrix; its columns are made and used one at a time.
        narrow, wide = self._rows, self._others
        if narrow.shape[1] > wide.shape[1]:
            narrow, wide = wide, narrow
        total, carry = np.zeros((2, len(narrow)))
        for column in range(narrow.shape[1]):
            weights = narrow[:, column].astype("f8")
            if not weights.any():
                continue
            vector = self._summed(wide, weights * self._scale)
            self._kernel.row_products(wide, 0, len(wide), vector, self._products)
            self._kernel.accumulate(
                self._products, weights, self._scale, 1.0, 0, len(wide), total, carry
            )
        summed: NDArray[np.float64] = total + carry
        return summed

    def _summed(
        self, rows: NDArray[np.floating[Any]], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        block, total, carry = np.zeros((3, rows.shape[1]))
        self._kernel.column_sums(rows, weights, block, total, carry)
        summed: NDArray[np.float64] = total + carry
        return summed


@contextmanager
def _team(threads: int) -> Iterator[Callable[[_Step, int, int], float]]:
    """Yield a function that lets threads do a step, each on a range of the rows."""
    if threads < 2:
        yield lambda step, count, _width: step(0, count)
        return
    with ThreadPoolExecutor(threads - 1) as pool:

        def share(step: _Step, count: int, width: int) -> float:
            parts = max(1, min(threads, count * width // _SHARE_WORTH))
            bounds = [count * i // parts for i in range(parts + 1)]
            others = [pool.submit(step, bounds[i], bounds[i + 1]) for i in range(1, parts)]
            best = step(0, bounds[1])
            return max(best, *(other.result() for other in others)) if others else best

        yield share
