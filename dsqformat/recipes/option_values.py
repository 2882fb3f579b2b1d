"""Values of options: what is out of range, and how canonical JSON holds them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from dsqformat.errors import SelectionError
from dsqformat.select.ratios import exact_ratio

# What a share may be written as: 0.25, or "1/3".
Share: TypeAlias = float | int | str


def wrong_option(name: str, got: object, expected: str) -> ValueError:
    """Return the error of an option out of its range; the parser adds where it stands."""
    return ValueError(f"{name}: got {got!r}, expected {expected}")


def check_at_least(name: str, got: int, least: int) -> None:
    """Refuse a number below the least.

    Raises:
        ValueError: it is.
    """
    if got < least:
        raise wrong_option(name, got, f"at least {least}")


def check_between(name: str, got: int, least: int, most: int) -> None:
    """Refuse a number out of a range, whose ends are part of it.

    Raises:
        ValueError: it is.
    """
    if not least <= got <= most:
        raise wrong_option(name, got, f"{least} to {most}")


def check_positive(name: str, got: float) -> None:
    """Refuse what is not above 0, or not finite.

    Raises:
        ValueError: it is.
    """
    if not 0 < got < math.inf:
        raise wrong_option(name, got, "more than 0")


def check_share(name: str, got: Share, expected: str, *, open_below: bool = False) -> None:
    """Refuse what is no share of 0 to 1.

    Args:
        name: of the option.
        got: its value.
        expected: what it should be, for the message.
        open_below: whether 0 is none either.

    Raises:
        ValueError: it is no number, or out of range.
    """
    try:
        share = exact_ratio(got)
    except SelectionError as error:
        raise wrong_option(name, got, expected) from error
    if not 0 <= share <= 1 or (open_below and not share):
        raise wrong_option(name, got, expected)


def json_ready(value: Any) -> Any:
    """Return a value of options as canonical JSON can hold it: floats become their decimals."""
    if isinstance(value, Mapping):
        return {str(name): json_ready(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(member) for member in value]
    return repr(value) if isinstance(value, float) else value
