"""The snapshot that an appending writer builds on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.bytesource import LocalSource
from dsqformat.dataset.key_table import KeyTable
from dsqformat.dataset.reader import Dataset
from dsqformat.dataset.sample_table import SampleTableWriter, require_pyarrow
from dsqformat.dataset.snapshot import (
    ROLE_KEYS,
    ROLE_SAMPLES,
    BlobEntry,
    ShardEntry,
    load_snapshot,
)
from dsqformat.errors import DatasetError, SampleError, UnknownKeyError
from dsqformat.schema import Schema
from dsqformat.schema_json import schema_to_json


class ParentSnapshot:
    """What a new snapshot takes over from the one before.

    Args:
        path: the dataset directory.
        ref: the ref that is appended to.
    """

    def __init__(self, path: Path, ref: str) -> None:
        source = LocalSource(path)
        self._path = path
        self._dataset = Dataset(source, load_snapshot(source, ref))
        self.snapshot = self._dataset.snapshot
        self.shards: tuple[ShardEntry, ...] = tuple(self.snapshot.read_shards(source))

    def check(self, schema: Schema, *, keyed: bool, table: bool) -> Schema:
        """Return the parent's schema if samples of `schema` fit it.

        Raises:
            DatasetError: naming the difference.
        """
        ours = self.snapshot.schema
        same_fields = len(ours.fields) == len(schema.fields) and all(
            a.name == b.name
            and (a.dtype, a.quantizer, a.layers) == (b.dtype, b.quantizer, b.layers)
            and (a.domain, a.patch, len(a.shape)) == (b.domain, b.patch, len(b.shape))
            for a, b in zip(ours.fields, schema.fields, strict=True)
        )
        kinds = [(column.name, column.type) for column in ours.columns]
        if not same_fields or kinds != [(column.name, column.type) for column in schema.columns]:
            raise DatasetError(
                f"{self._path}: samples do not fit its schema {schema_to_json(ours)}"
            )
        for old, new in zip(ours.columns, schema.columns, strict=True):
            if new.names is not None and new.names != old.names:
                raise DatasetError(
                    f"{self._path}: column {old.name!r} has names {old.names}, got {new.names}: "
                    "its numbers would mean something else"
                )
        if keyed != self._dataset.has_keys and len(self._dataset):
            raise DatasetError(f"{self._path}: either all samples have keys or none")
        if table != (self.snapshot.blob(ROLE_SAMPLES) is not None):
            raise DatasetError(
                f"{self._path}: has {'no' if table else 'a'} sample table; append with "
                f"table={not table}"
            )
        return ours

    def check_keys(self, keys: Sequence[str]) -> None:
        """Refuse keys that samples of the parent have.

        Raises:
            SampleError: naming the key.
        """
        for key in keys:
            try:
                position = self._dataset.position_of(key)
            except UnknownKeyError:
                continue
            raise SampleError(f"key {key!r}: the sample at position {position} has it already")

    def keys(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]] | None:
        """Return hashes and positions of the keys of the parent, or None if it has none."""
        blob = self.snapshot.blob(ROLE_KEYS)
        if blob is None:
            return None
        entries = KeyTable(self._dataset.source, blob.path).entries()
        return entries["hash"].astype("<u8"), entries["position"].astype("<u8")

    def copy_rows(self, table: SampleTableWriter, *, dropped: bool) -> None:
        """Copy the rows of the parent's sample table, with or without payload."""
        blob = self.snapshot.blob(ROLE_SAMPLES)
        if blob is None:
            return
        pa: Any = require_pyarrow()
        with pa.parquet.ParquetFile(self._path / blob.path) as file:
            for batch in file.iter_batches():
                absent = batch.column("position").is_null()
                rows = batch.filter(absent if dropped else pa.compute.invert(absent))
                if rows.num_rows:
                    table.append_batch(rows)

    def other_blobs(self, own: Sequence[BlobEntry]) -> list[BlobEntry]:
        """Return auxiliary files of the parent that the new snapshot keeps."""
        replaced = {ROLE_KEYS, ROLE_SAMPLES, *(blob.role for blob in own)}
        return [blob for blob in self.snapshot.blobs if blob.role not in replaced]
