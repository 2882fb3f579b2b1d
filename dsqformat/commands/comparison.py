"""What the same pictures take as PNG and WebP, measured on an evenly spaced few of them."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.sources.pictures import CHANNELS

MOST_PICTURES: Final = 200
# Both encoders together take some seconds for so many pixels.
MOST_PIXELS: Final = 2_000_000
_TYPICAL_PIXELS: Final = 200_000
_WEBP_SIDE: Final = 16383
_CHANNEL_COUNTS: Final = frozenset(CHANNELS.values())


@dataclass
class PictureComparison:
    """Encodes some of the pictures that pass by.

    Attributes:
        expected: pictures that will be offered.
        pixels: of each of them, where all have as many; None otherwise.
        count: pictures encoded.
        png_nbytes: their bytes as PNG, optimised.
        webp_nbytes: their bytes as lossless WebP.
        raw_nbytes: their bytes as uint8.
        elapsed_s: seconds this took.
    """

    expected: int
    pixels: int | None = None
    count: int = 0
    png_nbytes: int = 0
    webp_nbytes: int = 0
    raw_nbytes: int = 0
    elapsed_s: float = 0.0
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
        self.raw_nbytes += picture.nbytes
        self.png_nbytes += encoded_nbytes(picture, "PNG", optimize=True)
        self.webp_nbytes += encoded_nbytes(
            picture, "WEBP", lossless=True, exact=True, quality=100, method=4
        )
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
    from PIL import Image

    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[:, :, 0]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, kind, **options)
    return file.tell()
