"""From symbols to the bytes of a stream (spec A.8).

Cython compiles this module ahead of time. Nothing here checks lengths:
`dsqformat.coding.block.encoding` gives arrays that fit together.
"""

from __future__ import annotations

import cython


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _spill(out: cython.uchar[::1], at: cython.Py_ssize_t, x: cython.ulonglong) -> cython.void:
    i: cython.Py_ssize_t
    for i in range(4):
        out[at + i] = cython.cast(cython.uchar, (x >> (8 * i)) & 255)


def finish(
    symbols: cython.const[cython.int][::1],
    n: cython.Py_ssize_t,
    tables: cython.const[cython.ushort][::1],
    first: cython.Py_ssize_t,
    out: cython.uchar[::1],
) -> cython.Py_ssize_t:
    """Code symbols, last first, as one stream at the end of `out` (spec A.8).

    Args:
        symbols: of `emit`.
        n: their number.
        tables: the context maps of all layers, then the tables they point to.
        first: where the map of this layer begins.
        out: at least 5 * n + 8 bytes.

    Returns:
        Where the stream begins in `out`.
    """
    x: cython.ulonglong = 0
    at: cython.Py_ssize_t = out.shape[0]
    i: cython.Py_ssize_t
    op: cython.int
    bits: cython.int
    table: cython.Py_ssize_t
    symbol: cython.int
    start: cython.ulonglong
    f: cython.ulonglong
    with cython.nogil:
        for i in range(n - 1, -1, -1):
            op = symbols[i]
            if op < 0:
                op = -1 - op
                bits = op >> 16
                if x >> (63 - bits) != 0:
                    at -= 4
                    _spill(out, at, x)
                    x >>= 32
                x = x << bits | cython.cast(cython.ulonglong, op & 65535)
                continue
            table = tables[first + (op >> 5)]
            symbol = op & 31
            start = tables[table + symbol]
            f = tables[table + symbol + 1] - start
            if f == 0 or symbol == 31:
                # Not in the table: the escape symbol, then five raw bits.
                if x >> 58 != 0:
                    at -= 4
                    _spill(out, at, x)
                    x >>= 32
                x = x << 5 | cython.cast(cython.ulonglong, symbol)
                start = tables[table + 31]
                f = 4096 - start
            if x >= f << 51:
                at -= 4
                _spill(out, at, x)
                x >>= 32
            x = (x // f << 12) + start + x % f
        bits = 0
        while bits < 8 and x >> (8 * bits) != 0:
            bits += 1
        # The lowest words last; what is above them begins the stream.
        while bits >= 4:
            at -= 4
            _spill(out, at, x)
            x >>= 32
            bits -= 4
        at -= bits
        for i in range(bits):
            out[at + i] = cython.cast(cython.uchar, (x >> (8 * i)) & 255)
    return at
