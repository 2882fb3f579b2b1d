"""Small dataset directories made by hand, and plain HTTP requests, for tests of servers.

The shards here are random bytes under their right names: a server never looks into them.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from dsqformat.dataset.refs import encode_refs
from dsqformat.dataset.snapshot import (
    BlobEntry,
    ShardEntry,
    ShardPage,
    encode_page,
    encode_snapshot,
)
from dsqformat.schema import Column, Field, Schema
from dsqformat.wire import SHARDS_PER_PAGE

TIMEOUT_S = 20
SCHEMA = Schema(
    fields=(Field("image", "uint8", (8, 8, 3), "affine", (4, 2)),),
    columns=(
        Column("label", "int64", ("cat", "dog", "1,5", "dog")),
        Column("bin_id", "int64"),
        Column("weight", "float64"),
        Column("note", "utf8"),
        Column("raw", "bytes"),
    ),
)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def random_bytes(nbytes: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(nbytes)


def put_blob(directory: Path, data: bytes, suffix: str = "dsq") -> str:
    """Write a blob and return its relative path."""
    path = directory / "blobs" / f"{digest_of(data)}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return f"blobs/{path.name}"


def shard_entry(data: bytes, sample_count: int, schema: Schema = SCHEMA) -> ShardEntry:
    return ShardEntry(
        digest=digest_of(data),
        nbytes=len(data),
        head_nbytes=min(len(data), 100),
        head_digest=digest_of(data[:100]),
        sample_count=sample_count,
        chunk_count=1,
        chunk_samples=((sample_count, 1),),
        segment_nbytes=tuple(range(schema.segment_count)),
    )


def publish(
    directory: Path,
    shards: Sequence[ShardEntry],
    *,
    table: pa.Table | None = None,
    schema: Schema = SCHEMA,
    ref: str = "main",
    row_group_size: int = 16384,
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """Write dataset.json, a snapshot and what it lists but shards; return its id."""
    directory.mkdir(parents=True, exist_ok=True)
    blobs = []
    if table is not None:
        sink = io.BytesIO()
        pq.write_table(table, sink, row_group_size=row_group_size)
        put_blob(directory, sink.getvalue(), "parquet")
        data = sink.getvalue()
        blobs = [BlobEntry("samples", digest_of(data), len(data), "application/x", "parquet")]
    pages = []
    for first in range(0, len(shards) if len(shards) > SHARDS_PER_PAGE else 0, SHARDS_PER_PAGE):
        part = shards[first : first + SHARDS_PER_PAGE]
        page = encode_page(part)
        put_blob(directory, page, "page")
        samples = sum(entry.sample_count for entry in part)
        pages.append(ShardPage(digest_of(page), len(page), samples, len(part)))
    snapshot = encode_snapshot(schema, shards, pages=pages, blobs=blobs, provenance=provenance)
    sid = digest_of(snapshot)
    (directory / "snapshots").mkdir(exist_ok=True)
    (directory / "snapshots" / f"{sid}.json").write_bytes(snapshot)
    file = directory / "dataset.json"
    refs = json.loads(file.read_bytes())["refs"] if file.exists() else {}
    file.write_bytes(encode_refs({**refs, ref: sid}))
    return sid


@dataclass(frozen=True)
class Answer:
    """An answer as it came over the socket; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    repeated: list[str] = field(default_factory=list)

    def json(self) -> Any:
        return json.loads(self.body)


def request(
    url: str,
    path: str,
    *,
    method: str = "GET",
    headers: Sequence[tuple[str, str]] = (),
    body: bytes | None = None,
) -> Answer:
    """Send one request, its path untouched, on a connection of its own."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value.encode("latin-1"))
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        pairs = [(name.lower(), value) for name, value in response.getheaders()]
        names = [name for name, _ in pairs]
        repeated = sorted({name for name in names if names.count(name) > 1})
        return Answer(response.status, dict(pairs), response.read(), repeated)
    finally:
        connection.close()
