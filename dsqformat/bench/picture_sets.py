"""What is packed: crops of photographs scaled down, and small pictures as they are."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SampleError, SourceError
from dsqformat.sources.pictures import SUFFIXES, PictureOptions, decode_picture, read_header

TILES: Final = "tiles"
PICTURES: Final = "pictures"
SMALL: Final = "small"
SET_NAMES: Final = (TILES, PICTURES, SMALL)

TILE_SIDE: Final = 32
TILE_SHORT_SIDE: Final = 96
CROP_SIDE: Final = 224
CROP_SHORT_SIDE: Final = 256
# A picture of a Parquet file below this is packed as it is; scaling it up would be no photograph.
_SMALL_SIDE: Final = TILE_SHORT_SIDE
_JPEG_MAGIC: Final = b"\xff\xd8"
# Those of scikit-image's data that are photographs in colour; of the stereo pair the left one.
_SKIMAGE: Final = (
    "astronaut", "chelsea", "coffee", "hubble_deep_field", "immunohistochemistry", "retina",
    "rocket",
)  # fmt: skip

OnProgress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class PictureSet:
    """Pictures of one size, in a seeded random order.

    Attributes:
        name: "tiles", "pictures" or "small".
        title: what they are and where from.
        pictures: uint8, shape (n, height, width, 3).
        caution: what a reader should know before believing figures made with them.
    """

    name: str
    title: str
    pictures: NDArray[np.uint8]
    caution: str = ""

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True)
class Limits:
    """Most samples of each set.

    Attributes:
        tiles: of the 32x32 crops, and of small pictures.
        pictures: of the 224x224 crops.
    """

    tiles: int = 2400
    pictures: int = 200


def load_sets(
    folder: Path | None, names: tuple[str, ...], limits: Limits, on_progress: OnProgress
) -> list[PictureSet]:
    """Read the pictures of a folder and cut them.

    Args:
        folder: pictures and Parquet files with pictures, at any depth; None: the photographs
            that come with scikit-image.
        names: which sets, of SET_NAMES.
        limits: most samples of each.
        on_progress: called with stage, pictures done, pictures in all.

    Returns:
        The sets of these names that have pictures.

    Raises:
        SourceError: there is nothing to read in the folder.
        OSError: it cannot be read.
    """
    if folder is None:
        photographs, small, origin = list(_shipped_photographs()), None, "scikit-image's data"
    else:
        photographs, small, origin = _read_folder(folder, limits.tiles, on_progress)
    sets = []
    if TILES in names and photographs:
        sets.append(_tiles(photographs, origin, limits.tiles))
    if PICTURES in names and photographs:
        sets.append(_crops(photographs, origin, limits.pictures))
    if SMALL in names and small is not None:
        sets.append(small)
    sets = [each for each in sets if len(each)]
    if not sets:
        raise SourceError(
            f"{origin}: no pictures for {', '.join(names)}; expected photographs of at least "
            f"{TILE_SHORT_SIDE} pixels (short side), or Parquet files with smaller pictures"
        )
    return sets


# Cutting ---------------------------------------------------------------------------------------


def scaled(picture: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    """Return a picture scaled so that its shorter side is this long (Lanczos)."""
    from PIL import Image

    height, width = picture.shape[:2]
    scale = short_side / min(height, width)
    size = max(short_side, round(width * scale)), max(short_side, round(height * scale))
    image = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image)


def tiles_of(picture: NDArray[np.uint8], side: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the disjoint squares of a picture, row by row from its upper left corner."""
    for top in range(0, picture.shape[0] - side + 1, side):
        for left in range(0, picture.shape[1] - side + 1, side):
            yield picture[top : top + side, left : left + side]


