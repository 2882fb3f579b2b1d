"""Stage bits: how finely each kept sample is stored."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import RecipeError
from dsqformat.recipes.stage_options import Bits, Quantize
from dsqformat.recipes.work_directory import Made
from dsqformat.select import ranked_bit_levels, two_bit_levels

VERSION: Final = 1


def allocate_bits(
    count: int,
    options: Bits,
    quantize: Quantize,
    sensitivity: NDArray[np.float64] | None,
    labels: NDArray[np.int64] | None,
) -> Made:
    """Return the array setting: int64, shape (n,), bits (or the qp of block) of each sample.

    Args:
        count: kept samples.
        options: of the stage; not of mode budget.
        quantize: which quantizer.
        sensitivity: float64, shape (n,), where bits depend on it.
        labels: int64, shape (n,), where they are given in each class.

    Raises:
        SelectionError: bits, shares or averages are out of range.
    """
    if options.mode == "fixed":
        value = options.qp if quantize.quantizer == "block" else options.bits
        return Made({"setting": np.full(count, value, "i8")})
    if sensitivity is None:
        if options.ranked:
            raise RecipeError(f"bits.mode: {options.mode} needs [sensitivity]")
        sensitivity = np.zeros(count)
    if options.mode == "levels":
        levels = [(bits, share) for bits, share in options.levels]
        return Made({"setting": ranked_bit_levels(sensitivity, levels, labels)})
    average = None if options.average == "" else options.average
    return Made(
        {"setting": two_bit_levels(sensitivity, options.high, options.low, average, labels)}
    )
