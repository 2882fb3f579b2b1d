"""Picture files to arrays: a fixed set of formats, EXIF orientation, resize and crop."""

from __future__ import annotations

import io
import struct
import sys
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SampleError

if TYPE_CHECKING:
    from PIL import Image

Mode = Literal["L", "RGB", "RGBA", "auto"]

# What torchvision's ImageFolder takes for a picture.
SUFFIXES: Final = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
# Decoders that run in this process and are fuzzed widely; no others are tried.
FORMATS: Final = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
CHANNELS: Final = {"L": 1, "RGB": 3, "RGBA": 4}
_MODE_OF: Final = {"1": "L", "L": "L", "LA": "RGBA", "La": "RGBA", "PA": "RGBA", "RGBA": "RGBA"}
_MODE_OF_REST: Final = "RGB"
_DEEP_MODES: Final = ("I", "F")  # more than 8 bits per value; I;16 and others begin with I
_ORIENTATION_TAG: Final = 0x0112


@dataclass(frozen=True)
class PictureOptions:
    """What becomes of a picture.

    Attributes:
        mode: "L" (height, width), "RGB" or "RGBA" (height, width, channels), or "auto": the
            least of these that holds all pictures.
        resize: length of the shorter side after scaling, or None.
        crop: side of the square cut from the middle, or None.
    """

    mode: Mode = "RGB"
    resize: int | None = None
    crop: int | None = None

    def __post_init__(self) -> None:
        for name, length in (("resize", self.resize), ("crop", self.crop)):
            if length is not None and not 1 <= length <= 65535:
                raise ValueError(f"{name} {length}: expected 1 to 65535")
        if self.crop is not None and self.resize is not None and self.crop > self.resize:
            raise ValueError(f"crop {self.crop} is larger than resize {self.resize}")


@dataclass(frozen=True)
class PictureHeader:
    """What a picture will be once it is decoded.

    Attributes:
        height: after orientation, resize and crop.
        width: likewise.
        mode: "L", "RGB" or "RGBA", whichever holds the picture.
    """

    height: int
    width: int
    mode: str


def read_header(file: BinaryIO, what: str, options: PictureOptions) -> PictureHeader:
    """Read size and mode of a picture without decoding its pixels.

    Args:
        file: seekable, at its start.
        what: name of the picture for error messages.
        options: how it will be decoded.

    Raises:
        SampleError: it is no picture, too large, or smaller than the crop.
    """
    try:
        with _strict_warnings(), _opened(file, what) as picture:
            width, height = picture.size
            if _orientation(picture) >= 5:
                width, height = height, width
            height, width = _scaled_size(height, width, options.resize)
            if options.crop is not None:
                _check_crop(height, width, options.crop, what)
                height = width = options.crop
            return PictureHeader(height, width, _plain_mode(picture, what))
    except _picture_errors() as error:
        raise _unreadable(error, what) from error


def decode_picture(data: bytes, what: str, options: PictureOptions) -> NDArray[np.uint8]:
    """Decode a picture.

    Args:
        data: the file.
        what: its name for error messages.
        options: with a mode other than "auto".

    Returns:
        uint8, shape (height, width) for mode "L", else (height, width, channels).

    Raises:
        SampleError: it is no picture, ends early, is too large, or smaller than the crop.
    """
    try:
        with _strict_warnings(), _opened(io.BytesIO(data), what) as opened:
            _plain_mode(opened, what)
            picture = _in_mode(_upright(opened), options.mode)
            if options.resize is not None or options.crop is not None:
                picture = _fitted(picture, what, options)
            return np.asarray(picture)
    except _picture_errors() as error:
        raise _unreadable(error, what) from error


def picture_shape(height: int, width: int, mode: str) -> tuple[int, ...]:
    """Return the shape of the array of a picture."""
    return (height, width) if mode == "L" else (height, width, CHANNELS[mode])


