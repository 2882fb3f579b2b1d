"""Block pictures for reference_decoder.py (format.md, sections 9.5, A.3 to A.5 and A.8).

Written from format.md alone, standard library only, one value at a time; each function names its
section. Models are read by reference_block_model.py, pixels made by reference_block_pixels.py.
"""

from __future__ import annotations

from bisect import bisect_right

from reference_block_pixels import (
    band,
    block_pixels,
    channels,
    clamp,
    coefficient,
    integer_value,
    real_value,
)
from reference_columns import Cursor, ceil_div
from reference_rans import read_streams
from reference_schema import require

LEVELS = (2, 4, 8, 12, 19, 28, 42, 60, 87, 124, 178, 252)  # section A.2
# Section A.2: E_T.
EDGES = {
    4: (64, -84, 64, -35),
    8: (64, -89, 84, -75, 64, -50, 35, -18),
    16: (64, -90, 89, -87, 84, -80, 75, -70, 64, -57, 50, -43, 35, -26, 18, -9),
    32: (
        64, -90, 90, -90, 89, -88, 87, -85, 84, -82, 80, -78, 75, -73, 70, -67,
        64, -61, 57, -54, 50, -47, 43, -39, 35, -30, 26, -22, 18, -13, 9, -4,
    ),
}  # fmt: skip


def scan(size):
    """Section A.2: the places (v, u) of a block."""
    for d in range(2 * size - 1):
        diagonal = [(v, d - v) for v in range(size) if d - v in range(size)]
        yield from diagonal if d % 2 else reversed(diagonal)


SCANS = {size: list(scan(size)) for size in EDGES}


