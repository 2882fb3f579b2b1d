"""Samples on their way into a dataset: bytes in unnamed files, a few numbers each in memory."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk import ChunkInput, FieldInput
from dsqformat.coding.columns import Values
from dsqformat.quantize.mask import patch_grid, unpack_mask
from dsqformat.schema import Column


class ByteSpill:
    """Byte strings one after the other in an unnamed temporary file.

    Args:
        folder: where the file is made; it vanishes with the process.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, prefix=".")  # noqa: SIM115  # see close
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    @property
    def nbytes(self) -> int:
        """Bytes so far."""
        return self._ends[-1]

    def append(self, data: bytes | memoryview) -> None:
        """Add one byte string."""
        self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))

    def extend(self, data: bytes | memoryview, count: int) -> None:
        """Add `count` byte strings of equal length that stand after one another in `data`."""
        self._file.write(data)
        size = len(data) // count
        start = self._ends[-1]
        self._ends.extend(
            range(start + size, start + size * count + 1, size) if size else [start] * count
        )

    def read(self, numbers: NDArray[np.int64]) -> list[bytes]:
        """Return some of the byte strings."""
        self._file.flush()
        handle, ends = self._file.fileno(), self._ends
        return [
            os.pread(handle, ends[number + 1] - ends[number], ends[number])
            for number in numbers.tolist()
        ]

    def close(self) -> None:
        """Drop the file."""
        self._file.close()


@dataclass
class FieldSpill:
    """Values of one field of all samples so far.

    Attributes:
        dtype: of the values, little-endian.
        dimensions: number of dimensions.
        values: their bytes.
        shapes: dimensions of every sample, one after the other.
        settings: bit widths or qps as asked for.
        masks: packed patch masks; an empty one keeps every patch.
        packed_nbytes: bytes of the codes of each sample.
    """

    dtype: np.dtype[Any]
    dimensions: int
    values: ByteSpill
    masks: ByteSpill | None
    shapes: array[int] = field(default_factory=lambda: array("q"))
    settings: array[int] = field(default_factory=lambda: array("B"))
    packed_nbytes: array[int] = field(default_factory=lambda: array("q"))

    def shape_table(self) -> NDArray[np.int64]:
        """Return the shapes as int64, shape (samples, dimensions)."""
        return np.frombuffer(self.shapes, "i8").reshape(len(self.values), self.dimensions)

    def common_shape(self) -> tuple[int | None, ...]:
        """Return the dimensions all samples share, None where they differ."""
        table = self.shape_table()
        if not len(table):
            return (None,) * self.dimensions
        same = (table == table[0]).all(axis=0)
        return tuple(
            int(length) if equal else None for length, equal in zip(table[0], same, strict=True)
        )

    def value_counts(self) -> NDArray[np.int64]:
        """Return how many values each sample has, int64, shape (n,)."""
        counts: NDArray[np.int64] = np.prod(self.shape_table(), axis=1, dtype="i8")
        return counts

    def take(
        self,
        numbers: NDArray[np.int64],
        patch: int | None,
        settings: NDArray[np.uint8] | None,
    ) -> FieldInput:
        """Return the values of some samples, ready to be encoded.

        Args:
            numbers: of the samples.
            patch: side of the patches of masks, if any.
            settings: qp or bit width of every sample of the spill; None for `raw`.
        """
        shapes = self.shape_table()[numbers]
        parts = self.values.read(numbers)
        values: NDArray[Any] | list[NDArray[Any]]
        if len(numbers) and (shapes == shapes[0]).all():
            flat = np.frombuffer(b"".join(parts), self.dtype)
            values = flat.reshape(len(numbers), *shapes[0].tolist())
        else:
            values = [
                np.frombuffer(part, self.dtype).reshape(shape)
                for part, shape in zip(parts, shapes.tolist(), strict=True)
            ]
        own = None if settings is None else settings[numbers]
        return FieldInput(values, own, self._take_masks(numbers, shapes, patch))

    def _take_masks(
        self, numbers: NDArray[np.int64], shapes: NDArray[np.int64], patch: int | None
    ) -> list[NDArray[np.bool_]] | None:
        if self.masks is None or patch is None:
            return None
        packed = self.masks.read(numbers)
        if not any(packed):
            return None
        grids = [patch_grid(int(shape[0]), int(shape[1]), patch) for shape in shapes]
        return [
            unpack_mask(data, grid) if data else np.ones(grid, "?")
            for data, grid in zip(packed, grids, strict=True)
        ]


