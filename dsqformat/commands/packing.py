"""Carries out a `dsq pack`: opens the source, feeds the writer, measures what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from dsqformat.chunk.inputs import Coding
from dsqformat.commands.comparison import PictureComparison
from dsqformat.commands.feeding import BadSamples, feed
from dsqformat.commands.fidelity import Fidelity, measures_psnr
from dsqformat.commands.options import usage_errors
from dsqformat.commands.pack_report import PackOutcome
from dsqformat.commands.progress import OnProgress
from dsqformat.commands.sizes import measure_snapshot
from dsqformat.dataset import LocalStore, open_dataset
from dsqformat.dataset.refs import encode_refs
from dsqformat.errors import DatasetError, SourceError
from dsqformat.sources import Kind, SourceFacts, SourceOptions, SourceSample, open_source
from dsqformat.sources.sample_source import LABEL_COLUMN
from dsqformat.writer import DatasetWriter, FieldSpec


@dataclass(frozen=True)
class PackPlan:
    """What to pack, and how.

    Attributes:
        src: the source.
        dest: the dataset directory.
        kind: of the source; None: find out.
        reading: how to read it.
        fidelity: how finely fields are stored.
        raw: names of fields that are stored as they are.
        coding: of layers.
        zstd_level: 1 to 22.
        chunk_nbytes: of a chunk.
        shard_nbytes: of a shard.
        seed: of the order of samples; without effect where `reading` has none.
        mode: what to do with a dataset that is there.
        ref: name to publish under.
        table: whether to write the sample table.
        skip_bad: skip and count bad samples instead of stopping.
        compare: whether to measure PNG and WebP.

    Raises:
        ValueError: an option is impossible, or two exclude each other.
    """

    src: str
    dest: Path
    kind: Kind | None
    reading: SourceOptions
    fidelity: Fidelity
    raw: frozenset[str]
    coding: Coding
    zstd_level: int
    chunk_nbytes: int
    shard_nbytes: int
    seed: int
    mode: Literal["create", "replace", "append"]
    ref: str
    table: bool
    skip_bad: bool
    compare: bool

    def __post_init__(self) -> None:
        # What the writer would refuse only when all samples have been read.
        encode_refs({self.ref: "0" * 64})


def pack_source(plan: PackPlan, on_progress: OnProgress) -> PackOutcome:
    """Pack a source.

    Args:
        plan: what to do.
        on_progress: called with stage, samples done, samples in all.

    Raises:
        typer.BadParameter: an option does not fit the source.
        DsqError: the source, a sample or the target is not as it must be; nothing was written.
        OSError: likewise, naming the file.
    """
    started_s = time.monotonic()
    _check_target(plan)
    bad = BadSamples(skip=plan.skip_bad)
    on_scan = partial(on_progress, "look through")
    with closing(open_source(plan.src, plan.kind, plan.reading, bad, on_scan)) as source:
        facts = source.facts
        if plan.mode == "append":
            _check_same_labels(plan, facts)
        with usage_errors():
            specs = _field_specs(plan, facts)
            main = next(iter(specs))
            lossy = measures_psnr(specs[main], plan.fidelity.target)
            compared = _comparison(facts, keep=lossy) if plan.compare else None
            seen = _Seen(main, compared)
            writer = _open_writer(plan, facts, specs, on_progress)
        with _naming(plan.dest), writer:
            feed(source, writer, specs, bad, seen)
    report = writer.report
    if seen.comparison is not None and report.psnr is not None:
        seen.comparison.match(report.psnr)
    with open_dataset(plan.dest, ref=plan.ref) as dataset:
        return PackOutcome(
            facts=facts,
            dest=plan.dest,
            report=report,
            specs=specs,
            target=plan.fidelity.target,
            sizes=measure_snapshot(dataset),
            sample_count=len(dataset),
            label_count=len(seen.labels),
            comparison=seen.comparison,
            skipped_count=bad.count,
            skipped=tuple(bad.reasons),
            elapsed_s=time.monotonic() - started_s,
        )


def _open_writer(
    plan: PackPlan, facts: SourceFacts, specs: dict[str, FieldSpec], on_progress: OnProgress
) -> DatasetWriter:
    def report(stage: str, done: int, total: int | None) -> None:
        known = total is not None or stage == "measure"
        on_progress(stage, done, total if known else facts.sample_count)

    return DatasetWriter(
        plan.dest,
        fields=specs,
        columns=facts.columns,
        coding=plan.coding,
        zstd_level=plan.zstd_level,
        chunk_nbytes=plan.chunk_nbytes,
        shard_nbytes=plan.shard_nbytes,
        # A source that can be read in any order has been permuted already.
        shuffle=plan.reading.seed is not None and not facts.shuffled,
        seed=plan.seed,
        mode=plan.mode,
        ref=plan.ref,
        provenance=_provenance(plan, facts, specs),
        table=plan.table,
        target=plan.fidelity.target,
        measure_psnr=any(measures_psnr(spec, plan.fidelity.target) for spec in specs.values()),
        on_progress=report,
    )


@contextmanager
def _naming(dest: Path) -> Iterator[None]:
    """Give a file name to errors of the system that have none, such as a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(dest)) from error
        raise


