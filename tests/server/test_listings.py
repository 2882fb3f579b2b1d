"""Listings of datasets, samples and shards: rows, filters, pages, tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat._version import __version__
from dsqformat.schema import Column, Field, Schema
from dsqformat.schema_json import schema_to_json
from dsqserver import models, samples
from dsqserver.app import create_app
from dsqserver.filters import Condition
from dsqserver.paging import PagedQuery, PageTokens
from dsqserver.problems import ProblemError
from dsqserver.runner import BackgroundServer
from dsqserver.samples import SampleTable
from live import DROPPED, SAMPLES_PER_SHARD, SHARD_COUNT, Live, sample_rows, sample_table
from served import SCHEMA, digest_of, publish, put_blob, random_bytes, request, shard_entry

COUNT = SAMPLES_PER_SHARD * SHARD_COUNT


def pages(url: str, path: str, limit: int) -> list[dict[str, Any]]:
    """Follow a listing to its end."""
    found, token = [], ""
    for _ in range(2000):
        answer = request(url, f"{path}limit={limit}{token}")
        assert answer.status == 200, answer.body
        found.append(answer.json())
        if found[-1]["next_page_token"] is None:
            return found
        token = f"&page_token={found[-1]['next_page_token']}"
    raise AssertionError("the listing has no end")


def listed(url: str, path: str, kind: str, limit: int = 1000) -> list[dict[str, Any]]:
    return [row for page in pages(url, path, limit) for row in page[kind]]


def test_service(live: Live) -> None:
    info = models.ServiceInfo.model_validate(request(live.url, "/").json())
    assert info.version == __version__
    assert info.limits == {"max_ranges": 32, "max_page_rows": 1000}
    for path in info.endpoints.values():
        filled = path.replace("{name}", "photos")
        assert (
            request(live.url, filled + ("dataset.json" if filled[-1] == "/" else "")).status == 200
        )
    assert request(live.url, info.docs).json()["openapi"].startswith("3.1")
    assert request(live.url, "/healthz").json() == {"status": "ok"}


def test_list_of_datasets(live: Live) -> None:
    found = models.DatasetList.model_validate(request(live.url, "/v1/datasets").json())
    bare, photos = found.datasets
    assert (bare.name, bare.sample_count, bare.error) == ("bare", 0, None)
    assert photos.model_dump() == {
        "name": "photos",
        "path": "/datasets/photos/",
        "snapshot": live.sid,
        "sample_count": COUNT,
        "shard_count": SHARD_COUNT,
        "nbytes": sum(map(len, live.shards)),
        "error": None,
    }


def test_one_dataset(live: Live) -> None:
    for query in ("", "?ref=main", f"?ref={live.sid}"):
        content = request(live.url, f"/v1/datasets/photos{query}").json()
        detail = models.DatasetDetail.model_validate(content)
        assert detail.refs == {"main": live.sid}
        assert content["schema"] == schema_to_json(SCHEMA)
        assert detail.filters == ["label", "bin_id", "bit_width"]
        assert detail.segment_nbytes == [0, 5, 10, 15]
        assert request(live.url, detail.snapshot_path).status == 200
        (blob,) = detail.blobs
        assert blob.role == "samples"
        assert len(request(live.url, blob.path).body) == blob.nbytes


def test_answers_carry_a_tag(live: Live) -> None:
    path = "/v1/datasets/photos/samples?limit=3"
    first = request(live.url, path)
    assert first.headers["etag"] == f'"{digest_of(first.body)}"'
    assert first.headers["cache-control"] == "no-cache"
    condition = [("If-None-Match", first.headers["etag"])]
    assert request(live.url, path, headers=condition).status == 304
    ranged = request(live.url, path, headers=[("Range", "bytes=0-3")])
    assert (ranged.status, ranged.body) == (200, first.body)


@pytest.mark.parametrize("limit", [1, 7, 128, 100, 500, 507, 508, 1000])
def test_samples_without_a_filter(live: Live, limit: int) -> None:
    if limit == 1:  # one row per request: enough to see it go on and end
        path = "/v1/datasets/photos/samples?label=2&bin_id=3&bit_width=0&"
        wanted = [row for row in live.rows[COUNT:] if row["bin_id"] == 3]
        assert listed(live.url, path, "samples", 1) == wanted
        return
    found = pages(live.url, "/v1/datasets/photos/samples?", limit)
    for page in found:
        models.SamplePageModel.model_validate(page)
        assert page["snapshot"] == live.sid
    assert [row for page in found for row in page["samples"]] == live.rows
    assert len(found) == -(-(COUNT + DROPPED) // limit)


def test_samples_by_default_limit(live: Live) -> None:
    page = request(live.url, "/v1/datasets/photos/samples").json()
    assert page["samples"] == live.rows[:100]


labels = st.lists(st.sampled_from([0, 1, 2, 3, 99, -1]), max_size=3)
bins = st.lists(st.integers(-1, 4), max_size=3)
widths = st.lists(st.integers(0, 16), max_size=4)


@given(labels, bins, widths, st.integers(1, 600), st.booleans())
def test_filters_agree_with_a_plain_loop(
    live: Live, label: list[int], bin_id: list[int], bit_width: list[int], limit: int, joined: bool
) -> None:
    filters = {"label": label, "bin_id": bin_id, "image.bit_width": bit_width}
    wanted = [
        row
        for row in live.rows
        if all(not values or row[name] in values for name, values in filters.items())
    ]
    query: list[tuple[str, str]] = []
    for name, values in filters.items():
        texts = [str(value) for value in values]
        texts = [",".join(texts)] if joined and texts else texts
        query += [(name.removeprefix("image."), text) for text in texts]
    path = f"?{urlencode(query)}&" if query else "?"
    base = "/v1/datasets/photos/"
    if len(wanted) <= 20 * limit:  # not more pages than that
        assert listed(live.url, f"{base}samples{path}", "samples", limit) == wanted
    shards = listed(live.url, f"{base}shards{path}", "shards", 2)
    matching = {row["shard"]: row["matching_sample_count"] for row in shards}
    expected: dict[Any, int] = {}
    for row in wanted:
        if row["shard"] is not None:
            expected[row["shard"]] = expected.get(row["shard"], 0) + 1
    assert matching == expected
    assert list(matching) == sorted(matching)


def test_labels_by_name(live: Live) -> None:
    base = "/v1/datasets/photos/samples?"
    by_number = listed(live.url, f"{base}label=0&label=1&", "samples")
    assert listed(live.url, f"{base}label=cat,dog&", "samples") == by_number
    assert listed(live.url, f"{base}label=cat&label=1&", "samples") == by_number
    assert listed(live.url, f"{base}label=0,1,1&", "samples") == by_number
    assert {row["label"] for row in by_number} == {0, 1}


def test_text_labels_are_taken_as_they_are(tmp_path: Path) -> None:
    schema = Schema(SCHEMA.fields, (Column("label", "utf8"),))
    names = ["a", "a,b", "ünï", "a", ""]
    table = pa.table(
        {
            "position": range(5),
            "shard": pa.array([0] * 5, pa.int32()),
            "label": names,
            "image.bit_width": pa.array([8] * 5, pa.int32()),
        }
    )
    shard = random_bytes(9)
    publish(tmp_path / "d", [shard_entry(shard, 5)], table=table, schema=schema)
    with BackgroundServer(create_app(tmp_path)) as server:
        for name in sorted(set(names) - {""}):
            path = f"/v1/datasets/d/samples?label={quote(name)}&"
            found = [row["position"] for row in listed(server.url, path, "samples")]
            assert found == [number for number, text in enumerate(names) if text == name]
        both = listed(server.url, "/v1/datasets/d/samples?label=a&label=a%2Cb&", "samples")
        assert [row["position"] for row in both] == [0, 1, 3]


def test_shards_without_a_filter(live: Live) -> None:
    for limit in (1, 2, 5, 1000):
        rows = listed(live.url, "/v1/datasets/photos/shards?", "shards", limit)
        assert [row["digest"] for row in rows] == [digest_of(shard) for shard in live.shards]
        for row, shard in zip(rows, live.shards, strict=True):
            models.ShardRow.model_validate(row)
            assert row["matching_sample_count"] == row["sample_count"] == SAMPLES_PER_SHARD
            assert row["nbytes"] == len(shard)
            answer = request(live.url, f"/datasets/photos/{row['path']}")
            assert answer.body == shard


def test_shards_of_many_pages(tmp_path: Path) -> None:
    shards = [shard_entry(number.to_bytes(4, "little") * 50, 1) for number in range(2050)]
    rows = {
        "shard": pa.array(range(2050), pa.int32()),
        "label": pa.array([number % 1000 for number in range(2050)]),
    }
    publish(tmp_path / "d", shards, table=pa.table(rows))
    with BackgroundServer(create_app(tmp_path)) as server:
        base = "/v1/datasets/d/shards?"
        found = listed(server.url, base, "shards", 1000)
        assert [row["digest"] for row in found] == [entry.digest for entry in shards]
        found = listed(server.url, f"{base}label=7&", "shards", 2)
        assert [row["shard"] for row in found] == [7, 1007, 2007]
        assert [row["digest"] for row in found] == [shards[n].digest for n in (7, 1007, 2007)]


def test_a_token_is_bound_to_its_query(live: Live) -> None:
    base = "/v1/datasets/photos/samples?limit=5"
    token = request(live.url, f"{base}&label=1").json()["next_page_token"]
    assert request(live.url, f"{base}&label=1&page_token={token}").status == 200
    assert request(live.url, f"{base[:-1]}9&label=1&page_token={token}").status == 200
    for other in (
        base,
        f"{base}&label=2",
        f"{base}&label=1&label=2",
        f"{base}&label=1&bin_id=1",
        f"{base}&bin_id=1",
        f"{base}&label=1&ref={live.sid}",
        "/v1/datasets/photos/shards?label=1",
        "/v1/datasets/bare/samples?label=1",
    ):
        answer = request(live.url, f"{other}&page_token={token}")
        assert (answer.status, answer.json()["code"]) == (400, "invalid_page_token")


def test_every_change_to_a_token_is_noticed(live: Live) -> None:
    token = request(live.url, "/v1/datasets/photos/samples").json()["next_page_token"]
    for place in range(len(token)):
        changed = token[:place] + ("B" if token[place] == "A" else "A") + token[place + 1 :]
        answer = request(live.url, f"/v1/datasets/photos/samples?page_token={changed}")
        # The last character holds spare bits that belong to no byte.
        assert answer.status == 400 or (place == len(token) - 1 and answer.status == 200)


def test_a_token_keeps_to_its_snapshot(tmp_path: Path) -> None:
    dataset = tmp_path / "d"
    rows = sample_rows()
    first = publish(dataset, [], table=sample_table(rows))
    path = "/v1/datasets/d/samples?limit=300"
    with BackgroundServer(create_app(tmp_path)) as server:
        token = request(server.url, path).json()["next_page_token"]
        second = publish(dataset, [], table=sample_table(rows[::-1][:5]))
        page = request(server.url, f"{path}&page_token={token}").json()
        assert (page["snapshot"], page["samples"]) == (first, rows[300:])
        assert request(server.url, path).json()["snapshot"] == second
    (dataset / "snapshots" / f"{first}.json").unlink()
    with BackgroundServer(create_app(tmp_path, page_secret=b"another server..")) as server:
        answer = request(server.url, f"{path}&page_token={token}")
        assert answer.json()["code"] == "invalid_page_token"
    tokens = PageTokens(b"one secret of 16")
    token = tokens.sign(PagedQuery("samples", "d", "main", ()), first, 300)
    with BackgroundServer(create_app(tmp_path, page_secret=b"one secret of 16")) as server:
        answer = request(server.url, f"{path}&page_token={token}")
        assert (answer.status, answer.json()["code"]) == (410, "snapshot_gone")


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        PageTokens(b"short")


@given(st.binary(max_size=120))
def test_garbage_is_no_token(data: bytes) -> None:
    tokens = PageTokens(b"0123456789abcdef")
    query = PagedQuery("samples", "d", "main", ())
    with pytest.raises(ProblemError):
        tokens.read(query, data.decode("latin-1"))


def test_a_page_is_bounded_in_bytes(tmp_path: Path) -> None:
    notes = [str(number) + "x" * 100_000 for number in range(50)]
    publish(tmp_path / "d", [], table=pa.table({"position": range(50), "note": notes}))
    with BackgroundServer(create_app(tmp_path)) as server:
        found = pages(server.url, "/v1/datasets/d/samples?", 50)
    assert [row["note"] for page in found for row in page["samples"]] == notes
    assert len(found) == 5
    assert all(len(page["samples"]) <= 11 for page in found)


def test_a_request_is_bounded_in_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MAX_SCAN_ROWS", 100)
    table = pa.table({"label": pa.array([number % 2 * 50 for number in range(1000)])})
    publish(tmp_path / "d", [], table=table, row_group_size=40)
    with BackgroundServer(create_app(tmp_path)) as server:
        # Within the range of every row group, so that statistics cannot rule it out.
        found = pages(server.url, "/v1/datasets/d/samples?label=7&", 10)
    assert [page["samples"] for page in found] == [[]] * len(found)
    assert len(found) == 9  # 1,000 rows in 25 groups, three groups each time


def test_row_groups_are_left_out_by_their_statistics(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    labels = np.repeat(np.arange(20), 50)
    pa.parquet.write_table(pa.table({"label": labels}), path, row_group_size=50)
    with path.open("rb") as file:
        table = SampleTable(file)
        condition = Condition("label", ("label",), (3, 17))
        may = [table._may_match(group, (condition,)) for group in table._row_groups(0)]
        assert np.flatnonzero(may).tolist() == [3, 17]
        page = table.read_page((condition,), 0, 1000)
        assert [row["label"] for row in page.rows] == [3] * 50 + [17] * 50


def test_several_quantized_fields(tmp_path: Path) -> None:
    table = pa.table(
        {
            "a.bit_width": pa.array([2, 4, 8], pa.int32()),
            "b.bit_width": pa.array([8, 2, 3], pa.int32()),
        }
    )
    schema = Schema(tuple(Field(name, "uint8", (2,), "affine") for name in ("a", "b")))
    put_blob(tmp_path / "d", b"")
    publish(tmp_path / "d", [], table=table, schema=schema)
    with BackgroundServer(create_app(tmp_path)) as server:
        found = listed(server.url, "/v1/datasets/d/samples?bit_width=8&", "samples")
    assert found == [{"a.bit_width": 2, "b.bit_width": 8}, {"a.bit_width": 8, "b.bit_width": 3}]
