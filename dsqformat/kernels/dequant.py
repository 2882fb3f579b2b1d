"""From the layers of a chunk to numbers: one call for all samples (spec 9, 10.3).

Cython compiles this module ahead of time, together with the files `dequant_*.pxd`. Nothing here
checks lengths: callers compare them with `measure` first.

Each sample is decoded in tiles of at most TILE values that stay in the first-level cache:
every layer is expanded to one byte (or two) per value, the layers are joined, and one loop
turns codes into output. The inner loops are written so that C compilers vectorize them with
the least instruction set of the platform: unit strides, pairs of stores, no branches.

Faults are collected per sample and returned as `sample * 32 + kind * 8 + layer`
(`PADDING`, `VALUE`, `CODE`), the lowest kind and layer first; -1 means that all is well.
"""

from __future__ import annotations

import cython
import numpy as np
from cython.cimports.dsqformat.kernels.dequant_codes import (
    any_bits,
    append,
    bytes_of,
    highest,
    spare_bits,
    widen,
)
from cython.cimports.dsqformat.kernels.dequant_emit import (
    FLOAT32,
    LEVELS,
    OCTETS,
    SHORTS,
    emit,
    repeat_channels,
)
from cython.cimports.dsqformat.kernels.dequant_expand import (
    copy,
    expand_4_2,
    expand_4_2_2,
    expand_to_bytes,
    expand_to_shorts,
)

# Values per tile: a multiple of 8, so that tiles begin at a byte whatever the width. The output of
# a tile goes to memory while the next is unpacked, so a few kilobytes are faster than all of the
# first-level cache.
TILE = cython.declare(cython.Py_ssize_t, 1536)
# Room after a tile, because groups of 8 values and words of 8 bytes overshoot.
SPARE = cython.declare(cython.Py_ssize_t, 64)
# Values in a row of the repeated channel pattern: long enough to amortize starting a loop.
ROW = cython.declare(cython.Py_ssize_t, 768)
MAX_COUNT = cython.declare(cython.Py_ssize_t, 1 << 28)

PADDING = cython.declare(cython.Py_ssize_t, 0)
VALUE = cython.declare(cython.Py_ssize_t, 1)
CODE = cython.declare(cython.Py_ssize_t, 2)
NO_FAULT = cython.declare(cython.Py_ssize_t, 32)

# Where the codes of a tile are: in one byte each, in two, or in the layer itself.
NARROW = cython.declare(cython.int, 0)
WIDE = cython.declare(cython.int, 1)
IN_PLACE = cython.declare(cython.int, 2)

# Equal to no gain and no shift: the pattern of channels is not filled yet.
NO_CHANNEL = cython.declare(cython.float, float("nan"))
# Stand for what an output does not use.
NO_FLOATS = np.empty(0, "f4")
ONES = np.ones((1, 1), "f4")


