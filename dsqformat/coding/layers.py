"""Codes cut into nested layers, most significant bit planes first (spec 9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def layer_widths(stored_widths: NDArray[np.uint8], plan: Sequence[int]) -> NDArray[np.uint8]:
    """Return the bits of a code in each layer.

    Args:
        stored_widths: uint8, shape (n,), bits of a code.
        plan: widths of all layers but the last.

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
    codes: NDArray[Any], counts: NDArray[np.int64], widths: NDArray[np.uint8]
) -> list[NDArray[Any]]:
    """Cut codes into layers.

    Args:
        codes: uint16, all samples after one another.
        counts: int64, shape (n,), codes per sample.
        widths: uint8, shape (n, layers).

    Returns:
        Per layer the values of the samples that have bits in it; uint8 if 8 bits suffice for
        all of them, else uint16.
    """
    layers = []
    below = widths.sum(axis=1, dtype="i4")
    for layer in range(widths.shape[1]):
        width = widths[:, layer].astype("i4")
        below = below - width
        used = width > 0
        if (below == below[0]).all() and (width == width[0]).all():
            values = (codes >> np.uint16(below[0])) & np.uint16((1 << int(width[0])) - 1)
            values = values if used[0] else values[:0]
        else:
            shift = np.repeat(below, counts).astype("u2")
            mask = np.repeat((1 << width) - 1, counts).astype("u2")
            values = ((codes >> shift) & mask)[np.repeat(used, counts)]
        layers.append(values.astype("u1") if width.max(initial=0) <= 8 else values)
    return layers
