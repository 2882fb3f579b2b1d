"""How samples of a report spread: over bits, PSNR, scores, bins and classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from dsqformat.recipes.report_charts import Histogram, Series, bars, histogram
from dsqformat.recipes.report_tables import fold, percent, table

# From this PSNR on a sample counts as exact in the histogram.


def plots(report: Mapping[str, Any]) -> str:
    """Return the section of plots: bits or qp, PSNR, score, sensitivity and bins."""
    shown = [
        *_of_settings(report["settings"]),
        *_of_fidelity(report["fidelity"]),
        *_of_score(report["scores"]),
        *_of_sensitivity(report["sensitivity"]),
        *_of_bins(report["bins"]),
    ]
    counts, unit = report["settings"]["counts"], report["settings"]["name"]
    said = ""
    if len(counts) == 1:
        value = next(iter(counts))
        said = f"<p>All samples at {f'{value} bits' if unit == 'bits' else f'qp {value}'}.</p>"
    inner = f'<div class="plots">{"".join(shown)}</div>' if shown else ""
    return f"<section><h2>Distributions</h2>{said}{inner}</section>" if said or inner else ""


def _of_settings(settings: Mapping[str, Any]) -> Iterator[str]:
    counts, unit = settings["counts"], settings["name"]
    if len(counts) < 2:
        return
    names = ["dropped" if value == "0" and unit == "bits" else value for value in counts]
    axis = "bits of each value" if unit == "bits" else "qp: the higher, the coarser"
    yield bars(f"Samples by {unit}", axis, names, Series("samples", list(counts.values())), None)


def _of_fidelity(fidelity: Mapping[str, Any]) -> Iterator[str]:
    # Where nothing is lost there is no distribution.
    found = fidelity.get("histogram")
    if found is None:
        return
    exact = f"; {fidelity['exact']:,} more are exact" if fidelity["exact"] else ""
    yield histogram("Samples by PSNR", f"PSNR in dB{exact}", Histogram("", found), None)


def _of_score(score: Mapping[str, Any] | None) -> Iterator[str]:
    if score is not None:
        part, whole = Histogram("stored", score["stored"]), Histogram("source", score["source"])
        yield histogram(f"Samples by score {score['name']}", score["name"], part, whole)


def _of_sensitivity(sensitivity: Mapping[str, Any] | None) -> Iterator[str]:
    if sensitivity is not None:
        axis = f"sensitivity; the median is {sensitivity['median']:.3g}"
        part = Histogram("", sensitivity["histogram"])
        yield histogram("Selected samples by sensitivity", axis, part, None)


def _of_bins(found: Mapping[str, Any] | None) -> Iterator[str]:
    if found is not None:
        names = [str(number) for number in range(len(found["sizes"]))]
        part, whole = Series("selected", found["kept"]), Series("source", found["sizes"])
        yield bars("Samples by bin", "bin", names, part, whole)


def bins(report: Mapping[str, Any]) -> str:
    """Return the section of bins, with classes by bins; nothing without bins."""
    found = report["bins"]
    if found is None:
        return ""
    more = [name for name in ("texture", "diversity", "importance") if name in found]
    rows = [
        [
            str(number),
            f"{size:,}",
            f"{found['kept'][number]:,}",
            percent(found["kept"][number], size),
            *(f"{found[name][number]:.3f}" for name in more),
        ]
        for number, size in enumerate(found["sizes"])
    ]
    parts = [
        "<h3>In the order in which they were made</h3>"
        + fold(rows, table(["bin", "samples", "selected", "share", *more], rows))
    ]
    if "by_class" in found:
        parts.append(f"<h3>Stored samples by class and bin</h3>{_cells(report)}")
    beside = "".join(f"<div>{part}</div>" for part in parts)
    return f'<section><h2>Bins</h2><div class="beside">{beside}</div></section>'


def _cells(report: Mapping[str, Any]) -> str:
    """Return classes by bins: the more samples, the stronger the colour."""
    counts, names = report["bins"]["by_class"], [row["name"] for row in report["classes"]]
    most = max((max(row, default=0) for row in counts), default=0) or 1
    lines = []
    for name, row in zip(names, counts, strict=False):
        cells = "".join(
            f'<td style="background:rgb(var(--cell) / {60 * value / most:.0f}%)">{value:,}</td>'
            for value in row
        )
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{cells}<td>{sum(row):,}</td></tr>')
    bins = "".join(f'<th scope="col">{number}</th>' for number in range(len(counts[0])))
    shown = (
        f'<div class="wide"><table class="cells"><thead><tr><th scope="col">class</th>{bins}'
        f'<th scope="col">all</th></tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )
    return fold(lines, shown)


def classes(report: Mapping[str, Any]) -> str:
    """Return the section of classes; nothing without labels."""
    found = report["classes"]
    if not found:
        return ""
    dropped = any(row["kept"] != row["stored"] for row in found)
    rows = []
    for row in found:
        numbers = [f"{row['source']:,}"]
        numbers += [f"{row['kept']:,}"] if dropped else []
        numbers += [f"{row['stored']:,}", percent(row["stored"], row["source"])]
        rows.append([escape(row["name"]), *numbers])
    head = ["class", "source", *(["selected"] if dropped else []), "stored", "share"]
    return f"<section><h2>Classes</h2>{fold(rows, table(head, rows))}</section>"
