"""k-means of points in the plane, seeded, with k-means++."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsqformat.quantize.patch.groups import Floats, nearest


def k_means(points: Floats, count: int, rng: np.random.Generator, rounds: int) -> NDArray[np.int64]:
    """Return the cluster of each point, numbered without gaps.

    Args:
        points: float64, shape (m, 2), m at least 1.
        count: clusters; fewer come back where fewer points differ.
        rng: chooses the first centres.
        rounds: at most so many times points change their centre.
    """
    centres = _spread_centres(points, count, rng)
    group = np.full(len(points), -1)
    for _ in range(rounds):
        found = nearest(points, centres)
        if (found == group).all():
            break
        group = found
        size = np.bincount(group, minlength=len(centres))[:, np.newaxis]
        centres = np.where(size, sums(group, points, len(centres)) / np.maximum(size, 1), centres)
    return np.unique(group, return_inverse=True)[1].astype("i8")


def sums(group: NDArray[np.int64], points: Floats, count: int) -> Floats:
    """Return the sum of the points of each group, shape (count, 2)."""
    return np.stack([np.bincount(group, axis, minlength=count) for axis in points.T], axis=1)


def _spread_centres(points: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Choose points as centres, those far from others more often (k-means++)."""
    x, y = np.ascontiguousarray(points.T)
    centres = [int(rng.integers(len(points)))]
    distance = np.full(len(points), np.inf)
    while True:
        dx, dy = x - x[centres[-1]], y - y[centres[-1]]
        distance = np.minimum(distance, dx * dx + dy * dy)
        share = np.cumsum(distance)
        if len(centres) == count or not share[-1] > 0:
            return points[centres]
        chosen = int(np.searchsorted(share, rng.random() * share[-1], "right"))
        # Rounding may lead past the last point that has a share.
        last = int(np.searchsorted(share, share[-1], "left"))
        centres.append(min(chosen, last))
