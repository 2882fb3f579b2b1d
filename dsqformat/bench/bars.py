"""What is promised: every bar with its limit, and which of them measurements miss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from dsqformat.bench.figures import BEST, Figures, ratio_name
from dsqformat.bench.picture_sets import PICTURES, TILES
from dsqformat.bench.settings import (
    DEFAULT_BLOCK_LAYERS,
    block_codec,
    pixel_codec,
)

_ONE: Final = block_codec(1)
_TILES_DB: Final = ("28 dB", "30 dB", "33 dB", "36 dB")
_TILES_SSIM: Final = ("SSIM 0.85", "SSIM 0.9", "SSIM 0.95", "SSIM 0.97")
_PICTURES_DB: Final = ("28 dB", "31 dB", "35 dB")
_EVERYWHERE: Final = ("",)


@dataclass(frozen=True)
class Bar:
    """A limit for a figure of a set, at some places.

    Attributes:
        set_name: "tiles" or "pictures".
        figure: its name.
        at: places of the figure; all of them must hold.
        sense: whether the figure must be at most or at least the limit.
        limit: what must hold.
        stretch: what would be better still, or None.
    """

    set_name: str
    figure: str
    at: tuple[str, ...]
    sense: Literal["<=", ">="]
    limit: float
    stretch: float | None = None


def _bits(*widths: int) -> tuple[str, ...]:
    return tuple(f"{width} bits" for width in widths)


BARS: Final = (
    # Bytes at equal fidelity, 32x32.
    Bar(TILES, ratio_name(1, BEST), _TILES_DB, "<=", 0.65, 0.55),
    Bar(TILES, ratio_name(DEFAULT_BLOCK_LAYERS, BEST), _TILES_DB, "<=", 0.70, 0.60),
    Bar(TILES, ratio_name(1, BEST), _TILES_SSIM, "<=", 0.80),
    Bar(TILES, ratio_name(DEFAULT_BLOCK_LAYERS, BEST), _TILES_SSIM, "<=", 0.80),
    # 224x224.
    Bar(PICTURES, ratio_name(1, "AVIF"), _PICTURES_DB, "<=", 0.90, 0.80),
    Bar(PICTURES, ratio_name(1, "WebP"), _PICTURES_DB, "<=", 0.82),
    Bar(PICTURES, ratio_name(1, "JPEG XL"), _PICTURES_DB, "<=", 0.75),
    Bar(PICTURES, ratio_name(DEFAULT_BLOCK_LAYERS, "AVIF"), _PICTURES_DB, "<=", 0.97),
    # Layers.
    Bar(TILES, "cost of 2 layers", ("150 B", "33 dB", "36 dB"), "<=", 0.08, 0.05),
    Bar(TILES, "cost of 3 layers", ("150 B", "33 dB", "36 dB"), "<=", 0.12, 0.08),
    Bar(PICTURES, "cost of 2 layers", _PICTURES_DB, "<=", 0.08, 0.05),
    Bar(PICTURES, "cost of 3 layers", _PICTURES_DB, "<=", 0.12, 0.08),
    *(
        Bar(name, f"prefixes of {layers} layers below one layer, dB", ("worst",), "<=", 0.4)
        for name in (TILES, PICTURES)
        for layers in (2, 3)
    ),
    # Codes of pixels.
    *(
        bar
        for quantizer in ("affine", "lsq")
        for bar in (
            Bar(TILES, f"{quantizer}: rans / zstd level 19", _bits(2, 3, 4, 6), "<=", 0.85),
            Bar(TILES, f"{quantizer}: rans / zstd level 19", _bits(8), "<=", 0.92),
            Bar(TILES, f"{quantizer}: rans / bit packing", _bits(2, 3, 4, 6), "<=", 0.55),
        )
    ),
    Bar(TILES, "patch: rans / zstd level 19", _bits(2), "<=", 0.90),
    *(
        Bar(TILES, f"decode, {pixel_codec('affine', 'rans')}, {bits}, MB/s", _EVERYWHERE, ">=", 15)
        for bits in _bits(2, 4, 8)
    ),
    Bar(TILES, "lossless / WebP", ("best method",), "<=", 0.95),
    Bar(PICTURES, "lossless / WebP", ("default method",), "<=", 1.0),
    # Speed.
    Bar(TILES, f"decode, {_ONE} / JPEG", ("30 dB",), ">=", 3.0, 6.0),
    Bar(TILES, f"decode, {_ONE} / JPEG", ("33 dB",), ">=", 2.0),
    Bar(PICTURES, f"decode, {_ONE} / JPEG", ("30 dB",), ">=", 0.4, 1.0),
    Bar(TILES, f"decode, {_ONE} / AVIF", ("30 dB", "33 dB"), ">=", 1.0),
    Bar(PICTURES, f"decode, {_ONE} / AVIF", ("30 dB",), ">=", 1.0),
    Bar(TILES, "decode, two threads / one", _EVERYWHERE, ">=", 1.7),
    Bar(PICTURES, "decode, two threads / one", _EVERYWHERE, ">=", 1.7),
    Bar(TILES, f"encode, {_ONE}, samples/s", _EVERYWHERE, ">=", 1500),
    Bar(PICTURES, f"encode, {_ONE}, samples/s", _EVERYWHERE, ">=", 40),
    *(
        Bar(name, "encode, time of high effort / default", _EVERYWHERE, "<=", 3.0)
        for name in (TILES, PICTURES)
    ),
    *(
        Bar(TILES, f"decode in NumPy, {row}, samples/s", _EVERYWHERE, ">=", 300)
        for row in (_ONE, pixel_codec("affine", "rans"))
    ),
    Bar(TILES, "memory while packing, growth / samples added", _EVERYWHERE, "<=", 0.1),
)


@dataclass(frozen=True)
class Verdict:
    """What a measurement says of a bar at one place.

    Attributes:
        bar: which.
        at: place of the figure.
        value: of the figure; NaN if it was not measured.
    """

    bar: Bar
    at: str
    value: float

    @property
    def met(self) -> bool:
        """Whether the bar holds; what was not measured is not met."""
        return _holds(self.value, self.bar.sense, self.bar.limit)

    @property
    def stretch_met(self) -> bool:
        """Whether the better limit holds; false if there is none."""
        stretch = self.bar.stretch
        return stretch is not None and _holds(self.value, self.bar.sense, stretch)

    @property
    def name(self) -> str:
        """Set, figure and place in words."""
        return f"{self.bar.set_name}: {self.bar.figure}{f' at {self.at}' if self.at else ''}"

    def __str__(self) -> str:
        shown = "not measured" if math.isnan(self.value) else f"{self.value:.4g}"
        return f"{self.name}: {shown}, expected {self.bar.sense} {self.bar.limit:g}"


def judge(figures: Mapping[str, Figures], bars: tuple[Bar, ...] = BARS) -> list[Verdict]:
    """Hold figures against the bars of the sets that were measured.

    Args:
        figures: by the name of the set.
        bars: to judge by.
    """
    return [
        Verdict(bar, at, figures[bar.set_name].get((bar.figure, at), math.nan))
        for bar in bars
        if bar.set_name in figures
        for at in bar.at
    ]


def _holds(value: float, sense: str, limit: float) -> bool:
    if math.isnan(value):
        return False
    return value <= limit if sense == "<=" else value >= limit
