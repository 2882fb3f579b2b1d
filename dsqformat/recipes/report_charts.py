"""Bars and histograms of a report, as SVG that needs no script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

_WIDTH, _HEIGHT = 360, 176
_LEFT, _RIGHT, _TOP, _FOOT = 38, 12, 16, 34
_PLOT_WIDTH: Final = _WIDTH - _LEFT - _RIGHT
_PLOT_HEIGHT: Final = _HEIGHT - _TOP - _FOOT
_LETTER: Final = 6.2
# With more bars than this there is no room for the number above each.
_MOST_NUMBERED: Final = 12
_WIDEST_BAR: Final = 44.0


@dataclass(frozen=True)
class Series:
    """What bars show.

    Attributes:
        name: in the legend.
        values: a count for each bar.
    """

    name: str
    values: Sequence[int]


@dataclass(frozen=True)
class Histogram:
    """What a histogram shows.

    Attributes:
        name: in the legend.
        found: counts, and one more of edges, as in report.json.
    """

    name: str
    found: Mapping[str, Any]


def bars(title: str, axis: str, names: Sequence[str], part: Series, whole: Series | None) -> str:
    """Return a bar for each name.

    Args:
        title: above the plot.
        axis: what the names are.
        names: one for each bar.
        part: what is shown.
        whole: behind it, what it is part of; None: nothing.
    """
    step = _PLOT_WIDTH / max(1, len(names))
    shown = [series for series in (whole, part) if series is not None]
    top = _top(shown)
    shapes = _grid(top)
    for series in shown:
        width = min(_WIDEST_BAR, step * 0.8)
        for place, value in enumerate(series.values):
            left = _LEFT + (place + 0.5) * step - width / 2
            tip = f"{names[place]}: {value:,} {series.name}"
            shapes.append(_bar(left, width, value, top, series is part, tip))
    if len(names) <= _MOST_NUMBERED and whole is None:
        for place, value in enumerate(part.values):
            shapes.append(_text(_LEFT + (place + 0.5) * step, _y(value, top) - 4, f"{value:,}"))
    # Names that would run into each other are left out, evenly.
    longest = max((len(name) for name in names), default=1)
    every = max(1, math.ceil((longest + 1) * _LETTER / step))
    for place in range(0, len(names), every):
        middle = _LEFT + (place + 0.5) * step
        shapes.append(_text(middle, _HEIGHT - _FOOT + 14, names[place]))
    return _figure(title, axis, shapes, part, whole)


def histogram(title: str, axis: str, part: Histogram, whole: Histogram | None) -> str:
    """Return a histogram.

    Args:
        title: above the plot.
        axis: what the values are, with their unit.
        part: what is shown.
        whole: behind it, what it is part of, with the same edges; None: nothing.
    """
    edges = [float(edge) for edge in part.found["edges"]]
    low, span = edges[0], (edges[-1] - edges[0]) or 1.0
    at = [_LEFT + (edge - low) / span * _PLOT_WIDTH for edge in edges]
    series = Series(part.name, part.found["counts"])
    behind = None if whole is None else Series(whole.name, whole.found["counts"])
    shown = [one for one in (behind, series) if one is not None]
    top = _top(shown)
    shapes = _grid(top)
    for one in shown:
        for place, value in enumerate(one.values):
            tip = f"{edges[place]:.4g} to {edges[place + 1]:.4g}: {value:,} {one.name}".rstrip()
            left, width = at[place] + 0.5, max(0.5, at[place + 1] - at[place] - 1)
            shapes.append(_bar(left, width, value, top, one is series, tip))
    foot = _HEIGHT - _FOOT
    for tick in nice_ticks(low, edges[-1]):
        middle = _LEFT + (tick - low) / span * _PLOT_WIDTH
        shapes.append(_line(middle, foot, middle, foot + 3))
        shapes.append(_text(middle, foot + 14, f"{tick:.10g}"))
    return _figure(title, axis, shapes, series, behind)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers of [low, high], in rising order."""
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return [low] if math.isfinite(low) else []
    rough = span / count
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * min((1, 2, 5, 10), key=lambda m: abs(m * unit - rough))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, 1 - math.floor(math.log10(step)))
    # Adding zero makes -0.0 plain.
    return [round(number * step, digits) + 0.0 for number in range(first, last + 1)]


def _top(shown: Sequence[Series]) -> float:
    """Return the count at the top: a whole one."""
    return max((max(series.values, default=0) for series in shown), default=0) or 1


def _y(value: float, top: float) -> float:
    return _HEIGHT - _FOOT - _PLOT_HEIGHT * value / top


def _grid(top: float) -> list[str]:
    shapes = []
    for tick in nice_ticks(0, top, 3):
        if tick == int(tick):
            height = _y(tick, top)
            shapes.append(_line(_LEFT, height, _WIDTH - _RIGHT, height))
            shapes.append(_text(_LEFT - 5, height + 4, f"{int(tick):,}", "end"))
    return shapes


def _bar(left: float, width: float, value: int, top: float, front: bool, tip: str) -> str:
    height = _HEIGHT - _FOOT - _y(value, top)
    # What is there at all can be seen.
    height = max(height, 1.0) if value else 0.0
    return (
        f'<rect x="{left:.1f}" y="{_HEIGHT - _FOOT - height:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" class="{"a" if front else "b"}">'
        f"<title>{escape(tip)}</title></rect>"
    )


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"></line>'


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    """Return text that stays inside the picture."""
    if anchor == "middle":
        half = len(text) * _LETTER / 2
        x = min(max(x, half), _WIDTH - half)
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _figure(
    title: str, axis: str, shapes: Sequence[str], part: Series, whole: Series | None
) -> str:
    shapes = [*shapes, _text(_LEFT + _PLOT_WIDTH / 2, _HEIGHT - 4, axis)]
    legend = ""
    if whole is not None:
        legend = (
            f'<figcaption><span class="key a"></span>{escape(part.name)} '
            f'<span class="key b"></span>{escape(whole.name)}</figcaption>'
        )
    return (
        f"<figure><h3>{escape(title)}</h3>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(shapes)}</svg>{legend}</figure>"
    )
