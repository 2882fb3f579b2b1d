"""Reads a source once, as `dsq pack` does, into a raw dataset that can be read in any order."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.canonical import canonical_json
from dsqformat.chunk.decode import Chunk
from dsqformat.commands.feeding import BadSamples, feed
from dsqformat.commands.progress import OnProgress
from dsqformat.commands.unpacking import label_column, read_chunks
from dsqformat.condense.pictures import DatasetPictures
from dsqformat.dataset import Dataset, open_dataset
from dsqformat.errors import RecipeError, SampleError, SourceError
from dsqformat.recipes.distilled_source import DISTILLED, DistilledSource
from dsqformat.recipes.option_values import json_ready
from dsqformat.recipes.work_directory import Made, Stage, StageResult, WorkDirectory
from dsqformat.schema import Column, Field
from dsqformat.sources import (
    Kind,
    Source,
    SourceOptions,
    SourceSample,
    open_source,
)
from dsqformat.sources.sample_source import LABEL_COLUMN, BadSample
from dsqformat.writer import DatasetWriter, FieldSpec

VERSION: Final = 1
_DATASET: Final = "dataset"


@dataclass(frozen=True)
class Reading:
    """What is read, and how.

    Attributes:
        source: path of it, or pattern of tars.
        kind: None: find out.
        options: how samples are read; the order of the source, unless some are left out.
        skip_bad: skip and count samples that cannot be read.
        finite: whether values of the main field that are NaN or infinite make a sample bad.
    """

    source: str
    kind: Kind | None
    options: SourceOptions
    skip_bad: bool = False
    finite: bool = True

    def provenance(self) -> dict[str, Any]:
        """Return what a snapshot says of it; no paths, no dates, so that it repeats."""
        options = self.options
        said = {
            "crop": options.pictures.crop,
            "limit": options.limit,
            "mode": options.pictures.mode,
            "resize": options.pictures.resize,
            "seed": options.seed,
            "split": options.split,
        }
        return {name: json_ready(value) for name, value in said.items() if value is not None}


class Staged:
    """A staged source.

    Args:
        result: of the stage.
    """

    def __init__(self, result: StageResult) -> None:
        self.result = result
        self.dataset: Dataset = open_dataset(result.folder / _DATASET)
        self._pictures: DatasetPictures | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def digest(self) -> str:
        """Id of the staged snapshot: the same samples have the same."""
        return self.dataset.snapshot.id

    @property
    def field(self) -> Field:
        """The main field: the first one."""
        return self.dataset.schema.fields[0]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of the source."""
        return self.dataset.schema.columns

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes, where they have some."""
        column = label_column(self.dataset)
        return () if column is None else column.names or ()

    @property
    def has_labels(self) -> bool:
        """Whether there is a column of classes."""
        return label_column(self.dataset) is not None

    @property
    def pictures(self) -> DatasetPictures:
        """The main field as a picture set, with labels where there are some.

        Raises:
            SourceError: it holds no pictures, or of different sizes.
        """
        if None in self.field.shape:
            raise SourceError(
                f"field {self.field.name!r}: pictures of different sizes, and this recipe needs a "
                "network or masks, which take one; read them with --resize N --crop N "
                "(PictureOptions(resize=N, crop=N)), or take a recipe without"
            )
        if self._pictures is None:
            self._pictures = DatasetPictures(
                self.dataset,
                self.field.name,
                label=LABEL_COLUMN if self.has_labels else None,
                directory=str(self.result.folder),
            )
        return self._pictures

    def labels(self, purpose: str) -> NDArray[np.int64]:
        """Return the class of each sample, int64, shape (n,).

        Args:
            purpose: what needs them, for the message.

        Raises:
            RecipeError: there are none.
        """
        if not self.has_labels:
            raise RecipeError(
                f"{purpose}: needs the class of each sample, and the source has no column "
                f"{LABEL_COLUMN!r} of whole numbers; name one with --label, or choose a recipe "
                "without it"
            )
        parts = [np.asarray(c.columns[LABEL_COLUMN]) for c in self.dataset.iter_chunks(fields=[])]
        return np.concatenate(parts).astype("i8") if parts else np.empty(0, "i8")

    def chunks_with(
        self, kept: NDArray[np.int64]
    ) -> Iterator[tuple[Chunk, list[str] | None, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield what holds some samples, in order.

        Args:
            kept: positions of the samples, int64, shape (k,), ascending.

        Returns:
            Decoded chunk, keys of all its samples (None: no keys), numbers among those kept of
            those in it, and their rows in the chunk; both int64, of the same length.
        """
        for begin, chunk, keys in read_chunks(self.dataset, None):
            low, high = np.searchsorted(kept, [begin, begin + chunk.sample_count])
            if low < high:
                yield chunk, keys, np.arange(low, high), kept[low:high] - begin

    def close(self) -> None:
        """Close the dataset."""
        self.dataset.close()


