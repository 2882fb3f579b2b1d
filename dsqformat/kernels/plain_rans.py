"""The kernels of `rans` in NumPy: the same results, all streams of a segment in step.

Streams that hold samples of several shapes or widths are divided into groups that agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.kernels.plain_lanes import Ints, Lanes
from dsqformat.kernels.plain_layout import CURRENT, DIRECT_BITS, ERRORS, NUMBERS, SYMBOLS

LOW = 1 << 16


def trace(
    codes: NDArray[np.uint16],
    first: NDArray[np.int64],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    config: NDArray[np.int32],
    channels: int,
    numbers: NDArray[np.int32],
    borders: NDArray[np.int32],
    weights: NDArray[np.int16],
    bias: NDArray[np.int32],
    energy: NDArray[np.int16],
    mixes: NDArray[np.int16],
    constants: NDArray[np.int32],
    levels: NDArray[np.uint8],
    shorts: NDArray[np.int16],
    ints: NDArray[np.int32],
    contexts: NDArray[np.int32],
    symbols: NDArray[np.uint8],
    extras: NDArray[np.uint16],
    seen: NDArray[np.int32],
    every: int,
    kept: NDArray[np.uint8],
) -> None:
    """As `rans_trace.trace`."""
    del mixes, constants, shorts, ints
    model = (numbers, borders, weights, bias, energy, levels)
    coded = _coded(kept, codes, channels)
    counts = _sums(coded, first, heights * widths * channels)
    target = np.cumsum(np.where(config >= 0, counts, 0))
    target -= np.where(config >= 0, counts, 0)
    for chosen in _alike(heights, widths, config, np.arange(len(first))):
        shape = (int(heights[chosen[0]]), int(widths[chosen[0]]), channels)
        places = first[chosen, np.newaxis] + np.arange(np.prod(shape))
        values = codes[places]
        number = int(config[chosen[0]])
        coarse = (values >> int(numbers[NUMBERS * number + 1])).reshape(-1, *shape)
        lanes = Lanes(model, number, channels, coarse)
        out = (contexts, symbols, extras, seen)
        # Where the numbers of each value go, and which values there are.
        here = coded[places]
        target_of = target[chosen, np.newaxis] + np.cumsum(here, axis=1) - here
        _trace_alike(lanes, values.astype("i8"), here, target_of, out, every)


def _trace_alike(
    lanes: Lanes,
    codes: Ints,
    coded: NDArray[np.bool_],
    target: Ints,
    out: tuple[NDArray[Any], ...],
    every: int,
) -> None:
    contexts, symbols, extras, seen = out
    channels = lanes.channels
    for i, (y, x, k) in enumerate(_positions(lanes)):
        here = np.nonzero(coded[:, i])[0]
        value = codes[:, i]
        base = value >> lanes.bits << lanes.bits
        predicted, level = lanes.expect(y, x, k)
        pixel = target[:, i] // channels
        row = pixel // every * channels + k
        watched = np.nonzero((pixel % every == 0) & (row < len(seen)) & coded[:, i])[0]
        if len(watched):
            seen[row[watched], :-2] = lanes.look_around(x, k)[watched]
        contexts[target[here, i]] = lanes.contexts(k, predicted, level, base)[here]
        symbol, extra = value - base, np.zeros_like(value)
        if lanes.bits > DIRECT_BITS:
            z = _fold(symbol, lanes.whole(predicted, base), (1 << lanes.bits) - 1)
            size = np.frexp(np.maximum(z, 16).astype("f8"))[1] - 1
            long = 16 + 2 * (size - 4) + (z >> (size - 1) & 1)
            symbol = np.where(z < 16, z, long)
            extra = np.where(z < 16, 0, z & ((1 << (size - 1)) - 1))
        symbols[target[here, i]] = symbol[here]
        extras[target[here, i]] = extra[here]
        lanes.store(x, k, value, predicted)
        if len(watched):
            at = (x + 2) * channels + k
            seen[row[watched], -2] = lanes.rows[ERRORS, watched, at]
            seen[row[watched], -1] = lanes.rows[CURRENT, watched, at]
        if k == channels - 1:
            lanes.leave_out(x, np.nonzero(~coded[:, i])[0])
            lanes.end_pixel(y, x)


def encode_streams(
    contexts: NDArray[np.int32],
    symbols: NDArray[np.uint8],
    extras: NDArray[np.uint16],
    stream_end: NDArray[np.int64],
    table_of: NDArray[np.uint16],
    ranges: NDArray[np.uint32],
    out: NDArray[np.uint8],
    lengths: NDArray[np.int64],
) -> int:
    """As `rans_encode.encode_streams`."""
    entries = ranges[table_of[contexts].astype("i8") * SYMBOLS + symbols].astype("i8")
    if not entries.all() or not (entries >> 16).all():
        return -1 - int(np.nonzero(entries >> 16 == 0)[0].max())
    counts = np.diff(stream_end, prepend=0)
    state = np.zeros(len(counts), "i8")
    lane_parts: list[Ints] = []
    word_parts: list[Ints] = []

    def emit(lanes: Ints) -> None:
        lane_parts.append(lanes)
        word_parts.append(state[lanes] & 65535)
        state[lanes] >>= 16

    for step in range(int(counts.max(initial=0))):
        lanes = np.nonzero(counts > step)[0]
        i = stream_end[lanes] - 1 - step
        raw = lanes[symbols[i] >= 16]
        if len(raw):
            j = stream_end[raw] - 1 - step
            size = 3 + ((symbols[j].astype("i8") - 16) >> 1)
            emit(raw[state[raw] >> (32 - size) > 0])
            state[raw] = state[raw] << size | extras[j]
        frequency = entries[i] >> 16
        emit(lanes[state[lanes] >> 20 >= frequency])
        whole, rest = np.divmod(state[lanes], frequency)
        state[lanes] = (whole << 12) + (entries[i] & 65535) + rest
    lane = np.concatenate(lane_parts) if lane_parts else np.empty(0, "i8")
    word = np.concatenate(word_parts) if word_parts else np.empty(0, "i8")
    order = np.argsort(lane, kind="stable")
    ends = np.searchsorted(lane[order], np.arange(len(counts)), "right").tolist()
    streams, begin = [], 0
    for number, end in enumerate(ends):
        head = int(state[number])
        body = word[order[begin:end]][::-1].astype(">u2").tobytes()
        streams.append(head.to_bytes((head.bit_length() + 7) // 8, "big") + body)
        lengths[number] = len(streams[-1])
        begin = end
    joined = b"".join(streams)
    at = len(out) - len(joined)
    out[at:] = np.frombuffer(joined, "u1")
    return at


def decode_streams(
    data: NDArray[np.uint8],
    stream_end: NDArray[np.int64],
    samples_per_stream: int,
    codes: NDArray[np.uint16],
    first: NDArray[np.int64],
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    config: NDArray[np.int32],
    channels: int,
    numbers: NDArray[np.int32],
    borders: NDArray[np.int32],
    weights: NDArray[np.int16],
    bias: NDArray[np.int32],
    energy: NDArray[np.int16],
    mixes: NDArray[np.int16],
    constants: NDArray[np.int32],
    levels: NDArray[np.uint8],
    table_of: NDArray[np.uint16],
    nearest: NDArray[np.uint8],
    starts: NDArray[np.int16],
    ranges: NDArray[np.uint32],
    states: NDArray[np.int64],
    shorts: NDArray[np.int16],
    ints: NDArray[np.int32],
    kept: NDArray[np.uint8],
) -> int:
    """As `rans_decode.decode_streams`; of several corrupt samples another one may be named."""
    del mixes, constants, nearest, starts, states, shorts, ints
    model = (numbers, borders, weights, bias, energy, levels)
    reader = _Streams(data, stream_end, table_of, ranges)
    coded = _coded(kept, codes, channels)
    for turn in range(samples_per_stream):
        samples = np.arange(turn, len(first), samples_per_stream)
        for chosen in _alike(heights, widths, config, samples):
            shape = (int(heights[chosen[0]]), int(widths[chosen[0]]), channels)
            places = first[chosen, np.newaxis] + np.arange(np.prod(shape))
            lanes = Lanes(
                model, int(config[chosen[0]]), channels, codes[places].reshape(-1, *shape)
            )
            values = np.empty(places.shape, "u2")
            streams = chosen // samples_per_stream
            bad = _decode_alike(lanes, reader, streams, coded[places], values)
            if bad >= 0:
                return int(chosen[bad])
            codes[places] = values
    left = np.nonzero((reader.state != 0) | (reader.pos != stream_end))[0]
    return min((int(left[0]) + 1) * samples_per_stream, len(first)) - 1 if len(left) else -1


class _Streams:
    """States of all rANS streams."""

    def __init__(
        self,
        data: NDArray[np.uint8],
        stream_end: Ints,
        table_of: NDArray[np.uint16],
        ranges: NDArray[np.uint32],
    ) -> None:
        self.end = stream_end
        self.pos = np.concatenate([[0], stream_end[:-1]]).astype("i8")
        length = self.end - self.pos
        head = np.minimum(length, 4 - (length & 1))
        self.state = np.zeros(len(stream_end), "i8")
        self.data = np.concatenate([data, np.zeros(4, "u1")]).astype("i8")
        for i in range(4):
            some = np.nonzero(head > i)[0]
            self.state[some] = self.state[some] << 8 | self.data[self.pos[some] + i]
        self.pos += head
        self.table_of = table_of.astype("i8")
        self.frequency = (ranges >> 16).astype("i8")
        alphabet = np.tile(np.arange(SYMBOLS), len(ranges) // SYMBOLS)
        self.symbol_of = np.repeat(alphabet, self.frequency)
        self.start = (ranges & 65535).astype("i8")

    def symbols(self, lanes: Ints | slice, contexts: Ints) -> Ints:
        """Decode one symbol of some streams."""
        state = self.state[lanes]
        slot = state & 4095
        table = self.table_of[contexts]
        symbol: Ints = self.symbol_of[(table << 12) + slot]
        entry = table * SYMBOLS + symbol
        self.state[lanes] = self.frequency[entry] * (state >> 12) + slot - self.start[entry]
        self._refill(lanes)
        return symbol

    def raw(self, lanes: Ints, size: Ints) -> Ints:
        """Decode some plain bits of some streams."""
        found: Ints = self.state[lanes] & ((1 << size) - 1)
        self.state[lanes] >>= size
        self._refill(lanes)
        return found

    def _refill(self, lanes: Ints | slice) -> None:
        wanting = (self.state[lanes] < LOW) & (self.pos[lanes] < self.end[lanes])
        low = np.nonzero(wanting)[0] if isinstance(lanes, slice) else lanes[wanting]
        if len(low):
            at = self.pos[low]
            self.state[low] = self.state[low] << 16 | self.data[at] << 8 | self.data[at + 1]
            self.pos[low] = at + 2


def _decode_alike(
    lanes: Lanes,
    reader: _Streams,
    streams: Ints,
    coded: NDArray[np.bool_],
    values: NDArray[np.uint16],
) -> int:
    """Decode one sample of each of some streams; return -1 or a lane that is corrupt."""
    whole = bool(coded.all())
    chosen: Ints | slice = slice(None) if len(streams) == len(reader.state) else streams
    coarse = lanes.coarse.reshape(len(streams), -1).astype("i8") << lanes.bits
    top = (1 << lanes.bits) - 1
    for i, (y, x, k) in enumerate(_positions(lanes)):
        # The lanes that have a symbol here.
        here: Ints | slice = slice(None) if whole else np.nonzero(coded[:, i])[0]
        base = coarse[:, i]
        predicted, level = lanes.expect(y, x, k)
        contexts = lanes.contexts(k, predicted, level, base)[here]
        symbol = reader.symbols(chosen if whole else streams[here], contexts)
        if lanes.bits > DIRECT_BITS:
            some = np.nonzero(symbol >= 16)[0]
            if len(some):
                size = 3 + ((symbol[some] - 16) >> 1)
                high = (2 | (symbol[some] & 1)) << size
                symbol[some] = high | reader.raw(streams[here][some], size)
                if (symbol[some] > top).any():
                    return int(np.arange(len(streams))[here][some[symbol[some].argmax()]])
            symbol = _unfold(symbol, lanes.whole(predicted, base)[here], top)
        value = base.copy()
        value[here] += symbol
        values[:, i] = value
        lanes.store(x, k, value, predicted)
        if k == lanes.channels - 1:
            if not whole:
                gone = np.nonzero(~coded[:, i])[0]
                values[gone, i - k : i + 1] = lanes.leave_out(x, gone)
            lanes.end_pixel(y, x)
    return -1


def _positions(lanes: Lanes) -> Iterator[tuple[int, int, int]]:
    for y in range(lanes.height):
        lanes.start_row(y)
        for x in range(lanes.width):
            for k in range(lanes.channels):
                yield y, x, k


def _coded(kept: NDArray[np.uint8], codes: NDArray[np.uint16], channels: int) -> NDArray[np.bool_]:
    """Return which values are coded."""
    return np.repeat(kept, channels).astype("?") if len(kept) else np.ones(len(codes), "?")


def _sums(coded: NDArray[np.bool_], first: Ints, counts: Ints) -> Ints:
    """Return how many values of each sample are coded."""
    ends = np.concatenate([[0], np.cumsum(coded)])
    found: Ints = ends[first + counts] - ends[first]
    return found


def _alike(heights: Ints, widths: Ints, config: NDArray[np.int32], samples: Ints) -> Iterator[Ints]:
    """Divide samples that have values into groups of one shape and configuration."""
    samples = samples[(config[samples] >= 0) & (heights[samples] * widths[samples] > 0)]
    key = np.stack([heights[samples], widths[samples], config[samples]], axis=1)
    _, group = np.unique(key, axis=0, return_inverse=True)
    group = group.ravel()
    for number in range(int(group.max(initial=-1)) + 1):
        yield samples[group == number]


def _fold(value: Ints, expected: Ints, top: int) -> Ints:
    reach = np.minimum(expected, top - expected)
    d = value - expected
    near = np.where(d >= 0, 2 * d, -2 * d - 1)
    return np.where(np.abs(d) > reach, np.abs(d) + reach, near)


def _unfold(z: Ints, expected: Ints, top: int) -> Ints:
    reach = np.minimum(expected, top - expected)
    far = np.where(expected < top - expected, z - reach, reach - z)
    near = np.where(z & 1, -((z + 1) >> 1), z >> 1)
    return expected + np.where(z > 2 * reach, far, near)
