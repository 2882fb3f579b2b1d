"""Baselines made of a source on the fly: random coresets, and WebP or JPEG files of its pictures.

A baseline is written KIND:WHAT[:FRACTION].

    uint8:0.1          a tenth of the pictures at random, as many of each class
    webp:40            all pictures as WebP files of quality 40
    jpeg:=PATH         all as JPEG files, at the best quality whose files are no larger than PATH
    webp:=PATH:0.25    likewise, of a quarter of the pictures
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.condense.evaluate.labelled_pictures import (
    LabelledPictures,
    TrainingData,
    balanced_rows,
)
from dsqformat.condense.evaluate.loading import OnProgress
from dsqformat.condense.evaluate.picture_files import FILE_KINDS, best_quality, decoded, encoded
from dsqformat.errors import SourceError

UINT8: Final = "uint8"
KINDS: Final = (UINT8, *FILE_KINDS)
_FRACTION: Final = re.compile(r"(?:0?\.[0-9]{1,9}|[01](?:\.0*)?)")
_QUALITY: Final = re.compile(r"[0-9]{1,3}")
_CORESET_STREAM: Final = 17


@dataclass(frozen=True)
class Baseline:
    """A baseline, as it was asked for.

    Attributes:
        text: as it was written; the label of its row.
        kind: "uint8", "webp" or "jpeg".
        fraction: of the pictures, above 0 and at most 1.
        quality: of the files; None: of `like`, or there are none.
        like: label or path of what the files must have the bytes of.
    """

    text: str
    kind: str
    fraction: float = 1.0
    quality: int | None = None
    like: str | None = None


@dataclass(frozen=True)
class MadeBaseline:
    """A baseline that can be trained on.

    Attributes:
        sample_count: pictures of a run.
        identity: what its pictures depend on beside those of the source.
        load: makes them; those of a fraction are drawn by the seed.
    """

    sample_count: int
    identity: dict[str, Any]
    load: Callable[[int], TrainingData]


def parse_baseline(text: str) -> Baseline:
    """Take the text of a baseline apart.

    Raises:
        ValueError: it is none.
    """
    kind, _, rest = text.partition(":")
    if kind not in KINDS or not rest:
        raise _unknown(text)
    if kind == UINT8:
        return Baseline(text, kind, _fraction(text, rest))
    what, separator, last = rest.rpartition(":")
    fraction = 1.0
    # A path may hold colons; a fraction is what looks like one.
    if separator and what and _FRACTION.fullmatch(last):
        rest, fraction = what, _fraction(text, last)
    if rest.startswith("=") and len(rest) > 1:
        return Baseline(text, kind, fraction, like=rest[1:])
    if not _QUALITY.fullmatch(rest) or int(rest) > 100:
        raise _unknown(text)
    return Baseline(text, kind, fraction, quality=int(rest))


def _fraction(text: str, word: str) -> float:
    if not _FRACTION.fullmatch(word) or not 0 < float(word) <= 1:
        raise ValueError(f"baseline {text!r}: {word!r} is no fraction above 0 and at most 1")
    return float(word)


def _unknown(text: str) -> ValueError:
    return ValueError(
        f"baseline {text!r}: expected uint8:FRACTION, or webp or jpeg with a quality of 0 to 100 "
        "or with =PATH, such as webp:40, jpeg:=PATH or webp:=PATH:0.25"
    )


def make_baseline(
    baseline: Baseline, source: LabelledPictures, aim: int | None, on_progress: OnProgress
) -> MadeBaseline:
    """Return what a baseline trains on.

    Args:
        baseline: what to make.
        source: of these pictures.
        aim: bytes that its files must not exceed; None where it has a quality.
        on_progress: called with stage, done, total.

    Raises:
        SourceError: the pictures cannot be such files, or there are too few.
    """
    count = round(baseline.fraction * len(source))
    if count < 2:
        raise SourceError(f"baseline {baseline.text!r}: {count} pictures; training needs 2 or more")
    identity = {"kind": baseline.kind, "fraction": baseline.fraction}
    if baseline.kind == UINT8:
        return MadeBaseline(count, identity, partial(_coreset, source, count))
    if source.pictures.dtype != np.uint8 or source.channels not in (1, 3):
        raise SourceError(
            f"baseline {baseline.text!r}: {source.where} has {source.pictures.dtype} of "
            f"{source.channels} channels; such files are of uint8 with 1 or 3"
        )
    files = _Files(baseline, source, aim, count, on_progress)
    return MadeBaseline(count, identity | {"quality": baseline.quality}, files.load)


def _chosen(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Return the pictures of a seed; all, in their order, where none is left out."""
    if count == len(labels):
        return np.arange(count)
    rng = np.random.default_rng([_CORESET_STREAM, seed])
    return balanced_rows(labels, count, rng)


def _coreset(source: LabelledPictures, count: int, seed: int) -> TrainingData:
    pictures = source.taken(_chosen(source.labels, count, seed))
    nbytes = int(pictures.pictures.nbytes)
    return TrainingData(pictures, nbytes, nbytes)


class _Files:
    """The pictures of a source as files of one quality, made when they are first needed."""

    def __init__(
        self,
        baseline: Baseline,
        source: LabelledPictures,
        aim: int | None,
        count: int,
        on_progress: OnProgress,
    ) -> None:
        self._baseline, self._source, self._aim, self._count = baseline, source, aim, count
        self._on_progress = on_progress
        self._made = cache(self._make)

    def load(self, seed: int) -> TrainingData:
        """Return the decoded pictures of a seed and the bytes of their files."""
        quality, nbytes, pictures = self._made()
        rows = _chosen(self._source.labels, self._count, seed)
        source = self._source
        taken = LabelledPictures(source.where, pictures[rows], source.labels[rows], source.names)
        total = int(nbytes[rows].sum())
        return TrainingData(taken, total, total, f"quality {quality}")

    def _make(self) -> tuple[int, NDArray[np.int64], NDArray[np.uint8]]:
        """Return the quality, the bytes of every file, and every picture as it comes back."""
        baseline, pictures = self._baseline, self._source.pictures
        quality = baseline.quality
        if quality is None:
            aim = (self._aim or 0) / self._count
            found = best_quality(pictures, baseline.kind, aim, self._on_progress)
            if found is None:
                raise SourceError(
                    f"baseline {baseline.text!r}: files of the lowest quality are larger than "
                    f"{aim:,.1f} bytes each; take fewer pictures, as in "
                    f"{baseline.kind}:={baseline.like}:{baseline.fraction / 2:g}"
                )
            quality = found
        nbytes = np.empty(len(pictures), "i8")
        back = np.empty_like(pictures)
        for number, picture in enumerate(pictures):
            data = encoded(picture, baseline.kind, quality)
            nbytes[number], back[number] = len(data), decoded(data, picture.shape)
            self._on_progress(f"{baseline.text}: make files", number + 1, len(pictures))
        return quality, nbytes, back
