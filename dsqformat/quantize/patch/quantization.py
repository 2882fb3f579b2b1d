"""From samples to codes and group ids (spec 10.5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SampleError
from dsqformat.quantize.patch.groups import PatchGroups, as_unit, assign, coded_in
from dsqformat.quantize.patch.layout import cut, patch_count, place
from dsqformat.quantize.patch.sampling import PART_VALUES, flat_masks, sample_parts


def quantize_patches(
    values: NDArray[Any],
    groups: PatchGroups,
    masks: Sequence[NDArray[np.bool_]] | None = None,
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Give each patch to a group, by default the one that distorts it least, and code it.

    Args:
        values: uint8 or float32, shape (n, height, width[, channels]), finite.
        groups: as `fit_groups` found them.
        masks: n boolean grids of patches (True: kept). What is left out may hold anything; its
            codes and ids are 0.

    Returns:
        Codes: uint16, shape (n, values of a sample), in C order of the sample; and group ids:
        uint16, shape (n, patches), in raster order. A sample without values has no patches.

    Raises:
        SampleError: a value is not finite.
        ValueError: a shape or dtype is not allowed.
    """
    codes = np.zeros(values.shape, "u2")
    ids = np.zeros((len(values), patch_count(values.shape[1:], groups.patch)), "u2")
    for begin, part in sample_parts(values):
        rows = slice(begin, begin + len(part))
        kept = None if masks is None else flat_masks(masks[rows])
        _quantize_part(part, groups, kept, codes[rows], ids[rows].reshape(-1), begin)
    return codes.reshape(len(values), math.prod(values.shape[1:])), ids


def _quantize_part(
    values: NDArray[Any],
    groups: PatchGroups,
    kept: NDArray[np.bool_] | None,
    codes: NDArray[np.uint16],
    ids: NDArray[np.uint16],
    first: int,
) -> None:
    for block in cut(values, groups.patch):
        found = np.empty(block.values.shape, "u1")
        step = max(1, PART_VALUES // max(1, block.values.shape[1]))
        for begin in range(0, len(found) if found.size else 0, step):
            rows = slice(begin, begin + step)
            numbers = block.numbers[rows]
            patches = as_unit(block.values[rows])
            left_out = None if kept is None else ~kept[numbers]
            if left_out is not None:
                patches[left_out] = 0
            finite = np.isfinite(patches).all(axis=1)
            if not finite.all():
                row = first + int(numbers[finite.argmin()]) // (len(ids) // len(values))
                raise SampleError(f"sample {row}: a value is NaN or infinite")
            part = assign(patches, groups)
            if left_out is not None:
                part.codes[left_out], part.group[left_out] = 0, 0
            found[rows], ids[numbers] = part.codes, part.group
        place(replace(block, values=found), codes)


def quantize_alone(values: NDArray[Any], bits: int, patch: int) -> NDArray[np.float32]:
    """Return samples after quantizing each patch with a range of its own (what groups approach).

    Args:
        values: uint8 or float32, shape (n, height, width[, channels]), finite.
        bits: 1 to 8.
        patch: side of a patch.

    Returns:
        float32, the shape of `values`, bytes as [0, 1].
    """
    back = np.zeros(values.shape, "f4")
    for block in cut(values, patch):
        unit = as_unit(block.values)
        low = unit.min(axis=1, initial=np.inf).astype("f4")
        scale = ((unit.max(axis=1, initial=-np.inf) - low) / ((1 << bits) - 1)).astype("f4")
        own = PatchGroups(bits, patch, scale, low)
        if unit.size:
            codes = coded_in(unit, own, np.arange(len(unit))).codes
            part = codes * scale[:, np.newaxis] + low[:, np.newaxis]
            place(replace(block, values=part), back)
    return back
