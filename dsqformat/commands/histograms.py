"""How many samples have which bit width or qp, and which label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk import ChunkIndex, parse_index
from dsqformat.dataset import Dataset
from dsqformat.dataset.sample_table import setting_columns
from dsqformat.dataset.snapshot import ROLE_SAMPLES
from dsqformat.errors import DsqError
from dsqformat.schema import Schema
from dsqformat.shard import ShardReader
from dsqformat.sources.sample_source import LABEL_COLUMN


@dataclass
class Histograms:
    """Counts of samples.

    Attributes:
        settings: by column (NAME.bit_width, NAME.qp), samples by its value; those without payload
            at bit width 0.
        label: samples by the value of `label`; empty where there is no such int64 column.
    """

    settings: dict[str, Counter[int]] = field(default_factory=dict)
    label: Counter[int] = field(default_factory=Counter)

    def add_settings(self, name: str, values: NDArray[Any]) -> None:
        """Count the bit widths or qps of some samples of a field."""
        self.settings.setdefault(name, Counter()).update(_counts(values))

    def add_labels(self, labels: NDArray[Any]) -> None:
        """Count the labels of some samples."""
        self.label.update(_counts(labels))


def _counts(values: NDArray[Any]) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return {int(value): int(count) for value, count in zip(found, counts, strict=True)}


def count_samples(dataset: Dataset) -> Histograms:
    """Count bit widths, qps and labels, by the sample table or else by the index segments."""
    blob = dataset.snapshot.blob(ROLE_SAMPLES)
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        blob = None
    if blob is not None:
        return _from_table(dataset.source.read(blob.path, 0, blob.nbytes), dataset.schema)
    histograms = Histograms()
    for number in range(dataset.snapshot.shard_count):
        add_shard(histograms, dataset.shard(number))
    return histograms


def add_shard(histograms: Histograms, shard: ShardReader) -> None:
    """Count the samples of one shard by its index segments."""
    for index in read_indices(shard):
        for name, quantized in setting_columns(shard.schema).items():
            values = index.fields[quantized.name].setting
            if values is not None:
                histograms.add_settings(name, values)
        if _has_labels(shard.schema):
            histograms.add_labels(np.asarray(index.columns[LABEL_COLUMN]))


def read_indices(shard: ShardReader) -> Iterator[ChunkIndex]:
    """Yield the index of each chunk of a shard; reads nothing but index segments.

    Raises:
        CorruptShardError: an index segment contradicts its checksums or the spec.
    """
    for chunk in range(len(shard.chunks)):
        start, _ = shard.chunk_range(chunk)
        nbytes = int(shard.chunks.segment_nbytes[chunk, 0])
        data = shard.source.read(shard.path, start, start + nbytes)
        count = int(shard.chunks.sample_count[chunk])
        try:
            shard.chunks.check_segment(chunk, 0, data)
            yield parse_index(shard.schema, data, count, f"chunk {chunk}: index")
        except DsqError as error:
            raise error.located(f"shard {shard.path}", shard=shard.path) from error


def _from_table(data: bytes, schema: Schema) -> Histograms:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(setting_columns(schema))
    labels = [LABEL_COLUMN] if _has_labels(schema) else []
    histograms = Histograms()
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        for batch in file.iter_batches(columns=[*names, *labels]):
            for name in names:
                values = batch.column(name).drop_null().to_numpy(zero_copy_only=False)
                histograms.add_settings(name, values)
            for column in labels:
                histograms.add_labels(batch.column(column).to_numpy(zero_copy_only=False))
    return histograms


def _has_labels(schema: Schema) -> bool:
    return any(c.name == LABEL_COLUMN and c.type == "int64" for c in schema.columns)
