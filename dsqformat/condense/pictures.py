"""Pictures in batches, from arrays or from a dataset, however large: no torch, no float32 copy."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk.decode import Chunk
from dsqformat.condense.scaling import scaled_to
from dsqformat.dataset.reader import Dataset
from dsqformat.errors import SourceError
from dsqformat.reconstruct.reconstructor import Fill
from dsqformat.schema import Field

# What to do about pictures of different sizes.
ONE_SIZE: Final = "a network needs one: pack them with --resize N --crop N"

_SPOOL_BATCH: Final = 1024


class PictureSet(Protocol):
    """Pictures of one size with labels, read in batches in any order.

    Attributes:
        labels: int64, shape (n,), classes from 0; None where there are none.
    """

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """Class of each picture, int64, shape (n,)."""
        ...

    def __len__(self) -> int: ...

    def batches(
        self, batch_size: int, order: NDArray[np.int64] | None = None
    ) -> Iterator[NDArray[Any]]:
        """Yield batches (b, height, width, channels), uint8 or float32 of [0, 1].

        Args:
            batch_size: pictures of a batch; the last may have fewer.
            order: positions to read, shape (m,); None: all, from the first on.
        """
        ...


class ArrayPictures:
    """Pictures that lie in an array or memory map.

    Args:
        pictures: uint8 or floating point, shape (n, height, width) or (n, height, width, channels).
        labels: integers from 0, shape (n,), or None.

    Raises:
        SourceError: shape, dtype or number do not fit.
    """

    def __init__(self, pictures: NDArray[Any], labels: NDArray[Any] | None = None) -> None:
        if pictures.ndim not in (3, 4) or not (
            pictures.dtype == np.uint8 or pictures.dtype.kind == "f"
        ):
            raise SourceError(
                f"pictures: {pictures.dtype} of shape {pictures.shape}, expected uint8 or floating "
                "point of (n, height, width) or (n, height, width, channels)"
            )
        self._pictures = pictures if pictures.ndim == 4 else pictures[..., np.newaxis]
        self.labels = None if labels is None else checked_labels(labels, len(pictures))

    def __len__(self) -> int:
        return len(self._pictures)

    def batches(
        self, batch_size: int, order: NDArray[np.int64] | None = None
    ) -> Iterator[NDArray[Any]]:
        """Yield batches; see PictureSet."""
        count = len(self) if order is None else len(order)
        for begin in range(0, count, batch_size):
            rows = slice(begin, begin + batch_size)
            part = self._pictures[rows if order is None else order[rows]]
            yield part if part.dtype == np.uint8 else part.astype("f4", copy=False)


class DatasetPictures:
    """Pictures of an opened dataset.

    Reading in order streams chunk by chunk. The first reading in another order decodes everything
    once into an unnamed temporary file, because a chunk would otherwise be decoded for nearly
    every picture of it.

    Args:
        dataset: open.
        field: name of the field; None: the only one that holds pictures.
        label: name of the integer column of classes; None: pictures without labels.
        side: scale pictures to side x side, or to (height, width); None: they have one size, and
            it stays.
        fill_in: puts something into patches that were left out; None: they stay 0.
        layers: read only the first layers of every field; None: all.
        directory: of the temporary file; None: the system's.

    Raises:
        SourceError: no such field or column, or pictures of different sizes.
    """

    def __init__(
        self,
        dataset: Dataset,
        field: str | None = None,
        *,
        label: str | None = "label",
        side: int | tuple[int, int] | None = None,
        fill_in: Fill | None = None,
        layers: int | None = None,
        directory: str | None = None,
    ) -> None:
        self._dataset = dataset
        self._field = _picture_field(dataset, field)
        self._size = (side, side) if isinstance(side, int) else side
        self._fill_in = fill_in
        self._layers = layers
        self._directory = directory
        self._spooled: ArrayPictures | None = None
        self.labels = None if label is None else _read_labels(dataset, label)

    def __len__(self) -> int:
        return len(self._dataset)

    def batches(
        self, batch_size: int, order: NDArray[np.int64] | None = None
    ) -> Iterator[NDArray[Any]]:
        """Yield batches; see PictureSet."""
        if self._spooled is None and order is not None:
            self._spooled = self._spool()
        if self._spooled is not None:
            yield from self._spooled.batches(batch_size, order)
            return
        yield from _regrouped(self._decoded(), batch_size)

    def _decoded(self) -> Iterator[NDArray[Any]]:
        name = self._field.name
        for chunk in self._dataset.iter_chunks(layers=self._layers, fields=[name]):
            yield self._filled(chunk, chunk.fields[name])

    def _filled(self, chunk: Chunk, values: Any) -> NDArray[Any]:
        masks = chunk.masks.get(self._field.name)
        if isinstance(values, np.ndarray):
            grids = None if masks is None else np.stack(masks)
            return self._whole(values, grids)
        if self._size is None:
            raise SourceError(
                f"field {self._field.name!r}: pictures of different sizes; {ONE_SIZE}, or give "
                "side="
            )
        return np.concatenate(
            [
                self._whole(picture[np.newaxis], None if masks is None else masks[row][np.newaxis])
                for row, picture in enumerate(values)
            ]
        )

    def _whole(self, values: NDArray[Any], masks: NDArray[np.bool_] | None) -> NDArray[Any]:
        """Return pictures of one size with a channel axis, filled in and scaled."""
        pictures = values if values.ndim == 4 else values[..., np.newaxis]
        if masks is not None and self._fill_in is not None:
            pictures = self._fill_in(pictures, masks, self._field.patch or 1)
        return pictures if self._size is None else scaled_to(pictures, *self._size)

    def _spool(self) -> ArrayPictures:
        stored: NDArray[Any] | None = None
        begin = 0
        for batch in _regrouped(self._decoded(), _SPOOL_BATCH):
            if stored is None:
                # The map keeps the file, which has no name and goes with it.
                with tempfile.TemporaryFile(dir=self._directory) as file:
                    shape = (len(self), *batch.shape[1:])
                    stored = np.memmap(file, batch.dtype, "w+", shape=shape)
            if batch.shape[1:] != stored.shape[1:]:
                raise _different_sizes(self._field.name, stored.shape[1:], batch.shape[1:])
            stored[begin : begin + len(batch)] = batch
            begin += len(batch)
        if stored is None:
            raise SourceError(f"field {self._field.name!r}: the dataset has no samples")
        return ArrayPictures(stored)


def unit_values(pictures: NDArray[Any]) -> NDArray[Any]:
    """Return bytes as float32 of [0, 1]; floating point stays as it is."""
    return pictures.astype("f4") / np.float32(255) if pictures.dtype == np.uint8 else pictures


def labels_of(pictures: PictureSet) -> NDArray[np.int64]:
    """Return the labels, int64, shape (n,).

    Raises:
        SourceError: there are none.
    """
    if pictures.labels is None:
        raise SourceError("pictures without labels: this needs the class of each; give labels")
    return pictures.labels


def checked_labels(labels: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return labels as int64.

    Args:
        labels: integers from 0.
        count: how many there must be.

    Raises:
        SourceError: their number, type or range is wrong.
    """
    labels = np.asarray(labels)
    if labels.shape != (count,) or (labels.dtype.kind not in "iu" and count):
        raise SourceError(
            f"labels: {labels.dtype} of shape {labels.shape}, expected integers of shape ({count},)"
        )
    if count and labels.min() < 0:
        row = int(labels.argmin())
        raise SourceError(f"label {int(labels[row])} of sample {row}: expected classes from 0")
    return labels.astype("i8")


