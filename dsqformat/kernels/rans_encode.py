"""From contexts and symbols to bytes: the second half of writing (spec 9.3.9).

Cython compiles this module ahead of time, together with `rans_context.pxd`. Nothing here checks
lengths or tables: callers do so before the loop.
"""

from __future__ import annotations

import cython
from cython.cimports.dsqformat.kernels.rans_context import (
    SYMBOLS,
)


def encode_streams(
    contexts: cython.const[cython.int][::1],
    symbols: cython.const[cython.uchar][::1],
    extras: cython.const[cython.ushort][::1],
    stream_end: cython.const[cython.longlong][::1],
    table_of: cython.const[cython.ushort][::1],
    ranges: cython.const[cython.uint][::1],
    out: cython.uchar[::1],
    lengths: cython.longlong[::1],
) -> cython.Py_ssize_t:
    """Write all streams after one another.

    Args:
        contexts: as `trace` wrote them.
        symbols: likewise.
        extras: likewise.
        stream_end: shape (streams,), the number of values up to the end of each stream.
        table_of: the table of each context.
        ranges: per table SYMBOLS times frequency << 16 | start.
        out: at least 5 bytes per value and 4 per stream; filled from the end.
        lengths: out, bytes of each stream.

    Returns:
        Where in `out` the first stream begins, or -1 - i if value i has a symbol of frequency 0.
    """
    at: cython.Py_ssize_t = out.shape[0]
    end: cython.Py_ssize_t
    begin: cython.Py_ssize_t
    i: cython.Py_ssize_t
    stream: cython.Py_ssize_t
    state: cython.ulonglong
    entry: cython.ulonglong
    frequency: cython.ulonglong
    symbol: cython.int
    size: cython.int
    fault: cython.Py_ssize_t = 0
    with cython.nogil:
        for stream in range(stream_end.shape[0] - 1, -1, -1):
            begin = stream_end[stream - 1] if stream > 0 else 0
            end = at
            state = 0
            for i in range(stream_end[stream] - 1, begin - 1, -1):
                symbol = symbols[i]
                if symbol >= 16:
                    size = 3 + ((symbol - 16) >> 1)
                    if state >> (32 - size) > 0:
                        out[at - 1] = state & 255
                        out[at - 2] = (state >> 8) & 255
                        at -= 2
                        state >>= 16
                    state = state << size | extras[i]
                entry = ranges[table_of[contexts[i]] * SYMBOLS + symbol]
                frequency = entry >> 16
                if frequency == 0:
                    fault = -1 - i
                    break
                if state >> 20 >= frequency:
                    out[at - 1] = state & 255
                    out[at - 2] = (state >> 8) & 255
                    at -= 2
                    state >>= 16
                state = ((state // frequency) << 12) + (entry & 65535) + state % frequency
            if fault < 0:
                break
            while state > 0:
                at -= 1
                out[at] = state & 255
                state >>= 8
            lengths[stream] = end - at
    return fault if fault < 0 else at
