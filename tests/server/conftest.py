"""A server on a free port of the loopback interface, with two small datasets behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dsqserver.app import create_app
from dsqserver.runner import BackgroundServer
from live import SAMPLES_PER_SHARD, SHARD_COUNT, Live, sample_rows, sample_table
from served import SCHEMA, publish, put_blob, random_bytes, shard_entry


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    root = tmp_path_factory.mktemp("served")
    shards = [random_bytes(1000 + number, number) for number in range(SHARD_COUNT)]
    for shard in shards:
        put_blob(root / "photos", shard)
    rows = sample_rows()
    entries = [shard_entry(shard, SAMPLES_PER_SHARD) for shard in shards]
    sid = publish(
        root / "photos", entries, table=sample_table(rows), row_group_size=128, schema=SCHEMA
    )
    publish(root / "bare", [])
    (root / "not-a-dataset").mkdir()
    (root / ".hidden").mkdir()
    (root / ".hidden" / "dataset.json").write_bytes(b"{}")
    (root / "secret.txt").write_text("outside of every dataset")
    with BackgroundServer(create_app(root)) as server:
        yield Live(server.url, root, sid, shards, rows)
