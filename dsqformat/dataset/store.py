"""The writing side of a dataset directory: atomic blobs, atomic refs, garbage collection (spec 13).

A file appears under its final name only when it is complete and on the disk. Writers hold a
shared lock for as long as they have blobs that no ref reaches yet; `gc` takes it exclusively.
The locks are advisory file locks, so they vanish with the process that held them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from dsqformat import wire
from dsqformat.bytesource import LocalSource
from dsqformat.dataset.refs import DIGEST, encode_refs, parse_refs, read_refs
from dsqformat.dataset.snapshot import BlobEntry, load_snapshot
from dsqformat.errors import DatasetError, PublishConflictError

try:
    import fcntl
except ImportError:  # not a POSIX system: writers must not run side by side there
    fcntl = None  # type: ignore[assignment]

STALE_TEMPORARY_S: Final = 3600.0


@dataclass(frozen=True)
class GcReport:
    """What a garbage collection removed, or would remove.

    Attributes:
        removed: relative paths.
        nbytes: their bytes.
        kept: files that a ref reaches.
    """

    removed: tuple[str, ...]
    nbytes: int
    kept: int


class LocalStore:
    """A dataset directory that is written to.

    Args:
        root: the directory; made when the first file is written.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.blobs = self.root / "blobs"
        self.snapshots = self.root / "snapshots"

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            DatasetError: something else than a dataset is in the way.
        """
        if self.root.exists() and not self.root.is_dir():
            raise DatasetError(f"{self.root}: is a file, expected a folder for the dataset")
        foreign = [
            path.name
            for path in (self.root.iterdir() if self.root.is_dir() else ())
            if path.name not in (wire.DATASET_FILE, "blobs", "snapshots")
            and not path.name.startswith(".")
        ]
        if foreign and not (self.root / wire.DATASET_FILE).exists():
            raise DatasetError(
                f"{self.root}: holds {foreign[0]!r} and no dataset; choose a new or empty folder"
            )
        self.blobs.mkdir(parents=True, exist_ok=True)
        self.snapshots.mkdir(exist_ok=True)

    def refs(self) -> dict[str, str]:
        """Return the refs; empty when there is no dataset yet."""
        try:
            return parse_refs((self.root / wire.DATASET_FILE).read_bytes())
        except FileNotFoundError:
            return {}

    # Blobs -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def new_blob(self) -> Iterator[NewBlob]:
        """Yield a file to write a blob to; nothing remains of it unless it is committed."""
        descriptor, name = tempfile.mkstemp(dir=self.blobs, prefix=".new-")
        blob = NewBlob(Path(name), cast(BinaryIO, os.fdopen(descriptor, "wb")))
        try:
            yield blob
        finally:
            blob.discard()

    def put(self, data: bytes, suffix: str) -> tuple[str, int]:
        """Store a blob and return its digest and length."""
        with self.new_blob() as blob:
            blob.file.write(data)
            digest = wire.sha256_hex(data)
            blob.commit(digest, suffix)
        return digest, len(data)

    def put_entry(self, role: str, data: bytes, media_type: str, suffix: str) -> BlobEntry:
        """Store an auxiliary blob and return its entry for a snapshot."""
        digest, nbytes = self.put(data, suffix)
        return BlobEntry(role, digest, nbytes, media_type, suffix)

    def put_file(self, path: Path, role: str, media_type: str, suffix: str) -> BlobEntry:
        """Store a copy of a file of any size as an auxiliary blob."""
        digest, nbytes = hashlib.sha256(), 0
        with self.new_blob() as blob, path.open("rb") as source:
            while piece := source.read(1 << 20):
                digest.update(piece)
                nbytes += len(piece)
                blob.file.write(piece)
            blob.commit(digest.hexdigest(), suffix)
        return BlobEntry(role, digest.hexdigest(), nbytes, media_type, suffix)

    # Publishing --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold off garbage collection while blobs exist that no ref reaches yet."""
        with self._locked(".writers.lock", shared=True):
            yield

    def publish(self, snapshot: bytes, ref: str, expected: str | None) -> str:
        """Store a snapshot and make a ref point to it, atomically.

        Args:
            snapshot: the file; every blob it names is stored already.
            ref: name of the ref.
            expected: what the ref pointed to when this writer began; None: it did not exist.

        Returns:
            The id of the snapshot.

        Raises:
            PublishConflictError: the ref points elsewhere by now; nothing was changed.
        """
        sid = wire.sha256_hex(snapshot)
        _replace(self.snapshots / f"{sid}.json", snapshot)
        with self._locked(".publish.lock", shared=False):
            refs = self.refs()
            if refs.get(ref) != expected:
                raise PublishConflictError(
                    f"{self.root}: ref {ref!r} moved from {str(expected)[:12]} to "
                    f"{str(refs.get(ref))[:12]} while this writer was at work; run it again"
                )
            _replace(self.root / wire.DATASET_FILE, encode_refs(refs | {ref: sid}))
        return sid

    @contextlib.contextmanager
    def _locked(self, name: str, *, shared: bool, wait: bool = True) -> Iterator[None]:
        with (self.root / name).open("ab") as file:
            if fcntl is not None:
                kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
                fcntl.flock(file, kind | (0 if wait else fcntl.LOCK_NB))
            yield

    def discard(self, paths: Sequence[Path], *, remove_folder: bool) -> None:
        """Remove blobs of a writer that gave up, unless a ref reaches them or others write.

        Args:
            paths: the blobs.
            remove_folder: also remove the dataset directory if nothing is left in it.
        """
        with contextlib.suppress(OSError), self._locked(".writers.lock", shared=False, wait=False):
            reachable = set()
            if (self.root / wire.DATASET_FILE).exists():
                reachable = self._reachable(LocalSource(self.root))
            for path in paths:
                if f"{path.parent.name}/{path.name}" not in reachable:
                    path.unlink(missing_ok=True)
            if remove_folder and not (self.root / wire.DATASET_FILE).exists():
                self._remove_if_empty()

    def _remove_if_empty(self) -> None:
        if any(self.blobs.iterdir()) or any(self.snapshots.iterdir()):
            return
        for name in (".writers.lock", ".publish.lock"):
            (self.root / name).unlink(missing_ok=True)
        for folder in (self.blobs, self.snapshots, self.root):
            folder.rmdir()

    # Garbage -----------------------------------------------------------------------------------

    def gc(self, *, dry_run: bool = False) -> GcReport:
        """Remove snapshots and blobs that no ref reaches, and temporary files an hour old.

        Args:
            dry_run: only report.

        Raises:
            DatasetError: there is no dataset, or a writer is at work.
        """
        source = LocalSource(self.root)
        read_refs(source)
        try:
            with self._locked(".writers.lock", shared=False, wait=False):
                reachable = self._reachable(source)
                return self._sweep(reachable, dry_run)
        except BlockingIOError as error:
            raise DatasetError(
                f"{self.root}: a writer is at work; run gc when it is done"
            ) from error

    def _reachable(self, source: LocalSource) -> set[str]:
        reachable = set()
        for sid in set(read_refs(source).values()):
            snapshot = load_snapshot(source, sid)
            reachable.add(snapshot.path)
            reachable.update(page.path for page in snapshot.pages)
            reachable.update(blob.path for blob in snapshot.blobs)
            reachable.update(shard.path for shard in snapshot.read_shards(source))
        return reachable

    def _sweep(self, reachable: set[str], dry_run: bool) -> GcReport:
        removed, nbytes, kept = [], 0, 0
        for folder in (self.snapshots, self.blobs):
            for path in sorted(folder.iterdir()):
                name = f"{folder.name}/{path.name}"
                if name in reachable:
                    kept += 1
                elif _is_garbage(path):
                    removed.append(name)
                    nbytes += path.stat().st_size
                    if not dry_run:
                        _remove(path)
        return GcReport(tuple(removed), nbytes, kept)