def _check_target(plan: PackPlan) -> None:
    """Refuse a target before the source is looked through, which may take long.

    Raises:
        DatasetError: the ref exists and is not to be replaced or appended to.
    """
    exists = plan.dest.is_dir() and plan.ref in LocalStore(plan.dest).refs()
    if plan.mode == "create" and exists:
        raise DatasetError(
            f"{plan.dest}: holds a dataset (ref {plan.ref!r}) already; choose another folder, "
            "or say --replace or --append"
        )
    if plan.mode == "append" and not exists:
        raise DatasetError(f"{plan.dest}: no dataset with ref {plan.ref!r} to append to")


def _check_same_labels(plan: PackPlan, facts: SourceFacts) -> None:
    """Refuse to append samples whose labels have other names: the numbers would lie."""
    with open_dataset(plan.dest, ref=plan.ref) as dataset:
        names = {column.name: column.names for column in dataset.schema.columns}
    for column in facts.columns:
        if column.name in names and names[column.name] != column.names:
            raise SourceError(
                f"{facts.location}: column {column.name!r} has the names "
                f"{list(column.names or ())[:5]}, {plan.dest} has "
                f"{list(names[column.name] or ())[:5]}; the same classes in the same order are "
                "needed to append"
            )


def _field_specs(plan: PackPlan, facts: SourceFacts) -> dict[str, FieldSpec]:
    """Return how each field is stored: all alike, but raw where it is asked for or must be."""
    unknown = sorted(plan.raw - facts.fields.keys())
    if unknown:
        raise ValueError(f"--raw {unknown[0]}: no such field; there are {sorted(facts.fields)}")
    specs = {}
    for number, (name, field) in enumerate(facts.fields.items()):
        # The main field is never stored otherwise than asked for: the writer refuses it.
        exact = name in plan.raw or (number > 0 and field.dtype not in ("uint8", "float32"))
        if exact:
            specs[name] = FieldSpec("raw", shape=field.shape, dtype=field.dtype)
        else:
            specs[name] = plan.fidelity.others(field) if number else plan.fidelity.spec(field)
    _check_aim(plan, specs)
    return specs


def _check_aim(plan: PackPlan, specs: dict[str, FieldSpec]) -> None:
    """Refuse a target that no field can meet, before samples are read."""
    lossy = [spec for spec in specs.values() if spec.quantizer != "raw"]
    if plan.fidelity.target is not None and not lossy:
        raise ValueError("a size or a PSNR cannot be chosen where all fields are raw")
    moved = [spec for spec in lossy if spec.quantizer == lossy[0].quantizer]
    if plan.fidelity.psnr is not None and any(spec.dtype != "uint8" for spec in moved):
        raise ValueError("--psnr is for uint8; choose a size, or --bits")


def _provenance(plan: PackPlan, facts: SourceFacts, specs: dict[str, FieldSpec]) -> dict[str, Any]:
    """Return what a snapshot keeps of how it was made; no paths, no dates, so that it repeats."""
    reading = plan.reading
    provenance: dict[str, Any] = {
        "mode": reading.pictures.mode,
        "quantizer": next(iter(specs.values())).quantizer,
        "seed": reading.seed,
        "source": facts.kind,
        "source_name": Path(plan.src).name.encode("utf-8", "replace").decode(),
    }
    chosen = {
        "crop": reading.pictures.crop,
        "limit": reading.limit,
        "resize": reading.pictures.resize,
        "split": reading.split,
    }
    provenance |= {name: value for name, value in chosen.items() if value is not None}
    return provenance | plan.fidelity.to_json()


def _comparison(facts: SourceFacts, *, keep: bool) -> PictureComparison:
    shape = next(iter(facts.fields.values())).shape
    pixels = None if len(shape) < 2 or None in shape[:2] else (shape[0] or 0) * (shape[1] or 0)
    return PictureComparison(facts.sample_count, pixels, keep=keep)


class _Seen:
    """What is learnt from the samples on their way: labels, and what PNG and WebP take."""

    def __init__(self, main_field: str, comparison: PictureComparison | None) -> None:
        self._main_field = main_field
        self.comparison = comparison
        self.labels: set[object] = set()

    def __call__(self, sample: SourceSample) -> None:
        """Take note of a sample."""
        label = sample.values.get(LABEL_COLUMN)
        if isinstance(label, int):
            self.labels.add(label)
        if self.comparison is not None:
            self.comparison.offer(sample.values[self._main_field])
