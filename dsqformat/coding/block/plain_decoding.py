"""Decoding without compiled kernels: NumPy steps all streams of a segment at once (spec A.3 to 9).

Every stream is a lane. Lanes whose next block has the same size read it together; the others wait
until theirs is what most wait for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.job import Coefficients, Job, empty_coefficients
from dsqformat.coding.block.layout import EDGE_WEIGHTS, FLAG_FIRST
from dsqformat.coding.block.model import BlockModel
from dsqformat.coding.block.plain_blocks import (
    field_of,
    profile_of,
    read_ac,
    read_dc,
    read_refinement,
)
from dsqformat.coding.block.plain_pixels import coefficients, reconstruct, to_floats, to_octets
from dsqformat.coding.block.plain_streams import Coder, Reader, Values
from dsqformat.coding.block.workspace import padded

Found = tuple[NDArray[np.int32], NDArray[np.uint8]]  # codes and block sizes of a sample
Leaf = tuple[int, int, int, int]  # sample, y, x, index of the block size

_MAX_CELLS: Final = 1 << 20  # of all lanes, layers and planes that run together
_BATCH_PIXELS: Final = 1 << 18


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
        cells_y = max(shape[0] for lane in samples for shape in lane) // 4
        cells_x = max(shape[1] for lane in samples for shape in lane) // 4
        grid = (len(streams), planes, cells_y, cells_x, lanes)
        self.right = np.zeros(grid, "i8")
        self.lower = np.zeros(grid, "i8")
        self.sizes = np.zeros((cells_y, cells_x, lanes), "u1")
        self.profiles = np.zeros((len(streams), planes, cells_y, cells_x, lanes, 8, 8), "i2")
        self.done: list[list[Found]] = [
            [(np.zeros((planes, h, w), "i4"), np.zeros((h // 4, w // 4), "u1")) for h, w in lane]
            for lane in samples
        ]

    def run(self) -> None:
        """Decode all codes."""
        walks = [self._walk(lane) for lane in range(len(self.done))]
        waiting: dict[int, list[tuple[int, Leaf]]] = {size: [] for size in range(4)}
        ready = list(range(len(walks)))
        while True:
            for lane in ready:
                leaf = next(walks[lane], None)
                if leaf is not None:
                    waiting[leaf[3]].append((lane, leaf))
            size = max(waiting, key=lambda size: len(waiting[size]))
            members, waiting[size] = waiting[size], []
            if not members:
                break
            ready = [lane for lane, _ in members]
            self._read(size, np.array(ready), [leaf for _, leaf in members])
        for coder in self.coders:
            coder.close()

    def _walk(self, lane: int) -> Iterator[Leaf]:
        """Yield the leaves of a lane."""
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
                            split = self.coders[0].flag(lane, FLAG_FIRST + size)
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

    def _read(self, size: int, lanes: NDArray[np.intp], leaves: list[Leaf]) -> None:
        """Read one block of one size in some lanes, all layers and planes."""
        T, span, planes = 4 << size, 1 << size, self.model.planes
        cy = np.array([leaf[1] // 4 for leaf in leaves])
        cx = np.array([leaf[2] // 4 for leaf in leaves])
        codes = np.zeros((planes, T * T, len(lanes)), "i8")
        around = self._neighbours(lanes, cy, cx)
        inner = np.arange(span)[:, None]
        self.sizes[cy + inner[:, None], cx + inner, lanes] = size
        for layer, coder in enumerate(self.coders):
            reader = Reader(coder, lanes)
            for plane in range(planes):
                profiles = self.profiles[layer, plane]
                field = field_of(_seen(profiles, around), codes[:plane], size)
                near = self._edges(layer, plane, lanes, size, cy, cx)
                block, h = codes[plane], int(plane > 0)
                if layer:
                    read_refinement(reader, coder.none, block, field, size, h, near, layer & 1)
                else:
                    slopes = read_dc(reader, block, size, h, near)
                    alone = ~(near[0] | near[1])
                    read_ac(reader, coder.none, block, field, size, h, alone, slopes)
                self._close(layer, plane, lanes, size, cy, cx, block)
                profiles[cy, cx, lanes] = profile_of(
                    codes[plane], size, 5 if plane else 6
                ).transpose(2, 0, 1)
            reader.save()
        blocks = codes.transpose(2, 0, 1).reshape(-1, planes, T, T)
        for lane, (sample, y, x, _), block in zip(lanes.tolist(), leaves, blocks, strict=True):
            target, sizes = self.done[lane][sample]
            target[:, y : y + T, x : x + T] = block
            sizes[y // 4 : (y + T) // 4, x // 4 : (x + T) // 4] = size

    def _edges(
        self, layer: int, plane: int, lanes: NDArray[np.intp], size: int, cy: NDArray[Any],
        cx: NDArray[Any],
    ) -> tuple[NDArray[Any], ...]:  # fmt: skip
        """Return whether there are left and upper blocks, and their edges (spec A.4.1)."""
        T, inner = 4 << size, np.arange(1 << size)[:, None]
        right, lower = self.right[layer, plane], self.lower[layer, plane]
        left = right[cy + inner, np.maximum(cx - 1, 0), lanes].sum(0) >> size
        upper = lower[np.maximum(cy - 1, 0), cx + inner, lanes].sum(0) >> size
        return cx > 0, cy > 0, left * T, upper * T

    def _close(
        self, layer: int, plane: int, lanes: NDArray[np.intp], size: int, cy: NDArray[Any],
        cx: NDArray[Any], codes: Values,
    ) -> None:  # fmt: skip
        """Leave the edges of one plane of a block to later blocks."""
        T, span, inner = 4 << size, 1 << size, np.arange(1 << size)[:, None]
        weights, block = EDGE_WEIGHTS[size, :T, None], codes.reshape(T, T, -1)
        self.right[layer, plane, cy + inner, cx + span - 1, lanes] = (block[0] * weights).sum(
            0
        ) >> (size + 2)
        self.lower[layer, plane, cy + span - 1, cx + inner, lanes] = (block[:, 0] * weights).sum(
            0
        ) >> (size + 2)

    def _neighbours(
        self, lanes: NDArray[np.intp], cy: NDArray[Any], cx: NDArray[Any]
    ) -> tuple[NDArray[Any], ...]:
        """Return lanes, origins of left and upper blocks and their weights, 0 to 2."""
        left_x, upper_y = np.maximum(cx - 1, 0), np.maximum(cy - 1, 0)
        a, b = self.sizes[cy, left_x, lanes], self.sizes[upper_y, cx, lanes]
        left, upper = cx > 0, cy > 0
        return (
            lanes, cy >> a << a, left_x >> a << a, left * (2 - upper),
            upper_y >> b << b, cx >> b << b, upper * (2 - left),
        )  # fmt: skip


def _seen(profiles: NDArray[np.int16], near: tuple[NDArray[Any], ...]) -> Values:
    """Return the sum of the neighbours' profiles, shape (8, 8, lanes)."""
    lanes, left_y, left_x, left, upper_y, upper_x, upper = near
    total: Values = profiles[left_y, left_x, lanes] * left[:, None, None].astype("i8")
    total += profiles[upper_y, upper_x, lanes] * upper[:, None, None]
    return total.transpose(1, 2, 0)


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
