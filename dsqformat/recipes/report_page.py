"""The page of a report: one file, no script, nothing fetched from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from dsqformat.commands.report import format_nbytes
from dsqformat.recipes.report_pictures import Shown

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2330; --faint: #6a7385; --line: #d9dee7;
  --bar: #3b6fb6; --bar2: #d08a2e; --ground: #ffffff; --soft: #f3f5f9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ef; --faint: #98a2b5; --line: #39414f;
  --bar: #6ea0e6; --bar2: #e2a752; --ground: #14181f; --soft: #1c222c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.2rem 4rem; background: var(--ground);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p { margin: .3rem 0; } .faint { color: var(--faint); }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.card { background: var(--soft); border-radius: .5rem; padding: .7rem 1rem; min-width: 9rem; }
.card b { display: block; font-size: 1.35rem; font-weight: 600; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } th { color: var(--faint); font-weight: 500; }
.wide { overflow-x: auto; }
.samples { display: flex; flex-wrap: wrap; gap: 1rem; }
.samples figure { margin: 0; } .samples img { height: 80px; image-rendering: pixelated;
  margin-right: 3px; border-radius: 2px; }
.samples figcaption { color: var(--faint); font-size: .75rem; max-width: 260px; }
.plots { display: flex; flex-wrap: wrap; gap: 1.5rem; }
svg text { fill: var(--faint); font: 10px system-ui, sans-serif; }
.remarks li { margin: .2rem 0; } code { font-size: .85em; overflow-wrap: anywhere; }
"""
_BASELINES: Final = {
    "float32": "float32 values",
    "uint8": "uint8 values",
    "png": "PNG files",
    "webp_lossless": "WebP files, lossless",
    "webp_same_psnr": "WebP files of the same PSNR",
    "jpeg_same_psnr": "JPEG files of the same PSNR",
}
_GROUPS: Final = {
    "spread": "Samples: original, then as stored",
    "most": "Most sensitive to quantization",
    "least": "Least sensitive to quantization",
}
_WIDTH, _HEIGHT, _FOOT = 300, 110, 16


def render(report: Mapping[str, Any], pictures: Mapping[str, Sequence[Shown]]) -> str:
    """Return the page of a report.

    Args:
        report: what report.json holds.
        pictures: samples by group.
    """
    recipe = report["recipe"]
    parts = [
        f"<h1>{escape(recipe['name'])}</h1>",
        f"<p>{escape(recipe['summary'])}</p>",
        f'<p class="faint">{escape(recipe["paper"])}</p>' if recipe["paper"] else "",
        _cards(report),
        _remarks(report["remarks"]),
        _baselines(report["bytes"], report["samples"]["stored"]),
        *(_samples(_GROUPS[name], shown) for name, shown in pictures.items()),
        _plots(report),
        _bin_table(report),
        _class_table(report["classes"]),
        _stages(report["stages"]),
        f'<p class="faint">snapshot <code>{escape(report["snapshot"])}</code>, dsqformat '
        f"{escape(report['version'])}, seed {recipe['seed']}</p>",
    ]
    body = "\n".join(part for part in parts if part)
    title = escape(recipe["name"])
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}: condensed</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _cards(report: Mapping[str, Any]) -> str:
    samples, nbytes, fidelity = report["samples"], report["bytes"], report["fidelity"]
    cards = [
        (f"{samples['stored']:,}", f"of {samples['source']:,} samples"),
        (format_nbytes(nbytes["total"]), "every byte counted"),
        (f"{nbytes['per_sample']:,.0f} B", "per sample"),
    ]
    if fidelity.get("psnr") is not None:
        cards.append((f"{fidelity['psnr']:.1f} dB", "PSNR as a trainer sees them"))
    elif fidelity["measured"]:
        cards.append(("exact", "all values come back"))
    if report["masks"] is not None and fidelity.get("psnr_stored_pixels") is not None:
        cards.append((f"{fidelity['psnr_stored_pixels']:.1f} dB", "PSNR of stored pixels"))
    if nbytes["paper_reduction"] is not None:
        cards.append((f"{nbytes['paper_reduction']:.1%}", "R of the paper: codes against float32"))
    inner = "".join(f'<div class="card"><b>{escape(a)}</b>{escape(b)}</div>' for a, b in cards)
    return f'<div class="cards">{inner}</div>'


def _remarks(remarks: Sequence[str]) -> str:
    if not remarks:
        return ""
    return f'<ul class="remarks">{"".join(f"<li>{escape(r)}</li>" for r in remarks)}</ul>'


def _baselines(nbytes: Mapping[str, Any], count: int) -> str:
    total = nbytes["total"]
    rows = [["<b>this dataset, all files</b>", f"{total:,}", f"{total / max(1, count):,.1f}", ""]]
    for name, size in nbytes["same_samples"].items():
        share = f"{total / size:.1%}" if size else ""
        rows.append([_BASELINES[name], f"{size:,}", f"{size / max(1, count):,.1f}", share])
    for name, size in nbytes["whole_source"].items():
        share = f"{total / size:.1%}" if size else ""
        rows.append([f"the whole source as {_BASELINES[name]}", f"{size:,}", "", share])
    said = ""
    if nbytes["files_measured"]:
        said = f'<p class="faint">Picture files: mean of {nbytes["files_measured"]} samples.</p>'
    head = ["the same samples as", "bytes", "per sample", "this dataset is"]
    return f"<h2>Bytes</h2>{_table(head, rows)}{said}"


