"""From layer streams to pictures (SPEC 4 to 9)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dsqblock.colour import channel_shifts
from dsqblock.kernels import block_decode
from dsqblock.layout import MAX_QP, MAX_SIDE
from dsqblock.model import BlockModel
from dsqblock.workspace import BASIS, SYNTAX, decoder_scratch, neighbourhood, padded
from dsqformat.errors import CorruptShardError

Output = Literal["uint8", "float32"]


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
    """Decode the first layers of some samples.

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
    data = np.frombuffer(b"".join(b"".join(streams) for streams in layer_streams) or b"\0", "u1")
    if len({len(n) for n in nbytes}) != 1:
        raise CorruptShardError(f"block streams: {[len(n) for n in nbytes]} in layers, not alike")
    ends = np.cumsum(np.concatenate(nbytes)).reshape(len(nbytes), -1)
    starts = ends - np.array(nbytes)
    return decode_ranges(
        model, data, starts, ends, shapes, qps,
        samples_per_stream=samples_per_stream, output=output, threads=threads,
    )  # fmt: skip


def decode_ranges(
    model: BlockModel,
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    shapes: NDArray[np.integer[Any]],
    qps: NDArray[np.integer[Any]],
    *,
    samples_per_stream: int = 32,
    output: Output = "uint8",
    threads: int = 1,
) -> list[NDArray[Any]]:
    """Decode streams that lie in one buffer.

    Args:
        model: as of `decode`, and so are the others that are not explained.
        data: uint8, the bytes of all streams.
        starts: int64, shape (layers, streams), where each stream begins in `data`.
        ends: int64, likewise, where it ends.
        shapes: shape (n, 2).
        qps: shape (n,).
        samples_per_stream: samples in each stream.
        output: `uint8` or `float32`.
        threads: how many threads share the streams.

    Returns:
        One array per sample.

    Raises:
        CorruptShardError: a stream contradicts the syntax, or counts do not fit.
    """
    sides: NDArray[np.int32] = np.ascontiguousarray(shapes, "i4")
    levels: NDArray[np.int64] = np.ascontiguousarray(qps, "i8")
    starts, ends = np.ascontiguousarray(starts, "i8"), np.ascontiguousarray(ends, "i8")
    _check(model, data, starts, ends, sides, levels, samples_per_stream)
    n, layers, planes = len(sides), len(starts), model.planes
    counts = sides[:, 0].astype("i8") * sides[:, 1] * planes
    targets = np.cumsum(counts) - counts
    dtype = "u1" if output == "uint8" else "f4"
    out = np.empty(int(counts.sum()), dtype)
    if n:
        firsts = np.minimum(np.arange(starts.shape[1] + 1, dtype="i8") * samples_per_stream, n)
        missing = len(model.layers) - layers
        steps = model.band_steps(levels, missing)
        common = (
            np.array(model.offsets[layers - 1], "i4"), model.coder_tables(layers), planes,
            model.smallest, model.largest, model.rgb, channel_shifts(model.channel_offsets),
        )  # fmt: skip
        width = padded(int(sides[:, 1].max()), model.smallest)
        none = np.empty(0, "u1"), np.empty(0, "f4")
        octets, floats = (out, none[1]) if output == "uint8" else (none[0], out)

        def work(first: int, stop: int) -> int:
            part = slice(first, stop)
            fault: int = block_decode.decode_streams(
                data, np.ascontiguousarray(starts[:, part]), np.ascontiguousarray(ends[:, part]),
                firsts[first : stop + 1], sides, targets, steps, *common, *SYNTAX, BASIS,
                *neighbourhood(width, planes, layers), *decoder_scratch(width, planes),
                output == "float32", octets, floats,
            )  # fmt: skip
            return first + fault if fault >= 0 else -1

        fault = _share(work, starts.shape[1], threads)
        if fault >= 0:
            raise CorruptShardError(
                f"block stream {fault}: its symbols contradict the syntax or do not end with it"
            )
    shaped = zip(targets.tolist(), counts.tolist(), sides.tolist(), strict=True)
    return [out[at : at + size].reshape(*shape, planes) for at, size, shape in shaped]


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
