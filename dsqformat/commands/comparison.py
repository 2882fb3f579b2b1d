"""What the same pictures take as picture files, measured on an evenly spaced few of them."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.select.distortion import psnr_of
from dsqformat.sources.pictures import CHANNELS

MOST_PICTURES: Final = 200
# Both encoders together take some seconds for so many pixels.
MOST_PIXELS: Final = 2_000_000
_TYPICAL_PIXELS: Final = 200_000
# Lossy files are made at several qualities until their fidelity is the one that is looked for.
MOST_LOSSY_PIXELS: Final = 700_000
_QUALITIES: Final = (0, 100)
_WEBP_SIDE: Final = 16383
_CHANNEL_COUNTS: Final = frozenset(CHANNELS.values())


@dataclass(frozen=True)
class LossyFiles:
    """Picture files of about some fidelity.

    Attributes:
        count: pictures measured.
        mean_nbytes: of a file, between the two qualities that have the fidelity between them.
        psnr: the fidelity, in dB over all values.
    """

    count: int
    mean_nbytes: float
    psnr: float


@dataclass
class PictureComparison:
    """Encodes some of the pictures that pass by.

    Attributes:
        expected: pictures that will be offered.
        pixels: of each of them, where all have as many; None otherwise.
        keep: whether pictures are kept for `match`.
        count: pictures encoded.
        png_nbytes: their bytes as PNG, optimised.
        webp_nbytes: their bytes as lossless WebP.
        raw_nbytes: their bytes as uint8.
        elapsed_s: seconds this took.
        lossy: by "webp" and "jpeg", what files of about the fidelity of `match` take.
    """

    expected: int
    pixels: int | None = None
    keep: bool = False
    count: int = 0
    png_nbytes: int = 0
    webp_nbytes: int = 0
    raw_nbytes: int = 0
    elapsed_s: float = 0.0
    lossy: dict[str, LossyFiles] = field(default_factory=dict)
    _kept: list[NDArray[np.uint8]] = field(default_factory=list)
    _kept_pixels: int = 0
    _offered: int = 0
    _pixels: int = 0
    _step: float = field(init=False)

    def __post_init__(self) -> None:
        pixels = self.pixels or _TYPICAL_PIXELS
        self._step = self.expected / max(1, min(MOST_PICTURES, MOST_PIXELS // pixels))
        self._step = max(1.0, self._step)

    def offer(self, picture: NDArray[Any]) -> None:
        """Take an evenly spaced few of the pictures, as long as they are not too many pixels."""
        due = int(self._offered / self._step) < int((self._offered + 1) / self._step)
        self._offered += 1
        if not due or not is_picture(picture):
            return
        pixels = picture.shape[0] * picture.shape[1]
        if self._pixels + pixels > MOST_PIXELS or max(picture.shape) > _WEBP_SIDE:
            return
        started_s = time.monotonic()
        self._pixels += pixels
        self.count += 1
        if self.keep and (not self._kept or self._kept_pixels + pixels <= MOST_LOSSY_PIXELS):
            self._kept.append(picture)
            self._kept_pixels += pixels
        self.raw_nbytes += picture.nbytes
        self.png_nbytes += encoded_nbytes(picture, "PNG", optimize=True)
        self.webp_nbytes += encoded_nbytes(
            picture, "WEBP", lossless=True, exact=True, quality=100, method=4
        )
        self.elapsed_s += time.monotonic() - started_s

    def match(self, psnr: float) -> None:
        """Find out what lossy files of the kept pictures take at a fidelity.

        Args:
            psnr: in dB, over all values of the dataset.
        """
        if not self._kept or not math.isfinite(psnr):
            return
        started_s = time.monotonic()
        settings: dict[str, tuple[str, dict[str, Any]]] = {"webp": ("WEBP", {"method": 4})}
        if all(picture.ndim == 2 or picture.shape[2] in (1, 3) for picture in self._kept):
            settings["jpeg"] = ("JPEG", {"optimize": True})
        for name, (kind, options) in settings.items():
            nbytes = _nbytes_at(self._kept, kind, options, psnr)
            if nbytes is not None:
                self.lossy[name] = LossyFiles(len(self._kept), nbytes / len(self._kept), psnr)
        self._kept = []
        self.elapsed_s += time.monotonic() - started_s


def is_picture(values: NDArray[Any]) -> bool:
    """Tell whether an array can be shown: uint8, (h, w) or (h, w, 1, 3 or 4), not empty."""
    if values.dtype != np.uint8 or values.ndim not in (2, 3) or not values.size:
        return False
    return values.ndim == 2 or values.shape[2] in _CHANNEL_COUNTS


def encoded_nbytes(picture: NDArray[Any], kind: str, **options: Any) -> int:
    """Return the length of a picture file.

    Args:
        picture: see is_picture.
        kind: a format of Pillow.
        options: of its encoder.
    """
    return len(encoded_picture(picture, kind, **options))


def encoded_picture(picture: NDArray[Any], kind: str, **options: Any) -> bytes:
    """Return a picture file.

    Args:
        picture: see is_picture.
        kind: a format of Pillow.
        options: of its encoder.
    """
    from PIL import Image

    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[:, :, 0]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, kind, **options)
    return file.getvalue()


def _nbytes_at(
    pictures: Sequence[NDArray[np.uint8]], kind: str, options: Mapping[str, Any], psnr: float
) -> float | None:
    """Return the bytes of all files at a fidelity; None if no quality comes to it."""
    low, high = _QUALITIES
    worst = _lossy(pictures, kind, {**options, "quality": low})
    best = _lossy(pictures, kind, {**options, "quality": high})
    if not worst[1] <= psnr <= best[1]:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        found = _lossy(pictures, kind, {**options, "quality": middle})
        if found[1] <= psnr:
            low, worst = middle, found
        else:
            high, best = middle, found
    share = (psnr - worst[1]) / (best[1] - worst[1]) if best[1] > worst[1] else 0.0
    share = min(1.0, max(0.0, share))
    return math.exp((1 - share) * math.log(worst[0]) + share * math.log(best[0]))


def _lossy(
    pictures: Sequence[NDArray[np.uint8]], kind: str, options: Mapping[str, Any]
) -> tuple[int, float]:
    """Return bytes and PSNR of the files of some pictures."""
    from PIL import Image

    nbytes, error, count = 0, 0.0, 0
    for picture in pictures:
        data = encoded_picture(picture, kind, **options)
        nbytes += len(data)
        mode = "L" if picture.ndim == 2 or picture.shape[2] == 1 else None
        with Image.open(io.BytesIO(data)) as image:
            shown = image.convert(mode or ("RGB" if picture.shape[2] == 3 else "RGBA"))
            decoded = np.asarray(shown).reshape(picture.shape)
        difference = picture.astype("f4") - decoded
        error += float(np.square(difference).sum(dtype="f8"))
        count += picture.size
    return nbytes, psnr_of(error, count)
