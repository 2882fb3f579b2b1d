"""report.json and report.html of a run: what came out, always beside several baselines."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import numpy as np

from dsqformat._version import __version__
from dsqformat.dataset import Dataset, open_dataset
from dsqformat.recipes import measures, report_figures
from dsqformat.recipes.publishing import Written
from dsqformat.recipes.report_page import render
from dsqformat.recipes.report_pictures import Shown, shown_samples
from dsqformat.recipes.runner import Run
from dsqformat.recipes.work_directory import Stage, StageResult

_SHOWN: Final = 12
_LOSSLESS_LSQ_BITS: Final = 9
_FILE_NAMES: Final = {"webp_same_psnr": "WebP", "jpeg_same_psnr": "JPEG"}


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


def _report(run: Run, written: Written, measured: StageResult) -> dict[str, Any]:
    setting, stored = run.setting, run.stored
    trained = next((stage for stage in run.stages if stage.name == "train"), None)
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
        "classes": report_figures.class_figures(run),
        "bytes": report_figures.byte_figures(run, written, measured),
        "settings": {
            "name": "qp" if run.block else "bits",
            "counts": {str(value): int((setting == value).sum()) for value in np.unique(setting)},
        },
        "fidelity": report_figures.fidelity_figures(measured),
        "bins": report_figures.bin_figures(run),
        "scores": report_figures.score_figures(run),
        "sensitivity": report_figures.sensitivity_figures(run),
        "masks": None if run.masked is None else dict(run.masked.facts),
        "training": None if trained is None else dict(trained.facts),
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
            f"At the same PSNR, {' and '.join(_FILE_NAMES[name] for name in lossy)} would be "
            "smaller."
        )
    quantizer = run.recipe.quantize.quantizer
    widest = int(run.setting.max(initial=0))
    if run.staged.field.dtype == "uint8" and quantizer == "lsq" and widest > _LOSSLESS_LSQ_BITS:
        remarks.append(
            f"lsq keeps bytes exactly from {_LOSSLESS_LSQ_BITS} bits on; {widest} only take room."
        )
    empty = [row["name"] for row in report["classes"] if not row["stored"]]
    if empty:
        remarks.append(f"No sample is left of {', '.join(empty[:10])}.")
    if run.refined is not None and run.staged.field.dtype == "uint8":
        remarks.append("PSNR is against the originals; refinement moves pictures away from them.")
    return remarks


def _pictures(run: Run, dataset: Dataset, report: dict[str, Any]) -> dict[str, list[Shown]]:
    stored = np.flatnonzero(run.stored)
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
