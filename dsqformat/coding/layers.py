"""Codes cut into nested layers, most significant bit planes first (spec 9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat import kernels


def layer_widths(stored_widths: NDArray[np.uint8], plan: Sequence[int]) -> NDArray[np.uint8]:
    """Return the bits of a code in each layer.

    Args:
        stored_widths: uint8, shape (n,), bits of a code.
        plan: widths of all layers but the last, which takes the rest.

    Returns:
        uint8, shape (n, layers).
    """
    rest = stored_widths.astype("i4")
    widths = np.empty((len(rest), len(plan) + 1), "u1")
    for layer, width in enumerate(plan):
        widths[:, layer] = np.minimum(rest, width)
        rest = rest - widths[:, layer]
    widths[:, -1] = rest
    return widths


def split_codes(
    codes: NDArray[np.uint16], counts: NDArray[np.int64], widths: NDArray[np.uint8]
) -> list[NDArray[Any]]:
    """Cut codes into layers.

    Args:
        codes: uint16, all samples after one another.
        counts: int64, shape (n,), codes per sample.
        widths: uint8, shape (n, layers).

    Returns:
        Per layer the values of the samples that have bits in it; uint8 if 8 bits suffice for
        all of them, else uint16.

    Raises:
        ValueError: the arguments do not fit together.
    """
    codes = np.ascontiguousarray(codes, "u2")
    counts = np.ascontiguousarray(counts, "i8")
    total = int(counts.sum())
    if widths.shape[:1] != counts.shape or counts.min(initial=0) < 0 or codes.shape != (total,):
        raise ValueError(
            f"{codes.shape} codes for {total} values of {len(counts)} samples, "
            f"{widths.shape} widths"
        )
    layers: list[NDArray[Any]] = []
    below = widths.sum(axis=1, dtype="i4")
    for layer in range(widths.shape[1]):
        width = np.ascontiguousarray(widths[:, layer], "u1")
        below = below - width
        there = int(counts[width > 0].sum())
        narrow = width.max(initial=0) <= 8
        split = kernels.split_uint8 if narrow else kernels.split_uint16
        values: NDArray[Any] = np.empty(there, "u1" if narrow else "u2")
        split(codes, counts, below.astype("u1"), width, values)
        layers.append(values)
    return layers
