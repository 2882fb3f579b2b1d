"""The datasets below a folder: names, snapshots, shards and sample tables."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dsqformat import wire
from dsqformat.bytesource import LocalSource
from dsqformat.dataset.refs import DIGEST, parse_refs
from dsqformat.dataset.snapshot import ROLE_SAMPLES, ShardEntry, Snapshot, parse_snapshot
from dsqformat.errors import DatasetError, DsqError
from dsqserver.files import open_blob, open_snapshot, read_dataset_file
from dsqserver.filters import Conditions
from dsqserver.problems import ProblemError
from dsqserver.samples import SampleTable

logger = logging.getLogger(__name__)

# What stays in memory between requests: parsed snapshots (a few MiB each at most), pages of
# 1,024 shard entries, and 8 bytes per shard for each filter asked for lately.
CACHED_SNAPSHOTS: Final = 8
CACHED_PAGES: Final = 16
CACHED_FILTERS: Final = 32
MAX_NAME_NBYTES: Final = 200


class Catalog:
    """The datasets in a folder, looked up anew at each request.

    Args:
        root: a folder of dataset directories, or one dataset directory, which is then the only
            one and goes by its own name.

    Raises:
        DatasetError: root is not a folder, or a dataset whose name cannot be in a URL.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            found = "a file" if root.exists() else "nothing"
            raise DatasetError(f"{root}: {found} here, expected a folder of datasets")
        self.root = root.resolve()
        self._single = (self.root / wire.DATASET_FILE).is_file()
        if self._single and not is_servable_name(self.root.name):
            raise DatasetError(f"{self.root}: the name of the folder cannot be served; rename it")
        self._parse = lru_cache(CACHED_SNAPSHOTS)(_read_snapshot)
        self._page = lru_cache(CACHED_PAGES)(self._read_page)
        self._counts = lru_cache(CACHED_FILTERS)(self._count_by_shard)
        # One scan of a whole table at a time; whoever waits then finds the result cached.
        self._scan_lock = Lock()

    def names(self) -> list[str]:
        """Return the names of all datasets, sorted."""
        if self._single:
            return [self.root.name]
        with os.scandir(self.root) as entries:
            folders = [entry.name for entry in entries if entry.is_dir()]
        return sorted(name for name in folders if self._holds_dataset(name))

    def directory(self, name: str) -> Path:
        """Return the directory of a dataset.

        Raises:
            ProblemError: unknown_dataset.
        """
        if self._single and name == self.root.name:
            return self.root
        if self._single or not self._holds_dataset(name):
            raise ProblemError("unknown_dataset", f"got {name[:100]!r}; /v1/datasets lists them")
        return self.root / name

    def refs(self, name: str) -> dict[str, str]:
        """Return the refs of a dataset and the snapshot each points to.

        Raises:
            ProblemError: unknown_dataset or dataset_unreadable.
        """
        content = read_dataset_file(self.directory(name))
        with _told_as_unreadable(name):
            return parse_refs(content)

    def snapshot(self, name: str, ref: str) -> Snapshot:
        """Return the snapshot a ref points to.

        Args:
            name: of the dataset.
            ref: name of a ref, or the 64 hexadecimal digits of a snapshot.

        Raises:
            ProblemError: unknown_dataset, unknown_ref or dataset_unreadable.
        """
        refs = self.refs(name)
        if ref in refs:
            try:
                return self._load(name, refs[ref])
            except _MissingSnapshotError as error:
                raise _unreadable(name, str(error), error) from error
        if DIGEST.fullmatch(ref):
            with suppress(_MissingSnapshotError):
                return self._load(name, ref)
        raise ProblemError("unknown_ref", f"got {ref[:100]!r}, expected one of {sorted(refs)}")

    def pinned_snapshot(self, name: str, snapshot_id: str) -> Snapshot:
        """Return the snapshot a page token was made for.

        Raises:
            ProblemError: unknown_dataset, snapshot_gone or dataset_unreadable.
        """
        self.directory(name)
        try:
            return self._load(name, snapshot_id)
        except _MissingSnapshotError as error:
            detail = f"{error}; ask for the first page again"
            raise ProblemError("snapshot_gone", detail) from error

    def shards(self, name: str, snapshot: Snapshot, numbers: Iterable[int]) -> list[ShardEntry]:
        """Return shard entries by their numbers in the snapshot.

        Raises:
            ProblemError: dataset_unreadable.
        """
        with _told_as_unreadable(name):
            if not snapshot.pages:
                return [snapshot.shards[number] for number in numbers]
            entries: list[ShardEntry] = []
            for number in numbers:
                page, row = divmod(number, wire.SHARDS_PER_PAGE)
                entries.append(self._page(name, snapshot.id, page)[row])
            return entries

    @contextmanager
    def sample_table(self, name: str, snapshot: Snapshot) -> Iterator[SampleTable]:
        """Open the sample table of a snapshot.

        Raises:
            ProblemError: no_sample_table or dataset_unreadable.
        """
        blob = snapshot.blob(ROLE_SAMPLES)
        if blob is None:
            detail = f"snapshot {snapshot.id[:12]} was written without one, so it has no listing"
            raise ProblemError("no_sample_table", detail)
        with _told_as_unreadable(name):
            try:
                _, file = open_blob(self.directory(name), f"{blob.digest}.{blob.suffix}")
            except ProblemError as error:
                raise DatasetError(f"sample table {blob.path}: {error.detail}") from error
            with file:
                yield SampleTable(file)

    def count_by_shard(
        self, name: str, snapshot: Snapshot, conditions: Conditions
    ) -> NDArray[np.int64]:
        """Return how many samples of each shard meet all conditions; int64, read-only.

        Raises:
            ProblemError: no_sample_table or dataset_unreadable.
        """
        with self._scan_lock:
            return self._counts(name, snapshot.id, conditions)

    def _count_by_shard(
        self, name: str, snapshot_id: str, conditions: Conditions
    ) -> NDArray[np.int64]:
        snapshot = self.pinned_snapshot(name, snapshot_id)
        with self.sample_table(name, snapshot) as table:
            counts = table.count_by_shard(conditions, snapshot.shard_count)
        counts.flags.writeable = False
        return counts

    def _read_page(self, name: str, snapshot_id: str, number: int) -> tuple[ShardEntry, ...]:
        snapshot = self.pinned_snapshot(name, snapshot_id)
        return snapshot.read_page(LocalSource(self.directory(name)), number)

    def _holds_dataset(self, name: str) -> bool:
        # os.path: a folder that may not be looked into is no dataset, and no error.
        return is_servable_name(name) and os.path.isfile(self.root / name / wire.DATASET_FILE)

    def _load(self, name: str, snapshot_id: str) -> Snapshot:
        with _told_as_unreadable(name):
            return self._parse(self.directory(name), snapshot_id)