def _samples(title: str, shown: Sequence[Shown]) -> str:
    if not shown:
        return ""
    figures = []
    for sample in shown:
        sources = [sample.original, sample.stored, sample.filled]
        images = "".join(
            f'<img src="{source}" alt="{escape(name)}">'
            for source, name in zip(sources, ("original", "stored", "filled in"), strict=True)
            if source is not None
        )
        figures.append(
            f"<figure>{images}<figcaption>{escape(sample.caption)}</figcaption></figure>"
        )
    if any(sample.filled for sample in shown):
        title += ", then with left-out patches filled in"
    return f'<h2>{escape(title)}</h2><div class="samples">{"".join(figures)}</div>'


def _plots(report: Mapping[str, Any]) -> str:
    plots = []
    settings = report["settings"]
    counts = settings["counts"]
    names = [f"{'dropped' if v == '0' and settings['name'] == 'bits' else v}" for v in counts]
    plots.append(_bars(f"Samples by {settings['name']}", [list(counts.values())], names))
    if "histogram" in report["fidelity"]:
        plots.append(_histogram("PSNR of samples, dB", [report["fidelity"]["histogram"]]))
    if report["scores"] is not None:
        score = report["scores"]
        title = f"Score {score['name']}: source, and stored"
        plots.append(_histogram(title, [score["source"], score["stored"]]))
    if report["sensitivity"] is not None:
        plots.append(
            _histogram("Sensitivity of kept samples", [report["sensitivity"]["histogram"]])
        )
    if report["bins"] is not None:
        bins = report["bins"]
        names = [str(number) for number in range(len(bins["sizes"]))]
        plots.append(
            _bars("Samples by bin: source, and kept", [bins["sizes"], bins["kept"]], names)
        )
    return f'<h2>Distributions</h2><div class="plots">{"".join(plots)}</div>'


def _histogram(title: str, histograms: Sequence[Mapping[str, Any]]) -> str:
    edges = histograms[0]["edges"]
    names = [f"{edges[0]:.3g}", *[""] * (len(edges) - 3), f"{edges[-1]:.3g}"]
    return _bars(title, [histogram["counts"] for histogram in histograms], names)


def _bars(title: str, series: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Return bars as SVG; a second series is drawn in front of the first."""
    top = max((max(values, default=0) for values in series), default=0) or 1
    step = _WIDTH / max(1, len(names))
    # Names that would run into each other are left out, evenly.
    every = max(1, -(-sum(len(name) for name in names) * 6 // _WIDTH))
    shapes = []
    for number, values in enumerate(series):
        inset = step * (0.1 if number == 0 else 0.25)
        colour = "var(--bar)" if number == 0 else "var(--bar2)"
        for place, value in enumerate(values):
            height = (_HEIGHT - _FOOT) * value / top
            shapes.append(
                f'<rect x="{place * step + inset:.1f}" y="{_HEIGHT - _FOOT - height:.1f}" '
                f'width="{max(0.5, step - 2 * inset):.1f}" height="{height:.1f}" '
                f'fill="{colour}"><title>{escape(names[place])} {value:,}</title></rect>'
            )
    for place, name in enumerate(names):
        if name and (place % every == 0 or place == len(names) - 1):
            at = min(max((place + 0.5) * step, 12), _WIDTH - 14)
            shapes.append(
                f'<text x="{at:.1f}" y="{_HEIGHT - 4}" text-anchor="middle">{escape(name)}</text>'
            )
    return (
        f'<figure style="margin:0"><svg width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(shapes)}</svg>"
        f'<figcaption class="faint">{escape(title)}; highest {top:,}</figcaption></figure>'
    )


def _bin_table(report: Mapping[str, Any]) -> str:
    bins = report["bins"]
    if bins is None:
        return ""
    numbers = [str(number) for number in range(len(bins["sizes"]))]
    rows = [["samples", *map(str, bins["sizes"])], ["kept", *map(str, bins["kept"])]]
    rows += [
        [name, *(f"{value:.3f}" for value in bins[name])]
        for name in ("texture", "diversity", "importance")
        if name in bins
    ]
    for row, counts in zip(report["classes"], bins.get("by_class", ()), strict=False):
        rows.append([f"stored of {escape(row['name'])}", *map(str, counts)])
    return f"<h2>Bins by class</h2>{_table(['bin', *numbers], rows)}"


def _class_table(classes: Sequence[Mapping[str, Any]]) -> str:
    if not classes:
        return ""
    rows = [
        [escape(row["name"]), f"{row['source']:,}", f"{row['kept']:,}", f"{row['stored']:,}"]
        for row in classes
    ]
    return f"<h2>Classes</h2>{_table(['class', 'source', 'kept', 'stored'], rows)}"


def _stages(stages: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            escape(stage["stage"]),
            f"{stage['elapsed_s']:.2f}",
            "found" if stage["reused"] else "made",
            f"<code>{stage['digest'][:16]}</code>",
        ]
        for stage in stages
    ]
    return f"<h2>Stages</h2>{_table(['stage', 'seconds', '', 'digest'], rows)}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells are HTML already."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{lines}</table></div>'
