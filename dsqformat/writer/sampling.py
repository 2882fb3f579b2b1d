"""What a level costs, measured on a bounded sample of a dataset."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk import FieldModel
from dsqformat.shard.writer import ShardWriter
from dsqformat.writer.encoding import ChunkEncoder, spread
from dsqformat.writer.ladder import Ladder
from dsqformat.writer.publication import SnapshotBuilder
from dsqformat.writer.spill import SampleSpill


@dataclass(frozen=True)
class SampleSize:
    """How many samples are measured.

    Attributes:
        nbytes: values of so many samples; of large pictures at least `least` samples,
        least: samples,
        most_nbytes: as long as their values are no more than this.
        most: of tiny pictures so many samples.
    """

    nbytes: int
    least: int
    most_nbytes: int
    most: int

    def count(self, mean_nbytes: int, sample_count: int) -> int:
        """Return how many of the samples to take."""
        mean = max(1, mean_nbytes)
        wanted = min(max(self.nbytes // mean, self.least), self.most_nbytes // mean)
        return min(max(1, wanted), self.most, sample_count)


# A first look, with models of its own; then a mean within some two per cent, with the models that
# the whole dataset will have.
PROBE: Final = SampleSize(384 << 10, 8, 4 << 20, 256)
SAMPLE: Final = SampleSize(6 << 20, 64, 24 << 20, 4096)
# What the snapshot says of a shard.
_SHARD_ENTRY_NBYTES: Final = 330


class SampleMeasure:
    """Encodes a bounded sample at one level after the other.

    Args:
        builder: of the dataset.
        encoder: to encode the sample with.
        spill: the samples.
        order: numbers of those to be encoded.
        ladder: what a level is.
        seed: of the pattern of mixed settings.
        size: of the sample.
        models_at: returns the models of a level; None: they are fitted to the sample.
    """

    def __init__(
        self,
        builder: SnapshotBuilder,
        encoder: ChunkEncoder,
        spill: SampleSpill,
        order: NDArray[np.int64],
        ladder: Ladder,
        seed: int,
        size: SampleSize,
        models_at: Callable[[float], dict[str, FieldModel]] | None = None,
    ) -> None:
        self._builder, self._encoder, self._spill = builder, encoder, spill
        self._ladder, self._seed = ladder, seed
        nbytes = spill.nbytes // max(1, len(spill))
        self._rows = spread(order, size.count(nbytes, len(order)))
        self.complete = len(self._rows) == len(order)
        self._models_at = models_at or self._fitted
        values = spill.value_counts()
        self._scale = float(values[order].sum()) / max(1.0, float(values[self._rows].sum()))
        self._models: list[tuple[float, dict[str, FieldModel]]] = []

    def nbytes(self, level: float, other_nbytes: int) -> float:
        """Return about how many bytes a level takes.

        Args:
            level: of the ladder.
            other_nbytes: of everything outside shards.
        """
        self._encode(level)
        shard = ShardWriter(
            self._builder.schema,
            self._builder.store.blobs,
            block_nbytes=self._builder.options.block_nbytes,
            models=self._encoder.models,
        )
        for chunk in self._chunks:
            shard.append(chunk.encoded, chunk.keys)
        measured = shard.finish(io.BytesIO()).nbytes
        fixed = self._empty_shard_nbytes()
        varying = (measured - fixed) * self._scale
        shards = 1 + int(varying / self._builder.options.shard_nbytes)
        return varying + shards * (fixed + _SHARD_ENTRY_NBYTES) + other_nbytes

    def squared_error(self, level: float) -> float:
        """Return about what the sum of squared errors is at a level."""
        self._encode(level)
        return self._scale * sum(chunk.squared_error for chunk in self._chunks)

    @property
    def ratio(self) -> float | None:
        """Coded bytes per packed byte of the level encoded last."""
        return self._encoder.ratio

    def _encode(self, level: float) -> None:
        fineness = self._ladder.fineness(level, self._rows, len(self._spill), self._seed)
        self._encoder.models = self._models_at(level)
        # Chunks of a few samples, so that all cores have work.
        self._encoder.ratio = self._encoder.ratio or 1.0
        self._chunks = list(self._encoder.chunks(self._spill, self._rows, fineness))
        nbytes = sum(chunk.encoded.nbytes for chunk in self._chunks)
        packed = np.concatenate([chunk.encoded.packed_nbytes for chunk in self._chunks])
        self._encoder.learn_ratio(nbytes, packed)

    def _fitted(self, level: float) -> dict[str, FieldModel]:
        """Return models fitted to the sample, those of a level nearby if there are some."""
        for at, models in self._models:
            if self._ladder.near(level, at):
                return models
        fineness = self._ladder.fineness(level, self._rows, len(self._spill), self._seed)
        self._encoder.fit(self._spill, self._rows, fineness, last=False, steady=True)
        self._models.append((level, self._encoder.models or {}))
        return self._models[-1][1]

    def _empty_shard_nbytes(self) -> int:
        shard = ShardWriter(
            self._builder.schema,
            self._builder.store.blobs,
            block_nbytes=self._builder.options.block_nbytes,
            models=self._encoder.models,
        )
        return shard.finish(io.BytesIO()).nbytes
