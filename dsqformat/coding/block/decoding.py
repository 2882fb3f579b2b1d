"""From layer streams to pictures or to coefficients (spec A.3 to 9)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.colour import channel_shifts
from dsqformat.coding.block.job import Coefficients, Job, empty_coefficients
from dsqformat.coding.block.layout import MAX_QP, MAX_SIDE
from dsqformat.coding.block.model import BlockModel
from dsqformat.coding.block.plain_decoding import coefficients_plain, decode_plain
from dsqformat.coding.block.workspace import (
    BASIS,
    SYNTAX,
    decoder_scratch,
    neighbourhood,
    padded,
)
from dsqformat.errors import CorruptShardError
from dsqformat.kernels import block_kernel

Output = Literal["uint8", "float32"]

_kernel: Any = block_kernel("block_decode")
_COEFFICIENTS: Final = 2  # a mode of the kernel
_PARTS: Final = 8  # parts of the streams for each thread


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
    job = _job(model, data, starts, ends, shapes, qps, samples_per_stream)
    if _kernel is None:
        return decode_plain(job, output)
    counts = job.shapes[:, 0].astype("i8") * job.shapes[:, 1] * model.planes
    out: NDArray[Any] = np.empty(int(counts.sum()), "u1" if output == "uint8" else "f4")
    octets: NDArray[np.uint8] = out if output == "uint8" else np.empty(0, "u1")
    floats: NDArray[np.float32] = out if output == "float32" else np.empty(0, "f4")
    _run(job, np.cumsum(counts) - counts, int(output == "float32"), octets, floats, threads)
    return out


def decode_coefficients(
    model: BlockModel,
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    shapes: NDArray[np.integer[Any]],
    qps: NDArray[np.integer[Any]],
    *,
    samples_per_stream: int,
    threads: int = 1,
) -> Coefficients:
    """Decode as `decode_ranges` does, but stop before the inverse transforms (spec A.9.1).

    Args:
        model: as of `decode_ranges`, like all that follow.
        data: likewise.
        starts: likewise.
        ends: likewise.
        shapes: likewise.
        qps: likewise.
        samples_per_stream: likewise.
        threads: likewise.

    Returns:
        Coefficients and the block sizes they belong to.

    Raises:
        CorruptShardError: a stream contradicts the syntax, or counts do not fit.
        ValueError: arrays that do not fit each other.
    """
    job = _job(model, data, starts, ends, shapes, qps, samples_per_stream)
    if _kernel is None:
        return coefficients_plain(job)
    out = empty_coefficients(job)
    _run(job, out.firsts, _COEFFICIENTS, out.leaves, out.values, threads)
    return out


def _run(
    job: Job,
    targets: NDArray[np.int64],
    mode: int,
    octets: NDArray[np.uint8],
    floats: NDArray[np.float32],
    threads: int,
) -> None:
    """Let threads decode all streams of a job into `octets` or `floats`."""
    model, n, layers, streams = job.model, len(job.shapes), *job.starts.shape
    if not n:
        return
    firsts = np.minimum(np.arange(streams + 1, dtype="i8") * job.samples_per_stream, n)
    common = (
        model.band_steps(job.qps, len(model.layers) - layers),
        np.array(model.offsets[layers - 1], "i4"), model.coder_tables(layers), model.planes,
        model.smallest, model.largest, model.rgb, channel_shifts(model.channel_offsets),
    )  # fmt: skip
    width = padded(int(job.shapes[:, 1].max()), model.smallest)
    data = job.data if len(job.data) else np.zeros(1, "u1")  # the kernel wants an address

    def worker(parts: Iterator[tuple[int, int]]) -> list[int]:
        """Decode parts until none is left; return the first faulty stream, if any."""
        scratch = (
            *neighbourhood(width, model.planes, layers),
            *decoder_scratch(width, model.planes),
        )
        for first, stop in parts:
            part = slice(first, stop)
            fault: int = _kernel.decode_streams(
                data, np.ascontiguousarray(job.starts[:, part]),
                np.ascontiguousarray(job.ends[:, part]), firsts[first : stop + 1], job.shapes,
                targets, *common, *SYNTAX, BASIS, *scratch, mode, octets, floats,
            )  # fmt: skip
            if fault >= 0:
                return [first + fault]
        return []

    faults = _share(worker, streams, threads)
    if faults:
        raise CorruptShardError(
            f"block stream {min(faults)}: its symbols contradict the syntax or do not end with it; "
            "fetch the shard again"
        )


def _share(
    worker: Callable[[Iterator[tuple[int, int]]], list[int]], streams: int, threads: int
) -> list[int]:
    """Let workers take ranges of streams, in ascending order, from one iterator."""
    threads = max(1, min(threads, streams))
    # More parts than threads, so that none waits long for the slowest.
    count = min(streams, _PARTS * threads) if threads > 1 else 1
    bounds = [streams * i // count for i in range(count + 1)]
    parts = iter(list(itertools.pairwise(bounds)))  # its `next` is one step of the interpreter
    if threads == 1:
        return worker(parts)
    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(worker, parts) for _ in range(threads - 1)]
        return sum((other.result() for other in others), worker(parts))


def _job(
    model: BlockModel,
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    shapes: NDArray[np.integer[Any]],
    qps: NDArray[np.integer[Any]],
    samples_per_stream: int,
) -> Job:
    """Return the arguments of a call, checked for everything that the kernel relies on."""
    job = Job(
        model,
        data,
        np.ascontiguousarray(starts, "i8"),
        np.ascontiguousarray(ends, "i8"),
        np.ascontiguousarray(shapes, "i4"),
        np.ascontiguousarray(qps, "i8"),
        samples_per_stream,
    )
    _check(job)
    return job


def _check(job: Job) -> None:
    n = len(job.shapes)
    shapes, qps, starts, ends = job.shapes, job.qps, job.starts, job.ends
    if shapes.shape != (n, 2) or qps.shape != (n,) or starts.ndim != 2:
        raise ValueError(f"shapes {shapes.shape}, qps {qps.shape}, starts {starts.shape}")
    if job.samples_per_stream < 1 or starts.shape != ends.shape:
        raise ValueError(
            f"{job.samples_per_stream} samples per stream, starts {starts.shape}, ends {ends.shape}"
        )
    streams, layers = -(-n // job.samples_per_stream), len(job.model.layers)
    if not 1 <= len(starts) <= layers or starts.shape[1] != streams:
        raise CorruptShardError(
            f"block streams: {starts.shape[0]} layers of {starts.shape[1]}, expected at most "
            f"{layers} of {streams}"
        )
    if not n:
        return
    if shapes.min() < 1 or shapes.max() > MAX_SIDE:
        raise CorruptShardError(
            f"block pictures: sides {shapes.min()} to {shapes.max()}, expected 1 to {MAX_SIDE}"
        )
    if qps.min() < 0 or qps.max() > MAX_QP:
        raise CorruptShardError(f"block qp: {qps.min()} to {qps.max()}, expected 0 to {MAX_QP}")
    if starts.min() < 0 or (ends < starts).any() or ends.max() > len(job.data):
        raise CorruptShardError(
            f"block streams: a stream leaves the {len(job.data)} bytes there are"
        )
