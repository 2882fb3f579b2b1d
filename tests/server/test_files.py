"""Files of datasets over a real socket: what is served, as what, and what never is."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import socket
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqserver.app import create_app
from dsqserver.runner import BackgroundServer
from live import Live
from served import TIMEOUT_S, Answer, digest_of, publish, put_blob, random_bytes, request

IMMUTABLE = "public, max-age=31536000, immutable, no-transform"


def repr_digest(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def check_file(answer: Answer, content: bytes, media_type: str, cache_control: str) -> None:
    assert answer.status == 200
    assert answer.body == content
    assert not answer.repeated
    expected = {
        "accept-ranges": "bytes",
        "cache-control": cache_control,
        "content-length": str(len(content)),
        "content-type": media_type,
        "etag": f'"{digest_of(content)}"',
        "repr-digest": repr_digest(content),
        "x-content-type-options": "nosniff",
    }
    assert {name: answer.headers.get(name) for name in expected} == expected
    assert "content-encoding" not in answer.headers


def test_serves_every_kind_of_file(live: Live) -> None:
    dataset = live.root / "photos"
    base = "/datasets/photos"
    refs = (dataset / "dataset.json").read_bytes()
    check_file(request(live.url, f"{base}/dataset.json"), refs, "application/json", "no-cache")
    snapshot = (dataset / "snapshots" / f"{live.sid}.json").read_bytes()
    answer = request(live.url, f"{base}/snapshots/{live.sid}.json")
    check_file(answer, snapshot, "application/json", IMMUTABLE)
    kinds = {".dsq": "application/vnd.dsq.shard", ".parquet": "application/vnd.apache.parquet"}
    paths = sorted((dataset / "blobs").iterdir())
    assert {path.suffix for path in paths} == set(kinds)
    for path in paths:
        answer = request(live.url, f"{base}/blobs/{path.name}")
        check_file(answer, path.read_bytes(), kinds[path.suffix], IMMUTABLE)


def test_dataset_file_is_revalidated_after_a_change(tmp_path: Path) -> None:
    publish(tmp_path / "d", [])
    with BackgroundServer(create_app(tmp_path)) as server:
        path = "/datasets/d/dataset.json"
        first = request(server.url, path)
        condition = [("If-None-Match", first.headers["etag"])]
        again = request(server.url, path, headers=condition)
        assert (again.status, again.body, again.headers["cache-control"]) == (304, b"", "no-cache")
        publish(tmp_path / "d", [], provenance={"step": 2})
        changed = request(server.url, path, headers=condition)
    assert changed.status == 200
    assert changed.body == (tmp_path / "d" / "dataset.json").read_bytes()
    assert changed.headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize("suffix", ["html", "svg", "js", "page", "keys", "xhtml"])
def test_a_blob_is_never_a_type_that_runs(tmp_path: Path, suffix: str) -> None:
    publish(tmp_path, [])
    path = put_blob(tmp_path, b"<script>alert(1)</script>", suffix)
    with BackgroundServer(create_app(tmp_path)) as server:
        answer = request(server.url, f"/datasets/{tmp_path.name}/{path}")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"


DIGEST = "0" * 64
ODD_PATHS = [
    "/datasets/",
    "/datasets//dataset.json",
    "/datasets/photos",
    "/datasets/photos/",
    "/datasets/photos//dataset.json",
    "/datasets/photos/dataset.json/",
    "/datasets/photos/Dataset.json",
    "/datasets/photos/blobs",
    "/datasets/photos/blobs/",
    f"/datasets/photos/blobs/{DIGEST}",
    f"/datasets/photos/blobs/{DIGEST}.dsq",
    f"/datasets/photos/blobs/{DIGEST}.DSQ",
    f"/datasets/photos/blobs/{DIGEST}.",
    f"/datasets/photos/blobs/{DIGEST}.dsq/",
    f"/datasets/photos/blobs/{DIGEST}.dsq%0a",
    f"/datasets/photos/blobs/{DIGEST}.dsq%00",
    f"/datasets/photos/blobs/{DIGEST}.dsq%00.json",
    f"/datasets/photos/blobs/.{DIGEST}.dsq",
    f"/datasets/photos/snapshots/{DIGEST}.json",
    f"/datasets/photos/snapshots/{DIGEST}.dsq",
    "/datasets/../secret.txt",
    "/datasets/photos/../secret.txt",
    "/datasets/photos/../../secret.txt",
    "/datasets/photos/../photos/dataset.json",
    "/datasets/photos/./dataset.json",
    "/datasets/photos/blobs/../dataset.json",
    "/datasets/photos/blobs/..%2fdataset.json",
    "/datasets/photos%2fdataset.json",
    "/datasets/photos/blobs%2F",
    "/datasets/photos%5cdataset.json",
    "/datasets/%2e%2e/secret.txt",
    "/datasets/%2e%2e%2fsecret.txt",
    "/datasets/photos/%2e%2e/secret.txt",
    "/datasets/photos/..%5c..%5csecret.txt",
    "/datasets/photos/%252e%252e/secret.txt",
    "/datasets/photos%00/dataset.json",
    "/datasets/%00/dataset.json",
    "/datasets/%ff%fe/dataset.json",
    "/datasets/.hidden/dataset.json",
    "/datasets/not-a-dataset/dataset.json",
    "/datasets/secret.txt",
    "/datasets/" + "a" * 5000 + "/dataset.json",
    "/datasets/photos/blobs/" + "a" * 5000,
    "/etc/passwd",
    "//etc/passwd",
    "/%2fetc%2fpasswd",
    "/favicon.ico",
    "/docs",
    "/redoc",
    "/v1",
    "/v1/",
    "/v1/datasets/",
    "/v1/datasets/photos/",
    "/v1/datasets/photos/other",
    "/v1/datasets/%2e%2e",
    "/v1/datasets/photos%00",
    "/v1/datasets/..%2fphotos/samples",
]


@pytest.mark.parametrize("path", ODD_PATHS)
def test_odd_paths_are_not_found(live: Live, path: str) -> None:
    for method in ("GET", "HEAD"):
        status, body = raw_request(live.url, f"{method} {path} HTTP/1.1".encode("latin-1"))
        assert 400 <= status < 500
        assert b"outside of every dataset" not in body


@pytest.mark.parametrize(
    "line",
    [
        b"GET /datasets/photos/\x00 HTTP/1.1",
        b"GET /datasets/photos/\xff\xfe HTTP/1.1",
        b"GET datasets/photos/dataset.json HTTP/1.1",
        b"GET \\secret.txt HTTP/1.1",
        b"GET  HTTP/1.1",
        b"\x16\x03\x01\x00\xa5\x01",
    ],
)
def test_odd_request_lines_are_client_errors(live: Live, line: bytes) -> None:
    status, body = raw_request(live.url, line)
    assert 400 <= status < 500
    assert b"outside of every dataset" not in body


@given(st.text(min_size=1, max_size=12), st.text(max_size=12), st.sampled_from(["", "blobs/"]))
def test_any_path_is_answered_without_a_server_error(
    live: Live, name: str, file: str, folder: str
) -> None:
    encoded = [quote(text.encode("utf-8", "surrogatepass"), safe="") for text in (name, file)]
    for path in (
        f"/datasets/{encoded[0]}/{folder}{encoded[1]}",
        f"/v1/datasets/{encoded[0]}?ref={encoded[1]}",
    ):
        assert 400 <= request(live.url, path).status < 500


def raw_request(url: str, line: bytes) -> tuple[int, bytes]:
    """Send a request line as it is; return the status and everything that came."""
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 0)
    with socket.create_connection(address, timeout=TIMEOUT_S) as connection:
        connection.sendall(line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        response = http.client.HTTPResponse(
            connection, method=line.split(b" ")[0].decode("latin-1")
        )
        response.begin()
        return response.status, response.read()


def test_links_below_a_dataset_are_not_followed(tmp_path: Path) -> None:
    dataset, secret = tmp_path / "root" / "d", tmp_path / "secret"
    publish(dataset, [])
    secret.write_bytes(b"outside of every dataset")
    (tmp_path / "elsewhere").mkdir()
    (dataset / "blobs").mkdir()
    digest = digest_of(b"")
    (dataset / "blobs" / f"{digest}.dsq").symlink_to(secret)
    (dataset / "blobs" / f"{digest}.dir").mkdir()
    os.mkfifo(dataset / "blobs" / f"{digest}.fifo")
    publish(tmp_path / "root" / "linked", [])
    (tmp_path / "elsewhere" / f"{digest}.dsq").write_bytes(b"outside of every dataset")
    (tmp_path / "root" / "linked" / "blobs").symlink_to(tmp_path / "elsewhere")
    with BackgroundServer(create_app(tmp_path / "root")) as server:
        for path in (
            f"d/blobs/{digest}.dsq",
            f"d/blobs/{digest}.dir",
            f"d/blobs/{digest}.fifo",
            f"linked/blobs/{digest}.dsq",
        ):
            answer = request(server.url, f"/datasets/{path}")
            assert (answer.status, answer.json()["code"]) == (404, "not_found")


def test_a_link_to_a_dataset_in_the_root_is_served(tmp_path: Path) -> None:
    publish(tmp_path / "elsewhere", [])
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "d").symlink_to(tmp_path / "elsewhere")
    with BackgroundServer(create_app(tmp_path / "root")) as server:
        assert request(server.url, "/datasets/d/dataset.json").status == 200


def test_a_dataset_as_root_goes_by_its_own_name(tmp_path: Path) -> None:
    publish(tmp_path / "my photos, 2", [])
    with BackgroundServer(create_app(tmp_path / "my photos, 2")) as server:
        listed = request(server.url, "/v1/datasets").json()["datasets"]
        assert [entry["name"] for entry in listed] == ["my photos, 2"]
        assert request(server.url, listed[0]["path"] + "dataset.json").status == 200
        assert request(server.url, "/datasets/other/dataset.json").status == 404


def test_a_cut_transfer_is_resumed_where_it_ended(live: Live, tmp_path: Path) -> None:
    content = random_bytes(5_000_000)
    publish(tmp_path / "d", [])
    path = f"/datasets/d/{put_blob(tmp_path / 'd', content)}"
    with BackgroundServer(create_app(tmp_path)) as server:
        parts = urlsplit(server.url)
        first = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        first.request("GET", path)
        response = first.getresponse()
        etag = response.headers["ETag"]
        begun = response.read(1_234_567)
        response.close()
        first.close()  # in the middle of the body
        headers = [("Range", f"bytes={len(begun)}-{len(content) - 1}"), ("If-Range", etag)]
        rest = request(server.url, path, headers=headers)
    assert rest.status == 206
    assert begun + rest.body == content


def test_a_file_that_shrinks_while_it_is_sent_ends_the_connection(tmp_path: Path) -> None:
    content = random_bytes(30_000_000)
    publish(tmp_path / "d", [])
    path = put_blob(tmp_path / "d", content)
    with BackgroundServer(create_app(tmp_path)) as server:
        parts = urlsplit(server.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        connection.request("GET", f"/datasets/d/{path}")
        response = connection.getresponse()
        begun = response.read(100_000)
        os.truncate(tmp_path / "d" / path, 200_000)
        with pytest.raises(http.client.IncompleteRead) as caught:
            begun += response.read()
        connection.close()
    received = begun + caught.value.partial
    assert len(received) < len(content)
    assert content.startswith(received)
