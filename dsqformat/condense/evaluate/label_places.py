"""Where the names of points go, so that they cover neither each other nor the points."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# A name stands beside its point in one of these directions, as near as there is room.
_DISTANCES: Final = (8.0, 12.0, 17.0, 23.0, 30.0, 38.0, 48.0, 60.0, 75.0, 95.0)
_DIRECTIONS: Final = 16
_GAP: Final = 1.5
# What a square point of overlap costs, a name that leaves the frame, a line through something,
# and a point of distance.
_OVERLAP, _OUTSIDE, _CROSSING, _AWAY = 10.0, 30.0, 60.0, 1.0
_ROUNDS: Final = 8
_SAMPLES: Final = 12


def place_labels(anchors: Array, sizes: Array, obstacles: Array, frame: Array) -> Array:
    """Return the middle of each label.

    Each takes the cheapest of some places around its point, those in the densest part first; then
    all in turn look again at what the others took, until nobody moves. Without chance: the same
    input gives the same places.

    Args:
        anchors: points that have names, shape (n, 2), in any unit, y upwards; distances are made
            for 1/72 inch.
        sizes: width and height of each label, shape (n, 2).
        obstacles: boxes (left, bottom, right, top) that labels should leave free, shape (m, 4).
        frame: one such box, shape (4,), that labels should stay inside of.

    Returns:
        Shape (n, 2).
    """
    count = len(anchors)
    places = [_candidates(anchors[i], sizes[i]) for i in range(count)]
    fixed = [_fixed_costs(anchors[i], sizes[i], places[i], obstacles, frame) for i in range(count)]
    near = np.abs(anchors[:, np.newaxis] - anchors[np.newaxis]) < (90.0, 30.0)
    order = np.argsort(-near.all(axis=2).sum(axis=1), kind="stable")
    centres = np.full((count, 2), np.nan)
    for _ in range(_ROUNDS):
        before = centres.copy()
        for i in order.tolist():
            others = np.flatnonzero(~np.isnan(centres[:, 0]))
            others = others[others != i]
            costs = fixed[i] + _costs_of_others(
                anchors[i], sizes[i], places[i], anchors[others], sizes[others], centres[others]
            )
            centres[i] = places[i][int(costs.argmin())]
        if np.array_equal(before, centres):
            break
    return centres


def nearest_points(anchors: Array, centres: Array, sizes: Array) -> Array:
    """Return where lines from points to their labels end: on the edge, as near as they get.

    Args:
        anchors: shape (n, 2).
        centres: middle of each label, shape (n, 2).
        sizes: of each label, shape (n, 2).

    Returns:
        Shape (n, 2).
    """
    return np.clip(anchors, centres - sizes / 2, centres + sizes / 2)


def overlaps(one: Array, two: Array) -> Array:
    """Return the area that each of some boxes shares with each of others.

    Args:
        one: boxes (left, bottom, right, top), shape (n, 4).
        two: likewise, shape (m, 4).

    Returns:
        Shape (n, m), 0 or more.
    """
    low = np.maximum(one[:, np.newaxis, :2], two[np.newaxis, :, :2])
    high = np.minimum(one[:, np.newaxis, 2:], two[np.newaxis, :, 2:])
    return np.asarray(np.maximum(high - low, 0).prod(axis=2))


def boxes(centres: Array, sizes: Array, gap: float = 0.0) -> Array:
    """Return boxes (left, bottom, right, top) around centres, larger by a gap all around."""
    half = sizes / 2 + gap
    return np.concatenate([centres - half, centres + half], axis=1)


def _candidates(anchor: Array, size: Array) -> Array:
    """Return places around a point, the ones that are liked best first."""
    # From the upper right round both ways: ties go to what comes first.
    steps = np.arange(_DIRECTIONS)
    turns = np.where(steps % 2 == 0, -steps // 2, (steps + 1) // 2)
    angles = 2 * np.pi * (turns / _DIRECTIONS + 1 / 16)
    unit = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # In this direction the edge of the label is met, not its middle.
    edge = unit / np.abs(unit).max(axis=1, keepdims=True) * size / 2
    distances = np.array(_DISTANCES)[:, np.newaxis, np.newaxis]
    return np.asarray((anchor + distances * unit + edge).reshape(-1, 2))


def _fixed_costs(
    anchor: Array, size: Array, places: Array, obstacles: Array, frame: Array
) -> Array:
    """Return what does not depend on other labels."""
    mine = boxes(places, np.broadcast_to(size, places.shape))
    area = size.prod()
    inside = overlaps(mine, frame[np.newaxis])[:, 0]
    ends = nearest_points(anchor, places, np.broadcast_to(size, places.shape))
    away = np.linalg.norm(ends - anchor, axis=1)
    crossed = _crossed(anchor, ends, _without(anchor, obstacles)).sum(axis=1)
    covered = overlaps(mine, obstacles).sum(axis=1)
    costs = _OVERLAP * covered + _OUTSIDE * (area - inside) + _CROSSING * crossed + _AWAY * away
    return np.asarray(costs)


def _costs_of_others(
    anchor: Array, size: Array, places: Array, anchors: Array, sizes: Array, centres: Array
) -> Array:
    """Return what places cost that come near labels which have theirs."""
    mine, theirs = boxes(places, np.broadcast_to(size, places.shape)), boxes(centres, sizes, _GAP)
    ends = nearest_points(anchor, places, np.broadcast_to(size, places.shape))
    crossed = _crossed(anchor, ends, theirs).sum(axis=1)
    # And their lines through this label.
    lines = _samples(anchors, nearest_points(anchors, centres, sizes)).reshape(-1, 1, 2)
    low, high = mine[np.newaxis, :, :2], mine[np.newaxis, :, 2:]
    within = np.all((lines > low) & (lines < high), axis=2)
    hit = within.reshape(len(anchors), _SAMPLES, len(places)).any(axis=1).sum(axis=0)
    return np.asarray(_OVERLAP * overlaps(mine, theirs).sum(axis=1) + _CROSSING * (crossed + hit))


def _crossed(anchor: Array, ends: Array, found: Array) -> NDArray[np.bool_]:
    """Return which boxes the lines from a point go through, shape (lines, boxes)."""
    points = _samples(np.broadcast_to(anchor, ends.shape), ends)[:, :, np.newaxis]
    inside = (points > found[:, :2]) & (points < found[:, 2:])
    crossed: NDArray[np.bool_] = np.any(np.all(inside, axis=3), axis=1)
    return crossed


def _samples(begin: Array, end: Array) -> Array:
    """Return points along lines, shape (lines, samples, 2)."""
    share = np.linspace(0, 1, _SAMPLES)[:, np.newaxis]
    return begin[:, np.newaxis] * (1 - share) + end[:, np.newaxis] * share


def _without(anchor: Array, obstacles: Array) -> Array:
    """Return the obstacles that a line from a point does not start in."""
    around = (anchor >= obstacles[:, :2]) & (anchor <= obstacles[:, 2:])
    return obstacles[~around.all(axis=1)]
