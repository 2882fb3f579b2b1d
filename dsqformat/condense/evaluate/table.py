"""The results as a table for people, as CSV with a line for each run, and as JSON."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from dsqformat.commands.report import format_nbytes
from dsqformat.condense.evaluate.results import RowResult

HEADER: Final = (
    "trained on", "pictures", "bytes/sample", "fetched", "stored", "accuracy %", "±", "runs",
    "s/run",
)  # fmt: skip
_CSV_HEADER: Final = (
    "label", "kind", "setting", "seed", "sample_count", "of_count", "fetched_nbytes",
    "stored_nbytes", "nbytes_per_sample", "accuracy", "test_count", "last_loss", "train_s",
    "cpu_s", "steps", "batch_size", "arch", "device", "torch",
)  # fmt: skip


def table_cells(result: RowResult) -> tuple[str, ...]:
    """Return the cells of a row; see HEADER."""
    name = result.label if not result.setting else f"{result.label} ({result.setting})"
    train_s = sum(run.train_s for run in result.runs) / len(result.runs)
    return (
        name,
        f"{result.sample_count:,}",
        f"{result.nbytes_per_sample:,.1f}",
        format_nbytes(result.fetched_nbytes),
        format_nbytes(result.stored_nbytes),
        f"{100 * result.accuracy:.2f}",
        "–" if math.isnan(result.spread) else f"{100 * result.spread:.2f}",
        str(len(result.runs)),
        f"{train_s:.1f}",
    )


def notes(results: Sequence[RowResult]) -> list[str]:
    """Return under what conditions the numbers hold, a sentence each."""
    first = results[0].runs[0]
    schedule = first.schedule
    epochs = schedule["steps"] * schedule["batch_size"]
    shown = sorted({epochs / result.sample_count for result in results})
    seen = f"{shown[0]:.3g}" if len(shown) == 1 else f"{shown[0]:.3g} to {shown[-1]:.3g}"
    return [
        f"Network {schedule['arch']}, from scratch for each run: {schedule['steps']:,} steps of "
        f"{schedule['batch_size']} pictures for every row, which makes {seen} epochs; "
        f"{schedule['precision']} on {schedule['device']}; torch {first.torch}.",
        f"Accuracy on {first.test_count:,} test pictures, after the last step; "
        "± is the standard deviation over the seeds.",
        "bytes/sample: what a training client fetches, divided by the "
        f"{results[0].of_count:,} pictures of the largest row, so that pictures left out count as "
        "saved. Datasets count with labels, index, models and snapshot; pictures of uint8 and "
        "files without labels and names.",
        "stored: every byte that is kept: of datasets all layers, keys and the sample table, of "
        "sources their files.",
    ]


def result_json(result: RowResult) -> dict[str, Any]:
    """Return a row with its runs as JSON can hold it."""
    return {
        "label": result.label,
        "kind": result.kind,
        "setting": result.setting,
        "sample_count": result.sample_count,
        "of_count": result.of_count,
        "fetched_nbytes": result.fetched_nbytes,
        "stored_nbytes": result.stored_nbytes,
        "nbytes_per_sample": result.nbytes_per_sample,
        "accuracy": result.accuracy,
        "spread": None if math.isnan(result.spread) else result.spread,
        "runs": [vars(run) | {"accuracy": run.accuracy} for run in result.runs],
    }


def write_csv(path: Path, results: Sequence[RowResult]) -> None:
    """Write a line for each run; the file is replaced as a whole."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_CSV_HEADER)
            for result in results:
                for run in result.runs:
                    values = vars(run) | run.schedule | {"label": result.label}
                    values |= {"accuracy": f"{run.accuracy:.6f}", "of_count": result.of_count}
                    values["nbytes_per_sample"] = f"{run.fetched_nbytes / result.of_count:.3f}"
                    writer.writerow([values[name] for name in _CSV_HEADER])
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
