"""One configuration of the model of a field, as numbers and as bits (spec 7.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.rans.bitstring import BitReader, BitWriter
from dsqformat.coding.rans.geometry import (
    MAX_BITS,
    THRESHOLDS,
    bin_count,
    energy_taps,
    predictor_size,
    predictor_taps,
    symbol_count,
)
from dsqformat.errors import CorruptShardError
from dsqformat.kernels.plain_layout import ENERGY, LEVELS, LUT

MAX_TABLES: Final = 256
# Sum of the magnitudes of the weights of one dot product, and the bias: they keep it below 2^31.
MAX_WEIGHT: Final = 32767
MAX_BIAS: Final = 65535
# No activity is above 4 * 5 * 65535.
MAX_BORDER: Final = (1 << 21) - 1
# Frequencies are transmitted as numbers of 4 significant bits: 0 to 7 exactly, 4096 is the last.
MAX_GRADE: Final = 80
GRADES: Final = np.array(
    [*range(8), *((8 + grade % 8) << (grade // 8 - 1) for grade in range(8, MAX_GRADE + 1))], "i8"
)
BORDER_ORDER, BIAS_ORDER, ENERGY_ORDER, THRESHOLD_ORDER, COUNT_ORDER, RUN_ORDER = 4, 3, 7, 2, 4, 1
# The weights of a layer have common factors 2^0 ... 2^3, and an order that fits them.
MAX_SHIFT: Final = 3
MAX_WEIGHT_ORDER: Final = 15


@dataclass(frozen=True)
class LayerModel:
    """How one configuration is coded: `bits` of a code below `above` known ones.

    Attributes:
        above: bits of a code in the layers before, 0 to 15.
        bits: bits of the code in this layer, at least 1; above + bits <= 16.
        borders: int64, shape (classes - 1,), ascending, the activities that begin a class.
        bias: int32, shape (classes, channels), in 1/16.
        weights: int16, shape (classes, channels, predictor_size), in 1/4096.
        energy: int16, shape (channels, ENERGY).
        thresholds: int64, shape (THRESHOLDS,), ascending, below 4096.
        grades: uint8, shape (tables, symbols): frequencies as `GRADES`.
        table_of: uint16, shape (channels * LEVELS * bins,): the table of each context.
    """

    above: int
    bits: int
    borders: NDArray[np.int64]
    bias: NDArray[np.int32]
    weights: NDArray[np.int16]
    energy: NDArray[np.int16]
    thresholds: NDArray[np.int64]
    grades: NDArray[np.uint8]
    table_of: NDArray[np.uint16]


# Writing ---------------------------------------------------------------------------------------


def write_layer(bits: BitWriter, layer: LayerModel, channels: int) -> None:
    """Append a configuration of a model for so many channels (spec 7.1)."""
    bits.fixed(layer.above, 4)
    bits.fixed(layer.bits - 1, 4)
    bits.fixed(len(layer.bias) - 1, 3)
    for step in np.diff(layer.borders, prepend=0):
        bits.unsigned(int(step), BORDER_ORDER)
    _write_weights(bits, layer, channels)
    for channel in range(channels):
        for tap in energy_taps(channels, channel):
            bits.signed(int(layer.energy[channel, tap]), ENERGY_ORDER)
    for step in np.diff(layer.thresholds, prepend=0):
        bits.unsigned(int(step), THRESHOLD_ORDER)
    bits.unsigned(len(layer.grades) - 1, COUNT_ORDER)
    _write_grades(bits, layer.grades.astype("i8"))
    _write_map(bits, layer)


def _write_weights(bits: BitWriter, layer: LayerModel, channels: int) -> None:
    taps = [predictor_taps(channels, channel, layer.above) for channel in range(channels)]
    sent = [
        [layer.weights[number, channel, taps[channel]].tolist() for channel in range(channels)]
        for number in range(len(layer.bias))
    ]
    flat = [weight for rows in sent for row in rows for weight in row]
    shift = next(s for s in range(MAX_SHIFT, -1, -1) if all(w % (1 << s) == 0 for w in flat))
    costs = []
    for order in range(MAX_WEIGHT_ORDER + 1):
        writer = BitWriter()
        for weight in flat:
            writer.signed(weight >> shift, order)
        costs.append(writer.bit_count)
    order = costs.index(min(costs))
    bits.fixed(shift, 2)
    bits.fixed(order, 4)
    for number, rows in enumerate(sent):
        for channel, row in enumerate(rows):
            bits.signed(int(layer.bias[number, channel]), BIAS_ORDER)
            for weight in row:
                bits.signed(weight >> shift, order)


def _write_grades(bits: BitWriter, grades: NDArray[np.int64]) -> None:
    deltas = np.diff(grades, axis=0, prepend=np.zeros((1, grades.shape[1]), "i8"))
    candidates = []
    for order in range(4):
        writer = BitWriter()
        for delta in deltas.ravel().tolist():
            writer.signed(delta, order)
        candidates.append(writer)
    order = min(range(4), key=lambda i: candidates[i].bit_count)
    bits.fixed(order, 2)
    for delta in deltas.ravel().tolist():
        bits.signed(delta, order)


def _write_map(bits: BitWriter, layer: LayerModel) -> None:
    tables = layer.table_of.tolist()
    if len(layer.grades) == 1:
        return
    bins = bin_count(layer.bits)
    width = (len(layer.grades) - 1).bit_length()
    at, previous = 0, 0
    while at < len(tables):
        run = at
        while run < len(tables) and tables[run] == previous:
            run += 1
        bits.unsigned(run - at, RUN_ORDER)
        at = run
        if at == len(tables):
            break
        has_above = at // bins % LEVELS > 0 and tables[at - bins] != previous
        if has_above:
            bits.fixed(int(tables[at] == tables[at - bins]), 1)
        if not has_above or tables[at] != tables[at - bins]:
            bits.fixed(tables[at], width)
        previous = tables[at]
        at += 1


# Reading ---------------------------------------------------------------------------------------


def read_layer(bits: BitReader, channels: int) -> LayerModel:
    """Undo `write_layer`.

    Raises:
        CorruptShardError: the bits contradict spec 7.1.
    """
    above = bits.fixed(4)
    width = bits.fixed(4) + 1
    if above + width > MAX_BITS:
        raise CorruptShardError(f"{bits.what}: {above} + {width} bits, expected at most {MAX_BITS}")
    classes = bits.fixed(3) + 1
    borders = np.cumsum([bits.unsigned(BORDER_ORDER) for _ in range(classes - 1)], dtype="i8")
    if classes > 1 and borders[-1] > MAX_BORDER:
        raise CorruptShardError(f"{bits.what}: a border is {borders[-1]}, above {MAX_BORDER}")
    bias, weights = _read_weights(bits, channels, classes, above)
    energy = np.zeros((channels, ENERGY), "i8")
    for channel in range(channels):
        for tap in energy_taps(channels, channel):
            energy[channel, tap] = bits.signed(ENERGY_ORDER)
    if np.abs(energy).sum(axis=1).max() > MAX_WEIGHT:
        raise CorruptShardError(f"{bits.what}: energy weights above {MAX_WEIGHT} in sum")
    thresholds = np.cumsum([bits.unsigned(THRESHOLD_ORDER) for _ in range(THRESHOLDS)])
    if thresholds[-1] >= LUT:
        raise CorruptShardError(f"{bits.what}: a threshold is {thresholds[-1]}, expected < {LUT}")
    tables = bits.unsigned(COUNT_ORDER) + 1
    if tables > MAX_TABLES:
        raise CorruptShardError(f"{bits.what}: {tables} tables, expected at most {MAX_TABLES}")
    grades = _read_grades(bits, tables, symbol_count(width))
    table_of = _read_map(bits, tables, channels * LEVELS * bin_count(width), bin_count(width))
    return LayerModel(
        above,
        width,
        borders,
        bias,
        weights,
        energy.astype("i2"),
        thresholds,
        grades,
        table_of,
    )


def _read_weights(
    bits: BitReader, channels: int, classes: int, above: int
) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
    shift, order = bits.fixed(2), bits.fixed(4)
    bias = np.zeros((classes, channels), "i4")
    weights = np.zeros((classes, channels, predictor_size(channels)), "i8")
    for number in range(classes):
        for channel in range(channels):
            bias[number, channel] = bits.signed(BIAS_ORDER)
            for tap in predictor_taps(channels, channel, above):
                weights[number, channel, tap] = bits.signed(order) << shift
    if np.abs(weights).sum(axis=2).max() > MAX_WEIGHT:
        raise CorruptShardError(f"{bits.what}: weights above {MAX_WEIGHT} in sum")
    if np.abs(bias).max() > MAX_BIAS:
        raise CorruptShardError(f"{bits.what}: a bias beyond {MAX_BIAS}")
    return bias, weights.astype("i2")


def _read_grades(bits: BitReader, tables: int, symbols: int) -> NDArray[np.uint8]:
    order = bits.fixed(2)
    grades = np.zeros((tables, symbols), "u1")
    row = [0] * symbols
    for table in range(tables):
        for symbol in range(symbols):
            row[symbol] += bits.signed(order)
            if not 0 <= row[symbol] <= MAX_GRADE:
                raise CorruptShardError(
                    f"{bits.what}: table {table}: grade {row[symbol]}, expected 0 to {MAX_GRADE}"
                )
        if not any(row):
            raise CorruptShardError(f"{bits.what}: table {table} has no symbol")
        grades[table] = row
    return grades


def _read_map(bits: BitReader, tables: int, contexts: int, bins: int) -> NDArray[np.uint16]:
    table_of = [0] * contexts
    if tables == 1:
        return np.array(table_of, "u2")
    width = (tables - 1).bit_length()
    at, previous = 0, 0
    while at < contexts:
        run = bits.unsigned(RUN_ORDER)
        if run > contexts - at:
            raise CorruptShardError(f"{bits.what}: {contexts} contexts, a run ends behind them")
        table_of[at : at + run] = [previous] * run
        at += run
        if at == contexts:
            break
        has_above = at // bins % LEVELS > 0 and table_of[at - bins] != previous
        previous = table_of[at - bins] if has_above and bits.fixed(1) else bits.fixed(width)
        if previous >= tables:
            raise CorruptShardError(f"{bits.what}: table {previous} of {tables}")
        table_of[at] = previous
        at += 1
    if len(set(table_of)) != tables:
        raise CorruptShardError(f"{bits.what}: {tables} tables, only {len(set(table_of))} in use")
    return np.array(table_of, "u2")
