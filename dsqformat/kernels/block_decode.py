"""From the streams of block-coded pictures to pixels: one call for all streams (SPEC 4 to 9).

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
from cython.cimports.dsqformat.kernels.block_coarse import read_coarse
from cython.cimports.dsqformat.kernels.block_context import FLAG_FIRST, SPAN, STRIDE, clear, expect
from cython.cimports.dsqformat.kernels.block_pixels import inverse_block, write_channels
from cython.cimports.dsqformat.kernels.block_refinement import read_refinement
from cython.cimports.dsqformat.kernels.block_state import FAULT, open_stream, read_flag


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
    as_floats: cython.bint,
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
    node: cython.int
    size: cython.int
    split: cython.bint
    height: cython.Py_ssize_t
    width: cython.Py_ssize_t
    unit: cython.Py_ssize_t = cython.cast(cython.Py_ssize_t, 4) << smallest
    cells: cython.Py_ssize_t
    profiles: cython.Py_ssize_t  # of one layer, in shorts
    base: cython.Py_ssize_t
    bottom: cython.Py_ssize_t
    strip: cython.Py_ssize_t
    cell_y: cython.Py_ssize_t
    cell_x: cython.Py_ssize_t
    i: cython.Py_ssize_t
    span: cython.Py_ssize_t
    left: cython.Py_ssize_t
    upper: cython.Py_ssize_t
    left_cell: cython.Py_ssize_t
    upper_cell: cython.Py_ssize_t
    z: cython.int
    profile: cython.Py_ssize_t
    extra: cython.Py_ssize_t
    zeros: cython.Py_ssize_t = 4 * SPAN
    lit: cython.bint  # some earlier plane of this block has coefficients
    dirty: cython.int  # bits of the cross accumulators that are not empty
    for stream in range(starts.shape[1]):
        for layer in range(layers):
            open_stream(data, starts[layer, stream], ends[layer, stream], status, 3 * layer)
        for sample in range(firsts[stream], firsts[stream + 1]):
            height = (shapes[sample, 0] + unit - 1) // unit * unit
            width = (shapes[sample, 1] + unit - 1) // unit * unit
            cells = width >> 2
            bottom = planes * 16 * cells
            profiles = planes * 16 * cells * 64
            strip = 32 * width
            for super_y in range(0, height, 32):
                for super_x in range(0, width, 32):
                    stack[0] = 3
                    top = 1
                    # A node is y << 8 | x << 3 | size, places in the superblock.
                    while top > 0:
                        top -= 1
                        node = stack[top]
                        size = node & 7
                        y = super_y + (node >> 8)
                        x = super_x + ((node >> 3) & 31)
                        span = cython.cast(cython.Py_ssize_t, 4) << size
                        if y >= height or x >= width:
                            continue
                        split = size > largest or y + span > height or x + span > width
                        if not split and size > smallest:
                            split = read_flag(data, tables, tables[FLAG_FIRST + size], status, 0) > 0
                        if split:
                            node += -1
                            z = cython.cast(cython.int, span >> 1)
                            stack[top] = node + (z << 8) + (z << 3)
                            stack[top + 1] = node + (z << 8)
                            stack[top + 2] = node + (z << 3)
                            stack[top + 3] = node
                            top += 4
                            continue
                        span >>= 2
                        cell_y = y >> 2
                        cell_x = x >> 2
                        left_cell = 0
                        upper_cell = 0
                        if x > 0:
                            z = sizes[(cell_y & 15) * cells + cell_x - 1]
                            left_cell = (((cell_y >> z) << z) & 15) * cells + (
                                ((cell_x - 1) >> z) << z
                            )
                        if y > 0:
                            z = sizes[((cell_y - 1) & 15) * cells + cell_x]
                            upper_cell = ((((cell_y - 1) >> z) << z) & 15) * cells + (
                                (cell_x >> z) << z
                            )
                        for i in range(span):
                            sizes[((cell_y + i) & 15) * cells + cell_x + span - 1] = cython.cast(
                                cython.uchar, size
                            )
                            sizes[((cell_y + span - 1) & 15) * cells + cell_x + i] = cython.cast(
                                cython.uchar, size
                            )
                        for layer in range(layers):
                            lit = False
                            dirty = 0
                            base = zeros + 64 + layer * profiles
                            for plane in range(planes):
                                left = zeros
                                upper = zeros
                                if x > 0:
                                    left = base + (plane * 16 * cells + left_cell) * 64
                                    upper = left
                                if y > 0:
                                    upper = base + (plane * 16 * cells + upper_cell) * 64
                                    if x == 0:
                                        left = upper
                                extra = 0
                                if lit:
                                    extra = SPAN * (2 + ((plane - 1) & 1))
                                expect(shorts, left, upper, size, extra)
                                profile = (
                                    base + ((plane * 16 + (cell_y & 15)) * cells + cell_x) * 64
                                )
                                clear(shorts, profile, 64)
                                if plane > 1 and dirty & (1 << (plane & 1)):
                                    clear(shorts, SPAN * (2 + (plane & 1)), STRIDE * (span * 4))
                                    dirty &= ~(1 << (plane & 1))
                                if layer == 0:
                                    counts[plane] = read_coarse(
                                        data, status, tables, shorts, edges, places, bands, rows,
                                        columns, levels, weights, where, values,
                                        plane * 1025, plane, size, cell_y, cell_x, cells,
                                        bottom, profile, x > 0, y > 0,
                                    )  # fmt: skip
                                else:
                                    counts[plane] = read_refinement(
                                        data, status, layer, tables, shorts, places, bands, rows,
                                        columns, levels, where, values,
                                        plane * 1025, planes * 1025, counts[plane], plane, size,
                                        profile,
                                    )  # fmt: skip
                                if counts[plane] > 0:
                                    lit = True
                                    dirty |= 1 << (plane & 1)
                            if lit:
                                clear(shorts, SPAN, STRIDE * span * 4)
                                clear(shorts, 2 * SPAN, STRIDE * span * 4)
                                clear(shorts, 3 * SPAN, STRIDE * span * 4)
                        for plane in range(planes):
                            inverse_block(
                                where, values, plane * 1025, counts[plane], rows,
                                columns, bands, band_steps, sample, offsets, basis, temp, pixels,
                                plane * strip + (y - super_y) * width + x, width, size,
                                1 if plane > 0 else 0,
                            )  # fmt: skip
                write_channels(
                    pixels, strip, width, min(32, shapes[sample, 0] - super_y), shapes[sample, 1],
                    planes, rgb, shifts, as_floats, octets, floats,
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
    as_floats: cython.bint,
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
        as_floats: write `floats`, not `octets`.
        octets: bytes of all samples, or empty.
        floats: values of all samples, or empty.

    Returns:
        -1, or the first stream that contradicts the syntax.
    """
    with cython.nogil:
        fault: cython.Py_ssize_t = _decode(
            data, starts, ends, firsts, shapes, targets, band_steps, offsets, tables, planes,
            smallest, largest, rgb, shifts, places, bands, rows, columns, levels, weights, basis,
            shorts, edges, sizes, where, values, temp, pixels, line, status, as_floats, octets,
            floats,
        )  # fmt: skip
    return fault
