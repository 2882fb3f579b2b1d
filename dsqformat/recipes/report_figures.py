"""Figures of a report: what became of classes, bytes, pixels, bins, scores and sensitivity.

Each function returns what report.json holds under one name.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.recipes.publishing import Written
from dsqformat.recipes.runner import Run
from dsqformat.recipes.work_directory import StageResult
from dsqformat.select import psnr_of

_BINS: Final = 24
_LISTED: Final = 8


def class_figures(run: Run) -> list[dict[str, Any]]:
    """Return samples of the source, kept and stored, by class; none without labels."""
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
                "stored": int((mine & run.stored).sum()),
            }
        )
    return rows


def byte_figures(run: Run, written: Written, measured: StageResult) -> dict[str, Any]:
    """Return bytes of the dataset, and of the same samples and of the whole source otherwise."""
    count = max(1, int(run.stored.sum()))
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


def fidelity_figures(measured: StageResult) -> dict[str, Any]:
    """Return PSNR over all values and by sample, of what was measured."""
    error, values = measured.array("error"), measured.array("values")
    known = np.isfinite(error) & (values > 0)
    if not known.any():
        return {"measured": 0}
    lossy = known & (error > 0)
    each = 10 * np.log10(255.0**2 * values[lossy] / error[lossy])
    inside, count = measured.array("visible_error"), measured.array("visible_values")
    return {
        "measured": int(known.sum()),
        "exact": int((known & ~lossy).sum()),
        "psnr": _finite(psnr_of(float(error[known].sum()), int(values[known].sum()))),
        "psnr_stored_pixels": _finite(psnr_of(float(inside[known].sum()), int(count[known].sum()))),
        # Of those that are not exact; None if all are.
        "histogram": _histogram(each) if len(each) else None,
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def bin_figures(run: Run) -> dict[str, Any] | None:
    """Return how bins were filled and sampled; None without bins."""
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
        kept = run.kept[run.stored]
        table["by_class"] = [
            np.bincount(bin_id[kept][labels[kept] == label], minlength=count).tolist()
            for label in np.unique(labels).tolist()
        ]
    return table


def score_figures(run: Run) -> dict[str, Any] | None:
    """Return the score of the source and of what is stored; None without one."""
    values = run.score
    if values is None:
        return None
    edges = np.histogram_bin_edges(values, _BINS)
    return {
        "name": run.recipe.scores.score if run.recipe.scores else "aum",
        "source": _histogram(values, edges),
        "stored": _histogram(values[run.kept[run.stored]], edges),
    }


def sensitivity_figures(run: Run) -> dict[str, Any] | None:
    """Return the sensitivity of the kept samples, and which have most and least of it."""
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


def _histogram(
    values: NDArray[np.float64], edges: NDArray[np.float64] | None = None
) -> dict[str, Any]:
    if edges is None:
        edges = np.histogram_bin_edges(values, _BINS)
    counts, _ = np.histogram(values, edges)
    return {"counts": counts.tolist(), "edges": [float(edge) for edge in edges]}
