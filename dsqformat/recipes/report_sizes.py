"""The numbers of a report that matter most: samples, bytes against other forms, fidelity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from dsqformat.commands.report import format_count, format_nbytes
from dsqformat.recipes.report_tables import folded, percent, table

_FILES: Final = {
    "float32": "float32 values",
    "uint8": "uint8 values",
    "png": "PNG files",
    "webp_lossless": "WebP files, lossless",
    "webp_same_psnr": "WebP files of the same PSNR",
    "jpeg_same_psnr": "JPEG files of the same PSNR",
}


def cards(report: Mapping[str, Any]) -> str:
    """Return what matters most: how many samples are left, their bytes, and what they lost."""
    samples, nbytes, same = report["samples"], report["bytes"], report["bytes"]["same_samples"]
    kept = [f"of {samples['source']:,} ({percent(samples['stored'], samples['source'])})"]
    if samples["dropped"]:
        kept.append(f"{samples['dropped']:,} more were selected and dropped at 0 bits")
    each = [f"{format_nbytes(nbytes['total'])} in all, every file counted"]
    shown = [
        ("Samples", f"{samples['stored']:,}", kept),
        ("Bytes per sample", f"{_short(nbytes['per_sample'])} B", each),
    ]
    if same.get("uint8"):
        others = [name for name in ("float32", "webp_lossless", "webp_same_psnr") if name in same]
        said = [_compared(same[name], nbytes["total"], _FILES[name]) for name in others]
        shown.append(("Against uint8", _ratio(same["uint8"], nbytes["total"]), said))
    shown += _fidelity(report)
    return f'<div class="cards">{"".join(_card(*card) for card in shown)}</div>'


def _fidelity(report: Mapping[str, Any]) -> list[tuple[str, str, list[str]]]:
    fidelity = report["fidelity"]
    if not fidelity["measured"]:
        return []
    if fidelity["psnr"] is None:
        return [("Fidelity", "exact", ["all values come back as they were"])]
    said = ["PSNR of what a trainer sees; higher is closer"]
    if report["masks"] is not None:
        stored = fidelity["psnr_stored_pixels"]
        exact = "stored pixels come back exactly"
        said.append(exact if stored is None else f"{stored:.1f} dB of stored pixels")
    return [("Fidelity", f"{fidelity['psnr']:.1f} dB", said)]


def _card(name: str, value: str, said: Sequence[str]) -> str:
    lines = "".join(f"<span>{escape(line)}</span>" for line in said)
    return f'<div class="card"><span>{escape(name)}</span><b>{escape(value)}</b>{lines}</div>'


def sizes(report: Mapping[str, Any]) -> str:
    """Return the section of bytes: the dataset among the same samples in other forms, by size."""
    nbytes, count = report["bytes"], max(1, report["samples"]["stored"])
    total = nbytes["total"]
    psnr = report["fidelity"].get("psnr")
    entries = []
    for form, size in nbytes["same_samples"].items():
        at = f" ({psnr:.1f} dB)" if form.endswith("same_psnr") and psnr is not None else ""
        entries.append((size, f"{_FILES[form]}{at}", ""))
    entries.append((total, "this dataset, all files", ' class="this"'))
    entries.sort(key=lambda entry: -entry[0])
    most = max(1, entries[0][0])
    rows = [
        f'<tr{mark}><th scope="row">{name}<i style="width:{100 * size / most:.2f}%"></i></th>'
        f'<td>{_short(size / count)}</td><td class="total">{format_nbytes(size)}</td>'
        f"<td>{'' if mark else _ratio(size, total)}</td></tr>"
        for size, name, mark in entries
    ]
    head = (
        '<thead><tr><th scope="col">the same samples as</th><th scope="col">bytes per sample</th>'
        '<th scope="col" class="total">in all</th><th scope="col">this dataset is</th></tr></thead>'
    )
    lines = "".join(f'<p class="faint">{escape(line)}</p>' for line in _conditions(report))
    return (
        f'<section><h2>Bytes</h2><div class="wide"><table class="sizes">{head}<tbody>'
        f"{''.join(rows)}</tbody></table></div>{lines}{_parts(nbytes['parts'])}</section>"
    )


def _conditions(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield what belongs to the table of bytes, line by line."""
    nbytes, count = report["bytes"], report["samples"]["source"]
    whole = [
        f"{format_nbytes(size)} as {_FILES[form]} ({_times(size, nbytes['total'])} this dataset)"
        for form, size in nbytes["whole_source"].items()
    ]
    yield f"The whole source, {format_count(count, 'sample')}, takes {' and '.join(whole)}."
    if nbytes["files_measured"]:
        yield f"Picture files: mean of {format_count(nbytes['files_measured'], 'sample')}."
    if nbytes["paper_reduction"] is not None:
        saved = percent(nbytes["paper_reduction"], 1)
        yield f"Codes alone against float32, as papers count: {saved} saved."


def _parts(parts: Mapping[str, int]) -> str:
    total = max(1, parts["total"])
    rows = []
    for name, size in sorted(parts.items(), key=lambda part: -part[1]):
        if name == "total" or not size:
            continue
        kind, _, rest = name.partition(".")
        if kind == "layer":
            field, _, number = rest.rpartition(".")
            shown = f"field {field}, layer {number}"
        else:
            shown = name.replace("_", " ")
        rows.append([escape(shown), f"{size:,}", percent(size, total)])
    return folded("Which parts these bytes are", table(["part", "bytes", "share"], rows))


def _short(nbytes: float) -> str:
    return f"{nbytes:,.0f}" if nbytes >= 100 else f"{nbytes:.1f}"


def _times(size: float, other: float) -> str:
    times = size / max(other, 1)
    return f"{times:,.0f} times" if times >= 10 else f"{times:.3g} times"


def _ratio(size: float, total: float) -> str:
    """Return how much smaller or larger than a size the dataset is."""
    if not size or not total:
        return ""
    times = max(size / total, total / size)
    if times < 1.005:
        return "as large"
    shown = f"{times:,.0f}" if times >= 10 else f"{times:.1f}" if times >= 2 else f"{times:.2f}"
    return f"{shown}\N{MULTIPLICATION SIGN} {'smaller' if size > total else 'larger'}"


def _compared(size: float, total: float, name: str) -> str:
    ratio = _ratio(size, total)
    return f"{ratio} {'as' if ratio == 'as large' else 'than'} {name}"
