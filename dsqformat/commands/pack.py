"""`dsq pack`: from an image folder, tars, Parquet or .npz to a dataset."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dsqformat.commands.comparison import PictureComparison
from dsqformat.commands.feeding import BadSamples, feed
from dsqformat.commands.options import (
    CodingName,
    DomainKind,
    OnError,
    PictureMode,
    QuantizerName,
    SourceKind,
    parse_decimals,
    parse_integers,
    parse_nbytes,
)
from dsqformat.commands.pack_report import PackOutcome, print_outcome
from dsqformat.commands.progress import OnProgress, shown_progress
from dsqformat.commands.sizes import measure_snapshot
from dsqformat.dataset import LocalStore, open_dataset
from dsqformat.dataset.snapshot import encode_refs
from dsqformat.errors import DatasetError, SourceError
from dsqformat.schema import Domain
from dsqformat.sources import (
    PictureOptions,
    SourceFacts,
    SourceOptions,
    SourceSample,
    open_source,
)
from dsqformat.sources.sample_source import LABEL_COLUMN
from dsqformat.writer import DatasetWriter, FieldSpec

WriteMode = Literal["create", "replace", "append"]


def pack(
    src: Annotated[
        str,
        typer.Argument(metavar="SRC", help="Image folder, .tar, folder of tars, .parquet, .npz."),
    ],
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="Dataset directory to make.")],
    source: Annotated[
        SourceKind | None, typer.Option(help="What SRC is; found out if left out.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Which part: x_SPLIT and y_SPLIT, or SPLIT-*.parquet.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Parquet column that becomes `label`.")] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="Column, array or extension to leave out.")
    ] = None,
    keys: Annotated[bool, typer.Option(help="Give samples the names they have in SRC.")] = True,
    limit: Annotated[int | None, typer.Option(help="At most so many samples.")] = None,
    on_error: Annotated[
        OnError, typer.Option(help="Stop at a sample that cannot be read, or skip and count it.")
    ] = OnError.stop,
    mode: Annotated[PictureMode, typer.Option(help="Pixels to store.")] = PictureMode.RGB,
    resize: Annotated[
        int | None, typer.Option(help="Scale pictures: length of the shorter side.")
    ] = None,
    crop: Annotated[int | None, typer.Option(help="Then cut a square from the middle.")] = None,
    quantizer: Annotated[
        QuantizerName, typer.Option(help="How values become codes.")
    ] = QuantizerName.affine,
    bits: Annotated[int, typer.Option(help="Bits per value; affine keeps bytes exactly at 8.")] = 8,
    domain: Annotated[DomainKind | None, typer.Option(help="Domain of lsq.")] = None,
    mean: Annotated[str, typer.Option(help="For --domain normalized, e.g. 0.485,0.456,0.4.")] = "",
    std: Annotated[str, typer.Option(help="For --domain normalized.")] = "",
    raw: Annotated[
        list[str] | None, typer.Option(help="Field to store as it is, e.g. a mask.")
    ] = None,
    layers: Annotated[
        str, typer.Option(help="Bits of each layer but the last; '' for one layer.")
    ] = "4,2",
    coding: Annotated[CodingName, typer.Option(help="Coding of layers.")] = CodingName.auto,
    level: Annotated[int, typer.Option(help="Level of zstd, 1 to 22.")] = 12,
    chunk_size: Annotated[str, typer.Option(help="Bytes of a chunk.")] = "256KiB",
    shard_size: Annotated[str, typer.Option(help="Bytes of a shard.")] = "32MiB",
    seed: Annotated[int, typer.Option(min=0, help="Of the order of samples.")] = 0,
    keep_order: Annotated[
        bool, typer.Option("--keep-order", help="Keep the order of SRC; do not shuffle.")
    ] = False,
    ref: Annotated[str, typer.Option(help="Name to publish under.")] = "main",
    replace: Annotated[
        bool, typer.Option("--replace", help="Publish over what DEST holds.")
    ] = False,
    append: Annotated[bool, typer.Option("--append", help="Add to what DEST holds.")] = False,
    table: Annotated[bool, typer.Option(help="Write the sample table for queries.")] = True,
    compare: Annotated[bool, typer.Option(help="Measure PNG and WebP of some pictures.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Make a dataset of an image folder, WebDataset tars, Parquet or .npz.

    Publishes at the end, all or nothing. Sizes are reported beside those of SRC, of the raw
    values, and of PNG and WebP.
    """
    if replace and append:
        raise typer.BadParameter("--replace and --append exclude each other")
    started_s = time.monotonic()
    write_mode: WriteMode = "replace" if replace else "append" if append else "create"
    with _usage():
        reading = SourceOptions(
            pictures=PictureOptions(mode=mode.value, resize=resize, crop=crop),
            seed=None if keep_order else seed,
            limit=limit,
            split=split,
            label=label,
            drop=tuple(drop or ()),
            keyed=keys,
        )
        spec = FieldSpec(
            quantizer=quantizer.value,
            bit_width=bits,
            layers=parse_integers(layers),
            domain=_domain(quantizer, domain, mean, std),
        )
        _check_options(spec, ref)
        chunk_nbytes, shard_nbytes = parse_nbytes(chunk_size), parse_nbytes(shard_size)
    _check_target(dest, ref, write_mode)
    bad = BadSamples(skip=on_error is OnError.skip)
    with shown_progress() as on_progress:
        opened = open_source(
            src,
            source.value if source is not None else None,
            reading,
            bad,
            partial(on_progress, "look through"),
        )
        if append:
            _check_same_labels(dest, ref, opened.facts)
        with _usage():
            specs = _field_specs(spec, opened.facts, frozenset(raw or ()))
            writer = DatasetWriter(
                dest,
                fields=specs,
                columns=opened.facts.columns,
                coding=coding.value,
                zstd_level=level,
                chunk_nbytes=chunk_nbytes,
                shard_nbytes=shard_nbytes,
                shuffle=not keep_order and not opened.facts.shuffled,
                seed=seed,
                mode=write_mode,
                ref=ref,
                provenance=_provenance(src, opened.facts, reading, spec),
                table=table,
                on_progress=_writing_progress(on_progress, opened.facts.sample_count),
            )
        seen = _Seen(_comparison(opened.facts) if compare else None)
        with _naming(dest), writer:
            feed(opened, writer, specs, bad, seen)
        opened.close()
    with open_dataset(dest, ref=ref) as dataset:
        outcome = PackOutcome(
            facts=opened.facts,
            dest=dest,
            report=writer.report,
            sizes=measure_snapshot(dataset),
            sample_count=len(dataset),
            label_count=len(seen.labels),
            comparison=seen.comparison,
            skipped_count=bad.count,
            skipped=tuple(bad.reasons),
            elapsed_s=time.monotonic() - started_s,
        )
    print_outcome(outcome, as_json=as_json)


