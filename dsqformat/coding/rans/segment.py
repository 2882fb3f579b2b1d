"""One layer of one field of a chunk as rANS streams and back."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat import kernels
from dsqformat.coding.rans.geometry import Grid, grid_of
from dsqformat.coding.rans.layer_codes import layer_codes, scratch, starts
from dsqformat.coding.rans.masking import (
    ALL_KEPT,
    PatchMasks,
    gathered,
    kept_counts,
    spread_out,
)
from dsqformat.coding.rans.model import PixelModel
from dsqformat.coding.streams import pack_lengths, parse_lengths
from dsqformat.errors import CorruptShardError
from dsqformat.kernels.plain_layout import LANES

MAX_SAMPLES: Final = 4096
# As for zstd frames: no block of the format expands further (spec 2).
MAX_EXPANSION: Final = 32768
# Streams of about this size cost 0.2 % in lengths and lost bits.
STREAM_NBYTES: Final = 1024
# Streams decoded in step need room for some rows each, 37 to 48 bytes for a value of the widest
# sample; where rows have more values than this, streams are decoded one by one.
WIDE_ROW: Final = 1 << 14


def encode_layer(
    model: PixelModel,
    codes: NDArray[np.uint16],
    shape: NDArray[np.int64],
    layer_width: NDArray[np.uint8],
    layer: int,
    samples_per_stream: int,
    masks: PatchMasks | None = None,
) -> bytes:
    """Code one layer of the samples of a chunk.

    Args:
        model: of the field.
        codes: uint16, all samples after one another, complete codes; of masked samples those that
            are kept.
        shape: int64, shape (n, rank), dimensions of each sample, 1 to 4096 samples.
        layer_width: uint8, shape (n, layers), bits of each layer.
        layer: which one.
        samples_per_stream: R, 1 to 4096.
        masks: what is left out; None: nothing.

    Returns:
        The data of coding 2, without the coding byte.

    Raises:
        ValueError: the model cannot code these samples, or the arguments do not fit together;
            store the segment in another coding.
    """
    grid = grid_of(shape)
    kept = ALL_KEPT if masks is None else masks.kept
    whole = spread_out(codes, kept, grid, layer_width.sum(axis=1))
    source = layer_codes(whole, grid, layer_width, layer, kept)
    config = _configs(model, source.grid, layer_width, layer)
    if not 1 <= samples_per_stream <= MAX_SAMPLES or not 1 <= len(config) <= MAX_SAMPLES:
        raise ValueError(f"{len(config)} samples, {samples_per_stream} per stream: not 1 to 4096")
    tables = model.kernel_tables
    coded = np.where(config >= 0, kept_counts(grid, kept), 0)
    values = int(coded.sum())
    stream_end = np.cumsum(np.add.reduceat(coded, np.arange(0, len(coded), samples_per_stream)))
    contexts, symbols = np.empty(values, "i4"), np.empty(values, "u1")
    extras = np.empty(values, "u2")
    kernels.trace(
        source.codes,
        source.first,
        source.grid.heights,
        source.grid.widths,
        config,
        source.grid.channels,
        tables.numbers,
        tables.borders,
        tables.weights,
        tables.bias,
        tables.energy,
        tables.mixes,
        tables.constants,
        tables.levels,
        *scratch(source.grid, 1),
        contexts,
        symbols,
        extras,
        np.empty((0, 1), "i4"),
        1,
        kept,
    )
    out = np.empty(5 * values + 4 * len(stream_end) + 8, "u1")
    lengths = np.empty(len(stream_end), "i8")
    begin = kernels.encode_streams(
        contexts, symbols, extras, stream_end, tables.table_of, tables.ranges, out, lengths
    )
    if begin < 0:
        raise ValueError(f"value {-1 - begin}: the model has no room for its symbol")
    data: bytes = pack_lengths(samples_per_stream, lengths) + out[begin:].tobytes()
    # As the reader counts them, which looks at samples without bits in this layer, too.
    if len(source.codes) > MAX_EXPANSION * len(data):
        raise ValueError(
            f"{len(source.codes)} values in {len(data)} bytes: denser than the format allows"
        )
    return data


def decode_layer(
    model: PixelModel,
    data: bytes | memoryview,
    coarse: NDArray[np.uint16] | None,
    shape: NDArray[np.int64],
    layer_width: NDArray[np.uint8],
    layer: int,
    what: str = "layer",
    *,
    masks: PatchMasks | None = None,
    threads: int = 1,
) -> NDArray[np.uint16]:
    """Undo `encode_layer`.

    Args:
        model: of the field.
        data: untrusted bytes, as `encode_layer` returned them.
        coarse: uint16, what the layers before say of each code, their bits only; None for layer 0.
            Their range is checked.
        shape: int64, shape (n, rank), dimensions of each sample.
        layer_width: uint8, shape (n, layers), bits of each layer.
        layer: which one.
        what: name of the layer for error messages.
        masks: what is left out; None: nothing.
        threads: the streams are divided among so many threads; compiled kernels run in parallel.

    Returns:
        uint16, the bits of all layers up to this one of each code.

    Raises:
        CorruptShardError: the bytes contradict spec 9.3.
        ValueError: the arguments do not fit together.
    """
    try:
        grid = grid_of(shape)
        config = _configs(model, grid, layer_width, layer)
    except ValueError as error:
        raise CorruptShardError(f"{what}: {error}") from error
    counts = grid.counts
    values = int(counts.sum())
    if values > MAX_EXPANSION * len(data):
        raise CorruptShardError(f"{what}: {values} values cannot come from {len(data)} bytes")
    per_stream, ends, streams = parse_lengths(data, len(config), what)
    kept = ALL_KEPT if masks is None else masks.kept
    codes = _checked_coarse(coarse, kept_counts(grid, kept), layer_width, layer)
    if coarse is None:
        codes = np.zeros(values, "u2")
    else:
        codes = spread_out(codes, kept, grid, layer_width[:, :layer].sum(axis=1))
    _ = model.kernel_tables  # made here, before threads would each make them
    # Two bytes more, for reading ahead.
    streams = np.concatenate([streams, np.zeros(2, "u1")])
    job = _Job(model, streams, ends, per_stream, codes, starts(counts), grid, config, kept)
    parts = job.parts(threads)
    if len(parts) == 1:
        fault = job.run(parts[0])
    else:
        with ThreadPoolExecutor(len(parts)) as pool:
            fault = max(pool.map(job.run, parts))
    if fault >= 0:
        raise CorruptShardError(f"{what}: the stream of sample {fault} does not decode")
    return gathered(codes, kept, grid.channels)


@dataclass(frozen=True)
class _Job:
    """Streams to decode; the fields are arguments of `kernels.decode_streams`."""

    model: PixelModel
    streams: NDArray[np.uint8]
    ends: NDArray[np.int64]
    per_stream: int
    codes: NDArray[np.uint16]
    first: NDArray[np.int64]
    grid: Grid
    config: NDArray[np.int32]
    kept: NDArray[np.uint8]

    def parts(self, threads: int) -> list[slice]:
        """Divide the streams into parts of about as many bytes, at most one per thread."""
        total = int(self.ends[-1]) if len(self.ends) else 0
        marks = np.searchsorted(
            self.ends, total * np.arange(1, threads) // max(threads, 1), "right"
        )
        borders = sorted({0, len(self.ends), *marks.tolist()})
        return [slice(a, b) for a, b in itertools.pairwise(borders)] or [slice(0, 0)]

    def run(self, part: slice) -> int:
        """Decode some streams; return -1 or a corrupt sample."""
        rows = slice(part.start * self.per_stream, part.stop * self.per_stream)
        if int(self.grid.widths[rows].max(initial=0)) * self.grid.channels <= WIDE_ROW:
            return self._run_together(part)
        for stream in range(part.start, part.stop):
            fault = self._run_together(slice(stream, stream + 1))
            if fault >= 0:
                return fault
        return -1

    def _run_together(self, part: slice) -> int:
        begin = int(self.ends[part.start - 1]) if part.start else 0
        rows = slice(part.start * self.per_stream, part.stop * self.per_stream)
        grid = self.grid.rows(rows)
        tables = self.model.kernel_tables
        fault = kernels.decode_streams(
            self.streams[begin : (int(self.ends[part.stop - 1]) if part.stop else 0) + 2],
            self.ends[part] - begin,
            self.per_stream,
            self.codes,
            self.first[rows],
            grid.heights,
            grid.widths,
            self.config[rows],
            grid.channels,
            tables.numbers,
            tables.borders,
            tables.weights,
            tables.bias,
            tables.energy,
            tables.mixes,
            tables.constants,
            tables.levels,
            tables.table_of,
            tables.nearest,
            tables.starts,
            tables.ranges,
            np.empty(3 * LANES, "i8"),
            *scratch(grid, min(LANES, part.stop - part.start)),
            self.kept,
        )
        return fault if fault < 0 else fault + rows.start


def samples_per_stream(nbytes: int, samples: int) -> int:
    """Return an R that makes streams of about 1 KiB.

    Args:
        nbytes: expected bytes of the segment.
        samples: its samples, at least 1.
    """
    return max(1, min(MAX_SAMPLES, STREAM_NBYTES * samples // max(nbytes, 1)))


def _configs(
    model: PixelModel, grid: Grid, layer_width: NDArray[np.uint8], layer: int
) -> NDArray[np.int32]:
    """Return the configuration of each sample, -1 where it has no bits in the layer."""
    if layer_width.ndim != 2 or len(layer_width) != len(grid):
        raise ValueError(f"layer widths of shape {layer_width.shape} for {len(grid)} samples")
    if not 0 <= layer < layer_width.shape[1]:
        raise ValueError(f"layer {layer} of {layer_width.shape[1]}")
    if grid.channels != model.channels:
        raise ValueError(f"{grid.channels} channels, the model has {model.channels}")
    above = layer_width[:, :layer].sum(axis=1, dtype="i4")
    bits = layer_width[:, layer].astype("i4")
    key = above << 8 | bits
    config = np.full(len(key), -1, "i4")
    for pair in np.unique(key[bits > 0]).tolist():
        number = model.config_of.get((pair >> 8, pair & 255))
        if number is None:
            raise ValueError(f"the model has no layer of {pair & 255} bits below {pair >> 8}")
        config[key == pair] = number
    return config


def _checked_coarse(
    coarse: NDArray[np.uint16] | None,
    counts: NDArray[np.int64],
    layer_width: NDArray[np.uint8],
    layer: int,
) -> NDArray[np.uint16]:
    """Return a copy whose values have the bits of the layers before and no others."""
    values = int(counts.sum())
    above = layer_width[:, :layer].sum(axis=1, dtype="i8")
    if coarse is None:
        if above.any():
            raise ValueError(f"layer {layer} needs what the layers before say")
        return np.zeros(values, "u2")
    if coarse.shape != (values,) or coarse.dtype != np.uint16:
        raise ValueError(f"coarse codes {coarse.dtype} {coarse.shape}, expected uint16 ({values},)")
    # As narrow as the codes, which would otherwise be widened one by one.
    top = ((1 << above) - 1).astype("u2")
    limit: Any = top[0] if len(top) and (top == top[0]).all() else np.repeat(top, counts)
    if (coarse > limit).any():
        raise ValueError("a coarse code has more bits than the layers before")
    return coarse.copy()
