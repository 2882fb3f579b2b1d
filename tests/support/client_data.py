"""Datasets and servers for tests of the client."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from dsqclient import HttpOptions, HttpSource
from dsqformat import DatasetWriter, open_dataset
from dsqformat.dataset import LocalStore, ShardEntry
from dsqformat.dataset.snapshot import encode_snapshot
from dsqformat.shard.head import build_head
from dsqformat.wire import KIND_KEYS, crc32c, sha256_hex

TIMEOUT_S = 30
SAMPLE_COUNT = 600
CLASS_COUNT = 6
# Failing fast: tests wait for errors, users for links to come back.
FAST = HttpOptions(connect_timeout_s=5, read_timeout_s=5, deadline_s=20, attempts=4, backoff_s=0.01)


@dataclass(frozen=True)
class Written:
    """A dataset and what was written into it.

    Attributes:
        path: of the dataset directory.
        images: uint8, shape (n, 16, 16, 3), by the number in column `index`.
        labels: int64, shape (n,), likewise.
    """

    path: Path
    images: np.ndarray
    labels: np.ndarray

    @property
    def shards(self) -> list[Path]:
        return sorted((self.path / "blobs").glob("*.dsq"))


def write_dataset(path: Path, count: int = SAMPLE_COUNT, *, seed: int = 0, **options) -> Written:
    """Write noisy pictures of sorted classes: several shards of several chunks."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 16, 16, 3)).astype("u1")
    labels = np.arange(count) * CLASS_COUNT // max(count, 1)
    options = {"chunk_nbytes": 16 << 10, "shard_nbytes": 128 << 10, "block_nbytes": 4096} | options
    with DatasetWriter(path, **options) as writer:
        for number in range(count):
            sample = {
                "image": images[number],
                "label": int(labels[number]),
                "index": number,
                "name": f"picture {number}",
            }
            writer.write(sample, key=f"key-{number}")
    return Written(path, images, labels)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Wait until something listens there."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)
        else:
            return


@contextmanager
def plain_server(folder: Path, log: Path) -> Iterator[str]:
    """`python -m http.server`, which ignores Range."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*command, "--directory", str(folder)], stdout=subprocess.PIPE, stderr=stderr
        )
    try:
        ready, _, _ = select.select([process.stdout], [], [], TIMEOUT_S)
        line = os.read(process.stdout.fileno(), 200).decode() if ready else ""
        yield f"http://127.0.0.1:{line.split('port ')[1].split()[0]}"
    finally:
        process.kill()
        process.wait(TIMEOUT_S)
        process.stdout.close()


def read_in_child(source: HttpSource, path: str, results: Connection) -> None:
    """Read with a source that was made in another process."""
    results.send((source.read(path, 0, 50_000), source.counts.requests))


def forge(written: Written, path: Path) -> Path:
    """Copy a dataset with other bytes in a layer, mended block checks, and the old digests.

    Everything agrees but the digest of one segment: what somebody could do who writes the source
    and recomputes checksums, and what only the digest shows.
    """
    shutil.copytree(written.path, path)
    dataset = open_dataset(path)
    entry, shard = dataset.shard_entry(0), dataset.shard(0)
    data = bytearray((path / entry.path).read_bytes())
    table = shard.chunks
    start = entry.head_nbytes + table.segment_offset(1, 1)
    nbytes = int(table.segment_nbytes[1, 1])
    data[start + nbytes // 2] ^= 1
    crcs = table.block_crc.copy()
    blocks = -(-table.segment_nbytes // table.block_nbytes)
    first = int(blocks[0].sum() + blocks[1, 0])
    for block in range(int(blocks[1, 1])):
        low = start + block * table.block_nbytes
        crcs[first + block] = crc32c(
            bytes(data[low : min(low + table.block_nbytes, start + nbytes)])
        )
    section = shard.head.section(KIND_KEYS)
    keys = bytes(data[section.offset :])
    head = build_head(
        dataset.schema, replace(table, block_crc=crcs), [(KIND_KEYS, keys)], shard.head.models
    )
    data[: entry.head_nbytes] = head
    digest = sha256_hex(bytes(data))
    (path / "blobs" / f"{digest}.dsq").write_bytes(data)
    changed = {"digest": digest, "nbytes": len(data), "head_nbytes": len(head)}
    shards = [
        ShardEntry(**{**vars(entry), **changed, "head_digest": sha256_hex(head)}),
        *dataset.snapshot.shards[1:],
    ]
    snapshot = encode_snapshot(dataset.schema, shards, blobs=dataset.snapshot.blobs)
    LocalStore(path).publish(snapshot, "main", dataset.snapshot.id)
    return path
