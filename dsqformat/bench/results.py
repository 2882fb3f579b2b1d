"""All that was found about one set of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dsqformat.bench.conditions import MemoryGrowth, PackingSpeed, ThreadSpeedup
from dsqformat.bench.picture_sets import PictureSet
from dsqformat.bench.points import Points
from dsqformat.bench.speeds import SpeedRow


@dataclass(frozen=True)
class SetResult:
    """What was measured of a set.

    Attributes:
        name: of the set.
        title: what its pictures are.
        caution: what to know before believing the figures.
        sample_count: pictures.
        sample_nbytes: of one as uint8.
        ssim_samples: of so many the SSIM was taken.
        points: bytes, fidelity and speed of every codec at every setting.
        speeds: at equal fidelity, taking turns.
        packing: of blocks, by row.
        threads: decoding with two.
        plain_per_s: samples per second decoded without kernels, by row.
        memory: while packing.
    """

    name: str
    title: str
    caution: str
    sample_count: int
    sample_nbytes: int
    ssim_samples: int
    points: Points
    speeds: tuple[SpeedRow, ...] = ()
    packing: Mapping[str, PackingSpeed] = field(default_factory=dict)
    threads: ThreadSpeedup | None = None
    plain_per_s: Mapping[str, float] = field(default_factory=dict)
    memory: MemoryGrowth | None = None


def result_of(each: PictureSet, points: Points, ssim_samples: int) -> SetResult:
    """Return a result with points alone."""
    few = min(len(each), ssim_samples)
    nbytes = each.pictures[0].nbytes
    return SetResult(each.name, each.title, each.caution, len(each), nbytes, few, points)
