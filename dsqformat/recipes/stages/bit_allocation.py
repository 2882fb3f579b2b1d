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
        RecipeError: no sample would have any bits.
        SelectionError: bits, shares or averages are out of range.
    """
    setting = _setting(count, options, quantize, sensitivity, labels)
    if quantize.quantizer != "block" and not setting.any():
        raise RecipeError(
            f"bits.mode: {options.mode} gives 0 bits to all {count} samples, which drops them; "
            "ask for more bits, or keep more samples (select.keep_ratio)"
        )
    return Made({"setting": setting})


def _setting(
    count: int,
    options: Bits,
    quantize: Quantize,
    sensitivity: NDArray[np.float64] | None,
    labels: NDArray[np.int64] | None,
) -> NDArray[np.int64]:
    if options.mode == "fixed":
        value = options.qp if quantize.quantizer == "block" else options.bits
        return np.full(count, value, "i8")
    if sensitivity is None:
        if options.ranked:
            raise RecipeError(f"bits.mode: {options.mode} needs [sensitivity]")
        sensitivity = np.zeros(count)
    if options.mode == "levels":
        levels = [(bits, share) for bits, share in options.levels]
        return ranked_bit_levels(sensitivity, levels, labels)
    average = None if options.average == "" else options.average
    return two_bit_levels(sensitivity, options.high, options.low, average, labels)