class _MissingSnapshotError(Exception):
    """No file of this name in snapshots/."""


def is_servable_name(name: str) -> bool:
    """Tell whether a folder of this name can be a dataset: one plain, visible path segment."""
    return (
        bool(name)
        and name[0] != "."
        and name.isprintable()
        and not set(name) & {"/", "\\"}
        and len(name.encode("utf-8")) <= MAX_NAME_NBYTES
    )


def _read_snapshot(directory: Path, snapshot_id: str) -> Snapshot:
    try:
        _, file = open_snapshot(directory, f"{snapshot_id}.json")
    except ProblemError as error:
        if error.code == "not_found":
            raise _MissingSnapshotError(f"snapshot {snapshot_id[:12]} is not there") from error
        raise
    with file:
        return parse_snapshot(file.read(wire.MAX_SNAPSHOT_NBYTES + 1), snapshot_id)


@contextmanager
def _told_as_unreadable(name: str) -> Iterator[None]:
    """Answer errors of files that contradict the format, or cannot be read, as a problem."""
    try:
        yield
    except (DsqError, OSError, pa.ArrowException) as error:
        # What the format says of its files holds no path of this machine; system errors may.
        reason = str(error) if isinstance(error, DsqError) else "a file of it cannot be read"
        raise _unreadable(name, reason, error) from error


def _unreadable(name: str, reason: str, error: Exception) -> ProblemError:
    logger.error("dataset %s: %s: %s", name, type(error).__name__, error)
    return ProblemError("dataset_unreadable", f"dataset {name!r}: {reason}")
