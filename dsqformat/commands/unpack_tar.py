"""A dataset as WebDataset tars."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from dsqformat.commands.comparison import is_picture
from dsqformat.commands.safe_names import tar_key
from dsqformat.commands.unpack_folder import LOSSLESS
from dsqformat.commands.unpacking import (
    UnpackReport,
    column_values,
    label_column,
    new_file,
    new_folder,
    read_chunks,
)
from dsqformat.dataset import Dataset
from dsqformat.sources.pictures import SUFFIXES
from dsqformat.sources.tar_members import PICKLE_EXTENSIONS

_RESERVED = frozenset({"cls", "json", "npy", "txt"}) | PICKLE_EXTENSIONS


def unpack_tar(
    dataset: Dataset,
    dest: Path,
    *,
    field: str,
    layers: int | None,
    suffix: str,
    samples_per_tar: int,
    on_sample: Callable[[int], None],
) -> UnpackReport:
    """Write a dataset as one tar, or as a folder of tars.

    Pictures become .png, other arrays .npy, labels .cls, text .txt, byte strings members named
    like the column; all other numbers go into one .json.

    Args:
        dataset: what to write.
        dest: NAME.tar, or a folder; it appears when it is complete.
        field: whose members have no name in front of their extension.
        layers: layers to use; None for all.
        suffix: format of pictures: "png" or "webp".
        samples_per_tar: samples of each tar in a folder.
        on_sample: called with the number of samples written so far.
    """
    writer = _SampleWriter(dataset, field, suffix)
    if dest.name.lower().endswith(".tar"):
        with new_file(dest) as path:
            with tarfile.open(path, "w") as tar:
                for first, chunk, keys in read_chunks(dataset, layers):
                    writer.write_chunk(tar, first, chunk, keys, on_sample)
            nbytes, files = path.stat().st_size, 1
    else:
        with new_folder(dest) as folder:
            _write_tars(dataset, folder, dest.name, layers, writer, samples_per_tar, on_sample)
            paths = list(folder.iterdir())
            nbytes, files = sum(path.stat().st_size for path in paths), len(paths)
    label = label_column(dataset)
    named = label is not None and label.names is not None
    left_out = ("the names of the labels (.cls holds numbers)",) if named else ()
    return UnpackReport(writer.count, nbytes, files, left_out)


def _write_tars(
    dataset: Dataset,
    folder: Path,
    name: str,
    layers: int | None,
    writer: _SampleWriter,
    samples_per_tar: int,
    on_sample: Callable[[int], None],
) -> None:
    tar: tarfile.TarFile | None = None
    number = 0
    try:
        for first, chunk, keys in read_chunks(dataset, layers):
            if tar is None or writer.count >= samples_per_tar * number:
                if tar is not None:
                    tar.close()
                tar = tarfile.open(folder / f"{name}-{number:06d}.tar", "w")  # noqa: SIM115
                number += 1
            writer.write_chunk(tar, first, chunk, keys, on_sample)
    finally:
        if tar is not None:
            tar.close()


class _SampleWriter:
    """Writes samples as members."""

    def __init__(self, dataset: Dataset, field: str, suffix: str) -> None:
        self._field, self._suffix = field, suffix
        self._label = label_column(dataset)
        self._schema = dataset.schema
        self._used: set[int] = set()
        self.count = 0

    def write_chunk(
        self,
        tar: tarfile.TarFile,
        first: int,
        chunk: Any,
        keys: list[str] | None,
        on_sample: Callable[[int], None],
    ) -> None:
        """Write the samples of a chunk."""
        for row in range(chunk.sample_count):
            name = self._free_name(keys[row] if keys else None, first + row)
            for field, values in chunk.fields.items():
                self._add_array(tar, name, field, values[row])
            self._add_columns(tar, name, column_values(chunk, row, frozenset()))
            self.count += 1
            on_sample(self.count)

    def _free_name(self, key: str | None, position: int) -> str:
        name = tar_key(key, position)
        if hash(name) in self._used:
            name = f"{name}-{position}"
        self._used.add(hash(name))
        return name

    def _add_array(self, tar: tarfile.TarFile, name: str, field: str, values: NDArray[Any]) -> None:
        file = io.BytesIO()
        if is_picture(values):
            from PIL import Image

            extension = self._suffix
            shown = values[:, :, 0] if values.ndim == 3 and values.shape[2] == 1 else values
            picture = Image.fromarray(np.ascontiguousarray(shown))
            picture.save(file, extension, **LOSSLESS[extension])
        else:
            extension = "npy"
            npy_format.write_array(file, np.ascontiguousarray(values), allow_pickle=False)
        prefix = "" if field == self._field else f"{field}."
        _add(tar, f"{name}.{prefix}{extension}", file.getvalue())

    def _add_columns(self, tar: tarfile.TarFile, name: str, values: dict[str, Any]) -> None:
        if self._label is not None:
            _add(tar, f"{name}.cls", str(values.pop(self._label.name)).encode())
        numbers = {}
        for column, value in values.items():
            if isinstance(value, str):
                prefix = "" if column == "text" else f"{column}."
                _add(tar, f"{name}.{prefix}txt", value.encode("utf-8"))
            elif isinstance(value, bytes):
                reserved = column.lower() in _RESERVED or f".{column.lower()}" in SUFFIXES
                _add(tar, f"{name}.{column}.bin" if reserved else f"{name}.{column}", value)
            else:
                numbers[column] = value
        if numbers:
            _add(tar, f"{name}.json", json.dumps(numbers).encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o444
    tar.addfile(info, io.BytesIO(data))