class SampleSpill:
    """Samples collected by a writer, to be read back in any order.

    Args:
        folder: where temporary files are made.
        columns: user columns.
        keyed: whether samples have keys.
    """

    def __init__(self, folder: Path, columns: Sequence[Column], *, keyed: bool) -> None:
        self._folder = folder
        self.columns = tuple(columns)
        self.fields: dict[str, FieldSpill] = {}
        self._numbers = {
            c.name: array("q" if c.type == "int64" else "d") for c in columns if c.numeric
        }
        self._texts = {c.name: ByteSpill(folder) for c in columns if not c.numeric}
        self._keys = ByteSpill(folder) if keyed else None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of field values so far."""
        return sum(spill.values.nbytes for spill in self.fields.values())

    def add_field(self, name: str, dtype: str, dimensions: int, *, masked: bool) -> None:
        """Declare a field before the first sample."""
        self.fields[name] = FieldSpill(
            np.dtype(dtype).newbyteorder("<"),
            dimensions,
            ByteSpill(self._folder),
            ByteSpill(self._folder) if masked else None,
        )

    def append_values(
        self,
        name: str,
        values: NDArray[Any],
        settings: Sequence[int],
        packed_nbytes: Sequence[int],
        masks: Sequence[bytes] | None = None,
    ) -> None:
        """Add the values of one field of some samples of equal shape: (n, *shape)."""
        spill = self.fields[name]
        if len(values):
            spill.values.extend(
                np.ascontiguousarray(values).reshape(-1).view("u1").data, len(values)
            )
        spill.shapes.extend(list(values.shape[1:]) * len(values))
        spill.settings.extend(settings)
        spill.packed_nbytes.extend(packed_nbytes)
        if spill.masks is not None:
            for mask in masks if masks is not None else [b""] * len(values):
                spill.masks.append(mask)

    def append_columns(
        self, columns: Mapping[str, Sequence[Any]], keys: Sequence[str] | None, count: int
    ) -> None:
        """Add columns and keys of some samples, after the values of their fields."""
        for name, numbers in self._numbers.items():
            numbers.extend(columns[name])
        for name, texts in self._texts.items():
            for value in columns[name]:
                texts.append(value.encode("utf-8") if isinstance(value, str) else value)
        if self._keys is not None:
            for key in keys or ():
                self._keys.append(key.encode("utf-8"))
        self._count += count

    def copy_to(self, other: SampleSpill, numbers: NDArray[np.int64]) -> None:
        """Append some samples to another spill with the same fields and columns."""
        for name, spill in self.fields.items():
            octets = spill.values.read(numbers)
            masks = spill.masks.read(numbers) if spill.masks is not None else None
            shapes = spill.shape_table()[numbers].tolist()
            for row, number in enumerate(numbers.tolist()):
                other.append_values(
                    name,
                    np.frombuffer(octets[row], spill.dtype).reshape(1, *shapes[row]),
                    [spill.settings[number]],
                    [spill.packed_nbytes[number]],
                    None if masks is None else [masks[row]],
                )
        columns = {name: list(values) for name, values in self.take_columns(numbers).items()}
        other.append_columns(columns, self.take_keys(numbers), len(numbers))

    def value_counts(self) -> NDArray[np.int64]:
        """Return how many values each sample has over all fields, int64, shape (n,)."""
        total = np.zeros(len(self), "i8")
        for spill in self.fields.values():
            total += spill.value_counts()
        return total

    def packed_nbytes(
        self, bit_widths: Mapping[str, NDArray[np.uint8]] | None = None
    ) -> NDArray[np.int64]:
        """Return the bytes of all codes of each sample, int64, shape (n,).

        Args:
            bit_widths: of the samples, where they are not as given, by name of the field.
        """
        total = np.zeros(len(self), "i8")
        for name, spill in self.fields.items():
            if bit_widths and name in bit_widths:
                total += (spill.value_counts() * bit_widths[name] + 7) // 8
            else:
                total += np.frombuffer(spill.packed_nbytes, "i8")
        return total

    def take(
        self,
        numbers: NDArray[np.int64],
        patches: Mapping[str, int | None],
        raw: Mapping[str, bool],
        settings: Mapping[str, NDArray[np.uint8]] | None = None,
    ) -> ChunkInput:
        """Return some samples, ready to be encoded.

        Args:
            numbers: of the samples.
            patches: side of the patches of masks, by name of the field.
            raw: whether a field has no setting, likewise.
            settings: of all samples, where they are not as given, likewise.
        """
        fields = {}
        for name, spill in self.fields.items():
            own = None if raw[name] else np.frombuffer(spill.settings, "u1")
            own = (settings or {}).get(name, own)
            fields[name] = spill.take(numbers, patches[name], own)
        return ChunkInput(len(numbers), fields, self.take_columns(numbers))

    def take_columns(self, numbers: NDArray[np.int64]) -> dict[str, Values]:
        """Return the columns of some samples."""
        taken: dict[str, Values] = {}
        for column in self.columns:
            if column.numeric:
                values = self._numbers[column.name]
                source = np.frombuffer(values, "i8" if values.typecode == "q" else "f8")
                taken[column.name] = source[numbers].astype(column.type)
            else:
                octets = self._texts[column.name].read(numbers)
                is_text = column.type == "utf8"
                taken[column.name] = [o.decode("utf-8") for o in octets] if is_text else octets
        return taken

    def take_keys(self, numbers: NDArray[np.int64]) -> list[str] | None:
        """Return the keys of some samples, or None if they have none."""
        if self._keys is None:
            return None
        return [octets.decode("utf-8") for octets in self._keys.read(numbers)]

    def close(self) -> None:
        """Drop the temporary files."""
        for spill in self.fields.values():
            spill.values.close()
            if spill.masks is not None:
                spill.masks.close()
        for texts in self._texts.values():
            texts.close()
        if self._keys is not None:
            self._keys.close()
