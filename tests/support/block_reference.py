"""A plain decoder of block pictures, standard library only, one step at a time (SPEC, all of it).

Slow and clear: for reading beside the specification and for testing the fast decoders. It shares
no code with them.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

LOW = 1 << 31
SIZES = (4, 8, 16, 32)
COSINES = (
    64, 90, 90, 90, 89, 88, 87, 85, 83, 82, 80, 78, 75, 73, 70, 67,
    64, 61, 57, 54, 50, 46, 43, 38, 36, 31, 25, 22, 18, 13, 9, 4,
)  # fmt: skip
OCTAVE = (
    65536, 68438, 71468, 74632, 77936, 81386, 84990, 88752,
    92682, 96785, 101070, 105545, 110218, 115098, 120194, 125515,
)  # fmt: skip
LEVEL_STARTS = (2, 4, 8, 12, 19, 28, 42, 60, 87, 124, 178, 252)
HAZARDS = [round(65536 / (1 + math.exp(-z / 5))) for z in range(-40, 41)]


class Corrupt(Exception):
    """The bytes contradict the specification."""


# ---- SPEC 2: constants of blocks ------------------------------------------------------------


def basis(size: int, k: int, n: int) -> int:
    """Return entry (k, n) of the integer DCT basis."""
    k *= 32 // size
    m, sign = (k * (2 * n + 1)) % 128, 1
    if m > 64:
        m = 128 - m
    if m > 32:
        m, sign = 64 - m, -1
    return 64 if k == 0 else (0 if m == 32 else sign * COSINES[m])


def edge_weight(size: int, k: int) -> int:
    """Return 64 times the last sample of basis function k, times sqrt(size)."""
    return (
        64 if k == 0 else round(64 * 2**0.5 * math.cos(math.pi * k * (2 * size - 1) / (2 * size)))
    )


def scan(size: int) -> list[tuple[int, int]]:
    """Return positions (v, u) by diagonals, the direction alternating."""
    out = []
    for d in range(2 * size - 1):
        diagonal = [(v, d - v) for v in range(size) if 0 <= d - v < size]
        out += diagonal if d % 2 else diagonal[::-1]
    return out


def band(size: int, v: int, u: int) -> int:
    """Return the band class, 0 to 6."""
    if v + u <= 1:
        return 0
    f = (v + u) * 8 / size
    return max(1, sum(f > start for start in (1.9, 2.9, 3.9, 5.9, 7.9, 10.9)))


def level(m: int) -> int:
    """Return the level of an expected magnitude."""
    return sum(m >= start for start in LEVEL_STARTS)


SCANS = {size: scan(size) for size in SIZES}
BASES = {s: [[basis(s, k, n) for n in range(s)] for k in range(s)] for s in SIZES}
EDGES = {s: [edge_weight(s, k) for k in range(s)] for s in SIZES}


# ---- SPEC 6 and 7: the model ----------------------------------------------------------------


class Bits:
    """Exp-Golomb numbers, most significant bit first."""

    def __init__(self, data: bytes) -> None:
        self.bits = "".join(f"{byte:08b}" for byte in data)
        self.at = 0

    def unsigned(self) -> int:
        """Read z zeros, then z + 1 bits."""
        zeros = 0
        while self.bits[self.at : self.at + 1] == "0":
            self.at += 1
            zeros += 1
        digits = self.bits[self.at : self.at + zeros + 1]
        self.at += zeros + 1
        if len(digits) < zeros + 1 or zeros > 19:
            raise Corrupt("bits end inside a number")
        return int(digits, 2) - 1

    def signed(self) -> int:
        """Read 0, -1, 1, -2, 2, ..."""
        value = self.unsigned()
        return -((value + 1) // 2) if value % 2 else value // 2


@dataclass
class Layer:
    """The tables of one layer: for each context the starts of 32 symbols, and 4096."""

    starts: list[list[int]]


@dataclass
class Model:
    """What SPEC 6 describes."""

    planes: int
    rgb: bool
    smallest: int
    largest: int
    channel_offsets: list[int]
    weights: list[int]
    offsets: list[list[int]]
    layers: list[Layer]


def frequencies(logits: list[int]) -> list[int]:
    """Return the frequencies of 32 symbols."""
    left, shares = 1 << 28, []
    for z in logits:
        share = 0 if z == -41 else left * HAZARDS[z + 40] >> 16
        shares.append(share)
        left -= share
    shares.append(left)
    counts = [max(1, share * 4095 + (1 << 27) >> 28) if share else 0 for share in shares]
    counts[counts.index(max(counts))] += 4095 - sum(counts)
    return counts + [0] * (31 - len(counts)) + [1]


def read_layer(bits: Bits, contexts: int) -> Layer:
    """Read tables and map of one layer."""
    tables, logits, length = [], [0] * 32, 0
    count = bits.unsigned() + 1
    if count > 255:
        raise Corrupt("too many tables")
    for _ in range(count):
        length += bits.signed()
        if not 0 <= length <= 30:
            raise Corrupt("length of a table")
        for k in range(length):
            logits[k] += bits.signed()
            if not -41 <= logits[k] <= 40:
                raise Corrupt("logit")
        starts = [0]
        for f in frequencies(logits[:length]):
            starts.append(starts[-1] + f)
        tables.append(starts)
    chosen: list[list[int]] = []
    table = 0
    while len(chosen) < contexts:
        run = bits.unsigned()
        if len(chosen) + run > contexts:
            raise Corrupt("run of contexts")
        chosen += [chosen[-1] if chosen else tables[0]] * run
        if len(chosen) < contexts:
            table += bits.signed()
            if not 0 <= table < count:
                raise Corrupt("number of a table")
            chosen.append(tables[table])
    return Layer(chosen)


def read_model(data: bytes) -> Model:
    """Read a model."""
    if len(data) < 4:
        raise Corrupt("short model")
    planes, flags, sizes, layers = data[:4]
    smallest, largest = sizes & 15, sizes >> 4
    if not 1 <= planes <= 64 or flags > 3 or (flags & 1 and planes < 3):
        raise Corrupt("planes or flags")
    if not smallest <= largest <= 3 or not 1 <= layers <= 4:
        raise Corrupt("sizes or layers")
    at = 4
    weighted = flags >> 1
    if len(data) < at + 2 * planes + 16 * weighted + 7 * layers:
        raise Corrupt("short model")
    channel_offsets = list(struct.unpack_from(f"<{planes}H", data, at))
    at += 2 * planes
    weights = list(data[at : at + 16]) if weighted else [64] * 16
    at += 16 * weighted
    offsets = [list(struct.unpack_from("<7b", data, at + 7 * i)) for i in range(layers)]
    at += 7 * layers
    if max(channel_offsets) > 4095 or 0 in weights or (weighted and weights == [64] * 16):
        raise Corrupt("channel offset or weight")
    if any(not -8 <= v <= 31 for row in offsets for v in row):
        raise Corrupt("reconstruction offset")
    bits = Bits(data[at:])
    tables = [read_layer(bits, 1464 if i else 2976) for i in range(layers)]
    rest = bits.bits[bits.at :]
    if len(rest) > 7 or "1" in rest:
        raise Corrupt("bytes after the model")
    return Model(
        planes, bool(flags & 1), smallest, largest, channel_offsets, weights, offsets, tables
    )


# ---- SPEC 8: streams ------------------------------------------------------------------------


class Stream:
    """The state of one range coder."""

    def __init__(self, data: bytes) -> None:
        head = len(data) % 4
        self.words = [int.from_bytes(data[i : i + 4], "little") for i in range(head, len(data), 4)]
        self.words.reverse()
        self.state = int.from_bytes(data[:head], "little")
        while self.state < LOW and self.words:
            self.refill()

    def refill(self) -> None:
        """Take one word if the state is low and there is one."""
        if self.state < LOW and self.words:
            self.state = self.state << 32 | self.words.pop()

    def raw(self, count: int) -> int:
        """Read raw bits."""
        value = self.state & ((1 << count) - 1)
        self.state >>= count
        self.refill()
        return value

    def symbol(self, starts: list[int]) -> int:
        """Read one symbol with a table."""
        slot = self.state & 4095
        k = 0
        while slot >= starts[k + 1]:
            k += 1
        self.state = (starts[k + 1] - starts[k]) * (self.state >> 12) + slot - starts[k]
        self.refill()
        return self.raw(5) if k == 31 else k

    def close(self) -> None:
        """Check that the stream ends here."""
        if self.state or self.words:
            raise Corrupt("a stream does not end with its symbols")


# ---- SPEC 4 and 5: blocks -------------------------------------------------------------------


@dataclass
class Block:
    """One plane of one block in one layer: codes by position, DC at (0, 0)."""

    size: int
    codes: dict[tuple[int, int], int]
    right_edge: int = 0
    lower_edge: int = 0

    def profile(self, weight: int) -> list[list[int]]:
        """Return the 8x8 profile that neighbours see (SPEC 5.3)."""
        grid = [[0] * 8 for _ in range(8)]
        shift = max(0, SIZES.index(self.size) - 1)
        half = (1 << shift) >> 1
        for (v, u), code in self.codes.items():
            a = min(63, abs(code))
            if (v, u) == (0, 0) or not a:
                continue
            cells = [(v >> shift, u >> shift)]
            if self.size == 4:
                cells = [(2 * v + i, 2 * u + j) for i in (0, 1) for j in (0, 1)]
            for y, x in cells:
                grid[y][x] += weight * a + half >> shift
                if x:
                    grid[y][x - 1] += 2 * a + half >> shift
                if y:
                    grid[y - 1][x] += 2 * a + half >> shift
        return grid


Grid = dict[tuple[int, int], list[Block]]  # by cell of 4x4 pixels: the block that covers it


class Field:
    """Expected magnitudes of one block: an array that ignores what falls outside."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.values = [[0] * size for _ in range(size)]

    def add(self, v: int, u: int, amount: int) -> None:
        """Expect more at (v, u)."""
        if 0 <= v < self.size and 0 <= u < self.size:
            self.values[v][u] += amount

    def push(self, v: int, u: int, a: int, chroma: bool) -> None:
        """Expect more after a magnitude a at (v, u) (SPEC 5.2)."""
        near = 2 * a if chroma else (5 * a + 1) >> 1
        self.add(v, u + 1, near)
        self.add(v + 1, u, near)
        self.add(v + 1, u + 1, 2 * a if chroma else a)
        self.add(v, u + 2, a)
        self.add(v + 2, u, a)

    def push_back(self, v: int, u: int, a: int, chroma: bool) -> None:
        """Expect more before a known magnitude (SPEC 5.5)."""
        near = 2 * a if chroma else (5 * a + 1) >> 1
        self.add(v, u - 1, near)
        self.add(v - 1, u, near)
        self.add(v - 1, u - 1, a)
        self.add(v - 1, u + 1, a)
        self.add(v + 1, u - 1, a)


