"""Datasets and servers for tests of the client."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from dsqclient import HttpOptions, HttpSource
from dsqformat import DatasetWriter

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
