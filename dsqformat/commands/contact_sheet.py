"""A picture of some samples: originals on top, then each number of layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.commands.comparison import is_picture
from dsqformat.commands.unpacking import new_file
from dsqformat.dataset import Dataset
from dsqformat.errors import DatasetError
from dsqformat.shard import ShardReader
from dsqformat.sources.pictures import require_pillow

_CELL_PIXELS: Final = 96
_GAP_PIXELS: Final = 4
_BACKGROUND: Final = (255, 255, 255)


def write_contact_sheet(shards: list[ShardReader], field: str, count: int, path: Path) -> None:
    """Write a PNG: a row with all layers, then a row for each smaller number of layers.

    Args:
        shards: what to choose from; evenly spaced samples are shown.
        field: of the pictures.
        count: samples to show.
        path: of the PNG.

    Raises:
        DatasetError: the samples are no pictures.
    """
    require_pillow()
    from PIL import Image

    depth = shards[0].schema.stored_layers(field)
    rows = [_pictures(shards, field, count, layers) for layers in [depth, *range(1, depth)]]
    step = _CELL_PIXELS + _GAP_PIXELS
    size = (len(rows[0]) * step + _GAP_PIXELS, len(rows) * step + _GAP_PIXELS)
    sheet = Image.new("RGB", size, _BACKGROUND)
    for line, row in enumerate(rows):
        for place, picture in enumerate(row):
            cell = _cell(picture)
            left = _GAP_PIXELS + place * step + (_CELL_PIXELS - cell.width) // 2
            top = _GAP_PIXELS + line * step + (_CELL_PIXELS - cell.height) // 2
            sheet.paste(cell, (left, top))
    with new_file(path) as temporary:
        sheet.save(temporary, "PNG")


def shards_of(dataset: Dataset) -> list[ShardReader]:
    """Return readers of some shards, evenly spaced, at most eight."""
    count = dataset.snapshot.shard_count
    numbers = sorted({int(i) for i in np.linspace(0, count - 1, min(8, count))}) if count else []
    return [dataset.shard(number) for number in numbers]


def _pictures(shards: list[ShardReader], field: str, count: int, layers: int) -> list[NDArray[Any]]:
    places = [(shard, chunk) for shard in shards for chunk in range(len(shard.chunks))]
    chosen = np.linspace(0, len(places), count, endpoint=False).astype(int).tolist()
    pictures: list[NDArray[Any]] = []
    for number in sorted(set(chosen)):
        shard, chunk = places[number]
        decoded = shard.read_chunk(chunk, layers=layers, fields=[field], output="source")
        wanted = min(chosen.count(number), decoded.sample_count)
        for row in np.linspace(0, decoded.sample_count, wanted, endpoint=False).astype(int):
            picture = np.asarray(decoded.fields[field][int(row)])
            if not is_picture(picture):
                raise DatasetError(
                    f"field {field!r}: {picture.dtype}{list(picture.shape)} is no picture"
                )
            pictures.append(picture)
    return pictures


def _cell(picture: NDArray[Any]) -> Any:
    from PIL import Image

    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[:, :, 0]
    image = Image.fromarray(np.ascontiguousarray(picture)).convert("RGB")
    scale = _CELL_PIXELS / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # Small pictures keep their pixels visible: that is where layers differ.
    kind = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return image.resize(size, kind)
