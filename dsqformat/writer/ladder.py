"""Which setting a target moves, and what the samples get at a level of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk import FieldTuning
from dsqformat.schema import Field, Schema
from dsqformat.select.levels import mixed_settings
from dsqformat.wire import MAX_QP
from dsqformat.writer.encoding import Fineness
from dsqformat.writer.field_spec import FieldSpec

# Codes of uint8 gain nothing beyond: affine is exact, lsq has a sign besides.
_EXACT_BITS: Final = {"affine": 8, "lsq": 9}
_MOST_GROUPS: Final = 4096
# What to guess first: bytes per value at qp 103, and what fidelity that is, for photographs.
_TYPICAL_QP, _TYPICAL_NBYTES, _TYPICAL_PSNR = 103, 0.05, 30.0
_FULL_RANGE_PSNR: Final = 10.8
_PSNR_PER_BIT: Final = 6.02
_PSNR_PER_QP: Final = 0.3
_DB_TO_LOG: Final = math.log(10) / 10

Kind = Literal["qp", "bit_width", "groups"]


@dataclass(frozen=True)
class Ladder:
    """Levels from coarse to fine.

    A level is 175 - qp, a bit width, or the logarithm (base 2) of the number of groups. Between
    whole qps and bit widths samples are mixed.

    Attributes:
        kind: what is moved.
        fields: names of the fields it is moved in, all of one quantizer.
        lowest: the coarsest level.
        highest: the finest level.
        tuning: of the encoder, by field name.
        measured: names of those of the fields that are uint8.
    """

    kind: Kind
    fields: tuple[str, ...]
    lowest: float
    highest: float
    tuning: Mapping[str, FieldTuning]
    measured: tuple[str, ...]

    def fineness(
        self, level: float, order: NDArray[np.int64], sample_count: int, seed: int
    ) -> Fineness:
        """Return how finely samples are quantized at a level.

        Args:
            level: of this ladder.
            order: numbers of the samples, over which two settings are spread evenly.
            sample_count: samples of the spill.
            seed: of the pattern.
        """
        if self.kind == "groups":
            count = group_count(level)
            tuning = {n: replace(self.tuning[n], group_count=count) for n in self.fields}
            return Fineness(tuning=tuning)
        settings = np.zeros(sample_count, "u1")
        mixed = mixed_settings(level, len(order), seed)
        settings[order] = MAX_QP - mixed if self.kind == "qp" else mixed
        return Fineness(settings=dict.fromkeys(self.fields, settings))

    def rounded(self, level: float) -> float:
        """Return the nearest level that can be measured."""
        return math.log2(group_count(level)) if self.kind == "groups" else level

    def near(self, level: float, other: float) -> bool:
        """Tell whether a model fitted at one level serves at another."""
        if self.kind == "qp":
            return abs(level - other) <= 3
        if self.kind == "bit_width":
            return _whole_levels(level) <= _whole_levels(other)
        return self.rounded(level) == self.rounded(other)

    @property
    def size_slope(self) -> float:
        """How much the logarithm of the bytes rises per level, roughly."""
        return {"qp": 0.035, "bit_width": 0.4, "groups": 0.02}[self.kind]

    @property
    def error_slope(self) -> float:
        """How much the logarithm of the squared error falls per level, roughly."""
        decibels = {"qp": _PSNR_PER_QP, "bit_width": _PSNR_PER_BIT, "groups": 1.0}[self.kind]
        return decibels * _DB_TO_LOG

    def level_for_nbytes(self, nbytes_per_value: float) -> float:
        """Guess the level at which a value takes so many bytes."""
        if self.kind == "qp":
            finer = math.log(max(nbytes_per_value, 1e-6) / _TYPICAL_NBYTES) / self.size_slope
            return self._within(MAX_QP - _TYPICAL_QP + finer)
        # Models of few bits are fitted sooner: those are tried first.
        return self._within(6.0 if self.kind == "groups" else min(4, 1 + 10 * nbytes_per_value))

    def level_for_psnr(self, psnr: float) -> float:
        """Guess the level of a fidelity."""
        if self.kind == "qp":
            return self._within(MAX_QP - _TYPICAL_QP + (psnr - _TYPICAL_PSNR) / _PSNR_PER_QP)
        if self.kind == "groups":
            return self._within(6.0)
        return self._within((psnr - _FULL_RANGE_PSNR) / _PSNR_PER_BIT)

    def describe(self, level: float) -> str:
        """Return a level in words, such as "qp 103"."""
        if self.kind == "qp":
            return f"qp {MAX_QP - level:g}"
        if self.kind == "groups":
            return f"{group_count(level)} groups"
        return f"{level:g} bits"

    def _within(self, level: float) -> float:
        return min(max(level, self.lowest), self.highest)


def group_count(level: float) -> int:
    """Return the number of groups of a level of "groups"."""
    return round(2**level)


def _whole_levels(level: float) -> set[int]:
    return {math.floor(level), math.ceil(level)}


def ladder_of(schema: Schema, specs: Mapping[str, FieldSpec]) -> Ladder:
    """Return the ladder of a dataset: of the fields with the quantizer of the first lossy one.

    Args:
        schema: of the dataset.
        specs: of its fields.

    Raises:
        ValueError: no field is quantized.
    """
    lossy = [field for field in schema.fields if field.quantizer != "raw"]
    if not lossy:
        raise ValueError("a target needs a field that is quantized, and all are raw")
    fields = [field for field in lossy if field.quantizer == lossy[0].quantizer]
    names = tuple(field.name for field in fields)
    tuning = {name: specs[name].tuning for name in names}
    measured = tuple(field.name for field in fields if field.dtype == "uint8")
    if fields[0].quantizer == "block":
        return Ladder("qp", names, 0, MAX_QP, tuning, measured)
    if fields[0].quantizer == "patch":
        return Ladder("groups", names, 0, math.log2(_MOST_GROUPS), tuning, measured)
    low, high = _bits(fields, specs)
    return Ladder("bit_width", names, low, high, tuning, measured)


def _bits(fields: Sequence[Field], specs: Mapping[str, FieldSpec]) -> tuple[int, int]:
    limits = [specs[field.name].bit_widths for field in fields]
    caps = [
        _EXACT_BITS[field.quantizer] if field.dtype == "uint8" else high
        for field, (_, high) in zip(fields, limits, strict=True)
    ]
    return max(low for low, _ in limits), min(max(caps), min(high for _, high in limits))
