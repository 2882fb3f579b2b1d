"""Values of command-line options that are more than a word or a number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from enum import StrEnum
from typing import Final

import typer

_UNITS: Final = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}


@contextmanager
def usage_errors() -> Iterator[None]:
    """Tell values that are not possible in the way of the command line, with exit code 2."""
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def nbytes_of(text: str) -> int:
    """Return the bytes in a text such as "256KiB" or "32 MB".

    Raises:
        ValueError: it is no size.
    """
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(f"{text!r}: expected a size such as 256KiB or 32MB")
    return int(Decimal(match[1]) * _UNITS[match[2].lower()])


def parse_nbytes(text: str) -> int:
    """Return the same for an option of the command line."""
    with usage_errors():
        return nbytes_of(text)


def parse_integers(text: str) -> tuple[int, ...]:
    """Return the numbers in a text such as "4,2"; none in an empty one."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts):
        raise typer.BadParameter(f"{text!r}: expected whole numbers such as 4,2")
    return tuple(int(part) for part in parts)


def parse_decimals(text: str) -> tuple[str, ...]:
    """Return the decimal numbers in a text such as "0.485,0.456,0.406", as they are written."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(re.fullmatch(r"-?[0-9]{1,20}(\.[0-9]{1,40})?", part) for part in parts):
        raise typer.BadParameter(f"{text!r}: expected decimal numbers such as 0.485,0.456")
    return tuple(parts)


class SourceKind(StrEnum):
    """Kinds of source that `--source` names."""

    folder = "folder"
    webdataset = "webdataset"
    parquet = "parquet"
    npz = "npz"


class QuantizerName(StrEnum):
    """Quantizers that `--quantizer` names."""

    affine = "affine"
    block = "block"
    lsq = "lsq"
    patch = "patch"
    raw = "raw"


class GroupingName(StrEnum):
    """Ways to group patches that `--grouping` names."""

    distortion = "distortion"
    min_max = "min_max"
    compat = "compat"


class EffortName(StrEnum):
    """Efforts of quantizer block that `--effort` names."""

    default = "default"
    high = "high"


class DomainKind(StrEnum):
    """Domains of lsq that `--domain` names."""

    unit = "unit"
    centered = "centered"
    normalized = "normalized"


class CodingName(StrEnum):
    """Codings that `--coding` names."""

    auto = "auto"
    packed = "packed"
    zstd = "zstd"
    rans = "rans"


class PictureMode(StrEnum):
    """Picture modes that `--mode` names."""

    L = "L"
    RGB = "RGB"
    RGBA = "RGBA"
    auto = "auto"


class OnError(StrEnum):
    """What `--on-error` does with bad samples."""

    stop = "raise"
    skip = "skip"


class TargetKind(StrEnum):
    """What `dsq unpack --to` makes."""

    folder = "folder"
    npz = "npz"
    webdataset = "webdataset"


class PictureFormat(StrEnum):
    """Picture formats that keep every value."""

    png = "png"
    webp = "webp"
