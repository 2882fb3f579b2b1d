"""Checks the key table and the sample table of a snapshot against its shards (spec 13.2, 13.3)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat import wire
from dsqformat.bytesource import ByteSource
from dsqformat.chunk import ChunkIndex
from dsqformat.dataset.key_table import KeyTable, key_hashes
from dsqformat.dataset.sample_table import arrow_schema, setting_columns
from dsqformat.dataset.verify_shard import CheckedChunk, VerifyReport
from dsqformat.errors import DsqError
from dsqformat.schema import Schema

_BATCH_ROWS: Final = 4096


class KeyCheck:
    """Collects the keys of all samples, then compares them with the key table."""

    def __init__(self) -> None:
        self._hashes: list[NDArray[np.uint64]] = []
        self._keyed: set[bool] = set()
        self._complete = True
        self._count = 0

    def see(self, chunk: CheckedChunk) -> None:
        """Take in the keys of a chunk."""
        self._count += chunk.sample_count
        if chunk.keys is None:
            self._complete = False
            return
        self._keyed.add(bool(chunk.keys))
        self._hashes.append(key_hashes(chunk.keys))

    def lost(self) -> None:
        """Take note of chunks whose keys cannot be known."""
        self._complete = False

    def finish(self, source: ByteSource, path: str | None, where: str, out: VerifyReport) -> None:
        """Compare with the key table at `path` (None: the snapshot has none)."""
        if len(self._keyed) > 1:
            out.add(where, "12", "some samples have keys and some have none")
            return
        if (path is not None) != (True in self._keyed) and (self._keyed or path is not None):
            if self._complete:
                out.add(where, "13.1", f"key table: {path}, keys in shards: {True in self._keyed}")
            return
        if path is None:
            return
        try:
            table = KeyTable(source, path)
            entries = table.entries()
            self._check_entries(source, path, table.count, entries, out)
        except (DsqError, OSError) as error:
            out.add(path, "13.3", error)
            return
        if self._complete:
            self._compare(path, entries, out)

    def _check_entries(
        self,
        source: ByteSource,
        path: str,
        count: int,
        entries: NDArray[np.void],
        out: VerifyReport,
    ) -> None:
        pages = wire.ceil_div(count, wire.KEY_PAGE_ENTRIES)
        expected = wire.KEY_TABLE_HEADER.size + pages * wire.KEY_PAGE_NBYTES
        if source.size(path) != expected:
            out.add(path, "13.3", f"{source.size(path)} bytes, expected {expected}")
        hashes, positions = _split(entries)
        ascending = (hashes[1:] > hashes[:-1]) | (
            (hashes[1:] == hashes[:-1]) & (positions[1:] > positions[:-1])
        )
        if not ascending.all():
            at = int(np.argmin(ascending))
            out.add(path, "13.3", f"entry {at + 1} does not come after the one before it")
        rest = count % wire.KEY_PAGE_ENTRIES
        if rest:
            stop = expected - wire.KEY_PAGE_NBYTES + wire.KEY_PAGE_ENTRIES * 16
            unused = source.read(path, stop - 16 * (wire.KEY_PAGE_ENTRIES - rest), stop)
            if unused.strip(b"\xff"):
                out.add(path, "13.3", f"entries after the last of {count} are not all FF")

    def _compare(self, path: str, entries: NDArray[np.void], out: VerifyReport) -> None:
        hashes = np.concatenate([*self._hashes, np.empty(0, "<u8")])
        positions = np.arange(len(hashes), dtype="<u8")
        order = np.lexsort((positions, hashes))
        found_hashes, found_positions = _split(entries)
        if len(entries) != len(hashes):
            out.add(path, "13.3", f"{len(entries)} entries for {len(hashes)} samples")
            return
        wrong = (found_hashes != hashes[order]) | (found_positions != positions[order])
        if wrong.any():
            at = int(np.argmax(wrong))
            out.add(
                path,
                "13.3",
                f"{int(wrong.sum())} entries differ from the keys in the shards, the first is "
                f"entry {at}: position {int(found_positions[at])}",
            )

    def duplicates(self) -> list[tuple[int, int]]:
        """Return pairs of positions whose keys have the same hash, so may be the same."""
        if not self._complete or not self._hashes:
            return []
        hashes = np.concatenate(self._hashes)
        order = np.argsort(hashes, kind="stable")
        same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
        return [(int(order[i]), int(order[i + 1])) for i in same.tolist()]


def _split(entries: NDArray[np.void]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    return entries["hash"].astype("<u8"), entries["position"].astype("<u8")


class SampleTableCheck:
    """Compares the rows of the sample table with the chunks, as they come."""

    def __init__(self, file: IO[bytes], path: str, schema: Schema, keyed: bool) -> None:
        import pyarrow.parquet as pq

        self._path, self._schema, self._keyed = path, schema, keyed
        self._file = pq.ParquetFile(file)
        self._batches = self._file.iter_batches(_BATCH_ROWS)
        self._rest: Any = None
        self._position = 0
        self._wrong = 0
        self._damaged = False

    def check_columns(self, out: VerifyReport) -> bool:
        """Tell whether the table has the columns of spec 13.2."""
        expected = arrow_schema(self._schema, keyed=self._keyed)
        found = self._file.schema_arrow
        kinds = {name: expected.field(name).type for name in expected.names}
        if {name: found.field(name).type for name in found.names} == kinds:
            return True
        out.add(self._path, "13.2", f"columns are {found.names}, expected {expected.names}")
        return False

    def see(self, shard: int, chunk: CheckedChunk, out: VerifyReport) -> None:
        """Compare the rows of a chunk."""
        if self._damaged:
            return
        with self._telling(out):
            self._compare(shard, chunk, out)

    def _compare(self, shard: int, chunk: CheckedChunk, out: VerifyReport) -> None:
        rows = self._take(chunk.sample_count)
        first, self._position = self._position, self._position + chunk.sample_count
        where = f"rows {first} to {self._position - 1}"
        if rows.num_rows != chunk.sample_count:
            self._wrong_rows(f"{where}: the table ends after {first + rows.num_rows} rows", out)
            return
        count = chunk.sample_count
        expected: dict[str, Any] = {
            "position": np.arange(first, self._position),
            "shard": np.full(count, shard),
            "chunk": np.full(count, chunk.number),
            "row": np.arange(count),
        }
        if chunk.keys:
            expected["key"] = chunk.keys
        if chunk.index is not None:
            expected |= chunk.index.columns
            expected |= _widths_and_nbytes(self._schema, chunk.index)
        for name, values in expected.items():
            if not _equal(rows.column(name), values):
                self._wrong_rows(f"{where}: column {name!r} differs from shard {shard}", out)

    def skip(self, count: int, out: VerifyReport) -> None:
        """Pass over the rows of samples that could not be read."""
        if self._damaged:
            return
        with self._telling(out):
            self._take(count)
        self._position += count

    def finish(self, out: VerifyReport) -> None:
        """Check that only samples without payload are left."""
        if self._damaged:
            return
        with self._telling(out):
            self._check_dropped(out)

    def _check_dropped(self, out: VerifyReport) -> None:
        while (batch := self._next()) is not None:
            for name in ("position", "shard", "chunk", "row"):
                if batch.column(name).null_count != batch.num_rows:
                    self._wrong_rows(f"column {name!r}: more rows than samples", out)
            for name, field in setting_columns(self._schema).items():
                found = batch.column(name)
                if field.setting == "qp":
                    wrong, expected = found.null_count != batch.num_rows, "null"
                else:
                    wrong, expected = np.any(found.to_numpy(zero_copy_only=False) != 0), "0"
                if wrong:
                    self._wrong_rows(f"{name} of a dropped sample is not {expected}", out)

    def _take(self, count: int) -> Any:
        """Return the next rows; fewer than `count` at the end of the table."""
        import pyarrow as pa

        parts = []
        while count and (batch := self._next()) is not None:
            parts.append(batch.slice(0, count))
            self._rest = batch.slice(count) if batch.num_rows > count else None
            count -= parts[-1].num_rows
        return pa.Table.from_batches(parts, self._file.schema_arrow)

    def _next(self) -> Any:
        """Return what is left of the last batch, or the next one, or None."""
        if self._rest is not None:
            rest, self._rest = self._rest, None
            return rest
        return next(self._batches, None)

    @contextmanager
    def _telling(self, out: VerifyReport) -> Iterator[None]:
        """Take note of a damaged table; it is not read any further."""
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError) as error:
            self._damaged = True
            out.add(self._path, "13.2", f"not a readable Parquet file: {error}")

    def _wrong_rows(self, message: str, out: VerifyReport) -> None:
        self._wrong += 1
        if self._wrong <= 10:
            out.add(self._path, "13.2", message)


def _widths_and_nbytes(schema: Schema, index: ChunkIndex) -> dict[str, Any]:
    values: dict[str, Any] = {
        name: index.fields[field.name].setting for name, field in setting_columns(schema).items()
    }
    nbytes = [index.fields[field.name].packed_nbytes for field in schema.fields]
    return values | {"nbytes": np.sum(nbytes, axis=0)}


def _equal(column: Any, values: Any) -> bool:
    if not isinstance(values, np.ndarray):
        return bool(column.to_pylist() == list(values))
    if column.null_count:
        return False
    found = column.to_numpy()
    same = np.array_equal(found, values, equal_nan=values.dtype.kind == "f")
    return bool(same)


def spooled(source: ByteSource, path: str, nbytes: int) -> IO[bytes]:
    """Return a local copy of a file that takes no more than its disk space.

    Args:
        source: where it is.
        path: of the file.
        nbytes: its length.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
    try:
        for piece in source.stream(path, 0, nbytes):
            file.write(piece)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file
