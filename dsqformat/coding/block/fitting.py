"""From pictures to a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.choosing import LAM, Choice, Costs, check_picture, choose, costs_of
from dsqformat.coding.block.encoding import checked_qps, symbols_of
from dsqformat.coding.block.layout import (
    AC_CONTEXTS,
    CONTEXTS,
    DC_FIRST,
    MAX_LAYERS,
    MAX_TABLES,
    REFINEMENT_CONTEXTS,
    SIGN_FIRST,
    SYMBOLS,
)
from dsqformat.coding.block.model import FLAT, OFFSETS, BlockModel
from dsqformat.coding.block.reconstruction import Moments, fit_offsets
from dsqformat.coding.block.tables import fit_tables

# Models are fitted on so many values at most, in crops of so many pixels a side at most: with
# codes and coefficients that takes less than 512 MiB, whatever the pictures.
FIT_VALUES: Final = 3 << 22
FIT_SIDE: Final = 1024
SMALL_SIDE: Final = 64  # blocks of 4 and of 32 gain little up to here

Effort = Literal["default", "high"]


@dataclass(frozen=True, slots=True)
class Options:
    """How to encode.

    Attributes:
        layers: 1 to 4.
        sizes: smallest and largest block size in pixels, or None for what `effort` says.
        lam: rate against distortion, squared steps per bit; None for what the layers want.
        passes: passes over the sample in fitting.
        weights: 16 numbers of 64ths of the step, see `BlockModel`; flat by default.
        max_tables: at most so many tables per layer.
        effort: `default` tries blocks of 8 and 16 pixels on pictures of up to 64 pixels of side, of
            4 to 32 on larger ones; `high` tries 4 to 32 on all. On crops of 32x32 that takes 2 %
            of the bytes away at equal error; encoding takes 1.5 times as long, decoding 3 % more.
    """

    layers: int = 1
    sizes: tuple[int, int] | None = None
    lam: float | None = None
    passes: int = 3
    weights: tuple[int, ...] = FLAT
    max_tables: int = 160
    effort: Effort = "default"


def fit(
    pictures: Sequence[NDArray[np.uint8]],
    qp: int | Sequence[int] | NDArray[np.integer[Any]],
    options: Options | None = None,
) -> BlockModel:
    """Fit a model to some pictures, at most FIT_VALUES values of them.

    Args:
        pictures: uint8, shape (height, width, planes) each.
        qp: 0 to 175, for all or one each.
        options: see `Options`.

    Returns:
        A model for these pictures and others like them.

    Raises:
        SampleError: a picture cannot be encoded.
        ValueError: no pictures, or wrong options.
    """
    options = options or Options()
    sample, qps = fitting_sample(pictures, qp)
    model = _blank(sample, options)
    search = _first_costs()
    lam = LAM[options.layers - 1] if options.lam is None else options.lam
    passes = max(1, options.passes)
    moments = Moments(options.layers)
    for number in range(1, passes + 1):
        counts = np.zeros((CONTEXTS, SYMBOLS), "i8")
        choices = []
        for choice, coefs in choose(model, sample, qps, lam, search):
            choices.append(choice)
            counts += _histogram(model, choice, 0, 1)
            if number == passes:
                moments.add(choice, coefs)
        tables = fit_tables(counts, options.max_tables)
        search = costs_of(tables, options.layers)
        model = replace(model, layers=(tables,), search=tables)
    model = replace(model, offsets=fit_offsets(moments))
    if options.layers > 1:
        layers = []
        for layer in range(options.layers):
            contexts = REFINEMENT_CONTEXTS if layer else CONTEXTS
            counts = np.zeros((contexts, SYMBOLS), "i8")
            for choice in choices:
                counts += _histogram(model, choice, layer, options.layers)
            layers.append(fit_tables(counts, options.max_tables))
        model = replace(model, layers=tuple(layers))
    return model


def _histogram(model: BlockModel, choice: Choice, layer: int, layers: int) -> NDArray[np.int64]:
    """Return how often each symbol stands in each context, shape (contexts, 32)."""
    symbols = symbols_of(model, [choice], layer, layers)
    contexts = REFINEMENT_CONTEXTS if layer else CONTEXTS
    counts = np.bincount(symbols[symbols >= 0], minlength=contexts * SYMBOLS)
    return counts.reshape(contexts, SYMBOLS)


def _first_costs() -> Costs:
    """Return costs to begin with: a guess for AC, for DC and for the rest."""
    k = np.arange(SYMBOLS)
    ac = np.minimum(1.5 * k - 0.5, 14)
    ac[:2] = 0.5, 2.5
    costs = np.stack([ac, np.minimum(k * 0.5 + 2, 12), np.ones(SYMBOLS)]).astype("f4")
    map_ = np.full(CONTEXTS, 2 * SYMBOLS, "u2")
    map_[:AC_CONTEXTS] = 0
    map_[DC_FIRST:SIGN_FIRST] = SYMBOLS
    return map_, costs.ravel()


def _blank(sample: Sequence[NDArray[np.uint8]], options: Options) -> BlockModel:
    """Return a model without tables for pictures like these."""
    planes = sample[0].shape[2]
    sizes = options.sizes
    if sizes is None:
        small = max(max(p.shape[:2]) for p in sample) <= SMALL_SIDE
        sizes = (8, 16) if small and options.effort == "default" else (4, 32)
    known = {4: 0, 8: 1, 16: 2, 32: 3}
    if not 1 <= options.layers <= MAX_LAYERS or not set(sizes) <= set(known):
        raise ValueError(f"layers {options.layers}, sizes {sizes}: expected 1 to 4, of 4 to 32")
    if options.effort not in get_args(Effort):
        raise ValueError(f"effort {options.effort!r}, expected default or high")
    if sizes[0] > sizes[1] or not 1 <= options.max_tables <= MAX_TABLES:
        raise ValueError(
            f"sizes {sizes}, max_tables {options.max_tables}: expected the smaller size first, "
            f"1 to {MAX_TABLES} tables"
        )
    if len(options.weights) != len(FLAT) or not all(1 <= w <= 255 for w in options.weights):
        raise ValueError(f"weights {options.weights}, expected 16 of 1 to 255")
    total = sum(p.reshape(-1, planes).sum(0, dtype="i8") for p in sample)
    count = sum(p.shape[0] * p.shape[1] for p in sample)
    offsets = np.rint(16 * np.asarray(total) / count).astype(int).tolist()
    empty = (0,) * OFFSETS
    return BlockModel(
        planes, planes == 3, known[sizes[0]], known[sizes[1]], tuple(offsets), options.weights,
        (empty,) * options.layers, (),
    )  # fmt: skip


def fitting_sample(
    pictures: Sequence[NDArray[np.uint8]], qp: int | Sequence[int] | NDArray[np.integer[Any]]
) -> tuple[list[NDArray[np.uint8]], NDArray[np.int64]]:
    """Return pictures evenly spread over all, cropped, of FIT_VALUES at most."""
    if not len(pictures):
        raise ValueError("no pictures to fit a model on")
    qps = checked_qps(pictures, qp)
    for i, picture in enumerate(pictures):
        check_picture(i, picture, pictures[0].shape[-1])
    side = min(FIT_SIDE, math.isqrt(FIT_VALUES // pictures[0].shape[2]))
    sizes = [min(p.shape[0], side) * min(p.shape[1], side) * p.shape[2] for p in pictures]
    keep = max(1, min(len(pictures), int(len(pictures) * FIT_VALUES / sum(sizes))))
    chosen, left = [], FIT_VALUES
    for i in (len(pictures) * i // keep for i in range(keep)):
        if sizes[i] <= left:
            chosen.append(i)
            left -= sizes[i]
    cropped = []
    for i in chosen:
        top = max(0, pictures[i].shape[0] - side) // 2
        first = max(0, pictures[i].shape[1] - side) // 2
        cropped.append(pictures[i][top : top + side, first : first + side])
    return cropped, qps[chosen]
