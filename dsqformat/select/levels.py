"""How finely to quantize all samples: looks for the level at which a measured value fits.

Settings (qps, bit widths) are integers, so a level is a real number: at level 5.3 seven tenths of
the samples have setting 5, the others 6, evenly spread. What a level costs is measured, rises with
it, and is looked for by secants of the logarithm within a bracket, which takes few measurements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import TargetError

# Multiples of the golden ratio, modulo 1, fill the unit interval evenly however many there are.
_GOLDEN: Final = (5**0.5 - 1) / 2
_LEAST_VALUE: Final = 1e-6
MAX_MEASUREMENTS: Final = 24


@dataclass(frozen=True)
class Window:
    """What a measured value may be.

    Attributes:
        low: at least so much is wanted.
        high: more is not allowed.
        aim: what to steer for, in between.
    """

    low: float
    high: float
    aim: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.aim <= self.high:
            raise ValueError(f"{self}: expected 0 < low <= aim <= high")

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def less(self, fixed: float) -> Window:
        """Return what is left for the rest of a sum of which `fixed` is known.

        Raises:
            ValueError: nothing is left.
        """
        return Window(self.low - fixed, self.high - fixed, self.aim - fixed)


def mixed_settings(level: float, count: int, seed: int = 0) -> NDArray[np.int64]:
    """Return the settings that make up a level: int64, shape (count,).

    They are the integers around `level`, the upper one for a share of `level - floor(level)`,
    evenly spread. No setting falls when the level rises.

    Args:
        level: at least 0.
        count: samples.
        seed: where the pattern starts.
    """
    phase = np.random.Generator(np.random.PCG64(seed)).random()
    place = (phase + _GOLDEN * np.arange(count)) % 1.0
    whole = math.floor(level)
    return whole + (place < level - whole).astype("i8")


def interpolated(levels: Sequence[float], values: Sequence[float]) -> Callable[[float], float]:
    """Return a measure that looks up a table, linear between its entries as a mix of two is.

    Args:
        levels: ascending.
        values: of each level.
    """
    xs, ys = np.asarray(levels, "f8"), np.asarray(values, "f8")
    if len(xs) != len(ys) or not len(xs) or (np.diff(xs) <= 0).any():
        raise ValueError("a table needs ascending levels and a value for each")
    return lambda level: float(np.interp(level, xs, ys))


class LevelSearch:
    """Proposes levels to measure until a value falls into a window.

    The value should rise with the level. Where noise makes it fall a little, the search still
    ends, with the best level found that is not above the window.

    Args:
        lowest: the coarsest level.
        highest: the finest level.
        window: what the value should be.
        start: first guess.
        slope: first guess of how much the logarithm of the value rises per level.
        resolution: levels nearer to one another than this are the same.
        rounded: returns the nearest level that can be measured; None: any can.
    """

    def __init__(
        self,
        lowest: float,
        highest: float,
        window: Window,
        *,
        start: float,
        slope: float,
        resolution: float = 1e-3,
        rounded: Callable[[float], float] | None = None,
    ) -> None:
        if not lowest <= highest or slope <= 0:
            raise ValueError(f"levels {lowest} to {highest}, slope {slope}: expected a ladder")
        self._lowest, self._highest, self._window = lowest, highest, window
        self._start, self._slope = start, slope
        self._resolution = resolution
        self._nearest = rounded or float
        self._measured: dict[float, float] = {}
        self._below: tuple[float, float] | None = None
        self._above: tuple[float, float] | None = None
        self._stuck = 0

    @property
    def best(self) -> tuple[float, float] | None:
        """The level with the largest value that is not above the window, and that value."""
        fits = [item for item in self._measured.items() if item[1] <= self._window.high]
        return max(fits, key=lambda item: item[1]) if fits else None

    @property
    def least(self) -> tuple[float, float] | None:
        """The level with the smallest value measured, and that value."""
        return min(self._measured.items(), key=lambda item: item[1], default=None)

    @property
    def slope(self) -> float:
        """How much the logarithm of the value rises per level, by the last bracket or guess."""
        if self._below and self._above:
            rise = _log(self._above[1]) - _log(self._below[1])
            run = self._above[0] - self._below[0]
            if rise > 0 and run > 0:
                return rise / run
        return self._slope

    @property
    def found(self) -> bool:
        """Whether a value fell into the window."""
        best = self.best
        return best is not None and best[1] in self._window

    def tell(self, level: float, value: float) -> None:
        """Take note of a measurement."""
        before = self._below if value <= self._window.high else self._above
        if before is not None and before[0] != level and before[1] != value:
            slope = (_log(value) - _log(before[1])) / (level - before[0])
            if slope > 0:
                self._slope = slope
        self._measured[level] = value
        if value <= self._window.high:
            self._stuck = max(0, self._stuck) + 1
            if self._below is None or level > self._below[0]:
                self._below = (level, value)
        else:
            self._stuck = min(0, self._stuck) - 1
            if self._above is None or level < self._above[0]:
                self._above = (level, value)
        if self._below and self._above and self._below[0] >= self._above[0]:
            # Noise: what is above the window decides, so that the search stays on the safe side.
            kept = [item for item in self._measured.items() if item[0] < self._above[0]]
            self._below = max(kept) if kept else None

    def propose(self) -> float | None:
        """Return the next level to measure; None where no better one is to be expected."""
        if self.found:
            return None
        if not self._measured:
            return self._rounded(self._start)
        low = self._below[0] if self._below else self._lowest
        high = self._above[0] if self._above else self._highest
        if self._below and self._above:
            if high - low <= self._resolution:
                return None
            level = self._between(self._below, self._above)
        else:
            known, value = self._below or self._above or (self._start, self._window.aim)
            level = known + (_log(self._window.aim) - _log(value)) / self._slope
        level = self._rounded(min(max(level, self._lowest), self._highest))
        if level in self._measured:
            # The guess stays where it was: look in the middle, or at the very end.
            level = self._rounded((low + high) / 2)
        if level in self._measured:
            ends = [end for end in (low, high) if end not in self._measured]
            return ends[0] if ends else None
        return level

    def _between(self, below: tuple[float, float], above: tuple[float, float]) -> float:
        if abs(self._stuck) > 2:
            # The secant has come from one side only for a while: halve instead.
            self._stuck = 0
            return (below[0] + above[0]) / 2
        low, high = _log(below[1]), _log(above[1])
        share = (_log(self._window.aim) - low) / (high - low) if high > low else 0.5
        return below[0] + min(0.98, max(0.02, share)) * (above[0] - below[0])

    def _rounded(self, level: float) -> float:
        return min(max(self._nearest(level), self._lowest), self._highest)


def _log(value: float) -> float:
    return math.log(max(value, _LEAST_VALUE))


def solve_level(
    measure: Callable[[float], float],
    lowest: float,
    highest: float,
    window: Window,
    *,
    start: float,
    slope: float,
    rounded: Callable[[float], float] | None = None,
    what: str = "value",
) -> tuple[float, float]:
    """Find the level whose value falls into a window, or comes nearest to it from below.

    Args:
        measure: returns the value of a level; rises with it.
        lowest: the coarsest level.
        highest: the finest level.
        window: what the value should be.
        start: first guess.
        slope: first guess of how much the logarithm of the value rises per level.
        rounded: returns the nearest level that can be measured; None: any can.
        what: name of the value, for messages.

    Returns:
        The level and its value, never above the window.

    Raises:
        TargetError: even the coarsest level is above the window, or even the finest is below.
    """
    search = LevelSearch(lowest, highest, window, start=start, slope=slope, rounded=rounded)
    for _ in range(MAX_MEASUREMENTS):
        level = search.propose()
        if level is None:
            break
        search.tell(level, measure(level))
    best, least = search.best, search.least
    if best is None:
        smallest = least[1] if least is not None else math.nan
        raise TargetError(
            f"{what}: {window.high:.6g} cannot be met: the smallest possible is {smallest:.6g}"
        )
    if best[1] < window.low and best[0] >= highest:
        raise TargetError(
            f"{what}: {window.high:.6g} cannot be met: the largest possible is {best[1]:.6g}"
        )
    return best
