"""Recipes: which stages a condensation has, and what their options must not be together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from dsqformat.canonical import canonical_json
from dsqformat.errors import RecipeError
from dsqformat.recipes.option_values import json_ready
from dsqformat.recipes.stage_options import (
    Bits,
    Features,
    Mask,
    Quantize,
    Refine,
    Scores,
    Select,
    Sensitivity,
    Train,
)


@dataclass(frozen=True)
class Recipe:
    """Stages in their order; None: the stage is left out.

    Attributes:
        name: of the recipe.
        summary: one line.
        paper: whose method it is, with section.
        seed: of everything that is left to chance.
        train: see `Train`; made up with its defaults where another stage needs a network.
        scores: see `Scores`.
        features: see `Features`.
        select: see `Select`; None keeps all.
        mask: see `Mask`.
        sensitivity: see `Sensitivity`.
        bits: see `Bits`.
        refine: see `Refine`.
        quantize: see `Quantize`.
    """

    name: str = "unnamed"
    summary: str = ""
    paper: str = ""
    seed: int = 0
    train: Train | None = None
    scores: Scores | None = None
    features: Features | None = None
    select: Select | None = None
    mask: Mask | None = None
    sensitivity: Sensitivity | None = None
    bits: Bits = field(default_factory=Bits)
    refine: Refine | None = None
    quantize: Quantize = field(default_factory=Quantize)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 1 << 32:
            raise RecipeError(f"recipe: seed: got {self.seed}, expected 0 to 2^32 - 1")
        self._check_together()

    def _check_together(self) -> None:
        """Refuse options of different stages that exclude each other."""
        block = self.quantize.quantizer == "block"
        if self.bits.mode == "budget" and not block:
            raise self._wrong("quantize.quantizer", self.quantize.quantizer, "block for a budget")
        if block and self.bits.mode in ("two-level", "levels"):
            raise self._wrong("bits.mode", self.bits.mode, "fixed or budget with quantizer block")
        if block and (self.mask is not None or self.refine is not None):
            expected = "lsq, affine or patch with [mask] or [refine]: blocks have no patches"
            raise self._wrong("quantize.quantizer", "block", expected)
        if self.mask is not None and self.refine is not None:
            raise self._wrong("refine", "a table", "none with [mask]: features of halves mislead")
        if self.quantize.quantizer == "patch" and self.bits.mode in ("two-level", "levels"):
            expected = "fixed: samples of quantizer patch share their groups and so their bits"
            raise self._wrong("bits.mode", self.bits.mode, expected)
        if self.quantize.quantizer == "raw" and (self.bits.ranked or self.refine or self.mask):
            raise self._wrong("quantize.quantizer", "raw", "a quantizer that has bit widths")

    def _wrong(self, key: str, got: object, expected: str) -> RecipeError:
        return RecipeError(f"recipe {self.name!r}: {key}: got {got!r}, expected {expected}")

    def to_json(self) -> dict[str, Any]:
        """Return names and values that canonical JSON can hold; no floats, they become text."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: json_ready(value) for name, value in given.items()}

    def canonical(self) -> bytes:
        """Return the canonical JSON of the recipe: the same bytes for the same options."""
        return canonical_json(self.to_json())


SECTIONS: Final[Mapping[str, type[Any]]] = {
    "train": Train,
    "scores": Scores,
    "features": Features,
    "select": Select,
    "mask": Mask,
    "sensitivity": Sensitivity,
    "bits": Bits,
    "refine": Refine,
    "quantize": Quantize,
}
HEAD_KEYS: Final = tuple(f.name for f in fields(Recipe) if f.name not in SECTIONS)
