"""Models from a sample of codes: least squares for prediction and error, then tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat import kernels
from dsqformat.coding.rans.clustering import cluster_contexts
from dsqformat.coding.rans.geometry import (
    THRESHOLDS,
    Grid,
    bin_count,
    energy_taps,
    grid_of,
    predictor_size,
    predictor_taps,
    symbol_count,
)
from dsqformat.coding.rans.layer_codes import LayerCodes, layer_codes, scratch
from dsqformat.coding.rans.layer_model import MAX_WEIGHT, LayerModel
from dsqformat.coding.rans.masking import ALL_KEPT, PatchMasks, spread_out
from dsqformat.coding.rans.model import MAX_CONFIGS, PixelModel
from dsqformat.kernels.plain_layout import ENERGY, LEVELS

# Values looked at for weights and for tables: what bounds time and memory of fitting.
WEIGHT_VALUES: Final = 100_000
TABLE_VALUES: Final = 6_000_000
# Rows of a sample that are looked at where not everything is: many pictures teach more than few.
BAND_ROWS: Final = 64
# Parts of the golden ratio spread the bands over the height of pictures.
GOLDEN: Final = 0.618034
ROBUST_ROUNDS: Final = 2
# Columns of `seen`, from behind: gradient, activity, error and the value less the middle.
GRADIENT, ACTIVITY, ERROR, TRUTH = -4, -3, -2, -1
ERRORS: Final = 24
# A class of activity costs about 200 bytes of weights: it takes this many values to earn them back.
CLASS_VALUES: Final = 150_000
# Rows multiplied at once: BLAS starts no threads for so few. For thin matrices they spend ten times
# the work in waiting for each other, and chunks are encoded on all cores as it is.
FEW_ROWS: Final = 32
FEW_PARTS: Final = 256
# Where no later layer has been seen yet, classes help less.
MAX_CLASSES, MAX_FIRST_CLASSES = 6, 3


def fit(
    codes: NDArray[np.uint16],
    shape: NDArray[np.int64],
    layer_width: NDArray[np.uint8],
    *,
    masks: PatchMasks | None = None,
    complete: bool = False,
) -> PixelModel:
    """Fit the model of a field to some of its samples.

    Work and memory are bounded: of more than TABLE_VALUES values, BAND_ROWS rows of each sample are
    looked at, until there are as many.

    Args:
        codes: uint16, all samples after one another, complete codes; of masked samples those that
            are kept.
        shape: int64, shape (n, rank), dimensions of each sample.
        layer_width: uint8, shape (n, layers), bits of each layer; their sum is the stored width.
        masks: what is left out; None: nothing.
        complete: True if the model will code nothing but these samples: rarer symbols then cost
            nothing, and other samples may turn out not to be codable.

    Raises:
        ValueError: the arguments do not fit together, shapes cannot be laid out, or there is
            nothing to code.
    """
    grid = grid_of(shape)
    if len(layer_width) != len(grid):
        raise ValueError(f"{len(layer_width)} widths for {len(grid)} samples")
    kept = ALL_KEPT if masks is None else masks.kept
    codes = spread_out(codes, kept, grid, layer_width.sum(axis=1))
    whole = complete and len(codes) <= TABLE_VALUES
    if len(codes) > TABLE_VALUES:
        codes, kept, grid = _bands(codes, kept, grid)
        layer_width = layer_width[: len(grid)]
    layers: list[LayerModel] = []
    for layer in range(layer_width.shape[1]):
        known = layer_width[:, :layer].sum(axis=1, dtype="i8")
        pairs = {*zip(known.tolist(), layer_width[:, layer].tolist(), strict=True)}
        for above, bits in pairs:
            if bits and (above, bits) not in {(done.above, done.bits) for done in layers}:
                wanted = (known == above) & (layer_width[:, layer] == bits)
                chosen = layer_codes(codes, grid, layer_width, layer, kept).only(wanted)
                layers.append(_fit_layer(chosen, above, bits, complete=whole))
    if not layers or len(layers) > MAX_CONFIGS:
        raise ValueError(f"{len(layers)} kinds of layer, expected 1 to {MAX_CONFIGS}")
    layers.sort(key=lambda model: (model.above, model.bits))
    return PixelModel(grid.channels, tuple(layers))


def _bands(
    codes: NDArray[np.uint16], kept: NDArray[np.uint8], grid: Grid
) -> tuple[NDArray[np.uint16], NDArray[np.uint8], Grid]:
    """Return some rows of the first samples, at most about TABLE_VALUES values."""
    heights = np.minimum(grid.heights, BAND_ROWS)
    used = np.cumsum(heights * grid.widths * grid.channels)
    count = max(1, int(np.searchsorted(used, TABLE_VALUES, "right")))
    starts = np.cumsum(grid.counts) - grid.counts
    parts = []
    for i in range(count):
        row = int(grid.widths[i]) * grid.channels
        top = int((i + 1) * GOLDEN % 1.0 * (int(grid.heights[i] - heights[i]) + 1))
        begin = int(starts[i]) + top * row
        parts.append(slice(begin, begin + int(heights[i]) * row))
    if len(kept):
        by = grid.channels
        kept = np.concatenate([kept[part.start // by : part.stop // by] for part in parts])
    found = np.concatenate([codes[part] for part in parts])
    return found, kept, Grid(heights[:count], grid.widths[:count], grid.channels)


def _fit_layer(source: LayerCodes, above: int, bits: int, *, complete: bool) -> LayerModel:
    channels = source.grid.channels
    model = LayerModel(
        above,
        bits,
        np.zeros(0, "i8"),
        np.zeros((1, channels), "i4"),
        np.zeros((1, channels, predictor_size(channels)), "i2"),
        np.zeros((channels, ENERGY), "i2"),
        np.arange(1, THRESHOLDS + 1),
        np.ones((1, symbol_count(bits)), "u1"),
        np.zeros(channels * LEVELS * bin_count(bits), "u2"),
    )
    model = _fit_weights(source, model)
    model = _fit_energy(source, model)
    contexts, symbols, _, _ = _trace(source, model)
    size = symbol_count(bits)
    histogram = np.bincount(
        contexts.astype("i8") * size + symbols, minlength=len(model.table_of) * size
    ).reshape(-1, size)
    grades, table_of = cluster_contexts(histogram, complete=complete)
    return replace(model, grades=grades, table_of=table_of)


def _trace(source: LayerCodes, model: LayerModel, *, watch: bool = False) -> tuple[Any, ...]:
    tables = PixelModel(source.grid.channels, (model,)).kernel_tables
    count = source.coded_count
    contexts, symbols = np.empty(count, "i4"), np.empty(count, "u1")
    extras = np.empty(count, "u2")
    pixels = count // source.grid.channels
    every = _pixel_step(pixels, source.grid)
    rows = -(-pixels // every) * source.grid.channels if watch else 0
    width = predictor_size(source.grid.channels) + ERRORS + 4
    seen = np.zeros((rows, width), "i4")
    kernels.trace(
        source.codes,
        source.first,
        source.grid.heights,
        source.grid.widths,
        np.zeros(len(source.grid), "i4"),
        source.grid.channels,
        tables.numbers,
        tables.borders,
        tables.weights,
        tables.bias,
        tables.energy,
        tables.mixes,
        tables.constants,
        tables.levels,
        *scratch(source.grid, 1),
        contexts,
        symbols,
        extras,
        seen,
        every,
        source.kept,
    )
    return contexts, symbols, extras, seen


def _pixel_step(pixels: int, grid: Grid) -> int:
    """Return a distance of pixels that looks at about WEIGHT_VALUES values.

    It has no divisor in common with a width, or some columns would be seen more than others.
    """
    step = -(-pixels * grid.channels // WEIGHT_VALUES)
    widths = np.unique(grid.widths)
    while step > 1 and (np.gcd(widths, step) > 1).any() and step < pixels:
        step += 1
    return max(1, step)


def _fit_weights(source: LayerCodes, model: LayerModel) -> LayerModel:
    """Least squares with less weight to outliers; nearly what least absolute error would give."""
    channels = source.grid.channels
    seen = _trace(source, model, watch=True)[3]
    most = MAX_CLASSES if model.above else MAX_FIRST_CLASSES
    classes = int(np.clip(source.coded_count // CLASS_VALUES, 1, most))
    activity = seen[::channels, ACTIVITY]
    borders = np.empty(0, "i8")
    if classes > 1:
        parts = np.arange(1, classes) / classes
        borders = np.unique(np.quantile(activity, parts).astype("i8") + 1)
    number = np.searchsorted(borders, activity, "right")
    shape = (len(borders) + 1, channels)
    weights, bias = np.zeros((*shape, predictor_size(channels)), "i2"), np.zeros(shape, "i4")
    # Fewer bits of a code need fewer bits of its weights.
    unit = 1 << min(3, max(0, 8 - model.above - model.bits))
    for part, channel in np.ndindex(shape):
        taps = predictor_taps(channels, channel, model.above)
        rows = seen[channel::channels][number == part]
        found = _robust(rows[:, taps].astype("f8"), rows[:, TRUTH].astype("f8"))
        weights[part, channel, taps] = _bounded(found[:-1] * 4096, unit)
        bias[part, channel] = np.clip(np.rint(found[-1] * 16), -32768, 32767)
    return replace(model, borders=borders, weights=weights, bias=bias)


def _robust(known: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.concatenate([known, np.ones((len(known), 1))], axis=1)
    found = _solve(known, wanted, np.ones(len(wanted)))
    for _ in range(ROBUST_ROUNDS):
        left = np.abs(_times(known, found) - wanted)
        spread = 0.25 * (0.5 + float(left.sum()) / max(len(left), 1)) ** 2
        found = _solve(known, wanted, 1 / (left * left + spread))
    return found


def _fit_energy(source: LayerCodes, model: LayerModel) -> LayerModel:
    """Expected error as a linear function of errors nearby, by relative least squares."""
    channels = source.grid.channels
    seen = _trace(source, model, watch=True)[3]
    energy = model.energy.copy()
    levels: list[NDArray[np.floating[Any]]] = []
    # What is below it counts as equal: flat pictures would otherwise rule all others.
    floor = 2.0 ** min(4, max(1, model.above + model.bits - 3))
    errors = predictor_size(channels)
    for channel in range(channels):
        taps = energy_taps(channels, channel)
        rows = seen[channel::channels].astype("f8")
        known = np.concatenate([rows[:, errors:][:, taps[:-1]], np.ones((len(rows), 1))], axis=1)
        wanted = rows[:, ERROR]
        found = _solve(known, wanted, np.ones(len(wanted)))
        for _ in range(ROBUST_ROUNDS):
            expected: NDArray[np.float64] = np.maximum(_times(known, found), floor)
            found = _solve(known, wanted, 1 / (expected * expected))
        energy[channel, taps[:-1]] = _bounded(found[:-1] * 256, 1)
        energy[channel, taps[-1]] = np.clip(np.rint(found[-1]), -4096, 4095)
        levels.append(_times(known, found))
    ends = np.quantile(np.concatenate(levels), [0.01, 0.995]) if len(seen) else [1, 2]
    low, high = max(1.0, ends[0]), max(2.0, ends[1])
    steps = np.rint(low * (high / low) ** (np.arange(THRESHOLDS) / (THRESHOLDS - 1)))
    thresholds = np.clip(steps, 1, 4095).astype("i8")
    return replace(model, energy=energy, thresholds=np.maximum.accumulate(thresholds))


def _solve(
    known: NDArray[np.float64], wanted: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted least squares with a slight pull to 0, so that any input has one solution."""
    both = np.concatenate([known, wanted[:, np.newaxis]], axis=1)
    normal = np.zeros((known.shape[1], both.shape[1]))
    step = FEW_ROWS * FEW_PARTS
    for begin in range(0, len(known), step):
        rows = slice(begin, begin + step)
        weighted = known[rows] * weight[rows, np.newaxis]
        whole = len(weighted) // FEW_ROWS * FEW_ROWS
        left = weighted[:whole].reshape(-1, FEW_ROWS, known.shape[1]).transpose(0, 2, 1)
        right = both[rows][:whole].reshape(-1, FEW_ROWS, both.shape[1])
        normal += np.matmul(left, right).sum(axis=0)
        normal += weighted[whole:].T @ both[rows][whole:]
    square, wanted_by = normal[:, :-1], normal[:, -1]
    pull = 1e-4 * max(float(np.trace(square)) / len(square), 1e-6)
    found = np.linalg.solve(square + pull * np.eye(len(square)), wanted_by)
    return np.asarray(found, "f8")


def _times(known: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return known @ found."""
    whole = len(known) // FEW_ROWS * FEW_ROWS
    parts = np.matmul(known[:whole].reshape(-1, FEW_ROWS, len(found)), found)
    return np.concatenate([parts.ravel(), known[whole:] @ found])


def _bounded(weights: NDArray[np.float64], unit: int) -> NDArray[np.int16]:
    """Round weights to multiples of a unit, scaled down to the bound of spec 7.1 if need be."""
    size = float(np.abs(weights).sum())
    limit = MAX_WEIGHT - 4096  # room for what the energy's other terms and rounding add
    if size > limit:
        weights = weights * (limit / size)
    return (np.rint(weights / unit) * unit).astype("i2")
