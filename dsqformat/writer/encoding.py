"""From spilled samples to encoded chunks, on all cores."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsqformat import wire
from dsqformat.chunk import (
    ChunkInput,
    CodingOptions,
    EncodedChunk,
    FieldModel,
    FieldTuning,
    decode_chunk,
    encode_chunk,
    fit_models,
)
from dsqformat.coding.columns import Values
from dsqformat.schema import Schema
from dsqformat.writer.spill import SampleSpill
from dsqformat.writer.storage_options import StorageOptions

# A chunk never holds more than this many times its target in packed bytes, however well the codes
# compress: the reader has to expand it.
MAX_EXPANSION: Final = 16
# Packed bytes of the samples that models are fitted to; blocks have more contexts to fill.
MODEL_SAMPLE_NBYTES: Final = 3 << 20
BLOCK_SAMPLE_NBYTES: Final = 8 << 20
MAX_MODEL_SHARE: Final = 0.02
LEAST_MODEL_NBYTES: Final = 256
TYPICAL_MODEL_NBYTES: Final = 1500
_PIECE: Final = 1 << 18
_WORKERS: Final = max(1, min(8, os.cpu_count() or 1))


@dataclass(frozen=True)
class Fineness:
    """How finely samples are quantized, where it is not as they were given.

    Attributes:
        settings: by field name, qp or bit width of every sample of a spill: uint8, shape (n,).
        tuning: by field name, how the encoder works.
    """

    settings: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    tuning: Mapping[str, FieldTuning] = field(default_factory=dict)


@dataclass(frozen=True)
class CodedChunk:
    """A chunk, and what else is to be known of its samples.

    Attributes:
        encoded: its segments.
        rows: numbers of the samples in the spill.
        columns: of the samples.
        keys: of the samples, or None.
        shapes: by name of the fields of quantizer patch, int64, shape (n, dimensions).
        squared_error: of what was measured, over all its values from 0 to 255.
        value_count: values that were measured.
    """

    encoded: EncodedChunk
    rows: NDArray[np.int64]
    columns: Mapping[str, Values]
    keys: list[str] | None
    shapes: Mapping[str, NDArray[np.int64]]
    squared_error: float = 0.0
    value_count: int = 0


class ChunkEncoder:
    """Fits models to a bounded sample, cuts samples into chunks, and encodes these.

    Memory does not depend on the number of samples: models are fitted to at most
    BLOCK_SAMPLE_NBYTES (with quantizer block) or MODEL_SAMPLE_NBYTES of packed codes, spread
    evenly over all samples, of which quantizer block looks at FIT_VALUES values and quantizer
    patch at so many patches; besides, one chunk per core is under way.

    Args:
        schema: of the samples.
        options: layout of the bytes.
        tuning: how the encoder works, by field name.
        measured: names of uint8 fields whose chunks are decoded again for their error.
    """

    def __init__(
        self,
        schema: Schema,
        options: StorageOptions,
        tuning: Mapping[str, FieldTuning],
        measured: Sequence[str] = (),
    ) -> None:
        self.schema, self.options = schema, options
        self.models: dict[str, FieldModel] | None = None
        # Coded bytes per packed byte; None until a chunk has been encoded.
        self.ratio: float | None = None
        self._tuning, self._measured = dict(tuning), tuple(measured)
        self._patches = {field.name: field.patch for field in schema.fields}
        self._raw = {field.name: field.quantizer == "raw" for field in schema.fields}

    def fit(
        self,
        spill: SampleSpill,
        order: NDArray[np.int64],
        fineness: Fineness | None = None,
        *,
        last: bool = True,
        steady: bool = False,
    ) -> None:
        """Fit models to samples from all over the order, a bounded number.

        Args:
            spill: the samples.
            order: numbers of those to be encoded.
            fineness: how finely, if not as given.
            last: whether these are all samples there will be.
            steady: whether there are models of pixels must not depend on how fine the codes are,
                so that bytes rise evenly with fineness.
        """
        self.models = {}
        if not len(order):
            return
        fineness = fineness or Fineness()
        packed = int(self._packed_nbytes(spill, order, fineness).sum())
        # A model is paid once a shard; what is too small to earn it back does without.
        worth: int | None = None
        if self.options.coding == "auto":
            worth = int(MAX_MODEL_SHARE * min(packed, self.options.shard_nbytes))
            worth = worth if worth >= LEAST_MODEL_NBYTES else 0
            if steady:
                most = min(spill.nbytes, self.options.shard_nbytes)
                worth = None if MAX_MODEL_SHARE * most >= TYPICAL_MODEL_NBYTES else 0
        quantizers = {field.quantizer for field in self.schema.fields}
        if not quantizers & {"patch", "block"} and (
            worth == 0 or self.options.coding not in ("auto", "rans")
        ):
            return
        most = BLOCK_SAMPLE_NBYTES if "block" in quantizers else MODEL_SAMPLE_NBYTES
        count = max(1, min(len(order), most * len(order) // max(1, packed)))
        self.models = fit_models(
            self.schema,
            self._take(spill, spread(order, count), fineness),
            self._coding(fineness),
            complete=last and count == len(order),
            worth_nbytes=worth,
        )

    def chunks(
        self,
        spill: SampleSpill,
        order: NDArray[np.int64],
        fineness: Fineness | None = None,
        *,
        last: bool = True,
    ) -> Iterator[CodedChunk]:
        """Yield samples in an order as chunks; unless it is the last call, a rest is left over.

        Args:
            spill: the samples.
            order: numbers of those to be encoded.
            fineness: how finely, if not as given.
            last: whether these are all samples there will be.
        """
        fineness = fineness or Fineness()
        if self.models is None:
            self.fit(spill, order, fineness, last=last)
        sizes = self._packed_nbytes(spill, order, fineness)
        pending: deque[Future[CodedChunk]] = deque()
        with ThreadPoolExecutor(_WORKERS) as pool:
            for rows in self._cut(order, sizes, last=last):
                samples = self._take(spill, rows, fineness)
                keys = spill.take_keys(rows)
                if self.ratio is None:
                    coded = self._encode(samples, rows, keys, fineness)
                    self.learn_ratio(coded.encoded.nbytes, coded.encoded.packed_nbytes)
                    yield coded
                    continue
                pending.append(pool.submit(self._encode, samples, rows, keys, fineness))
                if len(pending) > _WORKERS:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def learn_ratio(self, nbytes: int, packed_nbytes: NDArray[np.int64]) -> None:
        """Take note of what some samples take, so that chunks get their size."""
        packed = max(1, int(packed_nbytes.sum()))
        self.ratio = min(1.0, max(1 / MAX_EXPANSION, nbytes / packed))

    def _packed_nbytes(
        self, spill: SampleSpill, order: NDArray[np.int64], fineness: Fineness
    ) -> NDArray[np.int64]:
        widths = {
            field.name: fineness.settings[field.name]
            for field in self.schema.fields
            if field.setting == "bit_width" and field.name in fineness.settings
        }
        return spill.packed_nbytes(widths)[order]

    def _take(self, spill: SampleSpill, rows: NDArray[np.int64], fineness: Fineness) -> ChunkInput:
        return spill.take(rows, self._patches, self._raw, fineness.settings)

    def _coding(self, fineness: Fineness) -> CodingOptions:
        tuning = self._tuning | dict(fineness.tuning)
        return CodingOptions(self.options.coding, self.options.zstd_level, tuning)

    def _cut(
        self, order: NDArray[np.int64], sizes: NDArray[np.int64], *, last: bool
    ) -> Iterator[NDArray[np.int64]]:
        """Yield the samples of one chunk after the other, of about the same coded size."""
        ends = np.cumsum(sizes)
        start = 0
        while start < len(order):
            target = self.options.chunk_nbytes / (self.ratio or 1.0)
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + target, side="right"))
            stop = min(max(stop, start + 1), start + wire.MAX_CHUNK_SAMPLES)
            if stop >= len(order):
                if not last:
                    return
                stop = len(order)
            yield order[start:stop]
            start = stop

    def _encode(
        self,
        samples: ChunkInput,
        rows: NDArray[np.int64],
        keys: list[str] | None,
        fineness: Fineness,
    ) -> CodedChunk:
        encoded = encode_chunk(self.schema, samples, self._coding(fineness), self.models)
        error, count = self._squared_error(samples, encoded)
        shapes = {
            field.name: samples.fields[field.name].shapes(len(field.shape))
            for field in self.schema.fields
            if field.quantizer == "patch"
        }
        return CodedChunk(encoded, rows, samples.columns, keys, shapes, error, count)

    def _squared_error(self, samples: ChunkInput, encoded: EncodedChunk) -> tuple[float, int]:
        """Decode a chunk as a reader does, and compare it with what went in."""
        if not self._measured:
            return 0.0, 0
        decoded = decode_chunk(
            self.schema,
            encoded.sample_count,
            encoded.segments,
            fields=self._measured,
            output="source",
            models=self.models,
        )
        error, count = 0, 0
        for name in self._measured:
            given = samples.fields[name].values
            for before, after in zip(given, decoded.fields[name], strict=True):
                error += squared_error(before, after)
                count += before.size
        return float(error), count


def squared_error(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> int:
    """Return the sum of squared differences of two samples of one shape, exactly."""
    error = 0
    a, b = before.ravel(), after.ravel()
    for start in range(0, a.size, _PIECE):
        difference = a[start : start + _PIECE].astype("f4") - b[start : start + _PIECE]
        difference *= difference
        error += int(difference.sum(dtype="f8"))
    return error


def spread(order: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return `count` of the numbers, evenly spread, in their order."""
    return order[np.arange(count) * len(order) // max(1, count)]
