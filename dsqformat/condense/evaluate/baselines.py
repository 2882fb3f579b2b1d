"""Baselines made of a source on the fly: random coresets, and WebP or JPEG files of its pictures.

A baseline is written [LABEL=]KIND:WHAT[:FRACTION].

    uint8:0.1          a tenth of the pictures at random, as many of each class
    webp:40            all pictures as WebP files of quality 40
    jpeg:=PATH         all as JPEG files, at the best quality whose files are no larger than PATH
    webp:=PATH:0.25    likewise, of a quarter of the pictures
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.evaluate.labelled_pictures import (
    LabelledPictures,
    TrainingData,
)
from dsqformat.condense.evaluate.picture_files import (
    FILE_KINDS,
    best_quality,
    decoded,
    encoded,
    encoder_version,
)
from dsqformat.errors import SourceError
from dsqformat.select import random_coreset

UINT8: Final = "uint8"
KINDS: Final = (UINT8, *FILE_KINDS)
_FRACTION: Final = re.compile(r"(?:0?\.[0-9]{1,9}|[01](?:\.0*)?)")
_QUALITY: Final = re.compile(r"[0-9]{1,3}")
_LABELLED: Final = re.compile(rf"([^=:]+)=((?:{'|'.join(KINDS)}):.*)", re.DOTALL)

# To be raised when a seed draws other pictures, so that older results are not reused.
_DRAW: Final = 2

# From the seed of a run to its pictures.
Load = Callable[[int], TrainingData]


@dataclass(frozen=True)
class Baseline:
    """A baseline, as it was asked for.

    Attributes:
        label: of its row; as it was written, if it has no name of its own.
        kind: "uint8", "webp" or "jpeg".
        fraction: of the pictures, above 0 and at most 1.
        quality: of the files; None: of `like`, or there are none.
        like: label or path of what the files must have the bytes of.
    """

    label: str
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
        open: returns what makes them; those of a fraction are drawn by the seed.
    """

    sample_count: int
    identity: dict[str, Any]
    open: Callable[[], Load]


def parse_baseline(text: str) -> Baseline:
    """Take the text of a baseline apart.

    Raises:
        ValueError: it is none.
    """
    named = _LABELLED.fullmatch(text)
    label = text if named is None else named[1].strip()
    kind, _, rest = (text if named is None else named[2]).partition(":")
    if kind not in KINDS or not rest:
        raise _unknown(text)
    if kind == UINT8:
        return Baseline(label, kind, _fraction(text, rest))
    what, separator, last = rest.rpartition(":")
    fraction = 1.0
    # A path may hold colons; a fraction is what looks like one.
    if separator and what and _FRACTION.fullmatch(last):
        rest, fraction = what, _fraction(text, last)
    if rest.startswith("=") and len(rest) > 1:
        return Baseline(label, kind, fraction, like=rest[1:])
    if not _QUALITY.fullmatch(rest) or int(rest) > 100:
        raise _unknown(text)
    return Baseline(label, kind, fraction, quality=int(rest))


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
        raise SourceError(f"baseline {baseline.label!r}: {count} pictures; training needs 2")
    identity: dict[str, Any] = {"kind": baseline.kind, "fraction": baseline.fraction}
    if count < len(source):
        identity["draw"] = _DRAW
    if baseline.kind == UINT8:
        return MadeBaseline(count, identity, lambda: partial(_coreset, source, count))
    if source.pictures.dtype != np.uint8 or source.channels not in (1, 3):
        raise SourceError(
            f"baseline {baseline.label!r}: {source.where} has {source.pictures.dtype} of "
            f"{source.channels} channels; such files are of uint8 with 1 or 3"
        )
    identity |= {"quality": baseline.quality, "encoder": encoder_version(baseline.kind)}
    opened = partial(_open_files, baseline, source, aim, count, on_progress)
    return MadeBaseline(count, identity, opened)


def _chosen(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Return the pictures of a seed: as many of each class, as far as they suffice."""
    share = Fraction(count, len(labels))
    return random_coreset(len(labels), share, labels, balance="equal", seed=seed)


def _coreset(source: LabelledPictures, count: int, seed: int) -> TrainingData:
    pictures = source.taken(_chosen(source.labels, count, seed))
    nbytes = int(pictures.pictures.nbytes)
    return TrainingData(pictures, nbytes, nbytes)


def _open_files(
    baseline: Baseline,
    source: LabelledPictures,
    aim: int | None,
    count: int,
    on_progress: OnProgress,
) -> Load:
    """Make files of all pictures; the loads of all seeds choose among them."""
    quality = baseline.quality
    if quality is None:
        quality = _matching_quality(baseline, source, (aim or 0) / count, on_progress)
    nbytes = np.empty(len(source), "i8")
    back = np.empty_like(source.pictures)
    for number, picture in enumerate(source.pictures):
        data = encoded(picture, baseline.kind, quality)
        nbytes[number], back[number] = len(data), decoded(data, picture.shape)
        on_progress(f"{baseline.label}: make files", number + 1, len(source))
    made = LabelledPictures(source.where, back, source.labels, source.names)
    setting = "" if baseline.quality is not None else f"quality {quality}"

    def load(seed: int) -> TrainingData:
        rows = _chosen(source.labels, count, seed)
        total = int(nbytes[rows].sum())
        return TrainingData(made.taken(rows), total, total, setting)

    return load


def _matching_quality(
    baseline: Baseline, source: LabelledPictures, nbytes: float, on_progress: OnProgress
) -> int:
    found = best_quality(source.pictures, baseline.kind, nbytes, on_progress)
    if found is None:
        raise SourceError(
            f"baseline {baseline.label!r}: files of the lowest quality are larger than "
            f"{nbytes:,.1f} bytes each; take fewer pictures, as in "
            f"{baseline.kind}:={baseline.like}:{baseline.fraction / 2:g}"
        )
    return found
