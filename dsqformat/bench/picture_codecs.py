"""Picture codecs through Pillow: one file per picture, one thread, one setting per dataset."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

JPEG: Final = "JPEG"
WEBP: Final = "WebP"
AVIF: Final = "AVIF"
JPEG_XL: Final = "JPEG XL"
PNG: Final = "PNG"
FAMILIES: Final = (JPEG, WEBP, AVIF, JPEG_XL)

_JPEG_QUALITIES: Final = (4, 12, 25, 45, 65, 80, 90, 97)
_WEBP_QUALITIES: Final = (0, 10, 25, 45, 65, 80, 90, 96, 100)
_AVIF_QUALITIES: Final = (22, 36, 50, 64, 77, 87, 94)
_JXL_QUALITIES: Final = (10, 28, 46, 63, 77, 87, 93, 96)


@dataclass(frozen=True)
class PictureCodec:
    """A picture format with fixed options.

    Attributes:
        name: of the row.
        family: one of FAMILIES, or "PNG".
        format: Pillow's name of the format.
        options: of Pillow's encoder.
        qualities: rising values of `quality`; empty: lossless.
        must_change: options that a build of Pillow may ignore without a word.
        palette: reduce a picture to a median-cut palette first; the quality is its colours.
    """

    name: str
    family: str
    format: str
    options: Mapping[str, Any] = field(default_factory=dict)
    qualities: tuple[int, ...] = ()
    must_change: tuple[str, ...] = ()
    palette: bool = False

    @property
    def lossless(self) -> bool:
        """Whether every picture comes back as it was."""
        return not self.qualities

    def encode(self, picture: NDArray[np.uint8], quality: int | None = None) -> bytes:
        """Return the file of a picture.

        Args:
            picture: uint8, shape (height, width, 3).
            quality: of the codec; None for lossless ones.
        """
        from PIL import Image

        image = Image.fromarray(picture)
        options = dict(self.options)
        if self.palette and quality is not None:
            image = image.quantize(quality, method=Image.Quantize.MEDIANCUT)
        elif quality is not None:
            options["quality"] = quality
        file = io.BytesIO()
        image.save(file, self.format, **options)
        return file.getvalue()

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """Return the picture of a file: uint8, shape (height, width, 3)."""
        from PIL import Image

        # Only this format is tried, as a loader would that knows what it has.
        image: Image.Image = Image.open(io.BytesIO(data), formats=(self.format,))
        if image.mode != "RGB":
            image = image.convert("RGB")
        return np.asarray(image)


def _jpeg(name: str, progressive: bool, subsampling: int) -> PictureCodec:
    options = {"optimize": True, "progressive": progressive, "subsampling": subsampling}
    return PictureCodec(name, JPEG, "JPEG", options, _JPEG_QUALITIES)


def _avif(name: str, subsampling: str) -> PictureCodec:
    options = {"speed": 6, "subsampling": subsampling, "max_threads": 1}
    return PictureCodec(name, AVIF, "AVIF", options, _AVIF_QUALITIES)


CODECS: Final = (
    PictureCodec("WebP, method 6", WEBP, "WEBP", {"method": 6}, _WEBP_QUALITIES),
    PictureCodec(
        "WebP, sharp YUV, sns 0",
        WEBP,
        "WEBP",
        {"method": 6, "use_sharp_yuv": True, "sns_strength": 0},
        _WEBP_QUALITIES,
        must_change=("use_sharp_yuv", "sns_strength"),
    ),
    _avif("AVIF 4:2:0, speed 6", "4:2:0"),
    _avif("AVIF 4:4:4, speed 6", "4:4:4"),
    PictureCodec(
        "JPEG XL, effort 7", JPEG_XL, "JXL", {"effort": 7, "num_threads": 0}, _JXL_QUALITIES
    ),
    _jpeg("JPEG 4:2:0", False, 2),
    _jpeg("JPEG 4:4:4", False, 0),
    _jpeg("JPEG 4:2:0, progressive", True, 2),
    _jpeg("JPEG 4:4:4, progressive", True, 0),
    PictureCodec(
        "PNG, median-cut palette", PNG, "PNG", {"optimize": True}, (4, 8, 16, 32, 64, 128, 256),
        palette=True,
    ),
    PictureCodec("PNG", PNG, "PNG", {"optimize": True}),
    PictureCodec("WebP lossless", WEBP, "WEBP", {"lossless": True}),
    # Quality 100 as well would save another 0.3 % in 14 times the time.
    PictureCodec("WebP lossless, method 6", WEBP, "WEBP", {"lossless": True, "method": 6}),
    PictureCodec(
        "JPEG XL lossless, effort 7",
        JPEG_XL,
        "JXL",
        {"effort": 7, "lossless": True, "num_threads": 0},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class AvailableCodecs:
    """What this installation offers.

    Attributes:
        codecs: that work and do what their options say.
        missing: for the others, a line each.
    """

    codecs: tuple[PictureCodec, ...]
    missing: tuple[str, ...]


@cache
def available_codecs() -> AvailableCodecs:
    """Try every codec on a small picture; those that fail or ignore options are left out."""
    use_one_thread()
    usable, missing = [], []
    for codec in CODECS:
        reason = why_unusable(codec)
        if reason:
            missing.append(f"{codec.name}: {reason}")
        else:
            usable.append(codec)
    return AvailableCodecs(tuple(usable), tuple(missing))


def why_unusable(codec: PictureCodec) -> str:
    """Return why a codec cannot be measured here; empty if it can."""
    picture = _colourful()
    quality = codec.qualities[len(codec.qualities) // 2] if codec.qualities else None
    try:
        data = codec.encode(picture, quality)
        codec.decode(data)
    except (KeyError, OSError, ValueError) as error:
        return f"not offered by this installation ({str(error) or type(error).__name__})"
    for option in codec.must_change:
        others = {name: value for name, value in codec.options.items() if name != option}
        plain = PictureCodec(codec.name, codec.family, codec.format, others, codec.qualities)
        if plain.encode(picture, quality) == data:
            return f"this encoder ignores {option}: the same bytes without it"
    return ""


def use_one_thread() -> None:
    """Keep codecs that would use every core to one, and register JPEG XL if it is there."""
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    try:
        from pillow_jxl import JpegXLImagePlugin
    except ImportError:
        return
    JpegXLImagePlugin.DECODE_THREADS = 0


def codec_versions() -> dict[str, str]:
    """Return the versions of the libraries behind the codecs, by name."""
    from importlib.metadata import PackageNotFoundError, version

    from PIL import features

    found = {"pillow": version("pillow")}
    for name in ("libjpeg_turbo", "webp", "avif", "zlib"):
        if features.check(name):
            found[name] = str(features.version(name))
    try:
        found["pillow-jxl-plugin"] = version("pillow-jxl-plugin")
    except PackageNotFoundError:
        found["pillow-jxl-plugin"] = "not installed"
    return found


def _colourful() -> NDArray[np.uint8]:
    """Return a picture with sharp colour edges, in which every option shows."""
    random = np.random.default_rng(1)
    blocks = random.integers(0, 256, (12, 12, 3)).repeat(8, axis=0).repeat(8, axis=1)
    noise = random.integers(-20, 21, blocks.shape)
    picture: NDArray[np.uint8] = np.clip(blocks + noise, 0, 255).astype("u1")
    return picture