@cython.final
@cython.cclass
class _Layers:
    """The layers of a chunk, where the current sample begins in them, and room for one tile."""

    data: cython.const[cython.uchar][::1]
    data0: cython.const[cython.uchar][::1]
    data1: cython.const[cython.uchar][::1]
    data2: cython.const[cython.uchar][::1]
    data3: cython.const[cython.uchar][::1]
    data4: cython.const[cython.uchar][::1]
    data5: cython.const[cython.uchar][::1]
    data6: cython.const[cython.uchar][::1]
    data7: cython.const[cython.uchar][::1]
    packed: cython.const[cython.uchar][::1]
    widths: cython.const[cython.uchar][:, ::1]
    starts: cython.longlong[8]
    raw: cython.uchar[::1]
    part: cython.uchar[::1]
    part_words: cython.ulonglong[::1]
    narrow: cython.uchar[::1]
    narrow_words: cython.ulonglong[::1]
    wide: cython.ushort[::1]
    wide_words: cython.ulonglong[::1]
    sample: cython.Py_ssize_t
    total: cython.int
    used: cython.int
    bits: cython.int
    default_layers: cython.Py_ssize_t
    start: cython.Py_ssize_t
    fault: cython.Py_ssize_t

    def __init__(self, layers: list, packed: object, widths: object) -> None:
        """Take 1 to 8 layers as arrays of bytes."""
        layer: cython.Py_ssize_t
        self.data = layers[0]
        self.data0 = layers[0]
        if len(layers) > 1:
            self.data1 = layers[1]
        if len(layers) > 2:
            self.data2 = layers[2]
        if len(layers) > 3:
            self.data3 = layers[3]
        if len(layers) > 4:
            self.data4 = layers[4]
        if len(layers) > 5:
            self.data5 = layers[5]
        if len(layers) > 6:
            self.data6 = layers[6]
        if len(layers) > 7:
            self.data7 = layers[7]
        self.packed = packed
        self.widths = widths
        for layer in range(8):
            self.starts[layer] = 0
        # Some loops write 8 values at once: the same memory as words and as bytes or shorts.
        memory = np.empty((6 * TILE + 5 * SPARE) // 8, "u8")
        words: cython.ulonglong[::1] = memory
        octets: cython.uchar[::1] = memory.view("u1")
        shorts: cython.ushort[::1] = memory.view("u2")
        first: cython.Py_ssize_t = 2 * TILE + SPARE
        self.raw = octets[:first]
        self.part = octets[first : first + TILE + SPARE]
        self.part_words = words[first // 8 : (first + TILE + SPARE) // 8]
        first += TILE + SPARE
        self.narrow = octets[first : first + TILE + SPARE]
        self.narrow_words = words[first // 8 : (first + TILE + SPARE) // 8]
        first += TILE + SPARE
        self.wide = shorts[first // 2 :]
        self.wide_words = words[first // 8 :]
        self.fault = NO_FAULT

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def begin(self, sample: cython.Py_ssize_t) -> cython.void:
        """Take up a sample."""
        layer: cython.Py_ssize_t
        self.sample = sample
        self.total = 0
        self.used = 0
        for layer in range(self.widths.shape[1]):
            self.total += cython.cast(cython.int, self.widths[sample, layer])
            self.used += self.widths[sample, layer] > 0
        self.default_layers = 0
        if (
            self.used > 1
            and self.widths[sample, 0] == 4
            and self.widths[sample, 1] == 2
            and self.packed[0] != 0
            and self.packed[1] != 0
        ):
            self.default_layers = 2
            if self.used == 3 and self.widths[sample, 2] == 2 and self.packed[2] != 0:
                self.default_layers = 3

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def end(self, count: cython.Py_ssize_t) -> cython.void:
        """Step over the `count` values of the sample."""
        layer: cython.Py_ssize_t
        for layer in range(self.widths.shape[1]):
            self.starts[layer] += bytes_of(
                self.packed[layer], count, self.widths[self.sample, layer]
            )

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def choose(self, layer: cython.Py_ssize_t) -> cython.void:
        """Make `data` the bytes of this layer."""
        if layer == 0:
            self.data = self.data0
        elif layer == 1:
            self.data = self.data1
        elif layer == 2:
            self.data = self.data2
        elif layer == 3:
            self.data = self.data3
        elif layer == 4:
            self.data = self.data4
        elif layer == 5:
            self.data = self.data5
        elif layer == 6:
            self.data = self.data6
        else:
            self.data = self.data7

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def note(
        self, kind: cython.Py_ssize_t, layer: cython.Py_ssize_t, bits: cython.int
    ) -> cython.void:
        """Remember a fault if `bits` is not zero and none came before it in rank."""
        if bits != 0:
            self.fault = min(self.fault, kind * 8 + layer)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def load(self, tile: cython.Py_ssize_t, size: cython.Py_ssize_t) -> cython.int:
        """Join the layers of `size` values from value `tile` on; return where the codes are."""
        layer: cython.Py_ssize_t
        width: cython.int
        self.bits = 0
        for layer in range(self.load_default(tile, size), self.widths.shape[1]):
            width = cython.cast(cython.int, self.widths[self.sample, layer])
            if width == 0:
                continue
            self.choose(layer)
            self.start = self.starts[layer] + bytes_of(self.packed[layer], tile, width)
            if self.packed[layer]:
                self.note(PADDING, layer, spare_bits(self.data, self.start, size, width))
            if width > 8:
                self.load_wide(layer, width, size)
            elif self.used == 1 and (width == 8 or not self.packed[layer]):
                self.note_values(layer, width, size)
                return IN_PLACE
            else:
                self.load_narrow(layer, width, size)
            self.bits += width
        if self.bits == 0:
            self.narrow[:size] = 0
        return NARROW if self.bits <= 8 else WIDE

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def load_default(self, tile: cython.Py_ssize_t, size: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Join the layers 4|2 or 4|2|2 if the sample begins with them; return how many."""
        if self.default_layers == 0:
            return 0
        start0: cython.Py_ssize_t = self.starts[0] + (tile >> 1)
        start1: cython.Py_ssize_t = self.starts[1] + (tile >> 2)
        start2: cython.Py_ssize_t
        self.note(PADDING, 0, spare_bits(self.data0, start0, size, 4))
        self.note(PADDING, 1, spare_bits(self.data1, start1, size, 2))
        if self.default_layers == 2:
            expand_4_2(self.data0, start0, self.data1, start1, size, self.raw, self.narrow)
            self.bits = 6
        else:
            start2 = self.starts[2] + (tile >> 2)
            self.note(PADDING, 2, spare_bits(self.data2, start2, size, 2))
            expand_4_2_2(
                self.data0,
                start0,
                self.data1,
                start1,
                self.data2,
                start2,
                size,
                self.raw,
                self.part,
                self.narrow,
            )
            self.bits = 8
        return self.default_layers

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def note_values(
        self, layer: cython.Py_ssize_t, width: cython.int, size: cython.Py_ssize_t
    ) -> cython.void:
        """Note values of one byte that have more than `width` bits."""
        if not self.packed[layer] and width < 8:
            self.note(VALUE, layer, any_bits(self.data, self.start, size) >> width)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def load_narrow(
        self, layer: cython.Py_ssize_t, width: cython.int, size: cython.Py_ssize_t
    ) -> cython.void:
        """Append a layer of at most 8 bits."""
        if not self.packed[layer]:
            self.note_values(layer, width, size)
            if self.bits == 0:
                copy(self.data, self.start, size, self.narrow)
            elif self.bits + width <= 8:
                append(self.narrow, self.data, self.start, width, size)
            elif self.bits <= 8:
                widen(self.narrow, self.data, self.start, width, size, self.wide)
            else:
                append(self.wide, self.data, self.start, width, size)
        elif self.bits == 0:
            expand_to_bytes(
                self.data, self.start, width, size, self.raw, self.narrow, self.narrow_words
            )
        else:
            expand_to_bytes(
                self.data, self.start, width, size, self.raw, self.part, self.part_words
            )
            if self.bits + width <= 8:
                append(self.narrow, self.part, 0, width, size)
            elif self.bits <= 8:
                widen(self.narrow, self.part, 0, width, size, self.wide)
            else:
                append(self.wide, self.part, 0, width, size)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def load_wide(
        self, layer: cython.Py_ssize_t, width: cython.int, size: cython.Py_ssize_t
    ) -> cython.void:
        """Append a layer of 9 to 16 bits; there are at most 7 bits before it."""
        stored: cython.int = width if self.packed[layer] else 16
        expand_to_shorts(self.data, self.start, stored, size, self.raw, self.wide, self.wide_words)
        if not self.packed[layer] and width < 16:
            self.note(VALUE, layer, any_bits(self.wide, 0, size) >> width)
        if self.bits > 0:
            widen(self.narrow, self.wide, 0, width, size, self.wide)


@cython.cfunc
def _decode(
    output: cython.int,
    layers: _Layers,
    counts: cython.const[cython.longlong][::1],
    missing: cython.const[cython.uchar][::1],
    zero_points: cython.const[cython.int][::1],
    max_codes: cython.const[cython.int][::1],
    gain: cython.const[cython.float][:, ::1],
    shift: cython.const[cython.float][:, ::1],
    floats: cython.float[::1],
    octets: cython.uchar[::1],
    shorts: cython.ushort[::1],
) -> cython.Py_ssize_t:
    """Decode all samples; return the first fault or -1."""
    channels: cython.Py_ssize_t = gain.shape[1]
    row: cython.Py_ssize_t = channels * ((ROW + channels - 1) // channels)
    if channels == 1 and output != LEVELS:
        row = 1
    pattern: cython.float[::1] = np.empty(3 * row, "f4")
    gains: cython.float[::1] = pattern[:row]
    shifts: cython.float[::1] = pattern[row : 2 * row]
    levels: cython.float[::1] = pattern[2 * row :]
    gains[0] = shifts[0] = NO_CHANNEL
    sample: cython.Py_ssize_t
    count: cython.Py_ssize_t
    tile: cython.Py_ssize_t
    size: cython.Py_ssize_t
    first: cython.Py_ssize_t = 0
    form: cython.int
    lost: cython.int
    zero: cython.int
    limit: cython.int
    top: cython.int
    phase: cython.Py_ssize_t
    with cython.nogil:
        for sample in range(counts.shape[0]):
            count = counts[sample]
            lost = cython.cast(cython.int, missing[sample])
            zero = cython.cast(cython.int, zero_points[sample])
            layers.begin(sample)
            # The check of codes costs a pass; most widths have no illegal code.
            limit = max_codes[sample] if lost == 0 else 65535
            if limit >= (1 << layers.total) - 1:
                limit = 65535
            if output <= LEVELS:
                repeat_channels(gain, sample, gains)
                repeat_channels(shift, sample, shifts)
            tile = 0
            while tile < count:
                size = min(TILE, count - tile)
                phase = tile % gains.shape[0]
                form = layers.load(tile, size)
                top = 0
                if form == WIDE:
                    if limit < 65535:
                        top = highest(layers.wide, 0, size)
                    emit(
                        output, layers.wide, 0, size, lost, zero, gains, shifts, phase, levels,
                        floats, octets, shorts, first + tile,
                    )  # fmt: skip
                elif form == NARROW:
                    if limit < 65535:
                        top = highest(layers.narrow, 0, size)
                    emit(
                        output, layers.narrow, 0, size, lost, zero, gains, shifts, phase, levels,
                        floats, octets, shorts, first + tile,
                    )  # fmt: skip
                else:
                    if limit < 65535:
                        top = highest(layers.data, layers.start, size)
                    emit(
                        output, layers.data, layers.start, size, lost, zero, gains, shifts, phase,
                        levels, floats, octets, shorts, first + tile,
                    )  # fmt: skip
                layers.note(CODE, 0, top > limit)
                tile += size
            if layers.fault < NO_FAULT:
                return sample * 32 + layers.fault
            layers.end(count)
            first += count
    return -1


def measure(
    packed: cython.const[cython.uchar][::1],
    counts: cython.const[cython.longlong][::1],
    widths: cython.const[cython.uchar][:, ::1],
    missing: cython.const[cython.uchar][::1],
    needed: cython.longlong[::1],
) -> cython.Py_ssize_t:
    """Sum the bytes each layer must have into `needed`, from counts and widths alone (spec 9).

    Args:
        packed: shape (layers,), 1 for bit-packed layers, 0 for whole bytes.
        counts: shape (n,), values of each sample.
        widths: shape (n, layers).
        missing: shape (n,), bits below the last layer here.
        needed: shape (layers,), output.

    Returns:
        The number of values of all samples; or -1 - i where sample i has a count outside 0 to
        2^28 or more than 16 bits, or where the sum of counts passes 2^28.
    """
    sample: cython.Py_ssize_t
    layer: cython.Py_ssize_t
    total: cython.int
    count: cython.longlong
    values: cython.Py_ssize_t = 0
    for layer in range(needed.shape[0]):
        needed[layer] = 0
    for sample in range(counts.shape[0]):
        count = counts[sample]
        if count < 0 or count > MAX_COUNT:
            return -1 - sample
        values += count
        total = cython.cast(cython.int, missing[sample])
        for layer in range(widths.shape[1]):
            total += cython.cast(cython.int, widths[sample, layer])
            needed[layer] += bytes_of(
                packed[layer], count, cython.cast(cython.int, widths[sample, layer])
            )
        if total > 16 or values > MAX_COUNT:
            return -1 - sample
    return values


def dequantize_float32(
    layers: list,
    packed: cython.const[cython.uchar][::1],
    counts: cython.const[cython.longlong][::1],
    widths: cython.const[cython.uchar][:, ::1],
    missing: cython.const[cython.uchar][::1],
    zero_point: cython.const[cython.int][::1],
    max_code: cython.const[cython.int][::1],
    gain: cython.const[cython.float][:, ::1],
    shift: cython.const[cython.float][:, ::1],
    out: cython.float[::1],
) -> cython.Py_ssize_t:
    """Write the values of all samples as float32 (spec 10.3); return the first fault or -1.

    Args:
        layers: 1 to 8 arrays of bytes, as long as `measure` says.
        packed: shape (layers,), 1 for bit-packed layers, 0 for whole bytes.
        counts: shape (n,), values of each sample.
        widths: shape (n, layers), bits of each sample in each layer.
        missing: shape (n,), bits below the last layer here (k of spec 9.2).
        zero_point: shape (n,).
        max_code: shape (n,), the largest legal code, checked where `missing` is 0.
        gain: shape (n, channels).
        shift: shape (n, channels).
        out: shape (sum of counts,).
    """
    chunk: _Layers = _Layers(layers, packed, widths)
    return _decode(
        FLOAT32, chunk, counts, missing, zero_point, max_code, gain, shift,
        out, chunk.narrow, chunk.wide,
    )  # fmt: skip


def dequantize_uint8(
    layers: list,
    packed: cython.const[cython.uchar][::1],
    counts: cython.const[cython.longlong][::1],
    widths: cython.const[cython.uchar][:, ::1],
    missing: cython.const[cython.uchar][::1],
    zero_point: cython.const[cython.int][::1],
    max_code: cython.const[cython.int][::1],
    gain: cython.const[cython.float][:, ::1],
    shift: cython.const[cython.float][:, ::1],
    out: cython.uchar[::1],
) -> cython.Py_ssize_t:
    """As `dequantize_float32`, but write the integer picture v of spec 10.3."""
    chunk: _Layers = _Layers(layers, packed, widths)
    return _decode(
        LEVELS, chunk, counts, missing, zero_point, max_code, gain, shift,
        NO_FLOATS, out, chunk.wide,
    )  # fmt: skip


def join_uint8(
    layers: list,
    packed: cython.const[cython.uchar][::1],
    counts: cython.const[cython.longlong][::1],
    widths: cython.const[cython.uchar][:, ::1],
    missing: cython.const[cython.uchar][::1],
    max_code: cython.const[cython.int][::1],
    out: cython.uchar[::1],
) -> cython.Py_ssize_t:
    """Write the codes of all samples, where none has more than 8 bits in these layers."""
    chunk: _Layers = _Layers(layers, packed, widths)
    return _decode(
        OCTETS, chunk, counts, missing, max_code, max_code, ONES, ONES,
        NO_FLOATS, out, chunk.wide,
    )  # fmt: skip


def join_uint16(
    layers: list,
    packed: cython.const[cython.uchar][::1],
    counts: cython.const[cython.longlong][::1],
    widths: cython.const[cython.uchar][:, ::1],
    missing: cython.const[cython.uchar][::1],
    max_code: cython.const[cython.int][::1],
    out: cython.ushort[::1],
) -> cython.Py_ssize_t:
    """Write the codes of all samples as two bytes each."""
    chunk: _Layers = _Layers(layers, packed, widths)
    return _decode(
        SHORTS, chunk, counts, missing, max_code, max_code, ONES, ONES,
        NO_FLOATS, chunk.narrow, out,
    )  # fmt: skip
