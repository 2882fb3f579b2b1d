"""Groups of patches are found: k-means, then rounds of least distortion (Tran and Bae; spec 10.5).

Patches are described by their smallest and largest value, and clustered by k-means. The default
then alternates between giving each patch to the group that distorts it least, and fitting each
group to its patches by least squares: the distortion never grows. `compat` is the paper's:
k-means of (scale, zero point), then the range of all patches of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SampleError
from dsqformat.quantize.patch.groups import (
    MAX_BITS,
    Assignment,
    Floats,
    Method,
    PatchGroups,
    assign,
    features,
    range_centres,
)
from dsqformat.quantize.patch.k_means import k_means, sums
from dsqformat.quantize.patch.sampling import sample_patches

DEFAULT_PATCH: Final = 5
MAX_GROUPS: Final = 65536
KMEANS_ROUNDS: Final = 25
DISTORTION_ROUNDS: Final = 8
# Rounds end when the distortion falls by less than this part.
LEAST_GAIN: Final = 1e-3


def fit_groups(
    values: NDArray[Any] | Sequence[NDArray[Any]],
    bits: int,
    group_count: int,
    *,
    patch: int = DEFAULT_PATCH,
    method: Method = "distortion",
    seed: int = 0,
    masks: Sequence[NDArray[np.bool_]] | None = None,
) -> PatchGroups:
    """Find groups of patches over a dataset.

    Args:
        values: uint8 or float32 samples (height, width[, channels]): one array, or a sequence of
            arrays where shapes differ. Work and memory are bounded: a part of the patches, evenly
            spread over all, is looked at (see `sampling`).
        bits: 1 to 8.
        group_count: G, 1 to 65536; fewer groups come back where fewer patches differ, one where
            there are no values.
        patch: side of a patch.
        method: "distortion" (default), "min_max" (k-means of smallest and largest value) or
            "compat" (k-means of scale and zero point, as the paper has it).
        seed: of the k-means.
        masks: n boolean grids of patches; those that are False are not looked at.

    Returns:
        Groups in ascending order of (offset, scale).

    Raises:
        SampleError: a value is not finite, or the range of the values leaves float32.
        ValueError: an argument is out of range.
    """
    if not 1 <= bits <= MAX_BITS or not 1 <= group_count <= MAX_GROUPS:
        raise ValueError(f"{bits} bits, {group_count} groups: expected 1 to 8, 1 to {MAX_GROUPS}")
    if method not in ("distortion", "min_max", "compat"):
        raise ValueError(f"method {method!r}, expected 'distortion', 'min_max' or 'compat'")
    blocks = sample_patches(values, patch, masks)
    if not blocks:
        return PatchGroups(bits, patch, np.zeros(1, "f4"), np.zeros(1, "f4"), method)
    if not all(np.isfinite(block).all() for block in blocks):
        raise SampleError("a value is NaN or infinite")
    low = np.concatenate([block.min(axis=1) for block in blocks])
    high = np.concatenate([block.max(axis=1) for block in blocks])
    groups = PatchGroups(bits, patch, np.zeros(0, "f4"), np.zeros(0, "f4"), method)
    points = features(low, high, groups.top, method)
    group = k_means(points, group_count, np.random.default_rng(seed), KMEANS_ROUNDS)
    centres = sums(group, points, int(group.max()) + 1) / np.bincount(group)[:, np.newaxis]
    groups = replace(groups, centres=centres)
    if method == "distortion":
        groups = _least_distortion(_Sample(blocks, points), _filling(groups, *centres.T))
    else:
        groups = _recalibrated(groups, group, low, high)
    return _sorted(groups)


def _sorted(groups: PatchGroups) -> PatchGroups:
    order = np.lexsort((groups.scale, groups.offset))
    centres = range_centres(groups) if groups.centres is None else groups.centres
    return replace(
        groups, scale=groups.scale[order], offset=groups.offset[order], centres=centres[order]
    )


def _recalibrated(
    groups: PatchGroups, group: NDArray[np.int64], low: Floats, high: Floats
) -> PatchGroups:
    """Give each group the range of all its patches."""
    count = int(group.max()) + 1
    bottom, ceiling = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(bottom, group, low)
    np.maximum.at(ceiling, group, high)
    if groups.method != "compat":
        return _filling(groups, bottom, ceiling)
    # The paper's zero point is an integer.
    scale = (ceiling - bottom) / groups.top
    zero_point = np.rint(-bottom / np.where(scale > 0, scale, 1))
    return _stored(groups, scale, np.where(scale > 0, -scale * zero_point, bottom))


def _filling(groups: PatchGroups, low: Floats, high: Floats) -> PatchGroups:
    """Return groups whose codes go from `low` to `high`."""
    return _stored(groups, (high - low) / groups.top, low)


def _stored(groups: PatchGroups, scale: Floats, offset: Floats) -> PatchGroups:
    with np.errstate(over="ignore"):
        small = scale.astype("f4"), offset.astype("f4")
    if not (np.isfinite(small[0]).all() and np.isfinite(small[1]).all()):
        raise SampleError("the range of the values of some patches leaves float32")
    return replace(groups, scale=small[0], offset=small[1])


# Least distortion ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sample:
    """Patches that groups are fitted to.

    Attributes:
        blocks: float64, shape (m, k) each, one array per size of patch.
        points: float64, shape (sum of m, 2), smallest and largest value of all patches.
    """

    blocks: list[Floats]
    points: Floats


def _least_distortion(sample: _Sample, groups: PatchGroups) -> PatchGroups:
    current: list[NDArray[np.int64] | None] = [None] * len(sample.blocks)
    before = np.inf
    for _ in range(DISTORTION_ROUNDS):
        found = [
            assign(block, groups, known)
            for block, known in zip(sample.blocks, current, strict=True)
        ]
        current = [part.group for part in found]
        groups = _fill_empty(sample, found, _refitted(sample, found, groups))
        error = sum(float(part.error.sum()) for part in found)
        if error >= (1 - LEAST_GAIN) * before:
            break
        before = error
    return groups


def _refitted(sample: _Sample, found: list[Assignment], groups: PatchGroups) -> PatchGroups:
    """Fit scale and offset of each group to its codes by least squares; move its centre."""
    count = len(groups)
    total = np.zeros((5, count))  # values, codes, codes^2, x, codes * x
    for block, part in zip(sample.blocks, found, strict=True):
        codes = part.codes.astype("f8")
        terms = (
            np.full(len(block), float(block.shape[1])),
            codes.sum(axis=1),
            (codes * codes).sum(axis=1),
            block.sum(axis=1),
            (codes * block).sum(axis=1),
        )
        for row, term in zip(total, terms, strict=True):
            row += np.bincount(part.group, term, minlength=count)
    n, c, cc, x, cx = total
    spread = n * cc - c * c
    slope = np.where(spread > 0, (n * cx - c * x) / np.where(spread > 0, spread, 1), groups.scale)
    slope = np.maximum(slope, 0)
    shift = np.where(n > 0, (x - slope * c) / np.maximum(n, 1), groups.offset)
    group = np.concatenate([part.group for part in found])
    size = np.bincount(group, minlength=count)[:, np.newaxis]
    mean = sums(group, sample.points, count) / np.maximum(size, 1)
    return _stored(
        replace(groups, centres=np.where(size, mean, range_centres(groups))), slope, shift
    )


def _fill_empty(sample: _Sample, found: list[Assignment], groups: PatchGroups) -> PatchGroups:
    """Give each group without patches to one of the patches with the largest errors."""
    group = np.concatenate([part.group for part in found])
    empty = np.nonzero(np.bincount(group, minlength=len(groups)) == 0)[0]
    if not len(empty) or groups.centres is None:
        return groups
    error = np.concatenate([part.error for part in found])
    worst = np.argsort(-error, kind="stable")[: len(empty)]
    empty = empty[: len(worst)]
    low, high = sample.points[worst].T
    own = _filling(groups, low, high)
    scale, offset, centres = groups.scale.copy(), groups.offset.copy(), groups.centres.copy()
    scale[empty], offset[empty], centres[empty] = own.scale, own.offset, sample.points[worst]
    return replace(groups, scale=scale, offset=offset, centres=centres)
