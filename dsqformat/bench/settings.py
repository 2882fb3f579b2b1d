"""What is measured: fidelities, qualities, bit widths and layer plans, in full or in short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from dsqformat.bench.dsq_codec import DsqSetting
from dsqformat.bench.picture_codecs import PictureCodec
from dsqformat.bench.picture_sets import PICTURES, SMALL, TILES
from dsqformat.chunk.inputs import Coding, Effort
from dsqformat.schema import Quantizer
from dsqformat.writer import FieldSpec

# Where bytes are compared.
TARGETS_DB: Final = {
    TILES: (28.0, 30.0, 33.0, 36.0),
    PICTURES: (28.0, 31.0, 35.0),
    SMALL: (28.0, 30.0, 33.0, 36.0),
}
TARGETS_SSIM: Final = {
    TILES: (0.85, 0.90, 0.95, 0.97),
    PICTURES: (0.80, 0.87, 0.93),
    SMALL: (0.85, 0.90, 0.95, 0.97),
}
# Where speeds are compared, in dB.
SPEED_TARGETS_DB: Final = {TILES: (30.0, 33.0), PICTURES: (30.0,), SMALL: ()}
# Where encoding is timed too: it takes long and hardly depends on the fidelity.
ENCODE_TARGET_DB: Final = 30.0

MAX_BLOCK_LAYERS: Final = 3
DEFAULT_BLOCK_LAYERS: Final = 2
# The layers of the quantizers of pixels but the last, as FieldSpec has them.
DEFAULT_PLAN: Final = (4, 2)
PATCH_SIDE: Final = 5
PATCH_GROUPS: Final = 64

PIXEL_QUANTIZERS: Final[tuple[Quantizer, ...]] = ("affine", "lsq", "patch")
_CODINGS: Final[tuple[Coding, ...]] = ("packed", "zstd", "rans")


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        every: of the qualities of picture codecs, every so many-th, by set.
        qps: of blocks in one layer; reaching so low that prefixes have something to be
            compared with.
        layered_qps: of blocks in two and three layers; those of one layer too, or what is
            compared is how well curves are interpolated.
        high_effort_qps: of blocks in one layer encoded with high effort.
        bit_widths: of affine and lsq, by set.
        patch_bit_widths: of patch groups, by set.
        rounds: of each timed job.
        timed_samples: pictures of which picture codecs are timed, by set.
        ssim_samples: pictures whose SSIM is taken, always the same ones, by set; it takes
            longer than most codecs.
        growth: how many times as many samples tell what one more sample costs, by set.
    """

    every: dict[str, int]
    qps: tuple[int, ...]
    layered_qps: tuple[int, ...]
    high_effort_qps: tuple[int, ...]
    bit_widths: dict[str, tuple[int, ...]]
    patch_bit_widths: dict[str, tuple[int, ...]]
    rounds: int
    timed_samples: dict[str, int] = field(default_factory=dict)
    growth: dict[str, int] = field(default_factory=dict)
    ssim_samples: dict[str, int] = field(default_factory=dict)

    def qualities(self, set_name: str, codec: PictureCodec) -> tuple[int, ...]:
        """Return the qualities at which a codec is measured, always with the finest."""
        return codec.qualities[::-1][:: self.every[set_name]][::-1]


FULL: Final = Scale(
    every={TILES: 1, PICTURES: 1, SMALL: 2},
    qps=(76, 82, 88, 94, 100, 106, 112, 118, 126, 136, 150),
    layered_qps=(76, 82, 88, 94, 100, 106, 112, 118),
    high_effort_qps=(76, 82, 88, 94, 100, 106, 112, 118),
    bit_widths={TILES: (2, 3, 4, 6, 8), PICTURES: (2, 4, 6, 8), SMALL: (2, 8)},
    patch_bit_widths={TILES: (2, 3, 4, 6, 8), PICTURES: (2, 4), SMALL: (2,)},
    rounds=5,
    timed_samples={TILES: 600, PICTURES: 40, SMALL: 600},
    growth={TILES: 4, PICTURES: 2, SMALL: 4},
    ssim_samples={TILES: 600, PICTURES: 60, SMALL: 600},
)
QUICK: Final = Scale(
    every={TILES: 4, PICTURES: 4, SMALL: 4},
    qps=(76, 92, 108),
    layered_qps=(80, 106),
    high_effort_qps=(92,),
    bit_widths={TILES: (2, 8), PICTURES: (2, 8), SMALL: (2, 8)},
    patch_bit_widths={TILES: (2,), PICTURES: (2,), SMALL: (2,)},
    rounds=1,
    timed_samples={TILES: 30, PICTURES: 4, SMALL: 30},
    growth={TILES: 2, PICTURES: 2, SMALL: 2},
    ssim_samples={TILES: 600, PICTURES: 60, SMALL: 600},
)


