"""Where to put a value inside its interval, for every prefix of the layers (spec A.9.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.layout import dc_rounding

if TYPE_CHECKING:
    from dsqformat.coding.block.choosing import Choice


class Moments:
    """Sums of what quantization left over, by class, for every number of missing layers.

    Args:
        layers: 1 to 4.
    """

    def __init__(self, layers: int) -> None:
        self.sums = np.zeros((layers, 7))
        self.counts = np.zeros((layers, 7))

    def add(self, choice: Choice, coefs: NDArray[np.float32]) -> None:
        """Add the coefficients (in steps, shape (4, planes, height, width)) of one picture."""
        leaves = choice.leaves.repeat(4, 0).repeat(4, 1).astype("i8")
        true = np.take_along_axis(coefs, leaves[None, None], 0)[0]
        size = 4 << leaves
        y, x = np.indices(leaves.shape)
        dc = (y % size == 0) & (x % size == 0)
        layers = len(self.sums)
        for missing in range(layers):
            unit = 1 << missing
            cut = choice.codes[:, dc] + dc_rounding(layers - 1 - missing, layers) >> missing
            rest = true[:, dc] / unit - cut
            self.sums[missing, 6] += rest.sum()
            self.counts[missing, 6] += rest.size
            for chroma, planes in enumerate((slice(0, 1), slice(1, None))):
                a = np.abs(choice.codes[planes][:, ~dc]) >> missing
                there = a > 0
                left = np.abs(true[planes][:, ~dc][there]) / unit - a[there]
                index = 3 * chroma + np.minimum(a[there], 3) - 1
                self.sums[missing] += np.bincount(index, left, 7)
                self.counts[missing] += np.bincount(index, minlength=7)


def fit_offsets(moments: Moments) -> tuple[tuple[int, ...], ...]:
    """Return offsets in sixteenths for 1, 2, ... layers read, see `BlockModel.offsets`."""
    mean = moments.sums / np.maximum(moments.counts, 1)
    rounded = np.clip(np.rint(16 * mean), -8, 31).astype(int)
    rounded[0, 6] = 0
    return tuple(tuple(row) for row in rounded[::-1].tolist())
