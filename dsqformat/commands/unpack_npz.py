"""A dataset as a NumPy archive with x and y, written as it is decoded."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from dsqformat.commands.unpacking import UnpackReport, label_column, new_file, read_chunks
from dsqformat.dataset import Dataset
from dsqformat.errors import DatasetError

_MAX_TEXT_NBYTES: Final = 1 << 30
_ZIP_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


def unpack_npz(
    dataset: Dataset,
    dest: Path,
    *,
    field: str,
    layers: int | None,
    on_sample: Callable[[int], None],
) -> UnpackReport:
    """Write a dataset as .npz: the field as x, labels as y, all others by their names.

    Fields are written while they are decoded; columns are collected in memory.

    Args:
        dataset: what to write.
        dest: the file; it appears when it is complete.
        field: that becomes x.
        layers: layers to use; None for all.
        on_sample: called with the number of samples written so far.

    Raises:
        DatasetError: the samples of a field differ in shape, or texts do not fit.
    """
    names = _names(dataset, field)
    with new_file(dest) as path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for number, found in enumerate(dataset.schema.fields):
                count = _write_field(
                    archive,
                    dataset,
                    found.name,
                    names[found.name],
                    layers,
                    on_sample if number == 0 else _ignore,
                )
            for name, array in _columns(dataset).items():
                _write_array(archive, names.get(name, name), array)
        nbytes = path.stat().st_size
    return UnpackReport(count, nbytes, 1)


def _ignore(_count: int) -> None:
    pass


def _names(dataset: Dataset, field: str) -> dict[str, str]:
    """Return the name in the archive of each field and column."""
    label = label_column(dataset)
    names = {f.name: f.name for f in dataset.schema.fields}
    names |= {c.name: c.name for c in dataset.schema.columns}
    names[field] = "x"
    if label is not None:
        names[label.name] = "y"
    own = [*names.values(), "keys", "classes"]
    twice = next((name for name in own if own.count(name) > 1), None)
    if twice is not None:
        raise DatasetError(f"two arrays would be named {twice!r}; use --to webdataset")
    return names


def _write_field(
    archive: zipfile.ZipFile,
    dataset: Dataset,
    field: str,
    name: str,
    layers: int | None,
    on_sample: Callable[[int], None],
) -> int:
    """Write one field, chunk by chunk; return the number of samples."""
    info = dataset.schema.field(field)
    shape: tuple[int, ...] | None = None
    if None not in info.shape:
        shape = tuple(length or 0 for length in info.shape)
    count = 0
    chunks = read_chunks(dataset, layers, [field])
    first = next(chunks, None)
    if first is not None and isinstance(first[1].fields[field], np.ndarray):
        shape = np.asarray(first[1].fields[field]).shape[1:]
    if shape is None:
        raise _differing(field)
    with archive.open(_entry(name), "w", force_zip64=True) as file:
        _write_header(file, info.numpy_dtype, (len(dataset), *shape))
        for _, chunk, _ in _with_first(first, chunks):
            values = chunk.fields[field]
            if not isinstance(values, np.ndarray) or values.shape[1:] != shape:
                raise _differing(field)
            file.write(np.ascontiguousarray(values, info.numpy_dtype).data.cast("B"))
            count += chunk.sample_count
            on_sample(count)
    return count


def _with_first(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    if first is not None:
        yield first
    yield from rest


def _differing(field: str) -> DatasetError:
    return DatasetError(
        f"field {field!r}: samples differ in shape, one array cannot hold them; "
        "use --to folder or --to webdataset"
    )


def _columns(dataset: Dataset) -> dict[str, NDArray[Any]]:
    """Return columns, keys and names of labels as arrays."""
    values: dict[str, list[Any]] = {column.name: [] for column in dataset.schema.columns}
    keys: list[str] = []
    for _, chunk, chunk_keys in read_chunks(dataset, 1, []):
        keys += chunk_keys or []
        for name, part in chunk.columns.items():
            values[name].extend([part] if isinstance(part, np.ndarray) else part)
    arrays: dict[str, NDArray[Any]] = {}
    for column in dataset.schema.columns:
        if column.numeric:
            parts = values[column.name]
            arrays[column.name] = np.concatenate(parts) if parts else np.empty(0, column.type)
        else:
            arrays[column.name] = _text_array(values[column.name], column.name)
    if dataset.has_keys:
        arrays["keys"] = _text_array(keys, "keys")
    label = label_column(dataset)
    if label is not None and label.names:
        arrays["classes"] = _text_array(list(label.names), "classes")
    return arrays


def _text_array(values: list[Any], name: str) -> NDArray[Any]:
    """Return texts or byte strings as an array of fixed width."""
    width = 4 if not values or isinstance(values[0], str) else 1
    if len(values) * max(map(len, values), default=0) * width > _MAX_TEXT_NBYTES:
        raise DatasetError(f"column {name!r}: too long for an array; use --to webdataset")
    if any(value.endswith("\0" if width == 4 else b"\0") for value in values):
        raise DatasetError(
            f"column {name!r}: a value ends with a zero byte, which NumPy drops; "
            "use --to webdataset"
        )
    return np.array(values, None if values else "U1")


def _write_array(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    with archive.open(_entry(name), "w", force_zip64=True) as file:
        npy_format.write_array(file, array, allow_pickle=False)


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{name}.npy", _ZIP_EPOCH)


def _write_header(file: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    header = {
        "descr": npy_format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    npy_format.write_array_header_1_0(file, header)