def _regrouped(parts: Iterator[NDArray[Any]], batch_size: int) -> Iterator[NDArray[Any]]:
    """Yield the rows of all parts in batches of one size, the last perhaps smaller."""
    waiting: list[NDArray[Any]] = []
    count = 0
    for part in parts:
        if waiting and part.shape[1:] != waiting[0].shape[1:]:
            raise _different_sizes("", waiting[0].shape[1:], part.shape[1:])
        waiting.append(part)
        count += len(part)
        if count < batch_size:
            continue
        rows = np.concatenate(waiting) if len(waiting) > 1 else part
        whole = count - count % batch_size
        for begin in range(0, whole, batch_size):
            yield rows[begin : begin + batch_size]
        waiting, count = ([rows[whole:]], count - whole) if count > whole else ([], 0)
    if count:
        yield np.concatenate(waiting)


def _different_sizes(name: str, first: tuple[int, ...], other: tuple[int, ...]) -> SourceError:
    where = f"field {name!r}: " if name else ""
    return SourceError(
        f"{where}pictures of different sizes, {first} and {other}; {ONE_SIZE}, or give side="
    )


def _picture_field(dataset: Dataset, name: str | None) -> Field:
    fields = dataset.schema.fields
    if name is not None:
        if name not in [field.name for field in fields]:
            raise SourceError(f"no field {name!r}; there are {[f.name for f in fields]}")
        found = [dataset.schema.field(name)]
    else:
        found = [f for f in fields if len(f.shape) in (2, 3) and f.dtype in ("uint8", "float32")]
    if len(found) != 1 or len(found[0].shape) not in (2, 3):
        raise SourceError(
            f"fields {[f.name for f in fields]}: expected one of (height, width[, channels]); "
            "name it with field="
        )
    return found[0]


def _read_labels(dataset: Dataset, name: str) -> NDArray[np.int64]:
    columns = [column.name for column in dataset.schema.columns]
    if name not in columns or dataset.schema.column(name).type != "int64":
        raise SourceError(
            f"no column {name!r} of int64 to take labels from; columns are {columns}: "
            "name one with label=, or label=None for pictures without labels"
        )
    parts = [np.asarray(chunk.columns[name]) for chunk in dataset.iter_chunks(layers=1, fields=[])]
    return checked_labels(np.concatenate(parts) if parts else np.empty(0, "i8"), len(dataset))
