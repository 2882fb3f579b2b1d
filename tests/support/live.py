"""What the tests of the server know of the datasets that their server serves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

SAMPLES_PER_SHARD = 100
SHARD_COUNT = 5
DROPPED = 7


@dataclass(frozen=True)
class Live:
    """A running server.

    Attributes:
        url: of the server.
        root: folder it serves.
        sid: snapshot of the dataset "photos".
        shards: content of the shards of "photos".
        rows: rows of its sample table, as JSON should have them.
    """

    url: str
    root: Path
    sid: str
    shards: list[bytes]
    rows: list[dict[str, object]]


def sample_rows() -> list[dict[str, object]]:
    """Rows sorted by label, the last ones dropped; values that JSON lacks are None."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    count = SAMPLES_PER_SHARD * SHARD_COUNT
    for number in range(count + DROPPED):
        dropped = number >= count
        rows.append(
            {
                "position": None if dropped else number,
                "shard": None if dropped else number // SAMPLES_PER_SHARD,
                "chunk": None if dropped else 0,
                "row": None if dropped else number % SAMPLES_PER_SHARD,
                "key": f"key-{number}",
                "label": number * 3 // (count + DROPPED),
                "bin_id": int(rng.integers(0, 4)),
                "weight": None if number % 50 == 0 else number / 2,
                "note": f"ünïcode {number}",
                "image.bit_width": 0 if dropped else int(rng.integers(2, 9)),
                "nbytes": 0 if dropped else 192,
            }
        )
    return rows


def sample_table(rows: list[dict[str, object]]) -> pa.Table:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    columns["weight"] = [float("nan") if value is None else value for value in columns["weight"]]
    table = pa.table(columns)
    for name in ("shard", "chunk", "row", "image.bit_width"):
        index = table.column_names.index(name)
        table = table.set_column(index, name, table.column(name).cast(pa.int32()))
    return table.append_column("raw", pa.array([b"\xff\x00"] * len(rows), pa.binary()))
