"""What goes into a chunk, and what comes out when it is encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.columns import Values

Coding = Literal["auto", "packed", "zstd", "rans"]
Grouping = Literal["distortion", "min_max", "compat"]
Effort = Literal["default", "high"]

DEFAULT_ZSTD_LEVEL: Final = 12
DEFAULT_GROUP_COUNT: Final = 64


@dataclass(frozen=True)
class FieldInput:
    """Values of one field of the n samples of a chunk.

    Attributes:
        values: array (n, *shape), or a list of n arrays where shapes differ.
        setting: uint8, shape (n,), bit widths (for `block`: qps) as asked for; None for `raw`.
        masks: n boolean patch grids (True: kept), or None.
    """

    values: NDArray[Any] | list[NDArray[Any]]
    setting: NDArray[np.uint8] | None = None
    masks: Sequence[NDArray[np.bool_]] | None = None

    def uniform(self) -> NDArray[Any] | None:
        """Return the values as one array if all samples have one shape and are whole."""
        return self.values if isinstance(self.values, np.ndarray) and not self.masks else None

    def shapes(self, dimensions: int) -> NDArray[np.int64]:
        """Return the dimensions of each sample, int64, shape (n, dimensions)."""
        shape = np.empty((len(self.values), dimensions), "i8")
        if isinstance(self.values, np.ndarray):
            shape[:] = self.values.shape[1:]
        else:
            shape[:] = [array.shape for array in self.values]
        return shape


@dataclass(frozen=True)
class ChunkInput:
    """The samples of a chunk: fields and columns by name."""

    sample_count: int
    fields: Mapping[str, FieldInput]
    columns: Mapping[str, Values]


@dataclass(frozen=True)
class FieldTuning:
    """How the encoder looks for the best codes; nothing of it is stored.

    Attributes:
        group_count: groups of patches, for quantizer patch.
        grouping: how patches are put into groups: by "distortion", by "min_max" alone, or
            "compat" as the paper has it.
        effort: of quantizer block; "high" tries more sizes of blocks on small pictures.
    """

    group_count: int = DEFAULT_GROUP_COUNT
    grouping: Grouping = "distortion"
    effort: Effort = "default"


@dataclass(frozen=True)
class CodingOptions:
    """How segments are coded.

    Attributes:
        coding: "auto" keeps the smallest, a slower one only where it saves 2 %; another one is
            used wherever it can be.
        zstd_level: 1 to 22.
        tuning: of the fields that do not want the default, by name.
    """

    coding: Coding = "auto"
    zstd_level: int = DEFAULT_ZSTD_LEVEL
    tuning: Mapping[str, FieldTuning] = field(default_factory=dict)

    def tuning_of(self, name: str) -> FieldTuning:
        """Return the tuning of a field."""
        return self.tuning.get(name, FieldTuning())


@dataclass(frozen=True)
class EncodedChunk:
    """The bytes of a chunk and what the chunk table keeps of it.

    Attributes:
        sample_count: samples n.
        segments: index segment, then layer segments in the order of the schema.
        zone: uint64 bit patterns, shape (zone columns, 2).
        settings: "NAME.bit_width" or "NAME.qp" of each quantized field, uint8, shape (n,), as
            stored.
        packed_nbytes: int64, shape (n,), bytes of all codes of each sample.
    """

    sample_count: int
    segments: list[bytes]
    zone: NDArray[np.uint64]
    settings: dict[str, NDArray[np.uint8]]
    packed_nbytes: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        """Bytes of all segments."""
        return sum(map(len, self.segments))
