"""Groups of patches that share scale and offset, and which group a patch goes to (spec 10.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dsqformat import kernels

Method = Literal["distortion", "min_max", "compat"]
Floats = NDArray[np.float64]

MAX_BITS: Final = 8
# Groups a patch is tried with: with 16 of 256 the error is 0.04 dB above that of all.
CANDIDATES: Final = 16

_NO_GROUPS: Final = np.empty(0, "i8")


@dataclass(frozen=True)
class PatchGroups:
    """Parameters of all groups; a code c of group g stands for fl(fl(c * scale) + offset).

    Attributes:
        bits: 1 to 8 bits of a code.
        patch: side p of a patch.
        scale: float32, shape (groups,), at least 0.
        offset: float32, shape (groups,).
        method: how the encoder finds the group of a patch; decoders do not need it.
        centres: float64, shape (groups, 2), the features of the patches of a group on average;
            None: what codes 0 and 2^bits - 1 stand for.
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
    def top(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    @property
    def id_bits(self) -> int:
        """Bits of a group id: ceil(log2(groups))."""
        return (len(self) - 1).bit_length()


@dataclass(frozen=True)
class Assignment:
    """The groups of m patches of k values.

    Attributes:
        group: int64, shape (m,).
        error: float64, shape (m,), squared error of each patch after quantization.
        codes: uint8, shape (m, k).
    """

    group: NDArray[np.int64]
    error: Floats
    codes: NDArray[np.uint8]


def assign(
    patches: Floats, groups: PatchGroups, current: NDArray[np.int64] | None = None
) -> Assignment:
    """Give patches to groups as the method of the groups has it, and code them.

    Args:
        patches: float64, shape (m, k), k at least 1, finite, in units of the decoder.
        groups: as `fit_groups` found them.
        current: groups that patches leave only for a better one ("distortion" only).
    """
    centres = range_centres(groups) if groups.centres is None else groups.centres
    if groups.method == "distortion":
        start = _NO_GROUPS if current is None else current
        return _chosen(patches, groups, centres, start, min(CANDIDATES, len(groups)))
    low, high = patches.min(axis=1), patches.max(axis=1)
    return coded_in(
        patches, groups, nearest(features(low, high, groups.top, groups.method), centres)
    )


def coded_in(patches: Floats, groups: PatchGroups, group: NDArray[np.int64]) -> Assignment:
    """Code patches in groups that are known.

    Args:
        patches: float64, shape (m, k), finite, in units of the decoder.
        groups: any.
        group: int64, shape (m,), below `len(groups)`.
    """
    return _chosen(patches, groups, np.zeros((0, 2)), group, 0)


def _chosen(
    patches: Floats, groups: PatchGroups, centres: Floats, start: NDArray[np.int64], tried: int
) -> Assignment:
    count, size = patches.shape
    found = Assignment(np.empty(count, "i8"), np.empty(count), np.empty((count, size), "u1"))
    kernels.choose_groups(
        np.ascontiguousarray(patches, "f8"),
        groups.top,
        np.ascontiguousarray(groups.scale, "f4"),
        np.ascontiguousarray(groups.offset, "f4"),
        np.ascontiguousarray(centres.T, "f8"),
        np.ascontiguousarray(start, "i8"),
        tried,
        found.group,
        found.error,
        found.codes,
    )
    return found


def features(low: Floats, high: Floats, top: int, method: Method) -> Floats:
    """Return what patches are compared by, shape (m, 2): range, or step and zero point.

    Args:
        low: shape (m,), smallest values.
        high: shape (m,), largest values.
        top: the largest code.
        method: "compat" has step and zero point.
    """
    if method != "compat":
        return np.stack([low, high], axis=1)
    # A constant patch has no step: take the least that differs in bytes.
    step = np.maximum((high - low) / top, 1 / (255 * top))
    return np.stack([step, np.rint(-low / step)], axis=1)


def range_centres(groups: PatchGroups) -> Floats:
    """Return the features of a patch that just fills the range of its group, by group."""
    low = groups.offset.astype("f8")
    return features(low, low + groups.top * groups.scale.astype("f8"), groups.top, groups.method)


def nearest(points: Floats, centres: Floats) -> NDArray[np.int64]:
    """Return the nearest centre of each point, the lowest where they tie.

    Args:
        points: float64, shape (m, 2).
        centres: float64, shape (c, 2).
    """
    found = np.empty(len(points), "i8")
    kernels.find_nearest(np.ascontiguousarray(points.T), np.ascontiguousarray(centres.T), found)
    return found


def as_unit(values: NDArray[Any]) -> Floats:
    """Return values in the units of the decoder: bytes divided by 255, floats as they are.

    Raises:
        ValueError: a dtype other than uint8 and float32.
    """
    if values.dtype == np.uint8:
        return values / 255.0
    if values.dtype == np.float32:
        return values.astype("f8")
    raise ValueError(f"patch: dtype {values.dtype}, expected uint8 or float32")
