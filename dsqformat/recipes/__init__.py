"""Recipes: a dataset condensed as one of the papers has it, or within a byte budget.

condense(source, dest, "lsq-adaptive-8-0")

Recipe       stages and their options, frozen; load_recipe reads one by name or from TOML
condense     carries one out, keeping the result of every stage, and writes a report

It lies above `dsqformat.commands`, whose reading of sources and measuring of sizes it shares.
torch is imported by the stages that need a network, when they are carried out.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsqformat.recipes.condensing import CondenseOutcome, condense
    from dsqformat.recipes.parsing import parse_recipe
    from dsqformat.recipes.recipe import Recipe
    from dsqformat.recipes.shipped import load_recipe, shipped_names

__all__ = [
    "CondenseOutcome",
    "Recipe",
    "condense",
    "load_recipe",
    "parse_recipe",
    "shipped_names",
]

_LAZY = {
    "CondenseOutcome": "condensing",
    "Recipe": "recipe",
    "condense": "condensing",
    "load_recipe": "shipped",
    "parse_recipe": "parsing",
    "shipped_names": "shipped",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"dsqformat.recipes.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return __all__
