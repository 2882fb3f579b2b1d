"""Tables of a report as HTML; long ones are folded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final

_LONG: Final = 24


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[int] = ()) -> str:
    """Return a table that scrolls by itself where the page is narrow.

    Args:
        head: of the columns, as HTML.
        rows: cells, as HTML; the first of a row names it.
        text: columns that hold text; all others hold numbers, except for the first.
    """
    kinds = [' class="text"' if place in text else "" for place in range(len(head))]
    top = "".join(
        f'<th scope="col"{kind}>{cell}</th>' for kind, cell in zip(kinds, head, strict=True)
    )
    lines = []
    for row in rows:
        cells = "".join(
            f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds[1:], row[1:], strict=True)
        )
        lines.append(f'<tr><th scope="row">{row[0]}</th>{cells}</tr>')
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def fold(rows: Sequence[Any], inner: str) -> str:
    """Return a table of these rows, behind a line to open it where they are many."""
    return inner if len(rows) <= _LONG else folded(f"All {len(rows):,} rows", inner)


def folded(title: str, inner: str) -> str:
    """Return something behind a line to open it."""
    return f"<details><summary>{escape(title)}</summary>{inner}</details>"


def percent(part: float, whole: float) -> str:
    """Return a share, such as "12.5 %"; nothing of nothing."""
    return f"{100 * part / whole:.3g}\N{NO-BREAK SPACE}%" if whole else ""
