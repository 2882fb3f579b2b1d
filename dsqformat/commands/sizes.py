"""Every byte of a snapshot, by what it is for."""

from __future__ import annotations

from dataclasses import dataclass

from dsqformat import wire
from dsqformat.dataset import Dataset
from dsqformat.dataset.snapshot import ROLE_KEYS, ROLE_SAMPLES


@dataclass(frozen=True)
class SnapshotSizes:
    """Bytes of all files of a snapshot.

    Attributes:
        layers: layer segments, by (field, layer), in the order of a chunk.
        index: index segments.
        heads: headers, schemas and chunk tables of shards.
        tails: what follows the chunks of shards: the keys.
        sample_table: the Parquet table.
        key_table: the key table.
        other_blobs: auxiliary files of other roles.
        snapshot: the snapshot, its pages, and dataset.json.
    """

    layers: dict[tuple[str, int], int]
    index: int
    heads: int
    tails: int
    sample_table: int
    key_table: int
    other_blobs: int
    snapshot: int

    @property
    def total(self) -> int:
        """All bytes."""
        parts = (self.index, self.heads, self.tails, self.sample_table, self.key_table)
        return sum(self.layers.values()) + sum(parts) + self.other_blobs + self.snapshot

    def rows(self) -> list[tuple[str, int]]:
        """Return names and bytes of the parts that are there."""
        parts = [(f"layer {layer} of {name}", n) for (name, layer), n in self.layers.items()]
        parts += [
            ("index", self.index),
            ("heads", self.heads),
            ("keys in shards", self.tails),
            ("sample table", self.sample_table),
            ("key table", self.key_table),
            ("other files", self.other_blobs),
            ("snapshot and refs", self.snapshot),
        ]
        return [(name, nbytes) for name, nbytes in parts if nbytes]

    def to_json(self) -> dict[str, int]:
        """Return all parts by name."""
        layers = {f"layer.{name}.{layer}": n for (name, layer), n in self.layers.items()}
        return layers | {
            "index": self.index,
            "heads": self.heads,
            "tails": self.tails,
            "sample_table": self.sample_table,
            "key_table": self.key_table,
            "other_blobs": self.other_blobs,
            "snapshot": self.snapshot,
            "total": self.total,
        }


def measure_snapshot(dataset: Dataset) -> SnapshotSizes:
    """Add up the bytes of a snapshot; reads it, and its pages of shards if it has some."""
    snapshot = dataset.snapshot
    blobs = {blob.role: blob.nbytes for blob in snapshot.blobs}
    heads = sum(shard.head_nbytes for shard in snapshot.read_shards(dataset.source))
    segments = snapshot.segment_nbytes
    files = [snapshot.path, wire.DATASET_FILE]
    pages = sum(page.nbytes for page in snapshot.pages)
    return SnapshotSizes(
        layers=dict(zip(snapshot.schema.order, segments[1:], strict=True)),
        index=segments[0],
        heads=heads,
        tails=snapshot.nbytes - heads - sum(segments),
        sample_table=blobs.pop(ROLE_SAMPLES, 0),
        key_table=blobs.pop(ROLE_KEYS, 0),
        other_blobs=sum(blobs.values()),
        snapshot=pages + sum(dataset.source.size(path) for path in files),
    )
