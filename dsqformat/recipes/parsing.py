"""Recipes from TOML and from `stage.option=value`, with one line for what is wrong."""

from __future__ import annotations

import tomllib
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dsqformat.errors import RecipeError
from dsqformat.recipes.recipe import HEAD_KEYS, SECTIONS, Recipe

Table = dict[str, Any]
_ALWAYS = ("bits", "quantize")
_HEAD_TYPES = {"name": str, "summary": str, "paper": str, "seed": int}


def parse_recipe(
    text: str, settings: Sequence[str] = (), *, where: str = "recipe", name: str = ""
) -> Recipe:
    """Return the recipe of a TOML text.

    Args:
        text: TOML with a table for each stage that is wanted.
        settings: "stage.option=value" to put over it, or "stage=off".
        where: name of the text, for messages.
        name: of the recipe where the text has none.

    Raises:
        RecipeError: not TOML, a key that is not known, or a value that is not possible.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{where}: not TOML: {error}") from error
    table.setdefault("name", name or where)
    for setting in settings:
        _put(table, setting)
    return recipe_of(table, where)


def read_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a TOML file; see `parse_recipe`.

    Raises:
        RecipeError: likewise.
        OSError: the file cannot be read.
    """
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not TOML: it is no UTF-8 text") from error
    return parse_recipe(text, settings, where=str(path), name=path.stem)


def recorded_recipe(
    said: Mapping[str, Any], settings: Sequence[str] = (), *, where: str = "recipe"
) -> Recipe:
    """Return the recipe that a snapshot says it was made by: what `Recipe.to_json` returned.

    Args:
        said: names and values as canonical JSON has them, decimals as text.
        settings: as for `parse_recipe`.
        where: name of the snapshot, for messages.

    Raises:
        RecipeError: a key that is not known, or a value that is not possible.
    """
    table = dict(said)
    for key, kind in SECTIONS.items():
        if isinstance(table.get(key), dict):
            hints = get_type_hints(kind)
            table[key] = {k: _decimal(v, hints.get(k)) for k, v in table[key].items()}
    for setting in settings:
        _put(table, setting)
    return recipe_of(table, where)


def _decimal(value: Any, kind: Any) -> Any:
    if kind is float and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass  # told as what it is, where options are checked
    return value


def recipe_of(table: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Return the recipe of parsed TOML.

    Raises:
        RecipeError: naming key, what was got and what was expected.
    """
    known = (*HEAD_KEYS, *SECTIONS)
    for key in table:
        if key not in known:
            raise RecipeError(f"{where}: {key}: no such key; expected one of {', '.join(known)}")
    made: dict[str, Any] = {}
    for key in HEAD_KEYS:
        if key in table:
            made[key] = _checked(table[key], _HEAD_TYPES[key], f"{where}: {key}")
    for key, kind in SECTIONS.items():
        if key in table:
            made[key] = _section(table[key], kind, f"{where}: {key}")
    return Recipe(**made)


def _section(table: Any, kind: type[Any], where: str) -> Any:
    if not isinstance(table, dict):
        raise RecipeError(f"{where}: got {table!r}, expected a table [{where.split()[-1]}]")
    hints = get_type_hints(kind)
    for key in table:
        if key not in hints:
            known = ", ".join(hints)
            raise RecipeError(f"{where}.{key}: no such option; expected one of {known}")
    values = {key: _checked(v, hints[key], f"{where}.{key}") for key, v in table.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise RecipeError(f"{where}.{error}") from error


def _checked(value: Any, kind: Any, where: str) -> Any:
    """Return a value as its option holds it.

    Raises:
        RecipeError: it is of another type, or none of the words that are possible.
    """
    origin = get_origin(kind)
    if origin is Literal:
        if value in get_args(kind) and isinstance(value, str):
            return value
        words = ", ".join(map(str, get_args(kind)))
        raise RecipeError(f"{where}: got {value!r}, expected one of {words}")
    if origin in (types.UnionType, Union):
        # Whole numbers stay what they are where decimals may stand too.
        for choice in sorted(get_args(kind), key=lambda choice: choice is float):
            if _fits(value, choice):
                return _checked(value, choice, where)
        words = " or ".join(_spoken(choice) for choice in get_args(kind))
        raise RecipeError(f"{where}: got {value!r}, expected {words}")
    if not _fits(value, kind):
        raise RecipeError(f"{where}: got {value!r}, expected {_spoken(kind)}")
    if origin is tuple:
        parts = get_args(kind)
        if parts[-1] is Ellipsis:
            return tuple(_checked(member, parts[0], where) for member in value)
        if len(parts) != len(value):
            raise RecipeError(f"{where}: got {value!r}, expected {len(parts)} values")
        return tuple(_checked(v, part, where) for v, part in zip(value, parts, strict=True))
    return float(value) if kind is float else value


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is tuple:
        return isinstance(value, list | tuple)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _spoken(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return "a list"
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return names.get(kind, str(kind))


def _put(table: Table, setting: str) -> None:
    """Put "stage.option=value" into a table."""
    place, equals, text = setting.partition("=")
    names = place.strip().split(".")
    if not equals or len(names) > 2 or not all(names):
        raise RecipeError(f"--set {setting!r}: expected stage.option=value, or stage=off")
    if len(names) == 1 and names[0] in SECTIONS:
        if text.strip() != "off" or names[0] in _ALWAYS:
            raise RecipeError(f"--set {setting!r}: expected stage.option=value, or stage=off")
        table.pop(names[0], None)
        return
    value = _value(text.strip())
    if len(names) == 1:
        table[names[0]] = value
        return
    section = table.setdefault(names[0], {})
    if not isinstance(section, dict):
        raise RecipeError(f"--set {setting!r}: {names[0]} is no stage")
    section[names[1]] = value


def _value(text: str) -> Any:
    """Return a value of TOML; what is none is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
