"""From bytes to codes on a grid: one call decodes all streams of a segment (spec 9.3).

Cython compiles this module ahead of time, together with the `.pxd` files beside it that begin with
`rans`; on x86-64 twice, the second time for processors with AVX2. Nothing here checks lengths or
tables: callers do so before the loop. What only the loop can see (a value outside its range, bytes
left over) comes back as the number of a sample.

So that a processor has something else to do while a value waits for the one before, several
streams ("lanes") are decoded in step.
"""

from __future__ import annotations

import cython
from cython.cimports.dsqformat.kernels.rans_context import LANES
from cython.cimports.dsqformat.kernels.rans_samples import decode_samples
from cython.cimports.dsqformat.kernels.rans_sums import uchar


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _are_alike(
    config: cython.const[cython.int][::1],
    heights: cython.const[cython.longlong][::1],
    widths: cython.const[cython.longlong][::1],
    a: cython.Py_ssize_t,
    b: cython.Py_ssize_t,
) -> cython.bint:
    """Tell whether two samples are coded with the same configuration and have the same shape."""
    return config[a] == config[b] and heights[a] == heights[b] and widths[a] == widths[b]


def decode_streams(
    data: cython.const[cython.uchar][::1],
    stream_end: cython.const[cython.longlong][::1],
    samples_per_stream: cython.Py_ssize_t,
    codes: cython.ushort[::1],
    first: cython.const[cython.longlong][::1],
    heights: cython.const[cython.longlong][::1],
    widths: cython.const[cython.longlong][::1],
    config: cython.const[cython.int][::1],
    channels: cython.Py_ssize_t,
    numbers: cython.const[cython.int][::1],
    borders: cython.const[cython.int][::1],
    weights: cython.const[cython.short][::1],
    bias: cython.const[cython.int][::1],
    energy: cython.const[cython.short][::1],
    mixes: cython.const[cython.short][::1],
    constants: cython.const[cython.int][::1],
    levels: cython.const[cython.uchar][::1],
    table_of: cython.const[cython.ushort][::1],
    nearest: cython.const[cython.uchar][::1],
    starts: cython.const[cython.short][::1],
    ranges: cython.const[cython.uint][::1],
    states: cython.longlong[::1],
    shorts: cython.short[::1],
    ints: cython.int[::1],
    kept: cython.const[cython.uchar][::1],
) -> cython.Py_ssize_t:
    """Refine the codes of all samples by one layer.

    Args:
        data: the streams after one another, and two bytes more.
        stream_end: shape (streams,), where each ends in `data`.
        samples_per_stream: R.
        codes: what the layers before say of each code (0 in the first); becomes the codes to the
            precision of this layer. Those of pixels that are left out are set, too.
        first: as for `trace`.
        heights: as for `trace`.
        widths: as for `trace`.
        config: as for `trace`.
        channels: as for `trace`.
        numbers: as for `trace`.
        borders: as for `trace`.
        weights: as for `trace`.
        bias: as for `trace`.
        energy: as for `trace`.
        mixes: as for `trace`.
        constants: as for `trace`.
        levels: as for `trace`.
        table_of: the table of each context.
        nearest: per table BUCKETS symbols, each the one with which its part of the slots begins.
        starts: per table, as far apart as `numbers` says, the start of each symbol, 4096, and more
            numbers above every slot.
        ranges: per table SYMBOLS times frequency << 16 | start; for decoders without compilers.
        states: scratch, three numbers for each of LANES.
        shorts: as for `trace`, for LANES of them.
        ints: likewise.
        kept: as for `trace`.

    Returns:
        -1, or the sample in which the data turned out to be corrupt.
    """
    group: cython.Py_ssize_t
    turn: cython.Py_ssize_t
    block: cython.Py_ssize_t
    lane: cython.Py_ssize_t
    lanes: cython.Py_ssize_t
    some: cython.Py_ssize_t
    sample: cython.Py_ssize_t
    other: cython.Py_ssize_t
    pos: cython.Py_ssize_t
    end: cython.Py_ssize_t
    size: cython.Py_ssize_t
    i: cython.Py_ssize_t
    streams: cython.Py_ssize_t = stream_end.shape[0]
    samples: cython.Py_ssize_t = first.shape[0]
    state: cython.ulonglong
    alike: cython.Py_ssize_t
    fault: cython.Py_ssize_t = -1
    with cython.nogil:
        for block in range((streams + LANES - 1) // LANES):
            group = block * LANES
            lanes = min(LANES, streams - group)
            for lane in range(lanes):
                pos = stream_end[group + lane - 1] if group + lane > 0 else 0
                end = stream_end[group + lane]
                # All of a short stream, else what makes the rest a multiple of 2 bytes.
                size = min(end - pos, 4 - ((end - pos) & 1))
                state = 0
                for i in range(size):
                    state = state << 8 | data[pos + i]
                states[3 * lane] = state
                states[3 * lane + 1] = pos + size
                states[3 * lane + 2] = end
            for turn in range(samples_per_stream):
                sample = group * samples_per_stream + turn
                if sample >= samples:
                    break
                # The last stream may have fewer samples.
                some = lanes
                if sample + (some - 1) * samples_per_stream >= samples:
                    some -= 1
                lane = 0
                while lane < some:
                    other = sample + lane * samples_per_stream
                    alike = 1
                    while lane + alike < some and _are_alike(
                        config, heights, widths, other, other + alike * samples_per_stream
                    ):
                        alike += 1
                    if config[other] >= 0:
                        if kept.shape[0] > 0:
                            fault = decode_samples(
                                cython.cast(uchar, 1),
                                channels,
                                lane,
                                alike,
                                other,
                                samples_per_stream,
                                data,
                                codes,
                                first,
                                heights[other],
                                widths[other],
                                config[other],
                                numbers,
                                borders,
                                weights,
                                energy,
                                mixes,
                                constants,
                                levels,
                                table_of,
                                nearest,
                                starts,
                                states,
                                shorts,
                                ints,
                                kept,
                            )
                        else:
                            fault = decode_samples(
                                cython.cast(cython.int, 0),
                                channels,
                                lane,
                                alike,
                                other,
                                samples_per_stream,
                                data,
                                codes,
                                first,
                                heights[other],
                                widths[other],
                                config[other],
                                numbers,
                                borders,
                                weights,
                                energy,
                                mixes,
                                constants,
                                levels,
                                table_of,
                                nearest,
                                starts,
                                states,
                                shorts,
                                ints,
                                kept,
                            )
                    if fault >= 0:
                        break
                    lane += alike
                if fault >= 0:
                    break
            if fault >= 0:
                break
            for lane in range(lanes):
                if states[3 * lane] != 0 or states[3 * lane + 1] != states[3 * lane + 2]:
                    fault = min((group + lane + 1) * samples_per_stream, samples) - 1
                    break
            if fault >= 0:
                break
    return fault
