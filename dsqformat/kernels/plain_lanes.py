"""The neighbourhood of a value in many samples at once, in NumPy.

All samples ("lanes") have the same shape and the same configuration and are walked in step.
Numbers are float64: every one is an integer far below 2^53, and products run through BLAS.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from dsqformat.kernels.plain_layout import (
    CLASSES,
    CURRENT,
    CURRENT_TAPS,
    DIRECT_BITS,
    EN,
    ENERGY,
    ENERGY_TOP,
    ERRORS,
    FIRST_LEVEL,
    LEVELS,
    LUT,
    MIDDLE,
    NN,
    NUMBERS,
    ROWS,
    SLACK,
    SS,
    N,
    S,
    row_lanes,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Model = tuple[NDArray[Any], ...]


class Lanes:
    """Rows around the current one, of many samples; used in the order of the values.

    Args:
        model: numbers, borders, weights, bias, energy and levels, as the kernels take them.
        config: number of the configuration.
        channels: 1 to 4.
        coarse: int, shape (lanes, height, width, channels), what the layers before say.
    """

    def __init__(self, model: Model, config: int, channels: int, coarse: NDArray[Any]) -> None:
        numbers, borders, weights, bias, energy, levels = model
        self.above, self.bits, self.context, self.bins, first, *_ = numbers[
            NUMBERS * config : NUMBERS * (config + 1)
        ].tolist()
        limits = borders[(CLASSES - 1) * config : (CLASSES - 1) * (config + 1)]
        self.borders = limits[limits < np.iinfo("i4").max]
        part = slice(first * channels, (first + len(self.borders) + 1) * channels)
        self.size = len(weights) // len(bias)
        self.weights = weights.reshape(-1, self.size)[part].astype("f8")
        self.bias = bias[part].astype("f8")
        self.energy = energy.reshape(-1, ENERGY)[channels * config : channels * (config + 1)]
        self.energy = self.energy.astype("f8")
        self.levels = levels[config * LUT : (config + 1) * LUT]
        self.coarse, self.channels = coarse, channels
        self.height, self.width = coarse.shape[1:3]
        total = self.above + self.bits
        self.middle = (1 << total) >> 1
        self.top = ((1 << total) - 1) << 4
        self.loss = max(0, total - 8)
        self.stride = (self.width + 4) * channels + SLACK
        self.rows = np.zeros((ROWS, len(coarse), self.stride))
        self._summed = self._foreseen = self._gradient = np.empty(0)
        self._places = np.empty(0, "i8")
        self._steps = np.arange(len(coarse))[:, np.newaxis] * (len(self.borders) + 1)
        # Per channel the weights of the current row, (taps, classes), or (taps,) of the only one.
        left = self.size - CURRENT_TAPS + (channels if self.above else 0)
        grouped = self.weights.reshape(-1, channels, self.size)
        self._current = []
        for k in range(channels):
            right = self.size - CURRENT_TAPS + 2 * channels + k
            found = np.ascontiguousarray(grouped[:, k, left:right].T)
            self._current.append(found if len(self.borders) else found[:, 0])
        self._prepared = 0

    def start_row(self, y: int) -> None:
        """Prepare row y; rows come in order."""
        rows, c = self.rows, self.channels
        if y:
            for row in (CURRENT, ERRORS):
                self._extend(rows[row])
            rows[NN], rows[N], rows[EN] = rows[N], rows[CURRENT], rows[ERRORS]
        if self.above:
            if y == 0:
                self._fill(rows[S], 0)
                self._fill(rows[SS], min(1, self.height - 1))
                rows[NN] = rows[N] = rows[S]
            rows[MIDDLE], rows[S] = rows[S], rows[SS]
            if y + 2 < self.height:
                self._fill(rows[SS], y + 2)
        rows[CURRENT, :, : 2 * c] = rows[N, :, : 2 * c]
        rows[ERRORS, :, : 2 * c] = rows[EN, :, : 2 * c]
        if y:
            self._prepare(0, self.width)

    def _fill(self, row: Floats, y: int) -> None:
        c = self.channels
        half = ((1 << self.bits) >> 1) - self.middle
        middles = self.coarse[:, y].astype("f8") * (1 << self.bits) + half
        row[:, 2 * c : (self.width + 2) * c] = middles.reshape(len(row), -1)
        self._extend(row)

    def _extend(self, row: Floats) -> None:
        c, end = self.channels, (self.width + 2) * self.channels
        row[:, : 2 * c] = np.tile(row[:, 2 * c : 3 * c], 2)
        row[:, end : end + 2 * c] = np.tile(row[:, end - c : end], 2)

    def _prepare(self, begin: int, end: int) -> None:
        """Sum up for some pixels what does not depend on the current row."""
        rows, c = self.rows, self.channels
        north, west, east = self._pixels(N, begin, end)
        self._gradient = np.abs(north - west) + np.abs(north - east)
        classes = np.searchsorted(self.borders, self._activity(begin, end), "right")
        at = [(NN, -2, 5), (N, -2, 5)]
        if self.above:
            at += [(MIDDLE, 0, 3), (S, -2, 5), (SS, -2, 5)]
        total: Any = 0.0
        step = row_lanes(c)
        for block, (row, offset, pixels) in enumerate(at):
            window = self._windows(rows[row], begin + offset, end + offset, pixels)
            total = total + window @ self.weights[:, block * step : block * step + pixels * c].T
        total += 128 + 256 * (self.bias + 16 * self.middle)
        total = total.reshape(*classes.shape, -1, c)
        self._summed = np.take_along_axis(total, classes[:, :, np.newaxis, np.newaxis], axis=2)
        self._summed = self._summed[:, :, 0]
        self._places = classes + self._steps
        window = self._windows(rows[EN], begin - 1, end - 1, 3)
        self._foreseen = window @ self.energy[:, : 3 * c].T + 256 * self.energy[:, 25]
        self._prepared = begin

    def _pixels(self, row: int, begin: int, end: int) -> tuple[Floats, Floats, Floats]:
        """Return some pixels of a row and those to their left and right, (lanes, pixels, c)."""
        c = self.channels
        parts = [
            self.rows[row, :, (begin + 2 + d) * c : (end + 2 + d) * c].reshape(-1, end - begin, c)
            for d in (0, -1, 1)
        ]
        return parts[0], parts[1], parts[2]

    def _windows(self, row: Floats, begin: int, end: int, pixels: int) -> Floats:
        """Return so many pixels from each pixel on, shape (lanes, pixels, pixels * channels)."""
        c = self.channels
        part = row[:, (begin + 2) * c : (end + 1 + pixels) * c]
        return sliding_window_view(part, pixels * c, axis=1)[:, ::c]

    def expect(self, y: int, x: int, k: int) -> tuple[Ints, Ints]:
        """Return the prediction in sixteenths and the level, int64, shape (lanes,)."""
        if y == 0 and k == 0:
            self._prepare(x, x + 1)
        rows, c, part = self.rows, self.channels, x - self._prepared
        here = (x + 2) * c
        weights = self._current[k]
        taps = rows[CURRENT, :, here + k - len(weights) : here + k]
        current = taps @ weights
        if len(self.borders):
            current = current.ravel()[self._places[:, part]]
        predicted = (self._summed[:, part, k] + current).astype("i8") >> 8
        np.minimum(np.maximum(predicted, 0, out=predicted), self.top, out=predicted)
        if x == 0 and y == 0:
            return predicted, np.full(len(predicted), FIRST_LEVEL)
        west = rows[CURRENT, :, here - c + k] - rows[N, :, here - c + k]
        gradient = (self._gradient[:, part, k] + np.abs(west)).astype("i8") >> self.loss
        energy = rows[ERRORS, :, here - c : here + k] @ self.energy[k, 16 : 16 + c + k]
        energy += self._foreseen[:, part, k]
        energy += np.minimum(gradient, ENERGY_TOP) * self.energy[k, 24]
        found = energy.astype("i8") >> 8
        return predicted, self.levels[np.minimum(np.maximum(found, 0), ENERGY_TOP)].astype("i8")

    def contexts(self, k: int, predicted: Ints, level: Ints, base: Ints) -> Ints:
        """Return the context of each lane."""
        offset = predicted - (base << 4)
        if self.bits <= DIRECT_BITS:
            offset = np.minimum(np.maximum(offset + 16, 0), (16 << self.bits) + 16)
            place: Ints = offset >> max(0, self.bits - 2)
        else:
            place = (np.minimum(np.maximum(offset, 0), ((1 << self.bits) - 1) << 4) & 15) >> 2
        context: Ints = (self.context + k * LEVELS * self.bins) + level * self.bins + place
        return context

    def whole(self, predicted: Ints, base: Ints) -> Ints:
        """Return the predicted value of the layer."""
        top = ((1 << self.bits) - 1) << 4
        whole: Ints = np.minimum(np.maximum(predicted - (base << 4), 0), top) >> 4
        return whole

    def store(self, x: int, k: int, value: Ints, predicted: Ints) -> None:
        """Take the value of each lane at pixel x, channel k of the current row."""
        at = (x + 2) * self.channels + k
        self.rows[CURRENT, :, at] = value - self.middle
        error = np.abs((value << 4) - predicted) >> self.loss
        self.rows[ERRORS, :, at] = np.minimum(error, ENERGY_TOP)

    def leave_out(self, x: int, gone: Ints) -> Ints:
        """Give pixel x of some lanes the values and errors of the one to its left.

        Returns:
            Its codes, int64, shape (lanes, channels).
        """
        c, at = self.channels, (x + 2) * self.channels
        for row in (CURRENT, ERRORS):
            self.rows[row, gone, at : at + c] = self.rows[row, gone, at - c : at]
        found: Ints = self.rows[CURRENT, gone, at : at + c].astype("i8") + self.middle
        return found

    def end_pixel(self, y: int, x: int) -> None:
        """Finish a pixel: in the first row the pixels above are those to the left."""
        if y:
            return
        c, at = self.channels, (x + 2) * self.channels
        errors = self.rows[ERRORS, :, at : at + c]
        self.rows[EN, :, at + c : at + 3 * c] = np.tile(errors, 2)
        if not self.above:
            pixel = np.tile(self.rows[CURRENT, :, at : at + c], 3)
            self.rows[N, :, at + c : at + 4 * c] = pixel
            self.rows[NN, :, at + c : at + 4 * c] = pixel

    def look_around(self, x: int, k: int) -> Ints:
        """Return all columns of `seen` (see `kernels.rans_trace.trace`) but the last two."""
        rows, c, at = self.rows, self.channels, (x + 2) * self.channels
        step, left, part = row_lanes(self.channels), x * self.channels, x - self._prepared
        w, nw = rows[CURRENT, :, at - c + k], rows[N, :, at - c + k]
        gradient = (self._gradient[:, part, k] + np.abs(w - nw)).astype("i8") >> self.loss
        parts = [
            rows[NN, :, left : left + step],
            rows[N, :, left : left + step],
            rows[MIDDLE, :, at : at + step],
            rows[S, :, left : left + step],
            rows[SS, :, left : left + step],
            rows[CURRENT, :, left : left + 16],
            rows[EN, :, at - c : at - c + 16],
            rows[ERRORS, :, at - c : at - c + 8],
            np.minimum(gradient, ENERGY_TOP)[:, np.newaxis],
            self._activity(x, x + 1),
        ]
        return np.concatenate(parts, axis=1).astype("i8")

    def _activity(self, begin: int, end: int) -> Floats:
        """Return how much changes around some pixels, shape (lanes, pixels)."""
        north, west, east = self._pixels(N, begin, end)
        total = np.abs(north - west) + np.abs(north - east)
        total += np.abs(north - self._pixels(NN, begin, end)[0])
        if self.above:
            middle, _, right = self._pixels(MIDDLE, begin, end)
            total += np.abs(middle - self._pixels(S, begin, end)[0]) + np.abs(right - middle)
        summed: Floats = total.sum(axis=2)
        return summed
