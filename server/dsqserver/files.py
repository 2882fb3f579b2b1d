"""The files of a dataset directory by the relative paths of spec 13, and nothing else below it."""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Final

from dsqserver.problems import ProblemError
from dsqserver.ranges import Representation
from dsqserver.responses import represent_bytes, represent_digest

logger = logging.getLogger(__name__)

IMMUTABLE: Final = "public, max-age=31536000, immutable, no-transform"
REVALIDATE: Final = "no-cache"
# dataset.json maps names of refs to snapshots; one of this size would hold 7,000 refs.
MAX_DATASET_FILE_NBYTES: Final = 1 << 20

_SNAPSHOT = re.compile(r"([0-9a-f]{64})\.json")
_BLOB = re.compile(r"([0-9a-f]{64})\.([a-z0-9]{1,16})")
# A type that a browser would run or draw is never given, whatever a snapshot says of its blobs.
_MEDIA_TYPES: Final = {
    "dsq": "application/vnd.dsq.shard",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}
_ABSENT: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO that somebody left there must not wait for its writer.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_dataset_file(directory: Path) -> bytes:
    """Return the content of dataset.json.

    Raises:
        ProblemError: not_found, or dataset_unreadable if it is too long or cannot be read.
    """
    with _open_beneath(directory, "", "dataset.json") as file:
        content = file.read(MAX_DATASET_FILE_NBYTES + 1)
    if len(content) > MAX_DATASET_FILE_NBYTES:
        reason = f"dataset.json is longer than {MAX_DATASET_FILE_NBYTES} bytes"
        logger.error("dataset %s: %s", directory, reason)
        raise ProblemError("dataset_unreadable", reason)
    return content


def represent_dataset_file(content: bytes) -> Representation:
    """Describe dataset.json: the only file that changes, to be asked for anew each time."""
    return represent_bytes(content, "application/json", REVALIDATE)


def open_snapshot(directory: Path, name: str) -> tuple[Representation, FileIO]:
    """Open snapshots/SID.json; the caller closes the file.

    Raises:
        ProblemError: not_found, or dataset_unreadable if it cannot be read.
    """
    match = _SNAPSHOT.fullmatch(name)
    if match is None:
        raise _not_found("snapshots", "SID.json, SID being 64 lower-case hexadecimal digits")
    file = _open_beneath(directory, "snapshots", name)
    return _represent_file(file, match[1], "application/json"), file


def open_blob(directory: Path, name: str) -> tuple[Representation, FileIO]:
    """Open blobs/DIGEST.SUFFIX; the caller closes the file.

    Raises:
        ProblemError: not_found, or dataset_unreadable if it cannot be read.
    """
    match = _BLOB.fullmatch(name)
    if match is None:
        raise _not_found("blobs", "DIGEST.SUFFIX, DIGEST being 64 lower-case hexadecimal digits")
    file = _open_beneath(directory, "blobs", name)
    media_type = _MEDIA_TYPES.get(match[2], "application/octet-stream")
    return _represent_file(file, match[1], media_type), file


def _represent_file(file: FileIO, digest: str, media_type: str) -> Representation:
    nbytes = os.fstat(file.fileno()).st_size
    return represent_digest(digest, nbytes, media_type, IMMUTABLE)


def _open_beneath(directory: Path, folder: str, name: str) -> FileIO:
    """Open directory/folder/name, following no symbolic link below `directory`.

    The names come from the patterns above; the flags are the second lock on the same door.
    """
    try:
        with _opened(directory, _DIRECTORY) as top:
            if not folder:
                return _regular_file(os.open(name, _FILE, dir_fd=top), folder)
            with _opened(folder, _DIRECTORY | os.O_NOFOLLOW, top) as parent:
                return _regular_file(os.open(name, _FILE, dir_fd=parent), folder)
    except OSError as error:
        raise _translated(error, directory, folder) from error


@contextmanager
def _opened(path: str | Path, flags: int, parent: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _regular_file(descriptor: int, folder: str) -> FileIO:
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return FileIO(descriptor)
    os.close(descriptor)
    raise _not_found(folder, "a regular file")


def _translated(error: OSError, directory: Path, folder: str) -> ProblemError:
    if error.errno in _ABSENT:
        return _not_found(folder, "the name of a file of this dataset")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return ProblemError("overloaded", "too many open files", {"retry-after": "1"})
    logger.error("dataset %s: %s", directory, error)
    reason = os.strerror(error.errno or 0)
    return ProblemError("dataset_unreadable", f"a file of it cannot be opened: {reason}")


def _not_found(folder: str, expected: str) -> ProblemError:
    return ProblemError(
        "not_found", f"nothing of this name in {folder or '.'}: expected {expected}"
    )
