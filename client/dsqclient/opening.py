"""Where a dataset is: a local directory or a URL."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dsqclient.retry import HttpOptions
from dsqclient.transport import HttpSource
from dsqformat import wire
from dsqformat.bytesource import ByteSource, LocalSource
from dsqformat.dataset import Dataset, load_snapshot


def open_source(
    path_or_url: str | os.PathLike[str],
    *,
    rate_limit: float | None = None,
    options: HttpOptions | None = None,
) -> ByteSource:
    """Return the files of a dataset, wherever they are.

    Args:
        path_or_url: the directory that holds dataset.json, or dataset.json itself: a local path,
            a file: URL, or an http(s) URL.
        rate_limit: most bytes per second to receive over HTTP, or None.
        options: timeouts, retries and headers for HTTP.

    Raises:
        ValueError: a URL of another scheme.
    """
    text = os.fspath(path_or_url)
    scheme = urlsplit(text).scheme.lower() if "://" in text else ""
    if scheme not in ("", "file"):
        text = text.rstrip("/").removesuffix(f"/{wire.DATASET_FILE}")
        return HttpSource(text, options=options, rate_limit=rate_limit)
    path = Path(unquote(urlsplit(text).path) if scheme == "file" else text)
    return LocalSource(path.parent if path.name == wire.DATASET_FILE else path)


def open_dataset(
    path_or_url: str | os.PathLike[str],
    *,
    ref: str = "main",
    rate_limit: float | None = None,
    options: HttpOptions | None = None,
) -> Dataset:
    """Open a dataset for random access, from a local path or over HTTP.

    Only what is looked at is fetched: a snapshot, heads of shards, chunks.

    Args:
        path_or_url: the directory that holds dataset.json (or that file): a path or an http(s) URL.
        ref: name of a ref, or the id of a snapshot.
        rate_limit: most bytes per second to receive over HTTP, or None.
        options: timeouts, retries and headers for HTTP.

    Raises:
        DatasetError: there is no such dataset, ref or snapshot.
        FetchError: the server cannot be reached.
    """
    source = open_source(path_or_url, rate_limit=rate_limit, options=options)
    return Dataset(source, load_snapshot(source, ref))
