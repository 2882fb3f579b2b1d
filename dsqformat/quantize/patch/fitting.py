"""Groups of patches that share scale and offset: how they are found (Tran & Bae; SPEC 7.3).

Patches are described by their smallest and largest value, and clustered by k-means. The default
then alternates between giving each patch to the group that distorts it least, and fitting each
group to its patches by least squares: the distortion never grows. `compat` is the paper's:
k-means of (scale, zero point), then the range of all patches of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dsqformat.quantize.patch.layout import cut

Method = Literal["distortion", "min_max", "compat"]
Floats = NDArray[np.float64]

DEFAULT_PATCH: Final = 5
MAX_GROUPS: Final = 65536
# Patches that groups are fitted to, and k-means and distortion rounds: bounds of the work.
FIT_PATCHES: Final = 60_000
KMEANS_ROUNDS: Final = 25
DISTORTION_ROUNDS: Final = 8
# Groups a patch is tried with: the nearest by smallest and largest value.
CANDIDATES: Final = 12
# Patches at a time, so that memory stays bounded.
PART: Final = 8192


@dataclass(frozen=True)
class PatchGroups:
    """Parameters of all groups; a code c of group g stands for fl(fl(c * scale) + offset).

    Attributes:
        bits: 1 to 8 bits of a code.
        patch: side p of a patch.
        scale: float32, shape (groups,), at least 0.
        offset: float32, shape (groups,).
        method: how the encoder finds the group of a patch; decoders do not need it.
        centres: float64, shape (groups, 2), of the clusters, for the methods but "distortion".
    """

    bits: int
    patch: int
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]
    method: Method = "distortion"
    centres: Floats | None = None

    def __len__(self) -> int:
        return len(self.scale)

    @property
    def id_bits(self) -> int:
        """Bits of a group id: ceil(log2(groups))."""
        return (len(self) - 1).bit_length()


def fit_groups(
    values: NDArray[Any] | Sequence[NDArray[Any]],
    bits: int,
    group_count: int,
    *,
    patch: int = DEFAULT_PATCH,
    method: Method = "distortion",
    seed: int = 0,
) -> PatchGroups:
    """Find groups of patches over a dataset.

    Args:
        values: uint8 or float32 samples (height, width[, channels]): one array, or a sequence of
            arrays where shapes differ. Work is bounded: at most FIT_PATCHES patches, evenly
            spread, are looked at.
        bits: 1 to 8.
        group_count: G, 1 to 65536; fewer groups come back where there are fewer patches.
        patch: side of a patch.
        method: "distortion" (default), "min_max" (k-means of smallest and largest value) or
            "compat" (k-means of scale and zero point, as the paper has it).
        seed: of the k-means.

    Raises:
        ValueError: an argument is out of range, or there are no values.
    """
    if not 1 <= bits <= 8 or not 1 <= group_count <= MAX_GROUPS:
        raise ValueError(f"{bits} bits, {group_count} groups: expected 1 to 8, 1 to {MAX_GROUPS}")
    blocks = _sampled(unit_blocks(values, patch))
    low = np.concatenate([block.min(axis=1) for block in blocks])
    high = np.concatenate([block.max(axis=1) for block in blocks])
    top = (1 << bits) - 1
    points = patch_features(low, high, top, method)
    group = k_means(points, group_count, np.random.default_rng(seed))
    count = int(group.max()) + 1
    size = np.bincount(group)
    centres = np.stack([np.bincount(group, weights=axis) / size for axis in points.T], axis=1)
    bottom, ceiling = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(bottom, group, low)
    np.maximum.at(ceiling, group, high)
    scale, offset = _stored((ceiling - bottom) / top, bottom)
    if method == "distortion":
        scale, offset = _least_distortion(blocks, top, scale, offset)
    order = np.lexsort((scale, offset))
    kept = None if method == "distortion" else centres[order]
    return PatchGroups(bits, patch, scale[order], offset[order], method, kept)


def patch_features(low: Floats, high: Floats, top: int, method: Method) -> Floats:
    """Return what patches are clustered by, shape (m, 2): range, or scale and zero point."""
    if method != "compat":
        return np.stack([low, high], axis=1)
    # A constant patch has no scale: take the least that differs in bytes.
    step = np.maximum((high - low) / top, 1 / (255 * top))
    return np.stack([step, np.rint(-low / step)], axis=1)


def choose_groups(block: Floats, groups: PatchGroups) -> NDArray[np.int64]:
    """Return the group of each patch, as the method of the groups has it.

    Args:
        block: float64, shape (m, k), patches.
        groups: as `fit_groups` found them.
    """
    top = (1 << groups.bits) - 1
    if groups.centres is None:
        return best_groups(block, top, groups.scale, groups.offset)[0]
    points = patch_features(block.min(axis=1), block.max(axis=1), top, groups.method)
    return _nearest(points, groups.centres, 1)[:, 0]


def unit_blocks(
    values: NDArray[Any] | Sequence[NDArray[Any]], patch: int
) -> list[NDArray[np.float64]]:
    """Return all patches as rows of float64, one array per size of patch; bytes as byte / 255."""
    arrays = [values] if isinstance(values, np.ndarray) else [value[np.newaxis] for value in values]
    parts: dict[int, list[Floats]] = {}
    for array in arrays:
        for block in cut(array, patch):
            parts.setdefault(block.values.shape[1], []).append(as_unit(block.values))
    blocks = [np.concatenate(part) for part in parts.values()]
    blocks = [block for block in blocks if block.size]
    if not blocks:
        raise ValueError("no values to form groups of")
    if not all(np.isfinite(block).all() for block in blocks):
        raise ValueError("a value is NaN or infinite")
    return blocks


def as_unit(values: NDArray[Any]) -> Floats:
    """Return values in the units of the decoder: bytes divided by 255, floats as they are."""
    if values.dtype == np.uint8:
        return values / 255.0
    if values.dtype == np.float32:
        return values.astype("f8")
    raise ValueError(f"patch: dtype {values.dtype}, expected uint8 or float32")


def _sampled(blocks: list[Floats]) -> list[Floats]:
    every = -(-sum(map(len, blocks)) // FIT_PATCHES)
    return [block[::every] for block in blocks]


def _stored(scale: Floats, offset: Floats) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    with np.errstate(over="ignore"):
        small = scale.astype("f4"), offset.astype("f4")
    if not (np.isfinite(small[0]).all() and np.isfinite(small[1]).all()):
        raise ValueError("the range of the values leaves float32")
    return small


# k-means ---------------------------------------------------------------------------------------


def k_means(points: Floats, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the cluster of each point, numbered without gaps.

    Args:
        points: float64, shape (m, d).
        count: clusters; fewer come back where fewer points differ.
        rng: chooses the first centres (k-means++).
    """
    centres = [points[int(rng.integers(len(points)))]]
    distance = ((points - centres[0]) ** 2).sum(axis=1)
    while len(centres) < count and distance.max() > 0:
        share = np.cumsum(distance)
        chosen = int(np.searchsorted(share, rng.random() * share[-1], "right"))
        centres.append(points[min(chosen, len(points) - 1)])
        distance = np.minimum(distance, ((points - centres[-1]) ** 2).sum(axis=1))
    centre = np.array(centres)
    group = np.full(len(points), -1)
    for _ in range(KMEANS_ROUNDS):
        nearest = _nearest(points, centre, 1)[:, 0]
        if (nearest == group).all():
            break
        group = nearest
        size = np.bincount(group, minlength=len(centre))
        for axis in range(points.shape[1]):
            total = np.bincount(group, weights=points[:, axis], minlength=len(centre))
            centre[:, axis] = np.where(size, total / np.maximum(size, 1), centre[:, axis])
    return np.unique(group, return_inverse=True)[1].astype("i8")