def centre_crop(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return the square in the middle of a picture."""
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    return picture[top : top + side, left : left + side]


def _tiles(photographs: list[NDArray[np.uint8]], origin: str, limit: int) -> PictureSet:
    fitting = [p for p in photographs if min(p.shape[:2]) >= TILE_SHORT_SIDE]
    tiles = [t for p in fitting for t in tiles_of(scaled(p, TILE_SHORT_SIDE), TILE_SIDE)]
    title = (
        f"disjoint {TILE_SIDE}x{TILE_SIDE} crops of photographs of {origin} scaled "
        f"to short side {TILE_SHORT_SIDE}{_left_out(photographs, fitting)}"
    )
    return PictureSet(TILES, title, _shuffled(tiles, limit))


def _crops(photographs: list[NDArray[np.uint8]], origin: str, limit: int) -> PictureSet:
    fitting = [p for p in photographs if min(p.shape[:2]) >= CROP_SHORT_SIDE]
    crops = [centre_crop(scaled(p, CROP_SHORT_SIDE), CROP_SIDE) for p in fitting]
    title = (
        f"{CROP_SIDE}x{CROP_SIDE} centre crops of photographs of {origin} scaled to short side "
        f"{CROP_SHORT_SIDE}{_left_out(photographs, fitting)}"
    )
    return PictureSet(PICTURES, title, _shuffled(crops, limit))


def _left_out(photographs: list[NDArray[np.uint8]], fitting: list[NDArray[np.uint8]]) -> str:
    """Say how many are too small: scaled up, they would be easier than photographs are."""
    smaller = len(photographs) - len(fitting)
    return f" ({smaller} smaller ones left out)" if smaller else ""


def _shuffled(pictures: list[NDArray[np.uint8]], limit: int) -> NDArray[np.uint8]:
    """Return at most `limit` of the pictures, drawn with a fixed seed: neighbours are parted."""
    order = np.random.default_rng(0).permutation(len(pictures))[:limit]
    if not len(order):
        return np.empty((0, 1, 1, 3), "u1")
    return np.stack([pictures[number] for number in order])


# Reading ---------------------------------------------------------------------------------------


def _shipped_photographs() -> Iterator[NDArray[np.uint8]]:
    from skimage import data

    for name in _SKIMAGE:
        yield np.asarray(getattr(data, name)(), "u1")
    stereo: Any = data.stereo_motorcycle
    yield np.asarray(stereo()[0], "u1")


def _read_folder(
    folder: Path, limit: int, on_progress: OnProgress
) -> tuple[list[NDArray[np.uint8]], PictureSet | None, str]:
    """Return photographs, the set of small pictures or None, and the name of the folder."""
    if not folder.is_dir():
        raise SourceError(f"{folder}: no such folder; expected one with pictures or Parquet files")
    paths = sorted(_files_below(folder))
    pictures = [path for path in paths if path.suffix.lower() in SUFFIXES]
    tables = [path for path in paths if path.suffix.lower() == ".parquet"]
    photographs: list[NDArray[np.uint8]] = []
    for number, path in enumerate(pictures):
        picture = _decoded(path.read_bytes(), str(path))
        if picture is not None and min(picture.shape[:2]) >= TILE_SHORT_SIDE:
            photographs.append(picture)
        on_progress("read pictures", number + 1, len(pictures))
    small: list[bytes] = []
    for number, path in enumerate(tables):
        large, little = _parquet_pictures(path, -(-limit // len(tables)))
        photographs += large
        small += little
        on_progress("read Parquet", number + 1, len(tables))
    names = ", ".join(path.name for path in tables)
    return photographs, _small_set(small, names, limit), folder.name


def _files_below(folder: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(folder):
        yield from (Path(directory, name) for name in names if not name.startswith("."))


def _parquet_pictures(path: Path, limit: int) -> tuple[list[NDArray[np.uint8]], list[bytes]]:
    """Return some evenly spaced pictures of a file: large ones decoded, small ones as bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise SourceError(f"{path}: not a readable Parquet file: {error}") from error
    large: list[NDArray[np.uint8]] = []
    small: list[bytes] = []
    column = _picture_column(table)
    if column is None or not len(column):
        return large, small
    rows = np.unique(np.linspace(0, len(column) - 1, min(limit, len(column))).astype("i8"))
    for value in column.take(pa.array(rows)).to_pylist():
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            continue
        try:
            header = read_header(io.BytesIO(data), path.name, PictureOptions())
        except SampleError:
            continue
        if min(header.height, header.width) < _SMALL_SIDE:
            small.append(data)
        elif (picture := _decoded(data, path.name)) is not None:
            large.append(picture)
    return large, small


def _picture_column(table: Any) -> Any:
    """Return the first column of bytes, or of structs that have some; None if there is none."""
    import pyarrow.types as kinds

    for name in table.column_names:
        kind = table.schema.field(name).type
        is_file = kinds.is_struct(kind) and kind.get_field_index("bytes") >= 0
        if is_file or kinds.is_binary(kind) or kinds.is_large_binary(kind):
            return table.column(name).combine_chunks()
    return None


def _small_set(files: list[bytes], names: str, limit: int) -> PictureSet | None:
    """Return the small pictures of the commonest size, or None."""
    decoded = [p for p in (_decoded(data, names) for data in files) if p is not None]
    if not decoded:
        return None
    shape = Counter(picture.shape for picture in decoded).most_common(1)[0][0]
    pictures = [picture for picture in decoded if picture.shape == shape]
    caution = (
        "pictures as small as these were made by scaling down pictures that had been JPEG "
        "(CIFAR-10: from the web)"
    )
    if sum(data.startswith(_JPEG_MAGIC) for data in files) * 2 > len(files):
        caution += "; these files are JPEG at their own size, so they carry its 8x8 grid"
    caution += ". Figures made with them favour codecs like JPEG; no bar is measured on them"
    title = f"{shape[1]}x{shape[0]} pictures of {names} as they are"
    return PictureSet(SMALL, title, _shuffled(pictures, limit), caution)


def _decoded(data: bytes, what: str) -> NDArray[np.uint8] | None:
    """Return a picture in RGB, or None: a bench does not stop at one bad file."""
    try:
        return decode_picture(data, what, PictureOptions(mode="RGB"))
    except SampleError:
        return None
