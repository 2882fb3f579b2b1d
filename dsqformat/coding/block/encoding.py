"""From pictures to streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.choosing import LAM, Choice, choose, costs_of
from dsqformat.coding.block.layout import CONTEXTS, MAX_QP, REFINEMENT_CONTEXTS
from dsqformat.coding.block.model import BlockModel
from dsqformat.coding.block.plain_encoding import stream_plain, symbols_plain
from dsqformat.coding.block.workspace import SYNTAX, neighbourhood
from dsqformat.kernels import block_kernel

_emit: Any = block_kernel("block_emit")
_streams: Any = block_kernel("block_streams")


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


def encode(
    model: BlockModel,
    pictures: Sequence[NDArray[np.uint8]],
    qp: int | Sequence[int] | NDArray[np.integer[Any]],
    *,
    samples_per_stream: int = 32,
    lam: float | None = None,
) -> EncodedPictures:
    """Encode pictures with all layers of a model.

    Args:
        model: of `fit`.
        pictures: uint8, shape (height, width, planes) each.
        qp: 0 to 175, for all or one each.
        samples_per_stream: consecutive pictures that share a stream.
        lam: rate against distortion, squared steps per bit; None for what the layers want.

    Raises:
        SampleError: a picture cannot be encoded.
    """
    qps = checked_qps(pictures, qp)
    shapes = np.array([p.shape[:2] for p in pictures], "i4").reshape(-1, 2)
    count = len(model.layers)
    tables = model.coder_tables(count)
    lam = LAM[count - 1] if lam is None else lam
    layers: list[list[bytes]] = [[] for _ in model.layers]
    search = costs_of(model.search or model.layers[0], count)
    group: list[Choice] = []
    for choice, _ in choose(model, pictures, qps, lam, search):
        group.append(choice)
        if len(group) == samples_per_stream:
            _finish(model, group, tables, layers)
            group = []
    if group:
        _finish(model, group, tables, layers)
    return EncodedPictures(layers, shapes, qps)


def symbols_of(
    model: BlockModel, group: Sequence[Choice], layer: int, layers: int
) -> NDArray[np.int32]:
    """Return the symbols of one layer of some pictures.

    Args:
        model: its geometry.
        group: what was chosen for the pictures.
        layer: 0 for the first.
        layers: how many there are.
    """
    shift = layers - 1 - layer
    if _emit is None:
        parts = [symbols_plain(model, c.codes, c.leaves, shift, layer) for c in group]
        return np.array([symbol for part in parts for symbol in part], "i4")
    room = 6200 * model.planes + sum(choice.codes.size for choice in group) // 2
    while True:
        symbols = np.empty(room, "i4")
        n = 0
        for choice in group:
            width = choice.codes.shape[2]
            n = _emit.emit(
                choice.codes, choice.leaves, shift, layer, model.smallest,
                model.largest, *SYNTAX, *neighbourhood(width, model.planes, 1), symbols, n,
            )  # fmt: skip
            if n < 0:
                break
        if n >= 0:
            return symbols[:n]
        room *= 2


def _finish(
    model: BlockModel,
    group: list[Choice],
    tables: NDArray[np.uint16],
    layers: list[list[bytes]],
) -> None:
    """Append the streams of some pictures to those of each layer."""
    first = 0
    for layer, streams in enumerate(layers):
        symbols = symbols_of(model, group, layer, len(layers))
        if _streams is None:
            streams.append(stream_plain(symbols.tolist(), tables, first))
        else:
            out = np.empty(5 * len(symbols) + 8, "u1")
            at = _streams.finish(symbols, len(symbols), tables, first, out)
            streams.append(out[at:].tobytes())
        first += REFINEMENT_CONTEXTS if layer else CONTEXTS


def checked_qps(
    pictures: Sequence[NDArray[np.uint8]], qp: int | Sequence[int] | NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    """Return one qp for each picture, int64.

    Raises:
        ValueError: one is out of its range, or there are too many or too few.
    """
    qps = np.broadcast_to(np.asarray(qp, "i8"), len(pictures))
    if len(qps) and not 0 <= qps.min() <= qps.max() <= MAX_QP:
        raise ValueError(f"qp {qps.min()} to {qps.max()}, expected 0 to {MAX_QP}")
    return np.ascontiguousarray(qps)
