"""Writing streams without compiled kernels: the same symbols and bytes, one by one in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.layout import (
    BANDS,
    BIT_FIRST,
    DC_BIT_FIRST,
    DC_FIRST,
    DC_LEANINGS,
    EDGE_WEIGHTS,
    ESCAPE,
    FLAG_FIRST,
    LEVEL_OF,
    LEVELS,
    SIGN_FIRST,
    dc_rounding,
)
from dsqformat.coding.block.model import BlockModel
from dsqformat.coding.block.plain_blocks import (
    GUARD,
    PLACES,
    dc_leaning,
    expect_known,
    field_of,
    profile_of,
)

_CLASSES: Final = BANDS * LEVELS
_LEVEL_OF: Final = LEVEL_OF.tolist()

# Of the left and of the upper block, in 1/64 of a DC code; None where there is none.
_Edges = tuple[int | None, int | None]


def symbols_plain(
    model: BlockModel,
    codes: NDArray[np.int32],
    leaves: NDArray[np.uint8],
    shift: int,
    layer: int,
) -> list[int]:
    """Return the symbols of one layer of one picture, as the kernel `emit` writes them."""
    emitter = _Emitter(model, codes, leaves, shift, layer)
    for y in range(0, codes.shape[1], 32):
        for x in range(0, codes.shape[2], 32):
            emitter.node(y, x, 3)
    return emitter.symbols


class _Emitter:
    """One layer of one picture while its symbols are worked out."""

    def __init__(
        self,
        model: BlockModel,
        codes: NDArray[np.int32],
        leaves: NDArray[np.uint8],
        shift: int,
        layer: int,
    ) -> None:
        self.symbols: list[int] = []
        self._model, self._codes, self._leaves = model, codes, leaves
        self._shift, self._layer = shift, layer
        self._right = np.zeros((model.planes, *leaves.shape), "i8")
        self._lower = np.zeros((model.planes, *leaves.shape), "i8")
        self._profiles: dict[tuple[int, int, int], NDArray[np.int64]] = {}

    def node(self, y: int, x: int, size: int) -> None:
        """Emit a node of the partition (spec A.3)."""
        _, height, width = self._codes.shape
        if y >= height or x >= width:
            return
        T, model = 4 << size, self._model
        split = int(self._leaves[y // 4, x // 4]) < size
        fits = size <= model.largest and y + T <= height and x + T <= width
        if fits and size > model.smallest and self._layer == 0:
            self.symbols.append((FLAG_FIRST + size) << 5 | split)
        if split:
            for i in (0, T // 2):
                for j in (0, T // 2):
                    self.node(y + i, x + j, size - 1)
            return
        whole = self._codes[:, y : y + T, x : x + T].astype("i8").reshape(model.planes, T * T, 1)
        codes = np.sign(whole) * (np.abs(whole) >> self._shift)
        rounding = dc_rounding(self._layer, self._layer + self._shift + 1)
        codes[:, 0] = (whole[:, 0] + rounding) >> self._shift
        for plane in range(model.planes):
            seen = self._seen(plane, y // 4, x // 4)
            field = field_of(seen[:, :, None], codes[:plane], size)
            near = self._edges(size, plane, y // 4, x // 4)
            if self._layer:
                self._further(codes[plane], field, size, int(plane > 0), near)
            else:
                self._first(codes[plane], field.ravel().tolist(), size, int(plane > 0), near)
            self._close(codes[plane].reshape(T, T), size, plane, y // 4, x // 4)
            profile = profile_of(codes[plane], size, 5 if plane else 6)[..., 0]
            self._profiles[plane, y // 4, x // 4] = profile

    def _seen(self, plane: int, cy: int, cx: int) -> NDArray[np.int64]:
        """Return the sum of the neighbours' profiles, shape (8, 8)."""
        found = []
        for there, ny, nx in ((cx > 0, cy, cx - 1), (cy > 0, cy - 1, cx)):
            if there:
                size = int(self._leaves[ny, nx])
                found.append(self._profiles[plane, ny >> size << size, nx >> size << size])
        if not found:
            return np.zeros((8, 8), "i8")
        return found[0] + found[-1]

    def _edges(self, size: int, plane: int, cy: int, cx: int) -> _Edges:
        """Return the edges of the left and of the upper block (spec A.4.1)."""
        T, span = 4 << size, 1 << size
        left = self._right[plane, cy : cy + span, cx - 1] if cx else None
        upper = self._lower[plane, cy - 1, cx : cx + span] if cy else None
        return (
            None if left is None else (int(left.sum()) >> size) * T,
            None if upper is None else (int(upper.sum()) >> size) * T,
        )

    def _close(self, block: NDArray[np.int64], size: int, plane: int, cy: int, cx: int) -> None:
        """Leave the edges of one plane of a block to later blocks."""
        T, span = 4 << size, 1 << size
        weights = EDGE_WEIGHTS[size, :T]
        self._right[plane, cy : cy + span, cx + span - 1] = int(block[0] @ weights) >> (size + 2)
        self._lower[plane, cy + span - 1, cx : cx + span] = int(block[:, 0] @ weights) >> (size + 2)

    def _first(
        self, codes: NDArray[np.int64], field: list[int], size: int, h: int, near: _Edges
    ) -> None:
        """Emit one plane of a block of layer 0 (spec A.4.1)."""
        out, T = self.symbols, 4 << size
        left, upper = near
        prediction, context = _predicted(near), 5 if left is None and upper is None else 0
        if left is not None and upper is not None:
            context = sum(abs(left - upper) >= step for step in (128, 256, 512, 1024))
        # A residual has 16 bits with its sign; what goes beyond is lost.
        whole = (prediction + 32) >> 6
        codes[0] = np.clip(codes[0], whole - 16000, whole + 16000)
        values = codes[:, 0].tolist()
        residual = values[0] - whole
        self._token(DC_FIRST + (2 * size + h) * 6 + context, residual)
        slopes = [0 if edge is None else (-3 * (64 * values[0] - edge)) >> 3 for edge in near]
        base = ((2 * size + h) * 2 + (left is None and upper is None)) * 2 * _CLASSES
        last = max((k for k, (_, at, _) in enumerate(PLACES[size]) if values[at]), default=0)
        open_, previous = _CLASSES, 0
        for k in range(1, T * T):
            place, at, band = PLACES[size][k]
            m = field[place] + previous
            if k < 3:
                m += min(64, abs(slopes[k - 1]) >> 3)
            context = base + open_ + band + _LEVEL_OF[m]
            if k > last:
                out.append(context << 5 | 1)
                break
            a = abs(values[at])
            if a == 0:
                out.append(context << 5)
                open_ = previous = 0
                continue
            self._magnitude(context, a)
            negative = int(values[at] < 0)
            if k < 3:
                g = slopes[k - 1]
                kind = (g >= -96) + (g >= -32) + (g >= 0) + (g > 32) + (g > 96)
                out.append((SIGN_FIRST + 6 * h + kind) << 5 | negative)
            else:
                out.append(-1 - (1 << 16 | negative))
            _push(field, place, min(a, 63), T + GUARD, h)
            open_, previous = _CLASSES, min(a, 63) * (2 if h else 4)

    def _token(self, context: int, residual: int) -> None:
        """Emit a residual of DC: a token and raw bits."""
        value = 2 * residual if residual >= 0 else -2 * residual - 1
        if value < 8:
            self.symbols.append(context << 5 | value)
            return
        n = value.bit_length() - 2
        self.symbols.append(context << 5 | 8 + 2 * (n - 2) + ((value >> n) & 1))
        self.symbols.append(-1 - (n << 16 | (value & ((1 << n) - 1))))

    def _magnitude(self, context: int, a: int) -> None:
        """Emit a magnitude above 0: a symbol and raw bits."""
        if a <= 12:
            self.symbols.append(context << 5 | (a + 1))
            return
        n = (a - 9).bit_length() - 1
        self.symbols.append(context << 5 | (12 + n))
        self.symbols.append(-1 - (n << 16 | (a - 9 - (1 << n))))

    def _further(
        self, codes: NDArray[np.int64], expected: NDArray[np.int64], size: int, h: int, near: _Edges
    ) -> None:
        """Emit one plane of a block of a further layer (spec A.4.2)."""
        out, T = self.symbols, 4 << size
        old = np.sign(codes) * (np.abs(codes) >> 1)
        old[0] = 0
        expect_known(expected.reshape(T + GUARD, T + GUARD, 1), old.reshape(T, T, 1), h)
        field, values = expected.ravel().tolist(), codes[:, 0].tolist()
        bit = (values[0] + self._layer) & 1
        ahead = np.array(_predicted(near) - 64 * (values[0] - bit) - 32)
        leaning = int(dc_leaning(ahead, np.array(near == (None, None))))
        out.append((DC_BIT_FIRST + (2 * size + h) * DC_LEANINGS + leaning) << 5 | bit)
        fresh = (k for k, (_, at, _) in enumerate(PLACES[size]) if k and abs(values[at]) == 1)
        last = max(fresh, default=0)
        base, open_, over = (2 * size + h) * 2 * _CLASSES, _CLASSES, False
        for k in range(1, T * T):
            place, at, band = PLACES[size][k]
            a = abs(values[at])
            if a > 1:
                out.append((BIT_FIRST + 3 * h + min(a >> 1, 3) - 1) << 5 | (a & 1))
            elif not over:
                context = base + open_ + band + _LEVEL_OF[field[place]]
                over = k > last
                out.append(context << 5 | (1 if over else 2 * a))
                open_ = _CLASSES * a
                if a:
                    out.append(-1 - (1 << 16 | (values[at] < 0)))
                    _push(field, place, 1, T + GUARD, h)


