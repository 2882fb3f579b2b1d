"""The sample table of a snapshot, read in batches, never as a whole (spec 13.2)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dsqformat.errors import DatasetError
from dsqserver.filters import Conditions

BATCH_ROWS: Final = 4096
# Bounds of the work and of the answer of one request; a page may end early because of them.
MAX_SCAN_ROWS: Final = 1 << 20
MAX_PAGE_NBYTES: Final = 1 << 20
# What a number, a name and the punctuation around them take in JSON, roughly.
_VALUE_NBYTES: Final = 24

Row = dict[str, Any]


@dataclass(frozen=True)
class SamplePage:
    """Some rows of the table.

    Attributes:
        rows: name to value, as JSON has them.
        next_row: where the next page begins; None after the last row of the table.
    """

    rows: list[Row]
    next_row: int | None


@dataclass(frozen=True)
class _RowGroup:
    number: int
    start: int
    stop: int


class SampleTable:
    """A Parquet file with a row for each sample.

    Args:
        file: the open file; it stays the caller's.

    Raises:
        pa.ArrowException, OSError, DatasetError: it is not a Parquet file, cannot be read, or
            lacks a column; so does every method.
    """

    def __init__(self, file: BinaryIO) -> None:
        # Buffered and not read ahead: one page of a column at a time, not whole column chunks.
        self._file = pq.ParquetFile(file, pre_buffer=False, buffer_size=64 << 10)
        # Byte strings have no form in JSON.
        self.column_names = [
            field.name for field in self._file.schema_arrow if not _is_binary(field.type)
        ]

    def read_page(self, conditions: Conditions, start: int, limit: int) -> SamplePage:
        """Return rows that meet all conditions, in the order of the table.

        Args:
            conditions: what the rows must meet.
            start: row of the table to begin at.
            limit: most rows to return; a page may have fewer, or none, and not be the last.
        """
        rows: list[Row] = []
        nbytes, scanned = 0, 0
        for group in self._row_groups(start):
            if not self._may_match(group, conditions):
                continue
            if scanned >= MAX_SCAN_ROWS:
                return SamplePage(rows, group.start)
            scanned += group.stop - group.start
            begin = max(start, group.start)
            wanted = self._matching_rows(group, conditions, begin, limit - len(rows))
            for number, row in self._rows(group, wanted):
                if nbytes > MAX_PAGE_NBYTES:
                    return SamplePage(rows, number)
                rows.append(row)
                nbytes += _estimated_nbytes(row)
            if len(rows) == limit:
                after = int(wanted[-1]) + 1
                return SamplePage(rows, after if after < self._row_count else None)
        return SamplePage(rows, None)

    def count_by_shard(self, conditions: Conditions, shard_count: int) -> NDArray[np.int64]:
        """Return how many samples of each shard meet all conditions: int64, (shard_count,)."""
        counts = np.zeros(shard_count, np.int64)
        columns = _unique(["shard", *(name for c in conditions for name in c.columns)])
        for group in self._row_groups(0):
            if not self._may_match(group, conditions):
                continue
            for batch in self._batches(group, columns):
                shard = batch.column("shard").fill_null(-1).to_numpy(zero_copy_only=False)
                # Out of range: dropped samples, which are in no shard.
                mask = _mask(batch, conditions) & (shard >= 0) & (shard < shard_count)
                counts += np.bincount(shard[mask], minlength=shard_count)
        return counts

    @property
    def _row_count(self) -> int:
        return int(self._file.metadata.num_rows)

    def _row_groups(self, start: int) -> Iterator[_RowGroup]:
        """Yield the row groups that hold rows from `start` on."""
        first = 0
        for number in range(self._file.metadata.num_row_groups):
            stop = first + self._file.metadata.row_group(number).num_rows
            if stop > start:
                yield _RowGroup(number, first, stop)
            first = stop

    def _may_match(self, group: _RowGroup, conditions: Conditions) -> bool:
        """Tell from the statistics of a row group whether it can hold a matching row."""
        if not conditions:
            return True
        metadata = self._file.metadata.row_group(group.number)
        ranges: dict[str, tuple[int, int]] = {}
        for index in range(metadata.num_columns):
            column = metadata.column(index)
            statistics = column.statistics
            if statistics is not None and statistics.has_min_max and type(statistics.min) is int:
                ranges[column.path_in_schema] = (statistics.min, statistics.max)
        return all(
            any(
                name not in ranges or condition.may_hold(*ranges[name])
                for name in condition.columns
            )
            for condition in conditions
        )

    def _matching_rows(
        self, group: _RowGroup, conditions: Conditions, begin: int, limit: int
    ) -> NDArray[np.int64]:
        """Return the first `limit` matching rows of a group from `begin` on, as table rows."""
        if not conditions:
            return np.arange(begin, min(group.stop, begin + limit), dtype=np.int64)
        columns = _unique([name for condition in conditions for name in condition.columns])
        found: list[NDArray[np.int64]] = []
        row, count = group.start, 0
        for batch in self._batches(group, columns):
            if row + batch.num_rows > begin:
                rows = row + np.flatnonzero(_mask(batch, conditions))
                found.append(rows[rows >= begin])
                count += len(found[-1])
            row += batch.num_rows
            if count >= limit:
                break
        return np.concatenate(found)[:limit] if found else np.zeros(0, np.int64)

    def _rows(self, group: _RowGroup, wanted: NDArray[np.int64]) -> Iterator[tuple[int, Row]]:
        """Yield the wanted rows of a group with their numbers."""
        if not len(wanted):
            return
        row = group.start
        for batch in self._batches(group, self.column_names):
            here = wanted[(wanted >= row) & (wanted < row + batch.num_rows)]
            values = batch.take(pa.array(here - row)).to_pylist() if len(here) else []
            for number, value in zip(here.tolist(), values, strict=True):
                yield number, {name: _json_value(item) for name, item in value.items()}
            row += batch.num_rows
            if row > wanted[-1]:
                return

    def _batches(self, group: _RowGroup, columns: list[str]) -> Iterator[pa.RecordBatch]:
        for name in columns:
            if name not in self.column_names:
                raise DatasetError(f"the sample table has no column {name!r}")
        yield from self._file.iter_batches(
            BATCH_ROWS, row_groups=[group.number], columns=columns, use_threads=False
        )


def _mask(batch: pa.RecordBatch, conditions: Conditions) -> NDArray[np.bool_]:
    mask = np.ones(batch.num_rows, np.bool_)
    for condition in conditions:
        mask &= condition.mask(batch)
    return mask


def _unique(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _json_value(value: Any) -> Any:
    """Return a value that JSON has: NaN and the infinities become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _estimated_nbytes(row: Row) -> int:
    texts = sum(len(value) for value in row.values() if isinstance(value, str))
    return texts + _VALUE_NBYTES * len(row)
