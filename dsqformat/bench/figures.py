"""The figures that tables show and bars judge, computed from what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dsqformat.bench.curves import NAN, greatest, least
from dsqformat.bench.picture_codecs import AVIF, FAMILIES, JPEG, JPEG_XL, PNG, WEBP
from dsqformat.bench.points import Measure, Point, Points
from dsqformat.bench.results import SetResult
from dsqformat.bench.settings import (
    DEFAULT_BLOCK_LAYERS,
    HIGH_EFFORT,
    MAX_BLOCK_LAYERS,
    PIXEL_QUANTIZERS,
    SPEED_TARGETS_DB,
    TARGETS_DB,
    TARGETS_SSIM,
    block_codec,
    pixel_codec,
)
from dsqformat.bench.speeds import fastest_of, find_speed, pixel_decode_mb_per_s

BEST: Final = "best picture codec"
MEASURES: Final[tuple[Measure, ...]] = ("psnr_db", "ssim")
# Layers are judged for files of so many bytes per sample and more.
LAYERED_NBYTES: Final = 150.0

# Between points further apart, such as 4 and 8 bits, a line says nothing.
_WIDEST_DB: Final = 15.0

# (name of the figure, where it was taken: "28 dB", "4 bits", ... or "")
FigureKey = tuple[str, str]
Figures = dict[FigureKey, float]


def all_figures(result: SetResult) -> Figures:
    """Return the figures of a set by name and place; NaN for what was not measured."""
    figures: Figures = {}
    for part in (
        _ratio_figures(result),
        _layer_figures(result),
        _pixel_figures(result),
        _lossless_figures(result),
        _speed_figures(result),
    ):
        figures.update(part)
    return figures


# Bytes at equal fidelity -----------------------------------------------------------------------


def places(set_name: str, measure: Measure) -> list[tuple[str, float]]:
    """Return the fidelities at which bytes are compared, each with its name."""
    if measure == "psnr_db":
        return [(f"{target:g} dB", target) for target in TARGETS_DB[set_name]]
    return [(f"SSIM {target:g}", target) for target in TARGETS_SSIM[set_name]]


def rival_nbytes(points: Points, measure: Measure, target: float, family: str | None) -> float:
    """Return the bytes of the best picture codec, of a family or of all, for a fidelity."""
    names = points.picture_codecs(family)
    return least(points.curve(name, measure).least_nbytes_for(target) for name in names)


def ratio_name(layers: int, rival: str) -> str:
    """Return the name of the figure that divides bytes of blocks by those of a rival."""
    return f"{block_codec(layers)} / {rival}"


def _ratio_figures(result: SetResult) -> Iterator[tuple[FigureKey, float]]:
    points = result.points
    families = [family for family in FAMILIES if any(p.family == family for p in points.all)]
    for layers in range(1, MAX_BLOCK_LAYERS + 1):
        for measure in MEASURES:
            ours = points.curve(block_codec(layers), measure)
            for place, target in places(result.name, measure):
                for family in (None, *families):
                    rival = rival_nbytes(points, measure, target, family)
                    yield (
                        (ratio_name(layers, family or BEST), place),
                        ours.nbytes_at(target) / rival,
                    )


# Layers ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PrefixRow:
    """A prefix of a layered dataset beside a dataset in one layer of as many bytes.

    Attributes:
        point: of the prefix, or of the whole dataset.
        whole_nbytes: bytes per sample of the whole dataset.
        single_db: PSNR of one layer at the bytes of the point; NaN if not measured so far.
    """

    point: Point
    whole_nbytes: float
    single_db: float

    @property
    def below_db(self) -> float:
        """By how much the prefix is worse than the single layer."""
        return self.single_db - self.point.psnr_db


def prefix_rows(points: Points, layered: str, single: str) -> list[PrefixRow]:
    """Return every prefix of the datasets of a row, coarsest setting first.

    Args:
        points: of a set.
        layered: a row with layers.
        single: the row of the same codes in one layer.
    """
    curve, whole = points.curve(single), points.of(layered)
    rows = []
    for point in whole:
        parts = [
            p
            for p in points.all
            if p.codec.startswith(f"{layered}, first ") and p.level == point.level
        ]
        rows += [
            PrefixRow(part, point.nbytes, curve.fidelity_at(part.nbytes, _WIDEST_DB))
            for part in sorted(parts, key=lambda p: p.prefix)
        ]
    return rows


def layer_cost(points: Points, layers: int, psnr_db: float) -> float:
    """Return by which part blocks in layers take more bytes than in one, at a PSNR."""
    single = points.curve(block_codec(1)).nbytes_at(psnr_db)
    return points.curve(block_codec(layers)).nbytes_at(psnr_db) / single - 1


def _layer_figures(result: SetResult) -> Iterator[tuple[FigureKey, float]]:
    points = result.points
    where = places(result.name, "psnr_db")
    where.append(
        (f"{LAYERED_NBYTES:g} B", points.curve(block_codec(1)).fidelity_at(LAYERED_NBYTES))
    )
    for layers in range(2, MAX_BLOCK_LAYERS + 1):
        for place, target in where:
            cost = NAN if math.isnan(target) else layer_cost(points, layers, target)
            yield (f"cost of {layers} layers", place), cost
        rows = prefix_rows(points, block_codec(layers), block_codec(1))
        judged = [row.below_db for row in rows if row.whole_nbytes >= LAYERED_NBYTES]
        yield (f"prefixes of {layers} layers below one layer, dB", "worst"), greatest(judged)


# Codes of pixels and lossless files ------------------------------------------------------------


def _pixel_figures(result: SetResult) -> Iterator[tuple[FigureKey, float]]:
    points = result.points
    for quantizer in PIXEL_QUANTIZERS:
        entropy = {p.level: p for p in points.of(pixel_codec(quantizer, "rans"))}
        for rival in ("zstd", "packed"):
            other = {p.level: p for p in points.of(pixel_codec(quantizer, rival))}
            name = f"{quantizer}: rans / {'zstd level 19' if rival == 'zstd' else 'bit packing'}"
            for bits, point in entropy.items():
                if bits in other:
                    yield (name, f"{bits:g} bits"), point.nbytes / other[bits].nbytes


def _lossless_figures(result: SetResult) -> Iterator[tuple[FigureKey, float]]:
    lossless = {p.codec: p.nbytes for p in result.points.all if p.lossless and p.whole}
    ours = least(n for name, n in lossless.items() if name == pixel_codec("affine", "rans"))
    webp = least(n for name, n in lossless.items() if name.startswith(WEBP))
    yield ("lossless / WebP", "best method"), ours / webp
    yield ("lossless / WebP", "default method"), ours / lossless.get("WebP lossless", NAN)
    yield ("lossless / PNG", ""), ours / lossless.get(PNG, NAN)
    yield (
        ("lossless / JPEG XL", ""),
        ours / least(n for name, n in lossless.items() if name.startswith(JPEG_XL)),
    )


# Speed -----------------------------------------------------------------------------------------


def _speed_figures(result: SetResult) -> Iterator[tuple[FigureKey, float]]:
    rows = list(result.speeds)
    for target in SPEED_TARGETS_DB[result.name]:
        for layers in (1, DEFAULT_BLOCK_LAYERS):
            ours = find_speed(rows, result.name, block_codec(layers), target)
            for family in (JPEG, AVIF):
                rival = fastest_of(rows, result.name, family, target)
                key = (f"decode, {block_codec(layers)} / {family}", f"{target:g} dB")
                yield key, ours / rival
    for row, speed in pixel_decode_mb_per_s(rows, result.sample_nbytes).items():
        yield (f"decode, {row}, MB/s", ""), speed
    for codec, packing in result.packing.items():
        yield (f"encode, {codec}, samples/s", ""), packing.per_s
    if HIGH_EFFORT in result.packing:
        times = result.packing[block_codec(1)].per_s / result.packing[HIGH_EFFORT].per_s
        yield ("encode, time of high effort / default", ""), times
    if result.threads is not None:
        yield ("decode, two threads / one", ""), result.threads.speedup
    for row, per_s in result.plain_per_s.items():
        yield (f"decode in NumPy, {row}, samples/s", ""), per_s
    if result.memory is not None:
        growth = result.memory.growth_nbytes / result.memory.added_nbytes
        yield ("memory while packing, growth / samples added", ""), growth
