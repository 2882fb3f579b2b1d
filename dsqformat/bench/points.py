"""What is measured: one point per codec, setting and prefix; and how it is kept."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from dsqformat.bench.curves import Curve, make_curve

DSQ: Final = "DSQ"
Measure = Literal["psnr_db", "ssim"]


@dataclass(frozen=True)
class Point:
    """One codec at one setting over a whole set.

    Attributes:
        set_name: of the pictures.
        sample_count: pictures.
        family: "JPEG", "WebP", "AVIF", "JPEG XL", "PNG" or "DSQ".
        codec: name of the row; points of one codec make a curve.
        setting: what was set, such as "quality 85", "qp 103" or "4 bits".
        level: the number that was set: quality, qp or bits.
        nbytes: bytes per sample, everything counted.
        psnr_db: over the set; infinite if lossless.
        ssim: mean over the set.
        encode_per_s: samples per second of CPU time on one core; NaN if not measured.
        decode_per_s: likewise.
        rounds: how often the speeds were measured, the best counts; 1 while measuring bytes.
        quantizer: of DSQ, else "".
        coding: of DSQ, else "".
        layers: of DSQ, else 0.
        prefix: layers read; equal to `layers` for whole files.
    """

    set_name: str
    sample_count: int
    family: str
    codec: str
    setting: str
    level: float
    nbytes: float
    psnr_db: float
    ssim: float
    encode_per_s: float = math.nan
    decode_per_s: float = math.nan
    rounds: int = 1
    quantizer: str = ""
    coding: str = ""
    layers: int = 0
    prefix: int = 0

    @property
    def lossless(self) -> bool:
        """Whether the pictures came back as they were."""
        return math.isinf(self.psnr_db)

    @property
    def whole(self) -> bool:
        """Whether this is a file, not a prefix of one."""
        return self.prefix == self.layers


@dataclass(frozen=True)
class Points:
    """The points of one set, with ways to look at them.

    Attributes:
        all: in the order they were measured.
    """

    all: tuple[Point, ...]

    def codecs(self, family: str | None = None) -> list[str]:
        """Return the names of the rows with a curve, of a family or of all."""
        found = [p.codec for p in self.all if not p.lossless and family in (None, p.family)]
        return list(dict.fromkeys(found))

    def of(self, codec: str) -> list[Point]:
        """Return the points of a row, at rising fidelity."""
        return sorted((p for p in self.all if p.codec == codec), key=lambda p: p.psnr_db)

    def curve(self, codec: str, measure: Measure = "psnr_db") -> Curve:
        """Return bytes by fidelity of a row; empty if there is no such row."""
        finite = (p for p in self.all if p.codec == codec and not p.lossless)
        return make_curve((p.nbytes, float(getattr(p, measure))) for p in finite)

    def picture_codecs(self, family: str | None = None) -> list[str]:
        """Return the rows of picture codecs, of one family or of all."""
        families = {p.family for p in self.all} - {DSQ} if family is None else {family}
        return [name for each in sorted(families) for name in self.codecs(each)]

    def with_speed(self, timed: Iterable[Point]) -> Points:
        """Return these points, the ones that were timed again replaced, new ones added."""
        merged = {(p.codec, p.level, p.prefix): p for p in self.all}
        for point in timed:
            key = point.codec, point.level, point.prefix
            known = merged.get(key, point)
            encode_per_s = point.encode_per_s
            if math.isnan(encode_per_s):
                encode_per_s = known.encode_per_s
            merged[key] = replace(point, encode_per_s=encode_per_s)
        return Points(tuple(merged.values()))


def write_csv(path: Path, points: Sequence[Point]) -> None:
    """Write one row per point."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Point)])
        writer.writeheader()
        for point in points:
            writer.writerow({name: _cell(value) for name, value in asdict(point).items()})


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"
