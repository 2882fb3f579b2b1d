"""Pictures of one size with their classes, in memory: what a row is trained or tested on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SourceError


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures and classes.

    Attributes:
        where: what they came from, for messages.
        pictures: uint8, or float32 of [0, 1], shape (n, height, width, channels).
        labels: int64, shape (n,), classes from 0.
        names: of the classes; empty if they have none.
    """

    where: str
    pictures: NDArray[Any]
    labels: NDArray[np.int64]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        height, width, channels = self.pictures.shape[1:]
        return height, width, channels

    @property
    def channels(self) -> int:
        """Channels of a picture."""
        return self.shape[2]

    @property
    def class_count(self) -> int:
        """The largest class + 1."""
        return int(self.labels.max()) + 1 if len(self.labels) else 0

    def digest(self) -> str:
        """Return the SHA-256 of shape, type, values and classes, hexadecimal."""
        found = hashlib.sha256(f"{self.pictures.dtype.str} {self.pictures.shape}".encode())
        found.update(np.ascontiguousarray(self.pictures).data)
        found.update(self.labels.astype("<i8").data)
        return found.hexdigest()

    def taken(self, rows: NDArray[np.int64]) -> LabelledPictures:
        """Return some of the pictures, in this order."""
        return LabelledPictures(self.where, self.pictures[rows], self.labels[rows], self.names)


@dataclass(frozen=True)
class TrainingData:
    """Pictures to train on, and what they cost.

    Attributes:
        pictures: to train on.
        fetched_nbytes: bytes that a training client fetches.
        stored_nbytes: every byte that is kept of them.
        setting: how they were made, where that was found out; else empty.
    """

    pictures: LabelledPictures
    fetched_nbytes: int
    stored_nbytes: int
    setting: str = ""


def check_same_task(training: TaskFacts, test: TaskFacts) -> None:
    """Refuse to train on pictures that the test set says nothing about.

    Raises:
        SourceError: sizes, classes or names of classes differ.
    """
    if training.shape != test.shape:
        raise SourceError(
            f"{training.where}: pictures of {_size(training.shape)}, the test set {test.where} has "
            f"{_size(test.shape)}; pack or read both at one size"
        )
    if training.classes != test.classes:
        raise SourceError(
            f"{training.where}: {len(training.classes)} classes "
            f"({_listed(training.classes)}), the test set {test.where} has {len(test.classes)} "
            f"({_listed(test.classes)}); both must be of the same classes"
        )
    if training.names and test.names and training.names != test.names:
        raise SourceError(
            f"{training.where}: classes are named {list(training.names[:5])}, in the test set "
            f"{test.where} {list(test.names[:5])}; the numbers would not mean the same"
        )


@dataclass(frozen=True)
class TaskFacts:
    """What two sets must share to be trained and tested on.

    Attributes:
        where: what they describe.
        shape: height, width, channels.
        classes: labels that occur, rising.
        names: of the classes; empty if they have none.
    """

    where: str
    shape: tuple[int, ...]
    classes: tuple[int, ...]
    names: tuple[str, ...]


def facts_of(pictures: LabelledPictures) -> TaskFacts:
    """Return what another set must share with these pictures."""
    classes = tuple(np.unique(pictures.labels).tolist())
    return TaskFacts(pictures.where, pictures.shape, classes, pictures.names)


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(length) for length in shape)


def _listed(classes: tuple[int, ...]) -> str:
    text = ", ".join(str(label) for label in classes[:4])
    return f"{text}, ..., {classes[-1]}" if len(classes) > 5 else text
