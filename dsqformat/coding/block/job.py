"""What one call decodes, and coefficients as a result."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.model import BlockModel


@dataclass(frozen=True, slots=True)
class Job:
    """Streams of some samples, checked against each other and against the limits.

    Attributes:
        model: of the shard.
        data: uint8, shape (nbytes,).
        starts: int64, shape (layers, streams), where streams begin in `data`.
        ends: int64, likewise, where they end.
        shapes: int32, shape (n, 2), heights and widths.
        qps: int64, shape (n,).
        samples_per_stream: samples in each stream; the last may have fewer.
    """

    model: BlockModel
    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    shapes: NDArray[np.int32]
    qps: NDArray[np.int64]
    samples_per_stream: int


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Dequantized coefficients of some samples, before the inverse transforms.

    Attributes:
        values: float32, one dimension, whole numbers c of spec A.9.1: for each sample an array of
            shape (planes, padded height, padded width) in C order, where each block stands in the
            place of its pixels, vertical frequencies downwards.
        leaves: uint8, one dimension: for each sample an array of shape (padded height / 4, padded
            width / 4), the index (0 to 3 for 4 to 32) of the block size of each cell.
        shapes: int32, shape (n, 2), padded heights and widths.
        firsts: int64, shape (n,), where samples begin in `values`; in `leaves` they begin at
            firsts // (16 * planes).
    """

    values: NDArray[np.float32]
    leaves: NDArray[np.uint8]
    shapes: NDArray[np.int32]
    firsts: NDArray[np.int64]


def empty_coefficients(job: Job) -> Coefficients:
    """Return zeros for the coefficients of a job."""
    unit = 4 << job.model.smallest
    shapes = -(-job.shapes // unit) * unit
    counts = shapes[:, 0].astype("i8") * shapes[:, 1] * job.model.planes
    total = int(counts.sum())
    return Coefficients(
        np.zeros(total, "f4"),
        np.zeros(total // (16 * job.model.planes), "u1"),
        shapes,
        np.cumsum(counts) - counts,
    )
