"""Other origins, and the log of requests."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dsqserver.app import create_app
from dsqserver.runner import BackgroundServer
from live import Live
from served import publish, put_blob, request

ORIGIN = "https://page.example"


def test_other_origins_get_nothing_by_default(live: Live) -> None:
    answer = request(live.url, "/v1/datasets", headers=[("Origin", ORIGIN)])
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "vary" not in answer.headers
    headers = [("Origin", ORIGIN), ("Access-Control-Request-Method", "GET")]
    assert request(live.url, "/v1/datasets", method="OPTIONS", headers=headers).status == 405


@pytest.mark.parametrize(("allowed", "echoed"), [(ORIGIN, ORIGIN), ("*", "*")])
def test_an_allowed_origin(tmp_path: Path, allowed: str, echoed: str) -> None:
    publish(tmp_path / "d", [])
    path = f"/datasets/d/{put_blob(tmp_path / 'd', b'abcdef')}"
    with BackgroundServer(create_app(tmp_path, allow_origins=[allowed])) as server:
        headers = [("Origin", ORIGIN), ("Range", "bytes=0-1")]
        answer = request(server.url, path, headers=headers)
        assert (answer.status, answer.body) == (206, b"ab")
        assert answer.headers["access-control-allow-origin"] == echoed
        exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
        assert exposed == [
            "accept-ranges",
            "content-length",
            "content-range",
            "etag",
            "repr-digest",
        ]
        assert answer.headers["vary"] == "Origin"
        missing = request(server.url, "/nothing", headers=headers)
        assert missing.headers["access-control-allow-origin"] == echoed

        asked = [("Origin", ORIGIN), ("Access-Control-Request-Method", "GET")]
        preflight = request(server.url, path, method="OPTIONS", headers=asked)
        assert (preflight.status, preflight.body) == (204, b"")
        allowed_headers = preflight.headers["access-control-allow-headers"].lower()
        for name in ("range", "if-range", "if-none-match", "if-match"):
            assert name in allowed_headers.split(", ")
        assert preflight.headers["access-control-allow-methods"] == "GET, HEAD"


def test_an_origin_that_is_not_allowed(tmp_path: Path) -> None:
    with BackgroundServer(create_app(tmp_path, allow_origins=[ORIGIN])) as server:
        headers = [("Origin", "https://other.example")]
        answer = request(server.url, "/", headers=headers)
        assert answer.status == 200
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["vary"] == "Origin"
        asked = [*headers, ("Access-Control-Request-Method", "GET")]
        preflight = request(server.url, "/", method="OPTIONS", headers=asked)
        assert (preflight.status, preflight.json()["code"]) == (405, "method_not_allowed")


def test_one_line_for_each_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    publish(tmp_path / "d", [])
    path = f"/datasets/d/{put_blob(tmp_path / 'd', bytes(1000))}"
    caplog.set_level(logging.INFO, "dsqserver.access")
    with BackgroundServer(create_app(tmp_path)) as server:
        request(server.url, path)
        request(server.url, path, headers=[("Range", "bytes=0-9")])
        request(server.url, path, method="HEAD")
        request(server.url, "/%0a%1b[31m?a=%0d")
    lines = [record.getMessage() for record in caplog.records if record.name == "dsqserver.access"]
    assert [line.rsplit(" ", 2)[0] for line in lines] == [
        f"127.0.0.1 GET {path} 200 1000 bytes",
        f"127.0.0.1 GET {path} 206 10 bytes",
        f"127.0.0.1 HEAD {path} 200 0 bytes",
        lines[3].rsplit(" ", 2)[0],
    ]
    assert lines[3].startswith("127.0.0.1 GET /%0a%1b[31m?a=%0d 404 ")
    assert all(line.isprintable() for line in lines)
