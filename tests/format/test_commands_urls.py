"""`dsq info`, `verify` and `unpack` of a URL, through whatever opens URLs."""

import functools
import http.server
import socket
import threading
from importlib.metadata import entry_points

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("dsqclient.opening")
if not entry_points(group="dsq.openers", name="http"):
    pytest.skip("no package is installed that opens URLs", allow_module_level=True)

from inputs import make_npz, make_pictures, run_dsq


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def served(tmp_path):
    """Serve a folder on loopback, without ranges, as `python -m http.server` does."""
    root = tmp_path / "served"
    root.mkdir()
    handler = functools.partial(QuietHandler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield root, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(timeout=20)


def test_a_url_is_as_good_as_a_path(tmp_path, served, capsys):
    root, url = served
    dsq = functools.partial(run_dsq, capsys)
    pictures = make_pictures(30)
    make_npz(tmp_path / "a.npz", pictures)
    assert dsq("pack", tmp_path / "a.npz", root / "d", "--keep-order").code == 0
    here, there = (
        dsq("info", place, "--json", "--samples", 3).json for place in (root / "d", f"{url}/d")
    )
    assert here | {"path": ""} == there | {"path": ""}
    here, there = (dsq("verify", place, "--json").json for place in (root / "d", f"{url}/d"))
    assert here | {"path": ""} == there | {"path": ""}
    assert dsq("unpack", f"{url}/d", tmp_path / "o.npz").code == 0
    with np.load(tmp_path / "o.npz") as arrays:
        assert np.array_equal(arrays["x"], pictures)
    shard = next((root / "d" / "blobs").glob("*.dsq"))
    data = bytearray(shard.read_bytes())
    data[-10] ^= 1
    shard.write_bytes(data)
    assert dsq("verify", f"{url}/d").code == 1


def test_urls_that_lead_nowhere(served, capsys):
    _, url = served
    dsq = functools.partial(run_dsq, capsys)
    for command in ("info", "verify"):
        assert "no dataset here" in dsq(command, f"{url}/absent").error_line
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        line = dsq("info", f"http://127.0.0.1:{port}/d").error_line
    assert f"127.0.0.1:{port}" in line