def expected(grid: Grid, done: list[Block], y: int, x: int, size: int, plane: int) -> Field:
    """Return what neighbours and earlier planes let expect (SPEC 5.3, 5.4)."""
    field = Field(size)
    weight = 5 if plane else 6
    profiles = []
    for there, cell in ((x > 0, (y // 4, x // 4 - 1)), (y > 0, (y // 4 - 1, x // 4))):
        if there:
            profiles.append(grid[cell][plane].profile(weight))
    if len(profiles) == 1:
        profiles *= 2
    for v in range(size):
        for u in range(size):
            for profile in profiles:
                field.values[v][u] += profile[v * 8 // size][u * 8 // size]
    for p, block in enumerate(done):
        for (v, u), code in block.codes.items():
            a = min(63, abs(code))
            if (v, u) == (0, 0) or not a:
                continue
            if p == 0:
                field.add(v, u, 3 * a if plane == 1 else 2 * a)
                if u:
                    field.add(v, u - 1, a)
                if v:
                    field.add(v - 1, u, a)
            elif p == plane - 1:
                field.add(v, u, 7 * a)
    return field


def clamp(value: int, limit: int) -> int:
    """Return value within -limit to limit."""
    return max(-limit, min(limit, value))


def read_coarse(
    stream: Stream, layer: Layer, grid: Grid, done: list[Block], y: int, x: int, size: int
) -> Block:
    """Read one plane of one block of layer 0 (SPEC 4.2, 4.3)."""
    plane, index = len(done), SIZES.index(size)
    chroma = plane > 0
    cells = range(size // 4)
    left = upper = None
    if x:
        left = (
            sum(grid[y // 4 + i, x // 4 - 1][plane].right_edge for i in cells) // len(cells) * size
        )
    if y:
        upper = (
            sum(grid[y // 4 - 1, x // 4 + i][plane].lower_edge for i in cells) // len(cells) * size
        )
    if left is not None and upper is not None:
        prediction = (left + upper) >> 1
        context = sum(abs(left - upper) >= step for step in (128, 256, 512, 1024))
    else:
        known = left if left is not None else upper
        prediction, context = (0, 5) if known is None else (known, 0)
    token = stream.symbol(layer.starts[2912 + (index * 2 + chroma) * 6 + context])
    if token >= 8:
        count = 2 + (token - 8) // 2
        token = (2 + token % 2 << count) + stream.raw(count)
    residual = -(token + 1 >> 1) if token % 2 else token >> 1
    dc = clamp((prediction + 32 >> 6) + residual, 32767)
    gradients = [0 if edge is None else -3 * (64 * dc - edge) >> 3 for edge in (left, upper)]
    field = expected(grid, done, y, x, size, plane)
    codes = {(0, 0): dc}
    base = ((index * 2 + chroma) * 2 + (left is None and upper is None)) * 2
    open_, previous = 1, 0
    for k, (v, u) in enumerate(SCANS[size]):
        if k == 0:
            continue
        m = field.values[v][u] + previous
        if k < 3:
            m += min(64, abs(gradients[k - 1]) >> 3)
        context = ((base + open_) * 7 + band(size, v, u)) * 13 + level(m)
        symbol = stream.symbol(layer.starts[context])
        if symbol == 1:
            break
        if symbol == 0:
            open_, previous = 0, 0
            continue
        if symbol > 26:
            raise Corrupt("symbol of a coefficient")
        a = symbol - 1
        if symbol >= 14:
            count = symbol - 12
            a = min(32767, (1 << count) + stream.raw(count) + 9)
        if k < 3:
            g = gradients[k - 1]
            kind = (g >= -96) + (g >= -32) + (g >= 0) + (g > 32) + (g > 96)
            negative = stream.symbol(layer.starts[2960 + chroma * 6 + kind]) > 0
        else:
            negative = stream.raw(1) == 1
        codes[v, u] = -a if negative else a
        clipped = min(a, 63)
        field.push(v, u, clipped, chroma)
        open_, previous = 1, clipped * (2 if chroma else 4)
    block = Block(size, codes)
    block.right_edge = sum(c * EDGES[size][u] for (v, u), c in codes.items() if v == 0) // size
    block.lower_edge = sum(c * EDGES[size][v] for (v, u), c in codes.items() if u == 0) // size
    return block


def read_refinement(
    stream: Stream, layer: Layer, grid: Grid, done: list[Block], old: Block, y: int, x: int
) -> Block:
    """Read one plane of one block of a further layer (SPEC 4.4)."""
    plane, size = len(done), old.size
    chroma = plane > 0
    codes = {(0, 0): 2 * old.codes[0, 0] + (stream.symbol(layer.starts[1462 + chroma]) > 0)}
    field = expected(grid, done, y, x, size, plane)
    for (v, u), code in old.codes.items():
        if (v, u) != (0, 0):
            a = min(63, 2 * abs(code))
            field.push(v, u, a, chroma)
            field.push_back(v, u, a, chroma)
    base = (SIZES.index(size) * 2 + chroma) * 2
    open_, over = 1, False
    for v, u in SCANS[size][1:]:
        if (v, u) in old.codes:
            a = abs(old.codes[v, u])
            bit = stream.symbol(layer.starts[1456 + chroma * 3 + min(a, 3) - 1]) > 0
            a = min(32767, 2 * a + bit)
            codes[v, u] = -a if old.codes[v, u] < 0 else a
        elif not over:
            context = ((base + open_) * 7 + band(size, v, u)) * 13 + level(field.values[v][u])
            symbol = stream.symbol(layer.starts[context])
            if symbol > 2:
                raise Corrupt("symbol of a new coefficient")
            over = symbol == 1
            open_ = int(symbol == 2)
            if symbol == 2:
                codes[v, u] = -1 if stream.raw(1) else 1
                field.push(v, u, 1, chroma)
    return Block(size, codes)


# ---- SPEC 9: pixels -------------------------------------------------------------------------


def block_pixels(model: Model, block: Block, layers: int, qp: int, plane: int) -> list[list[int]]:
    """Return the values of a block in sixteenths."""
    size, chroma = block.size, plane > 0
    s = SIZES.index(size)
    shift, limit = 5 + 2 * s, 65535 >> s
    step = ((OCTAVE[qp % 16] << qp // 16) + 1024) >> 11
    coefs = [[0] * size for _ in range(size)]
    for (v, u), code in block.codes.items():
        dc = (v, u) == (0, 0)
        weight = model.weights[8 * chroma + (7 if dc else band(size, v, u))]
        scaled = max(1, (step * weight + 32) >> 6) << (len(model.layers) - layers)
        offsets = model.offsets[layers - 1]
        if dc:
            value = (16 * code + offsets[6]) * scaled
        else:
            value = (16 * abs(code) + offsets[3 * chroma + min(3, abs(code)) - 1]) * scaled
            value = -value if code < 0 else value
        rounded = abs(value) + (1 << shift - 1) >> shift
        coefs[v][u] = clamp(-rounded if value < 0 else rounded, limit)
    b = BASES[size]
    every = range(size)
    half = [
        [clamp(sum(coefs[v][u] * b[v][n] for v in every) + 32 >> 6, limit) for u in every]
        for n in every
    ]
    return [
        [
            clamp(sum(half[n][u] * b[u][m] for u in every) + (1 << 8 - s) >> 9 - s, 7167)
            for m in every
        ]
        for n in every
    ]


def channels(model: Model, planes: list[list[list[int]]], y: int, x: int) -> list[int]:
    """Return the channels of one pixel in 2^-14."""
    values = [plane[y][x] for plane in planes]
    out = [1024 * value for value in values]
    if model.rgb:
        a, b, c = values[:3]
        out[:3] = [591 * a + 724 * b - 418 * c, 591 * a + 836 * c, 591 * a - 724 * b - 418 * c]
    return [
        value + (offset << 10) for value, offset in zip(out, model.channel_offsets, strict=True)
    ]


class Picture:
    """One sample while it is read."""

    def __init__(
        self, model: Model, streams: list[Stream], height: int, width: int, qp: int
    ) -> None:
        self.model, self.streams, self.qp = model, streams, qp
        unit = SIZES[model.smallest]
        self.height = -(-height // unit) * unit
        self.width = -(-width // unit) * unit
        self.grids: list[Grid] = [{} for _ in streams]
        self.planes = [[[0] * self.width for _ in range(self.height)] for _ in range(model.planes)]
        for y in range(0, self.height, 32):
            for x in range(0, self.width, 32):
                self.node(y, x, 3)

    def node(self, y: int, x: int, index: int) -> None:
        """Read one node of the partition (SPEC 4.1)."""
        size = SIZES[index]
        if y >= self.height or x >= self.width:
            return
        split = index > self.model.largest or y + size > self.height or x + size > self.width
        if not split and index > self.model.smallest:
            split = self.streams[0].symbol(self.model.layers[0].starts[2972 + index]) > 0
        if split:
            for i in (0, size // 2):
                for j in (0, size // 2):
                    self.node(y + i, x + j, index - 1)
            return
        done: list[Block] = []
        for number, stream in enumerate(self.streams):
            grid, tables, old = self.grids[number], self.model.layers[number], done
            done = []
            for plane in range(self.model.planes):
                if number == 0:
                    done.append(read_coarse(stream, tables, grid, done, y, x, size))
                else:
                    done.append(read_refinement(stream, tables, grid, done, old[plane], y, x))
            for i in range(size // 4):
                for j in range(size // 4):
                    grid[y // 4 + i, x // 4 + j] = done
        for plane, block in enumerate(done):
            rows = block_pixels(self.model, block, len(self.streams), self.qp, plane)
            for i, row in enumerate(rows):
                self.planes[plane][y + i][x : x + size] = row


def decode(
    model: Model, streams: list[bytes], shapes: list[tuple[int, int]], qps: list[int]
) -> list[list[list[list[int]]]]:
    """Decode the samples of one stream of each layer: lists of rows of pixels of channels."""
    coders = [Stream(data) for data in streams]
    out = []
    for (height, width), qp in zip(shapes, qps, strict=True):
        picture = Picture(model, coders, height, width, qp)
        out.append(
            [
                [
                    [
                        min(255, max(0, c + 8192 >> 14))
                        for c in channels(model, picture.planes, y, x)
                    ]
                    for x in range(width)
                ]
                for y in range(height)
            ]
        )
    for coder in coders:
        coder.close()
    return out
