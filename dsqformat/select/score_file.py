"""One file of scores: columns by name, how many samples, and where they come from.

An uncompressed .npz without pickles: any NumPy reads it. The same scores make the same bytes.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SelectionError, SourceError

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_COLUMN: Final = "columns/"
_COUNT: Final = "sample_count"
_PROVENANCE: Final = "provenance"
_MAX_JSON_NBYTES: Final = 1 << 20
_UNREADABLE: Final = (  # what zipfile and NumPy raise for bytes that they did not write
    OSError, zipfile.BadZipFile, struct.error, EOFError, KeyError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
# What zip files say of when a member was written: the earliest there is, always.
_WRITTEN: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class ScoreTable:
    """Scores of all samples of a dataset, in its order.

    Attributes:
        sample_count: n.
        columns: by name, float64, shape (n,), finite.
        provenance: how they were made, what JSON can hold.
    """

    sample_count: int
    columns: Mapping[str, NDArray[np.float64]]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in self.columns.items():
            if not _NAME.fullmatch(name):
                raise SelectionError(
                    f"scores: got the name {name!r}, expected small letters, digits, _ . -"
                )
            if values.shape != (self.sample_count,) or values.dtype != np.dtype("f8"):
                raise SelectionError(
                    f"scores {name!r}: got {values.dtype} of shape {values.shape}, expected "
                    f"float64 of ({self.sample_count},)"
                )
            if not np.isfinite(values).all():
                wrong = int((~np.isfinite(values)).argmax())
                raise SelectionError(f"scores {name!r}: that of sample {wrong} is NaN or infinite")

    def column(self, name: str) -> NDArray[np.float64]:
        """Return the scores of one name.

        Raises:
            SelectionError: there are none.
        """
        if name not in self.columns:
            known = ", ".join(sorted(self.columns)) or "none"
            raise SelectionError(f"scores: there are none named {name!r}; there are {known}")
        return self.columns[name]


def write_scores(path: str | Path, table: ScoreTable) -> None:
    """Write a file of scores, or replace it as a whole.

    Args:
        path: of the .npz.
        table: what it shall hold.

    Raises:
        SelectionError: the provenance is not JSON.
    """
    try:
        text = json.dumps(dict(table.provenance), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SelectionError(f"provenance: {error}; expected what JSON can hold") from error
    octets = text.encode()
    if len(octets) > _MAX_JSON_NBYTES:
        raise SelectionError(f"provenance: {len(octets)} bytes are above {_MAX_JSON_NBYTES}")
    members: dict[str, NDArray[Any]] = {
        _COUNT: np.array(table.sample_count, "<i8"),
        _PROVENANCE: np.frombuffer(octets, "u1"),
    }
    for name in sorted(table.columns):
        members[_COLUMN + name] = np.ascontiguousarray(table.columns[name], "<f8")
    target = Path(path)
    part = target.with_name(f"{target.name}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name, values in members.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _WRITTEN), "w", force_zip64=True) as f:
                np.lib.format.write_array(f, values, allow_pickle=False)
    part.replace(target)


def read_scores(path: str | Path) -> ScoreTable:
    """Read a file of scores.

    Args:
        path: of the .npz.

    Raises:
        SourceError: it is no such file.
    """
    where = str(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, where)
        count = int(members.pop(_COUNT))
        provenance = json.loads(members.pop(_PROVENANCE).tobytes())
        if not isinstance(provenance, dict):
            raise SourceError(f"{where}: its provenance is no JSON object; write it again")
        columns = {name.removeprefix(_COLUMN): members[name].astype("f8") for name in members}
        return ScoreTable(count, columns, provenance)
    except SelectionError as error:
        raise SourceError(f"{where}: {error}") from error
    except _UNREADABLE as error:
        raise SourceError(f"{where}: not a readable file of scores: {error}") from error


def _members(archive: zipfile.ZipFile, where: str) -> dict[str, NDArray[Any]]:
    """Return all arrays; none is larger than its part of the file."""
    members = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        kind, ndim = ("<f8", 1) if name.startswith(_COLUMN) else ("|u1", 1)
        if name == _COUNT:
            kind, ndim = "<i8", 0
        elif name != _PROVENANCE and not name.startswith(_COLUMN):
            raise SourceError(f"{where}: holds {info.filename!r}, which no file of scores does")
        if info.compress_type != zipfile.ZIP_STORED:
            raise SourceError(f"{where}: {info.filename!r} is compressed; write it uncompressed")
        stream = io.BytesIO(archive.read(info))
        if np.lib.format.read_magic(stream) != (1, 0):
            raise SourceError(f"{where}: {info.filename!r} is of another version of .npy")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        if dtype.str != kind or len(shape) != ndim or (fortran and ndim > 1):
            raise SourceError(
                f"{where}: {info.filename!r} is {dtype.str} of shape {shape}, expected {kind}"
            )
        octets = stream.read()
        values: NDArray[Any] = np.frombuffer(octets, dtype)
        if values.size != (shape[0] if ndim else 1):
            raise SourceError(f"{where}: {info.filename!r} is cut short or too long")
        members[name] = values.reshape(shape)
    return members
