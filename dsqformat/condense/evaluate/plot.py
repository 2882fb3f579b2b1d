"""Accuracy against bytes per sample as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from dsqformat.condense.evaluate.baselines import UINT8
from dsqformat.condense.evaluate.picture_files import FILE_KINDS
from dsqformat.condense.evaluate.results import RowResult
from dsqformat.condense.evaluate.rows import DATASET

# Colours that the common kinds of colour blindness tell apart.
_STYLES: Final[dict[str, dict[str, Any]]] = {
    DATASET: {"color": "#d7191c", "marker": "o", "label": "DSQ datasets"},
    UINT8: {"color": "#000000", "marker": "s", "label": "uint8, whole or at random"},
    FILE_KINDS[0]: {"color": "#0072b2", "marker": "^", "label": "WebP files"},
    FILE_KINDS[1]: {"color": "#777777", "marker": "v", "label": "JPEG files"},
}
_SIZE: Final = (9.0, 6.0)
_DPI: Final = 110


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
    from matplotlib.figure import Figure

    settings: Any = {"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "dsq"}
    with mpl.rc_context(settings):
        figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
        axes: Any = figure.subplots()
        sizes = [result.nbytes_per_sample for result in results]
        middle = math.sqrt(min(sizes) * max(sizes))
        for kind, style in _STYLES.items():
            of_kind = [result for result in results if result.kind == kind]
            if of_kind:
                _draw_kind(axes, of_kind, style, middle)
        axes.set_xscale("log")
        axes.margins(x=0.08, y=0.1)
        _label_ticks(axes, sizes)
        axes.set_xlabel(
            f"bytes fetched per sample of the {results[0].of_count:,} of the largest row "
            "(log scale)"
        )
        axes.set_ylabel(f"test accuracy, % (± of {len(results[0].runs)} seeds)")
        axes.grid(visible=True, alpha=0.25)
        axes.legend(loc="lower right", fontsize=9)
        # Without a date the same results make the same file.
        date = {"Date": None} if path.suffix.lower() == ".svg" else {}
        figure.savefig(path, metadata=date)


def _label_ticks(axes: Any, nbytes: Sequence[float]) -> None:
    """Name round numbers of bytes instead of powers of ten."""
    low, high = min(nbytes) * 0.7, max(nbytes) * 1.4
    ticks = [m * 10.0**e for e in range(-2, 10) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
    axes.minorticks_off()


def _draw_kind(
    axes: Any, results: Sequence[RowResult], style: dict[str, Any], middle: float
) -> None:
    axes.errorbar(
        [result.nbytes_per_sample for result in results],
        [100 * result.accuracy for result in results],
        [0.0 if math.isnan(result.spread) else 100 * result.spread for result in results],
        linestyle="none",
        capsize=3,
        **style,
    )
    # Files often stand beside the dataset whose bytes they have: their names go below.
    below = results[0].kind in FILE_KINDS
    for result in results:
        right = result.nbytes_per_sample > middle
        axes.annotate(
            result.label,
            (result.nbytes_per_sample, 100 * result.accuracy),
            xytext=(-7 if right else 7, -12 if below else 5),
            textcoords="offset points",
            horizontalalignment="right" if right else "left",
            fontsize=8,
            color=style["color"],
        )
