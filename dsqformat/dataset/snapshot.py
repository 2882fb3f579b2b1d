"""Refs and snapshots: one small mutable file, and immutable lists of shards (spec 13)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import zstandard

from dsqformat import wire
from dsqformat.bytesource import ByteSource
from dsqformat.canonical import canonical_json, is_version, parse_canonical_json
from dsqformat.coding.zstd import compress_frame, decompress_frame
from dsqformat.dataset.refs import DIGEST, read_refs
from dsqformat.errors import CorruptShardError, DatasetError, UnsupportedFeatureError
from dsqformat.schema import Schema
from dsqformat.schema_json import schema_from_json, schema_to_json
from dsqformat.shard.writer import WrittenShard

ZSTD_HEADER_NBYTES: Final = 18
SUFFIX: Final = re.compile(r"[a-z0-9]{1,16}")
ROLE_SAMPLES: Final = "samples"
ROLE_KEYS: Final = "keys"
_SHARD_MEMBERS: Final = frozenset(WrittenShard.__dataclass_fields__)


class ShardEntry(WrittenShard):
    """A shard as a snapshot lists it."""

    @property
    def path(self) -> str:
        """Relative path of the file."""
        return f"blobs/{self.digest}.dsq"


@dataclass(frozen=True)
class BlobEntry:
    """An auxiliary file of a snapshot.

    Attributes:
        role: what it is for, unique in the snapshot.
        digest: SHA-256, hex.
        nbytes: length.
        media_type: of the content.
        suffix: of the file name, without a dot.
    """

    role: str
    digest: str
    nbytes: int
    media_type: str
    suffix: str

    @property
    def path(self) -> str:
        """Relative path of the file."""
        return f"blobs/{self.digest}.{self.suffix}"


@dataclass(frozen=True)
class ShardPage:
    """1,024 shard entries (the last page: fewer) in a file of their own."""

    digest: str
    nbytes: int
    sample_count: int
    shard_count: int

    @property
    def path(self) -> str:
        """Relative path of the file."""
        return f"blobs/{self.digest}.page"


@dataclass(frozen=True)
class Snapshot:
    """One immutable state of a dataset.

    Attributes:
        id: SHA-256 of the file, hex.
        schema: of every sample.
        sample_count: over all shards.
        chunk_count: likewise.
        nbytes: likewise.
        segment_nbytes: bytes of each segment number over all shards, index segment first.
        shards: entries, when they are in the snapshot itself.
        pages: pages of entries, when there are more than 1,024.
        blobs: auxiliary files by role.
        provenance: how it was made.
        parent: id of the snapshot it was made from, or None.
    """

    id: str
    schema: Schema
    sample_count: int
    chunk_count: int
    nbytes: int
    segment_nbytes: tuple[int, ...]
    shards: tuple[ShardEntry, ...] = ()
    pages: tuple[ShardPage, ...] = ()
    blobs: tuple[BlobEntry, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    parent: str | None = None

    @property
    def path(self) -> str:
        """Relative path of the file."""
        return f"snapshots/{self.id}.json"

    @property
    def shard_count(self) -> int:
        """Number of shards."""
        return len(self.shards) or sum(page.shard_count for page in self.pages)

    def blob(self, role: str) -> BlobEntry | None:
        """Return the auxiliary file of this role, or None."""
        return next((blob for blob in self.blobs if blob.role == role), None)

    def read_shards(self, source: ByteSource) -> Iterator[ShardEntry]:
        """Yield the entries of all shards in order, reading one page at a time."""
        yield from self.shards
        for number in range(len(self.pages)):
            yield from self.read_page(source, number)

    def read_page(self, source: ByteSource, number: int) -> tuple[ShardEntry, ...]:
        """Read, verify and parse one page.

        Raises:
            CorruptShardError: the page contradicts its digest, its counts or the spec.
        """
        page = self.pages[number]
        what = f"page {page.path}"
        data = source.read(page.path, 0, page.nbytes)
        if wire.sha256_hex(data) != page.digest:
            raise CorruptShardError(f"{what}: SHA-256 differs from its name")
        entries = parse_page(data, self.schema, what)
        if (len(entries), sum(e.sample_count for e in entries)) != (
            page.shard_count,
            page.sample_count,
        ):
            raise CorruptShardError(f"{what}: counts differ from the snapshot")
        return entries


def load_snapshot(source: ByteSource, ref: str = "main") -> Snapshot:
    """Read the snapshot a ref points to.

    Args:
        source: the dataset directory.
        ref: name of a ref, or the 64 hex digits of a snapshot.

    Raises:
        DatasetError: no such dataset, ref or snapshot.
        CorruptShardError: the snapshot is not what its name says.
    """
    sid = ref
    if not DIGEST.fullmatch(ref):
        refs = read_refs(source)
        if ref not in refs:
            raise DatasetError(f"{source.location}: no ref {ref!r}; there are {sorted(refs)}")
        sid = refs[ref]
    path = f"snapshots/{sid}.json"
    try:
        data = source.read(path)
    except FileNotFoundError as error:
        raise DatasetError(f"{source.location}: snapshot {path} is missing") from error
    return parse_snapshot(data, sid)


# Snapshots -------------------------------------------------------------------------------------


def parse_snapshot(data: bytes, sid: str) -> Snapshot:
    """Verify and parse a snapshot.

    Args:
        data: the file.
        sid: its id, 64 hex digits.

    Raises:
        CorruptShardError: not the bytes of this id, or not as spec 13.1 says.
        UnsupportedFeatureError: of a newer version.
    """
    what = f"snapshot {sid[:12]}"
    if wire.sha256_hex(data) != sid:
        raise CorruptShardError(f"{what}: SHA-256 differs from its name")
    value = parse_canonical_json(data, limit=wire.MAX_SNAPSHOT_NBYTES, what=what)
    if not isinstance(value, dict) or value.get("format") != "dsq-snapshot":
        raise CorruptShardError(f"{what}: format is not dsq-snapshot")
    if not is_version(value.get("version"), 1):
        raise UnsupportedFeatureError(f"{what}: version {value.get('version')!r:.20}, expected 1")
    paged = "shard_pages" in value
    members = {"blobs", "chunk_count", "format", "nbytes", "parent", "provenance", "sample_count"}
    members |= {"schema", "segment_nbytes", "version", "shard_pages" if paged else "shards"}
    if set(value) != members:
        raise CorruptShardError(f"{what}: members {sorted(set(value) ^ members)} differ")
    schema = schema_from_json(value["schema"])
    snapshot = Snapshot(
        id=sid,
        schema=schema,
        sample_count=_count(value["sample_count"], what),
        chunk_count=_count(value["chunk_count"], what),
        nbytes=_count(value["nbytes"], what),
        segment_nbytes=_counts(value["segment_nbytes"], schema.segment_count, what),
        shards=() if paged else _parse_shards(value["shards"], schema, what),
        pages=_parse_list(value["shard_pages"], _parse_page_entry, what) if paged else (),
        blobs=_parse_list(value["blobs"], _parse_blob, what),
        provenance=_object(value["provenance"], what),
        parent=None if value["parent"] is None else _digest(value["parent"], what),
    )
    _check_snapshot(snapshot, what)
    return snapshot


def _check_snapshot(snapshot: Snapshot, what: str) -> None:
    roles = [blob.role for blob in snapshot.blobs]
    if len(set(roles)) != len(roles):
        raise CorruptShardError(f"{what}: a role appears twice")
    if snapshot.pages:
        if sum(page.sample_count for page in snapshot.pages) != snapshot.sample_count:
            raise CorruptShardError(f"{what}: samples of the pages do not add up")
        full = [page.shard_count == wire.SHARDS_PER_PAGE for page in snapshot.pages[:-1]]
        if not all(full) or not 1 <= snapshot.pages[-1].shard_count <= wire.SHARDS_PER_PAGE:
            raise CorruptShardError(f"{what}: a page but the last has not 1,024 shards")
        return
    if len(snapshot.shards) > wire.SHARDS_PER_PAGE:
        raise CorruptShardError(f"{what}: {len(snapshot.shards)} shards without pages")
    if totals(snapshot.shards, snapshot.schema.segment_count) != (
        snapshot.sample_count,
        snapshot.chunk_count,
        snapshot.nbytes,
        snapshot.segment_nbytes,
    ):
        raise CorruptShardError(f"{what}: totals differ from the shards")


def totals(
    shards: Sequence[WrittenShard], segment_count: int
) -> tuple[int, int, int, tuple[int, ...]]:
    """Return samples, chunks, bytes, and bytes per segment number of some shards."""
    segments = [sum(s.segment_nbytes[i] for s in shards) for i in range(segment_count)]
    return (
        sum(s.sample_count for s in shards),
        sum(s.chunk_count for s in shards),
        sum(s.nbytes for s in shards),
        tuple(segments),
    )


def encode_snapshot(
    schema: Schema,
    shards: Sequence[WrittenShard],
    *,
    pages: Sequence[ShardPage] = (),
    blobs: Sequence[BlobEntry] = (),
    provenance: Mapping[str, Any] | None = None,
    parent: str | None = None,
) -> bytes:
    """Return a snapshot file.

    Args:
        schema: of every shard.
        shards: all entries, in order.
        pages: the written pages if there are more than 1,024 shards, else empty.
        blobs: auxiliary files.
        provenance: free, but canonical JSON.
        parent: id of the snapshot this was made from.
    """
    samples, chunks, nbytes, segments = totals(shards, schema.segment_count)
    listing: dict[str, Any] = {"shards": [_shard_json(shard) for shard in shards]}
    if pages:
        listing = {"shard_pages": [dict(vars(page)) for page in pages]}
    return canonical_json(
        {
            "blobs": [dict(vars(blob)) for blob in sorted(blobs, key=lambda blob: blob.role)],
            "chunk_count": chunks,
            "format": "dsq-snapshot",
            "nbytes": nbytes,
            "parent": parent,
            "provenance": dict(provenance or {}),
            "sample_count": samples,
            "schema": schema_to_json(schema),
            "segment_nbytes": list(segments),
            "version": 1,
            **listing,
        }
    )


def encode_page(shards: Sequence[WrittenShard]) -> bytes:
    """Return a page file of up to 1,024 shard entries."""
    entries = [_shard_json(shard) for shard in shards]
    value = {"format": "dsq-shard-page", "shards": entries, "version": 1}
    return compress_frame(canonical_json(value), 9)


def parse_page(data: bytes, schema: Schema, what: str) -> tuple[ShardEntry, ...]:
    """Parse a verified page file, or raise CorruptShardError."""
    content_nbytes = _frame_content_nbytes(data, what)
    text = decompress_frame(data, content_nbytes, what)
    value = parse_canonical_json(text, limit=wire.MAX_PAGE_NBYTES, what=what)
    if not isinstance(value, dict) or set(value) != {"format", "shards", "version"}:
        raise CorruptShardError(f"{what}: expected members format, shards, version")
    if value["format"] != "dsq-shard-page" or not is_version(value["version"], 1):
        raise CorruptShardError(f"{what}: format is not dsq-shard-page version 1")
    return _parse_shards(value["shards"], schema, what)


def _frame_content_nbytes(data: bytes, what: str) -> int:
    try:
        nbytes: int = zstandard.frame_content_size(data[:ZSTD_HEADER_NBYTES])
    except zstandard.ZstdError as error:
        raise CorruptShardError(f"{what}: not a zstd frame: {error}") from error
    if not 0 <= nbytes <= wire.MAX_PAGE_NBYTES:
        raise CorruptShardError(f"{what}: {nbytes} bytes, expected at most {wire.MAX_PAGE_NBYTES}")
    return nbytes


def _shard_json(shard: WrittenShard) -> dict[str, Any]:
    return {name: getattr(shard, name) for name in sorted(_SHARD_MEMBERS)} | {
        "chunk_samples": [list(run) for run in shard.chunk_samples],
        "segment_nbytes": list(shard.segment_nbytes),
    }


def _parse_shards(value: Any, schema: Schema, what: str) -> tuple[ShardEntry, ...]:
    return _parse_list(value, lambda item, where: _parse_shard(item, schema, where), what)


def _parse_shard(value: Any, schema: Schema, what: str) -> ShardEntry:
    if not isinstance(value, dict) or set(value) != _SHARD_MEMBERS:
        raise CorruptShardError(f"{what}: a shard entry has not the members of spec 13.1")
    entry = ShardEntry(
        digest=_digest(value["digest"], what),
        nbytes=_count(value["nbytes"], what),
        head_nbytes=_count(value["head_nbytes"], what),
        head_digest=_digest(value["head_digest"], what),
        sample_count=_count(value["sample_count"], what),
        chunk_count=_count(value["chunk_count"], what),
        chunk_samples=_parse_list(value["chunk_samples"], _parse_run, what),
        segment_nbytes=_counts(value["segment_nbytes"], schema.segment_count, what),
    )
    runs = entry.chunk_samples
    if runs and (sum(n for _, n in runs), sum(s * n for s, n in runs)) != (
        entry.chunk_count,
        entry.sample_count,
    ):
        raise CorruptShardError(f"{what}: shard {entry.digest[:12]}: chunk_samples do not add up")
    if not entry.head_nbytes <= entry.nbytes or entry.head_nbytes > wire.MAX_HEAD_NBYTES:
        raise CorruptShardError(f"{what}: shard {entry.digest[:12]}: head longer than the shard")
    return entry


def _parse_run(value: Any, what: str) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise CorruptShardError(f"{what}: chunk_samples: expected pairs, got {value!r:.40}")
    return _count(value[0], what), _count(value[1], what)


def _parse_page_entry(value: Any, what: str) -> ShardPage:
    if not isinstance(value, dict) or set(value) != set(ShardPage.__dataclass_fields__):
        raise CorruptShardError(f"{what}: a page entry has not the members of spec 13.1")
    counts = {name: _count(value[name], what) for name in value if name != "digest"}
    return ShardPage(digest=_digest(value["digest"], what), **counts)


def _parse_blob(value: Any, what: str) -> BlobEntry:
    if not isinstance(value, dict) or set(value) != set(BlobEntry.__dataclass_fields__):
        raise CorruptShardError(f"{what}: a blob entry has not the members of spec 13.1")
    texts = [value["role"], value["media_type"], value["suffix"]]
    if not all(isinstance(text, str) for text in texts) or not SUFFIX.fullmatch(value["suffix"]):
        raise CorruptShardError(f"{what}: role, media type or suffix of a blob is not sound")
    return BlobEntry(
        role=value["role"],
        digest=_digest(value["digest"], what),
        nbytes=_count(value["nbytes"], what),
        media_type=value["media_type"],
        suffix=value["suffix"],
    )


_T = TypeVar("_T")


def _parse_list(value: Any, parse: Callable[[Any, str], _T], what: str) -> tuple[_T, ...]:
    if not isinstance(value, list):
        raise CorruptShardError(f"{what}: expected an array, got {type(value).__name__}")
    return tuple(parse(item, what) for item in value)


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CorruptShardError(f"{what}: provenance is not an object")
    return value


def _count(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise CorruptShardError(f"{what}: {value!r:.40} is not a count")
    return value


def _counts(value: Any, length: int, what: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != length:
        raise CorruptShardError(f"{what}: segment_nbytes has not {length} counts")
    return tuple(_count(item, what) for item in value)


def _digest(value: Any, what: str) -> str:
    if not isinstance(value, str) or not DIGEST.fullmatch(value):
        raise CorruptShardError(f"{what}: {value!r:.80} is not a SHA-256 in hex")
    return value
