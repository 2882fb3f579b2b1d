"""A dataset as a folder of pictures, one sub-folder per class."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.commands.comparison import is_picture
from dsqformat.commands.safe_names import file_stem, safe_component
from dsqformat.commands.unpacking import UnpackReport, label_column, new_folder, read_chunks
from dsqformat.dataset import Dataset
from dsqformat.errors import DatasetError
from dsqformat.schema import Column

# Formats that keep every value, with the options of Pillow's encoder.
LOSSLESS: Final[dict[str, dict[str, Any]]] = {
    "png": {},
    "webp": {"lossless": True, "exact": True, "quality": 50, "method": 2},
}


def unpack_folder(
    dataset: Dataset,
    dest: Path,
    *,
    field: str,
    layers: int | None,
    suffix: str,
    on_sample: Callable[[int], None],
) -> UnpackReport:
    """Write the pictures of a dataset into a new folder.

    Args:
        dataset: what to write.
        dest: the folder; it appears when it is complete.
        field: of the pictures.
        layers: layers to use; None for all.
        suffix: "png" or "webp".
        on_sample: called with the number of pictures written so far.

    Raises:
        DatasetError: the samples of the field are no pictures.
    """
    label = label_column(dataset)
    with new_folder(dest) as root:
        folders = _ClassFolders(root, label, len(dataset))
        count = nbytes = 0
        for first, chunk, keys in read_chunks(dataset, layers, [field]):
            for row, picture in enumerate(chunk.fields[field]):
                folder = folders.of(None if label is None else chunk.columns[label.name][row])
                stem = file_stem(keys[row] if keys else None, first + row, folder.name)
                nbytes += _write_picture(folder, stem, first + row, picture, suffix)
                count += 1
                on_sample(count)
    return UnpackReport(count, nbytes, count, tuple(_left_out(dataset, field, label, folders)))


class _ClassFolders:
    """The sub-folder of each label, made when it is first asked for."""

    def __init__(self, root: Path, label: Column | None, sample_count: int) -> None:
        self._root = root
        self._names = label.names if label is not None else None
        self._digits = len(str(sample_count))
        self.made: dict[int | None, Path] = {}

    def of(self, label: Any) -> Path:
        """Return the folder of a label; the root itself for None."""
        value = None if label is None else int(label)
        if value is None:
            return self._root
        if value not in self.made:
            self.made[value] = self._make(value)
        return self.made[value]

    def _make(self, value: int) -> Path:
        if self._names is not None and 0 <= value < len(self._names):
            name = safe_component(self._names[value])
        else:
            # Leading zeros keep the order of the numbers in the order of the names.
            name = f"{value:0{self._digits}d}"
        folder = self._root / name
        while folder.exists():
            folder = folder.with_name(f"{folder.name}-{value}")
        folder.mkdir()
        return folder


def _write_picture(
    folder: Path, stem: str, position: int, picture: NDArray[Any], suffix: str
) -> int:
    """Write one picture under a name that is free, and return its bytes."""
    from PIL import Image

    if not is_picture(picture):
        raise DatasetError(
            f"sample {position}: {picture.dtype}{list(picture.shape)} is no picture; expected "
            "uint8 of height, width and 1, 3 or 4 channels; use --to npz or --to webdataset"
        )
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[:, :, 0]
    path = folder / f"{stem}.{suffix}"
    if path.exists():
        path = folder / f"{stem}-{position}.{suffix}"
    with path.open("xb") as file:
        Image.fromarray(np.ascontiguousarray(picture)).save(file, suffix, **LOSSLESS[suffix])
        return os.fstat(file.fileno()).st_size


def _left_out(
    dataset: Dataset, field: str, label: Column | None, folders: _ClassFolders
) -> list[str]:
    """Say what a folder of pictures does not hold."""
    names = [f.name for f in dataset.schema.fields if f.name != field]
    names += [c.name for c in dataset.schema.columns if label is None or c.name != label.name]
    left_out = [f"{name!r}" for name in names]
    made = [path.name for _, path in sorted(folders.made.items(), key=lambda item: item[0] or 0)]
    if made != sorted(made) or (label is not None and len(made) != len(label.names or made)):
        left_out.append("the numbers of the labels: readers of folders number them by name")
    return left_out
