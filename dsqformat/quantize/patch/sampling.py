"""A bounded sample of the patches of a dataset, evenly spread over all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.quantize.patch.groups import Floats, as_unit
from dsqformat.quantize.patch.layout import cut, patch_count

# Bounds of the work of fitting: about so many patches and values (48 MB) are looked at.
FIT_PATCHES: Final = 60_000
FIT_VALUES: Final = 6_000_000
# Values that are cut into patches at a time.
PART_VALUES: Final = 1 << 18

# The golden ratio in 64 bits: multiples of it fill the circle evenly, whatever the period of rows.
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)


def sample_patches(
    values: NDArray[Any] | Sequence[NDArray[Any]],
    patch: int,
    masks: Sequence[NDArray[np.bool_]] | None = None,
) -> list[Floats]:
    """Return patches as rows of float64, one array per size of patch; bytes as byte / 255.

    Args:
        values: uint8 or float32, shape (n, height, width[, channels]), or n arrays without the
            first axis where shapes differ.
        patch: side of a patch.
        masks: n boolean grids of patches; those that are False are left out.

    Returns:
        About FIT_PATCHES patches or FIT_VALUES values, whichever is less, or all there are;
        nothing where there are no values.

    Raises:
        ValueError: a shape, dtype or side is not allowed.
    """
    shapes = [values.shape[1:]] if isinstance(values, np.ndarray) else [v.shape for v in values]
    repeat = len(values) if isinstance(values, np.ndarray) else 1
    patches = repeat * sum(patch_count(shape, patch) for shape in shapes)
    value_count = repeat * sum(map(math.prod, shapes))
    share = min(1.0, FIT_PATCHES / max(patches, 1), FIT_VALUES / max(value_count, 1))
    limit = np.uint64(min(int(share * 2.0**64), 2**64 - 1))
    rows: dict[tuple[int, ...], list[Floats]] = {}
    first = 0
    for begin, part in sample_parts(values):
        for block in cut(part, patch):
            with np.errstate(over="ignore"):
                chosen = (block.numbers + first).astype("u8") * _GOLDEN <= limit
            if masks is not None:
                chosen &= flat_masks(masks[begin : begin + len(part)])[block.numbers]
            if block.values.size and chosen.any():
                size = *block.size, block.values.shape[1]
                rows.setdefault(size, []).append(as_unit(block.values[chosen]))
        first += len(part) * patch_count(part.shape[1:], patch)
    return [np.concatenate(parts) for parts in rows.values()]


def sample_parts(
    values: NDArray[Any] | Sequence[NDArray[Any]],
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield samples of one shape, a bounded number at a time, and the number of the first."""
    if not isinstance(values, np.ndarray):
        for row, array in enumerate(values):
            yield row, array[np.newaxis]
        return
    step = max(1, PART_VALUES // max(1, math.prod(values.shape[1:])))
    for begin in range(0, len(values), step):
        yield begin, values[begin : begin + step]


def flat_masks(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Return whether each patch of some samples is kept, sample by sample in raster order."""
    return np.concatenate([np.ravel(mask) for mask in masks]).astype("?", copy=False)
