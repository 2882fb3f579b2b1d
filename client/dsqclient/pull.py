"""Copies a snapshot into a local dataset directory: whole, or only its first layers.

A copy of fewer layers is a dataset of its own: its shards hold the same segments under a new
head, its snapshot says in `provenance` what it is a reduced copy of. A later pull of more layers
finds the segments that are here by their digests and fetches only the others.

What is under way has names that begin with a dot. A pull that was killed goes on at the byte.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from dsqclient.copy_plan import Block, ShardPlan, plan_reduced, plan_whole, reduced_schema
from dsqclient.copying import Gain, ShardCopy
from dsqclient.pull_local import Journal, LocalIndex, describe_shard
from dsqclient.transport import HttpSource
from dsqclient.verified import fetch_head, forget
from dsqformat import wire
from dsqformat.bytesource import ByteSource, LocalSource
from dsqformat.dataset import (
    LocalStore,
    ShardEntry,
    ShardPage,
    Snapshot,
    load_snapshot,
)
from dsqformat.dataset.snapshot import encode_page, encode_snapshot
from dsqformat.dataset.store import NewBlob
from dsqformat.errors import CorruptShardError, DatasetError
from dsqformat.shard import ShardHead, parse_head

try:
    import fcntl
except ImportError:  # not a POSIX system: pulls into one folder must not run side by side there
    fcntl = None  # type: ignore[assignment]

OnProgress = Callable[[str, int, int | None], None]

_PIECE_NBYTES: Final = 64 << 10
# How far back a parent is looked for, when a copy is brought up to date.
_MOST_ANCESTORS: Final = 1000


@dataclass
class PullReport:
    """What a pull did.

    Attributes:
        snapshot_id: published by it.
        source_snapshot_id: that it is a copy of.
        layers: layers of the field that has most.
        sample_count: samples.
        shard_count: shards.
        nbytes: bytes of shards and auxiliary files of the copy.
        received_nbytes: bytes of them that came from the source.
        reused_nbytes: bytes of them that were here.
        body_nbytes: bytes of response bodies, if the source is a URL.
        seconds: time it took.
    """

    snapshot_id: str = ""
    source_snapshot_id: str = ""
    layers: int = 0
    sample_count: int = 0
    shard_count: int = 0
    nbytes: int = 0
    received_nbytes: int = 0
    reused_nbytes: int = 0
    body_nbytes: int = 0
    seconds: float = 0.0


def pull_dataset(
    source: ByteSource,
    dest: str | os.PathLike[str],
    *,
    layers: int | None = None,
    ref: str = "main",
    replace: bool = False,
    on_progress: OnProgress | None = None,
) -> PullReport:
    """Copy a snapshot into a dataset directory, and publish it there when it is complete.

    Args:
        source: the dataset to copy.
        dest: the directory; made if need be.
        layers: layers of every field to copy; None, or as many as there are: everything.
        ref: which state of the source; also the ref it is published under.
        replace: publish even if the ref at `dest` holds something that this is no later state of.
        on_progress: called with (stage, bytes done, bytes in all).

    Raises:
        DatasetError: there is no such dataset, something else is in the way, or another pull is
            at work there.
        CorruptShardError: the source sends something else than its snapshot says.
        FetchError: the transport failed after its retries.
        OSError: the directory cannot be written.
    """
    if layers is not None and layers < 1:
        raise ValueError(f"layers={layers}: expected 1 or more, or None for all")
    snapshot = load_snapshot(source, ref)
    # A snapshot may be asked for by its id, which is no name to publish under.
    target_ref = "main" if ref == snapshot.id else ref
    if layers is not None and layers >= snapshot.schema.layer_count:
        layers = None
    store = LocalStore(dest)
    store.prepare()
    with _alone(store.root), store.writing():
        pull = _Pull(source, snapshot, store, target_ref, layers, on_progress)
        return pull.run(replace=replace)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep a second pull out of a folder."""
    with (root / ".pull.lock").open("ab") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DatasetError(f"{root}: another pull is at work here; wait for it") from error
        yield


