"""Decoding without compiled kernels: NumPy steps all streams of a segment at once (SPEC 3 to 9).

Every stream is a lane. Lanes go from block to block together and from coefficient to coefficient
inside a block; those that meet the end of their block wait for the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.job import Coefficients, Job, empty_coefficients
from dsqformat.coding.block.layout import (
    BIT_FIRST,
    DC_BIT_FIRST,
    DC_FIRST,
    EDGE_WEIGHTS,
    FLAG_FIRST,
    LEVEL_OF,
    SCAN_BAND,
    SCAN_COLUMN,
    SCAN_ROW,
    SIGN_FIRST,
    STRIDE,
)
from dsqformat.coding.block.model import BlockModel
from dsqformat.coding.block.plain_pixels import coefficients, reconstruct, to_floats, to_octets
from dsqformat.coding.block.tables import LayerTables
from dsqformat.coding.block.workspace import padded
from dsqformat.errors import CorruptShardError

Lanes = NDArray[np.intp]
Found = tuple[NDArray[np.int32], NDArray[np.uint8]]  # codes and block sizes of a sample
_MAX_CELLS = 1 << 20  # of all lanes, layers and planes that run together
_BATCH_PIXELS = 1 << 18


class Coder:
    """The streams of one layer, one lane each."""

    def __init__(self, tables: LayerTables, streams: list[bytes]) -> None:
        slots = np.arange(4096)
        self.map = tables.map.astype("i8") << 12
        starts = tables.starts.astype("i8")
        # By table and remainder: the symbol, its frequency, and what to add to the state.
        found = np.stack([np.searchsorted(s, slots, "right") - 1 for s in starts])
        first = np.take_along_axis(starts, found, 1)
        self.found = found.ravel()
        self.width = (np.take_along_axis(starts, found + 1, 1) - first).ravel()
        self.rest = (slots - first).ravel()
        heads = [len(s) % 4 for s in streams]
        words = [np.frombuffer(s[h:], "<u4") for s, h in zip(streams, heads, strict=True)]
        self.words = np.concatenate([*words, np.zeros(1, "u4")]).astype("i8")
        self.end = np.cumsum([len(w) for w in words])
        self.at = self.end - [len(w) for w in words]
        self.x = np.array(
            [int.from_bytes(s[:h], "little") for s, h in zip(streams, heads, strict=True)], "i8"
        )
        lanes = np.arange(len(streams))
        self.refill(lanes)
        self.refill(lanes)

    def refill(self, lanes: Lanes) -> None:
        """Take a word where the state is low and one is left."""
        low = lanes[self.x[lanes] < 1 << 31]
        if len(low):
            low = low[self.at[low] < self.end[low]]
            self.x[low] = self.x[low] << 32 | self.words[self.at[low]]
            self.at[low] += 1

    def raw(self, lanes: Lanes, counts: NDArray[np.int64] | int) -> NDArray[np.int64]:
        """Read raw bits."""
        x = self.x[lanes]
        out: NDArray[np.int64] = x & ((1 << np.asarray(counts, "i8")) - 1)
        self.x[lanes] = x >> counts
        self.refill(lanes)
        return out

    def symbol(self, lanes: Lanes, contexts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Read one symbol per lane."""
        x = self.x[lanes]
        at = self.map[contexts] + (x & 4095)
        out: NDArray[np.int64] = self.found[at]
        self.x[lanes] = self.width[at] * (x >> 12) + self.rest[at]
        self.refill(lanes)
        if out.max() == 31:
            escaped = np.nonzero(out == 31)[0]
            out[escaped] = self.raw(lanes[escaped], 5)
        return out

    def close(self) -> None:
        """Check that all streams end here."""
        if self.x.any() or (self.at != self.end).any():
            raise CorruptShardError("block stream: does not end with its symbols")


