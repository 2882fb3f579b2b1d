"""The decision about preconditions and ranges, without a server."""

from __future__ import annotations

import email.parser
import email.policy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dsqserver.app import create_app
from dsqserver.ranges import (
    MAX_OVERLAP,
    MAX_RANGES,
    ByteRange,
    Plan,
    Representation,
    combine_fields,
    plan_response,
)
from dsqserver.runner import BackgroundServer
from served import Answer, digest_of, put_blob, random_bytes, request

VECTORS = json.loads((Path(__file__).parent / "range_vectors.json").read_text("ascii"))
IDS = [vector["name"].replace(" ", "-") for vector in VECTORS]
ETAG = f'"{"a" * 64}"'


def representation(nbytes: int) -> Representation:
    return Representation(nbytes, ETAG, "application/x-test", "immutable", "sha-256=:AA==:")


def body_of(plan: Plan, content: bytes) -> bytes:
    return b"".join(
        piece if isinstance(piece, bytes) else content[piece.start : piece.stop]
        for piece in plan.pieces()
    )


def parts_of(content_type: str, body: bytes) -> list[tuple[str, bytes]]:
    """Split a multipart body with the parser for mail, which knows nothing of this project."""
    text = b"content-type: " + content_type.encode() + b"\r\nMIME-Version: 1.0\r\n\r\n" + body
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(text)
    assert message.is_multipart(), message.defects
    assert not message.defects
    parts = []
    for part in message.iter_parts():
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        parts.append((str(part["content-range"]), payload))
    return parts


@pytest.mark.parametrize("vector", VECTORS, ids=IDS)
def test_plan_of_vector(vector: dict[str, Any]) -> None:
    headers = [
        (name.encode(), value.replace("{etag}", ETAG).encode("latin-1"))
        for name, value in vector["headers"]
    ]
    fields = combine_fields(headers)
    plan = plan_response(vector["method"], fields, representation(vector["size"]))
    assert plan.status == vector["status"]
    assert [[part.start, part.stop] for part in plan.ranges] == vector["ranges"]
    assert (plan.boundary is not None) == (plan.status == 206 and len(plan.ranges) > 1)


