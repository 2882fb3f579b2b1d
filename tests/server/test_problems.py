"""Errors: one shape with a stable code, for every route and every kind of failure."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI

from dsqformat.schema import Column, Field, Schema
from dsqserver.app import create_app
from dsqserver.models import Problem
from dsqserver.problems import PROBLEMS
from dsqserver.runner import BackgroundServer
from live import Live, sample_rows, sample_table
from served import TIMEOUT_S, Answer, digest_of, publish, put_blob, random_bytes, request

ROUTES = [
    "/",
    "/healthz",
    "/openapi.json",
    "/v1/datasets",
    "/v1/datasets/photos",
    "/v1/datasets/photos/samples",
    "/v1/datasets/photos/shards",
    "/datasets/photos/dataset.json",
    "/datasets/photos/snapshots/{sid}.json",
    "/datasets/photos/blobs/{digest}.dsq",
]


def check_problem(answer: Answer, code: str) -> Problem:
    problem = Problem.model_validate_json(answer.body)
    assert problem.code == code
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "etag" not in answer.headers
    assert not answer.repeated
    status, title = PROBLEMS[code]
    assert (answer.status, problem.status, problem.title) == (status, status, title)
    assert problem.type == f"urn:dsq:problem:{code}"
    assert problem.detail
    assert "\n" not in problem.detail
    return problem


def filled(route: str, live: Live) -> str:
    return route.format(sid=live.sid, digest=digest_of(live.shards[0]))


def test_all_routes_are_tried(live: Live) -> None:
    described = set(request(live.url, "/openapi.json").json()["paths"])
    assert len(described | {"/openapi.json"}) == len(ROUTES)
    for route in ROUTES:
        for method in ("GET", "HEAD"):
            assert request(live.url, filled(route, live), method=method).status == 200


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"]
)
def test_other_methods_are_not_allowed(live: Live, route: str, method: str) -> None:
    answer = request(live.url, filled(route, live), method=method, body=b"x" * 100_000)
    problem = check_problem(answer, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD"
    assert problem.instance == filled(route, live)


@pytest.mark.parametrize("route", ROUTES)
def test_a_longer_path_is_not_found(live: Live, route: str) -> None:
    path = filled(route, live).rstrip("/") + "/more/of/it"
    assert check_problem(request(live.url, path), "not_found").instance == path


@pytest.mark.parametrize("route", [route for route in ROUTES if "photos" in route])
def test_an_unknown_dataset(live: Live, route: str) -> None:
    path = filled(route, live).replace("photos", "nothing")
    check_problem(request(live.url, path), "unknown_dataset")


@pytest.mark.parametrize("route", ROUTES)
def test_a_failed_precondition(live: Live, route: str) -> None:
    answer = request(live.url, filled(route, live), headers=[("If-Match", '"other"')])
    check_problem(answer, "precondition_failed")


@pytest.mark.parametrize("route", [route for route in ROUTES if route.startswith("/datasets")])
def test_an_unsatisfiable_range(live: Live, route: str) -> None:
    path = filled(route, live)
    answer = request(live.url, path, headers=[("Range", "bytes=9999999-")])
    check_problem(answer, "range_not_satisfiable")
    size = len(request(live.url, path).body)
    assert answer.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.startswith("/v1") or route == "/"]
)
def test_an_unknown_parameter(live: Live, route: str) -> None:
    answer = request(live.url, filled(route, live) + "?lable=3")
    assert "lable" in check_problem(answer, "unknown_parameter").detail


@pytest.mark.parametrize("route", ["/v1/datasets/photos/samples", "/v1/datasets/photos/shards"])
@pytest.mark.parametrize(
    ("query", "code", "word"),
    [
        ("limit=0", "invalid_parameter", "limit"),
        ("limit=1001", "invalid_parameter", "limit"),
        ("limit=many", "invalid_parameter", "limit"),
        ("limit=" + "9" * 5000, "invalid_parameter", "limit"),
        ("ref=" + "a" * 65, "invalid_parameter", "ref"),
        ("ref=other", "unknown_ref", "main"),
        ("ref=" + "0" * 64, "unknown_ref", "main"),
        ("label=bird", "invalid_parameter", "label"),
        ("label=", "invalid_parameter", "label"),
        ("label=1,,2", "invalid_parameter", "label"),
        ("label=1.0", "invalid_parameter", "label"),
        ("label=99999999999999999999", "invalid_parameter", "label"),
        ("label=%00", "invalid_parameter", "label"),
        ("bin_id=cat", "invalid_parameter", "bin_id"),
        ("bin_id=" + ",".join(["1"] * 1001), "invalid_parameter", "bin_id"),
        ("bit_width=17", "invalid_parameter", "bit_width"),
        ("bit_width=-1", "invalid_parameter", "bit_width"),
        ("page_token=x", "invalid_page_token", "page_token"),
        ("page_token=", "invalid_page_token", "page_token"),
        ("page_token=%FF%00", "invalid_page_token", "page_token"),
        ("page_token=" + "A" * 98, "invalid_page_token", "page_token"),
        ("page_token=" + "A" * 201, "invalid_parameter", "page_token"),
    ],
)
def test_an_invalid_parameter(live: Live, route: str, query: str, code: str, word: str) -> None:
    answer = request(live.url, f"{route}?{query}")
    assert word in check_problem(answer, code).detail


def test_filters_that_a_dataset_lacks(tmp_path: Path) -> None:
    schema = Schema((Field("x", "float32", (2,), "raw"),), (Column("label", "float32"),))
    publish(tmp_path / "d", [], schema=schema)
    with BackgroundServer(create_app(tmp_path)) as server:
        assert request(server.url, "/v1/datasets/d").json()["filters"] == []
        for name in ("label", "bin_id", "bit_width"):
            answer = request(server.url, f"/v1/datasets/d/shards?{name}=1")
            assert name in check_problem(answer, "invalid_parameter").detail


def test_a_snapshot_without_a_sample_table(live: Live) -> None:
    check_problem(request(live.url, "/v1/datasets/bare/samples"), "no_sample_table")
    check_problem(request(live.url, "/v1/datasets/bare/shards?label=1"), "no_sample_table")
    assert request(live.url, "/v1/datasets/bare/shards").json()["shards"] == []


def damage(dataset: Path, kind: str, sid: str) -> None:
    table = next((dataset / "blobs").glob("*.parquet"))
    if kind == "refs":
        (dataset / "dataset.json").write_bytes(b'{"format":"other"}')
    elif kind == "long refs":
        (dataset / "dataset.json").write_bytes(b" " * (2 << 20))
    elif kind == "snapshot":
        (dataset / "snapshots" / f"{sid}.json").write_bytes(b"{}")
    elif kind == "no snapshot":
        (dataset / "snapshots" / f"{sid}.json").unlink()
    elif kind == "table":
        table.write_bytes(b"PAR1" + bytes(100))
    elif kind == "no table":
        table.unlink()
    elif kind == "table with other columns":
        pq.write_table(pa.table({"other": [1]}), table)


@pytest.mark.parametrize(
    ("kind", "routes"),
    [
        ("refs", ["", "/samples", "/shards"]),
        ("long refs", ["", "/samples", "/shards"]),
        ("snapshot", ["", "/samples", "/shards"]),
        ("no snapshot", ["", "/samples", "/shards"]),
        ("table", ["/samples", "/samples?label=1", "/shards?label=1"]),
        ("no table", ["/samples", "/samples?label=1", "/shards?label=1"]),
        ("table with other columns", ["/samples?label=1", "/shards?label=1"]),
    ],
)
def test_a_damaged_dataset(
    tmp_path: Path, kind: str, routes: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path / "sound", [])
    sid = publish(tmp_path / "d", [], table=sample_table(sample_rows()))
    damage(tmp_path / "d", kind, sid)
    with BackgroundServer(create_app(tmp_path)) as server:
        for route in routes:
            problem = check_problem(
                request(server.url, f"/v1/datasets/d{route}"), "dataset_unreadable"
            )
            assert str(tmp_path) not in problem.detail
        listed = request(server.url, "/v1/datasets").json()["datasets"]
    assert [entry["name"] for entry in listed] == ["d", "sound"]
    assert listed[1]["error"] is None
    assert (listed[0]["error"] is None) == kind.endswith(("table", "columns"))
    assert any(record.levelno == logging.ERROR for record in caplog.records)


def test_too_many_requests_at_once(tmp_path: Path) -> None:
    publish(tmp_path / "d", [])
    path = put_blob(tmp_path / "d", random_bytes(50_000_000))
    with BackgroundServer(create_app(tmp_path, limit_concurrency=1)) as server:
        parts = urlsplit(server.url)
        address = (parts.hostname or "", parts.port or 0)
        with socket.create_connection(address, timeout=TIMEOUT_S) as stalled:
            stalled.sendall(f"GET /datasets/d/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert stalled.recv(1)  # its request is in work, and stays so
            answer = request(server.url, "/v1/datasets")
            check_problem(answer, "overloaded")
            assert answer.headers["retry-after"] == "1"
            assert request(server.url, "/healthz").status == 200


def test_a_fault_of_the_program(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app: FastAPI = create_app(tmp_path)

    def fail() -> Any:
        raise ZeroDivisionError("a secret of the implementation")

    app.add_api_route("/fault", fail, methods=["GET"])
    with BackgroundServer(app) as server, caplog.at_level(logging.INFO):
        problem = check_problem(request(server.url, "/fault"), "internal_error")
        assert request(server.url, "/healthz").status == 200
    assert "secret" not in problem.model_dump_json()
    assert "ZeroDivisionError" in caplog.text
    assert "GET /fault 500" in caplog.text
