"""Reading symbols in NumPy, one from each of many streams at a time (spec A.8)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.layout import BANDS, END, ESCAPE, LEVELS, SYMBOLS
from dsqformat.coding.block.tables import LayerTables
from dsqformat.errors import CorruptShardError

Values = NDArray[np.int64]

_LOW: Final = 1 << 31
_SLOTS: Final = np.arange(4096)


class Coder:
    """The streams of one layer, one lane each.

    Contexts from `none` on, as many as two groups of classes have, are for lanes that have
    nothing to read: their table answers END and leaves the state as it is.

    Args:
        tables: of the layer.
        streams: bytes of each stream.
    """

    def __init__(self, tables: LayerTables, streams: list[bytes]) -> None:
        self.none = len(tables.map)
        nothing = np.full(2 * BANDS * LEVELS, len(tables.starts))
        self.map = np.concatenate([tables.map, nothing]).astype("i8") << 12
        idle = np.where(np.arange(SYMBOLS + 1) > END, 4096, 0)
        starts = np.concatenate([tables.starts, idle[None]]).astype("i8")
        # By table and remainder: the symbol, its frequency, and what to add to the state.
        found = np.stack([np.searchsorted(row, _SLOTS, "right") - 1 for row in starts])
        first = np.take_along_axis(starts, found, 1)
        self.found = found.ravel()
        self.width = (np.take_along_axis(starts, found + 1, 1) - first).ravel()
        self.rest = (_SLOTS - first).ravel()
        heads = [len(s) % 4 for s in streams]
        words = [np.frombuffer(s[h:], "<u4") for s, h in zip(streams, heads, strict=True)]
        self.words = np.concatenate([*words, np.zeros(1, "u4")]).astype("i8")
        self.end = np.cumsum([len(w) for w in words])
        self.at = self.end - [len(w) for w in words]
        self.x = np.array(
            [int.from_bytes(s[:h], "little") for s, h in zip(streams, heads, strict=True)], "i8"
        )
        for lane, own in enumerate(words):
            if not self.x[lane]:
                # Words of 0 leave a state of 0; past them two words fill it.
                self.at[lane] += int((own != 0).argmax()) if own.any() else len(own)
            self._refill(lane)
            self._refill(lane)

    def flag(self, lane: int, context: int) -> bool:
        """Read one symbol of one lane; return whether it is above 0."""
        x = int(self.x[lane])
        slot = int(self.map[context]) + (x & 4095)
        symbol = int(self.found[slot])
        self.x[lane] = int(self.width[slot]) * (x >> 12) + int(self.rest[slot])
        self._refill(lane)
        if symbol == ESCAPE:
            symbol = int(self.x[lane]) & 31
            self.x[lane] >>= 5
            self._refill(lane)
        return symbol > 0

    def _refill(self, lane: int) -> None:
        if self.x[lane] < _LOW and self.at[lane] < self.end[lane]:
            self.x[lane] = int(self.x[lane]) << 32 | int(self.words[self.at[lane]])
            self.at[lane] += 1

    def close(self) -> None:
        """Check that all streams end here.

        Raises:
            CorruptShardError: one has bytes left or a state that is not 0.
        """
        if self.x.any() or (self.at != self.end).any():
            raise CorruptShardError(
                "block stream: does not end with its symbols; fetch the shard again"
            )


class Reader:
    """Some lanes of a coder, read together; `save` gives their states back.

    `top` is the largest of the symbols read last.

    Args:
        coder: of the layer.
        lanes: which of its streams.
    """

    def __init__(self, coder: Coder, lanes: NDArray[np.intp]) -> None:
        self._coder, self._lanes = coder, lanes
        self._x = coder.x[lanes]
        self._at, self._end = coder.at[lanes], coder.end[lanes]
        self.top = 0

    def save(self) -> None:
        """Write the states back into the coder."""
        self._coder.x[self._lanes] = self._x
        self._coder.at[self._lanes] = self._at

    def symbol(self, contexts: Values) -> Values:
        """Read one symbol per lane, of contexts of shape (lanes,)."""
        coder, x = self._coder, self._x
        slot = coder.map.take(contexts)
        slot += x & 4095
        out: Values = coder.found.take(slot)
        x >>= 12
        x *= coder.width.take(slot)
        x += coder.rest.take(slot)
        self._refill()
        self.top = int(np.maximum.reduce(out))
        if self.top == ESCAPE:
            escaped = out == ESCAPE
            out = np.where(escaped, self.raw(5 * escaped), out)
            self.top = int(out.max())
        return out

    def raw(self, counts: Any) -> Values:
        """Read bits, for each lane as many as `counts` says, which may be 0."""
        out: Values = self._x & ((1 << counts) - 1)
        self._x >>= counts
        self._refill()
        return out

    def signs(self, some: Values) -> Values:
        """Read one bit where `some` is 1, not 0."""
        out: Values = self._x & some
        self._x >>= some
        self._refill()
        return out

    def _refill(self) -> None:
        """Take a word where the state is low and one is left."""
        low = self._x < _LOW
        low &= self._at < self._end
        if np.logical_or.reduce(low):
            word = self._coder.words.take(self._at)
            word |= self._x << 32
            np.copyto(self._x, word, where=low)
            self._at += low