@pytest.fixture(scope="module")
def content_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server with one blob of each size in the vectors, and the bytes by size."""
    dataset = tmp_path_factory.mktemp("ranges") / "d"
    contents = {size: random_bytes(size, size) for size in {v["size"] for v in VECTORS}}
    for content in contents.values():
        put_blob(dataset, content)
    (dataset / "dataset.json").write_bytes(b"{}")
    with BackgroundServer(create_app(dataset)) as server:
        yield server.url, contents


@pytest.mark.parametrize("vector", VECTORS, ids=IDS)
def test_vector_over_a_socket(content_server: Any, vector: dict[str, Any]) -> None:
    url, contents = content_server
    content = contents[vector["size"]]
    digest = digest_of(content)
    headers = [(name, value.replace("{etag}", f'"{digest}"')) for name, value in vector["headers"]]
    answer = request(
        url, f"/datasets/d/blobs/{digest}.dsq", method=vector["method"], headers=headers
    )
    assert answer.status == vector["status"]
    assert not answer.repeated
    assert "content-encoding" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"
    if answer.status in (200, 206, 304):
        assert answer.headers["etag"] == f'"{digest}"'
        assert "immutable" in answer.headers["cache-control"]
        assert "no-transform" in answer.headers["cache-control"]
    if answer.status in (200, 206):
        check_body(answer, vector, content)
    elif answer.status == 304:
        assert answer.body == b""
        assert "content-length" not in answer.headers
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert (vector["method"] == "HEAD") == (answer.body == b"")
    if answer.status == 416:
        assert answer.headers["content-range"] == f"bytes */{len(content)}"


def check_body(answer: Answer, vector: dict[str, Any], content: bytes) -> None:
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["repr-digest"].startswith("sha-256=:")
    wanted = [content[start:stop] for start, stop in vector["ranges"]]
    names = [f"bytes {start}-{stop - 1}/{len(content)}" for start, stop in vector["ranges"]]
    if vector["method"] == "HEAD":
        assert answer.body == b""
        assert answer.headers["content-length"] == str(len(content))
        return
    assert answer.headers["content-length"] == str(len(answer.body))
    if len(wanted) > 1:
        assert "content-range" not in answer.headers
        parts = parts_of(answer.headers["content-type"], answer.body)
        assert parts == list(zip(names, wanted, strict=True))
        return
    assert answer.body == b"".join(wanted)
    assert answer.headers.get("content-range") == (names[0] if answer.status == 206 else None)


positions = st.one_of(st.integers(0, 40), st.integers(0, 10**30))
range_specs = st.one_of(
    st.tuples(positions, positions).map(lambda pair: f"{pair[0]}-{pair[1]}"),
    positions.map(lambda first: f"{first}-"),
    positions.map(lambda last: f"-{last}"),
    st.text("0123456789-, \tbx=", max_size=6),
)
range_fields = st.one_of(
    st.lists(range_specs, min_size=1, max_size=40).map(lambda specs: "bytes=" + ",".join(specs)),
    st.text(max_size=30),
)
tags = st.one_of(st.just(ETAG), st.just("W/" + ETAG), st.just("*"), st.text(max_size=20))


@given(
    st.integers(0, 64),
    st.dictionaries(st.sampled_from(["if-match", "if-none-match", "if-range"]), tags, max_size=2),
    range_fields,
)
@example(0, {}, "bytes=-1")
@example(10, {}, "bytes=0-,0-,0-0")
@example(10, {"if-match": ETAG, "if-range": ETAG}, "bytes=3-1000000000000000000000")
def test_body_is_made_of_slices(nbytes: int, fields: dict[str, str], value: str) -> None:
    content = bytes(range(nbytes))
    for method in ("GET", "HEAD"):
        plan = plan_response(method, {**fields, "range": value}, representation(nbytes))
        headers = dict(plan.headers)
        assert len(headers) == len(plan.headers)
        assert all(0 <= part.start < part.stop <= nbytes for part in plan.ranges)
        assert len(plan.ranges) <= MAX_RANGES
        assert sum(part.nbytes for part in plan.ranges) <= MAX_OVERLAP * nbytes
        assert method == "GET" or plan.status in (200, 304, 412)
        body = body_of(plan, content)
        if plan.status == 200:
            assert body == content
        if plan.status in (200, 206):
            assert int(headers["content-length"]) == len(body)
        else:
            assert body == b""
            assert "content-length" not in headers
        if plan.boundary is not None:
            assert [payload for _, payload in parts_of(headers["content-type"], body)] == [
                content[part.start : part.stop] for part in plan.ranges
            ]
        elif plan.status == 206:
            (part,) = plan.ranges
            assert headers["content-range"] == f"bytes {part.start}-{part.stop - 1}/{nbytes}"


@given(st.integers(1, 10**12), st.data())
def test_a_sound_range_is_answered_as_asked(nbytes: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, nbytes - 1))
    last = data.draw(st.integers(start, 2 * nbytes))
    plan = plan_response("GET", {"range": f"bytes={start}-{last}"}, representation(nbytes))
    assert plan.status == 206
    assert plan.ranges == (ByteRange(start, min(last + 1, nbytes)),)


def test_offers_no_ranges_where_there_are_none() -> None:
    plain = Representation(9, ETAG, "application/json", "no-cache", "sha-256=:AA==:", ranges=False)
    plan = plan_response("GET", {"range": "bytes=0-1"}, plain)
    assert plan.status == 200
    assert "accept-ranges" not in dict(plan.headers)


def test_the_same_request_has_the_same_answer() -> None:
    fields = {"range": "bytes=0-1,3-4"}
    first, second = (plan_response("GET", fields, representation(9)) for _ in range(2))
    assert first == second
