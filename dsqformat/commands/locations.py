"""What a command is pointed at: a dataset directory, a URL, or a single shard."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from dsqformat.bytesource import LocalSource
from dsqformat.dataset import Dataset, open_dataset
from dsqformat.errors import DatasetError

# Other packages open URLs; each entry is named by a scheme and takes the URL and ref=.
OPENER_GROUP = "dsq.openers"


def url_scheme(location: str) -> str:
    """Return the scheme of a URL, lower-case; empty for a path."""
    return urlsplit(location).scheme.lower() if "://" in location else ""


def is_shard(location: str) -> bool:
    """Tell whether a path names a single shard."""
    return not url_scheme(location) and Path(location).is_file() and location.endswith(".dsq")


def open_location(location: str, ref: str = "main") -> Dataset:
    """Open a dataset by its path or URL.

    Args:
        location: a dataset directory or its dataset.json, or a URL of either.
        ref: name of a ref, or the id of a snapshot.

    Raises:
        DatasetError: there is no such dataset, or nothing that opens such URLs.
        ImportError: an extra is missing that opens them.
    """
    scheme = url_scheme(location)
    if not scheme:
        return open_dataset(dataset_folder(location), ref=ref)
    points = entry_points(group=OPENER_GROUP, name=scheme)
    if not points:
        raise DatasetError(
            f"{location}: nothing installed opens {scheme} URLs; for http and https: "
            "pip install 'dsqformat[client]'"
        )
    opener = next(iter(points)).load()
    return cast(Dataset, opener(location, ref=ref))


def dataset_folder(location: str) -> Path:
    """Return the dataset directory that a path names; dataset.json names the one it is in."""
    path = Path(location)
    return path.parent if path.name == "dataset.json" and path.is_file() else path


def shard_source(location: str) -> tuple[LocalSource, str]:
    """Return source and path of a single shard."""
    path = Path(location)
    return LocalSource(path.parent), path.name