class _Pull:
    """One pull under way."""

    def __init__(
        self,
        source: ByteSource,
        snapshot: Snapshot,
        store: LocalStore,
        ref: str,
        layers: int | None,
        on_progress: OnProgress | None,
    ) -> None:
        self._source, self._snapshot, self._store = source, snapshot, store
        self._ref, self._layers = ref, layers
        self._on_progress = on_progress or (lambda stage, done, total: None)
        self._local = LocalSource(store.root)
        self._schema = snapshot.schema
        if layers is not None:
            self._schema = reduced_schema(snapshot.schema, layers)
        self._entries = tuple(snapshot.read_shards(source))
        self._report = PullReport(
            source_snapshot_id=snapshot.id,
            layers=self._schema.layer_count,
            sample_count=snapshot.sample_count,
            shard_count=len(self._entries),
        )
        self._done = 0
        self._total = self._expected_nbytes()

    def run(self, *, replace: bool) -> PullReport:
        """Do it."""
        started_s = time.monotonic()
        expected = self._store.refs().get(self._ref)
        present = load_snapshot(self._local, expected) if expected is not None else None
        if present is not None and not replace:
            self._check_succession(present)
        self._check_space()
        here = LocalIndex(self._local, present)
        journal = Journal(self._store.blobs / self._part_name(self._snapshot.id, "json"))
        shards = [self._copy_shard(entry, here, journal) for entry in self._entries]
        for blob in self._snapshot.blobs:
            self._copy_file(blob.path, blob.nbytes, blob.digest, blob.suffix)
        data, pages = self._snapshot_file(shards)
        self._publish(data, expected)
        journal.remove()
        self._report.nbytes = sum(shard.nbytes for shard in shards)
        self._report.nbytes += sum(blob.nbytes for blob in self._snapshot.blobs)
        self._report.nbytes += sum(page.nbytes for page in pages)
        if isinstance(self._source, HttpSource):
            self._report.body_nbytes = self._source.counts.body_nbytes
        self._report.seconds = time.monotonic() - started_s
        return self._report

    # Beforehand ---------------------------------------------------------------------------------

    def _expected_nbytes(self) -> int:
        kept = [0, *(self._snapshot.schema.segment_of[pair] for pair in self._schema.order)]
        dropped = sum(self._snapshot.segment_nbytes) - sum(
            self._snapshot.segment_nbytes[number] for number in kept
        )
        return self._snapshot.nbytes - dropped + sum(b.nbytes for b in self._snapshot.blobs)

    def _check_succession(self, present: Snapshot) -> None:
        """Refuse to put a ref on something that is not what it held, or a later state of it."""
        held = {present.id, _reduced_from(present)} - {None}
        sid: str | None = self._snapshot.id
        for _ in range(_MOST_ANCESTORS):
            if sid in held:
                return
            if sid is None:
                break
            try:
                parent = (
                    self._snapshot if sid == self._snapshot.id else load_snapshot(self._source, sid)
                )
            except DatasetError:
                break  # cleaned up at the source
            sid = parent.parent
        raise DatasetError(
            f"{self._store.root}: ref {self._ref!r} holds another dataset (snapshot "
            f"{present.id[:12]}), not an earlier state of {self._source.location}; choose another "
            "folder, or replace it with --replace"
        )

    def _check_space(self) -> None:
        missing = self._total
        for entry in self._entries:
            if (self._store.root / entry.path).exists():
                missing -= entry.nbytes
        for part in self._store.blobs.glob(".pull-*"):
            missing -= part.stat().st_size
        free = shutil.disk_usage(self._store.root).free
        if missing > free:
            raise DatasetError(
                f"{self._store.root}: {free} bytes are free, the copy needs {missing}; make room, "
                "or copy fewer layers"
            )

    # Files --------------------------------------------------------------------------------------

    def _part_name(self, digest: str, suffix: str) -> str:
        kind = "all" if self._layers is None else f"l{self._layers}"
        return f".pull-{digest}-{kind}.{suffix}"

    def _gained(self, nbytes: int, gain: Gain) -> None:
        self._done += nbytes
        if gain == "received":
            self._report.received_nbytes += nbytes
        elif gain == "here":
            self._report.reused_nbytes += nbytes
        self._on_progress("pull", self._done, max(self._total, self._done))

    def _copy_shard(self, entry: ShardEntry, here: LocalIndex, journal: Journal) -> ShardEntry:
        known = entry if self._layers is None else journal.find(entry.digest)
        if known is not None and _has(self._store.root / known.path, known.nbytes):
            self._gained(known.nbytes, "here")
            return known
        head_bytes = fetch_head(self._source, entry)
        head = parse_head(head_bytes, nbytes=entry.nbytes)
        self._report.received_nbytes += len(head_bytes)
        local = here.segments(head)
        if self._layers is None:
            plan = plan_whole(entry.path, entry.digest, head_bytes, head, local)
        else:
            keys = self._fetch_keys(entry.path, head)
            plan = plan_reduced(entry.path, head, self._schema, keys, local)
        part = self._store.blobs / self._part_name(entry.digest, "part")
        digest = ShardCopy(self._source, plan, part, self._gained).run()
        _commit(part, digest, "dsq")
        copied = describe_shard(plan, digest) if self._layers is not None else entry
        if self._layers is not None:
            journal.add(entry.digest, copied)
        return copied

    def _fetch_keys(self, path: str, head: ShardHead) -> bytes | None:
        section = head.section(wire.KIND_KEYS)
        if section is None:
            return None
        for attempt in range(2):
            stored = self._source.read(path, section.offset, section.offset + section.nbytes)
            self._report.received_nbytes += len(stored)
            try:
                return section.content(stored)
            except CorruptShardError as error:
                if attempt:
                    raise error.located(f"shard {path}", shard=path) from error
                forget(self._source, path)
        return None

    def _copy_file(self, path: str, nbytes: int, digest: str, suffix: str) -> None:
        """Copy an auxiliary file; damage is found when it is complete, and fetched again once."""
        if _has(self._store.root / path, nbytes):
            self._gained(nbytes, "here")
            return
        part = self._store.blobs / f".pull-{digest}.part"
        blocks = [
            Block(start, start, min(_PIECE_NBYTES, nbytes - start), None)
            for start in range(0, nbytes, _PIECE_NBYTES)
        ]
        plan = ShardPlan(path, b"", blocks, b"", (), digest)
        try:
            ShardCopy(self._source, plan, part, self._gained).run()
        except CorruptShardError:
            forget(self._source, path)
            ShardCopy(self._source, plan, part, self._gained).run()
        _commit(part, digest, suffix)

    # Publishing ---------------------------------------------------------------------------------

    def _snapshot_file(self, shards: Sequence[ShardEntry]) -> tuple[bytes, Sequence[ShardPage]]:
        """Return the snapshot to publish; its pages are in place then."""
        snapshot = self._snapshot
        if self._layers is None:
            for page in snapshot.pages:
                self._copy_file(page.path, page.nbytes, page.digest, "page")
            return self._source.read(snapshot.path), snapshot.pages
        pages = []
        for start in range(0, len(shards) if snapshot.pages else 0, wire.SHARDS_PER_PAGE):
            part = shards[start : start + wire.SHARDS_PER_PAGE]
            digest, nbytes = self._store.put(encode_page(part), "page")
            samples = sum(shard.sample_count for shard in part)
            pages.append(ShardPage(digest, nbytes, samples, len(part)))
        reduced = {"layers": self._layers, "snapshot": snapshot.id}
        data = encode_snapshot(
            self._schema,
            shards,
            pages=pages,
            blobs=snapshot.blobs,
            provenance={**snapshot.provenance, "reduced": reduced},
        )
        return data, pages

    def _publish(self, data: bytes, expected: str | None) -> None:
        sid = wire.sha256_hex(data)
        if sid != expected:
            self._store.publish(data, self._ref, expected)
        self._report.snapshot_id = sid


def _reduced_from(snapshot: Snapshot) -> str | None:
    reduced = snapshot.provenance.get("reduced")
    return reduced.get("snapshot") if isinstance(reduced, dict) else None


def _has(path: Path, nbytes: int) -> bool:
    """Whether a blob is here: a file gets such a name only when it is complete."""
    try:
        return path.stat().st_size == nbytes
    except OSError:
        return False


def _commit(part: Path, digest: str, suffix: str) -> None:
    NewBlob(part, cast(BinaryIO, part.open("r+b"))).commit(digest, suffix)