class NewBlob:
    """A blob under way: a temporary file that gets its name when it is complete."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.file = file
        self._path: Path | None = path

    def commit(self, digest: str, suffix: str) -> Path:
        """Flush the file to the disk and give it its final name.

        Args:
            digest: SHA-256 of what was written, hex.
            suffix: of the name, without a dot.
        """
        if self._path is None:
            raise ValueError("this blob has been committed or discarded")
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        target = self._path.with_name(f"{digest}.{suffix}")
        self._path.chmod(0o644)
        self._path.replace(target)
        _sync_folder(target.parent)
        self._path = None
        return target

    def discard(self) -> None:
        """Remove the file if it was not committed."""
        if self._path is not None:
            # Closing flushes, which fails again where the disk is full.
            with contextlib.suppress(OSError):
                self.file.close()
            self._path.unlink(missing_ok=True)
            self._path = None


def _remove(path: Path) -> None:
    """Remove a file, or the scratch folder that a killed writer left."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _is_garbage(path: Path) -> bool:
    if path.name.startswith("."):
        return time.time() - path.stat().st_mtime > STALE_TEMPORARY_S
    return bool(DIGEST.fullmatch(path.name.split(".")[0]))


def _replace(target: Path, data: bytes) -> None:
    """Write a small file so that it is either the old one or the new one, whatever happens."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
