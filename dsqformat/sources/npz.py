"""NumPy archives with x and y: fields that are stored uncompressed are read row by row."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SampleError, SourceError
from dsqformat.schema import DTYPES, Column
from dsqformat.sources.npy import NpyHeader, read_npy_header
from dsqformat.sources.sample_source import (
    LABEL_COLUMN,
    PICTURE_FIELD,
    BadSample,
    FieldFacts,
    OnScan,
    SourceFacts,
    SourceOptions,
    SourceSample,
    column_name,
    ignore_scan,
    raise_bad,
    reading_order,
    require_samples,
)

# Arrays whose members are not one per sample.
_CLASSES: Final = "classes"
_KEYS: Final = "keys"
_LOCAL_HEADER: Final = struct.Struct("<26xHH")
_PIECE_NBYTES: Final = 1 << 20
_ARCHIVE_ERRORS: Final = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)


class NpzSource:
    """Samples of a NumPy archive, in an order permuted by the seed.

    `x` becomes the field `image` and `y` the column `label` (or, with more than one dimension,
    the field `y`); further arrays of the same length become fields or columns of their own
    name. `keys` are the keys and `classes` the names of the labels. With a split such as
    "train", x_train and y_train are meant.

    Args:
        path: the archive.
        options: how to read it.
        on_bad: not called.
        on_scan: called as the arrays are looked through.

    Raises:
        SourceError: no archive, no x, or arrays of different lengths.
        SampleError: an array holds Python objects, or is damaged.
    """

    def __init__(
        self,
        path: Path,
        options: SourceOptions,
        on_bad: BadSample = raise_bad,
        on_scan: OnScan = ignore_scan,
    ) -> None:
        self._path = path
        arrays = _read_archive(path, options, on_scan)
        if "x" not in arrays:
            raise SourceError(f"{path}: no array x, only {sorted(arrays)}; expected x and y")
        count = len(arrays["x"]) if arrays["x"].ndim else 0
        require_samples(count, str(path), "x of shape (n, ...)")
        classes = arrays.pop(_CLASSES, None)
        self._check_lengths(arrays, count)
        keys = arrays.pop(_KEYS, None)
        self._keys = None if keys is None or not options.keyed else _loaded(keys)
        self._fields: dict[str, NDArray[Any] | StoredRows] = {}
        self._columns: dict[str, NDArray[Any]] = {}
        columns = [self._add(name, array) for name, array in arrays.items()]
        names = None if classes is None else tuple(map(str, _loaded(classes).ravel()))
        self._order = reading_order(count, options)
        self.facts = SourceFacts(
            kind="npz",
            location=str(path),
            sample_count=len(self._order),
            fields={
                name: FieldFacts(array.dtype.name, array.shape[1:], picture=False)
                for name, array in self._fields.items()
            },
            columns=tuple(_with_names(c, names) for c in columns if c is not None),
            keyed=self._keys is not None,
            source_nbytes=path.stat().st_size * len(self._order) // count,
            shuffled=options.seed is not None,
        )

    def samples(self, on_bad: BadSample) -> Iterator[SourceSample]:
        """Yield the samples; see Source."""
        for number in self._order.tolist():
            values: dict[str, Any] = {
                name: np.ascontiguousarray(array[number]) for name, array in self._fields.items()
            }
            for name, column in self._columns.items():
                values[name] = column[number].item()
            yield SourceSample(None if self._keys is None else str(self._keys[number]), values)

    def close(self) -> None:
        """Forget the arrays."""
        self._fields.clear()
        self._columns.clear()

    def _check_lengths(self, arrays: dict[str, NDArray[Any] | StoredRows], count: int) -> None:
        for name, array in arrays.items():
            if not array.ndim or len(array) != count:
                raise SourceError(
                    f"{self._path}: array {name!r} has shape {list(array.shape)}, expected {count} "
                    f"in front as in x; leave it out (--drop {name})"
                )

    def _add(self, name: str, array: NDArray[Any] | StoredRows) -> Column | None:
        """Take in an array as field or column; return the column."""
        if name == "y" and array.ndim == 2 and array.shape[1] == 1:
            array = _loaded(array)[:, 0]
        if array.ndim > 1 or name == "x":
            if array.dtype.name not in DTYPES:
                raise SourceError(
                    f"{self._path}: array {name!r} has dtype {array.dtype}, expected one of "
                    f"{', '.join(DTYPES)}"
                )
            self._fields[PICTURE_FIELD if name == "x" else column_name(name)] = array
            return None
        array = _loaded(array)
        own = LABEL_COLUMN if name == "y" else column_name(name)
        if array.dtype.kind in "SU" and own == LABEL_COLUMN:
            texts, array = np.unique(array, return_inverse=True)
            self._columns[own] = array
            return Column(own, "int64", tuple(str(text) for text in texts))
        self._columns[own] = array
        kinds = {"b": "int64", "i": "int64", "u": "int64", "U": "utf8", "S": "bytes"}
        kinds["f"] = "float64" if array.dtype.itemsize > 4 else "float32"
        if array.dtype.kind not in kinds:
            raise SourceError(f"{self._path}: array {name!r} has dtype {array.dtype}; --drop it")
        return Column(own, cast(Any, kinds[array.dtype.kind]))


def _with_names(column: Column, names: tuple[str, ...] | None) -> Column:
    if names is None or column.name != LABEL_COLUMN or column.type != "int64" or column.names:
        return column
    return replace(column, names=names)


# The archive -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """An array of the archive.

    Attributes:
        info: its zip entry.
        header: type and shape.
        start: bytes of the .npy header.
    """

    info: zipfile.ZipInfo
    header: NpyHeader
    start: int


class StoredRows:
    """An array that stays in its file; what one sample needs is read when it is asked for.

    Mapping the file would count as memory of this process, however large the file is.

    Args:
        path: of the file.
        start: offset of the first value.
        dtype: of the values, which stand in C order.
        shape: of the array.
    """

    def __init__(
        self, path: Path, start: int, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> None:
        self._path, self._start = path, start
        self.dtype, self.shape, self.ndim = dtype, shape, len(shape)
        self._row_nbytes = math.prod(shape[1:]) * dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> NDArray[Any]:
        with self._path.open("rb", buffering=0) as file:
            file.seek(self._start + number * self._row_nbytes)
            data = file.read(self._row_nbytes)
        if len(data) != self._row_nbytes:
            raise SourceError(f"{self._path}: has become shorter while it was read")
        return np.frombuffer(data, self.dtype).reshape(self.shape[1:])


def _loaded(array: NDArray[Any] | StoredRows) -> NDArray[Any]:
    return array if isinstance(array, np.ndarray) else np.stack([*array])


def _read_archive(
    path: Path, options: SourceOptions, on_scan: OnScan
) -> dict[str, NDArray[Any] | StoredRows]:
    """Return the arrays by name, x first, without the suffix of the split."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = {i.filename.removesuffix(".npy"): i for i in archive.infolist()}
            chosen = _choose(infos, options, str(path))
            entries = {n: _read_header(archive, i, f"{path}: {n}") for n, i in chosen.items()}
            for number, entry in enumerate(entries.values()):
                _check_crc(archive, entry.info)
                on_scan(number + 1, len(entries))
            return {name: _array(path, archive, entry) for name, entry in entries.items()}
    except _ARCHIVE_ERRORS as error:
        raise SourceError(f"{path}: not a readable .npz archive: {error}") from error


