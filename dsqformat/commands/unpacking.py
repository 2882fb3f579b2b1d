"""What all targets of `dsq unpack` share: reading in order, and appearing all at once."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsqformat.chunk import Chunk
from dsqformat.dataset import Dataset
from dsqformat.errors import DatasetError
from dsqformat.schema import Column
from dsqformat.sources.sample_source import LABEL_COLUMN


@dataclass(frozen=True)
class UnpackReport:
    """What was written.

    Attributes:
        sample_count: samples.
        nbytes: bytes of the files.
        file_count: files.
        left_out: what the target cannot hold, in words.
    """

    sample_count: int
    nbytes: int
    file_count: int
    left_out: tuple[str, ...] = ()


def read_chunks(
    dataset: Dataset, layers: int | None, fields: list[str] | None = None
) -> Iterator[tuple[int, Chunk, list[str] | None]]:
    """Yield position of the first sample, decoded chunk, and keys (None: no keys) in order."""
    position = 0
    for number in range(dataset.snapshot.shard_count):
        shard = dataset.shard(number)
        for index in range(len(shard.chunks)):
            chunk = shard.read_chunk(index, layers=layers, fields=fields, output="source")
            yield position, chunk, shard.read_keys(index) if shard.has_keys else None
            position += chunk.sample_count


def label_column(dataset: Dataset) -> Column | None:
    """Return the column of the labels, or None."""
    found = [c for c in dataset.schema.columns if c.name == LABEL_COLUMN and c.type == "int64"]
    return found[0] if found else None


def main_field(dataset: Dataset, name: str | None) -> str:
    """Return the field to write as pictures or as x.

    Args:
        dataset: what is unpacked.
        name: as asked for; None: the first one.

    Raises:
        ValueError: there is no such field.
    """
    return dataset.schema.field(name).name if name else dataset.schema.fields[0].name


def require_absent(dest: Path) -> None:
    """Raise an error if something is in the way; an empty folder is not."""
    if dest.is_dir() and not any(dest.iterdir()):
        return
    if dest.exists() or dest.is_symlink():
        raise DatasetError(f"{dest}: exists already; choose another name or remove it")


@contextmanager
def new_file(dest: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `dest` on success and vanishes otherwise."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=dest.parent, prefix=f".{dest.name}.new-")
    os.close(descriptor)
    path = Path(name)
    try:
        with _naming(dest):
            yield path
        path.chmod(0o644)
        path.replace(dest)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(dest: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `dest` on success and vanishes otherwise."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=dest.parent, prefix=f".{dest.name}.new-"))
    try:
        with _naming(dest):
            yield path
        path.chmod(0o755)
        path.replace(dest)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


@contextmanager
def _naming(dest: Path) -> Iterator[None]:
    """Let errors of the system name the target, not a temporary file that is gone."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS):
            raise OSError(error.errno, error.strerror, str(dest)) from error
        raise


def column_values(chunk: Chunk, row: int, left_out: frozenset[str]) -> dict[str, Any]:
    """Return the columns of one sample as Python values, but those left out."""
    values = {name: column[row] for name, column in chunk.columns.items() if name not in left_out}
    return {
        name: value if isinstance(value, str | bytes) else value.item()
        for name, value in values.items()
    }
