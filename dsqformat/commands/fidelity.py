"""How finely `dsq pack` stores values: what the options ask for, and which exclude each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dsqformat.chunk.inputs import DEFAULT_GROUP_COUNT, Effort, Grouping
from dsqformat.schema import Domain, Quantizer
from dsqformat.sources.sample_source import FieldFacts
from dsqformat.writer import FieldSpec, NbytesPerSample, Psnr, Target, TotalNbytes
from dsqformat.writer.field_spec import DEFAULT_QP

MAX_PICTURE_SIDE: Final = 4096
MAX_CHANNELS: Final = 64
_DEFAULT_BITS: Final[Mapping[str, int]] = {"patch": 2}
_EXACT_BITS: Final = 8


@dataclass(frozen=True)
class Fidelity:
    """What the user said of fidelity; what is None was not said.

    Attributes:
        quantizer: "affine", "lsq", "patch", "block" or "raw".
        bits: per value.
        qp: for block.
        nbytes_per_sample: a target.
        total_nbytes: a target.
        psnr: a target, in dB.
        lossless: whether bytes come back as they were.
        layers: widths of all layers but the last.
        domain: for lsq.
        patch: side of patches, for patch.
        groups: of patches.
        grouping: how patches find their group.
        effort: of block.

    Raises:
        ValueError: an option is impossible, or two exclude each other.
    """

    quantizer: Quantizer | None = None
    bits: int | None = None
    qp: int | None = None
    nbytes_per_sample: float | None = None
    total_nbytes: int | None = None
    psnr: float | None = None
    lossless: bool = False
    layers: tuple[int, ...] | None = None
    domain: Domain | None = None
    patch: int | None = None
    groups: int | None = None
    grouping: Grouping | None = None
    effort: Effort | None = None

    def __post_init__(self) -> None:
        given = self._given()
        aims: list[str] = [
            name for name in ("--bytes-per-sample", "--total", "--psnr") if name in given
        ]
        alone = [*aims, *(name for name in ("--lossless", "--qp", "--bits") if name in given)]
        if self.quantizer == "patch" and "--lossless" not in given and "--qp" not in given:
            # Bits stay as they are there, and groups are what a target chooses.
            alone = aims
        if len(alone) > 1:
            raise ValueError(f"{alone[0]} and {alone[1]} exclude each other")
        if aims and "--groups" in given:
            raise ValueError(f"{aims[0]} and --groups exclude each other: it chooses the groups")
        self._check_quantizer(given)
        target = self.target
        if target is not None and self.quantizer == "raw":
            raise ValueError(f"{aims[0]} and --quantizer raw exclude each other")
        # What the writer would refuse only when all samples have been read.
        quantizer = self.quantizer or ("affine" if self.qp is None else "block")
        channels = len(self.domain.mean) if self.domain is not None else 0
        shape = (8, 8) if quantizer in ("block", "patch") else (max(1, channels),)
        self._spec(quantizer).field("any", "uint8", shape)

    def _given(self) -> dict[str, Any]:
        values = {
            "--bytes-per-sample": self.nbytes_per_sample,
            "--total": self.total_nbytes,
            "--psnr": self.psnr,
            "--lossless": self.lossless or None,
            "--qp": self.qp,
            "--bits": self.bits,
            "--patch": self.patch,
            "--groups": self.groups,
            "--grouping": self.grouping,
            "--effort": self.effort,
        }
        return {name: value for name, value in values.items() if value is not None}

    def _check_quantizer(self, given: Mapping[str, Any]) -> None:
        """Refuse options of another quantizer."""
        owners = {
            "--qp": ("block",),
            "--effort": ("block",),
            "--bits": ("affine", "lsq", "patch"),
            "--patch": ("patch",),
            "--groups": ("patch",),
            "--grouping": ("patch",),
            "--lossless": ("affine",),
        }
        for name, quantizers in owners.items():
            if name not in given:
                continue
            if self.quantizer is not None and self.quantizer not in quantizers:
                raise ValueError(f"{name} and --quantizer {self.quantizer} exclude each other")
            if self.quantizer is None and quantizers == ("patch",):
                raise ValueError(f"{name} is for --quantizer patch")

    @property
    def target(self) -> Target | None:
        """What the writer aims at, if anything."""
        if self.nbytes_per_sample is not None:
            return NbytesPerSample(self.nbytes_per_sample)
        if self.total_nbytes is not None:
            return TotalNbytes(self.total_nbytes)
        return Psnr(self.psnr) if self.psnr is not None else None

    def spec(self, field: FieldFacts) -> FieldSpec:
        """Return how a field is stored.

        Raises:
            ValueError: the field cannot be stored so.
        """
        if self.lossless and field.dtype != "uint8":
            raise ValueError(
                f"--lossless keeps uint8, and a field is {field.dtype}: use --quantizer raw"
            )
        quantizer = self.quantizer or self._default(field)
        if self.quantizer is None and quantizer == "affine" and self.qp is not None:
            raise ValueError("--qp is for pictures of uint8, of at most 4096 x 4096 pixels")
        spec = self._spec(quantizer, field)
        if quantizer == "block":
            # Layers of another quantizer are no layers of this one.
            spec.field("any", "uint8", (8, 8))
        return spec

    def others(self, field: FieldFacts) -> FieldSpec:
        """Return how a field beside the main one is stored: alike if it can be."""
        quantizer = self.quantizer or self._default(field)
        if quantizer == "block" and not is_picture_field(field):
            quantizer = "affine"
        if self.lossless and field.dtype != "uint8":
            quantizer = "raw"
        return self._spec(quantizer, field)

    def _default(self, field: FieldFacts) -> Quantizer:
        wanted = self.target is not None or self.qp is not None or self.effort is not None
        return "block" if wanted and is_picture_field(field) else "affine"

    def _spec(self, quantizer: Quantizer, field: FieldFacts | None = None) -> FieldSpec:
        bits = self.bits
        if bits is None:
            bits = _DEFAULT_BITS.get(quantizer, _EXACT_BITS)
        layers = self.layers
        if layers is None and self.lossless:
            layers = ()
        return FieldSpec(
            quantizer=quantizer,
            bit_width=bits,
            qp=DEFAULT_QP if self.qp is None else self.qp,
            layers=layers,
            domain=self.domain if quantizer == "lsq" else None,
            shape=field.shape if field is not None else None,
            dtype=field.dtype if field is not None else None,
            patch=self.patch if quantizer == "patch" else None,
            group_count=DEFAULT_GROUP_COUNT if self.groups is None else self.groups,
            grouping=self.grouping or "distortion",
            effort=self.effort or "default",
        )

    def to_json(self) -> dict[str, Any]:
        """Return what provenance keeps; numbers that need not be whole as text."""
        said: dict[str, Any] = {
            "bits": self.bits,
            "grouping": self.grouping,
            "groups": self.groups,
            "lossless": self.lossless or None,
            "nbytes_per_sample": _text(self.nbytes_per_sample),
            "psnr": _text(self.psnr),
            "qp": self.qp,
            "total_nbytes": self.total_nbytes,
        }
        return {name: value for name, value in said.items() if value is not None}


def is_picture_field(field: FieldFacts) -> bool:
    """Tell whether quantizer block can store a field, as far as its shape is known."""
    shape = field.shape
    if field.dtype != "uint8" or len(shape) not in (2, 3):
        return False
    if any(side is not None and not 1 <= side <= MAX_PICTURE_SIDE for side in shape[:2]):
        return False
    return len(shape) == 2 or (shape[2] is not None and 1 <= shape[2] <= MAX_CHANNELS)


def measures_psnr(spec: FieldSpec, target: Target | None) -> bool:
    """Tell whether something is lost whose PSNR can be told."""
    if spec.dtype != "uint8" or spec.quantizer == "raw":
        return False
    return target is not None or spec.quantizer != "affine" or spec.bit_width < _EXACT_BITS


def _text(value: float | None) -> str | None:
    return None if value is None else f"{value:g}"
