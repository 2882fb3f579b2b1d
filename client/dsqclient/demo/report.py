"""What the demo leaves behind: a table, a picture, and all figures as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat import Dataset


@dataclass(frozen=True)
class Row:
    """One way to bring the training patches, and what it cost.

    Attributes:
        name: of the way.
        wire_nbytes_per_sample: bytes on the wire per sample and epoch, HTTP and all; None where
            nothing was sent.
        stored_nbytes_per_sample: bytes of the pictures or codes alone.
        psnr_db: 10 log10(255^2 / mean squared error over all values); None: exact.
        first_batch_s: seconds to the first batch.
        epoch_s: mean seconds of an epoch.
        accuracy: on the test patches, 0 to 1.
    """

    name: str
    wire_nbytes_per_sample: float | None = None
    stored_nbytes_per_sample: float | None = None
    psnr_db: float | None = None
    first_batch_s: float | None = None
    epoch_s: float | None = None
    accuracy: float | None = None


def markdown_table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| | wire, B/sample | stored, B/sample | PSNR | first batch | epoch | accuracy |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [
            row.name,
            _cell(row.wire_nbytes_per_sample, "{:,.0f}"),
            _cell(row.stored_nbytes_per_sample, "{:,.0f}"),
            _fidelity(row),
            _cell(row.first_batch_s, "{:.2f} s"),
            _cell(row.epoch_s, "{:.1f} s"),
            _cell(row.accuracy, "{:.1%}"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _fidelity(row: Row) -> str:
    if row.stored_nbytes_per_sample is None:
        return ""
    return "exact" if row.psnr_db is None else f"{row.psnr_db:.1f} dB"


def remarks(rows: Sequence[Row]) -> list[str]:
    """Say in words where DSQ wins and where it loses, from the figures."""
    streamed = [row for row in rows if row.name.startswith("DSQ") and row.wire_nbytes_per_sample]
    others = [row for row in rows if not row.name.startswith("DSQ") and row.wire_nbytes_per_sample]
    lines = []
    for other in others:
        for row in streamed:
            ratio = (row.wire_nbytes_per_sample or 0) / (other.wire_nbytes_per_sample or 1)
            word = "fewer" if ratio < 1 else "MORE"
            lines.append(f"{row.name}: {ratio:.2f}x the bytes of {other.name} ({word})")
    lossless = next((row for row in rows if row.name == "DSQ lossless"), None)
    for row in rows:
        alone = row.stored_nbytes_per_sample
        if lossless is None or row.name.startswith("DSQ") or alone is None or row.psnr_db:
            continue
        if alone < (lossless.stored_nbytes_per_sample or 0):
            lines.append(
                f"{row.name} stores exact pictures in {alone:,.0f} bytes, DSQ in "
                f"{lossless.stored_nbytes_per_sample:,.0f}: here the baseline wins"
            )
    return lines


def write_report(
    folder: Path, rows: Sequence[Row], conditions: dict[str, Any], caption: str
) -> None:
    """Write table.md and summary.json."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join([markdown_table(rows), "", caption, ""])
    (folder / "table.md").write_text(text, encoding="utf-8")
    summary = {"conditions": conditions, "rows": [asdict(r) for r in rows], "says": remarks(rows)}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def draw_layers(path: Path, layered: Dataset, exact: Dataset) -> list[float]:
    """Draw a patch of each class: the original above every number of layers.

    Args:
        path: of the picture.
        layered: the patches in layers.
        exact: the same, in the same order, exact.

    Returns:
        The PSNR at every number of layers, over all patches.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = layered.schema.column("label").names or ()
    depth = layered.schema.layer_count
    whole = exact.to_numpy()
    rows = [_liveliest(whole, label) for label in range(len(names))]
    sizes = np.cumsum(layered.snapshot.segment_nbytes)[1:] / max(1, len(layered))
    size = (1.25 * len(names), 1.45 * (depth + 1))
    figure, axes = plt.subplots(depth + 1, len(names), figsize=size)
    _draw_row(axes[0], whole["image"][rows], "original\n3,072 B")
    found = []
    for number in range(depth):
        pictures = layered.to_numpy(layers=number + 1)["image"]
        error = np.mean((pictures.astype("f8") - whole["image"]) ** 2)
        found.append(float(10 * np.log10(255**2 / error)))
        title = f"{number + 1} layer{'s' if number else ''}\n{sizes[number]:,.0f} B"
        _draw_row(axes[number + 1], pictures[rows], f"{title}\n{found[-1]:.1f} dB")
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(name, fontsize=8)
    figure.tight_layout(pad=0.4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return found


def _liveliest(batch: dict[str, Any], label: int) -> int:
    """Return the row of the patch of a class with most contrast."""
    rows = np.flatnonzero(batch["label"] == label)
    return int(rows[np.argmax(batch["image"][rows].std(axis=(1, 2, 3)))])


def _draw_row(axes: Any, pictures: NDArray[np.uint8], title: str) -> None:
    for axis, picture in zip(axes, pictures, strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
