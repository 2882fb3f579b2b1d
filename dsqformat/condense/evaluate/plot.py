"""Accuracy against bytes per sample as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from dsqformat.condense.evaluate.baselines import UINT8
from dsqformat.condense.evaluate.label_places import boxes, nearest_points, place_labels
from dsqformat.condense.evaluate.picture_files import FILE_KINDS
from dsqformat.condense.evaluate.results import RowResult
from dsqformat.condense.evaluate.rows import DATASET

# Colours that the common kinds of colour blindness tell apart.
_STYLES: Final[dict[str, dict[str, Any]]] = {
    DATASET: {"color": "#c8201f", "marker": "o", "label": "DSQ datasets"},
    UINT8: {"color": "#000000", "marker": "s", "label": "uint8, whole or at random"},
    FILE_KINDS[0]: {"color": "#0072b2", "marker": "^", "label": "WebP files"},
    FILE_KINDS[1]: {"color": "#6b6b6b", "marker": "v", "label": "JPEG files"},
}
_SIZE: Final = (9.0, 6.0)
_DPI: Final = 110
_POINTS: Final = 72.0
# Half the side of a marker and half the width of the ends of its spread, in points.
_MARKER: Final = 4.0
# From this distance on a line leads from a point to its name.
_LEADER: Final = 10.0


def check_format(path: Path) -> None:
    """Raise ValueError if a file has a name by which no picture can be written."""
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().removeprefix(".") not in known:
        raise ValueError(f"{path}: expected a name that ends in one of {', '.join(sorted(known))}")


def draw_plot(path: Path, results: Sequence[RowResult]) -> None:
    """Draw a point with its spread for each row.

    Args:
        path: .png, .svg or what else matplotlib writes; see check_format.
        results: at least one.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: Any = {"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "dsq"}
    with mpl.rc_context(settings):
        figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
        # It measures names; what savefig writes is up to the path.
        canvas = FigureCanvasAgg(figure)
        axes: Any = figure.subplots()
        for kind, style in _STYLES.items():
            of_kind = [result for result in results if result.kind == kind]
            if of_kind:
                _draw_kind(axes, of_kind, style)
        axes.set_xscale("log")
        axes.margins(x=0.1, y=0.1)
        _label_ticks(axes, [result.nbytes_per_sample for result in results])
        axes.set_xlabel(
            f"bytes fetched per sample of the {results[0].of_count:,} of the largest row "
            "(log scale)"
        )
        axes.set_ylabel(f"test accuracy, % (± of {len(results[0].runs)} seeds)")
        axes.grid(visible=True, color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        # Above the axes, where no point can be.
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize=9,
            borderaxespad=0.2, handletextpad=0.2, columnspacing=1.4,
        )  # fmt: skip
        _name_points(figure, canvas, axes, results)
        # Without a date the same results make the same file.
        date = {"Date": None} if path.suffix.lower() == ".svg" else {}
        figure.savefig(path, metadata=date)


def _label_ticks(axes: Any, nbytes: Sequence[float]) -> None:
    """Name round numbers of bytes instead of powers of ten."""
    low, high = min(nbytes) * 0.7, max(nbytes) * 1.4
    ticks = [m * 10.0**e for e in range(-2, 10) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
    axes.minorticks_off()


def _draw_kind(axes: Any, results: Sequence[RowResult], style: dict[str, Any]) -> None:
    """Draw the points of a kind; those that differ in one quantity alone hang together."""
    ordered = sorted(results, key=lambda result: result.nbytes_per_sample)
    x = [result.nbytes_per_sample for result in ordered]
    y = [_percent(result) for result in ordered]
    if ordered[0].kind != DATASET:
        axes.plot(x, y, color=style["color"], linewidth=0.8, alpha=0.3, zorder=1)
    axes.errorbar(
        x,
        y,
        [_spread(result) for result in ordered],
        linestyle="none",
        capsize=2.5,
        elinewidth=1,
        markersize=5.5,
        zorder=3,
        **style,
    )


def _name_points(figure: Any, canvas: Any, axes: Any, results: Sequence[RowResult]) -> None:
    """Write the name of each row beside its point, where there is room."""
    names = [
        axes.annotate(
            result.label,
            (result.nbytes_per_sample, _percent(result)),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            color=_STYLES[result.kind]["color"],
            # A stroke around letters would turn them into outlines, which nobody can search.
            bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75},
            zorder=4,
            in_layout=False,
        )
        for result in results
    ]
    # The layout must stand before anything can be measured, and must not move afterwards.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    points = _POINTS / figure.dpi
    renderer = canvas.get_renderer()
    extents = [name.get_window_extent(renderer) for name in names]
    sizes = np.array([(box.width, box.height) for box in extents]) * points
    values = np.array([(result.nbytes_per_sample, _percent(result)) for result in results])
    anchors = axes.transData.transform(values) * points
    bars = np.array([(result.nbytes_per_sample, _spread(result)) for result in results])
    bars[:, 1] += values[:, 1]
    reach = np.maximum(axes.transData.transform(bars)[:, 1] * points - anchors[:, 1], _MARKER)
    half = np.stack([np.full(len(reach), _MARKER), reach], axis=1)
    frame = np.array(axes.get_window_extent().extents) * points
    centres = place_labels(anchors, sizes, boxes(anchors, 2 * half), frame)
    ends = nearest_points(anchors, centres, sizes)
    for number, name in enumerate(names):
        name.set_position(centres[number] - anchors[number])
        if np.linalg.norm(ends[number] - anchors[number]) > _LEADER:
            axes.annotate(
                "",
                values[number],
                xytext=ends[number] - anchors[number],
                textcoords="offset points",
                arrowprops={
                    "arrowstyle": "-", "color": name.get_color(), "linewidth": 0.6, "alpha": 0.6,
                    "shrinkA": 0, "shrinkB": _MARKER,
                },
                zorder=2,
            )  # fmt: skip


def _percent(result: RowResult) -> float:
    return 100 * result.accuracy


def _spread(result: RowResult) -> float:
    return 0.0 if math.isnan(result.spread) else 100 * result.spread