def _choose(
    infos: dict[str, zipfile.ZipInfo], options: SourceOptions, where: str
) -> dict[str, zipfile.ZipInfo]:
    suffix = "" if options.split is None else f"_{options.split}"
    splits = sorted(name[2:] for name in infos if name.startswith("x_"))
    if not suffix and "x" not in infos and splits:
        if len(splits) > 1:
            raise SourceError(f"{where}: holds the splits {splits}; choose one (--split)")
        suffix = f"_{splits[0]}"
    chosen = {
        name.removesuffix(suffix): info
        for name, info in infos.items()
        if name.endswith(suffix) and name not in options.drop
    }
    shared = {name: info for name, info in infos.items() if name == _CLASSES}
    if suffix and "x" not in chosen:
        raise SourceError(f"{where}: no array x{suffix}; there are {sorted(infos)}")
    return dict(sorted({**shared, **chosen}.items(), key=lambda item: (item[0] != "x", item[0])))


def _read_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, what: str) -> _Entry:
    with archive.open(info) as file:
        header = read_npy_header(file, what)
        start = file.tell()
    if info.file_size - start != header.nbytes:
        raise SampleError(f"{what}: {info.file_size - start} bytes, expected {header.nbytes}")
    return _Entry(info, header, start)


def _check_crc(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Read an entry to its end: zipfile compares the CRC-32 there."""
    with archive.open(info) as file:
        while file.read(_PIECE_NBYTES):
            pass


def _array(path: Path, archive: zipfile.ZipFile, entry: _Entry) -> NDArray[Any] | StoredRows:
    header = entry.header
    stored = entry.info.compress_type == zipfile.ZIP_STORED
    if stored and len(header.shape) > 1 and not header.fortran:
        with path.open("rb") as file:
            file.seek(entry.info.header_offset)
            name_nbytes, extra_nbytes = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        local_nbytes = _LOCAL_HEADER.size + name_nbytes + extra_nbytes
        start = entry.info.header_offset + local_nbytes + entry.start
        return StoredRows(path, start, header.dtype, header.shape)
    flat = np.frombuffer(archive.read(entry.info), header.dtype, offset=entry.start)
    array = flat.reshape(header.shape, order="F" if header.fortran else "C")
    return cast(NDArray[Any], array)
