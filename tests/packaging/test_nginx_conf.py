"""docker/nginx.conf as nginx reads it: what a static host answers."""

import hashlib
import http.client
import os
import pwd
import shutil
import socket
import subprocess
import time

import pytest

pytestmark = pytest.mark.nginx

BLOB = bytes(range(256)) * 40
DIGEST = hashlib.sha256(BLOB).hexdigest()
START_S = 20


@pytest.fixture(scope="module")
def port(root, tmp_path_factory):
    """The port of an nginx that serves one dataset."""
    nginx = shutil.which("nginx")
    if nginx is None:
        pytest.skip("nginx is not installed")
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    for name, data in {
        f"blobs/{DIGEST}.dsq": BLOB,
        f"blobs/{DIGEST}.dsq.part": BLOB,
        f"snapshots/{DIGEST}.json": b"{}",
        "dataset.json": b'{"refs":{}}',
        ".lock": b"",
    }.items():
        path = folder / "data/photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = (root / "docker/nginx.conf").read_text()
    for old, new in {
        "alias /data/": f"alias {folder}/data/",
        "listen 8081": f"listen 127.0.0.1:{port}",
        "pid /tmp/nginx.pid": f"pid {folder}/nginx.pid",
        "access_log /dev/stdout": "access_log off",
        "http {": f"http {{ client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; "
        f"fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; "
        f"scgi_temp_path {folder}/scgi;",
    }.items():
        assert old in text
        text = text.replace(old, new)
    # The worker keeps the user that runs the tests, who alone may enter the folder.
    if os.geteuid() == 0:
        text += f"\nuser {pwd.getpwuid(os.geteuid()).pw_name};\n"
    conf = folder / "nginx.conf"
    conf.write_text(text)
    server = subprocess.Popen(
        [nginx, "-p", folder, "-c", conf, "-g", "daemon off;"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + START_S
        while not _listens(port):
            assert server.poll() is None, server.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.communicate(timeout=30)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture
def get(port):
    def request(path, method="GET", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"/datasets/photos/{path}", headers=named)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, body

    return request


def test_blob_is_immutable_and_never_compressed(get):
    status, headers, body = get(f"blobs/{DIGEST}.dsq", Accept_Encoding="gzip")
    assert (status, body) == (200, BLOB)
    assert headers["cache-control"] == "public, max-age=31536000, immutable, no-transform"
    assert headers["content-type"] == "application/vnd.dsq.shard"
    assert "content-encoding" not in headers


def test_blob_gives_ranges_and_resumes(get):
    status, headers, body = get(f"blobs/{DIGEST}.dsq", Range="bytes=100-199")
    assert (status, body) == (206, BLOB[100:200])
    assert headers["content-range"] == f"bytes 100-199/{len(BLOB)}"
    etag = headers["etag"]
    assert not etag.startswith("W/")
    status, _, body = get(f"blobs/{DIGEST}.dsq", Range="bytes=200-", If_Range=etag)
    assert (status, body) == (206, BLOB[200:])
    status, _, body = get(f"blobs/{DIGEST}.dsq", Range="bytes=200-", If_Range='"other"')
    assert (status, body) == (200, BLOB)
    status, headers, _ = get(f"blobs/{DIGEST}.dsq", Range=f"bytes={len(BLOB)}-")
    assert (status, headers["content-range"]) == (416, f"bytes */{len(BLOB)}")


def test_head_tells_the_size(get):
    status, headers, body = get(f"blobs/{DIGEST}.dsq", method="HEAD")
    assert (status, headers["content-length"], body) == (200, str(len(BLOB)), b"")


def test_snapshot_is_immutable_and_the_pointer_is_asked_for_each_time(get):
    status, headers, _ = get(f"snapshots/{DIGEST}.json")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert "immutable" in headers["cache-control"]
    status, headers, _ = get("dataset.json")
    assert (status, headers["cache-control"]) == (200, "no-cache")
    assert get("dataset.json", If_None_Match=headers["etag"])[0] == 304


@pytest.mark.parametrize(
    "path",
    [".lock", f"blobs/{DIGEST}.dsq.part", "blobs/", "../photos/.lock", "..%2f..%2fetc/passwd", ""],
)
def test_nothing_else_is_served(get, path):
    assert get(path)[0] in {400, 404}
