"""From codes and group ids to values: one call for all samples of a chunk (spec 10.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dsqformat import kernels
from dsqformat.errors import CorruptShardError
from dsqformat.wire import MAX_VALUES

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
        ValueError: the arguments do not fit together.
    """
    sizes, kept = _checked(codes, missing, ids, scale, offset, shapes, patch, masks)
    arguments = (
        np.ascontiguousarray(codes.reshape(-1), "u2"),
        np.ascontiguousarray(missing, "u1"),
        np.ascontiguousarray(ids.reshape(-1), "u2"),
        np.ascontiguousarray(scale, "f4"),
        np.ascontiguousarray(offset, "f4"),
        sizes,
        min(patch, MAX_VALUES),
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


def _checked(
    codes: NDArray[np.uint16],
    missing: NDArray[np.uint8],
    ids: NDArray[np.uint16],
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
    shapes: NDArray[np.int64],
    patch: int,
    masks: Sequence[NDArray[np.bool_]] | None,
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Check that all lengths agree; return shapes of three dimensions and the masks as bytes."""
    if shapes.ndim != 2 or shapes.shape[1] not in (2, 3) or missing.shape != (len(shapes),):
        raise ValueError(
            f"shapes {shapes.shape} and missing {missing.shape}: expected (n, 2 or 3) and (n,)"
        )
    if patch < 1 or scale.ndim != 1 or scale.shape != offset.shape:
        raise ValueError(f"patches of {patch}, scale {scale.shape}, offset {offset.shape}")
    if missing.max(initial=0) > 16:
        raise ValueError(f"{missing.max()} missing bits, expected at most 16")
    sizes = np.ones((len(shapes), 3), "i8")
    sizes[:, : shapes.shape[1]] = shapes
    if len(sizes) and not (sizes.min() >= 0 and sizes.max() <= MAX_VALUES):
        raise ValueError(f"sides {sizes.min()} to {sizes.max()}, expected 0 to 2^28")
    side = min(patch, MAX_VALUES)
    grids = -(-sizes[:, :2] // side)
    kept = _NO_MASK
    values = patches = 0
    for row, (height, width, channels) in enumerate(sizes.tolist()):
        rows, columns = grids[row].tolist()
        if masks:
            mask = masks[row]
            if mask.shape != (rows, columns):
                raise ValueError(f"sample {row}: mask {mask.shape}, expected {(rows, columns)}")
            tall = np.minimum(side, height - np.arange(rows) * side)
            wide = np.minimum(side, width - np.arange(columns) * side)
            values += int(tall @ mask @ wide) * channels
            patches += int(mask.sum()) if channels else 0
        else:
            values += height * width * channels
            # A sample without values has no patches.
            patches += rows * columns if channels else 0
    if masks:
        if len(masks) != len(sizes):
            raise ValueError(f"{len(masks)} masks of {len(sizes)} samples")
        kept = np.concatenate([np.ravel(mask) for mask in masks]).astype("u1")
    if codes.size != values or ids.size != patches:
        raise ValueError(
            f"{codes.size} codes, {ids.size} group ids: expected {values} and {patches}"
        )
    return sizes, kept
