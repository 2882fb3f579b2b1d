"""Canonical JSON: one byte string per value, so that digests identify content (spec 2)."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from dsqformat.errors import CorruptShardError
from dsqformat.wire import MAX_JSON_DEPTH

MAX_INTEGER = (1 << 53) - 1


def canonical_json(value: Any) -> bytes:
    """Encode `value` as canonical JSON.

    Args:
        value: dicts with string keys, lists, tuples, strings, integers, booleans, None.

    Raises:
        ValueError: a float, an integer beyond 2^53 - 1, a lone surrogate, or nesting beyond 32.
    """
    _check(value, 0)
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    # The json module leaves DEL as it is and writes other control characters as \u00xx: canonical.
    return text.encode("utf-8")


def parse_canonical_json(data: bytes, *, limit: int, what: str) -> Any:
    """Parse canonical JSON and refuse anything that is not canonical.

    Args:
        data: the encoded value.
        limit: most bytes to accept.
        what: name of the document for error messages.

    Raises:
        CorruptShardError: too long, not JSON, not canonical, or nested too deeply.
    """
    if len(data) > limit:
        raise CorruptShardError(f"{what}: {len(data)} bytes, expected at most {limit}")
    try:
        value = json.loads(data.decode("utf-8"), parse_float=_no_float, parse_constant=_no_float)
        same = canonical_json(value) == data
    except (ValueError, RecursionError) as error:
        raise CorruptShardError(f"{what}: not canonical JSON: {error}") from error
    if not same:
        raise CorruptShardError(
            f"{what}: JSON is not in canonical form (sorted members, no white space)"
        )
    return value


def is_version(value: Any, number: int) -> bool:
    """Tell whether a member is this integer; in Python `true` equals 1."""
    return type(value) is int and value == number


def _no_float(text: str) -> NoReturn:
    raise ValueError(f"floating-point number {text[:20]}; expected a decimal string")


def _check(value: Any, depth: int) -> None:
    if depth > MAX_JSON_DEPTH:
        raise ValueError(f"nested deeper than {MAX_JSON_DEPTH}")
    if isinstance(value, dict):
        for name, member in value.items():
            if not isinstance(name, str):
                raise ValueError(f"member name {name!r} is not a string")
            _check(member, depth + 1)
    elif isinstance(value, list | tuple):
        for member in value:
            _check(member, depth + 1)
    elif isinstance(value, float):
        raise ValueError(f"floating-point number {value!r}; expected a decimal string")
    elif isinstance(value, int) and not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise ValueError(f"integer {value} is beyond 2^53 - 1")
    elif not isinstance(value, str | int | type(None)):
        raise ValueError(f"{type(value).__name__} has no canonical JSON form")
