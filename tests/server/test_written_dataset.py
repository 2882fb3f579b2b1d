"""A dataset of the real writer, read back through the server alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsqformat.dataset import open_dataset
from dsqformat.shard import parse_head
from dsqformat.wire import segment_digest
from dsqformat.writer import DatasetWriter
from dsqserver.app import create_app
from dsqserver.runner import BackgroundServer
from served import digest_of, request

COUNT = 700


def write(path: Path, **options: Any) -> str:
    """Write small pictures with a label, a key and a bit width of their own; return the id."""
    rng = np.random.default_rng(0)
    with DatasetWriter(path, shard_nbytes=40_000, chunk_nbytes=8_000, **options) as writer:
        for number in range(COUNT):
            sample = {
                "image": rng.integers(0, 256, (8, 8, 3), dtype=np.uint8),
                "label": number % 7,
            }
            writer.write(sample, key=f"key-{number}", bit_width=int(rng.integers(2, 9)))
    assert writer.snapshot_id is not None
    return writer.snapshot_id


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("written") / "d"
    return path, write(path)


def test_listings_agree_with_the_dataset(written: tuple[Path, str]) -> None:
    path, sid = written
    rows: list[dict[str, Any]] = []
    token = ""
    with BackgroundServer(create_app(path)) as server, open_dataset(path) as dataset:
        detail = request(server.url, "/v1/datasets/d").json()
        assert (detail["snapshot"], detail["sample_count"]) == (sid, COUNT)
        assert detail["filters"] == ["label", "bit_width"]
        while token is not None:
            query = f"limit=250{token and '&page_token='}{token}"
            page = request(server.url, f"/v1/datasets/d/samples?{query}").json()
            rows += page["samples"]
            token = page["next_page_token"]
        assert [row["position"] for row in rows] == list(range(COUNT))
        for row in rows[::50]:
            sample = dataset.by_key(row["key"])
            assert dataset.position_of(row["key"]) == row["position"]
            assert int(sample["label"]) == row["label"]
        shards = request(server.url, "/v1/datasets/d/shards?label=3&bit_width=5").json()["shards"]
    matching: dict[int, int] = {}
    for row in rows:
        if row["label"] == 3 and row["image.bit_width"] == 5:
            matching[row["shard"]] = matching.get(row["shard"], 0) + 1
    assert {row["shard"]: row["matching_sample_count"] for row in shards} == matching
    assert detail["shard_count"] > 1


def test_a_chunk_by_two_ranges(written: tuple[Path, str]) -> None:
    """What a client does: the head of a shard, then a chunk cut after its first layers."""
    path, _ = written
    with BackgroundServer(create_app(path.parent)) as server:
        shard = request(server.url, "/v1/datasets/d/shards").json()["shards"][0]
        url = f"/datasets/d/{shard['path']}"
        stop = shard["head_nbytes"] - 1
        answer = request(server.url, url, headers=[("Range", f"bytes=0-{stop}")])
        assert digest_of(answer.body) == shard["head_digest"]
        head = parse_head(answer.body, nbytes=shard["nbytes"])
        start = shard["head_nbytes"] + head.chunks.segment_offset(0, 0)
        lengths = head.chunks.segment_nbytes[0, :2].tolist()
        ranges = [("Range", f"bytes={start}-{start + sum(lengths) - 1}")]
        prefix = request(server.url, url, headers=ranges)
    assert prefix.status == 206
    parts = [prefix.body[: lengths[0]], prefix.body[lengths[0] :]]
    for number, part in enumerate(parts):
        assert len(part) == lengths[number]
        assert segment_digest(part) == head.chunks.segment_digest[0, number].tobytes()


def test_a_dataset_published_while_it_is_served(tmp_path: Path) -> None:
    first = write(tmp_path / "d")
    with BackgroundServer(create_app(tmp_path)) as server:
        assert request(server.url, "/v1/datasets/d").json()["snapshot"] == first
        second = write(tmp_path / "d", mode="replace", seed=1)
        detail = request(server.url, "/v1/datasets/d").json()
        assert (detail["snapshot"], second != first) == (second, True)
        third = write(tmp_path / "e", table=False)
        names = [entry["name"] for entry in request(server.url, "/v1/datasets").json()["datasets"]]
        assert names == ["d", "e"]
        assert request(server.url, "/v1/datasets/e").json()["snapshot"] == third
        assert request(server.url, "/v1/datasets/e/samples").json()["code"] == "no_sample_table"