def _nearest(points: Floats, centres: Floats, count: int) -> NDArray[np.int64]:
    """Return the nearest centres of each point, shape (m, count), in no order."""
    found = np.empty((len(points), count), "i8")
    for begin in range(0, len(points), PART):
        part = points[begin : begin + PART]
        distance = np.zeros((len(part), len(centres)))
        for axis in range(points.shape[1]):
            distance += (part[:, axis, np.newaxis] - centres[:, axis]) ** 2
        if count == 1:
            found[begin : begin + PART, 0] = distance.argmin(axis=1)
        else:
            found[begin : begin + PART] = np.argpartition(distance, count - 1, axis=1)[:, :count]
    return found


# Distortion ------------------------------------------------------------------------------------


def code_patches(
    block: Floats, top: int, scale: NDArray[np.float32], offset: NDArray[np.float32]
) -> Floats:
    """Return the codes of patches, float64: clamp(rint((x - offset) / scale)); scale 0: code 0.

    Args:
        block: float64, shape (m, k).
        top: largest code.
        scale: float32, shape (m,), of each patch.
        offset: float32, shape (m,), of each patch.
    """
    step = scale.astype("f8")[:, np.newaxis]
    with np.errstate(over="ignore"):
        codes = np.rint((block - offset.astype("f8")[:, np.newaxis]) / np.where(step > 0, step, 1))
    return np.where(step > 0, np.clip(codes, 0, top), 0.0)


