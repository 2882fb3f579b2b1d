"""What every kind of source offers: facts known beforehand, then samples one by one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SampleError, SourceError
from dsqformat.schema import Column
from dsqformat.sources.pictures import PictureOptions

Kind = Literal["folder", "webdataset", "parquet", "npz"]

PICTURE_FIELD: Final = "image"
LABEL_COLUMN: Final = "label"

BadSample = Callable[[SampleError], None]
# Called while a source looks through its input: samples so far, of how many (None: unknown).
OnScan = Callable[[int, int | None], None]


@dataclass(frozen=True)
class SourceOptions:
    """How to read a source.

    Attributes:
        pictures: mode, size and crop of pictures.
        seed: of the reading order of sources that can be read in any order, and of the choice
            `limit` makes there; None: the order of the source, and its first samples.
        limit: at most so many samples.
        split: for files that hold several, such as x_train and x_test.
        label: name of the column that becomes `label`.
        drop: names of columns or fields to leave out.
        keyed: whether samples get keys where the source has some.
    """

    pictures: PictureOptions = field(default_factory=PictureOptions)
    seed: int | None = 0
    limit: int | None = None
    split: str | None = None
    label: str | None = None
    drop: Sequence[str] = ()
    keyed: bool = True

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit {self.limit}: expected 1 or more")


@dataclass(frozen=True)
class FieldFacts:
    """What is known of a field before its samples are read.

    Attributes:
        dtype: of the values.
        shape: dimensions, None where they vary.
        picture: whether it was a picture file.
    """

    dtype: str
    shape: tuple[int | None, ...]
    picture: bool


@dataclass(frozen=True)
class SourceFacts:
    """What is known of a source before its samples are read.

    Attributes:
        kind: "folder", "webdataset", "parquet" or "npz".
        location: the path as it was given.
        sample_count: samples that will be read, those that turn out to be bad included.
        fields: by name; the main one first.
        columns: with the names of labels, where they have some.
        keyed: whether samples have keys.
        source_nbytes: bytes the samples take in the source.
        shuffled: whether samples come in an order permuted by the seed already.
        ignored: names of files that are no samples, the first few of them.
        ignored_count: how many there are.
    """

    kind: Kind
    location: str
    sample_count: int
    fields: Mapping[str, FieldFacts]
    columns: tuple[Column, ...]
    keyed: bool
    source_nbytes: int
    shuffled: bool
    ignored: tuple[str, ...] = ()
    ignored_count: int = 0

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels; empty if they have none."""
        return next((c.names or () for c in self.columns if c.name == LABEL_COLUMN), ())


@dataclass(frozen=True)
class SourceSample:
    """A sample as it was read.

    Attributes:
        key: its name, or None.
        values: an array per field; int, float, str or bytes per column.
    """

    key: str | None
    values: dict[str, Any]


class Source(Protocol):
    """Samples of some kind of input.

    A source looks through its input when it is made, so that names, shapes and types are known
    and an unsuitable file is refused before anything is written.
    """

    facts: SourceFacts

    def samples(self, on_bad: BadSample) -> Iterator[SourceSample]:
        """Yield the samples.

        Args:
            on_bad: called with a SampleError for a sample that cannot be read; what it raises
                ends the reading, otherwise the sample is skipped.

        Raises:
            SourceError: the source itself cannot be read on.
        """
        ...

    def close(self) -> None:
        """Release open files."""
        ...


def raise_bad(error: SampleError) -> NoReturn:
    """Let a bad sample end the reading."""
    raise error


def ignore_scan(_done: int, _total: int | None) -> None:
    """Report nothing."""


def reading_order(count: int, options: SourceOptions) -> NDArray[np.int64]:
    """Return the numbers of the samples to read, in order: int64, shape (at most count,)."""
    order: NDArray[np.int64] = np.arange(count, dtype="i8")
    if options.seed is not None:
        order = np.random.default_rng(options.seed).permutation(count)
    return order[: options.limit]


def common_shape(shapes: Iterable[tuple[int, ...]]) -> tuple[int | None, ...]:
    """Return the dimensions that all shapes share, None where they differ.

    Args:
        shapes: at least one, all of the same number of dimensions.
    """
    return tuple(
        lengths[0] if len(set(lengths)) == 1 else None for lengths in zip(*shapes, strict=True)
    )


def column_name(text: str) -> str:
    """Return the nearest name that a field or column may have (spec 6)."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", text)[:64]
    if not name or name[0].isdigit():
        name = f"_{name}"[:64]
    return "key_" if name == "key" else name


def require_samples(count: int, location: str, expected: str) -> None:
    """Raise SourceError if there are none.

    Args:
        count: samples found.
        location: where.
        expected: what was looked for.
    """
    if not count:
        raise SourceError(f"{location}: no samples: expected {expected}")
