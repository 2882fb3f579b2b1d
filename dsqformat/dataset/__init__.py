"""A dataset: immutable shards, snapshots that list them, refs that name snapshots (spec 13)."""

from dsqformat.dataset.reader import Dataset, open_dataset
from dsqformat.dataset.refs import parse_refs
from dsqformat.dataset.snapshot import (
    BlobEntry,
    ShardEntry,
    ShardPage,
    Snapshot,
    load_snapshot,
    parse_snapshot,
)
from dsqformat.dataset.store import GcReport, LocalStore

__all__ = [
    "BlobEntry",
    "Dataset",
    "GcReport",
    "LocalStore",
    "ShardEntry",
    "ShardPage",
    "Snapshot",
    "load_snapshot",
    "open_dataset",
    "parse_refs",
    "parse_snapshot",
]
