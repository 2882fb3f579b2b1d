"""DSQ as a user has it: written by DatasetWriter into a folder, every byte counted, read back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk.inputs import Coding
from dsqformat.dataset import open_dataset
from dsqformat.writer import DatasetWriter, FieldSpec

FIELD = "image"
# As strong as zstd is in common use: entropy coding is held against this.
ZSTD_LEVEL = 19


@dataclass(frozen=True)
class DsqSetting:
    """One way to pack a dataset.

    Attributes:
        codec: name of the row.
        setting: within the row, such as "qp 103".
        level: the number in it.
        spec: how the pictures are stored.
        coding: of the codes.
        layers: that the pictures have.
        qps: one for each sample instead of that of `spec`, or None.
    """

    codec: str
    setting: str
    level: float
    spec: FieldSpec
    coding: Coding
    layers: int
    qps: tuple[int, ...] | None = None


@dataclass(frozen=True)
class PackedDataset:
    """A dataset on disk.

    Attributes:
        path: its folder.
        sample_count: pictures.
        nbytes: all files of the folder together.
        layer_nbytes: of these, the segments of each layer.
        cpu_s: CPU time of packing.
    """

    path: Path
    sample_count: int
    nbytes: int
    layer_nbytes: tuple[int, ...]
    cpu_s: float

    def prefix_nbytes(self, layers: int) -> float:
        """Return bytes per sample of all but the segments of later layers."""
        return (self.nbytes - sum(self.layer_nbytes[layers:])) / self.sample_count


def pack(
    pictures: NDArray[np.uint8], setting: DsqSetting, folder: Path, **options: Any
) -> PackedDataset:
    """Write pictures as a dataset without keys, columns or query table.

    Args:
        pictures: uint8, shape (n, height, width, 3), in random order already.
        setting: how.
        folder: where; must not exist.
        options: of DatasetWriter.
    """
    start = time.process_time()
    # The order is kept so that what comes back can be compared; it is random beforehand.
    with DatasetWriter(
        folder,
        fields={FIELD: setting.spec},
        coding=setting.coding,
        zstd_level=ZSTD_LEVEL,
        shuffle=False,
        table=False,
        **options,
    ) as writer:
        writer.write_batch({FIELD: pictures}, qp=setting.qps)
    cpu_s = time.process_time() - start
    nbytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return PackedDataset(folder, len(pictures), nbytes, writer.report.layer_nbytes, cpu_s)


@contextmanager
def packed(
    pictures: NDArray[np.uint8], setting: DsqSetting, **options: Any
) -> Iterator[PackedDataset]:
    """Pack into a temporary folder that is removed afterwards."""
    with TemporaryDirectory(prefix="dsq-bench-") as folder:
        yield pack(pictures, setting, Path(folder, "dataset"), **options)


def read(path: Path, layers: int | None = None) -> NDArray[np.uint8]:
    """Return all pictures of a dataset, opened anew, from its first layers or all."""
    with open_dataset(path) as dataset:
        pictures: NDArray[np.uint8] = dataset.to_numpy([FIELD], layers=layers)[FIELD]
    return pictures
