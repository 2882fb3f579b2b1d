"""Where the bytes of a dataset come from: named, immutable, read by range."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from dsqformat.errors import DatasetError, TruncatedShardError

PIECE_NBYTES = 1 << 20


class ByteSource(Protocol):
    """The files of one dataset directory, by their relative paths.

    Implementations are safe to use from several threads at once and can be pickled.
    """

    location: str

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return exactly the bytes [start, stop) of a file; to its end if stop is None.

        Raises:
            FileNotFoundError: there is no such file.
            TruncatedShardError: the file ends before stop.
            FetchError: the transport failed after its retries.
        """
        ...

    def stream(self, path: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the same bytes in pieces, as they arrive."""
        ...

    def size(self, path: str) -> int:
        """Return the length of a file in bytes."""
        ...

    def close(self) -> None:
        """Release connections and file handles; the source may be used again afterwards."""
        ...


class LocalSource:
    """A dataset directory on a local disk.

    Args:
        root: the directory that holds dataset.json.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.location = str(self.root)

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return exactly the bytes [start, stop) of a file; to its end if stop is None."""
        with self._open(path) as file:
            nbytes = os.fstat(file.fileno()).st_size
            stop = self._checked_stop(path, start, stop, nbytes)
            file.seek(start)
            data = file.read(stop - start)
        if len(data) != stop - start:
            raise TruncatedShardError(f"{path}: read {len(data)} bytes, expected {stop - start}")
        return data

    def stream(self, path: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes [start, stop) in pieces of at most 1 MiB."""
        stop = self._checked_stop(path, start, stop, self.size(path))
        while start < stop:
            end = min(stop, start + PIECE_NBYTES)
            yield self.read(path, start, end)
            start = end

    def size(self, path: str) -> int:
        """Return the length of a file in bytes."""
        return (self.root / path).stat().st_size

    def close(self) -> None:
        """Do nothing: no handle outlives a call."""

    def _open(self, path: str) -> BinaryIO:
        try:
            return (self.root / path).open("rb", buffering=0)
        except NotADirectoryError as error:
            raise DatasetError(f"{self.location}: not a directory") from error

    @staticmethod
    def _checked_stop(path: str, start: int, stop: int | None, nbytes: int) -> int:
        if stop is None:
            stop = nbytes
        if not 0 <= start <= stop:
            raise ValueError(f"{path}: range [{start}, {stop}) is not a range")
        if stop > nbytes:
            raise TruncatedShardError(
                f"{path}: has {nbytes} bytes, expected at least {stop}", offset=nbytes
            )
        return stop