def best_groups(
    block: Floats,
    top: int,
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
    current: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], Floats]:
    """Return the group that distorts each patch least, and the squared error there.

    Args:
        block: float64, shape (m, k), patches.
        top: largest code.
        scale: float32, shape (groups,).
        offset: float32, shape (groups,).
        current: the groups the patches are in, which they keep unless another is better.
    """
    centres = np.stack([offset, offset + top * scale], axis=1).astype("f8")
    points = np.stack([block.min(axis=1), block.max(axis=1)], axis=1)
    tried = np.sort(_nearest(points, centres, min(CANDIDATES, len(centres))), axis=1)
    group, error = np.zeros(len(block), "i8"), np.full(len(block), np.inf)
    for begin in range(0, len(block), PART):
        part = slice(begin, begin + PART)
        columns = list(tried[part].T) if current is None else [current[part], *tried[part].T]
        for candidate in columns:
            s, o = scale[candidate], offset[candidate]
            back = code_patches(block[part], top, s, o) * s.astype("f8")[:, np.newaxis]
            found = ((back + o.astype("f8")[:, np.newaxis] - block[part]) ** 2).sum(axis=1)
            better = found < error[part]
            group[part] = np.where(better, candidate, group[part])
            error[part] = np.where(better, found, error[part])
    return group, error


def _least_distortion(
    blocks: list[Floats],
    top: int,
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    current: list[NDArray[np.int64] | None] = [None] * len(blocks)
    for _ in range(DISTORTION_ROUNDS):
        found = [
            best_groups(block, top, scale, offset, known)
            for block, known in zip(blocks, current, strict=True)
        ]
        current = [group for group, _ in found]
        scale, offset = _refit(blocks, [group for group, _ in found], top, scale, offset)
        scale, offset = _fill_empty(blocks, found, top, scale, offset)
    return scale, offset


def _refit(
    blocks: list[Floats],
    groups: list[NDArray[np.int64]],
    top: int,
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fit scale and offset of each group to its codes by least squares."""
    sums = np.zeros((5, len(scale)))  # values, codes, codes^2, x, codes * x
    for block, group in zip(blocks, groups, strict=True):
        codes = code_patches(block, top, scale[group], offset[group])
        parts = (
            np.full(len(block), float(block.shape[1])),
            codes.sum(axis=1),
            (codes * codes).sum(axis=1),
            block.sum(axis=1),
            (codes * block).sum(axis=1),
        )
        for row, part in zip(sums, parts, strict=True):
            row += np.bincount(group, weights=part, minlength=len(scale))
    n, c, cc, x, cx = sums
    spread = n * cc - c * c
    slope = np.where(spread > 0, (n * cx - c * x) / np.where(spread > 0, spread, 1), scale)
    slope = np.maximum(slope, 0)
    shift = np.where(n > 0, (x - slope * c) / np.maximum(n, 1), offset)
    return _stored(slope, shift)


def _fill_empty(
    blocks: list[Floats],
    found: list[tuple[NDArray[np.int64], Floats]],
    top: int,
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give each group without patches to one of the patches with the largest errors."""
    size = sum(np.bincount(group, minlength=len(scale)) for group, _ in found)
    empty = np.nonzero(np.asarray(size) == 0)[0]
    if not len(empty):
        return scale, offset
    error = np.concatenate([error for _, error in found])
    low = np.concatenate([block.min(axis=1) for block in blocks])
    high = np.concatenate([block.max(axis=1) for block in blocks])
    worst = np.argsort(-error, kind="stable")[: len(empty)]
    empty = empty[: len(worst)]
    scale, offset = scale.copy(), offset.copy()
    scale[empty], offset[empty] = _stored((high[worst] - low[worst]) / top, low[worst])
    return scale, offset


__all__ = [
    "PatchGroups",
    "best_groups",
    "choose_groups",
    "code_patches",
    "fit_groups",
    "k_means",
]
