"""From a source into a writer: bad samples are refused or counted, good ones go in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from dsqformat.errors import SampleError
from dsqformat.schema import Column
from dsqformat.sources import Source, SourceSample
from dsqformat.writer import DatasetWriter, FieldSpec

_BATCH_SAMPLES: Final = 64
_BATCH_NBYTES: Final = 1 << 20
_KEPT_REASONS: Final = 10


@dataclass
class BadSamples:
    """What becomes of samples that cannot be written.

    Attributes:
        skip: count them; otherwise the first one ends the work.
        count: skipped so far.
        reasons: of the first few.
    """

    skip: bool
    count: int = 0
    reasons: list[str] = field(default_factory=list)

    def __call__(self, error: SampleError) -> None:
        """Take note of a bad sample, or raise its error."""
        if not self.skip:
            raise error
        self.count += 1
        if len(self.reasons) < _KEPT_REASONS:
            self.reasons.append(str(error))


def feed(
    source: Source,
    writer: DatasetWriter,
    specs: dict[str, FieldSpec],
    bad: BadSamples,
    on_sample: Callable[[SourceSample], None],
) -> None:
    """Write all samples of a source.

    Args:
        source: where they come from.
        writer: where they go.
        specs: how each field is stored.
        bad: what becomes of bad ones.
        on_sample: called with each good one.

    Raises:
        SampleError: a bad sample, unless they are skipped.
        SourceError: the source cannot be read on.
    """
    columns = source.facts.columns
    for batch in _batches(_good_samples(source, specs, bad, on_sample)):
        values: dict[str, Any] = {
            name: np.stack([sample.values[name] for sample in batch]) for name in specs
        }
        for column in columns:
            values[column.name] = [sample.values[column.name] for sample in batch]
        keys = [sample.key for sample in batch if sample.key is not None]
        writer.write_batch(values, keys=keys if source.facts.keyed else None)


def _good_samples(
    source: Source,
    specs: dict[str, FieldSpec],
    bad: BadSamples,
    on_sample: Callable[[SourceSample], None],
) -> Iterator[SourceSample]:
    for number, sample in enumerate(source.samples(bad)):
        try:
            check_sample(sample, specs, source.facts.columns, number)
        except SampleError as error:
            bad(error)
            continue
        on_sample(sample)
        yield sample


def check_sample(
    sample: SourceSample, specs: dict[str, FieldSpec], columns: tuple[Column, ...], number: int
) -> None:
    """Raise SampleError if a sample does not fit the fields and columns.

    Args:
        sample: as it was read.
        specs: of the fields, with dtype and shape.
        columns: of the dataset.
        number: of the sample in reading order, for the message.
    """
    where = f"sample {number}" if sample.key is None else f"sample {sample.key!r}"
    for name, spec in specs.items():
        array = sample.values[name]
        shape = spec.shape or ()
        if array.dtype.name != spec.dtype or not _fits(array.shape, shape):
            raise SampleError(
                f"{where}: field {name!r} is {array.dtype}{list(array.shape)}, "
                f"expected {spec.dtype}{list(shape)}"
            )
        if spec.quantizer != "raw" and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise SampleError(
                f"{where}: field {name!r} holds NaN or infinity, which {spec.quantizer} cannot "
                "store; mend it, skip such samples, or use --quantizer raw"
            )
    for column in columns:
        value = sample.values[column.name]
        if column.type == "int64" and not -(1 << 63) <= value < 1 << 63:
            raise SampleError(f"{where}: column {column.name!r}: {value} is beyond 64 bits")


def _fits(found: tuple[int, ...], expected: Any) -> bool:
    return len(found) == len(expected) and all(
        want in (None, have) for have, want in zip(found, expected, strict=True)
    )


def _batches(samples: Iterator[SourceSample]) -> Iterator[list[SourceSample]]:
    """Group consecutive samples whose arrays have the same shapes."""
    batch: list[SourceSample] = []
    shapes: list[tuple[int, ...]] = []
    nbytes = 0
    for sample in samples:
        arrays = [value for value in sample.values.values() if isinstance(value, np.ndarray)]
        found = [array.shape for array in arrays]
        if batch and (found != shapes or len(batch) >= _BATCH_SAMPLES or nbytes >= _BATCH_NBYTES):
            yield batch
            batch, nbytes = [], 0
        shapes = found
        nbytes += sum(array.nbytes for array in arrays)
        batch.append(sample)
    if batch:
        yield batch
