"""Bytes at equal fidelity: interpolation between measured settings of a codec."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

NAN = math.nan


@dataclass(frozen=True)
class Curve:
    """Bytes per sample of one codec by a fidelity, at rising fidelity.

    Attributes:
        fidelity: dB or SSIM, strictly rising, finite.
        nbytes: bytes per sample at each of them, strictly rising too.
    """

    fidelity: tuple[float, ...]
    nbytes: tuple[float, ...]

    def nbytes_at(self, fidelity: float) -> float:
        """Return bytes per sample at a fidelity, log-interpolated; NaN outside what was measured.

        Args:
            fidelity: in the unit of the curve.
        """
        if not self.fidelity or not self.fidelity[0] <= fidelity <= self.fidelity[-1]:
            return NAN
        return float(np.exp(np.interp(fidelity, self.fidelity, np.log(self.nbytes))))

    def fidelity_at(self, nbytes: float, widest: float = math.inf) -> float:
        """Return the fidelity at so many bytes per sample; NaN outside what was measured.

        Args:
            nbytes: bytes per sample.
            widest: NaN as well where the points on either side are further apart than this.
        """
        if not self.nbytes or not self.nbytes[0] <= nbytes <= self.nbytes[-1]:
            return NAN
        above = max(1, int(np.searchsorted(self.nbytes, nbytes)))
        if len(self.nbytes) > 1 and self.fidelity[above] - self.fidelity[above - 1] > widest:
            return NAN
        return float(np.interp(np.log(nbytes), np.log(self.nbytes), self.fidelity))

    def least_nbytes_for(self, fidelity: float) -> float:
        """Return bytes per sample for at least a fidelity; NaN where the codec does not reach it.

        Unlike `nbytes_at`, a codec whose coarsest setting is already better counts with the
        bytes of that setting: nobody may win because a rival has no setting so coarse.
        """
        if self.fidelity and fidelity < self.fidelity[0]:
            return self.nbytes[0]
        return self.nbytes_at(fidelity)


def make_curve(points: Iterable[tuple[float, float]]) -> Curve:
    """Return the curve through (bytes, fidelity) points; lossless ones are left out.

    A setting that takes more bytes than another for no more fidelity is dropped.
    """
    kept: list[tuple[float, float]] = []
    for nbytes, fidelity in sorted(points, key=lambda point: (point[1], -point[0])):
        if not math.isfinite(fidelity):
            continue
        while kept and kept[-1][0] >= nbytes:
            kept.pop()
        kept.append((nbytes, fidelity))
    kept = [p for i, p in enumerate(kept) if i == 0 or p[1] > kept[i - 1][1]]
    return Curve(tuple(p[1] for p in kept), tuple(p[0] for p in kept))


def least(values: Iterable[float]) -> float:
    """Return the least of some numbers, ignoring NaN; NaN if there are no others."""
    found = [value for value in values if not math.isnan(value)]
    return min(found, default=NAN)


def greatest(values: Sequence[float]) -> float:
    """Return the greatest of some numbers; NaN if there are none or one of them is NaN.

    For a bar that must hold everywhere: what was not measured must not pass.
    """
    if not values or any(math.isnan(value) for value in values):
        return NAN
    return max(values)