def _predicted(near: _Edges) -> int:
    """Return the DC code, in 1/64, that edges of neighbours suggest."""
    there = [edge for edge in near if edge is not None]
    return sum(there) >> (len(there) > 1)


def _push(field: list[int], place: int, a: int, row: int, h: int) -> None:
    near, diagonal = (2 * a, 2 * a) if h else ((5 * a + 1) >> 1, a)
    field[place + 1] += near
    field[place + 2] += a
    field[place + row] += near
    field[place + row + 1] += diagonal
    field[place + 2 * row] += a


def stream_plain(symbols: Sequence[int], tables: NDArray[np.uint16], first: int) -> bytes:
    """Code symbols, last first, as one stream (spec A.8).

    Args:
        symbols: of `symbols_plain`.
        tables: the context maps of all layers, then the tables they point to.
        first: where the map of this layer begins.
    """
    starts = tables.tolist()
    x = 0
    words = []

    def spill() -> int:
        words.append(x & 0xFFFFFFFF)
        return x >> 32

    def push_raw(count: int, value: int) -> int:
        state = spill() if x >> (63 - count) else x
        return state << count | value

    for op in reversed(symbols):
        if op < 0:
            x = push_raw(-1 - op >> 16, -1 - op & 0xFFFF)
            continue
        table, symbol = starts[first + (op >> 5)], op & 31
        low, high = starts[table + symbol : table + symbol + 2]
        if low == high or symbol == ESCAPE:
            x = push_raw(5, symbol)
            low, high = starts[table + ESCAPE], 4096
        width = high - low
        if x >= width << 51:
            x = spill()
        x = (x // width << 12) + low + x % width
    while x.bit_length() > 24:
        x = spill()
    head = x.to_bytes((x.bit_length() + 7) // 8, "little")
    return head + b"".join(word.to_bytes(4, "little") for word in reversed(words))
