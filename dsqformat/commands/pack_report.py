"""What `dsq pack` tells at the end: every byte of the dataset beside what else there is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from dsqformat.commands.comparison import PictureComparison
from dsqformat.commands.report import format_count, format_nbytes, print_json, print_table
from dsqformat.commands.sizes import SnapshotSizes
from dsqformat.sources import SourceFacts
from dsqformat.writer import FieldSpec, Target, WriteReport


@dataclass(frozen=True)
class PackOutcome:
    """What was packed.

    Attributes:
        facts: of the source.
        dest: the dataset.
        report: of the writer.
        specs: how fields are stored.
        target: what was aimed at, or None.
        sizes: of the whole snapshot.
        sample_count: samples of the whole snapshot.
        label_count: different labels among the samples of this run.
        comparison: PNG and WebP of some pictures, or None.
        skipped_count: samples that were skipped.
        skipped: reasons of the first few.
        elapsed_s: seconds from start to end.
    """

    facts: SourceFacts
    dest: Path
    report: WriteReport
    specs: Mapping[str, FieldSpec]
    target: Target | None
    sizes: SnapshotSizes
    sample_count: int
    label_count: int
    comparison: PictureComparison | None
    skipped_count: int
    skipped: tuple[str, ...]
    elapsed_s: float

    @property
    def written_count(self) -> int:
        """Samples written by this run."""
        return self.report.sample_count

    def others(self) -> list[tuple[str, float]]:
        """Return what else the samples take, in bytes per sample, by name."""
        count = max(1, self.written_count)
        read = max(1, self.facts.sample_count)
        dtypes = {field.dtype for field in self.facts.fields.values()}
        values = "uint8" if dtypes == {"uint8"} else ", ".join(sorted(dtypes))
        rows = [
            (f"source ({self.facts.kind})", self.facts.source_nbytes / read),
            (f"raw values ({values})", self.report.source_nbytes / count),
        ]
        if dtypes == {"uint8"}:
            rows.append(("the same as float32", 4 * self.report.source_nbytes / count))
        if self.comparison is not None and self.comparison.count:
            measured = self.comparison.count
            of = f"mean of {measured}"
            rows.append((f"PNG, optimised ({of})", self.comparison.png_nbytes / measured))
            rows.append((f"WebP, lossless ({of})", self.comparison.webp_nbytes / measured))
            for name, files in self.comparison.lossy.items():
                title = {"webp": "WebP", "jpeg": "JPEG, optimised"}[name]
                of = f"{files.psnr:.2f} dB, mean of {files.count}"
                rows.append((f"{title} ({of})", files.mean_nbytes))
        return rows

    def fidelity_lines(self) -> list[str]:
        """Return what was chosen, and what came of it, in words."""
        report, lines = self.report, []
        for name, spec in self.specs.items():
            counts = report.settings.get(f"{name}.{spec.setting}", {})
            if not counts:
                continue
            unit = "qp" if spec.setting == "qp" else "bits"
            mix = ", ".join(f"{unit} {value}: {count:,}" for value, count in counts.items())
            groups = report.patches.get(name)
            more = f"; {format_count(groups.group_count, 'group')} of patches" if groups else ""
            lines.append(f"{name}: {spec.quantizer}, samples by setting: {mix}{more}")
        if report.psnr is not None:
            lines.append(f"PSNR {_decibels(report.psnr)} over all values of all samples")
        if self.target is not None:
            per_sample = report.total_nbytes / max(1, report.sample_count)
            rounds = format_count(report.rounds, "round")
            lines.append(
                f"asked for {self.target}; {report.total_nbytes:,} bytes, {per_sample:,.2f} per "
                f"sample, in {rounds}"
            )
        return lines

    def storage_rows(self) -> list[tuple[str, str, str, str]]:
        """Return what patches take by the formula of the paper, and what was written."""
        rows = []
        for name, storage in self.report.patches.items():
            formula = storage.rows(self.report.sample_count)
            rows += [
                (f"{name}: {row.name}", f"{row.nbytes_per_sample:,.1f}", _whole_bytes(row.bits), "")
                for row in formula
            ]
            coded = sum(n for (field, _), n in self.sizes.layers.items() if field == name)
            total = formula[3].nbytes_per_sample * max(1, self.report.sample_count)
            rows.append(
                (
                    f"{name}: codes and group ids as coded",
                    f"{coded / max(1, self.sample_count):,.1f}",
                    format_nbytes(coded),
                    f"{coded / total:.0%}" if total and self.sample_count else "",
                )
            )
        return rows

    def to_json(self) -> dict[str, Any]:
        """Return everything as a JSON object."""
        comparison = self.comparison
        return {
            "dataset": str(self.dest),
            "snapshot": self.report.snapshot_id,
            "quantizers": {name: spec.quantizer for name, spec in self.specs.items()},
            "settings": {
                name: {str(value): count for value, count in counts.items()}
                for name, counts in self.report.settings.items()
            },
            "target": None if self.target is None else str(self.target),
            "rounds": self.report.rounds,
            # Infinite where nothing was lost, which JSON cannot say.
            "psnr": _finite(self.report.psnr),
            "written_nbytes": self.report.total_nbytes,
            "nbytes_per_sample": self.report.total_nbytes / max(1, self.written_count),
            "patches": {name: self._patches_json(name) for name in self.report.patches},
            "source": {"kind": self.facts.kind, "location": self.facts.location},
            "sample_count": self.sample_count,
            "written_count": self.written_count,
            "skipped_count": self.skipped_count,
            "skipped": list(self.skipped),
            "ignored_file_count": self.facts.ignored_count,
            "class_count": self.label_count,
            "shard_count": self.report.shard_count,
            "chunk_count": self.report.chunk_count,
            "nbytes": self.sizes.to_json(),
            "source_nbytes": self.facts.source_nbytes,
            "raw_nbytes": self.report.source_nbytes,
            "compared": None
            if comparison is None or not comparison.count
            else {
                "count": comparison.count,
                "raw_nbytes": comparison.raw_nbytes,
                "png_nbytes": comparison.png_nbytes,
                "webp_lossless_nbytes": comparison.webp_nbytes,
                "lossy": {
                    name: {
                        "count": files.count,
                        "psnr": files.psnr,
                        "nbytes_per_sample": files.mean_nbytes,
                    }
                    for name, files in comparison.lossy.items()
                },
            },
            "elapsed_s": round(self.elapsed_s, 3),
        }

    def _patches_json(self, name: str) -> dict[str, Any]:
        storage = self.report.patches[name]
        rows = storage.rows(self.report.sample_count)
        return {
            "bit_width": storage.bit_width,
            "group_count": storage.group_count,
            "patch_count": storage.patch_count,
            "formula_bits": {row.name: row.bits for row in rows},
            "coded_nbytes": sum(n for (f, _), n in self.sizes.layers.items() if f == name),
        }


def print_outcome(outcome: PackOutcome, *, as_json: bool) -> None:
    """Print what was packed."""
    if as_json:
        print_json(outcome.to_json())
        return
    report = outcome.report
    classes = ""
    if outcome.label_count:
        classes = f" of {format_count(outcome.label_count, 'class', 'classes')}"
    samples = format_count(report.sample_count, "sample")
    chunks = format_count(report.chunk_count, "chunk")
    shards = format_count(report.shard_count, "shard")
    measuring_s = outcome.comparison.elapsed_s if outcome.comparison else 0.0
    packing_s = max(1e-9, outcome.elapsed_s - measuring_s)
    typer.echo(f"{outcome.dest}: {samples}{classes} in {chunks}, {shards}")
    typer.echo(
        f"{packing_s:.1f} s, {report.sample_count / packing_s:,.0f} samples/s"
        + (f"; {measuring_s:.1f} s more to measure picture files" if measuring_s >= 0.05 else "")
    )
    typer.echo(f"snapshot {report.snapshot_id}")
    for line in outcome.fidelity_lines():
        typer.echo(line)
    _print_left_out(outcome)
    count = max(1, outcome.sample_count)
    total = outcome.sizes.total / count
    rows = [("everything in DEST", outcome.sizes.total)]
    rows += [(f"  {name}", nbytes) for name, nbytes in outcome.sizes.rows()]
    lines = [(name, _per_sample(n / count), format_nbytes(n), "") for name, n in rows]
    for name, nbytes in outcome.others():
        share = f"{total / nbytes:.0%}" if nbytes else ""
        lines.append((name, _per_sample(nbytes), format_nbytes(nbytes * count), share))
    typer.echo()
    print_table(("", "bytes/sample", "total", "DEST is"), lines)
    if outcome.report.patches:
        typer.echo()
        header = ("patches by the formula", "bytes/sample", "total", "of the formula")
        print_table(header, outcome.storage_rows())


def _per_sample(nbytes: float) -> str:
    return f"{nbytes:,.1f}" if math.isfinite(nbytes) else ""


def _decibels(psnr: float) -> str:
    return f"{psnr:.2f} dB" if math.isfinite(psnr) else "infinite (nothing was lost)"


def _finite(psnr: float | None) -> float | None:
    return psnr if psnr is not None and math.isfinite(psnr) else None


def _whole_bytes(bits: int) -> str:
    return format_nbytes(-(-bits // 8))


def _print_left_out(outcome: PackOutcome) -> None:
    if outcome.skipped_count:
        typer.echo(f"skipped {format_count(outcome.skipped_count, 'bad sample')}:")
        for reason in outcome.skipped:
            typer.echo(f"  {reason}")
    if outcome.facts.ignored_count:
        names = ", ".join(repr(name) for name in outcome.facts.ignored)
        more = ", ..." if outcome.facts.ignored_count > len(outcome.facts.ignored) else ""
        files = format_count(outcome.facts.ignored_count, "file")
        typer.echo(f"ignored {files} that are no samples: {names}{more}")
