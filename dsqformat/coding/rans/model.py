"""The model of a field: prediction, expected error and tables, as numbers and as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.rans.bitstring import BitReader, BitWriter
from dsqformat.coding.rans.geometry import PROBABILITY_BITS, bin_count
from dsqformat.coding.rans.layer_model import GRADES, LayerModel, read_layer, write_layer
from dsqformat.errors import CorruptShardError, UnsupportedFeatureError
from dsqformat.kernels.plain_layout import BUCKETS, CLASSES, ENERGY, LUT, SYMBOLS, row_lanes

VERSION: Final = 1
MAX_CONFIGS: Final = 64
# Bounds the time of parsing; models are a few kilobytes.
MAX_NBYTES: Final = 1 << 18


def frequencies(grades: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the frequencies of each table: sums are 4096, 0 only where the grade is.

    Args:
        grades: uint8, shape (tables, symbols), at least one above 0 in each table.
    """
    raw = GRADES[grades]
    scaled = (raw << PROBABILITY_BITS) // raw.sum(axis=1, keepdims=True)
    counts = np.where(raw > 0, np.maximum(scaled, 1), 0)
    largest = counts.argmax(axis=1)  # the first of equals
    counts[np.arange(len(counts)), largest] += (1 << PROBABILITY_BITS) - counts.sum(axis=1)
    return counts


@dataclass(frozen=True)
class KernelTables:
    """A model as the arrays that the kernels take; see `kernels.rans_trace.trace`."""

    numbers: NDArray[np.int32]
    borders: NDArray[np.int32]
    weights: NDArray[np.int16]
    bias: NDArray[np.int32]
    energy: NDArray[np.int16]
    mixes: NDArray[np.int16]
    constants: NDArray[np.int32]
    levels: NDArray[np.uint8]
    table_of: NDArray[np.uint16]
    nearest: NDArray[np.uint8]
    starts: NDArray[np.int16]
    ranges: NDArray[np.uint32]


