"""Rate-distortion curves as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from dsqformat.bench.curves import Curve
from dsqformat.bench.points import Measure
from dsqformat.bench.results import SetResult
from dsqformat.bench.settings import TARGETS_DB, TARGETS_SSIM, block_codec, pixel_codec

# Colours that the common kinds of colour blindness tell apart; thick lines are DSQ.
_STYLES: Final[dict[str, dict[str, Any]]] = {
    block_codec(1): {"color": "#d7191c", "linewidth": 2.4, "marker": "o", "zorder": 5},
    block_codec(2): {"color": "#d7191c", "linewidth": 1.6, "linestyle": "--", "zorder": 4},
    f"{block_codec(2)}, first 1": {"color": "#d7191c", "linewidth": 1.6, "linestyle": ":"},
    pixel_codec("lsq", "rans"): {"color": "#e69f00", "linewidth": 1.6, "marker": "s"},
    pixel_codec("patch", "rans"): {"color": "#cc79a7", "linewidth": 1.6, "marker": "s"},
    "WebP, method 6": {"color": "#0072b2", "marker": "^"},
    "AVIF 4:2:0, speed 6": {"color": "#009e73", "marker": "v", "linestyle": "--"},
    "AVIF 4:4:4, speed 6": {"color": "#009e73", "marker": "v"},
    "JPEG XL, effort 7": {"color": "#56b4e9", "marker": "D"},
    "JPEG 4:2:0": {"color": "#777777", "marker": "x", "linestyle": "--"},
    "JPEG 4:4:4": {"color": "#777777", "marker": "x"},
    "PNG, median-cut palette": {"color": "#000000", "marker": "+", "linestyle": ":"},
}
_AXES: Final[tuple[tuple[Measure, str], ...]] = (
    ("psnr_db", "PSNR over the dataset, dB"),
    ("ssim", "mean SSIM"),
)
_DPI: Final = 110
# How far beyond the compared fidelities the axes reach.
_MARGIN: Final = {"psnr_db": 3.5, "ssim": 0.06}


def draw_curves(path: Path, results: Sequence[SetResult]) -> None:
    """Write a picture with a row of two plots for each set.

    Args:
        path: .png, .svg or what else matplotlib writes.
        results: at least one.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.size": 10, "svg.fonttype": "none"}):
        figure = Figure(figsize=(14, 6 * len(results)), dpi=_DPI, layout="constrained")
        grid = figure.subplots(len(results), 2, squeeze=False)
        for row, result in zip(grid, results, strict=True):
            for axes, (measure, label) in zip(row, _AXES, strict=True):
                _draw(axes, result, measure, label)
            row[0].set_title(f"{result.name}: {result.sample_count:,} samples", loc="left")
            row[1].legend(loc="lower right", fontsize=8.5, framealpha=0.9)
        figure.savefig(path)


def _draw(axes: Any, result: SetResult, measure: Measure, label: str) -> None:
    targets = (TARGETS_DB if measure == "psnr_db" else TARGETS_SSIM)[result.name]
    low, high = targets[0] - _MARGIN[measure], min(targets[-1] + _MARGIN[measure], _top(measure))
    sizes: list[float] = []
    for name, style in _STYLES.items():
        curve = result.points.curve(name, measure)
        seen = _within(curve, low, high)
        if len(seen.fidelity) < 2:
            continue
        sizes += seen.nbytes
        axes.plot(seen.nbytes, seen.fidelity, label=name, markersize=4.5, **style)
    axes.set_xscale("log")
    if sizes:
        ticks = [n for n in _ROUND if 0.8 * min(sizes) <= n <= 1.25 * max(sizes)]
        axes.set_xticks(ticks, [_short(n) for n in ticks])
        axes.minorticks_off()
    axes.set_ylim(low, high)
    axes.set_xlabel("bytes per sample, everything counted (log scale)")
    axes.set_ylabel(label)
    axes.grid(visible=True, alpha=0.3)


_ROUND: Final = [m * 10**e for e in range(1, 6) for m in (1, 2, 3, 5, 7)]


def _short(nbytes: int) -> str:
    return f"{nbytes}" if nbytes < 1000 else f"{nbytes / 1000:g}k"


def _top(measure: Measure) -> float:
    return 1.0 if measure == "ssim" else 100.0


def _within(curve: Curve, low: float, high: float) -> Curve:
    """Return the part of a curve that is drawn, with one point on either side."""
    inside = [i for i, f in enumerate(curve.fidelity) if low <= f <= high]
    if not inside:
        return Curve((), ())
    first, last = max(0, inside[0] - 1), min(len(curve.fidelity), inside[-1] + 2)
    return Curve(curve.fidelity[first:last], curve.nbytes[first:last])