class Group:
    """Lanes that run together, with what their neighbours see.

    Args:
        model: of the shard.
        streams: the streams of each layer.
        samples: the shapes of the samples of each lane, padded.
    """

    def __init__(
        self, model: BlockModel, streams: list[list[bytes]], samples: list[list[tuple[int, int]]]
    ) -> None:
        self.model = model
        self.coders = [Coder(t, s) for t, s in zip(model.layers, streams, strict=False)]
        lanes, planes = len(samples), model.planes
        self.cells_y = max(shape[0] for lane in samples for shape in lane) // 4
        self.cells_x = max(shape[1] for lane in samples for shape in lane) // 4
        grid = (lanes, planes, self.cells_y, self.cells_x)
        self.right = np.zeros(grid, "i8")
        self.lower = np.zeros(grid, "i8")
        self.sizes = np.zeros((lanes, self.cells_y, self.cells_x), "u1")
        self.profiles = np.zeros((len(streams), *grid, 8, 8), "i2")
        self.done: list[list[Found]] = []
        for lane in samples:
            self.done.append(
                [
                    (np.zeros((planes, h, w), "i4"), np.zeros((h // 4, w // 4), "u1"))
                    for h, w in lane
                ]
            )

    def run(self) -> None:
        """Decode all codes."""
        walks = [self._walk(lane) for lane in range(len(self.done))]
        while True:
            leaves = {}
            for lane, walk in enumerate(walks):
                leaf = next(walk, None)
                if leaf is not None:
                    leaves[lane] = leaf
            if not leaves:
                break
            by_size: dict[int, list[int]] = {}
            for lane, (_, _, _, size) in leaves.items():
                by_size.setdefault(size, []).append(lane)
            for size, members in by_size.items():
                self._blocks(size, members, [leaves[lane] for lane in members])
        for coder in self.coders:
            coder.close()

    def _walk(self, lane: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield (sample, y, x, size index) of the leaves of a lane."""
        one = np.array([lane])
        for sample, (codes, _) in enumerate(self.done[lane]):
            height, width = codes.shape[1:]
            for top in range(0, height, 32):
                for left in range(0, width, 32):
                    stack = [(top, left, 3)]
                    while stack:
                        y, x, size = stack.pop()
                        T = 4 << size
                        if y >= height or x >= width:
                            continue
                        split = size > self.model.largest or y + T > height or x + T > width
                        if not split and size > self.model.smallest:
                            split = self.coders[0].symbol(one, np.array([FLAG_FIRST + size]))[0] > 0
                        if not split:
                            yield sample, y, x, size
                            continue
                        half = T // 2
                        stack += [
                            (y + half, x + half, size - 1),
                            (y + half, x, size - 1),
                            (y, x + half, size - 1),
                            (y, x, size - 1),
                        ]

    def _blocks(
        self, size: int, members: list[int], leaves: list[tuple[int, int, int, int]]
    ) -> None:
        """Decode one block of one size in some lanes, all layers and planes."""
        lanes = np.array(members)
        T, span = 4 << size, 1 << size
        cy = np.array([leaf[1] // 4 for leaf in leaves])
        cx = np.array([leaf[2] // 4 for leaf in leaves])
        codes = np.zeros((self.model.planes, len(lanes), T * T), "i8")
        near = self._neighbours(lanes, cy, cx)
        inner = np.arange(span)
        self.sizes[
            lanes[:, None, None], cy[:, None, None] + inner[:, None], cx[:, None, None] + inner
        ] = size
        for layer in range(len(self.coders)):
            for plane in range(self.model.planes):
                profiles = self.profiles[layer, :, plane]
                field = self._expected(profiles, near, codes[:plane], size)
                if layer:
                    self._refine(layer, lanes, codes[plane], field, size, plane > 0)
                else:
                    self._coarse(lanes, codes[plane], field, size, plane, cy, cx)
                profiles[lanes, cy, cx] = _profile(codes[plane], size, 5 if plane else 6)
        for i, (sample, y, x, _) in enumerate(leaves):
            block = codes[:, i].reshape(-1, T, T)
            target, sizes = self.done[members[i]][sample]
            target[:, y : y + T, x : x + T] = block
            sizes[y // 4 : (y + T) // 4, x // 4 : (x + T) // 4] = size

    def _neighbours(
        self, lanes: Lanes, cy: NDArray[Any], cx: NDArray[Any]
    ) -> tuple[NDArray[Any], ...]:
        """Return lanes, origins of left and upper blocks and their weights, 0 to 2."""
        left_x = np.maximum(cx - 1, 0)
        upper_y = np.maximum(cy - 1, 0)
        a = self.sizes[lanes, cy, left_x]
        b = self.sizes[lanes, upper_y, cx]
        left, upper = cx > 0, cy > 0
        return (
            lanes, cy >> a << a, left_x >> a << a, left * (2 - upper),
            upper_y >> b << b, cx >> b << b, upper * (2 - left),
        )  # fmt: skip

    def _expected(
        self,
        profiles: NDArray[np.int16],
        near: tuple[NDArray[Any], ...],
        done: NDArray[np.int64],
        size: int,
    ) -> NDArray[np.int64]:
        """Return expected magnitudes, shape (lanes, 36, STRIDE), one guard row and column."""
        lanes, ly, lx, lw, uy, ux, uw = near
        T = 4 << size
        total = profiles[lanes, ly, lx] * lw[:, None, None].astype("i8")
        total += profiles[lanes, uy, ux] * uw[:, None, None].astype("i8")
        to = np.arange(T) * 8 // T
        field = np.zeros((len(lanes), 36, STRIDE + 2), "i8")
        body = field[:, 1 : T + 1, 1 : T + 1]
        body += total[:, to[:, None], to]
        plane = len(done)
        for p in {0, plane - 1} if plane else ():
            a = np.minimum(np.abs(done[p]), 63).reshape(-1, T, T)
            a[:, 0, 0] = 0
            if p == 0:
                body += (3 if plane == 1 else 2) * a
                body[:, :, :-1] += a[:, :, 1:]
                body[:, :-1] += a[:, 1:]
            else:
                body += 7 * a
        return field

    def _coarse(
        self,
        lanes: Lanes,
        codes: NDArray[np.int64],
        field: NDArray[np.int64],
        size: int,
        plane: int,
        cy: NDArray[Any],
        cx: NDArray[Any],
    ) -> None:
        coder, h, T, span = self.coders[0], int(plane > 0), 4 << size, 1 << size
        inner = np.arange(span)
        has_left, has_upper = cx > 0, cy > 0
        rows = cy[:, None] + inner, np.maximum(cx - 1, 0)[:, None]
        columns = np.maximum(cy - 1, 0)[:, None], cx[:, None] + inner
        left = (self.right[lanes[:, None], plane, *rows].sum(1) >> size) * T
        upper = (self.lower[lanes[:, None], plane, *columns].sum(1) >> size) * T
        both = has_left & has_upper
        prediction = np.where(both, (left + upper) >> 1, left * has_left + upper * has_upper)
        gap = np.abs(left - upper)
        steep = sum((gap >= step).astype("i8") for step in (128, 256, 512, 1024))
        context = np.where(both, steep, np.where(has_left | has_upper, 0, 5))
        token = coder.symbol(lanes, DC_FIRST + (2 * size + h) * 6 + context)
        large = np.nonzero(token >= 8)[0]
        if len(large):
            n = 2 + ((token[large] - 8) >> 1)
            token[large] = (2 + (token[large] & 1) << n) + coder.raw(lanes[large], n)
        dc = ((prediction + 32) >> 6) + np.where(token & 1, -((token + 1) >> 1), token >> 1)
        dc = np.clip(dc, -32767, 32767)
        codes[:, 0] = dc
        slopes = (
            np.where(has_left, (-3 * (64 * dc - left)) >> 3, 0),
            np.where(has_upper, (-3 * (64 * dc - upper)) >> 3, 0),
        )
        base = ((2 * size + h) * 2 + ~(has_left | has_upper)) * 182
        flat = field.reshape(len(lanes), -1)
        live = np.arange(len(lanes))
        open_, previous = np.full(len(lanes), 91), np.zeros(len(lanes), "i8")
        for k in range(1, T * T):
            place = int(SCAN_ROW[size, k] + 1) * (STRIDE + 2) + int(SCAN_COLUMN[size, k]) + 1
            m = flat[live, place] + previous[live]
            if k < 3:
                m += np.minimum(64, np.abs(slopes[k - 1][live]) >> 3)
            context = base[live] + open_[live] + int(SCAN_BAND[size, k]) + LEVEL_OF[m]
            symbol = coder.symbol(lanes[live], context)
            if symbol.max() > 26:
                raise CorruptShardError("block stream: a symbol above 26")
            stay = symbol != 1
            live, symbol = live[stay], symbol[stay]
            if not len(live):
                break
            open_[live], previous[live] = 0, 0
            some = symbol > 1
            who, a = live[some], symbol[some] - 1
            if not len(who):
                continue
            large = np.nonzero(a >= 13)[0]
            if len(large):
                n = a[large] - 11
                a[large] = np.minimum((1 << n) + coder.raw(lanes[who[large]], n) + 9, 32767)
            if k < 3:
                g = slopes[k - 1][who]
                kind = sum(
                    (test).astype("i8") for test in (g >= -96, g >= -32, g >= 0, g > 32, g > 96)
                )
                negative = coder.symbol(lanes[who], SIGN_FIRST + 6 * h + kind) > 0
            else:
                negative = coder.raw(lanes[who], 1) > 0
            codes[who, int(SCAN_ROW[size, k]) * T + int(SCAN_COLUMN[size, k])] = np.where(
                negative, -a, a
            )
            a = np.minimum(a, 63)
            _push(flat, who, place, a, h)
            open_[who], previous[who] = 91, a * (2 if h else 4)
        weights = EDGE_WEIGHTS[size, :T]
        block = codes.reshape(-1, T, T)
        self.right[lanes[:, None], plane, cy[:, None] + inner, (cx + span - 1)[:, None]] = (
            (block[:, 0] * weights).sum(1) >> (size + 2)
        )[:, None]
        self.lower[lanes[:, None], plane, (cy + span - 1)[:, None], cx[:, None] + inner] = (
            (block[:, :, 0] * weights).sum(1) >> (size + 2)
        )[:, None]

    def _refine(
        self, layer: int, lanes: Lanes, codes: NDArray[np.int64], field: NDArray[np.int64],
        size: int, chroma: bool,
    ) -> None:  # fmt: skip
        coder, h, T = self.coders[layer], int(chroma), 4 << size
        bit = coder.symbol(lanes, np.full(len(lanes), DC_BIT_FIRST + h)) > 0
        old = codes.copy()
        old[:, 0] = 0
        a = np.minimum(63, 2 * np.abs(old)).reshape(-1, T, T)
        near, diagonal = (2 * a, 2 * a) if h else ((5 * a + 1) >> 1, a)
        for dv, du, amount in (
            (0, 1, near), (1, 0, near), (1, 1, diagonal), (0, 2, a), (2, 0, a), (0, -1, near),
            (-1, 0, near), (-1, -1, a), (-1, 1, a), (1, -1, a),
        ):  # fmt: skip
            field[:, 1 + dv : 1 + dv + T, 1 + du : 1 + du + T] += amount
        flat = field.reshape(len(lanes), -1)
        codes[:, 0] = 2 * codes[:, 0] + bit
        over, open_ = np.zeros(len(lanes), np.bool_), np.full(len(lanes), 91)
        for k in range(1, T * T):
            at = int(SCAN_ROW[size, k]) * T + int(SCAN_COLUMN[size, k])
            place = int(SCAN_ROW[size, k] + 1) * (STRIDE + 2) + int(SCAN_COLUMN[size, k]) + 1
            known = np.nonzero(old[:, at])[0]
            if len(known):
                a = np.abs(old[known, at])
                bit = coder.symbol(lanes[known], BIT_FIRST + 3 * h + np.minimum(a, 3) - 1) > 0
                codes[known, at] = np.sign(old[known, at]) * np.minimum(2 * a + bit, 32767)
            live = np.nonzero((old[:, at] == 0) & ~over)[0]
            if not len(live):
                continue
            base = (2 * size + h) * 182 + int(SCAN_BAND[size, k])
            symbol = coder.symbol(lanes[live], base + open_[live] + LEVEL_OF[flat[live, place]])
            if symbol.max() > 2:
                raise CorruptShardError("block stream: a symbol above 2")
            over[live[symbol == 1]] = True
            open_[live[symbol == 0]] = 0
            new = live[symbol == 2]
            if len(new):
                codes[new, at] = 1 - 2 * coder.raw(lanes[new], 1)
                _push(flat, new, place, np.ones(len(new), "i8"), h)
                open_[new] = 91


_STEPS = np.array([1, STRIDE + 2, STRIDE + 3, 2, 2 * (STRIDE + 2)])
_A = np.arange(64)
# What a magnitude adds at those steps, for luma and chroma.
_PUSHED = (
    np.stack([(5 * _A + 1) >> 1, (5 * _A + 1) >> 1, _A, _A, _A], 1),
    np.stack([2 * _A, 2 * _A, 2 * _A, _A, _A], 1),
)


def _push(flat: NDArray[np.int64], who: Lanes, place: int, a: NDArray[np.int64], h: int) -> None:
    flat[who[:, None], place + _STEPS] += _PUSHED[h][a]


def _profile(codes: NDArray[np.int64], size: int, weight: int) -> NDArray[np.int64]:
    """Return the 8x8 profiles of blocks (SPEC 4.3)."""
    T = 4 << size
    a = np.minimum(np.abs(codes), 63).reshape(-1, T, T)
    a[:, 0, 0] = 0
    if size == 0:
        own, side = (weight * a).repeat(2, 1).repeat(2, 2), (2 * a).repeat(2, 1).repeat(2, 2)
    else:
        shift = size - 1
        half = (1 << shift) >> 1
        cells = (-1, 8, 1 << shift, 8, 1 << shift)
        own = np.where(a, (weight * a + half) >> shift, 0).reshape(cells).sum((2, 4))
        side = np.where(a, (2 * a + half) >> shift, 0).reshape(cells).sum((2, 4))
    own[:, :, :-1] += side[:, :, 1:]
    own[:, :-1] += side[:, 1:]
    return own


def decode_plain(job: Job, output: str) -> NDArray[Any]:
    """Decode as `decode_ranges` does, in NumPy; results and errors alike."""
    out: list[NDArray[Any]] = []
    sides = job.shapes.tolist()
    for first, found in _codes(job):
        qps = job.qps[first : first + len(found)]
        pictures = _pictures(job.model, found, qps, len(job.starts), output)
        for (height, width), picture in zip(sides[first:], pictures, strict=False):
            out.append(picture[:height, :width].ravel())
    empty = np.empty(0, "u1" if output == "uint8" else "f4")
    return np.concatenate([empty, *out])


def coefficients_plain(job: Job) -> Coefficients:
    """Decode as `decode_coefficients` does, in NumPy; results and errors alike."""
    out = empty_coefficients(job)
    planes = job.model.planes
    for first, found in _codes(job):
        for i, (codes, leaves) in enumerate(found, first):
            coefs = coefficients(job.model, codes, leaves, int(job.qps[i]), len(job.starts))
            at = int(out.firsts[i])
            out.values[at : at + codes.size] = coefs.ravel()
            at //= 16 * planes
            out.leaves[at : at + leaves.size] = leaves.ravel()
    return out


def _codes(job: Job) -> Iterator[tuple[int, list[Found]]]:
    """Yield the first sample of a group and the codes and block sizes of all its samples."""
    model = job.model
    layer_streams = [
        [job.data[start:end].tobytes() for start, end in zip(*bounds, strict=True)]
        for bounds in zip(job.starts.tolist(), job.ends.tolist(), strict=True)
    ]
    whole = [(padded(h, model.smallest), padded(w, model.smallest)) for h, w in job.shapes.tolist()]
    step = job.samples_per_stream
    lanes = [whole[i : i + step] for i in range(0, len(whole), step)]
    most = max((h * w for h, w in whole), default=16) // 16 * len(layer_streams) * model.planes
    together = max(1, _MAX_CELLS // most)
    for first in range(0, len(lanes), together):
        part = slice(first, first + together)
        group = Group(model, [streams[part] for streams in layer_streams], lanes[part])
        group.run()
        yield first * step, [item for done in group.done for item in done]


def _pictures(
    model: BlockModel,
    found: list[Found],
    qps: NDArray[np.integer[Any]],
    layers: int,
    output: str,
) -> list[NDArray[Any]]:
    """Return padded pictures; those alike are worked out together, one below the other."""
    out: list[NDArray[Any]] = []
    while len(out) < len(found):
        first = len(out)
        shape, qp = found[first][0].shape, int(qps[first])
        height = -(-shape[1] // 32) * 32
        most = max(1, _BATCH_PIXELS // (height * shape[2]))
        stop = first + 1
        while stop < min(len(found), first + most):
            if found[stop][0].shape != shape or int(qps[stop]) != qp:
                break
            stop += 1
        tall = np.zeros((shape[0], (stop - first) * height, shape[2]), "i4")
        leaves = np.full((tall.shape[1] // 4, shape[2] // 4), 255, "u1")
        for i, (codes, sizes) in enumerate(found[first:stop]):
            tall[:, i * height : i * height + shape[1]] = codes
            leaves[i * height // 4 : (i * height + shape[1]) // 4] = sizes
        channels = reconstruct(model, tall, leaves, qp, layers)
        values: NDArray[Any] = to_octets(channels) if output == "uint8" else to_floats(channels)
        out += list(values.reshape(stop - first, height, shape[2], shape[0]))
    return out
