"""From the streams of block-coded pictures to pixels: one call for all streams (spec A.4 to 9).

Cython compiles this module ahead of time. The caller, `dsqformat.coding.block.decoding`, checks
that tables, offsets and workspaces fit together; after that no stream, whatever its bytes, makes
an index leave its array or a loop run longer than its block has coefficients: every symbol
advances a position that is bounded by the block, every read is bounded by the end of its stream,
and past it the state only shrinks. A stream that does not end exactly (all bytes read, state 0)
is a fault.

Per block: entropy decoding of every layer into a sparse list of coefficients, then an inverse
transform that works on those alone. Sums of products stay below 2^24, so that they are exact in
binary32 and vectorize with the least instruction set of the platform.
"""

from __future__ import annotations

import cython
from cython.cimports.dsqformat.kernels.block_context import FLAG_FIRST
from cython.cimports.dsqformat.kernels.block_leaf import read_leaf
from cython.cimports.dsqformat.kernels.block_pixels import (
    inverse_block,
    store_block,
    write_channels,
)
from cython.cimports.dsqformat.kernels.block_state import FAULT, open_stream, read_flag
from cython.cimports.dsqformat.kernels.block_tree import push_quarters

COEFFICIENTS = cython.declare(cython.int, 2)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _decode(
    data: cython.const[cython.uchar][::1],
    starts: cython.const[cython.longlong][:, ::1],
    ends: cython.const[cython.longlong][:, ::1],
    firsts: cython.const[cython.longlong][::1],
    shapes: cython.const[cython.int][:, ::1],
    targets: cython.const[cython.longlong][::1],
    band_steps: cython.const[cython.longlong][:, ::1],
    offsets: cython.const[cython.int][::1],
    tables: cython.const[cython.ushort][::1],
    planes: cython.Py_ssize_t,
    smallest: cython.int,
    largest: cython.int,
    rgb: cython.bint,
    shifts: cython.const[cython.int][::1],
    places: cython.const[cython.short][::1],
    bands: cython.const[cython.short][::1],
    rows: cython.const[cython.uchar][::1],
    columns: cython.const[cython.uchar][::1],
    levels: cython.const[cython.uchar][::1],
    weights: cython.const[cython.int][::1],
    basis: cython.const[cython.float][::1],
    shorts: cython.short[::1],
    edges: cython.int[::1],
    sizes: cython.uchar[::1],
    where: cython.ushort[::1],
    values: cython.int[::1],
    temp: cython.float[::1],
    pixels: cython.short[::1],
    line: cython.int[::1],
    status: cython.longlong[::1],
    mode: cython.int,
    octets: cython.uchar[::1],
    floats: cython.float[::1],
) -> cython.Py_ssize_t:
    layers: cython.Py_ssize_t = starts.shape[0]
    stack: cython.int[64]
    counts: cython.int[64]
    top: cython.int
    stream: cython.Py_ssize_t
    sample: cython.Py_ssize_t
    layer: cython.Py_ssize_t
    plane: cython.Py_ssize_t
    super_y: cython.Py_ssize_t
    super_x: cython.Py_ssize_t
    y: cython.Py_ssize_t
    x: cython.Py_ssize_t
    T: cython.Py_ssize_t
    i: cython.Py_ssize_t
    j: cython.Py_ssize_t
    node: cython.int
    size: cython.int
    split: cython.bint
    height: cython.Py_ssize_t
    width: cython.Py_ssize_t
    unit: cython.Py_ssize_t = cython.cast(cython.Py_ssize_t, 4) << smallest
    z: cython.int
    for stream in range(starts.shape[1]):
        for layer in range(layers):
            open_stream(data, starts[layer, stream], ends[layer, stream], status, 3 * layer)
        for sample in range(firsts[stream], firsts[stream + 1]):
            height = (shapes[sample, 0] + unit - 1) // unit * unit
            width = (shapes[sample, 1] + unit - 1) // unit * unit
            for super_y in range(0, height, 32):
                for super_x in range(0, width, 32):
                    stack[0] = 3
                    top = 1
                    while top > 0:
                        top -= 1
                        node = stack[top]
                        size = node & 7
                        y = super_y + (node >> 8)
                        x = super_x + ((node >> 3) & 31)
                        T = cython.cast(cython.Py_ssize_t, 4) << size
                        if y >= height or x >= width:
                            continue
                        split = size > largest or y + T > height or x + T > width
                        if not split and size > smallest:
                            split = (
                                read_flag(data, tables, tables[FLAG_FIRST + size], status, 0) > 0
                            )
                        if split:
                            top = push_quarters(stack, top, node)
                            continue
                        read_leaf(
                            data, status, tables, shorts, edges, sizes, places, bands, rows,
                            columns, levels, weights, where, values, counts, layers, planes, size,
                            y >> 2, x >> 2, width >> 2,
                        )  # fmt: skip
                        if mode == COEFFICIENTS:
                            for plane in range(planes):
                                store_block(
                                    where, values, plane * 1025, counts[plane], rows, columns,
                                    bands, band_steps, sample, offsets, floats,
                                    targets[sample] + (plane * height + y) * width + x, width,
                                    size, 1 if plane > 0 else 0,
                                )  # fmt: skip
                            z = cython.cast(cython.int, T >> 2)
                            for i in range(y >> 2, (y >> 2) + z):
                                for j in range(x >> 2, (x >> 2) + z):
                                    octets[
                                        targets[sample] // (16 * planes) + i * (width >> 2) + j
                                    ] = cython.cast(cython.uchar, size)
                            continue
                        for plane in range(planes):
                            inverse_block(
                                where, values, plane * 1025, counts[plane], rows, columns, bands,
                                band_steps, sample, offsets, basis, temp, pixels,
                                (plane * 32 + y - super_y) * width + x, width, size,
                                1 if plane > 0 else 0,
                            )  # fmt: skip
                if mode != COEFFICIENTS:
                    write_channels(
                        pixels, 32 * width, width, min(32, shapes[sample, 0] - super_y),
                        shapes[sample, 1], planes, rgb, shifts, mode == 1, octets, floats,
                        targets[sample] + super_y * shapes[sample, 1] * planes, line,
                    )  # fmt: skip
        if status[FAULT] != 0:
            return stream
        for layer in range(layers):
            if status[3 * layer] != 0 or status[3 * layer + 1] != status[3 * layer + 2]:
                return stream
    return -1


