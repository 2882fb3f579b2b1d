"""Encodes a dataset until it takes the bytes, or has the fidelity, that is asked for.

A level is looked for on a bounded sample; all samples are encoded at it; then the last shards (of
one shard: the whole) are encoded again with a corrected mix of settings until the total fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk import FieldModel
from dsqformat.errors import TargetError
from dsqformat.select.distortion import psnr_of
from dsqformat.select.levels import LevelSearch, Window
from dsqformat.writer.encoding import ChunkEncoder
from dsqformat.writer.ladder import Ladder
from dsqformat.writer.publication import SnapshotBuilder
from dsqformat.writer.sampling import PROBE, SAMPLE, SampleMeasure, SampleSize
from dsqformat.writer.spill import SampleSpill
from dsqformat.writer.targets import Psnr, Target, error_window, size_window

MAX_ROUNDS: Final = 10
MAX_SAMPLE_ROUNDS: Final = 12
# Samples only have to bring the first round near.
PROBE_TOLERANCE: Final = 0.02
SAMPLE_TOLERANCE: Final = 0.003
# So much too far on a sample, and the whole dataset need not be tried.
HOPELESS: Final = 1.25
# The last shards may change by so much, so that they stay like the others.
_TAIL_CHANGE: Final = 0.06


@dataclass
class TargetRun:
    """One dataset on its way to a target.

    Attributes:
        builder: rewindable.
        sampler: an encoder for the sample.
        spill: all samples.
        order: in which they are encoded.
        target: what is asked for.
        ladder: what is moved.
        seed: of the pattern of mixed settings.
        total_nbytes: returns the bytes of everything, with the shards as they are.
        on_round: called with the number of a round of the sample (negative) or of the dataset,
            and the samples that need not be encoded again.
        rounds: how often samples were encoded; 1 is the least.
        level: the level of the samples encoded last.
    """

    builder: SnapshotBuilder
    sampler: ChunkEncoder
    spill: SampleSpill
    order: NDArray[np.int64]
    target: Target
    ladder: Ladder
    seed: int
    total_nbytes: Callable[[], int]
    on_round: Callable[[int, int], None]
    rounds: int = 0
    level: float = 0.0
    _looks: int = 0
    _models: dict[float, dict[str, FieldModel]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_size = not isinstance(self.target, Psnr)
        if not self._by_size and set(self.ladder.measured) != set(self.ladder.fields):
            raise ValueError("a PSNR target needs fields of uint8; use a size instead")
        if isinstance(self.target, Psnr):
            counts = [self.spill.fields[name].value_counts() for name in self.ladder.measured]
            self._value_count = int(sum(count[self.order].sum() for count in counts))
            self._window = error_window(self.target, self._value_count)
        else:
            self._window = size_window(self.target, len(self.order))

    def run(self) -> None:
        """Encode until the target is met.

        Raises:
            TargetError: it cannot be met, naming the smallest or largest that can be.
        """
        guess, slope = self._guess()
        whole = self._search(self._window, guess, slope)
        level = whole.propose()
        search, first, fixed = whole, 0, 0.0
        while level is not None and self.rounds < MAX_ROUNDS:
            value = self._encode(first, self._sign * level)
            search.tell(level, value - fixed)
            if search.found:
                return
            if search is whole and (tail := self._tail(value)):
                first, fixed = tail, self._fixed(tail)
                search = self._search(self._window.less(fixed), level, whole.slope)
                search.tell(level, value - fixed)
            level = search.propose()
            if level is None and first:
                # The last shards alone cannot make up for it.
                search, first, fixed = whole, 0, 0.0
                level = search.propose()
        self._settle(search, first, fixed)

    # Rounds ------------------------------------------------------------------------------------

    def _encode(self, first: int, level: float) -> float:
        """Encode all shards but the first few at a level, and return what came of it."""
        done = self.builder.rewind(first)
        self.rounds += 1
        self.level = level
        self.on_round(self.rounds, done)
        fineness = self.ladder.fineness(level, self.order, len(self.spill), self.seed)
        self.builder.encoder.models = self._models_at(level)
        self.builder.encode(self.spill, self.order[done:], fineness)
        self.builder.finish_shard()
        return float(self.total_nbytes()) if self._by_size else self.builder.tally.squared_error

    def _models_at(self, level: float) -> dict[str, FieldModel]:
        """Return models for a level, fitted to samples from all over the dataset."""
        for at, models in self._models.items():
            # The first that serves: what a level takes must not depend on when it is tried.
            if self.ladder.near(level, at):
                return models
        fineness = self.ladder.fineness(level, self.order, len(self.spill), self.seed)
        self.builder.encoder.fit(self.spill, self.order, fineness, last=False, steady=True)
        self._models[level] = self.builder.encoder.models or {}
        return self._models[level]

    def _tail(self, value: float) -> int:
        """Return the first shard to encode again, such that a small change of the rest will do."""
        if self.ladder.kind == "groups":
            return 0
        missing = abs(self._window.aim - value)
        room = 0.0
        for number in range(len(self.builder.shards) - 1, 0, -1):
            room += _TAIL_CHANGE * self._of_shard(number)
            if room >= missing and self._fixed(number) < self._window.low:
                return number
        return 0

    def _of_shard(self, number: int) -> float:
        if self._by_size:
            return float(self.builder.shards[number].nbytes)
        chunks = self.builder.chunks
        return sum(c.tally.squared_error for c in chunks if c.shard == number)

    def _fixed(self, first: int) -> float:
        return sum(self._of_shard(number) for number in range(first))

    def _settle(self, search: LevelSearch, first: int, fixed: float) -> None:
        """Take the best level there was, below the window."""
        best, least = search.best, search.least
        if best is None or least is None:
            raise self._refusal(least[1] + fixed if least else math.nan, smallest=True)
        x, value = best
        if value + fixed < self._window.low and x >= max(self._ends()):
            raise self._refusal(value + fixed, smallest=False)
        if self._sign * x != self.level:
            value = self._encode(first, self._sign * x)
            if value > self._window.high:
                raise self._refusal(value, smallest=True)

    def _refusal(self, value: float, *, smallest: bool, about: str = "") -> TargetError:
        finest = smallest != self._by_size
        level = self.ladder.highest if finest else self.ladder.lowest
        at = self.ladder.describe(level)
        if self._by_size:
            what = "smallest" if smallest else "largest"
            count = max(1, len(self.order))
            possible = f"{value:,.0f} bytes, {value / count:,.1f} per sample"
        else:
            what = "highest" if smallest else "lowest"
            possible = f"{psnr_of(value, self._value_count):.2f} dB"
        return TargetError(
            f"{self.target} cannot be met: the {what} possible is {about}{possible} ({at})"
        )

    # The sample --------------------------------------------------------------------------------

    def _guess(self) -> tuple[float, float]:
        """Return about the level that is looked for, turned around for errors, and its slope."""
        if isinstance(self.target, Psnr):
            start = self.ladder.level_for_psnr(self.target.decibels)
            slope = self.ladder.error_slope
        else:
            values = max(1, int(self.spill.value_counts()[self.order].sum()))
            start = self.ladder.level_for_nbytes(self._window.aim / values)
            slope = self.ladder.size_slope
        x, slope = self._look(self._measure(PROBE), PROBE_TOLERANCE, self._sign * start, slope)
        if (sample := self._measure(SAMPLE, self._models_at)).complete:
            return x, slope
        return self._look(sample, SAMPLE_TOLERANCE, x, slope)

    def _measure(
        self,
        size: SampleSize,
        models_at: Callable[[float], dict[str, FieldModel]] | None = None,
    ) -> SampleMeasure:
        return SampleMeasure(
            self.builder,
            self.sampler,
            self.spill,
            self.order,
            self.ladder,
            self.seed,
            size,
            models_at,
        )

    def _look(
        self, measure: SampleMeasure, tolerance: float, start: float, slope: float
    ) -> tuple[float, float]:
        """Search on a sample."""
        aim = self._window.aim
        window = Window((1 - tolerance) * aim, (1 + tolerance) * aim, aim)
        other = 0
        if self._by_size:
            fineness = self.ladder.fineness(start, self.order, len(self.spill), self.seed)
            other = self.builder.tables_nbytes(self.spill, self.order, fineness, self.total_nbytes)
        search = self._search(window, start, slope)
        for _ in range(MAX_SAMPLE_ROUNDS):
            x = search.propose()
            if x is None:
                break
            self._looks += 1
            self.on_round(-self._looks, 0)
            level = self._sign * x
            value = measure.nbytes(level, other) if self._by_size else measure.squared_error(level)
            search.tell(x, value)
        self.builder.encoder.ratio = measure.ratio
        best, least = search.best, search.least
        if best is None:
            value = least[1] if least else math.nan
            if least is None or value > HOPELESS * window.high:
                raise self._refusal(value, smallest=True, about="about ")
            return least[0], search.slope
        if best[0] >= max(self._ends()) and best[1] * HOPELESS < window.low:
            raise self._refusal(best[1], smallest=False, about="about ")
        return best[0], search.slope

    # A squared error falls with the level: the search goes by levels turned around.

    @property
    def _sign(self) -> int:
        return 1 if self._by_size else -1

    def _ends(self) -> tuple[float, float]:
        return self._sign * self.ladder.lowest, self._sign * self.ladder.highest

    def _search(self, window: Window, start: float, slope: float) -> LevelSearch:
        return LevelSearch(
            min(self._ends()),
            max(self._ends()),
            window,
            start=start,
            slope=slope,
            rounded=lambda x: self._sign * self.ladder.rounded(self._sign * x),
        )
