"""The sample table and the key table of a snapshot that is being written."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.dataset.key_table import encode_key_table
from dsqformat.dataset.sample_table import SampleTableWriter
from dsqformat.schema import Schema
from dsqformat.writer.parent import ParentSnapshot
from dsqformat.writer.spill import SampleSpill


class TablesBuilder:
    """Keeps the rows of the sample table in a temporary file, and the hashes of keys in memory.

    Args:
        folder: for the temporary file.
        schema: of the samples.
        keyed: whether samples have keys.
        parent: the snapshot that is appended to.

    Attributes:
        hashes: of the keys, chunk by chunk.
    """

    def __init__(
        self, folder: Path, schema: Schema, *, keyed: bool, parent: ParentSnapshot | None
    ) -> None:
        self._samples: SampleTableWriter | None = None
        self.hashes: list[NDArray[np.uint64]] = []
        self._folder, self._schema, self._keyed, self._parent = folder, schema, keyed, parent
        self._scratch = contextlib.ExitStack()
        self._path: Path | None = None

    def begin(self) -> None:
        """Begin the sample table with the samples of the parent."""
        with contextlib.ExitStack() as undo:
            # Importing pyarrow takes long enough to be interrupted.
            undo.callback(self.close)
            if self._path is None:
                folder = tempfile.TemporaryDirectory(dir=self._folder, prefix=".table-")
                self._path = Path(self._scratch.enter_context(folder)) / "samples.parquet"
            self._samples = SampleTableWriter(self._path, self._schema, keyed=self._keyed)
            if self._parent is not None:
                self._parent.copy_rows(self._samples, dropped=False)
            undo.pop_all()

    def append(
        self,
        place: tuple[int, int, int],
        columns: Mapping[str, Any],
        keys: Sequence[str] | None,
        settings: Mapping[str, NDArray[np.uint8]],
        packed_nbytes: NDArray[np.int64],
    ) -> None:
        """Append the rows of a chunk, as `SampleTableWriter` does, if the table has begun."""
        if self._samples is not None:
            self._samples.append(place, columns, keys, settings, packed_nbytes)

    def complete(self, dropped: SampleSpill) -> Path | None:
        """Write the last rows, samples without payload (spec 13.2); return where the table is."""
        table = self._samples
        if table is None:
            raise ValueError("the sample table has been written")
        if self._parent is not None:
            self._parent.copy_rows(table, dropped=True)
        if len(dropped):
            rows = np.arange(len(dropped))
            table.append_dropped(dropped.take_columns(rows), dropped.take_keys(rows), len(dropped))
        table.close()
        self._samples = None
        return self._path

    def keys(self, end: int) -> bytes:
        """Return the key table of samples whose last position is before `end`."""
        hashes = np.concatenate([*self.hashes, np.empty(0, "<u8")])
        positions = np.arange(end - len(hashes), end, dtype="<u8")
        parent_keys = self._parent.keys() if self._parent else None
        if parent_keys is not None:
            hashes = np.concatenate([parent_keys[0], hashes])
            positions = np.concatenate([parent_keys[1], positions])
        return encode_key_table(hashes, positions)

    def close(self) -> None:
        """Drop the temporary file."""
        if self._samples is not None:
            # Closing flushes, which fails again where the disk is full.
            with contextlib.suppress(OSError):
                self._samples.close()
            self._samples = None
        self._scratch.close()
