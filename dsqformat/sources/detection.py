"""Which kind of source a path is, and opening it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from dsqformat.errors import SourceError
from dsqformat.sources import parquet, tar_shards
from dsqformat.sources.folder import FolderSource
from dsqformat.sources.npz import NpzSource
from dsqformat.sources.sample_source import (
    BadSample,
    Kind,
    OnScan,
    Source,
    SourceOptions,
    ignore_scan,
    raise_bad,
)
from dsqformat.wire import DATASET_FILE


def detect(location: str) -> Kind:
    """Return the kind of source at a path.

    Args:
        location: a file, a folder, or a pattern with braces for tars.

    Raises:
        FileNotFoundError: there is nothing.
        SourceError: it is of no known kind, or of several.
    """
    path = Path(location)
    if not path.exists():
        if "{" in location:
            return "webdataset"
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), location)
    if path.is_dir():
        return _detect_folder(path)
    name = path.name.lower()
    if name.endswith(tar_shards.SUFFIXES):
        return "webdataset"
    if name.endswith(parquet.SUFFIXES):
        return "parquet"
    if name.endswith(".npz"):
        return "npz"
    raise SourceError(
        f"{location}: expected a folder, a .tar, a .parquet or an .npz; "
        "if it is one under another name, say which (--source)"
    )


def _detect_folder(path: Path) -> Kind:
    if (path / DATASET_FILE).exists():
        raise SourceError(f"{path}: is a DSQ dataset already; to read it use unpack or pull")
    names = [entry.name.lower() for entry in path.iterdir()]
    tars = any(name.endswith(tar_shards.SUFFIXES) for name in names)
    # Hugging Face keeps them in a folder `data`; deeper ones need --source parquet.
    tables = any(
        found.suffix.lower() in parquet.SUFFIXES
        for pattern in ("*", "*/*")
        for found in path.glob(pattern)
    )
    if tars and tables:
        raise SourceError(f"{path}: holds tars and Parquet files; say which are meant (--source)")
    return "webdataset" if tars else "parquet" if tables else "folder"


def open_source(
    location: str,
    kind: Kind | None,
    options: SourceOptions,
    on_bad: BadSample = raise_bad,
    on_scan: OnScan = ignore_scan,
) -> Source:
    """Open a source and look through it.

    Args:
        location: a file, a folder, or a pattern with braces for tars.
        kind: None: find out.
        options: how to read it.
        on_bad: called for each sample found to be bad already now.
        on_scan: called as the source is looked through.

    Raises:
        SourceError: it cannot be read as samples.
        OSError: a file is missing or cannot be read.
    """
    kind = kind or detect(location)
    if kind == "webdataset":
        return tar_shards.TarSource(location, options, on_bad, on_scan)
    path = Path(location)
    if kind == "folder":
        return FolderSource(path, options, on_bad, on_scan)
    if kind == "parquet":
        return parquet.ParquetSource(path, options, on_bad, on_scan)
    return NpzSource(path, options, on_bad, on_scan)