def common_mode(modes: Iterable[str]) -> Mode:
    """Return the least of "L", "RGB" and "RGBA" that holds pictures of all these modes."""
    found = set(modes)
    if "RGBA" in found:
        return "RGBA"
    return "L" if found == {"L"} else "RGB"


# Opening ---------------------------------------------------------------------------------------


def require_pillow() -> None:
    """Import Pillow, or raise ImportError naming the extra that brings it."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise ImportError("pictures need Pillow: pip install 'dsqformat[pack]'") from error


def _picture_errors() -> tuple[type[Exception], ...]:
    """Return what Pillow raises for files that are damaged, cut short or too large."""
    from PIL import Image

    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    damage = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, OverflowError)
    return (*bombs, *damage, struct.error, zlib.error)


def _unreadable(error: Exception, what: str) -> SampleError:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return SampleError(f"{what}: not a readable picture; expected one of {', '.join(FORMATS)}")
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        limit = f"expected at most {Image.MAX_IMAGE_PIXELS} pixels"
        return SampleError(f"{what}: picture is too large: {limit}; scale it down beforehand")
    return SampleError(f"{what}: not a readable picture: {error}")


@contextmanager
def _strict_warnings() -> Iterator[None]:
    """Refuse pictures that are too large, and be quiet about damaged metadata.

    Pillow only warns of a picture up to twice its limit, which takes gigabytes all the same.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _opened(file: BinaryIO, what: str) -> Image.Image:
    from PIL import Image

    picture = Image.open(file, formats=FORMATS)
    if not picture.size[0] or not picture.size[1]:
        raise SampleError(f"{what}: picture of {picture.size[0]}x{picture.size[1]} pixels")
    return picture


def _plain_mode(picture: Image.Image, what: str) -> str:
    if picture.mode.startswith(_DEEP_MODES):
        raise SampleError(
            f"{what}: picture of mode {picture.mode}, expected 8 bits per value; "
            "convert it, or pack an .npz of its values"
        )
    if picture.mode == "P" and "transparency" in picture.info:
        return "RGBA"
    return _MODE_OF.get(picture.mode, _MODE_OF_REST)


# Converting ------------------------------------------------------------------------------------


def _orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, as far as it stands before the pixels."""
    if picture.format == "TIFF":
        return 1  # Pillow turns these itself
    if picture.format == "PNG" and "exif" not in picture.info:
        return 1  # Pillow would decode the pixels in search of it
    orientation = picture.getexif().get(_ORIENTATION_TAG, 1)
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _upright(picture: Image.Image) -> Image.Image:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    orientation = _orientation(picture)
    return picture.transpose(turns[orientation]) if orientation in turns else picture


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return picture if picture.mode == mode else picture.convert(mode)


def _fitted(picture: Image.Image, what: str, options: PictureOptions) -> Image.Image:
    from PIL.Image import Resampling

    height, width = _scaled_size(picture.height, picture.width, options.resize)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Resampling.BILINEAR)
    if options.crop is None:
        return picture
    _check_crop(height, width, options.crop, what)
    left, top = round((width - options.crop) / 2), round((height - options.crop) / 2)
    return picture.crop((left, top, left + options.crop, top + options.crop))


def _scaled_size(height: int, width: int, resize: int | None) -> tuple[int, int]:
    """Return height and width with the shorter side scaled to `resize`, as torchvision does."""
    from PIL import Image

    if resize is None:
        return height, width
    longer = int(resize * max(height, width) / min(height, width))
    if longer * resize > (Image.MAX_IMAGE_PIXELS or sys.maxsize):
        raise Image.DecompressionBombError(f"{longer} x {resize} pixels")
    return (resize, longer) if height <= width else (longer, resize)


def _check_crop(height: int, width: int, crop: int, what: str) -> None:
    if min(height, width) < crop:
        raise SampleError(
            f"{what}: picture of {width}x{height} is smaller than the crop of {crop}; "
            f"scale it first (--resize {crop})"
        )