@contextmanager
def _usage() -> Iterator[None]:
    """Tell wrong options in the way of the command line."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@contextmanager
def _naming(dest: Path) -> Iterator[None]:
    """Give a file name to errors of the system that have none, such as a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(dest)) from error
        raise


def _check_target(dest: Path, ref: str, mode: WriteMode) -> None:
    """Refuse a target before the source is looked through, which may take long.

    Raises:
        DatasetError: the ref exists and is not to be replaced or appended to.
    """
    exists = dest.is_dir() and ref in LocalStore(dest).refs()
    if mode == "create" and exists:
        raise DatasetError(
            f"{dest}: holds a dataset (ref {ref!r}) already; choose another folder, or say "
            "--replace or --append"
        )
    if mode == "append" and not exists:
        raise DatasetError(f"{dest}: no dataset with ref {ref!r} to append to")


def _check_same_labels(dest: Path, ref: str, facts: SourceFacts) -> None:
    """Refuse to append samples whose labels have other names: the numbers would lie."""
    with open_dataset(dest, ref=ref) as dataset:
        names = {column.name: column.names for column in dataset.schema.columns}
    for column in facts.columns:
        if column.name in names and names[column.name] != column.names:
            raise SourceError(
                f"{facts.location}: column {column.name!r} has the names "
                f"{list(column.names or ())[:5]}, {dest} has {list(names[column.name] or ())[:5]}; "
                "the same classes in the same order are needed to append"
            )


