"""From paths and URLs to pictures in memory, with the bytes they took to get here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.commands.locations import dataset_folder, open_location, url_scheme
from dsqformat.commands.progress import OnProgress
from dsqformat.commands.sizes import measure_snapshot
from dsqformat.commands.unpacking import label_column
from dsqformat.condense.evaluate.labelled_pictures import LabelledPictures, TaskFacts, facts_of
from dsqformat.condense.pictures import ONE_SIZE, ArrayPictures, DatasetPictures, labels_of
from dsqformat.dataset import Dataset
from dsqformat.errors import SourceError
from dsqformat.reconstruct.reconstructor import NONE, named_reconstructor
from dsqformat.sources import SourceOptions, open_source, raise_bad
from dsqformat.sources.sample_source import LABEL_COLUMN
from dsqformat.wire import DATASET_FILE

_BATCH: Final = 1024


@dataclass(frozen=True)
class Reading:
    """How locations are read.

    Attributes:
        limit: at most so many pictures; None: all.
        split: of sources that hold several.
        label: column of a source that holds the classes; None: find it.
        fill: reconstructor of left-out patches: "harmonic", "mean" or "none".
    """

    limit: int | None = None
    split: str | None = None
    label: str | None = None
    fill: str = "harmonic"

    def __post_init__(self) -> None:
        named_reconstructor(self.fill)
        if self.limit is not None and self.limit < 2:
            raise ValueError(f"limit {self.limit}: expected 2 or more")


@dataclass(frozen=True)
class StoredSet:
    """A dataset as a row needs to know it before its pictures are read.

    Attributes:
        snapshot: id of the state it is in.
        facts: of its pictures.
        sample_count: pictures to train on.
        fetched_nbytes: what a training client fetches for them: snapshot and refs, heads of
            shards, index and layer segments up to the last layer used, auxiliary files.
        stored_nbytes: every byte of the dataset, with all layers, keys and the sample table.
    """

    snapshot: str
    facts: TaskFacts
    sample_count: int
    fetched_nbytes: int
    stored_nbytes: int


def is_dataset(location: str) -> bool:
    """Tell whether a location is a DSQ dataset, or a URL, which can be nothing else."""
    return bool(url_scheme(location)) or (dataset_folder(location) / DATASET_FILE).is_file()


def load_pictures(
    location: str, reading: Reading, on_progress: OnProgress
) -> tuple[LabelledPictures, int]:
    """Read the pictures of a source or dataset, and the bytes that its files have for them.

    Raises:
        SourceError: no pictures of one size, or no classes.
        DsqError: the dataset or source cannot be read.
        OSError: likewise, naming the file.
    """
    if is_dataset(location):
        described = describe_dataset(location, None, reading)
        return load_dataset(location, None, reading, on_progress), described.stored_nbytes
    return _load_source(location, reading, on_progress)


# Datasets --------------------------------------------------------------------------------------


def describe_dataset(location: str, layers: int | None, reading: Reading) -> StoredSet:
    """Open a dataset and look at all but its pictures.

    Args:
        location: path or URL.
        layers: use only the first layers; None: all.
        reading: how.

    Raises:
        SourceError: as `load_pictures`; also if there are fewer layers.
    """
    with open_location(location) as dataset, _named(location):
        most = max((layer for _, layer in dataset.schema.order), default=0) + 1
        if layers is not None and layers > most:
            raise SourceError(f"has {most} layers, @{layers} asks for more")
        pictures = _opened(dataset, layers, reading)
        if len(pictures) < 2:
            raise SourceError(f"{len(pictures)} pictures; training needs at least 2")
        count = min(len(pictures), reading.limit or len(pictures))
        labels = labels_of(pictures)[:count]
        first = next(iter(pictures.batches(1)))
        sizes = measure_snapshot(dataset)
        prefix = dataset.snapshot.segment_nbytes[: dataset.schema.prefix_segments(layers)]
        # A client that wants fewer samples leaves out whole chunks of them.
        chunks = sum(prefix) * count // len(pictures)
        return StoredSet(
            snapshot=dataset.snapshot.id,
            facts=facts_of(LabelledPictures(location, first, labels, _label_names(dataset))),
            sample_count=count,
            fetched_nbytes=chunks + sizes.heads + sizes.other_blobs + sizes.snapshot,
            stored_nbytes=sizes.total,
        )


def load_dataset(
    location: str, layers: int | None, reading: Reading, on_progress: OnProgress
) -> LabelledPictures:
    """Decode the pictures of a dataset; see `describe_dataset`."""
    with open_location(location) as dataset, _named(location):
        pictures = _opened(dataset, layers, reading)
        count = min(len(pictures), reading.limit or len(pictures))
        parts: list[NDArray[Any]] = []
        done = 0
        for batch in pictures.batches(_BATCH):
            parts.append(batch[: count - done])
            done += len(parts[-1])
            on_progress(f"read {location}", done, count)
            if done == count:
                break
        labels = labels_of(pictures)[:count]
        return LabelledPictures(location, _joined(parts), labels, _label_names(dataset))


def _opened(dataset: Dataset, layers: int | None, reading: Reading) -> DatasetPictures:
    fill = None if reading.fill == NONE else named_reconstructor(reading.fill).fill
    return DatasetPictures(dataset, fill_in=fill, layers=layers, label=LABEL_COLUMN)


@contextmanager
def _named(location: str) -> Iterator[None]:
    """Put the location in front of what is said of its pictures."""
    try:
        yield
    except SourceError as error:
        raise error.located(location) from error


def _label_names(dataset: Dataset) -> tuple[str, ...]:
    column = label_column(dataset)
    return () if column is None else column.names or ()


# Sources ---------------------------------------------------------------------------------------


def _load_source(
    location: str, reading: Reading, on_progress: OnProgress
) -> tuple[LabelledPictures, int]:
    options = SourceOptions(
        limit=reading.limit, split=reading.split, label=reading.label, keyed=False
    )
    with closing(open_source(location, None, options)) as source:
        facts = source.facts
        column = next((c for c in facts.columns if c.name == LABEL_COLUMN), None)
        if column is None or column.type != "int64":
            raise SourceError(
                f"{location}: no labels; name their column (--label) or put the pictures into a "
                "folder for each class"
            )
        field = next(iter(facts.fields))
        arrays: list[NDArray[Any]] = []
        labels: list[int] = []
        for sample in source.samples(raise_bad):
            array = sample.values[field]
            if arrays and array.shape != arrays[0].shape:
                raise SourceError(
                    f"{location}: pictures of different sizes, {arrays[0].shape} and "
                    f"{array.shape}; {ONE_SIZE}"
                )
            arrays.append(array)
            labels.append(sample.values[LABEL_COLUMN])
            on_progress(f"read {location}", len(arrays), facts.sample_count)
    if len(arrays) < 2:
        raise SourceError(f"{location}: {len(arrays)} pictures; training needs at least 2")
    with _named(location):
        checked = ArrayPictures(np.stack(arrays), np.array(labels))
    pictures = _joined(list(checked.batches(len(arrays))))
    found = LabelledPictures(location, pictures, labels_of(checked), facts.label_names)
    return found, facts.source_nbytes


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Return one array in C order that may be written to, as torch wants it."""
    return np.require(np.concatenate(parts), requirements=["C", "W"])
