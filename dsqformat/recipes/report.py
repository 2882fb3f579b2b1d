"""report.json and report.html of a run: what came out, always beside several baselines."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat._version import __version__
from dsqformat.dataset import Dataset, open_dataset
from dsqformat.recipes import measures
from dsqformat.recipes.report_page import render
from dsqformat.recipes.report_pictures import Shown, shown_samples
from dsqformat.recipes.runner import Run
from dsqformat.recipes.work_directory import Stage, StageResult
from dsqformat.select import psnr_of

if TYPE_CHECKING:
    from dsqformat.recipes.condensing import Written

_BINS: Final = 24
_LISTED: Final = 8
_SHOWN: Final = 12
_LOSSLESS_LSQ_BITS: Final = 9


def write_report(run: Run, written: Written, dest: Path, ref: str) -> dict[str, Any]:
    """Measure a snapshot, and write both reports into the work directory.

    Args:
        run: that made it.
        written: what was published.
        dest: the dataset.
        ref: its name.

    Returns:
        What report.json holds.
    """
    with open_dataset(dest, ref=ref) as dataset:
        measured = _measured(run, dataset)
        report = _report(run, written, measured)
        pictures = _pictures(run, dataset, report)
    _replace(run.work.path / "report.json", json.dumps(report, indent=1, allow_nan=False))
    _replace(run.work.path / "report.html", render(report, pictures))
    return report


def _measured(run: Run, dataset: Dataset) -> StageResult:
    inputs = {"snapshot": dataset.snapshot.id, "staged": run.staged.digest}
    stage = Stage(
        "measure", measures.VERSION, {}, inputs, lambda _folder: measures.measure(run, dataset)
    )
    return run.work.result(stage)


def _report(run: Run, written: Written, measured: Any) -> dict[str, Any]:
    setting, stored = run.setting, _stored(run)
    error, values = measured.array("error"), measured.array("values")
    report: dict[str, Any] = {
        "recipe": run.recipe.to_json(),
        "version": __version__,
        "snapshot": written.snapshot_id,
        "source": dict(run.reading) | {"snapshot": run.staged.digest},
        "samples": {
            "source": len(run.staged),
            "kept": len(run.kept),
            "stored": int(stored.sum()),
            "dropped": int((~stored).sum()),
        },
        "classes": _classes(run, stored),
        "bytes": _bytes(run, written, measured, stored),
        "settings": {
            "name": "qp" if run.block else "bits",
            "counts": {str(value): int((setting == value).sum()) for value in np.unique(setting)},
        },
        "fidelity": _fidelity(error, values, measured),
        "bins": _bins(run, stored),
        "scores": None if run.score is None else _score(run, stored),
        "sensitivity": _sensitivity(run),
        "masks": _masks(run),
        "training": _training(run),
        "stages": [
            {
                "stage": stage.name,
                "digest": stage.digest,
                "elapsed_s": round(stage.elapsed_s, 3),
                "reused": stage.reused,
            }
            for stage in run.stages
        ],
    }
    report["remarks"] = _remarks(run, report)
    return report


def _stored(run: Run) -> NDArray[np.bool_]:
    """Return which of the kept samples have a payload."""
    return np.ones(len(run.kept), "?") if run.block else run.setting > 0


def _classes(run: Run, stored: NDArray[np.bool_]) -> list[dict[str, Any]]:
    if not run.staged.has_labels:
        return []
    labels = run.staged.labels("the report")
    names = run.staged.label_names
    rows = []
    for label in np.unique(labels).tolist():
        mine = labels[run.kept] == label
        name = names[label] if 0 <= label < len(names) else str(label)
        rows.append(
            {
                "label": label,
                "name": name,
                "source": int((labels == label).sum()),
                "kept": int(mine.sum()),
                "stored": int((mine & stored).sum()),
            }
        )
    return rows


def _bytes(run: Run, written: Written, measured: Any, stored: NDArray[np.bool_]) -> dict[str, Any]:
    """Return bytes of the dataset, and of the same samples and of the whole source otherwise."""
    count = max(1, int(stored.sum()))
    measured_values = measured.array("values")
    mean = float(measured_values.sum()) / max(1, int((measured_values > 0).sum()))
    values = round(mean * count)
    of_source = round(mean * len(run.staged))
    same: dict[str, Any] = {"float32": 4 * values, "uint8": values}
    files = measured.facts["files"]
    for name in ("png", "webp_lossless", "webp_same_psnr", "jpeg_same_psnr"):
        if name in files:
            same[name] = round(files[name] * count)
    return {
        "total": written.total_nbytes,
        "per_sample": written.total_nbytes / count,
        "parts": written.sizes,
        "same_samples": same,
        "files_measured": files.get("count", 0),
        "whole_source": {"float32": 4 * of_source, "uint8": of_source},
        "paper_reduction": _paper_reduction(run),
    }


def _paper_reduction(run: Run) -> float | None:
    """Return R = 1 - share kept x mean bits / 32, which counts nothing but codes."""
    if run.block or run.recipe.quantize.quantizer == "raw":
        return None
    visible = 1.0
    if run.masked is not None:
        visible = run.masked.facts["kept_patches"] / run.masked.facts["patches"]
    return 1 - float(run.setting.sum()) / len(run.staged) * visible / 32


def _fidelity(
    error: NDArray[np.float64], values: NDArray[np.int64], measured: Any
) -> dict[str, Any]:
    known = np.isfinite(error) & (values > 0)
    if not known.any():
        return {"measured": 0}
    each = 10 * np.log10(255.0**2 * values[known] / np.maximum(error[known], 1e-3))
    inside, count = measured.array("visible_error"), measured.array("visible_values")
    return {
        "measured": int(known.sum()),
        "psnr": _finite(psnr_of(float(error[known].sum()), int(values[known].sum()))),
        "psnr_stored_pixels": _finite(psnr_of(float(inside[known].sum()), int(count[known].sum()))),
        "histogram": _histogram(np.minimum(each, 99)),
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _bins(run: Run, stored: NDArray[np.bool_]) -> dict[str, Any] | None:
    if run.selected is None or not run.selected.has("bin_id"):
        return None
    bin_id = np.asarray(run.selected.array("bin_id"))
    count = int(bin_id.max()) + 1
    table: dict[str, Any] = {
        "sizes": np.bincount(bin_id, minlength=count).tolist(),
        "kept": np.bincount(bin_id[run.kept], minlength=count).tolist(),
    }
    for name in ("texture", "diversity", "importance"):
        if name in run.selected.facts:
            table[name] = run.selected.facts[name]
    if run.staged.has_labels:
        labels = run.staged.labels("the report")
        kept = run.kept[stored]
        table["by_class"] = [
            np.bincount(bin_id[kept][labels[kept] == label], minlength=count).tolist()
            for label in np.unique(labels).tolist()
        ]
    return table


def _score(run: Run, stored: NDArray[np.bool_]) -> dict[str, Any]:
    values = run.score if run.score is not None else np.zeros(1)
    edges = np.histogram_bin_edges(values, _BINS)
    return {
        "name": run.recipe.scores.score if run.recipe.scores else "aum",
        "source": _histogram(values, edges),
        "stored": _histogram(values[run.kept[stored]], edges),
    }


def _sensitivity(run: Run) -> dict[str, Any] | None:
    values = run.sensitivity
    if values is None or not len(values):
        return None
    order = np.lexsort((np.arange(len(values)), -values))
    return {
        "histogram": _histogram(values),
        "median": float(np.median(values)),
        "most": _ranked(run, order[:_LISTED], values),
        "least": _ranked(run, order[::-1][:_LISTED], values),
    }


def _ranked(
    run: Run, numbers: NDArray[np.int64], values: NDArray[np.float64]
) -> list[dict[str, Any]]:
    return [
        {
            "number": number,
            "position": int(run.kept[number]),
            "sensitivity": float(values[number]),
            "bits": int(run.setting[number]),
        }
        for number in numbers.tolist()
    ]


def _masks(run: Run) -> dict[str, Any] | None:
    return None if run.masked is None else dict(run.masked.facts)


def _training(run: Run) -> dict[str, Any] | None:
    trained = next((stage for stage in run.stages if stage.name == "train"), None)
    return None if trained is None else dict(trained.facts)


def _histogram(
    values: NDArray[np.float64], edges: NDArray[np.float64] | None = None
) -> dict[str, Any]:
    if edges is None:
        edges = np.histogram_bin_edges(values, _BINS)
    counts, _ = np.histogram(values, edges)
    return {"counts": counts.tolist(), "edges": [float(edge) for edge in edges]}


def _remarks(run: Run, report: dict[str, Any]) -> list[str]:
    """Return what a reader should know before trusting the numbers."""
    remarks = []
    total, same = report["bytes"]["total"], report["bytes"]["same_samples"]
    if total > same["uint8"]:
        remarks.append(
            f"These samples take {total / same['uint8']:.2f} times the bytes of plain uint8: "
            "a gain over float32 alone."
        )
    exact = {name: same[name] for name in ("png", "webp_lossless") if name in same}
    if exact and total > min(exact.values()):
        best = min(exact, key=lambda name: exact[name])
        kind = "PNG" if best == "png" else "WebP"
        remarks.append(f"Lossless {kind} files of the same samples would be smaller.")
    lossy = [name for name in same if name.endswith("_same_psnr") and same[name] < total]
    if lossy:
        remarks.append(
            f"At the same PSNR, {' and '.join(name.split('_')[0] for name in lossy)} would be "
            "smaller."
        )
    quantizer = run.recipe.quantize.quantizer
    widest = int(run.setting.max(initial=0))
    if run.staged.field.dtype == "uint8" and quantizer == "lsq" and widest > _LOSSLESS_LSQ_BITS:
        remarks.append(
            f"lsq keeps bytes exactly from {_LOSSLESS_LSQ_BITS} bits on; {widest} only take room."
        )
    if run.masked is not None and quantizer != "patch":
        remarks.append(
            "Fields with masks are coded as packed or zstd: the coding rans takes whole samples."
        )
    empty = [row["name"] for row in report["classes"] if not row["stored"]]
    if empty:
        remarks.append(f"No sample is left of {', '.join(empty[:10])}.")
    if run.refined is not None and run.staged.field.dtype == "uint8":
        remarks.append("PSNR is against the originals; refinement moves pictures away from them.")
    return remarks


def _pictures(run: Run, dataset: Dataset, report: dict[str, Any]) -> dict[str, list[Shown]]:
    stored = np.flatnonzero(_stored(run))
    spread = (
        stored[np.linspace(0, max(0, len(stored) - 1), _SHOWN).astype("i8")]
        if len(stored)
        else stored
    )
    groups = {"spread": np.unique(spread)}
    if report["sensitivity"] is not None:
        for name in ("most", "least"):
            numbers = [row["number"] for row in report["sensitivity"][name]]
            groups[name] = np.array(numbers, "i8")
    return shown_samples(run, dataset, groups)


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, "utf-8")
    os.replace(part, path)
