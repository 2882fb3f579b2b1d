"""Recipes by name, from a file, or from a dataset that was made by one.

Those of the package carry the names of the papers' methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from dsqformat.dataset import open_dataset
from dsqformat.errors import RecipeError
from dsqformat.recipes.parsing import parse_recipe, read_recipe, recorded_recipe
from dsqformat.recipes.recipe import Recipe

_FOLDER = "toml"


def shipped_names() -> list[str]:
    """Return the names of the recipes in the package, sorted."""
    folder = resources.files("dsqformat.recipes") / _FOLDER
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    )


def shipped_text(name: str) -> str:
    """Return the TOML of a recipe of the package.

    Raises:
        RecipeError: there is none of this name.
    """
    if name not in shipped_names():
        raise RecipeError(
            f"recipe {name!r}: neither a .toml nor a dataset nor one of "
            f"{', '.join(shipped_names())}"
        )
    return (resources.files("dsqformat.recipes") / _FOLDER / f"{name}.toml").read_text("utf-8")


def load_recipe(recipe: str | Path | Recipe, settings: Sequence[str] = ()) -> Recipe:
    """Return a recipe by its name, from a TOML file, from a dataset, or as it is.

    Args:
        recipe: a shipped name, a path that ends in .toml, the directory of a dataset that was
            made by a recipe, or a recipe.
        settings: "stage.option=value" to put over all but the last.

    Raises:
        RecipeError: no such recipe, or what `parse_recipe` raises.
        DatasetError: a directory holds no dataset.
        OSError: the file cannot be read.
    """
    if isinstance(recipe, Recipe):
        if settings:
            raise RecipeError("settings: expected none with a Recipe; use dataclasses.replace")
        return recipe
    if recipe not in shipped_names() and Path(recipe).is_dir():
        return _recipe_of_dataset(Path(recipe), settings)
    if isinstance(recipe, Path) or recipe.endswith(".toml"):
        return read_recipe(Path(recipe), settings)
    return parse_recipe(shipped_text(recipe), settings, where=recipe, name=recipe)


def _recipe_of_dataset(folder: Path, settings: Sequence[str]) -> Recipe:
    with open_dataset(folder) as dataset:
        said = dataset.snapshot.provenance.get("condense")
    recipe = said.get("recipe") if isinstance(said, dict) else None
    if not isinstance(recipe, dict):
        raise RecipeError(f"{folder}: this dataset was not made by a recipe; name one")
    return recorded_recipe(recipe, settings, where=str(folder))
