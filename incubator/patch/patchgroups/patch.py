"""`patch`: codes of p x p patches with the parameters of shared groups (Tran & Bae; SPEC 7)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from patchgroups.patch_groups import (
    PART,
    PatchGroups,
    as_unit,
    choose_groups,
    code_patches,
)
from patchgroups.patch_layout import PatchBlock, cut, join, patch_count


@dataclass(frozen=True)
class PatchCodes:
    """Codes of samples of one shape.

    Attributes:
        codes: uint8, shape of the samples (n, height, width[, channels]).
        group_ids: uint16, shape (n, rows of patches, columns of patches).
    """

    codes: NDArray[np.uint8]
    group_ids: NDArray[np.uint16]


def quantize(values: NDArray[Any], groups: PatchGroups) -> PatchCodes:
    """Give each patch to a group, by default the one that distorts it least, and code it.

    Args:
        values: uint8 or float32, shape (n, height, width[, channels]), finite.
        groups: as `fit_groups` found them.

    Raises:
        ValueError: a value is not finite, or shape or dtype are not allowed.
    """
    grid = patch_count(values.shape[1], values.shape[2], groups.patch)
    ids = np.zeros(len(values) * grid[0] * grid[1], "u2")
    coded = []
    for block in cut(values, groups.patch):
        unit = as_unit(block.values)
        if not np.isfinite(unit).all():
            raise ValueError("a value is NaN or infinite")
        top = (1 << groups.bits) - 1
        codes = np.empty(unit.shape, "u1")
        for begin in range(0, len(unit), PART):
            part = unit[begin : begin + PART]
            group = choose_groups(part, groups)
            ids[block.numbers[begin : begin + PART]] = group
            codes[begin : begin + PART] = code_patches(
                part, top, groups.scale[group], groups.offset[group]
            )
        coded.append(replace(block, values=codes))
    return PatchCodes(join(coded, values.shape, groups.patch), ids.reshape(len(values), *grid))


def dequantize(coded: PatchCodes, groups: PatchGroups) -> NDArray[np.float32]:
    """Return what codes stand for: float32, fl(fl(code * scale) + offset), in [0, 1] for bytes.

    Raises:
        ValueError: a group id or a code is too large, or shapes do not fit together.
    """
    shape = coded.codes.shape
    grid = patch_count(shape[1], shape[2], groups.patch)
    if coded.group_ids.shape != (shape[0], *grid):
        raise ValueError(f"group ids {coded.group_ids.shape}, expected {(shape[0], *grid)}")
    if coded.group_ids.max(initial=0) >= len(groups):
        raise ValueError(f"group id {coded.group_ids.max()} of {len(groups)} groups")
    if int(coded.codes.max(initial=0)) >> groups.bits:
        raise ValueError(f"code {coded.codes.max()} of {groups.bits} bits")
    scale = _per_pixel(groups.scale[coded.group_ids], shape, groups.patch)
    offset = _per_pixel(groups.offset[coded.group_ids], shape, groups.patch)
    product: NDArray[np.float32] = coded.codes.astype("f4") * scale
    return product + offset


def _per_pixel(
    parameter: NDArray[np.float32], shape: tuple[int, ...], patch: int
) -> NDArray[np.float32]:
    wide = parameter.repeat(patch, axis=1).repeat(patch, axis=2)[:, : shape[1], : shape[2]]
    return wide.reshape(*shape[:3], *([1] * (len(shape) - 3)))


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


# Storage ---------------------------------------------------------------------------------------


def storage_bits(
    value_count: int, patches: int, samples: int, bits: int, group_count: int
) -> dict[str, int]:
    """Return the bits of the formula of the paper, without entropy coding.

    Args:
        value_count: values of a sample.
        patches: patches of a sample.
        samples: samples of the dataset.
        bits: bits of a code.
        group_count: G.

    Returns:
        "codes", "group_ids", "parameters" (64 bits per group) and their sum "total".
    """
    codes = value_count * bits * samples
    ids = samples * patches * (group_count - 1).bit_length()
    return {
        "codes": codes,
        "group_ids": ids,
        "parameters": 64 * group_count,
        "total": codes + ids + 64 * group_count,
    }


def largest_group_count(
    budget_nbytes: int, value_count: int, patches: int, samples: int, bits: int, limit: int = 65536
) -> int:
    """Return the largest G whose storage fits a budget, at most one group per patch.

    Args:
        budget_nbytes: bytes for the dataset, by the formula of `storage_bits`.
        value_count: values of a sample.
        patches: patches of a sample.
        samples: samples of the dataset.
        bits: bits of a code.
        limit: largest G to return.

    Raises:
        ValueError: not even one group fits.
    """
    limit = min(limit, patches * samples)
    best = 0
    for id_bits in range(17):
        fixed = value_count * bits * samples + samples * patches * id_bits
        count = min((8 * budget_nbytes - fixed) // 64, 1 << id_bits, limit)
        if count >= 1 and (count - 1).bit_length() <= id_bits:
            best = max(best, count)
    if not best:
        raise ValueError(f"{budget_nbytes} bytes hold not one group and the codes")
    return best
