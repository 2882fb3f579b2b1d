"""Models and rANS segments for reference_decoder.py (format.md, sections 7.1 and 9.3).

Written from format.md alone, standard library only, one value at a time; each function names its
section. A model is a dict: `channels`, and `layers`, layer models by (above, bits).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate

from reference_columns import Cursor, ceil_div, unpack_bits
from reference_schema import Unsupported, require


class Bits:
    """Section 7.1: a string of bits, the most significant of each byte first."""

    def __init__(self, data):
        self.text = "".join(f"{byte:08b}" for byte in data)
        self.position = 0

    def u(self, n):
        part = self.text[self.position : self.position + n]
        require(len(part) == n, "7.1", "a model ends within a number")
        self.position += n
        return int(part, 2) if n else 0

    def eg(self, order):
        zeros = 0
        while not self.u(1):
            zeros += 1
            require(zeros <= 24, "7.1", "a number with more than 24 zeros")
        return (1 << zeros + order) + self.u(zeros + order) - (1 << order)

    def sg(self, order):
        number = self.eg(order)
        return number // 2 if number % 2 == 0 else -(number + 1) // 2

    def end(self):
        rest = self.text[self.position :]
        require(len(rest) < 8 and "1" not in rest, "7.1", "bits after the end of a model")


def parse_model(data):
    """Section 7.1.2."""
    bits = Bits(data)
    version = bits.u(8)
    if version != 1:
        raise Unsupported(f"section 7.1: version {version} of a model, this reader knows 1")
    channels, layers, last = bits.u(2) + 1, {}, (-1, -1)
    for _ in range(bits.u(6) + 1):
        pair = (bits.u(4), bits.u(4) + 1)
        require(sum(pair) <= 16, "7.1", f"a layer model of {pair[1]} bits below {pair[0]}")
        require(pair > last, "7.1", "the layer models do not ascend")
        layers[pair], last = parse_layer_model(bits, channels, *pair), pair
    bits.end()
    return {"channels": channels, "layers": layers}


def parse_layer_model(bits, channels, above, width):
    """Section 7.1.2, after `bits`."""
    model = {"bias": [], "weight": [], "energy": []}
    classes = bits.u(3) + 1
    model["borders"] = list(accumulate(bits.eg(4) for _ in range(classes - 1)))
    require(
        not model["borders"] or model["borders"][-1] < 1 << 21, "7.1", "a border above 2^21 - 1"
    )
    shift, order = bits.u(2), bits.u(4)
    for _ in range(classes):
        model["bias"].append([])
        model["weight"].append([])
        for k in range(channels):
            taps = (24 if above else 12) * channels + k  # 9.3.5
            bias, weight = bits.sg(3), [bits.sg(order) << shift for _ in range(taps)]
            require(abs(bias) <= 65535, "7.1", f"bias {bias}")
            total = sum(map(abs, weight))
            require(total <= 32767, "7.1", f"the sum of |weight| is {total}")
            model["bias"][-1].append(bias)
            model["weight"][-1].append(weight)
    for k in range(channels):
        model["energy"].append([bits.sg(7) for _ in range(4 * channels + k + 2)])  # 9.3.6
        total = sum(map(abs, model["energy"][k]))
        require(total <= 32767, "7.1", f"the sum of |energy| is {total}")
    model["thresholds"] = list(accumulate(bits.eg(2) for _ in range(14)))
    require(model["thresholds"][13] <= 4095, "7.1", "T_13 is above 4095")
    count = bits.eg(4) + 1
    require(count <= 256, "7.1", f"{count} tables")
    model["tables"] = parse_tables(bits, count, 1 << width if width <= 4 else 16 + 2 * (width - 4))
    model["map"] = parse_map(bits, count, 16 * channels * bin_count(width), bin_count(width))
    return model


def parse_tables(bits, count, symbols):
    """Section 7.1.3: for each table the starts c_0 ... c_S, the last of which is 4096."""
    order, grades, tables = bits.u(2), [0] * symbols, []
    for _ in range(count):
        for s in range(symbols):
            grades[s] += bits.sg(order)
            require(0 <= grades[s] <= 80, "7.1", f"grade {grades[s]}")
        values = [g if g < 8 else (8 + g % 8) << g // 8 - 1 for g in grades]
        total = sum(values)
        require(total > 0, "7.1", "a table without a symbol")
        frequencies = [max(1, v * 4096 // total) if v else 0 for v in values]
        frequencies[frequencies.index(max(frequencies))] += 4096 - sum(frequencies)
        tables.append(list(accumulate(frequencies, initial=0)))
    return tables


def parse_map(bits, count, contexts, per_level):
    """Section 7.1.4: the table of each context."""
    if count == 1:
        return [0] * contexts
    table, p = [], 0
    while len(table) < contexts:
        run = bits.eg(1)
        require(run <= contexts - len(table), "7.1", "a run goes past the last context")
        table += [p] * run
        i = len(table)
        if i == contexts:
            break
        above = table[i - per_level] if i // per_level % 16 > 0 else p
        p = above if above != p and bits.u(1) else bits.u((count - 1).bit_length())
        require(p < count, "7.1", f"table {p} of {count}")
        table.append(p)
    require(len(set(table)) == count, "7.1", "a table that no context has")
    return table


def bin_count(w):
    """Section 9.3.7: B."""
    return (16 * 2**w + 16 >> max(0, w - 2)) + 1 if w <= 4 else 4


def grid(shape):
    """Section 9.3.2: H, W and C of a sample."""
    left, channels = list(shape), 1
    if len(left) >= 3:
        require(left[-1] > 0, "9.3", "a sample without channels has no grid")
        channels = left.pop() if left[-1] <= 4 else 1
    width = left.pop() if left else 1
    require(width * channels <= 1 << 20, "9.3", f"a row of {width} pixels has no grid")
    return math.prod(left), width, channels


def read_streams(cursor, n):
    """Section 9.3.1: R, and the bytes of each stream."""
    cursor = Cursor(cursor.rest(), "9.3")
    (per_stream,), (low,), (width,) = (cursor.numbers(1, c) for c in "HIB")
    require(1 <= per_stream <= 4096, "9.3", f"{per_stream} samples per stream")
    require(width <= 32, "9.3", f"lengths of {width} bits")
    lengths = [low + over for over in unpack_bits(cursor, ceil_div(n, per_stream), width)]
    streams = [cursor.take(length) for length in lengths]
    cursor.end()
    return per_stream, streams


def decode_segment(cursor, model, shapes, kept, pairs, known):
    """Section 9.3: for each sample its values in this layer; none where the width is 0.

    `cursor` stands after the coding byte; `kept` holds the places of the values of each sample
    that are coded, `pairs` its (above, bits); `known(i)` returns what the layers before say of
    each value of sample i.
    """
    grids = [grid(shape) for shape in shapes]
    for (_, _, channels), pair in zip(grids, pairs, strict=True):
        require(channels == model["channels"], "9.3", f"{channels} channels")
        require(not pair[1] or pair in model["layers"], "9.3", f"no layer model {pair}")
    nbytes = len(cursor.data) - cursor.position
    require(sum(map(math.prod, grids)) <= 32768 * nbytes, "9.3", f"no {nbytes} bytes expand so far")
    per_stream, parts = read_streams(cursor, len(shapes))
    streams = [Stream(part) for part in parts]
    layer = []
    for i, pair in enumerate(pairs):
        stream = streams[i // per_stream]
        if pair[1] and len(kept[i]):
            args = (model["layers"][pair], *pair, *grids[i], kept[i], known(i))
            layer.append(decode_sample(stream, *args))
        else:
            layer.append([])
        if i == len(pairs) - 1 or (i + 1) % per_stream == 0:
            stream.close()
    return layer


class Stream:
    """Section 9.3.9: one rANS stream."""

    def __init__(self, data):
        self.data, self.position = data, min(len(data), 4 - len(data) % 2)
        self.state = int.from_bytes(data[: self.position], "big")

    def refill(self):
        if self.state < 1 << 16 and self.position < len(self.data):
            two = self.data[self.position : self.position + 2]
            self.state = self.state << 16 | int.from_bytes(two, "big")
            self.position += 2

    def symbol(self, starts):
        slot = self.state % 4096
        s = bisect_right(starts, slot) - 1  # the last of equals, so that f_s is not 0
        self.state = (starts[s + 1] - starts[s]) * (self.state >> 12) + slot - starts[s]
        self.refill()
        return s

    def raw(self, n):
        bits = self.state % (1 << n)
        self.state >>= n
        self.refill()
        return bits

    def close(self):
        require(self.state == 0, "9.3", "the state of a stream does not end at 0")
        require(self.position == len(self.data), "9.3", "bytes are left at the end of a stream")


class Rows:
    """Section 9.3.4: the rows around a value; pixel x is at index (x + 2) * C."""

    def __init__(self, width, channels, middle_rows):
        self.width, self.channels = width, channels
        self.middles = [self.extended(row) for row in middle_rows]
        self.nn, self.n, self.cur, self.en, self.ecur = (self.blank() for _ in range(5))
        self.mid = self.s = self.ss = None

    def blank(self):
        return [0] * ((self.width + 5) * self.channels)

    def extended(self, inner):
        """A row of W pixels with its margins, the last of which is never used."""
        c = self.channels
        return inner[:c] * 2 + inner + inner[-c:] * 3

    def start(self, y):
        c, end = self.channels, (self.width + 2) * self.channels
        if y > 0:
            self.nn, self.n = self.n, self.extended(self.cur[2 * c : end])
            self.en = self.extended(self.ecur[2 * c : end])
            self.cur, self.ecur = self.blank(), self.blank()
        elif self.middles:
            self.nn, self.n = list(self.middles[0]), list(self.middles[0])
        if self.middles:
            last = len(self.middles) - 1
            self.mid, self.s, self.ss = (self.middles[min(y + d, last)] for d in range(3))
        self.cur[: 2 * c], self.ecur[: 2 * c] = self.n[: 2 * c], self.en[: 2 * c]

    def leave_out(self, at):
        """Instead of all values of the pixel at index `at`."""
        c = self.channels
        self.cur[at : at + c], self.ecur[at : at + c] = (
            self.cur[at - c : at],
            self.ecur[at - c : at],
        )

    def end_first_row_pixel(self, at):
        """After the last value of a pixel of row 0, which is at index `at`."""
        c = self.channels
        self.en[at + c : at + 3 * c] = self.ecur[at : at + c] * 2
        if not self.middles:
            self.n[at + c : at + 4 * c] = self.cur[at : at + c] * 3
            self.nn[at + c : at + 4 * c] = self.cur[at : at + c] * 3


def spread_out(known, kept, count, row, channels, a):
    """Section 9.3.3: u of every value of the grid, of which `known` holds those that are kept."""
    found, given = [], dict(zip(kept, known, strict=True))
    for place in range(count):
        if place in given:
            found.append(given[place])
        elif place % row >= channels:
            found.append(found[place - channels])
        else:
            found.append(found[place - row] if place >= row else (1 << a) // 2)
    return found


def decode_sample(stream, model, a, w, height, width, channels, kept, known):
    """Sections 9.3.3 to 9.3.8: the values d that are kept; `known` holds u of each of them."""
    mid, row, coded = (1 << a + w) // 2, width * channels, set(kept)
    known = spread_out(known, kept, height * row, row, channels, a)
    middles = [(u << w) + (1 << w) // 2 - mid for u in known] if a else []
    rows = Rows(width, channels, [middles[at : at + row] for at in range(0, len(middles), row)])
    values = []
    for y in range(height):
        rows.start(y)
        for x in range(width):
            at, place = (x + 2) * channels, y * row + x * channels
            for k in range(channels if place in coded else 0):
                u = known[place + k]
                d, centred, error = decode_value(stream, model, a, w, rows, at, k, u, x == y == 0)
                rows.cur[at + k], rows.ecur[at + k] = centred, error
                values.append(d)
            if place not in coded:
                rows.leave_out(at)
            if y == 0:
                rows.end_first_row_pixel(at)
    return values


def decode_value(stream, model, a, w, rows, at, k, u, first):
    """Sections 9.3.5 to 9.3.8: d, the centred value and the error of one value."""
    total, loss, c = a + w, max(0, a + w - 8), rows.channels
    mid = (1 << total) // 2
    p = clamp(predict(model, a, rows, at, k) + 16 * mid, 0, 16 * ((1 << total) - 1))
    level = 15
    if not first:
        e = expected_error(model, rows, at, k, loss)
        level = sum(threshold <= e for threshold in model["thresholds"])
    o = p - 16 * (u << w)
    if w <= 4:
        place = clamp(o + 16, 0, 16 * (1 << w) + 16) >> max(0, w - 2)
    else:
        o = clamp(o, 0, 16 * ((1 << w) - 1))
        place = o % 16 >> 2
    context = (k * 16 + level) * (len(model["map"]) // (16 * c)) + place
    s = stream.symbol(model["tables"][model["map"][context]])
    d = s if w <= 4 else unfold(stream, s, o >> 4, (1 << w) - 1)
    v = (u << w) + d
    return d, v - mid, min(4095, abs(16 * v - p) >> loss)


def clamp(x, low, high):
    """Section 2."""
    return max(low, min(x, high))


def activity(rows, at):
    """Section 9.3.5: how much changes around the pixel at index `at`."""
    c, total = rows.channels, 0
    for i in range(at, at + c):
        n = rows.n[i]
        total += abs(n - rows.n[i - c]) + abs(n - rows.n[i + c]) + abs(n - rows.nn[i])
        if rows.mid:
            total += abs(rows.mid[i] - rows.s[i]) + abs(rows.mid[i + c] - rows.mid[i])
    return total


def predict(model, a, rows, at, k):
    """Section 9.3.5: p without 16 * mid, before it is clamped."""
    c = rows.channels
    left, right = at - 2 * c, at + 3 * c
    taps = rows.nn[left:right] + rows.n[left:right]
    if a:
        taps += rows.mid[at:right] + rows.s[left:right] + rows.ss[left:right]
        left += c
    taps += rows.cur[left : at + k]
    j = bisect_right(model["borders"], activity(rows, at))
    total = sum(x * y for x, y in zip(model["weight"][j][k], taps, strict=True))
    return (total + 128 >> 8) + model["bias"][j][k]


def expected_error(model, rows, at, k, loss):
    """Section 9.3.6: e."""
    c, n, here = rows.channels, rows.n, at + k
    west = abs(rows.cur[here - c] - n[here - c])
    gradient = west + abs(n[here] - n[here - c]) + abs(n[here] - n[here + c]) >> loss
    taps = rows.en[at - c : at + 2 * c] + rows.ecur[at - c : here] + [min(4095, gradient)]
    *weights, constant = model["energy"][k]
    total = sum(x * y for x, y in zip(weights, taps, strict=True))
    return clamp((total >> 8) + constant, 0, 4095)


def unfold(stream, s, m, t):
    """Section 9.3.8: d of a layer of more than 4 bits."""
    z = s
    if s >= 16:
        n = 3 + (s - 16 >> 1)
        z = (2 + s % 2 << n) + stream.raw(n)
    r = min(m, t - m)
    if z > 2 * r:
        return z - r + m if m < t - m else m - (z - r)
    return m + z // 2 if z % 2 == 0 else m - (z + 1) // 2
