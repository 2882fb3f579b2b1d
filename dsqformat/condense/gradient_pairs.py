"""Two gradients of each sample, kept as their product, their norms and their distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import ModelError
from dsqformat.select import gradient_distance_from_sums


@dataclass(frozen=True)
class GradientPairs:
    """What is kept of gradients g1 (original) and g2 (quantized) of n samples.

    Attributes:
        dot: float64, shape (n,), g1 . g2.
        square_1: float64, shape (n,), |g1|^2.
        square_2: float64, shape (n,), |g2|^2.
        distance: float64, shape (n,), |g1 - g2|^2, summed from differences.
    """

    dot: NDArray[np.float64]
    square_1: NDArray[np.float64]
    square_2: NDArray[np.float64]
    distance: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.dot)

    def __add__(self, other: GradientPairs) -> GradientPairs:
        """Return the pairs of two sets of parameters together."""
        return GradientPairs(
            self.dot + other.dot,
            self.square_1 + other.square_1,
            self.square_2 + other.square_2,
            self.distance + other.distance,
        )

    def cosine_distance(self) -> NDArray[np.float64]:
        """Return S = 1 - cos(g1, g2) of each sample (Yu & Yu, equations 8 to 10).

        1 - cos cancels where gradients nearly agree, as most do. The equal expression
        (|g1 - g2|^2 - (|g1| - |g2|)^2) / (2 |g1| |g2|) does not.

        Returns:
            float64, shape (n,), of [0, 2]: 0 where both gradients are zero, 1 where one is.

        Raises:
            ModelError: a gradient is NaN or infinite.
        """
        finite = np.isfinite(self.distance) & np.isfinite(self.square_1 + self.square_2)
        if not finite.all():
            raise ModelError(
                f"sample {int(finite.argmin())}: its gradient is NaN or infinite; look at its "
                "values and at the weights of the network"
            )
        return gradient_distance_from_sums(self.distance, self.square_1, self.square_2)


def rank_one_pairs(
    left_1: NDArray[np.float64],
    right_1: NDArray[np.float64],
    left_2: NDArray[np.float64],
    right_2: NDArray[np.float64],
) -> GradientPairs:
    """Return the pairs of gradients l1 r1^T and l2 r2^T, which are never made.

    Args:
        left_1: float64, shape (n, p).
        right_1: float64, shape (n, q).
        left_2: float64, shape (n, p).
        right_2: float64, shape (n, q).
    """
    left, right = left_1 - left_2, right_1 - right_2
    square_right_1, square_left_2 = _product(right_1, right_1), _product(left_2, left_2)
    # l1 r1^T - l2 r2^T = (l1 - l2) r1^T + l2 (r1 - r2)^T
    distance = (
        _product(left, left) * square_right_1
        + square_left_2 * _product(right, right)
        + 2 * _product(left, left_2) * _product(right_1, right)
    )
    return GradientPairs(
        _product(left_1, left_2) * _product(right_1, right_2),
        _product(left_1, left_1) * square_right_1,
        square_left_2 * _product(right_2, right_2),
        np.maximum(distance, 0),
    )


def joined_pairs(parts: Sequence[GradientPairs]) -> GradientPairs:
    """Return the pairs of all samples of several batches, in their order."""
    return GradientPairs(
        *(
            np.concatenate([getattr(part, name) for part in parts]) if parts else np.empty(0)
            for name in ("dot", "square_1", "square_2", "distance")
        )
    )


def _product(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.einsum("ij,ij->i", one, other)
    return found
