"""File names from keys and labels, which may hold anything: never a path that leads elsewhere."""

from __future__ import annotations

import re
from typing import Final

from dsqformat.sources.pictures import SUFFIXES

# What some file system or shell takes for something else.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_MOST_NBYTES: Final = 120


def safe_component(text: str) -> str:
    """Return a text as one part of a path: no separators, no leading dots, not too long."""
    name = _UNSAFE.sub("_", text).strip().rstrip(".")
    if name.startswith("."):
        name = "_" + name[1:]
    encoded = name.encode("utf-8", "replace")[:_MOST_NBYTES]
    return encoded.decode("utf-8", "ignore") or "_"


def without_picture_suffix(name: str) -> str:
    """Return a file name without the extension of a picture, if it has one."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and stem and f".{suffix.lower()}" in SUFFIXES else name


def file_stem(key: str | None, position: int, folder: str) -> str:
    """Return a name for the picture of a sample, without extension.

    Args:
        key: of the sample, or None.
        position: of the sample.
        folder: the class folder it goes to; left out where the key begins with it.
    """
    if key is None:
        return f"{position:08d}"
    parts = [part for part in without_picture_suffix(key).split("/") if part]
    if len(parts) > 1 and safe_component(parts[0]) == folder:
        parts = parts[1:]
    return safe_component("_".join(parts)) if parts else f"{position:08d}"


def tar_key(key: str | None, position: int) -> str:
    """Return a WebDataset key: a relative path whose last part has no dot."""
    if key is None:
        return f"{position:08d}"
    parts = [safe_component(part) for part in without_picture_suffix(key).split("/") if part]
    if not parts:
        return f"{position:08d}"
    parts[-1] = parts[-1].replace(".", "_")
    name = "/".join(parts)
    # webdataset passes over names in double underscores.
    return f"s{name}" if name.startswith("__") else name
