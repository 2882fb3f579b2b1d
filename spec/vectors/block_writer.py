"""Streams of block pictures from chosen codes (format.md, sections A.3 to A.5 and A.8).

A plain encoder, independent of every reader and writer. It works on dense arrays where the
reference decoder works on single codes, so that the two share no idea but the text.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

import numpy as np

EDGES = {
    size: np.array([
        64 if k == 0 else round(64 * 2**0.5 * np.cos(np.pi * k * (2 * size - 1) / (2 * size)))
        for k in range(size)
    ])
    for size in (4, 8, 16, 32)
}  # fmt: skip
LEVELS = np.array([2, 4, 8, 12, 19, 28, 42, 60, 87, 124, 178, 252])
LEANINGS = np.array([-192, -96, -32, 0, 33, 97, 193])


def scan(size):
    """Section A.2."""
    places = [(v, u) for v in range(size) for u in range(size)]
    return sorted(places, key=lambda p: (sum(p), p[0] if sum(p) % 2 else -p[0]))


def band(size, v, u):
    """Section A.2, in quarters."""
    f = 32 * (v + u) // size
    if v + u == 1:
        return 0
    return next((b for b, bound in enumerate((12, 16, 24, 32, 44), 1) if f < bound), 6)


@dataclass
class BlockPicture:
    """One sample: its partition and its codes with all layers.

    `splits` holds the nodes (y, x, s) that are split though they need not be; `codes` arrays of
    T x T codes by (y, x, plane), where there is more than 0. `tail` writes zeros to the end of a
    block in place of its end.
    """

    height: int
    width: int
    qp: int = 64
    splits: set = field(default_factory=set)
    codes: dict = field(default_factory=dict)
    tail: bool = False

    def leaves(self, model):
        """Section A.3: ((y, x, s), the sizes of nodes that had a flag before it)."""
        smallest, largest = model.sizes
        height, width = self.padded(model)
        found, flags = [], []

        def node(y, x, s):
            size = 4 << s
            if y >= height or x >= width:
                return
            split = s > largest or y + size > height or x + size > width
            if not split and s > smallest:
                split = (y, x, s) in self.splits
                flags.append((s, split))
            if not split:
                found.append(((y, x, s), flags[:]))
                flags.clear()
                return
            for i, j in ((0, 0), (0, size // 2), (size // 2, 0), (size // 2, size // 2)):
                node(y + i, x + j, s - 1)

        for y in range(0, height, 32):
            for x in range(0, width, 32):
                node(y, x, 3)
        return found

    def padded(self, model):
        unit = 4 << model.sizes[0]
        return -(-self.height // unit) * unit, -(-self.width // unit) * unit

    def block(self, y, x, s, plane, missing, layers):
        """The codes of a block without the last `missing` layers."""
        size = 4 << s
        full = self.codes.get((y, x, plane), np.zeros((size, size), int))
        codes = np.sign(full) * np.minimum(np.abs(full) >> missing, 32767)
        codes[0, 0] = full[0, 0]
        for layer in range(layers - 1, layers - 1 - missing, -1):
            codes[0, 0] = codes[0, 0] + layer % 2 >> 1
        return codes


def random_picture(model, height, width, seed, *, qp=64, split=0.4, amount=3.0, layers=1):
    """A picture of random codes, most of them small and of low frequency."""
    source = random.Random(seed)
    picture = BlockPicture(height, width, qp)
    for y in range(0, height + 31, 4):
        for x in range(0, width + 31, 4):
            picture.splits |= {(y, x, s) for s in (1, 2, 3) if source.random() < split}
    scale = 1 << layers - 1
    for (y, x, s), _ in picture.leaves(model):
        for plane in range(model.planes):
            codes = np.zeros((4 << s, 4 << s), int)
            codes[0, 0] = source.randint(-12 * scale << s, 12 * scale << s)
            for k, (v, u) in enumerate(scan(4 << s)[1:], 1):
                if source.random() < amount / (k + amount):
                    codes[v, u] = source.choice((-1, 1)) * int(source.expovariate(0.4 / scale))
            picture.codes[y, x, plane] = codes
    return picture


class Layer:
    """What one layer of one sample knows of its earlier blocks, and what it writes."""

    def __init__(self, planes, height, width):
        cells = (planes, height // 4, width // 4)
        self.profiles = np.zeros((*cells, 8, 8), int)
        self.right, self.lower = np.zeros(cells, int), np.zeros(cells, int)
        self.out = []

    def keep(self, plane, y, x, s, codes):
        """Section A.4: what later blocks see of this one."""
        here = np.s_[plane, y // 4 : (y // 4) + (1 << s), x // 4 : (x // 4) + (1 << s)]
        self.profiles[here] = profile(codes, s, 5 if plane else 6)
        size = 4 << s
        self.right[here] = codes[0] @ EDGES[size] // size
        self.lower[here] = codes[:, 0] @ EDGES[size] // size

    def flag(self, context, value):
        """Section A.3: every symbol above 0 is a 1."""
        self.out.append((context, value * (1 + len(self.out) % 3)))

    def raw(self, n, value):
        self.out.append((None, n, value))


def magnitudes(codes):
    """min(63, |q|) of AC codes, 0 at DC."""
    a = np.minimum(63, np.abs(codes))
    a[0, 0] = 0
    return a


def shifted(a, dv, du):
    """An array moved down by dv and right by du; what leaves it is dropped."""
    out, size = np.zeros_like(a), len(a)
    out[max(dv, 0) : size + min(dv, 0), max(du, 0) : size + min(du, 0)] = a[
        max(-dv, 0) : size + min(-dv, 0), max(-du, 0) : size + min(-du, 0)
    ]
    return out


def profile(codes, s, w):
    """Section A.4.3."""
    a = magnitudes(codes)
    if s == 0:
        own, side = (np.kron(weight * a, np.ones((2, 2), int)) for weight in (w, 2))
    else:
        r = s - 1
        o = (1 << r) >> 1
        own, side = (
            np.where(a > 0, weight * a + o >> r, 0).reshape(8, 1 << r, 8, 1 << r).sum((1, 3))
            for weight in (w, 2)
        )
    return own + shifted(side, 0, -1) + shifted(side, -1, 0)


def after(a, chroma):
    """Section A.4.3: what magnitudes push to the places after them."""
    near = 2 * a if chroma else (5 * a + 1) >> 1
    far = shifted(a, 0, 2) + shifted(a, 2, 0)
    return shifted(near, 0, 1) + shifted(near, 1, 0) + shifted(2 * a if chroma else a, 1, 1) + far


def before(a, chroma):
    """Section A.4.2: what known magnitudes say of the places before them."""
    near = 2 * a if chroma else (5 * a + 1) >> 1
    far = shifted(a, -1, -1) + shifted(a, -1, 1) + shifted(a, 1, -1)
    return shifted(near, 0, -1) + shifted(near, -1, 0) + far


def beforehand(layer, earlier, plane, y, x, s):
    """Section A.4.3: the array of expected magnitudes at the start of a block."""
    neighbours = []
    if x > 0:
        neighbours.append(layer.profiles[plane, y // 4, x // 4 - 1])
    if y > 0:
        neighbours.append(layer.profiles[plane, y // 4 - 1, x // 4])
    size = 4 << s
    to = np.arange(size) * 8 // size
    total = sum(neighbours, np.zeros((8, 8), int)) * (2 if len(neighbours) == 1 else 1)
    m = total[to[:, None], to]
    if plane:
        a = magnitudes(earlier[0])
        m = m + (3 if plane == 1 else 2) * a + shifted(a, 0, -1) + shifted(a, -1, 0)
        if plane > 1:
            m = m + 7 * magnitudes(earlier[plane - 1])
    return m


def neighbouring_edges(layer, plane, y, x, s):
    """Section A.4.1: left and upper; None where there is none."""
    size, span, cy, cx = 4 << s, 1 << s, y // 4, x // 4
    left = layer.right[plane, cy : cy + span, cx - 1].sum() // span * size if x else None
    upper = layer.lower[plane, cy - 1, cx : cx + span].sum() // span * size if y else None
    return left, upper


def prediction(left, upper):
    """Section A.4.1: P, and the edges it comes from."""
    known = [int(edge) for edge in (left, upper) if edge is not None]
    return sum(known) >> 1 if len(known) == 2 else sum(known), known


def write_first(layer, codes, earlier, plane, y, x, s, tail):
    """Section A.4.1."""
    size, h = 4 << s, int(plane > 0)
    left, upper = neighbouring_edges(layer, plane, y, x, s)
    p, known = prediction(left, upper)
    c = sum(abs(known[0] - known[-1]) >= bound for bound in (128, 256, 512, 1024)) if known else 5
    dc = int(codes[0, 0])
    write_dc(layer, 2912 + (2 * s + h) * 6 + c, dc - ((p + 32) >> 6), dc)
    slopes = [0 if edge is None else -3 * (64 * dc - int(edge)) >> 3 for edge in (left, upper)]
    m = beforehand(layer, earlier, plane, y, x, s)
    base, opened, prev = ((2 * s + h) * 2 + (not known)) * 2, 1, 0
    places = scan(size)
    last = max((k for k, place in enumerate(places) if k and codes[place]), default=0)
    seen = np.zeros_like(codes)
    for k, (v, u) in enumerate(places):
        if k == 0:
            continue
        expected = int(m[v, u] + after(seen, h)[v, u]) + prev if k <= last + 1 or tail else 0
        expected += min(64, abs(slopes[k - 1]) >> 3) if k <= 2 else 0
        level = int(np.searchsorted(LEVELS, expected, "right"))
        context = (base + opened) * 91 + 13 * band(size, v, u) + level
        q = int(codes[v, u])
        if k > last and not tail:
            layer.out.append((context, 1))
            break
        if q == 0:
            layer.out.append((context, 0))
            opened = prev = 0
            continue
        write_magnitude(layer, context, abs(q))
        if k <= 2:
            g = slopes[k - 1]
            kind = (g >= -96) + (g >= -32) + (g >= 0) + (g > 32) + (g > 96)
            layer.flag(2960 + 6 * h + kind, int(q < 0))
        else:
            layer.raw(1, int(q < 0))
        seen[v, u] = min(63, abs(q))
        opened, prev = 1, seen[v, u] * (2 if h else 4)


def write_dc(layer, context, d, dc):
    """Section A.4.1; a code at its bound is written from beyond it."""
    d += (dc == 32767) - (dc == -32767)
    t = 2 * d if d >= 0 else -2 * d - 1
    if t < 8:
        layer.out.append((context, t))
        return
    n = t.bit_length() - 2
    layer.out.append((context, 8 + 2 * (n - 2) + (t >> n) - 2))
    layer.raw(n, t & (1 << n) - 1)


def write_magnitude(layer, context, a):
    """Section A.4.1; the largest one is written from beyond its bound."""
    if a <= 12:
        layer.out.append((context, a + 1))
        return
    a = 32776 if a == 32767 else a
    n = (a - 9).bit_length() - 1
    layer.out.append((context, 12 + n))
    layer.raw(n, a - 9 - (1 << n))


def write_further(layer, number, codes, old, wanted, earlier, plane, y, x, s):
    """Section A.4.2; `wanted` are the magnitudes before they are bounded."""
    size, h = 4 << s, int(plane > 0)
    p, known = prediction(*neighbouring_edges(layer, plane, y, x, s))
    low = 2 * int(old[0, 0]) - number % 2
    lean = int(np.searchsorted(LEANINGS, p - 64 * low - 32, "right")) if known else 8
    layer.flag(1462 + 9 * (2 * s + h) + lean, int(codes[0, 0]) - low)
    a = magnitudes(2 * old)
    m = beforehand(layer, earlier, plane, y, x, s) + after(a, h) + before(a, h)
    places = scan(size)
    fresh = [k for k, place in enumerate(places) if k and codes[place] and not old[place]]
    last, seen, opened, over = max(fresh, default=0), np.zeros_like(codes), 1, False
    for k, (v, u) in enumerate(places):
        if k and old[v, u]:
            kind = min(abs(int(old[v, u])), 3) - 1
            layer.flag(1456 + 3 * h + kind, int(wanted[v, u] & 1))
        elif k and not over:
            level = int(np.searchsorted(LEVELS, m[v, u] + after(seen, h)[v, u], "right"))
            context = ((2 * s + h) * 2 + opened) * 91 + 13 * band(size, v, u) + level
            over = k > last
            opened = int(codes[v, u] != 0)
            layer.out.append((context, 1 if over else 2 * opened))
            if opened:
                layer.raw(1, int(codes[v, u] < 0))
                seen[v, u] = 1


def sample_symbols(model, picture):
    """Section A.3: for each layer what it writes of one sample."""
    count = len(model.layers)
    height, width = picture.padded(model)
    layers = [Layer(model.planes, height, width) for _ in range(count)]
    for (y, x, s), flags in picture.leaves(model):
        for size, split in flags:
            layers[0].flag(2972 + size, int(split))
        old = []
        for number, layer in enumerate(layers):
            missing = count - 1 - number
            now = [picture.block(y, x, s, p, missing, count) for p in range(model.planes)]
            for plane, codes in enumerate(now):
                args = (now[:plane], plane, y, x, s)
                if number == 0:
                    write_first(layer, codes, *args, picture.tail)
                else:
                    full = picture.codes.get((y, x, plane), np.zeros_like(codes))
                    wanted = np.abs(full) >> missing
                    write_further(layer, number, codes, old[plane], wanted, *args)
                layer.keep(plane, y, x, s, codes)
            old = now
    return [layer.out for layer in layers]


def stream(symbols, starts):
    """Section A.8: one stream; a symbol that its table does not have is escaped."""
    x, words = 0, []

    def spill(bound):
        nonlocal x
        if x >= bound:
            words.insert(0, x & 0xFFFFFFFF)
            x >>= 32

    def put(table, t):
        nonlocal x
        f = table[t + 1] - table[t]
        spill(f << 51)
        x = (x // f << 12) + table[t] + x % f

    def raw(n, b):
        nonlocal x
        spill(1 << 63 - n)
        x = (x << n) + b

    for symbol in reversed(symbols):
        if symbol[0] is None:
            raw(*symbol[1:])
            continue
        context, t = symbol
        table = starts[context]
        if t == 31 or table[t + 1] == table[t]:
            raw(5, t)
            put(table, 31)
        else:
            put(table, t)
    nbytes = (x.bit_length() + 7) // 8
    head = nbytes % 4
    rest = (x & (1 << 8 * (nbytes - head)) - 1).to_bytes(nbytes - head, "big")
    final = [int.from_bytes(rest[i : i + 4], "big") for i in range(0, len(rest), 4)]
    words = final + words
    return (x >> 8 * (nbytes - head)).to_bytes(head, "little") + struct.pack(
        f"<{len(words)}I", *words
    )


def streams(model, pictures, per_stream):
    """Section 9.5: for each layer its streams."""
    parts = [sample_symbols(model, picture) for picture in pictures]
    out = []
    for number, tables in enumerate(model.layers):
        starts = tables.starts()
        own = [part[number] for part in parts]
        groups = [own[i : i + per_stream] for i in range(0, len(own), per_stream)]
        out.append([stream([x for part in group for x in part], starts) for group in groups])
    return out