@dataclass(frozen=True)
class PixelModel:
    """The entropy-coding model of one field in one shard.

    Attributes:
        channels: values per pixel, 1 to 4.
        layers: one per configuration (above, bits), ascending.
    """

    channels: int
    layers: tuple[LayerModel, ...]

    @cached_property
    def config_of(self) -> dict[tuple[int, int], int]:
        """Number of the configuration with (above, bits)."""
        return {(layer.above, layer.bits): i for i, layer in enumerate(self.layers)}

    @cached_property
    def kernel_tables(self) -> KernelTables:
        """The same as arrays."""
        numbers, borders, tables, nearest, starts, ranges = [], [], [], [], [], []
        context = table = classes = start = 0
        for layer in self.layers:
            ends = np.cumsum(frequencies(layer.grades), axis=1)
            count, symbols = ends.shape
            # The start of every symbol and the end of the last, then what no slot reaches.
            spread = -(-(symbols + 1) // 8) * 8
            rows = np.full((count, spread), np.iinfo("i2").max)
            rows[:, 0] = 0
            rows[:, 1 : symbols + 1] = ends
            starts.append(rows)
            slots = np.arange(0, 1 << PROBABILITY_BITS, (1 << PROBABILITY_BITS) // BUCKETS)
            nearest.append(np.array([np.searchsorted(row, slots, "right") for row in ends]))
            entry = np.zeros((count, SYMBOLS), "<u4")
            entry[:, :symbols] = np.diff(ends, prepend=0) << 16 | rows[:, :symbols]
            ranges.append(entry)
            numbers.append(
                [
                    *(layer.above, layer.bits, context, bin_count(layer.bits), classes),
                    *(start - table * spread, spread),
                ]
            )
            classes += len(layer.bias)
            borders.append(np.full(CLASSES - 1, np.iinfo("i4").max))
            borders[-1][: len(layer.borders)] = layer.borders
            context += len(layer.table_of)
            tables.append(layer.table_of + table)
            table += count
            start += rows.size
        return KernelTables(
            numbers=np.array(numbers, "i4").ravel(),
            borders=_joined(borders, "i4"),
            weights=_joined([layer.weights for layer in self.layers], "i2"),
            bias=_joined([layer.bias for layer in self.layers], "i4"),
            energy=_joined([layer.energy for layer in self.layers], "i2"),
            mixes=_joined([_mixes(layer, self.channels) for layer in self.layers], "i2"),
            constants=_joined([_constants(layer, self.channels) for layer in self.layers], "i4"),
            levels=_joined([level_table(layer.thresholds) for layer in self.layers], "u1"),
            table_of=_joined(tables, "u2"),
            nearest=_joined(nearest, "u1"),
            starts=_joined(starts, "i2"),
            ranges=_joined(ranges, "u4"),
        )

    def to_bytes(self) -> bytes:
        """Return the model as bytes."""
        bits = BitWriter()
        bits.fixed(VERSION, 8)
        bits.fixed(self.channels - 1, 2)
        bits.fixed(len(self.layers) - 1, 6)
        for layer in self.layers:
            write_layer(bits, layer, self.channels)
        return bits.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, what: str = "model") -> PixelModel:
        """Undo `to_bytes`.

        Args:
            data: untrusted bytes.
            what: what they are, for error messages.

        Raises:
            CorruptShardError: the bytes contradict spec 7.1.
            UnsupportedFeatureError: they have another version.
        """
        if len(data) > MAX_NBYTES:
            raise CorruptShardError(f"{what}: {len(data)} bytes, expected at most {MAX_NBYTES}")
        bits = BitReader(data, what)
        version = bits.fixed(8)
        if version != VERSION:
            raise UnsupportedFeatureError(f"{what}: version {version}, expected {VERSION}")
        channels = bits.fixed(2) + 1
        layers = [read_layer(bits, channels) for _ in range(bits.fixed(6) + 1)]
        bits.finish()
        order = [(layer.above, layer.bits) for layer in layers]
        if order != sorted(set(order)):
            raise CorruptShardError(f"{what}: its configurations are not in ascending order")
        return cls(channels, tuple(layers))


def level_table(thresholds: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the level of every energy, uint8, shape (LUT,): the thresholds not above it."""
    return np.searchsorted(thresholds, np.arange(LUT), "right").astype("u1")


def _constants(layer: LayerModel, channels: int) -> NDArray[np.int64]:
    """Return what the sums of a pixel begin with, (classes, 4 or 8): see `_mixes`."""
    constants = np.zeros((len(layer.bias), 8 if channels > 2 else 4), "i8")
    middle = (1 << (layer.above + layer.bits)) >> 1
    for k in range(channels):
        at = 2 * (channels - 1 - k)
        constants[:, at] = 128 + 256 * (layer.bias[:, k] + 16 * middle)
        constants[:, at + 1] = 256 * int(layer.energy[k, ENERGY - 1])
    return constants


def _mixes(layer: LayerModel, channels: int) -> NDArray[np.int64]:
    """Return the weights of the current row as the loops take them, (classes, numbers).

    First those of pixels x-2 and x-1: what a value and its error add to each of 4 or 8 sums of
    prediction and energy, the last channel first, two weights each. Then those of channels j of
    pixel x for the prediction of channels k > j, at k * (k - 1) / 2 + j, each before a 0.
    """
    begin = 5 * row_lanes(channels)
    left = np.zeros((len(layer.bias), 2 * channels, 8 if channels > 2 else 4, 2), "i8")
    inner = np.zeros((len(layer.bias), 8, 2), "i8")
    for k in range(channels):
        at, before = 2 * (channels - 1 - k), begin + 2 * channels
        left[:, :, at, 0] = layer.weights[:, k, begin:before]
        left[:, channels:, at + 1, 1] = layer.energy[k, 16 : 16 + channels]
        first = k * (k - 1) // 2
        inner[:, first : first + k, 0] = layer.weights[:, k, before : before + k]
    return np.concatenate([left.reshape(len(left), -1), inner.reshape(len(inner), -1)], axis=1)


def _joined(parts: Sequence[NDArray[Any]], dtype: str) -> NDArray[Any]:
    return np.concatenate([np.asarray(part).ravel() for part in parts]).astype(dtype)


__all__ = ["MAX_CONFIGS", "KernelTables", "PixelModel", "frequencies", "level_table"]
