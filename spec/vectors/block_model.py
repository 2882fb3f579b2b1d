"""Models of block pictures (format.md, sections A.6 and A.7), right or deliberately wrong.

Standard library only and independent of every reader and writer.
"""

from __future__ import annotations

import math
import random
import struct
from dataclasses import dataclass, field
from itertools import accumulate

from builder import Bits

ABSENT = -41
CONTEXTS = (2976, 1534)  # section A.5: of layer 0, of each other layer
AC_TABLE = [-3, -9, 2, 2, 2, 1, 1, 1, 0, 0, 0, -1, -1, -1, -2, -2, -2, -1, 0, 1, 2, 3, 3, 4]


def hazard(z):
    """Section A.2, by the curve that its table was made of."""
    return round(65536 / (1 + math.exp(-z / 5)))


def frequencies(z):
    """Section A.7.2."""
    left, shares = 2**28, []
    for number in z:
        shares.append(0 if number == ABSENT else left * hazard(number) // 65536)
        left -= shares[-1]
    counts = [max(1, (s * 4095 + 2**27) // 2**28) if s else 0 for s in [*shares, left]]
    counts[max(range(len(counts)), key=counts.__getitem__)] += 4095 - sum(counts)
    return counts + [0] * (31 - len(counts)) + [1]


@dataclass
class LayerTables:
    """Section A.7.1: tables as lists of z, and (run, then a table or None) for the contexts."""

    tables: list[list[int]]
    moves: list[tuple[int, int | None]]
    length: int | None = None  # when the tables are to state another length than theirs

    def write(self, text):
        text.eg(0, len(self.tables) - 1)
        length, before = 0, [0] * 31
        for z in self.tables:
            stated = len(z) if self.length is None else self.length
            text.sg(0, stated - length)
            length = stated
            for k, number in enumerate(z):
                text.sg(0, number - before[k])
                before[k] = number
        last = 0
        for run, table in self.moves:
            text.eg(0, run)
            if table is not None:
                text.sg(0, table - last)
                last = table

    def starts(self):
        """The starts of the symbols of each context."""
        tables = [list(accumulate(frequencies(z), initial=0)) for z in self.tables]
        chosen = []
        for run, table in self.moves:
            chosen += [chosen[-1] if chosen else 0] * run
            chosen += [] if table is None else [table]
        return [tables[number] for number in chosen]


@dataclass
class BlockModel:
    """Section A.6; `sizes` are the smallest and the largest index."""

    layers: list[LayerTables]
    planes: int = 1
    flags: int = 0
    sizes: tuple[int, int] = (0, 3)
    channel_offsets: list[int] = field(default_factory=lambda: [2048])
    weights: list[int] | None = None
    offsets: list[list[int]] | None = None
    layer_count: int | None = None  # when the model is to state another number of layers
    end: bytes = b""

    def __post_init__(self):
        if len(self.channel_offsets) == 1:
            self.channel_offsets = self.channel_offsets * self.planes
        self.offsets = self.offsets or [[0] * 7 for _ in self.layers]
        if self.weights is not None:
            self.flags |= 2

    def content(self):
        sizes = self.sizes[0] + 16 * self.sizes[1]
        count = len(self.layers) if self.layer_count is None else self.layer_count
        data = struct.pack("<4B", self.planes, self.flags, sizes, count)
        data += struct.pack(f"<{len(self.channel_offsets)}H", *self.channel_offsets)
        data += bytes(self.weights or [])
        data += b"".join(struct.pack("<7b", *row) for row in self.offsets)
        text = Bits()
        for layer in self.layers:
            layer.write(text)
        return data + text.content() + self.end


def one_table(z, contexts=CONTEXTS[0]):
    """All contexts have one table."""
    return LayerTables([z], [(contexts, None)])


def varied_layer(contexts, seed, count=6):
    """Tables that differ, scattered over the contexts, so that a wrong context is found out."""
    source = random.Random(seed)
    tables = [
        [max(-20, min(9, z + source.randint(-4, 4))) for z in AC_TABLE[: source.randint(3, 24)]]
        for _ in range(count)
    ]
    tables[-1][0], tables[-1][2] = ABSENT, ABSENT
    moves, at = [], 0
    while at < contexts:
        run = min(source.choice((0, 1, 2, 4, 7, 12)), contexts - at)
        at += run
        moves.append((run, source.randrange(count) if at < contexts else None))
        at += 1
    return LayerTables(tables, moves)


def varied_model(layers=1, seed=0, **more):
    """A model whose contexts and reconstruction offsets all matter."""
    source = random.Random(seed)
    tables = [varied_layer(CONTEXTS[min(n, 1)], seed + n) for n in range(layers)]
    offsets = [[source.randint(-3, 6) for _ in range(7)] for _ in range(layers)]
    return BlockModel(tables, offsets=offsets, **more)


def quiet_model(planes=1, layers=1, **more):
    """A model of pictures that cost nothing: no splits, no DC, blocks that end at once."""
    first = LayerTables([[], [ABSENT]], [(0, 1), (2911, 0), (63, None)])
    # A DC of 0 stays 0 with the bit 1 in layers of odd number, 0 in the others.
    rest = [
        LayerTables([[], [ABSENT]], [(0, 1), (1455, 0), (5, layer % 2), (71, None)])
        for layer in range(1, layers)
    ]
    return BlockModel([first, *rest], planes, **more)