def decode_pictures(segments, model, shapes, qps):
    """Section 9.5: (integer picture, values) of each sample, from the segments of some layers."""
    layers = []
    for segment in segments:
        cursor = Cursor(segment, "9.5")
        (coding,) = cursor.take(1)
        require(coding == 2, "9.5", f"coding {coding}")
        layers.append(read_streams(cursor, len(shapes)))
    per_stream = layers[0][0]
    require(all(r == per_stream for r, _ in layers), "9.5", "R differs between layers")
    pictures, streams = [], []
    for i, shape in enumerate(shapes):
        if i % per_stream == 0:
            streams = [Stream(parts[i // per_stream]) for _, parts in layers]
        pictures.append(Picture(model, streams, *shape[:2], qps[i]).channels())
        if i == len(shapes) - 1 or (i + 1) % per_stream == 0:
            for stream in streams:
                stream.close()
    return [
        ([integer_value(y) for y in picture], [real_value(y) for y in picture])
        for picture in pictures
    ]


class Stream:
    """Section A.8."""

    def __init__(self, data):
        self.data, self.position = data, len(data) % 4
        self.x = int.from_bytes(data[: self.position], "little")
        while self.x < 1 << 31 and self.position < len(data):
            self.refill()

    def refill(self):
        if self.x < 1 << 31 and self.position < len(self.data):
            word = self.data[self.position : self.position + 4]
            self.x = (self.x << 32) + int.from_bytes(word, "little")
            self.position += 4

    def symbol(self, starts):
        r = self.x % 4096
        t = bisect_right(starts, r) - 1  # the last of equals: a symbol of frequency 0 is none
        self.x = (starts[t + 1] - starts[t]) * (self.x >> 12) + r - starts[t]
        self.refill()
        return self.raw(5) if t == 31 else t

    def flag(self, starts):
        """Section A.3."""
        return int(self.symbol(starts) > 0)

    def raw(self, n):
        bits = self.x % (1 << n)
        self.x >>= n
        self.refill()
        return bits

    def close(self):
        require(self.x == 0, "A.8", "the state of a stream does not end at 0")
        require(self.position == len(self.data), "A.8", "words are left at the end of a stream")


class Block:
    """Section A.4: one plane of one block in one layer; `codes` holds DC and AC codes but 0."""

    def __init__(self, s, codes, chroma):
        self.s, self.codes = s, codes
        size = 4 << s
        edges = EDGES[size]
        self.right = sum(q * edges[u] for (v, u), q in codes.items() if v == 0) // size
        self.lower = sum(q * edges[v] for (v, u), q in codes.items() if u == 0) // size
        self.profile = [[0] * 8 for _ in range(8)]
        for (v, u), q in codes.items():
            if (v, u) != (0, 0):
                self.add_to_profile(v, u, min(63, abs(q)), 5 if chroma else 6)

    def add_to_profile(self, v, u, a, w):
        """Section A.4.3."""
        if self.s == 0:
            places = [(2 * v + i, 2 * u + j) for i in (0, 1) for j in (0, 1)]
            r = 0
        else:
            r = self.s - 1
            places = [(v >> r, u >> r)]
        o = (1 << r) >> 1
        for y, x in places:
            self.profile[y][x] += w * a + o >> r
            if x > 0:
                self.profile[y][x - 1] += 2 * a + o >> r
            if y > 0:
                self.profile[y - 1][x] += 2 * a + o >> r


class Expected:
    """Section A.4.3: the array of expected magnitudes of one block."""

    def __init__(self, size, chroma, profiles, earlier):
        self.size, self.chroma, self.more = size, chroma, {}
        self.profiles = profiles * 2 if len(profiles) == 1 else profiles
        plane = len(earlier)
        for p, block in enumerate(earlier):
            for (v, u), q in block.codes.items():
                a = min(63, abs(q))
                if (v, u) == (0, 0):
                    continue
                if p == 0:
                    self.add(v, u, 3 * a if plane == 1 else 2 * a)
                    self.add(v, u - 1, a)
                    self.add(v - 1, u, a)
                elif p == plane - 1:
                    self.add(v, u, 7 * a)

    def add(self, v, u, amount):
        """What lies outside the block is never asked for."""
        self.more[v, u] = self.more.get((v, u), 0) + amount

    def near(self, a):
        return 2 * a if self.chroma else (5 * a + 1) >> 1

    def push(self, v, u, a):
        self.add(v, u + 1, self.near(a))
        self.add(v + 1, u, self.near(a))
        self.add(v + 1, u + 1, 2 * a if self.chroma else a)
        self.add(v, u + 2, a)
        self.add(v + 2, u, a)

    def push_back(self, v, u, a):
        """Section A.4.2: a code that is known from the layer before."""
        self.add(v, u - 1, self.near(a))
        self.add(v - 1, u, self.near(a))
        self.add(v - 1, u - 1, a)
        self.add(v - 1, u + 1, a)
        self.add(v + 1, u - 1, a)

    def at(self, v, u):
        y, x = 8 * v // self.size, 8 * u // self.size
        return self.more.get((v, u), 0) + sum(profile[y][x] for profile in self.profiles)


def level(m):
    """Section A.2."""
    return sum(m >= start for start in LEVELS)


class Picture:
    """Section A.3: one sample, from the streams of the layers that are read."""

    def __init__(self, model, streams, height, width, qp):
        self.model, self.streams, self.qp = model, streams, qp
        self.height, self.width = height, width
        unit = 4 << model["smallest"]
        self.padded = ceil_div(height, unit) * unit, ceil_div(width, unit) * unit
        # By layer and by cell of 4 x 4 pixels: the planes of the block that covers it.
        self.covering = [{} for _ in streams]
        self.pixels = [{} for _ in range(model["planes"])]
        for y in range(0, self.padded[0], 32):
            for x in range(0, self.padded[1], 32):
                self.node(y, x, 3)

    def node(self, y, x, s):
        size, (height, width) = 4 << s, self.padded
        if y >= height or x >= width:
            return
        if s > self.model["largest"] or y + size > height or x + size > width:
            split = 1
        elif s > self.model["smallest"]:
            split = self.streams[0].flag(self.model["tables"][0][2972 + s])
        else:
            split = 0
        if split:
            for i in (0, size // 2):
                for j in (0, size // 2):
                    self.node(y + i, x + j, s - 1)
        else:
            self.leaf(y, x, s)

    def leaf(self, y, x, s):
        planes = []
        for layer in range(len(self.streams)):
            old, planes = planes, []
            for plane in range(self.model["planes"]):
                args = (self, layer, y, x, s, planes)
                block = further_block(*args, old[plane]) if layer else first_block(*args)
                planes.append(block)
            for i in range(1 << s):
                for j in range(1 << s):
                    self.covering[layer][y // 4 + i, x // 4 + j] = planes
        for plane, block in enumerate(planes):
            args = (self.model, len(self.streams), self.qp, plane, s)
            coefficients = {place: coefficient(*args, place, q) for place, q in block.codes.items()}
            for i, row in enumerate(block_pixels(coefficients, s)):
                for j, pixel in enumerate(row):
                    self.pixels[plane][y + i, x + j] = pixel

    def covers(self, layer, plane, y, x):
        """Section A.4: the block that covers a pixel."""
        return self.covering[layer][y // 4, x // 4][plane]

    def edges(self, layer, plane, y, x, size):
        """Section A.4.1: left and upper; None where there is none."""
        cells, left, upper = range(0, size, 4), None, None
        if x > 0:
            rights = [self.covers(layer, plane, y + i, x - 1).right for i in cells]
            left = sum(rights) // len(cells) * size
        if y > 0:
            lowers = [self.covers(layer, plane, y - 1, x + i).lower for i in cells]
            upper = sum(lowers) // len(cells) * size
        return left, upper

    def expected(self, layer, y, x, s, earlier):
        """Section A.4.3: what neighbours and earlier planes say."""
        plane, profiles = len(earlier), []
        if x > 0:
            profiles.append(self.covers(layer, plane, y, x - 1).profile)
        if y > 0:
            profiles.append(self.covers(layer, plane, y - 1, x).profile)
        return Expected(4 << s, plane > 0, profiles, earlier)

    def channels(self):
        """Section A.9.3: y of all values, in C order."""
        return [
            y
            for row in range(self.height)
            for column in range(self.width)
            for y in channels(self.model, [plane[row, column] for plane in self.pixels])
        ]


def first_block(picture, layer, y, x, s, earlier):
    """Section A.4.1: one plane of a block in layer 0."""
    stream, tables = picture.streams[layer], picture.model["tables"][layer]
    size, plane, h = 4 << s, len(earlier), int(len(earlier) > 0)
    left, upper = picture.edges(layer, plane, y, x, size)
    dc = read_dc(stream, tables, left, upper, s, h)
    slopes = [0 if edge is None else (-3 * (64 * dc - edge)) >> 3 for edge in (left, upper)]
    base = ((2 * s + h) * 2 + (x == y == 0)) * 2
    expected, codes = picture.expected(layer, y, x, s, earlier), {(0, 0): dc}
    open_, prev = 1, 0
    for k, (v, u) in enumerate(SCANS[size]):
        if k == 0:
            continue
        m = expected.at(v, u) + prev
        if k <= 2:
            m += min(64, abs(slopes[k - 1]) >> 3)
        t = stream.symbol(tables[(base + open_) * 91 + 13 * band(size, v, u) + level(m)])
        if t == 0:
            open_ = prev = 0
            continue
        if t == 1:
            break
        require(t <= 26, "A.4", f"symbol {t} of a code")
        a = t - 1 if t <= 13 else min(32767, (1 << t - 12) + stream.raw(t - 12) + 9)
        if k <= 2:
            g = slopes[k - 1]
            e = (g >= -96) + (g >= -32) + (g >= 0) + (g > 32) + (g > 96)
            negative = stream.flag(tables[2960 + 6 * h + e])
        else:
            negative = stream.raw(1)
        codes[v, u] = -a if negative else a
        expected.push(v, u, min(a, 63))
        open_, prev = 1, min(a, 63) * (2 if h else 4)
    return Block(s, codes, h)


def predicted_dc(left, upper):
    """Section A.4.1: P; an edge that is not there is None."""
    there = [edge for edge in (left, upper) if edge is not None]
    return sum(there) >> 1 if len(there) == 2 else sum(there)


def read_dc(stream, tables, left, upper, s, h):
    """Section A.4.1: the code of DC."""
    p = predicted_dc(left, upper)
    c = 5 if left is None and upper is None else 0
    if left is not None and upper is not None:
        c = sum(abs(left - upper) >= bound for bound in (128, 256, 512, 1024))
    t = stream.symbol(tables[2912 + (2 * s + h) * 6 + c])
    if t >= 8:
        n = 2 + (t - 8) // 2
        t = (2 + t % 2 << n) + stream.raw(n)
    d = t // 2 if t % 2 == 0 else -(t + 1) // 2
    return clamp((p + 32 >> 6) + d, 32767)


def further_block(picture, layer, y, x, s, earlier, old):
    """Section A.4.2: one plane of a block in a further layer; `old` is that of the one before."""
    stream, tables = picture.streams[layer], picture.model["tables"][layer]
    size, h = 4 << s, int(len(earlier) > 0)
    low, edges = 2 * old.codes[0, 0] - layer % 2, picture.edges(layer, len(earlier), y, x, size)
    if edges == (None, None):
        e = 8
    else:
        ahead = predicted_dc(*edges) - 64 * low - 32
        e = sum(ahead >= bound for bound in (-192, -96, -32, 0, 33, 97, 193))
    codes = {(0, 0): low + stream.flag(tables[1462 + (2 * s + h) * 9 + e])}
    expected = picture.expected(layer, y, x, s, earlier)
    for (v, u), q in old.codes.items():
        if (v, u) != (0, 0):
            expected.push(v, u, min(63, 2 * abs(q)))
            expected.push_back(v, u, min(63, 2 * abs(q)))
    open_, over = 1, 0
    for v, u in SCANS[size][1:]:
        q = old.codes.get((v, u), 0)
        if q:
            bit = stream.flag(tables[1456 + 3 * h + min(abs(q), 3) - 1])
            a = min(32767, 2 * abs(q) + bit)
            codes[v, u] = -a if q < 0 else a
        elif not over:
            context = ((2 * s + h) * 2 + open_) * 91 + 13 * band(size, v, u)
            t = stream.symbol(tables[context + level(expected.at(v, u))])
            require(t <= 2, "A.4", f"symbol {t} of a new code")
            if t == 0:
                open_ = 0
            elif t == 1:
                over = 1
            else:
                codes[v, u] = -1 if stream.raw(1) else 1
                expected.push(v, u, 1)
                open_ = 1
    return Block(s, codes, h)
