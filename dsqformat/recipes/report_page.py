"""The page of a report: one file, no script, nothing fetched from anywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from dsqformat.commands.report import format_count
from dsqformat.recipes.report_distributions import bins, classes, plots
from dsqformat.recipes.report_pictures import Shown
from dsqformat.recipes.report_sizes import cards, sizes
from dsqformat.recipes.report_style import STYLE
from dsqformat.recipes.report_tables import folded, percent, table

_GROUPS: Final = {
    "spread": "Spread evenly over the dataset",
    "most": "Most sensitive to quantization",
    "least": "Least sensitive to quantization",
}


def render(report: Mapping[str, Any], pictures: Mapping[str, Sequence[Shown]]) -> str:
    """Return the page of a report.

    Args:
        report: what report.json holds.
        pictures: samples by group.
    """
    recipe = report["recipe"]
    parts = [
        f"<header><h1>{escape(recipe['name'])}</h1>",
        f"<p>{escape(recipe['summary'])}</p>",
        f'<p class="faint">{escape(recipe["paper"])}</p>' if recipe["paper"] else "",
        f"</header>\n<main>\n{cards(report)}",
        _notes(report["remarks"]),
        sizes(report),
        _samples(report, pictures),
        plots(report),
        bins(report),
        classes(report),
        _making(report),
        f'</main>\n<footer class="faint">Snapshot <code>{escape(report["snapshot"])}</code>, '
        f"dsqformat {escape(report['version'])}, seed {recipe['seed']}.</footer>",
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(recipe['name'])}: condensed</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _notes(remarks: Sequence[str]) -> str:
    if not remarks:
        return ""
    lines = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
    return f'<div class="notes"><b>Know before you trust the numbers</b><ul>{lines}</ul></div>'


def _samples(report: Mapping[str, Any], pictures: Mapping[str, Sequence[Shown]]) -> str:
    groups = {name: shown for name, shown in pictures.items() if shown}
    if not groups:
        return ""
    said = []
    masks, sensitivity = report["masks"], report["recipe"].get("sensitivity")
    if masks is not None:
        fills = masks["reconstructor"]
        said.append(
            f"{masks['kept_patches']} of {masks['patches']} patches of each picture are stored; "
            + ("the others stay empty." if fills == "none" else f"{fills} fills in the others.")
        )
    if "most" in groups:
        distortion = sensitivity is not None and sensitivity["engine"] == "distortion"
        said.append(
            "Sensitivity is the squared error that quantization leaves, of values from 0 to 1."
            if distortion
            else "Sensitivity is how much quantization turns the gradient of a sample: "
            "1 \N{MINUS SIGN} cosine of the angle, from 0 (not at all) to 2."
        )
    lines = "".join(f"<p>{escape(line)}</p>" for line in said)
    shown = "".join(
        f"<h3>{escape(_GROUPS[name])}</h3>{_figures(shown)}" for name, shown in groups.items()
    )
    return f"<section><h2>Samples before and after</h2>{lines}{shown}</section>"


def _figures(shown: Sequence[Shown]) -> str:
    figures, widest = [], 0
    for sample in shown:
        images = [_image(sample, "original", sample.original)]
        if sample.stored is None:
            width, height = sample.size
            images.append(
                f'<div><span class="gone" style="display:block;width:{width}px;'
                f'height:{height}px"></span>dropped</div>'
            )
        else:
            images.append(_image(sample, "stored", sample.stored))
        if sample.filled is not None:
            images.append(_image(sample, "filled in", sample.filled))
        widest = max(widest, len(images) * (sample.size[0] + 4) - 4)
        caption = ", ".join(f"<span>{escape(part)}</span>" for part in sample.caption.split(", "))
        figures.append(
            f'<figure><div class="row">{"".join(images)}</div><figcaption>'
            f"<b>{escape(sample.name)}</b><br>{caption}</figcaption></figure>"
        )
    return f'<div class="samples" style="--figure:{widest}px">{"".join(figures)}</div>'


def _image(sample: Shown, kind: str, source: str) -> str:
    width, height = sample.size
    sharp = ' class="sharp"' if sample.enlarged else ""
    return (
        f'<div><img{sharp} width="{width}" height="{height}" src="{source}" '
        f'alt="sample {escape(sample.name)}, {kind}">{kind}</div>'
    )


def _making(report: Mapping[str, Any]) -> str:
    stages = [
        [
            escape(stage["stage"]),
            "reused" if stage["reused"] else "made",
            f"{stage['elapsed_s']:.1f}",
            f"<code>{escape(stage['digest'][:12])}</code>",
        ]
        for stage in report["stages"]
    ]
    said = ""
    trained = report["training"]
    if trained is not None and trained.get("accuracy"):
        accuracy, loss = trained["accuracy"], trained["loss"]
        network = report["recipe"].get("train", {}).get("network", "")
        said = (
            f"<p>Proxy {escape(network)} after {format_count(len(accuracy), 'epoch')}: "
            f"{percent(accuracy[-1], 1)} of its training pictures right, loss {loss[-1]:.3f}.</p>"
        )
    options = [
        [escape(stage), ", ".join(_option(name, value) for name, value in chosen.items())]
        for stage, chosen in report["recipe"].items()
        if isinstance(chosen, Mapping)
    ]
    more = folded("All options of the recipe", table(["stage", "options"], options, text=(1,)))
    made = table(["stage", "result", "seconds", "digest"], stages, text=(1,))
    return f"<section><h2>How it was made</h2>{said}{made}{more}</section>"


def _option(name: str, value: Any) -> str:
    """Return an option about as a TOML file has it; numbers of recipes are text in report.json."""
    shown = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return f"<code>{escape(name)}&nbsp;=&nbsp;{escape(shown)}</code>"
