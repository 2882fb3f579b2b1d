"""From layer streams to pictures (SPEC 4 to 9)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.colour import channel_shifts
from dsqformat.coding.block.layout import MAX_QP, MAX_SIDE
from dsqformat.coding.block.model import BlockModel
from dsqformat.coding.block.plain_decoding import decode_plain
from dsqformat.coding.block.workspace import BASIS, SYNTAX, decoder_scratch, neighbourhood, padded
from dsqformat.errors import CorruptShardError
from dsqformat.kernels import block_kernel

Output = Literal["uint8", "float32"]

_kernel: Any = block_kernel("block_decode")


def decode(
    model: BlockModel,
    layer_streams: Sequence[Sequence[bytes]],
    shapes: NDArray[np.integer[Any]],
    qps: NDArray[np.integer[Any]],
    *,
    samples_per_stream: int = 32,
    output: Output = "uint8",
    threads: int = 1,
) -> list[NDArray[Any]]:
    """Decode the first layers of some samples, given as separate streams.

    Args:
        model: of the shard.
        layer_streams: the streams of layer 0, then of as many further layers as there are.
        shapes: shape (n, 2), heights and widths.
        qps: shape (n,).
        samples_per_stream: samples in each stream; the last may have fewer.
        output: `uint8`, or `float32` with 1 for 255, not rounded to whole levels.
        threads: how many threads share the streams.

    Returns:
        One array per sample, shape (height, width, planes); all share one buffer.

    Raises:
        CorruptShardError: a stream contradicts the syntax, or counts do not fit.
    """
    nbytes = [np.array([len(s) for s in streams], "i8") for streams in layer_streams]
    if len({len(n) for n in nbytes}) != 1:
        raise CorruptShardError(f"block streams: {[len(n) for n in nbytes]} in layers, not alike")
    data = np.frombuffer(b"".join(b"".join(streams) for streams in layer_streams), "u1")
    ends = np.cumsum(np.concatenate(nbytes)).reshape(len(nbytes), -1)
    starts = ends - np.array(nbytes)
    flat = decode_ranges(
        model, data, starts, ends, shapes, qps,
        samples_per_stream=samples_per_stream, output=output, threads=threads,
    )  # fmt: skip
    sides = np.asarray(shapes).tolist()
    bounds = np.cumsum([height * width * model.planes for height, width in sides])[:-1]
    parts = np.split(flat, bounds) if sides else []
    return [p.reshape(*shape, model.planes) for p, shape in zip(parts, sides, strict=True)]


def decode_ranges(
    model: BlockModel,
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    shapes: NDArray[np.integer[Any]],
    qps: NDArray[np.integer[Any]],
    *,
    samples_per_stream: int,
    output: Output = "uint8",
    threads: int = 1,
) -> NDArray[Any]:
    """Decode the first layers of some samples from streams that lie in one buffer.

    Args:
        model: of the shard.
        data: uint8, shape (nbytes,), the bytes of all streams.
        starts: int64, shape (layers, streams), where each stream begins in `data`; one row for
            each layer that is read.
        ends: int64, likewise, where it ends.
        shapes: shape (n, 2), heights and widths.
        qps: shape (n,).
        samples_per_stream: samples in each stream; the last may have fewer.
        output: `uint8`, or `float32` with 1 for 255, not rounded to whole levels.
        threads: how many threads share the streams; without compiled kernels one does all.

    Returns:
        uint8 or float32, one dimension: the values of all samples one after another, each in C
        order of (height, width, planes).

    Raises:
        CorruptShardError: a stream contradicts the syntax, or counts do not fit.
        ValueError: arrays that do not fit each other.
    """
    sides: NDArray[np.int32] = np.ascontiguousarray(shapes, "i4")
    levels: NDArray[np.int64] = np.ascontiguousarray(qps, "i8")
    starts, ends = np.ascontiguousarray(starts, "i8"), np.ascontiguousarray(ends, "i8")
    _check(model, data, starts, ends, sides, levels, samples_per_stream)
    if not len(sides):
        return np.empty(0, "u1" if output == "uint8" else "f4")
    if _kernel is None:
        return decode_plain(model, data, starts, ends, sides, levels, samples_per_stream, output)
    return _decode_compiled(
        model, data, starts, ends, sides, levels, samples_per_stream, output, threads
    )


def _decode_compiled(
    model: BlockModel,
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    sides: NDArray[np.int32],
    levels: NDArray[np.int64],
    samples_per_stream: int,
    output: Output,
    threads: int,
) -> NDArray[Any]:
    n, layers, planes = len(sides), len(starts), model.planes
    counts = sides[:, 0].astype("i8") * sides[:, 1] * planes
    targets = np.cumsum(counts) - counts
    out: NDArray[Any] = np.empty(int(counts.sum()), "u1" if output == "uint8" else "f4")
    firsts = np.minimum(np.arange(starts.shape[1] + 1, dtype="i8") * samples_per_stream, n)
    common = (
        model.band_steps(levels, len(model.layers) - layers),
        np.array(model.offsets[layers - 1], "i4"), model.coder_tables(layers), planes,
        model.smallest, model.largest, model.rgb, channel_shifts(model.channel_offsets),
    )  # fmt: skip
    width = padded(int(sides[:, 1].max()), model.smallest)
    octets: NDArray[np.uint8] = out if output == "uint8" else np.empty(0, "u1")
    floats: NDArray[np.float32] = out if output == "float32" else np.empty(0, "f4")
    data = data if len(data) else np.zeros(1, "u1")  # the kernel wants an address

    def work(first: int, stop: int) -> int:
        part = slice(first, stop)
        fault: int = _kernel.decode_streams(
            data, np.ascontiguousarray(starts[:, part]), np.ascontiguousarray(ends[:, part]),
            firsts[first : stop + 1], sides, targets, *common, *SYNTAX, BASIS,
            *neighbourhood(width, planes, layers), *decoder_scratch(width, planes),
            output == "float32", octets, floats,
        )  # fmt: skip
        return first + fault if fault >= 0 else -1

    fault = _share(work, starts.shape[1], threads)
    if fault >= 0:
        raise CorruptShardError(
            f"block stream {fault}: its symbols contradict the syntax or do not end with it; "
            "fetch the shard again"
        )
    return out


def _share(work: Any, streams: int, threads: int) -> int:
    """Run `work` over ranges of streams; return the first fault or -1."""
    threads = max(1, min(threads, streams))
    if threads == 1:
        return int(work(0, streams))
    bounds = [streams * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        faults = list(pool.map(work, bounds[:-1], bounds[1:]))
    return next((fault for fault in faults if fault >= 0), -1)


def _check(
    model: BlockModel,
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    shapes: NDArray[np.int32],
    qps: NDArray[np.int64],
    samples_per_stream: int,
) -> None:
    """Check everything the kernel relies on."""
    n = len(shapes)
    if shapes.shape != (n, 2) or qps.shape != (n,) or starts.ndim != 2:
        raise ValueError(f"shapes {shapes.shape}, qps {qps.shape}, starts {starts.shape}")
    if samples_per_stream < 1 or starts.shape != ends.shape:
        raise ValueError(f"{samples_per_stream} samples per stream, starts unlike ends")
    streams = -(-n // samples_per_stream)
    if not 1 <= len(starts) <= len(model.layers) or starts.shape[1] != streams:
        raise CorruptShardError(
            f"block streams: {starts.shape[0]} layers of {starts.shape[1]}, expected at most "
            f"{len(model.layers)} of {streams}"
        )
    if not n:
        return
    if shapes.min() < 1 or shapes.max() > MAX_SIDE:
        raise CorruptShardError(
            f"block pictures: sides {shapes.min()} to {shapes.max()}, expected 1 to {MAX_SIDE}"
        )
    if qps.min() < 0 or qps.max() > MAX_QP:
        raise CorruptShardError(f"block qp: {qps.min()} to {qps.max()}, expected 0 to {MAX_QP}")
    if starts.min() < 0 or (ends < starts).any() or ends.max() > len(data):
        raise CorruptShardError(f"block streams: a stream leaves the {len(data)} bytes there are")
