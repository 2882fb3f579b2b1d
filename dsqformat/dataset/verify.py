"""`verify`: every checksum, digest and rule of the spec, for a dataset or a single shard."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import accumulate
from typing import Any, Final

from dsqformat import wire
from dsqformat.bytesource import ByteSource, LocalSource
from dsqformat.dataset.reader import Dataset
from dsqformat.dataset.refs import read_refs
from dsqformat.dataset.snapshot import (
    ROLE_KEYS,
    ROLE_SAMPLES,
    BlobEntry,
    ShardEntry,
    Snapshot,
    load_snapshot,
    totals,
)
from dsqformat.dataset.verify_shard import VerifyReport, verify_shard
from dsqformat.dataset.verify_tables import KeyCheck, SampleTableCheck, spooled
from dsqformat.errors import DatasetError, DsqError

# (stage, done, total or None)
OnProgress = Callable[[str, int, int | None], None]

_MOST_DUPLICATES: Final = 10


def verify_dataset(
    source: ByteSource,
    *,
    refs: Sequence[str] | None = None,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> VerifyReport:
    """Check a dataset directory: refs, snapshots, shards, tables, other blobs.

    Args:
        source: the dataset directory.
        refs: names of the refs whose snapshots are checked; None: all.
        on_progress: called with ("verify", bytes read, bytes in all).

    Returns:
        All problems; the check goes on after each.

    Raises:
        DatasetError: there is no dataset here, or no such ref.
    """
    report = VerifyReport()
    known = read_refs(source)
    report.file_count += 1
    for ref in refs or ():
        if ref not in known:
            raise DatasetError(f"{source.location}: no ref {ref!r}; there are {sorted(known)}")
    snapshots = []
    for sid in sorted({known[ref] for ref in refs or known}):
        try:
            snapshots.append(load_snapshot(source, sid))
            report.file_count += 1
        except (DsqError, OSError) as error:
            report.add(f"snapshots/{sid}.json", "13.1", error)
    total = sum(s.nbytes + sum(blob.nbytes for blob in s.blobs) for s in snapshots)
    progress = _Progress(on_progress, total)
    for snapshot in snapshots:
        _SnapshotCheck(source, snapshot, report, progress).run()
    if isinstance(source, LocalSource) and refs is None and report.ok:
        _note_orphans(source, snapshots, report)
    return report


def verify_file(
    source: ByteSource,
    path: str,
    *,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> VerifyReport:
    """Check a single shard.

    Args:
        source: the folder it is in.
        path: its name.
        on_progress: called with ("verify", bytes read, bytes in all).

    Raises:
        FileNotFoundError: there is no such file.
    """
    report = VerifyReport()
    progress = _Progress(on_progress, source.size(path))
    for _ in verify_shard(source, path, report, on_bytes=progress.advance):
        pass
    return report


class _Progress:
    def __init__(self, on_progress: OnProgress, total: int) -> None:
        self._on_progress, self._total, self._done = on_progress, total, 0

    def advance(self, nbytes: int) -> None:
        """Report so many more bytes."""
        self._done += nbytes
        self._on_progress("verify", self._done, self._total)


class _SnapshotCheck:
    """Checks one snapshot and all it reaches."""

    def __init__(
        self, source: ByteSource, snapshot: Snapshot, report: VerifyReport, progress: _Progress
    ) -> None:
        self._source, self._snapshot, self._report = source, snapshot, report
        self._progress = progress
        self._keys = KeyCheck()

    def run(self) -> None:
        """Check everything."""
        snapshot, report = self._snapshot, self._report
        shards = self._shards()
        found = totals(shards, snapshot.schema.segment_count)
        stated = (
            snapshot.sample_count,
            snapshot.chunk_count,
            snapshot.nbytes,
            snapshot.segment_nbytes,
        )
        if shards and found != stated:
            report.add(snapshot.path, "13.1", f"totals are {stated}, its shards have {found}")
        for blob in snapshot.blobs:
            self._blob(blob)
        with ExitStack() as files:
            table = self._sample_table(files)
            for number, shard in enumerate(shards):
                self._shard(number, shard, table)
            if table is not None:
                table.finish(report)
        keys = snapshot.blob(ROLE_KEYS)
        self._keys.finish(self._source, keys.path if keys else None, snapshot.path, report)
        self._duplicate_keys(shards)

    def _shards(self) -> list[ShardEntry]:
        """Return the entries of all shards; those of damaged pages are missing."""
        snapshot = self._snapshot
        shards = list(snapshot.shards)
        for number, page in enumerate(snapshot.pages):
            try:
                shards += snapshot.read_page(self._source, number)
                self._report.file_count += 1
                if self._source.size(page.path) != page.nbytes:
                    self._report.add(page.path, "13.1", "longer than the snapshot says")
            except (DsqError, OSError) as error:
                self._report.add(page.path, "13.1", error)
                self._keys.lost()
        return shards

    def _shard(self, number: int, shard: ShardEntry, table: SampleTableCheck | None) -> None:
        seen = 0
        for chunk in verify_shard(
            self._source,
            shard.path,
            self._report,
            entry=shard,
            schema=self._snapshot.schema,
            on_bytes=self._progress.advance,
        ):
            seen += chunk.sample_count
            self._keys.see(chunk)
            if table is not None:
                table.see(number, chunk, self._report)
        if seen < shard.sample_count:
            self._keys.lost()
            if table is not None:
                table.skip(shard.sample_count - seen, self._report)

    def _blob(self, blob: BlobEntry) -> None:
        """Compare length and digest of an auxiliary file."""
        digest = hashlib.sha256()
        try:
            size = self._source.size(blob.path)
            for piece in self._source.stream(blob.path, 0, size):
                digest.update(piece)
                self._report.nbytes += len(piece)
                self._progress.advance(len(piece))
        except (DsqError, OSError) as error:
            self._report.add(blob.path, "13", f"cannot be read: {error}")
            return
        self._report.file_count += 1
        if size != blob.nbytes:
            self._report.add(blob.path, "13.1", f"{size} bytes, the snapshot says {blob.nbytes}")
        if digest.hexdigest() != blob.digest:
            self._report.add(blob.path, "13", "SHA-256 differs from its name")

    def _sample_table(self, files: ExitStack) -> SampleTableCheck | None:
        blob = self._snapshot.blob(ROLE_SAMPLES)
        if blob is None:
            return None
        try:
            import pyarrow as pa
            import pyarrow.parquet
        except ImportError:
            self._report.notes.append(
                f"{blob.path}: rows not compared, pyarrow is missing: pip install 'dsqformat[pack]'"
            )
            return None
        keyed = self._snapshot.blob(ROLE_KEYS) is not None
        try:
            size = self._source.size(blob.path)
            file = files.enter_context(spooled(self._source, blob.path, size))
            table = SampleTableCheck(file, blob.path, self._snapshot.schema, keyed)
        except (DsqError, OSError, pa.ArrowException) as error:
            self._report.add(blob.path, "13.2", f"not a readable Parquet file: {error}")
            return None
        return table if table.check_columns(self._report) else None

    def _duplicate_keys(self, shards: Sequence[ShardEntry]) -> None:
        """Look for keys that two shards share; within one they were found already."""
        dataset: Any = None
        ends = list(accumulate(shard.sample_count for shard in shards))
        for first, second in self._keys.duplicates()[:_MOST_DUPLICATES]:
            if bisect_right(ends, first) == bisect_right(ends, second):
                continue
            dataset = dataset or Dataset(self._source, self._snapshot)
            keys = [_key_at(dataset, position) for position in (first, second)]
            if keys[0] == keys[1]:
                self._report.add(
                    self._snapshot.path,
                    "12",
                    f"samples {first} and {second} have the same key {keys[0]!r:.80}",
                )


def _key_at(dataset: Dataset, position: int) -> str:
    for number, key in enumerate(dataset.keys()):
        if number == position:
            return key
    raise DatasetError(f"no key at position {position}")


def _note_orphans(source: LocalSource, snapshots: Sequence[Snapshot], report: VerifyReport) -> None:
    """Tell of files that no ref reaches; they are allowed."""
    reached = {wire.DATASET_FILE}
    for snapshot in snapshots:
        reached.add(snapshot.path)
        reached.update(page.path for page in snapshot.pages)
        reached.update(blob.path for blob in snapshot.blobs)
        reached.update(shard.path for shard in snapshot.read_shards(source))
    orphans = [
        f"{folder}/{path.name}"
        for folder in ("blobs", "snapshots")
        for path in sorted((source.root / folder).iterdir())
        if not path.name.startswith(".") and f"{folder}/{path.name}" not in reached
    ]
    if orphans:
        report.notes.append(
            f"no ref reaches {len(orphans)} files, such as {orphans[0]}; `dsq gc` removes them"
        )
