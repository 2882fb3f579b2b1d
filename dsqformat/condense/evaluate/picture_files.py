"""Pictures as WebP and JPEG files, one file each, and the quality that fits some bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.commands.comparison import encoded_picture
from dsqformat.commands.progress import OnProgress

# Kind -> format of Pillow and options of its encoder: the smallest files each can make.
_FORMATS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "webp": ("WEBP", {"method": 6}),
    "jpeg": ("JPEG", {"optimize": True, "subsampling": 2}),
}
FILE_KINDS: Final = tuple(_FORMATS)
_LOWEST, _HIGHEST = 0, 100
# So many pictures, spread evenly, stand for all until the last few steps of a search.
_PROBED: Final = 500


def encoder_version(kind: str) -> str:
    """Return the version of the library that writes files of a kind: their bytes depend on it."""
    from PIL import features

    return str(features.version("webp" if kind == "webp" else "libjpeg_turbo"))


def encoded(picture: NDArray[np.uint8], kind: str, quality: int) -> bytes:
    """Return the file of a picture.

    Args:
        picture: uint8, shape (height, width, 1 or 3).
        kind: "webp" or "jpeg".
        quality: 0 to 100.
    """
    name, options = _FORMATS[kind]
    return encoded_picture(picture, name, quality=quality, **options)


def decoded(data: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the picture of a file as an array of this shape, (height, width, 1 or 3)."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("L" if shape[2] == 1 else "RGB")).reshape(shape)


def best_quality(
    pictures: NDArray[np.uint8], kind: str, nbytes: float, on_progress: OnProgress
) -> int | None:
    """Return the highest quality whose files have at most so many bytes on average.

    Args:
        pictures: uint8, shape (n, height, width, 1 or 3).
        kind: "webp" or "jpeg".
        nbytes: of a file, on average over all pictures.
        on_progress: called with stage, done, total.

    Returns:
        0 to 100; None if even the lowest takes more.
    """
    spread = np.unique(np.linspace(0, len(pictures) - 1, min(_PROBED, len(pictures))).astype("i8"))
    low, high = _LOWEST, _HIGHEST + 1
    step = 0
    while low < high:
        middle = (low + high) // 2
        step += 1
        on_progress(f"{kind}: find the quality", step, None)
        if _mean_nbytes(pictures[spread], kind, middle) <= nbytes:
            low = middle + 1
        else:
            high = middle
    # What held for some may fail for all, and the other way round.
    quality = low - 1
    while quality >= _LOWEST and _mean_nbytes(pictures, kind, quality) > nbytes:
        quality -= 1
    if quality < low - 1:
        return quality if quality >= _LOWEST else None
    while quality < _HIGHEST and _mean_nbytes(pictures, kind, quality + 1) <= nbytes:
        quality += 1
    return quality if quality >= _LOWEST else None


def _mean_nbytes(pictures: NDArray[np.uint8], kind: str, quality: int) -> float:
    return sum(len(encoded(picture, kind, quality)) for picture in pictures) / len(pictures)
