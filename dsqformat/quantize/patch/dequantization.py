"""From codes and group ids to values: one call for all samples of a chunk (spec 10.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dsqformat import kernels
from dsqformat.errors import CorruptShardError
from dsqformat.quantize.mask import patch_grid
from dsqformat.wire import MAX_BIT_WIDTH, MAX_VALUES

_NO_MASK = np.empty(0, "u1")


def dequantize_patches(
    codes: NDArray[np.uint16],
    missing: NDArray[np.uint8],
    ids: NDArray[np.uint16],
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
    shapes: NDArray[np.int64],
    patch: int,
    masks: Sequence[NDArray[np.bool_]] | None = None,
    output: Literal["float32", "uint8"] = "float32",
) -> NDArray[Any]:
    """Dequantize all samples of a chunk: x = fl(fl(c' * scale[g]) + offset[g]).

    c' = code * 2^k + (2^k - 1) / 2 is the middle of what the layers read say of a code.

    Args:
        codes: uint16, the top bits of all codes, samples after one another in C order; of masked
            samples the kept values only.
        missing: uint8, shape (n,), bits k of a code in later layers, 0 to 16.
        ids: uint16, group ids of all (kept) patches, samples after one another in raster order.
        scale: float32, shape (groups,).
        offset: float32, shape (groups,).
        shapes: int64, shape (n, 2) or (n, 3): height, width[, channels].
        patch: side of a patch.
        masks: n boolean grids of patches (True: kept); None or empty: every patch is kept.
        output: "float32", or "uint8": min(255, max(0, rint(fl(x * 255)))).

    Returns:
        The values of `codes`, in their order and shape.

    Raises:
        CorruptShardError: a group id is too large.
        TypeError: codes, ids or missing bits are of a wider type.
        ValueError: the arguments do not fit together.
    """
    sizes = _sizes(shapes, missing)
    if patch < 1 or scale.ndim != 1 or scale.shape != offset.shape:
        raise ValueError(f"patches of {patch}, scale {scale.shape}, offset {offset.shape}")
    side = min(patch, MAX_VALUES)
    kept, (values, patches) = _NO_MASK, _counts(sizes, side)
    if masks is not None and len(masks):
        kept, (values, patches) = _kept(sizes, side, masks)
    if codes.size != values or ids.size != patches:
        raise ValueError(
            f"{codes.size} codes, {ids.size} group ids: expected {values} and {patches}"
        )
    arguments = (
        _flat(codes, "u2"),
        _flat(missing, "u1"),
        _flat(ids, "u2"),
        np.ascontiguousarray(scale, "f4"),
        np.ascontiguousarray(offset, "f4"),
        sizes,
        side,
        kept,
    )
    out: NDArray[Any]
    if output == "float32":
        out = np.empty(codes.size, "f4")
        fault = kernels.dequantize_patches_float32(*arguments, out)
    elif output == "uint8":
        out = np.empty(codes.size, "u1")
        fault = kernels.dequantize_patches_uint8(*arguments, out)
    else:
        raise ValueError(f"output {output!r}, expected 'float32' or 'uint8'")
    if fault >= 0:
        raise CorruptShardError(
            f"group id {fault} of the chunk is {arguments[2][fault]}, expected below {len(scale)}"
        )
    return out.reshape(codes.shape)


def _flat(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return values as one row of a dtype that holds them all.

    Raises:
        TypeError: it does not.
    """
    return np.ascontiguousarray(values.reshape(-1).astype(dtype, casting="safe", copy=False))


def _sizes(shapes: NDArray[np.int64], missing: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return height, width and channels of each sample, shape (n, 3)."""
    if shapes.ndim != 2 or shapes.shape[1] not in (2, 3) or missing.shape != (len(shapes),):
        raise ValueError(
            f"shapes {shapes.shape} and missing {missing.shape}: expected (n, 2 or 3) and (n,)"
        )
    if missing.max(initial=0) > MAX_BIT_WIDTH:
        raise ValueError(f"{missing.max()} missing bits, expected at most {MAX_BIT_WIDTH}")
    sizes = np.ones((len(shapes), 3), "i8")
    sizes[:, : shapes.shape[1]] = shapes
    # Two factors at a time, because all three may leave 64 bits.
    least, most = sizes.min(initial=0), sizes.max(initial=0)
    if least >= 0 and most <= MAX_VALUES:
        most = (sizes[:, 0] * sizes[:, 1]).max(initial=0)
        if most <= MAX_VALUES:
            most = sizes.prod(axis=1).max(initial=0)
    if least < 0 or most > MAX_VALUES:
        raise ValueError("a sample of negative size or more than 2^28 values")
    return sizes


def _counts(sizes: NDArray[np.int64], patch: int) -> tuple[int, int]:
    """Return values and patches of all samples; one without values has no patches."""
    values = sizes.prod(axis=1)
    patches = (-(-sizes[:, :2] // patch)).prod(axis=1)
    return int(values.sum()), int(patches[values > 0].sum())


def _kept(
    sizes: NDArray[np.int64], patch: int, masks: Sequence[NDArray[np.bool_]]
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return masks as bytes, after one another, and how many values and patches they keep."""
    if len(masks) != len(sizes):
        raise ValueError(f"{len(masks)} masks of {len(sizes)} samples")
    values = patches = 0
    for row, ((height, width, channels), mask) in enumerate(
        zip(sizes.tolist(), masks, strict=True)
    ):
        grid = patch_grid(height, width, patch)
        if mask.shape != grid or mask.dtype != np.bool_:
            raise ValueError(
                f"sample {row}: mask {mask.shape} of {mask.dtype}, expected {grid} of bool"
            )
        if not mask.size:
            continue  # its other side may have 2^28 patches
        tall = np.minimum(patch, height - patch * np.arange(grid[0]))
        wide = np.minimum(patch, width - patch * np.arange(grid[1]))
        values += int(tall @ mask @ wide) * channels
        patches += int(mask.sum()) if channels else 0
    kept = np.concatenate([np.ravel(mask) for mask in masks]).view("u1")
    return kept, (values, patches)