def decode_streams(
    data: cython.const[cython.uchar][::1],
    starts: cython.const[cython.longlong][:, ::1],
    ends: cython.const[cython.longlong][:, ::1],
    firsts: cython.const[cython.longlong][::1],
    shapes: cython.const[cython.int][:, ::1],
    targets: cython.const[cython.longlong][::1],
    band_steps: cython.const[cython.longlong][:, ::1],
    offsets: cython.const[cython.int][::1],
    tables: cython.const[cython.ushort][::1],
    planes: cython.Py_ssize_t,
    smallest: cython.int,
    largest: cython.int,
    rgb: cython.bint,
    shifts: cython.const[cython.int][::1],
    places: cython.const[cython.short][::1],
    bands: cython.const[cython.short][::1],
    rows: cython.const[cython.uchar][::1],
    columns: cython.const[cython.uchar][::1],
    levels: cython.const[cython.uchar][::1],
    weights: cython.const[cython.int][::1],
    basis: cython.const[cython.float][::1],
    shorts: cython.short[::1],
    edges: cython.int[::1],
    sizes: cython.uchar[::1],
    where: cython.ushort[::1],
    values: cython.int[::1],
    temp: cython.float[::1],
    pixels: cython.short[::1],
    line: cython.int[::1],
    status: cython.longlong[::1],
    mode: cython.int,
    octets: cython.uchar[::1],
    floats: cython.float[::1],
) -> cython.Py_ssize_t:
    """Decode streams to pictures; see `dsqformat.coding.block.decoding` for what the arrays hold.

    Args:
        data: all streams; stream s of layer l is data[starts[l, s] : ends[l, s]].
        starts: shape (layers, streams).
        ends: likewise.
        firsts: shape (streams + 1,), the first sample of each stream.
        shapes: shape (samples, 2), height and width.
        targets: shape (samples,), where each sample begins in the output.
        band_steps: shape (samples, 16), steps in 1/64 by luma or chroma and band; 7 is DC.
        offsets: shape (7,), sixteenths of a step added to magnitudes 1, 2 and more, and to DC.
        tables: the context maps of all layers, then the tables they point to.
        planes: channels of a picture.
        smallest: index of the smallest block size.
        largest: index of the largest.
        rgb: the first three channels are red, green and blue.
        shifts: shape (planes,), offset of each channel in 2^-14.
        places, bands, rows, columns, levels, weights, basis: of `dsqformat.coding.block.layout`.
        shorts, edges, sizes, where, values, temp, pixels, line, status: workspaces, zeros.
        mode: 0 writes pixels to `octets`, 1 to `floats`; 2 writes coefficients, in the places of
            the padded planes they belong to, to `floats`, which is zeros, and to `octets` the
            index of the block size of each cell of 4x4 pixels.
        octets: bytes of all samples, or empty.
        floats: values of all samples, or empty.

    Returns:
        -1, or the first stream that contradicts the syntax.
    """
    with cython.nogil:
        fault: cython.Py_ssize_t = _decode(
            data, starts, ends, firsts, shapes, targets, band_steps, offsets, tables, planes,
            smallest, largest, rgb, shifts, places, bands, rows, columns, levels, weights, basis,
            shorts, edges, sizes, where, values, temp, pixels, line, status, mode, octets,
            floats,
        )  # fmt: skip
    return fault
