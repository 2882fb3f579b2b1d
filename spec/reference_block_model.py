"""Models of block pictures for reference_decoder.py (format.md, sections A.6 and A.7).

Written from format.md alone, standard library only; each function names its section. A model is a
dict; `tables` holds, for each layer, the table of each context: the starts of 32 symbols and 4096.
"""

from __future__ import annotations

from itertools import accumulate

from reference_columns import Cursor
from reference_schema import require

CONTEXTS = (2976, 1534)  # section A.5: of layer 0, of each other layer
# Section A.2: H(1) to H(40).
HAZARDS = (
    36034, 39236, 42314, 45218, 47911, 50366, 52572, 54527, 56240, 57724,
    58999, 60085, 61005, 61779, 62428, 62969, 63419, 63793, 64102, 64357,
    64568, 64741, 64884, 65001, 65097, 65176, 65241, 65295, 65338, 65374,
    65403, 65427, 65447, 65463, 65476, 65487, 65496, 65503, 65509, 65514,
)  # fmt: skip


class Bits:
    """Section A.7.1: a string of bits, the most significant of each byte first."""

    def __init__(self, data):
        self.text = "".join(f"{byte:08b}" for byte in data)
        self.position = 0

    def ue(self):
        one = self.text.find("1", self.position)
        zeros = one - self.position
        require(0 <= zeros <= 19, "A.7", "a number with more than 19 zeros, or without end")
        digits = self.text[one : one + zeros + 1]
        require(len(digits) == zeros + 1, "A.7", "the tables end within a number")
        self.position = one + zeros + 1
        return int(digits, 2) - 1

    def se(self):
        number = self.ue()
        return number // 2 if number % 2 == 0 else -(number + 1) // 2

    def end(self):
        rest = self.text[self.position :]
        require(len(rest) < 8 and "1" not in rest, "A.6", "bits after the end of the tables")


def parse_block_model(data):
    """Section A.6."""
    cursor = Cursor(data, "A.6")
    planes, flags, sizes, layers = cursor.numbers(4, "B")
    smallest, largest = sizes % 16, sizes // 16
    require(1 <= planes <= 64, "A.6", f"{planes} planes")
    require(flags < 4 and (planes >= 3 or flags % 2 == 0), "A.6", f"flags {flags}")
    require(smallest <= largest <= 3, "A.6", f"sizes {smallest} to {largest}")
    require(1 <= layers <= 4, "A.6", f"{layers} layers")
    channel_offsets = cursor.numbers(planes, "H")
    require(max(channel_offsets) <= 4095, "A.6", f"channel_offset {max(channel_offsets)}")
    weights = [64] * 16
    if flags & 2:
        weights = list(cursor.numbers(16, "B"))
        require(min(weights) >= 1, "A.6", "a weight of 0")
        require(weights != [64] * 16, "A.6", "weights that are all 64")
    offsets = [cursor.numbers(7, "b") for _ in range(layers)]
    for row in offsets:
        require(all(-8 <= offset <= 31 for offset in row), "A.6", f"offsets {row}")
    bits = Bits(cursor.rest())
    tables = [parse_layer(bits, CONTEXTS[min(layer, 1)]) for layer in range(layers)]
    bits.end()
    return {
        "planes": planes, "rgb": flags & 1, "smallest": smallest, "largest": largest,
        "channel_offsets": channel_offsets, "weights": weights, "offsets": offsets,
        "tables": tables,
    }  # fmt: skip


def parse_layer(bits, contexts):
    """Section A.7.1: the table of each context of one layer."""
    count = 1 + bits.ue()
    require(count <= 255, "A.7", f"{count} tables")
    tables, length, z = [], 0, [0] * 31
    for _ in range(count):
        length += bits.se()
        require(0 <= length <= 30, "A.7", f"a table of length {length}")
        for k in range(length):
            z[k] += bits.se()
            require(-41 <= z[k] <= 40, "A.7", f"z of {z[k]}")
        tables.append(list(accumulate(frequencies(z[:length]), initial=0)))
    chosen, table = [], 0
    while len(chosen) < contexts:
        run = bits.ue()
        require(run <= contexts - len(chosen), "A.7", "a run goes past the last context")
        chosen += [chosen[-1] if chosen else 0] * run
        if len(chosen) < contexts:
            table += bits.se()
            require(0 <= table < count, "A.7", f"table {table} of {count}")
            chosen.append(table)
    return [tables[number] for number in chosen]


def hazard(z):
    """Section A.2: H(z)."""
    return 32768 if z == 0 else HAZARDS[z - 1] if z > 0 else 65536 - HAZARDS[-z - 1]


def frequencies(z):
    """Section A.7.2: f[0] to f[31] of a table."""
    left, p = 1 << 28, []
    for number in z:
        p.append(0 if number == -41 else left * hazard(number) >> 16)
        left -= p[-1]
    p.append(left)
    f = [max(1, share * 4095 + (1 << 27) >> 28) if share else 0 for share in p]
    f[f.index(max(f))] += 4095 - sum(f)
    return f + [0] * (31 - len(f)) + [1]
