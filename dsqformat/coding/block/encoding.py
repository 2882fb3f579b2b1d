"""From pictures to a model, codes and streams (spec A.10, informative)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.colour import to_planes
from dsqformat.coding.block.layout import (
    AC_CONTEXTS,
    BANDS_OF,
    CONTEXTS,
    DC_FIRST,
    MAX_LAYERS,
    MAX_QP,
    MAX_SIDE,
    MAX_TABLES,
    REFINEMENT_CONTEXTS,
    SIGN_FIRST,
    SIZES,
    SYMBOLS,
)
from dsqformat.coding.block.model import FLAT, OFFSETS, BlockModel
from dsqformat.coding.block.reconstruction import Moments, fit_offsets
from dsqformat.coding.block.tables import LayerTables, fit_tables
from dsqformat.coding.block.transform import forward, pad_planes
from dsqformat.coding.block.workspace import SYNTAX, neighbourhood
from dsqformat.errors import SampleError
from dsqformat.kernels import block_kernel

# Models are fitted on so many values at most, in crops of so many pixels a side at most: with
# codes and coefficients that takes less than 512 MiB, whatever the pictures.
FIT_VALUES: Final = 3 << 22
FIT_SIDE: Final = 1024

_search: Any = block_kernel("block_search")
_emit: Any = block_kernel("block_emit")
_streams: Any = block_kernel("block_streams")


@dataclass(frozen=True, slots=True)
class Options:
    """How to encode.

    Attributes:
        layers: 1 to 4.
        sizes: smallest and largest block size in pixels, or None for 8 and 16 up to 64 pixels of
            side, else 4 and 32.
        lam: rate against distortion, squared steps per bit.
        passes: passes over the sample in fitting.
        weights: 16 numbers of 64ths of the step, see `BlockModel`; flat by default.
        max_tables: at most so many tables per layer.
    """

    layers: int = 1
    sizes: tuple[int, int] | None = None
    lam: float = 0.13
    passes: int = 3
    weights: tuple[int, ...] = FLAT
    max_tables: int = 160


@dataclass(frozen=True, slots=True)
class Choice:
    """What the encoder chose for one picture.

    Attributes:
        codes: int32, shape (planes, height, width), padded to whole blocks.
        leaves: uint8, shape (height / 4, width / 4), the index of the block size of each cell.
    """

    codes: NDArray[np.int32]
    leaves: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class EncodedPictures:
    """Streams of all layers and the values that belong into the index.

    Attributes:
        layers: for each layer its streams.
        shapes: int32, shape (n, 2).
        qps: int64, shape (n,).
    """

    layers: list[list[bytes]]
    shapes: NDArray[np.int32]
    qps: NDArray[np.int64]


def fit(
    pictures: Sequence[NDArray[np.uint8]],
    qp: int | Sequence[int] | NDArray[np.integer[Any]],
    options: Options | None = None,
) -> BlockModel:
    """Fit a model to some pictures, at most FIT_VALUES values of them.

    Args:
        pictures: uint8, shape (height, width, planes) each.
        qp: 0 to 175, for all or one each.
        options: see `Options`.

    Returns:
        A model for these pictures and others like them.

    Raises:
        SampleError: a picture cannot be encoded.
        ValueError: no pictures, or wrong options.
    """
    options = options or Options()
    sample, qps = fitting_sample(pictures, qp)
    model = _blank(sample, options)
    search = _first_costs()
    for _ in range(max(1, options.passes)):
        counts = np.zeros(CONTEXTS * SYMBOLS, "i8")
        moments = Moments(options.layers)
        choices = []
        for choice, coefs in choose(model, sample, qps, options.lam, search):
            choices.append(choice)
            moments.add(choice, coefs)
            _tally(model, choice, 0, 1, counts)
        tables = fit_tables(counts.reshape(-1, SYMBOLS), options.max_tables)
        search = _costs_of(tables)
        model = replace(model, layers=(tables,), search=tables, offsets=fit_offsets(moments))
    if options.layers > 1:
        layers = []
        for layer in range(options.layers):
            contexts = REFINEMENT_CONTEXTS if layer else CONTEXTS
            counts = np.zeros(contexts * SYMBOLS, "i8")
            for choice in choices:
                _tally(model, choice, layer, options.layers, counts)
            layers.append(fit_tables(counts.reshape(-1, SYMBOLS), options.max_tables))
        model = replace(model, layers=tuple(layers))
    return model


def encode(
    model: BlockModel,
    pictures: Sequence[NDArray[np.uint8]],
    qp: int | Sequence[int] | NDArray[np.integer[Any]],
    *,
    samples_per_stream: int = 32,
    lam: float = 0.13,
) -> EncodedPictures:
    """Encode pictures with all layers of a model.

    Args:
        model: of `fit`.
        pictures: uint8, shape (height, width, planes) each.
        qp: 0 to 175, for all or one each.
        samples_per_stream: consecutive pictures that share a stream.
        lam: rate against distortion, squared steps per bit.

    Raises:
        SampleError: a picture cannot be encoded.
    """
    qps = _qps(pictures, qp)
    shapes = np.array([p.shape[:2] for p in pictures], "i4").reshape(-1, 2)
    tables = model.coder_tables(len(model.layers))
    layers: list[list[bytes]] = [[] for _ in model.layers]
    search = _costs_of(model.search or model.layers[0])
    group: list[Choice] = []
    for choice, _ in choose(model, pictures, qps, lam, search):
        group.append(choice)
        if len(group) == samples_per_stream:
            _finish(model, group, tables, layers)
            group = []
    if group:
        _finish(model, group, tables, layers)
    return EncodedPictures(layers, shapes, qps)


def choose(
    model: BlockModel,
    pictures: Sequence[NDArray[np.uint8]],
    qps: NDArray[np.int64],
    lam: float,
    search: tuple[NDArray[np.uint16], NDArray[np.float32]],
) -> Iterator[tuple[Choice, NDArray[np.float32]]]:
    """Yield for each picture its codes and block sizes, and its coefficients in steps."""
    chroma = np.minimum(np.arange(model.planes), 1)
    shape: tuple[int, ...] = ()
    for i, picture in enumerate(pictures):
        _check(i, picture, model.planes)
        planes = to_planes(picture, model.channel_offsets, model.rgb)
        planes = pad_planes(planes, model.smallest)
        steps = model.band_steps(qps[i : i + 1], 0)[0] / 64
        flat = model.weights == FLAT
        coefs = forward(planes, model.smallest, model.largest, 1 / steps[0] if flat else 1)
        if not flat:
            coefs /= _step_pattern(steps, *planes.shape[1:])[:, chroma]
        if planes.shape != shape:
            shape = planes.shape
            space = neighbourhood(shape[2], model.planes, 1)
            saved = np.empty(4 * model.planes * 1280, "i4")
        codes = np.empty(shape, "i4")
        leaves = np.empty((shape[1] // 4, shape[2] // 4), "u1")
        _search.search(
            coefs,
            codes,
            leaves,
            *search,
            lam,
            model.smallest,
            model.largest,
            *SYNTAX,
            *space,
            saved,
        )
        yield Choice(codes, leaves), coefs


def _finish(
    model: BlockModel,
    group: list[Choice],
    tables: NDArray[np.uint16],
    layers: list[list[bytes]],
) -> None:
    first = 0
    for layer, streams in enumerate(layers):
        symbols, n = _symbols(model, group, layer, len(layers))
        out = np.empty(5 * n + 8, "u1")
        at = _streams.finish(symbols, n, tables, first, out)
        streams.append(out[at:].tobytes())
        first += REFINEMENT_CONTEXTS if layer else CONTEXTS


def _symbols(
    model: BlockModel, group: Sequence[Choice], layer: int, layers: int
) -> tuple[NDArray[np.int32], int]:
    """Return the symbols of one layer of some pictures, and how many they are."""
    values = sum(choice.codes.size for choice in group)
    room = 6200 * model.planes + values // 2
    while True:
        symbols = np.empty(room, "i4")
        n = 0
        for choice in group:
            width = choice.codes.shape[2]
            n = _emit.emit(
                choice.codes, choice.leaves, layers - 1 - layer, layer > 0, model.smallest,
                model.largest, *SYNTAX, *neighbourhood(width, model.planes, 1), symbols, n,
            )  # fmt: skip
            if n < 0:
                break
        if n >= 0:
            return symbols, n
        room *= 2


def _tally(
    model: BlockModel, choice: Choice, layer: int, layers: int, counts: NDArray[np.int64]
) -> None:
    symbols, n = _symbols(model, [choice], layer, layers)
    _emit.tally(symbols, n, counts)


def _costs_of(tables: LayerTables) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    return tables.map.astype("u2") * np.uint16(SYMBOLS), tables.costs().ravel()


def _first_costs() -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """Return costs to begin with: a guess for AC, for DC and for the rest."""
    k = np.arange(SYMBOLS)
    ac = np.minimum(1.5 * k - 0.5, 14)
    ac[:2] = 0.5, 2.5
    costs = np.stack([ac, np.minimum(k * 0.5 + 2, 12), np.ones(SYMBOLS)]).astype("f4")
    map_ = np.full(CONTEXTS, 2 * SYMBOLS, "u2")
    map_[:AC_CONTEXTS] = 0
    map_[DC_FIRST:SIGN_FIRST] = SYMBOLS
    return map_, costs.ravel()


def _step_pattern(step: NDArray[np.float64], height: int, width: int) -> NDArray[np.float32]:
    """Return the step of every coefficient, shape (4, 2, height, width) by luma or chroma."""
    out = np.ones((4, 2, height, width), "f4")
    steps = step.reshape(2, 8)
    for index, size in enumerate(SIZES):
        tiled = np.tile(BANDS_OF[index], (-(-height // size), -(-width // size)))[:height, :width]
        out[index] = steps[:, tiled]
    return out


def _blank(sample: Sequence[NDArray[np.uint8]], options: Options) -> BlockModel:
    """Return a model without tables for pictures like these."""
    planes = sample[0].shape[2]
    sizes = options.sizes
    if sizes is None:
        sizes = (8, 16) if max(max(p.shape[:2]) for p in sample) <= 64 else (4, 32)
    known = {4: 0, 8: 1, 16: 2, 32: 3}
    if not 1 <= options.layers <= MAX_LAYERS or not set(sizes) <= set(known):
        raise ValueError(f"layers {options.layers}, sizes {sizes}: expected 1 to 4, of 4 to 32")
    if sizes[0] > sizes[1] or not 1 <= options.max_tables <= MAX_TABLES:
        raise ValueError(
            f"sizes {sizes}, max_tables {options.max_tables}: expected the smaller size first, "
            f"1 to {MAX_TABLES} tables"
        )
    if len(options.weights) != len(FLAT) or not all(1 <= w <= 255 for w in options.weights):
        raise ValueError(f"weights {options.weights}, expected 16 of 1 to 255")
    total = sum(p.reshape(-1, planes).sum(0, dtype="i8") for p in sample)
    count = sum(p.shape[0] * p.shape[1] for p in sample)
    offsets = np.rint(16 * np.asarray(total) / count).astype(int).tolist()
    empty = (0,) * OFFSETS
    return BlockModel(
        planes, planes == 3, known[sizes[0]], known[sizes[1]], tuple(offsets), options.weights,
        (empty,) * options.layers, (),
    )  # fmt: skip


def _qps(
    pictures: Sequence[NDArray[np.uint8]], qp: int | Sequence[int] | NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    qps = np.broadcast_to(np.asarray(qp, "i8"), len(pictures))
    if len(qps) and not 0 <= qps.min() <= qps.max() <= MAX_QP:
        raise ValueError(f"qp {qps.min()} to {qps.max()}, expected 0 to {MAX_QP}")
    return np.ascontiguousarray(qps)


def fitting_sample(
    pictures: Sequence[NDArray[np.uint8]], qp: int | Sequence[int] | NDArray[np.integer[Any]]
) -> tuple[list[NDArray[np.uint8]], NDArray[np.int64]]:
    """Return pictures evenly spread over all, cropped, of FIT_VALUES at most."""
    if not len(pictures):
        raise ValueError("no pictures to fit a model on")
    qps = _qps(pictures, qp)
    for i, picture in enumerate(pictures):
        _check(i, picture, pictures[0].shape[-1])
    side = min(FIT_SIDE, math.isqrt(FIT_VALUES // pictures[0].shape[2]))
    sizes = [min(p.shape[0], side) * min(p.shape[1], side) * p.shape[2] for p in pictures]
    keep = max(1, min(len(pictures), int(len(pictures) * FIT_VALUES / sum(sizes))))
    chosen, left = [], FIT_VALUES
    for i in (len(pictures) * i // keep for i in range(keep)):
        if sizes[i] <= left:
            chosen.append(i)
            left -= sizes[i]
    cropped = []
    for i in chosen:
        top = max(0, pictures[i].shape[0] - side) // 2
        first = max(0, pictures[i].shape[1] - side) // 2
        cropped.append(pictures[i][top : top + side, first : first + side])
    return cropped, qps[chosen]


def _check(i: int, picture: NDArray[np.uint8], planes: int) -> None:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != planes:
        raise SampleError(
            f"picture {i}: {picture.dtype} of shape {picture.shape}, expected uint8 of shape "
            f"(height, width, {planes})"
        )
    if min(picture.shape[:2]) < 1 or max(picture.shape[:2]) > MAX_SIDE:
        raise SampleError(f"picture {i}: shape {picture.shape}, expected sides 1 to {MAX_SIDE}")