def _domain(
    quantizer: QuantizerName, kind: DomainKind | None, mean: str, std: str
) -> Domain | None:
    if (kind is not None or mean or std) and quantizer is not QuantizerName.lsq:
        raise ValueError("--domain, --mean and --std are for --quantizer lsq")
    if kind is None and not mean and not std:
        return None
    return Domain((kind or DomainKind.normalized).value, parse_decimals(mean), parse_decimals(std))


def _check_options(spec: FieldSpec, ref: str) -> None:
    """Refuse now what the writer would refuse only when samples have been read."""
    encode_refs({ref: "0" * 64})
    channels = len(spec.domain.mean) if spec.domain is not None else 1
    spec.field("any", "uint8", (max(1, channels),))


def _field_specs(spec: FieldSpec, facts: SourceFacts, raw: frozenset[str]) -> dict[str, FieldSpec]:
    """Return how each field is stored: all like `spec`, but `raw` ones and those that must be."""
    unknown = sorted(raw - facts.fields.keys())
    if unknown:
        raise ValueError(f"--raw {unknown[0]}: no such field; there are {sorted(facts.fields)}")
    specs = {}
    for number, (name, field) in enumerate(facts.fields.items()):
        # The main field is never stored otherwise than asked for: the writer refuses it.
        exact = name in raw or (number > 0 and field.dtype not in ("uint8", "float32"))
        specs[name] = FieldSpec(
            quantizer="raw" if exact else spec.quantizer,
            bit_width=spec.bit_width,
            layers=spec.layers,
            domain=None if exact else spec.domain,
            shape=field.shape,
            dtype=field.dtype,
        )
    return specs


def _provenance(
    src: str, facts: SourceFacts, reading: SourceOptions, spec: FieldSpec
) -> dict[str, Any]:
    """Return what a snapshot keeps of how it was made; no paths, no dates, so that it repeats."""
    provenance: dict[str, Any] = {
        "bits": spec.bit_width,
        "mode": reading.pictures.mode,
        "quantizer": spec.quantizer,
        "seed": reading.seed,
        "source": facts.kind,
        "source_name": Path(src).name,
    }
    chosen = {
        "crop": reading.pictures.crop,
        "limit": reading.limit,
        "resize": reading.pictures.resize,
        "split": reading.split,
    }
    return provenance | {name: value for name, value in chosen.items() if value is not None}


def _writing_progress(on_progress: OnProgress, expected: int) -> OnProgress:
    def report(stage: str, done: int, total: int | None) -> None:
        on_progress(stage, done, expected if total is None else total)

    return report


def _comparison(facts: SourceFacts) -> PictureComparison:
    shape = next(iter(facts.fields.values())).shape
    pixels = None if len(shape) < 2 or None in shape[:2] else (shape[0] or 0) * (shape[1] or 0)
    return PictureComparison(facts.sample_count, pixels)


class _Seen:
    """What is learnt from the samples on their way: labels, and what PNG and WebP take."""

    def __init__(self, comparison: PictureComparison | None) -> None:
        self.comparison = comparison
        self.labels: set[object] = set()

    def __call__(self, sample: SourceSample) -> None:
        """Take note of a sample."""
        label = sample.values.get(LABEL_COLUMN)
        if isinstance(label, int):
            self.labels.add(label)
        if self.comparison is not None:
            # The main field comes first.
            main = next(iter(sample.values.values()))
            self.comparison.offer(main)
