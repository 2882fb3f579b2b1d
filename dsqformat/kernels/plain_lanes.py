"""The neighbourhood of a value in many samples at once, in NumPy.

All samples ("lanes") have the same shape and the same configuration and are walked in step.
Numbers are float64: every one is an integer far below 2^53, and products run through BLAS.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

DIRECT_BITS, LEVELS, FIRST_LEVEL = 4, 16, 15
PREDICTOR, ENERGY, ENERGY_TOP, LUT, SLACK = 56, 34, 4095, 4096, 16
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Lanes:
    """Rows around the current one, of many samples; used in the order of the values.

    Args:
        model: numbers, weights, bias, energy and levels, as the kernels take them.
        config: number of the configuration.
        channels: 1 to 4.
        coarse: int, shape (lanes, height, width, channels), what the layers before say.
    """

    def __init__(
        self, model: tuple[NDArray[Any], ...], config: int, channels: int, coarse: NDArray[Any]
    ) -> None:
        numbers, weights, bias, energy, levels = model
        self.above, self.bits, self.context, self.bins = numbers[
            4 * config : 4 * config + 4
        ].tolist()
        part = slice(config * channels, (config + 1) * channels)
        self.weights = weights.reshape(-1, PREDICTOR)[part].astype("f8")
        self.energy = energy.reshape(-1, ENERGY)[part].astype("f8")
        self.bias = bias[part].tolist()
        self.levels = levels[config * LUT : (config + 1) * LUT]
        self.coarse = coarse
        self.channels = channels
        self.height, self.width = coarse.shape[1:3]
        total = self.above + self.bits
        self.middle = (1 << total) >> 1
        self.zero = 16 * self.middle
        self.top = ((1 << total) - 1) << 4
        self.loss = max(0, total - 8)
        self.stride = (self.width + 4) * channels
        self.rows = np.zeros((len(coarse), 4 * self.stride + SLACK))
        self.errors = np.zeros((len(coarse), 2 * self.stride + SLACK))
        self._row_predicted = self._row_energy = self._row_gradient = np.empty(0)
        self._part_from = 0

    def start_row(self, y: int) -> None:
        """Prepare row y; rows come in order."""
        stride, c = self.stride, self.channels
        rows, errors = self.rows, self.errors
        if y:
            for array, at in ((rows, 2 * stride), (errors, stride)):
                array[:, at : at + 2 * c] = np.tile(array[:, at + 2 * c : at + 3 * c], 2)
                end = at + stride
                array[:, end - 2 * c : end] = np.tile(array[:, end - 3 * c : end - 2 * c], 2)
            rows[:, : 2 * stride] = rows[:, stride : 3 * stride].copy()
            errors[:, :stride] = errors[:, stride : 2 * stride]
            errors[:, stride : 2 * stride] = 0
            rows[:, 2 * stride : 3 * stride] = 0
        if self.above:
            if not y:
                self._fill_south(0)
            rows[:, 2 * stride : 3 * stride] = rows[:, 3 * stride : 4 * stride]
            if y + 1 < self.height:
                self._fill_south(y + 1)
        rows[:, 2 * stride : 2 * stride + 2 * c] = rows[:, stride : stride + 2 * c] if y else 0
        errors[:, stride : stride + 2 * c] = errors[:, : 2 * c] if y else 0
        if y:
            self._prepare(0, self.width)

    def _fill_south(self, y: int) -> None:
        c, at = self.channels, 3 * self.stride
        half = ((1 << self.bits) >> 1) - self.middle
        middles = self.coarse[:, y].astype("f8") * (1 << self.bits) + half
        padded = np.concatenate(
            [middles[:, :1], middles[:, :1], middles, middles[:, -1:], middles[:, -1:]], axis=1
        )
        self.rows[:, at : at + self.stride] = padded.reshape(len(padded), (self.width + 4) * c)

    def _prepare(self, begin: int, end: int) -> None:
        """Sum up for some pixels what does not depend on the current row."""
        c, stride = self.channels, self.stride
        first, last = (begin + 2) * c, (end + 1) * c + 1

        def windows(array: Floats, at: int, size: int) -> Floats:
            return sliding_window_view(array[:, at + first : at + last - 1 + size], size, axis=1)[
                :, ::c
            ]

        rows, errors = self.rows, self.errors
        total = windows(rows, 0, 8) @ self.weights[:, :8].T
        total += windows(rows, stride - c, 16) @ self.weights[:, 8:24].T
        if self.above:
            total += windows(rows, 3 * stride - c, 16) @ self.weights[:, 40:].T
        self._row_predicted = total + 128.0
        self._row_energy = windows(errors, -c, 16) @ self.energy[:, :16].T
        north = windows(rows, stride, c)
        west, east = windows(rows, stride - c, c), windows(rows, stride + c, c)
        self._row_gradient = np.abs(north - west) + np.abs(north - east)
        self._part_from = begin

    def expect(self, y: int, x: int, k: int) -> tuple[Ints, Ints]:
        """Return the prediction in sixteenths and the level, int64, shape (lanes,)."""
        if y == 0 and k == 0:
            self._prepare(x, x + 1)
        c, stride = self.channels, self.stride
        part, at = x - self._part_from, (x + 2) * c
        current = 2 * stride + at
        total = self._row_predicted[:, part, k] + (
            self.rows[:, current - 2 * c : current - 2 * c + 16] @ self.weights[k, 24:40]
        )
        predicted = (total.astype("i8") >> 8) + (self.bias[k] + self.zero)
        np.minimum(np.maximum(predicted, 0, out=predicted), self.top, out=predicted)
        if x == 0 and y == 0:
            return predicted, np.full(len(predicted), FIRST_LEVEL)
        west = self.rows[:, current - c + k] - self.rows[:, stride + at - c + k]
        gradient = (self._row_gradient[:, part, k] + np.abs(west)).astype("i8") >> self.loss
        energy = self._row_energy[:, part, k] + (
            self.errors[:, stride + at - 2 * c : stride + at - 2 * c + 16] @ self.energy[k, 16:32]
        )
        energy += np.minimum(gradient, ENERGY_TOP) * self.energy[k, 32]
        found = (energy.astype("i8") >> 8) + int(self.energy[k, 33])
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
        self.rows[:, 2 * self.stride + at] = value - self.middle
        error = np.abs((value << 4) - predicted) >> self.loss
        self.errors[:, self.stride + at] = np.minimum(error, ENERGY_TOP)

    def end_pixel(self, y: int, x: int) -> None:
        """Finish a pixel: in the first row the pixels above are those to the left."""
        if y:
            return
        c, stride, at = self.channels, self.stride, (x + 2) * self.channels
        pixel = self.rows[:, 2 * stride + at : 2 * stride + at + c]
        self.rows[:, stride + at + c : stride + at + 2 * c] = pixel
        self.rows[:, stride + at + 2 * c : stride + at + 3 * c] = pixel
        self.rows[:, at + c : at + 2 * c] = pixel
        error = self.errors[:, stride + at : stride + at + c]
        self.errors[:, at + c : at + 2 * c] = error
        self.errors[:, at + 2 * c : at + 3 * c] = error

    def look_around(self, y: int, x: int, k: int) -> NDArray[np.int16]:
        """Return the first 89 columns of `seen` (see `kernels.rans.trace`)."""
        c, stride, at = self.channels, self.stride, (x + 2) * self.channels
        rows, errors = self.rows, self.errors
        w, n = rows[:, 2 * stride + at - c + k], rows[:, stride + at + k]
        nw, ne = rows[:, stride + at - c + k], rows[:, stride + at + c + k]
        gradient = (np.abs(w - nw) + np.abs(n - nw) + np.abs(n - ne)).astype("i8") >> self.loss
        north, current, south = stride + at - c, 2 * stride + at - 2 * c, 3 * stride + at - c
        parts = [
            rows[:, at : at + 8],
            rows[:, north : north + 16],
            rows[:, current : current + 16],
            rows[:, south : south + 16],
            errors[:, at - c : at - c + 16],
            errors[:, stride + at - 2 * c : stride + at - 2 * c + 16],
            np.minimum(gradient, ENERGY_TOP)[:, np.newaxis],
        ]
        return np.concatenate(parts, axis=1).astype("i2")