def stage_source(work: WorkDirectory, reading: Reading, on_progress: OnProgress) -> Staged:
    """Read a source into the work directory, unless the same files were read before.

    Args:
        work: where to.
        reading: what, and how.
        on_progress: called with stage, samples done and samples in all.

    Raises:
        SourceError: the source cannot be read.
        SampleError: likewise a sample.
    """
    pictures = reading.options.pictures
    options = {
        "crop": pictures.crop,
        "drop": sorted(reading.options.drop),
        "finite": reading.finite,
        "keyed": reading.options.keyed,
        "kind": reading.kind,
        "label": reading.options.label,
        "limit": reading.options.limit,
        "mode": pictures.mode,
        "resize": pictures.resize,
        "seed": reading.options.seed,
        "skip_bad": reading.skip_bad,
        "split": reading.options.split,
    }

    def make(folder: Path) -> Made:
        return _stage(folder / _DATASET, reading, on_progress)

    fingerprint = {"files": _fingerprint(reading.source)}
    return Staged(work.result(Stage("staging", VERSION, options, fingerprint, make)))


def _stage(folder: Path, reading: Reading, on_progress: OnProgress) -> Made:
    bad = BadSamples(skip=reading.skip_bad)
    with closing(_open(reading, bad, on_progress)) as opened:
        source = _FiniteSource(opened) if reading.finite else opened
        facts = source.facts
        specs = {
            name: FieldSpec("raw", shape=field.shape, dtype=field.dtype)
            for name, field in facts.fields.items()
        }
        with DatasetWriter(
            folder,
            fields=specs,
            columns=facts.columns,
            coding="packed",  # decoded many times, and shipped nowhere
            shuffle=False,
            table=False,
            on_progress=lambda stage, done, _: (
                on_progress("stage", done, facts.sample_count) if stage == "read" else None
            ),
        ) as writer:
            feed(source, writer, specs, bad, lambda _sample: None)
    report = writer.report
    return Made(
        facts={
            "kind": facts.kind,
            "samples": report.sample_count,
            "skipped": bad.count,
            "skipped_reasons": bad.reasons,
            "source_nbytes": facts.source_nbytes,
            "values_nbytes": report.source_nbytes,
        }
    )


def _open(reading: Reading, bad: BadSample, on_progress: OnProgress) -> Source:
    if reading.kind is None and reading.source.lower().endswith(DISTILLED):
        return DistilledSource(Path(reading.source), reading.options)
    return open_source(
        reading.source,
        reading.kind,
        reading.options,
        bad,
        lambda done, total: on_progress("look through", done, total),
    )


class _FiniteSource:
    """A source less the samples that no quantizer can store.

    Staging keeps them as they are, and what comes later would blame the wrong one.

    Args:
        source: whose first field is the main one.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.facts = source.facts

    def samples(self, on_bad: BadSample) -> Iterator[SourceSample]:
        """Yield samples whose main field is finite; `on_bad` is told of the others."""
        name = next(iter(self.facts.fields))
        for number, sample in enumerate(self._source.samples(on_bad)):
            values = sample.values[name]
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                where = f"sample {number}" if sample.key is None else f"sample {sample.key!r}"
                on_bad(
                    SampleError(
                        f"{where}: field {name!r} holds NaN or infinity, which only quantizer raw "
                        "can store; mend it, or skip such samples"
                    )
                )
                continue
            yield sample

    def close(self) -> None:
        """Close the source."""
        self._source.close()


def _fingerprint(location: str) -> str:
    """Return a digest of names, sizes and times of the files of a source."""
    path = Path(location)
    if path.is_dir():
        files = sorted(Path(folder, name) for folder, _, names in os.walk(path) for name in names)
        root = path
    elif path.exists():
        files, root = [path], path.parent
    else:  # a pattern of tars: all that lies beside them
        folder = Path(location.split("{")[0]).parent
        files, root = sorted(p for p in folder.glob("*") if p.is_file()), folder
    listed: list[Any] = [os.path.abspath(location)]
    for file in files:
        status = file.stat()
        name = os.fsencode(file.relative_to(root)).hex()
        listed.append([name, status.st_size, str(status.st_mtime_ns)])
    return hashlib.sha256(canonical_json(listed)).hexdigest()
