"""Shares and amounts in exact arithmetic: 0.29 of 100 samples are 29."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Final, TypeAlias

from dsqformat.errors import SelectionError

# Exponents of more digits would take all memory.
_NUMBER: Final = re.compile(
    r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})(e[+-]?\d{1,3})?|[+-]?\d{1,40}/\d{1,40}",
    re.IGNORECASE,
)

Ratio: TypeAlias = float | int | str | Decimal | Fraction


def exact_ratio(value: Ratio, what: str = "ratio") -> Fraction:
    """Return the number that was written down: of a float, its shortest decimal.

    Args:
        value: a finite number; text may be a decimal or a fraction such as "1/3".
        what: name of the number, for messages.

    Raises:
        SelectionError: it is no finite number.
    """
    if isinstance(value, Fraction):
        return value
    text = str(value).strip()
    try:
        if _NUMBER.fullmatch(text):
            return Fraction(text)
    except ZeroDivisionError:
        pass
    raise SelectionError(f"{what}: got {text[:50]!r}, expected a finite number")


def share_count(share: Ratio, count: int, what: str = "share") -> int:
    """Return floor(share * count).

    Args:
        share: 0 to 1.
        count: of samples.
        what: name of the share, for messages.

    Raises:
        SelectionError: the share is below 0 or above 1.
    """
    exact = exact_ratio(share, what)
    if not 0 <= exact <= 1:
        raise SelectionError(f"{what}: got {share}, expected 0 to 1")
    return math.floor(exact * count)


def keep_count(keep_ratio: Ratio, count: int) -> int:
    """Return how many of `count` samples are kept: round(keep_ratio * count), half to even.

    Args:
        keep_ratio: above 0, at most 1.
        count: of samples.

    Raises:
        SelectionError: the ratio is out of range, or so small that nothing would be kept.
    """
    exact = exact_ratio(keep_ratio, "keep ratio")
    if not 0 < exact <= 1:
        raise SelectionError(
            f"keep ratio: got {keep_ratio}, expected more than 0 and at most 1 "
            "(1 keeps everything; a percentage needs dividing by 100)"
        )
    kept = round(exact * count)
    if not kept:
        raise SelectionError(
            f"keep ratio: {keep_ratio} of {count} samples keeps none; "
            f"ask for at least {1 / max(count, 1):.3g}"
        )
    return kept
