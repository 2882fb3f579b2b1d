"""From samples to codes and group ids: each patch goes to the group that distorts it least."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SampleError
from dsqformat.quantize.mask import patch_grid
from dsqformat.quantize.patch.fitting import (
    PART,
    PatchGroups,
    as_unit,
    choose_groups,
    code_patches,
)
from dsqformat.quantize.patch.layout import PatchBlock, cut, join


def quantize_patches(
    values: NDArray[Any], groups: PatchGroups
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Give each patch to a group, by default the one that distorts it least, and code it.

    Args:
        values: uint8 or float32, shape (n, height, width[, channels]), finite.
        groups: as `fit_groups` found them.

    Returns:
        Codes: uint16, shape (n, values of a sample), in C order of the sample; and group ids:
        uint16, shape (n, patches), in raster order.

    Raises:
        SampleError: a value is not finite.
        ValueError: a shape or dtype is not allowed.
    """
    count, height, width = values.shape[:3]
    rows, columns = patch_grid(height, width, groups.patch)
    ids = np.zeros(count * rows * columns, "u2")
    coded = []
    for block in cut(values, groups.patch):
        unit = as_unit(block.values)
        if not np.isfinite(unit).all():
            raise SampleError("a value is NaN or infinite")
        top = (1 << groups.bits) - 1
        codes = np.empty(unit.shape, "u2")
        for begin in range(0, len(unit), PART):
            part = unit[begin : begin + PART]
            group = choose_groups(part, groups)
            ids[block.numbers[begin : begin + PART]] = group
            codes[begin : begin + PART] = code_patches(
                part, top, groups.scale[group], groups.offset[group]
            )
        coded.append(replace(block, values=codes))
    flat = join(coded, values.shape, groups.patch).reshape(count, -1)
    return flat.astype("u2", copy=False), ids.reshape(count, rows * columns)


def quantize_alone(values: NDArray[Any], bits: int, patch: int) -> NDArray[np.float32]:
    """Return samples after quantizing each patch with a range of its own (what groups approach)."""
    blocks: list[PatchBlock] = []
    top = (1 << bits) - 1
    for block in cut(values, patch):
        unit = as_unit(block.values)
        low = unit.min(axis=1, initial=np.inf).astype("f4")
        scale = ((unit.max(axis=1, initial=-np.inf) - low) / top).astype("f4")
        codes = code_patches(unit, top, scale, low).astype("f4")
        blocks.append(replace(block, values=codes * scale[:, np.newaxis] + low[:, np.newaxis]))
    return join(blocks, values.shape, patch)
