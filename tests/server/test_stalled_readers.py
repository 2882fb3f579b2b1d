"""Clients that ask for much and read nothing cost the server next to nothing."""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pytest

from live import sample_rows, sample_table
from serve_process import TIMEOUT_S, ServeProcess, serving
from served import publish, request

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MB = 1_000_000
BLOB = "a" * 64
# The bar is 50 MB for 50 readers; 200 to 250 kB each are usual.
CEILING_NBYTES = 1 * MB


def make_dataset(directory: Path) -> str:
    """Make a dataset with a blob of 300 MB that takes no room; return its path."""
    publish(directory, [], table=sample_table(sample_rows()))
    (directory / "blobs" / f"{BLOB}.dsq").touch()
    os.truncate(directory / "blobs" / f"{BLOB}.dsq", 300 * MB)
    return f"/datasets/{directory.name}/blobs/{BLOB}.dsq"


def stall(stack: ExitStack, url: str, path: str, range_set: str) -> socket.socket:
    """Ask for a range, read the first byte of the answer, and nothing more."""
    parts = urlsplit(url)
    connection = socket.socket()
    stack.enter_context(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    connection.settimeout(TIMEOUT_S)
    connection.connect((parts.hostname or "", parts.port or 0))
    text = f"GET {path} HTTP/1.1\r\nHost: x\r\nRange: bytes={range_set}\r\n\r\n"
    connection.sendall(text.encode())
    assert connection.recv(12) == b"HTTP/1.1 206"
    return connection


def settled_rss(server: ServeProcess) -> int:
    """Memory of the server when it has done all it can do for clients that do not read."""
    path = "/healthz"
    for _ in range(5):
        assert request(server.url, path).status == 200
        time.sleep(0.1)
    return server.rss_nbytes()


@pytest.mark.parametrize(
    ("count", "range_set"),
    [
        pytest.param(50, "0-199999999", id="50-single"),
        pytest.param(50, "0-199999999,1-100000000,5-200000000", id="50-multi"),
        pytest.param(240, "0-199999999", id="240-single", marks=pytest.mark.soak),
    ],
)
def test_stalled_readers_take_little_memory(tmp_path: Path, count: int, range_set: str) -> None:
    path = make_dataset(tmp_path / "root" / "d")
    with serving(tmp_path / "root", tmp_path / "log") as server, ExitStack() as stack:
        headers = [("Range", "bytes=0-999999")]
        assert request(server.url, path, headers=headers).status == 206
        before = settled_rss(server)
        for _ in range(count):
            stall(stack, server.url, path, range_set)
        grown = settled_rss(server) - before
        assert grown < count * CEILING_NBYTES, f"{count} stalled readers took {grown / MB:.1f} MB"
        # Those who do read are served all the same.
        answer = request(server.url, path, headers=headers)
        assert len(answer.body) == MB


def test_stalled_listings_take_little_memory(tmp_path: Path) -> None:
    notes = [str(number) + "x" * 10_000 for number in range(90)]
    publish(tmp_path / "root" / "d", [], table=pa.table({"note": notes}))
    with serving(tmp_path / "root", tmp_path / "log") as server, ExitStack() as stack:
        path = "/v1/datasets/d/samples"
        assert len(request(server.url, path).body) > 900_000
        before, count = settled_rss(server), 20
        parts = urlsplit(server.url)
        for _ in range(count):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            connection.settimeout(TIMEOUT_S)
            connection.connect((parts.hostname or "", parts.port or 0))
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert connection.recv(12) == b"HTTP/1.1 200"
        # A listing is held whole, once, and is at most about 1 MB.
        assert settled_rss(server) - before < 2 * count * CEILING_NBYTES


def test_a_reader_that_stays_stalled_is_cut_off(tmp_path: Path) -> None:
    path = make_dataset(tmp_path / "root" / "d")
    options = ("--stall-timeout", "1", "--limit-concurrency", "1")
    with serving(tmp_path / "root", tmp_path / "log", *options) as server, ExitStack() as stack:
        stall(stack, server.url, path, "0-199999999")
        assert request(server.url, "/v1/datasets").status == 503
        deadline = time.monotonic() + TIMEOUT_S
        while request(server.url, "/v1/datasets").status == 503:
            assert time.monotonic() < deadline, "the stalled reader still holds its place"
            time.sleep(0.2)
    log = (tmp_path / "log").read_text()
    assert f"GET {path} 206" in log
    assert "Traceback" not in log


def test_a_client_that_goes_away_ends_its_transfer(tmp_path: Path) -> None:
    path = make_dataset(tmp_path / "root" / "d")
    with serving(tmp_path / "root", tmp_path / "log", "--limit-concurrency", "1") as server:
        with ExitStack() as stack:
            stall(stack, server.url, path, "0-199999999")
        deadline = time.monotonic() + TIMEOUT_S
        while request(server.url, "/v1/datasets").status == 503:
            assert time.monotonic() < deadline, "the request is still in work"
            time.sleep(0.1)
    log = (tmp_path / "log").read_text()
    (line,) = [line for line in log.splitlines() if f"GET {path} 206" in line]
    assert int(line.split(" 206 ")[1].split()[0]) < 100 * MB
    assert "Traceback" not in log
