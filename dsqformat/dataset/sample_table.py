"""The per-sample Parquet table that servers and analysts query (spec 13.2). Needs pyarrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.columns import Values
from dsqformat.schema import Field, Schema

if TYPE_CHECKING:
    import pyarrow as pa

MEDIA_TYPE: Final = "application/vnd.apache.parquet"
_ROWS_PER_GROUP = 16384


def require_pyarrow() -> Any:
    """Import pyarrow, or raise ImportError naming the extra that brings it."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "the sample table needs pyarrow: pip install 'dsqformat[pack]' "
            "(or write without it: table=False)"
        ) from error
    return pyarrow


def setting_columns(schema: Schema) -> dict[str, Field]:
    """Return the quantized fields by the column that says how finely: NAME.bit_width, NAME.qp."""
    return {f"{f.name}.{f.setting}": f for f in schema.fields if f.setting is not None}


def arrow_schema(schema: Schema, *, keyed: bool) -> pa.Schema:
    """Return the Arrow schema of the table of a dataset."""
    pa = require_pyarrow()
    kinds = {
        "int64": pa.int64(),
        "float32": pa.float32(),
        "float64": pa.float64(),
        "utf8": pa.string(),
        "bytes": pa.binary(),
    }
    fields = [("position", pa.int64())]
    fields += [(name, pa.int32()) for name in ("shard", "chunk", "row")]
    fields += [("key", pa.string())] if keyed else []
    fields += [(column.name, kinds[column.type]) for column in schema.columns]
    fields += [(name, pa.int32()) for name in setting_columns(schema)]
    return pa.schema([*fields, ("nbytes", pa.int64())])


class SampleTableWriter:
    """Writes the table row group by row group, in bounded memory.

    Args:
        path: of the Parquet file.
        schema: of the dataset.
        keyed: whether samples have keys.
    """

    def __init__(self, path: Path, schema: Schema, *, keyed: bool) -> None:
        self._pa = require_pyarrow()
        self._arrow = arrow_schema(schema, keyed=keyed)
        self._writer = self._pa.parquet.ParquetWriter(path, self._arrow, compression="zstd")
        self._pending: list[Any] = []
        self._rows = 0

    def append(
        self,
        place: tuple[int, int, int],
        columns: Mapping[str, Values],
        keys: Sequence[str] | None,
        settings: Mapping[str, NDArray[np.uint8]],
        nbytes: NDArray[np.int64],
    ) -> None:
        """Add the samples of one chunk.

        Args:
            place: position of the first sample, number of the shard, number of the chunk in it.
            columns: user columns.
            keys: one per sample, or None.
            settings: uint8, shape (n,), by `setting_columns`.
            nbytes: int64, shape (n,), packed bytes of each sample.
        """
        count = len(nbytes)
        position, shard, chunk = place
        values: dict[str, Any] = dict(columns) | dict(settings)
        values |= {
            "position": np.arange(position, position + count),
            "shard": np.full(count, shard),
            "chunk": np.full(count, chunk),
            "row": np.arange(count),
            "nbytes": nbytes,
        }
        if keys is not None:
            values["key"] = list(keys)
        arrays = [
            self._pa.array(values[name]).cast(self._arrow.field(name).type)
            for name in self._arrow.names
        ]
        self.append_batch(self._pa.record_batch(arrays, schema=self._arrow))

    def append_batch(self, batch: Any) -> None:
        """Add rows of another table of the same dataset (a pyarrow RecordBatch)."""
        self._pending.append(batch)
        self._rows += batch.num_rows
        if self._rows >= _ROWS_PER_GROUP:
            self._flush()

    def append_dropped(
        self, columns: Mapping[str, Values], keys: Sequence[str] | None, count: int
    ) -> None:
        """Add n samples that have no payload: their position and place are null."""
        arrays = []
        for name in self._arrow.names:
            kind = self._arrow.field(name).type
            if name in columns:
                arrays.append(self._pa.array(columns[name]).cast(kind))
            elif name == "key":
                arrays.append(self._pa.array(list(keys or ()), kind))
            elif name.endswith(".bit_width") or name == "nbytes":
                arrays.append(self._pa.array(np.zeros(count, "i8")).cast(kind))
            else:
                arrays.append(self._pa.nulls(count, kind))
        self.append_batch(self._pa.record_batch(arrays, schema=self._arrow))

    def close(self) -> None:
        """Write what is pending and finish the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(self._pa.Table.from_batches(self._pending, self._arrow))
        self._pending, self._rows = [], 0
