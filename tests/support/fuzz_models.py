"""Models that are sound and yet like none that an encoder would make."""

from __future__ import annotations

import random
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block import BlockModel
from dsqformat.coding.block.layout import CONTEXTS, REFINEMENT_CONTEXTS
from dsqformat.coding.block.model import FLAT
from dsqformat.coding.block.tables import ABSENT, LayerTables, build
from dsqformat.coding.rans import PixelModel
from dsqformat.coding.rans.geometry import (
    THRESHOLDS,
    bin_count,
    energy_taps,
    predictor_size,
    predictor_taps,
    symbol_count,
)
from dsqformat.coding.rans.layer_model import (
    MAX_BIAS,
    MAX_BORDER,
    MAX_GRADE,
    MAX_WEIGHT,
    LayerModel,
)
from dsqformat.kernels.plain_layout import CLASSES, ENERGY, LEVELS

_LOGITS: Final = (ABSENT, ABSENT, -40, -20, -5, 0, 5, 20, 40)
_BIAS: Final = (0, 0, 1, -1, 40, -4000, MAX_BIAS, -MAX_BIAS)
_BORDERS: Final = (0, 1, 5, 40, 300, 5000, MAX_BORDER)


def odd_block_model(
    source: random.Random, planes: int | None = None, layers: int | None = None
) -> BlockModel:
    """Return a model of `block` with extreme tables, weights and offsets."""
    planes = planes or source.choice((1, 1, 2, 3, 3, 5))
    layers = layers or source.choice((1, 2, 3, 4))
    smallest = source.randrange(4)
    weights = tuple(source.choice((1, 64, 255)) for _ in FLAT)
    return BlockModel(
        planes=planes,
        rgb=planes >= 3 and source.random() < 0.7,
        smallest=smallest,
        largest=source.randint(smallest, 3),
        channel_offsets=tuple(source.choice((0, 2048, 4095)) for _ in range(planes)),
        weights=weights,
        offsets=tuple(tuple(source.choice((-8, 0, 31)) for _ in range(7)) for _ in range(layers)),
        layers=tuple(
            _odd_tables(source, REFINEMENT_CONTEXTS if layer else CONTEXTS)
            for layer in range(layers)
        ),
    )


def _odd_tables(source: random.Random, contexts: int) -> LayerTables:
    logits = tuple(
        tuple(source.choice(_LOGITS) for _ in range(source.choice((0, 1, 2, 5, 13, 30))))
        for _ in range(source.choice((1, 2, 5)))
    )
    # Every so manieth context has a table of its own; those between take the one before.
    used = np.zeros(contexts, "?")
    used[:: source.choice((13, 91, 91, 500, 2000))] = True
    table_of = np.zeros(contexts, "u1")
    table_of[used] = [source.randrange(len(logits)) for _ in range(int(used.sum()))]
    return build(table_of, used, logits)


def odd_pixel_model(source: random.Random, channels: int | None = None) -> PixelModel:
    """Return a pixel model with extreme weights, biases and tables."""
    channels = channels or source.choice((1, 1, 2, 3, 4))
    configs = sorted({_config(source) for _ in range(source.choice((1, 1, 2, 3)))})
    layers = tuple(_odd_layer(source, channels, above, bits) for above, bits in configs)
    return PixelModel(channels, layers)


def _config(source: random.Random) -> tuple[int, int]:
    above = source.choice((0, 0, 0, 1, 2, 4, 8, 15))
    return above, source.randint(1, min(source.choice((2, 4, 8, 16)), 16 - above))


def _odd_layer(source: random.Random, channels: int, above: int, bits: int) -> LayerModel:
    classes = source.choice((1, 1, 2, CLASSES))
    weights = np.zeros((classes, channels, predictor_size(channels)), "i2")
    energy = np.zeros((channels, ENERGY), "i2")
    for channel in range(channels):
        for number in range(classes):
            _spread(source, weights[number, channel], predictor_taps(channels, channel, above))
        _spread(source, energy[channel], energy_taps(channels, channel))
    symbols, contexts = symbol_count(bits), channels * LEVELS * bin_count(bits)
    tables = source.choice((1, 1, 2, 3))
    grades = np.array(
        [[source.choice((0, 0, 1, 7, MAX_GRADE)) for _ in range(symbols)] for _ in range(tables)],
        "u1",
    )
    grades[grades.sum(axis=1) == 0, -1] = 1
    table_of = np.arange(contexts) % tables
    return LayerModel(
        above=above,
        bits=bits,
        borders=np.sort([source.choice(_BORDERS) for _ in range(classes - 1)]).astype("i8"),
        bias=np.array(
            [[source.choice(_BIAS) for _ in range(channels)] for _ in range(classes)], "i4"
        ),
        weights=weights,
        energy=energy,
        thresholds=np.sort([source.choice((0, 1, 50, 4095)) for _ in range(THRESHOLDS)]),
        grades=grades,
        table_of=table_of.astype("u2"),
    )


def _spread(source: random.Random, row: NDArray[np.int16], taps: NDArray[np.intp]) -> None:
    """Give taps weights whose magnitudes add up to at most what is allowed, often all of it."""
    left = source.choice((0, 4096, MAX_WEIGHT))
    for tap in source.sample(taps.tolist(), k=min(len(taps), source.randint(1, 4))):
        share = source.choice((left, left // 2, 1 if left else 0))
        row[tap] = source.choice((-1, 1)) * share
        left -= share


def odd_like(source: random.Random, data: bytes) -> bytes:
    """Return an odd model for the same channels and layers as a sound one, if it is one."""
    if len(data) > 4 and data[0] == 1 and data[3] not in (1, 2, 3, 4):
        return odd_pixel_model(source, (data[1] >> 6) + 1).to_bytes()
    if len(data) > 4 and 1 <= data[3] <= 4 and 1 <= data[0] <= 8:
        return odd_block_model(source, data[0], data[3]).to_bytes()
    return odd_pixel_model(source).to_bytes()