def block_codec(layers: int) -> str:
    """Return the name of the row of blocks with so many layers."""
    return f"DSQ block, {layers} layer{'s' * (layers > 1)}"


HIGH_EFFORT: Final = f"{block_codec(1)}, high effort"
PER_SAMPLE: Final = f"{block_codec(1)}, equal PSNR of samples"


def pixel_codec(quantizer: Quantizer, coding: Coding, layers: int = 1) -> str:
    """Return the name of the row of a quantizer of pixels and a coding."""
    plan = "1 layer" if layers == 1 else f"layers {','.join(map(str, DEFAULT_PLAN))}"
    return f"DSQ {quantizer}, {coding}, {plan}"


def block_setting(qp: int, layers: int = 1, effort: Effort = "default") -> DsqSetting:
    """Return blocks at one qp for the whole dataset."""
    spec = FieldSpec(quantizer="block", qp=qp, layers=(1,) * (layers - 1), effort=effort)
    name = HIGH_EFFORT if effort == "high" else block_codec(layers)
    return DsqSetting(name, f"qp {qp}", qp, spec, "rans", layers)


def per_sample_setting(qps: Sequence[int], target_db: float) -> DsqSetting:
    """Return blocks in one layer, each sample at a qp of its own."""
    spec = FieldSpec(quantizer="block", layers=())
    name = f"each {target_db:g} dB"
    return DsqSetting(PER_SAMPLE, name, target_db, spec, "rans", 1, tuple(qps))


def pixel_setting(
    quantizer: Quantizer, bits: int, coding: Coding, plan: tuple[int, ...] = ()
) -> DsqSetting:
    """Return codes of pixels at one bit width for the whole dataset."""
    layers = len(plan) + 1
    if quantizer == "patch":
        spec = FieldSpec(
            quantizer="patch",
            bit_width=bits,
            layers=plan,
            patch=PATCH_SIDE,
            group_count=PATCH_GROUPS,
        )
    else:
        spec = FieldSpec(quantizer=quantizer, bit_width=bits, layers=plan)
    name = pixel_codec(quantizer, coding, layers)
    return DsqSetting(name, f"{bits} bits", bits, spec, coding, layers)


def dsq_settings(set_name: str, scale: Scale) -> list[DsqSetting]:
    """Return every way DSQ is measured on a set: quantizers times codings times layer plans."""
    raw = FieldSpec(quantizer="raw", layers=())
    settings = [block_setting(qp) for qp in scale.qps]
    for layers in range(2, MAX_BLOCK_LAYERS + 1):
        settings += [block_setting(qp, layers) for qp in scale.layered_qps]
    settings += [block_setting(qp, 1, "high") for qp in scale.high_effort_qps]
    settings.append(DsqSetting("DSQ raw, zstd", "bytes", 8, raw, "zstd", 1))
    for quantizer in PIXEL_QUANTIZERS:
        by_set = scale.patch_bit_widths if quantizer == "patch" else scale.bit_widths
        for coding in _CODINGS:
            for bits in by_set[set_name]:
                settings.append(pixel_setting(quantizer, bits, coding))
                # Fewer bits leave the last of the default layers empty.
                if bits > sum(DEFAULT_PLAN):
                    settings.append(pixel_setting(quantizer, bits, coding, DEFAULT_PLAN))
    return settings
