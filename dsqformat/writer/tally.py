"""What a writer counts of the chunks it has encoded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from dsqformat.quantize.patch import StorageRow, storage_rows
from dsqformat.schema import Schema
from dsqformat.writer.encoding import CodedChunk


@dataclass(frozen=True)
class PatchStorage:
    """What a field of quantizer patch takes by the formula of the paper, all chunks together.

    Attributes:
        value_count: values.
        patch_count: patches.
        bit_width: of the codes.
        group_count: groups of patches.
    """

    value_count: int
    patch_count: int
    bit_width: int
    group_count: int

    def rows(self, sample_count: int) -> list[StorageRow]:
        """Return the formula as a table: codes, group ids, groups, and what to compare with."""
        return storage_rows(
            values=self.value_count,
            patches=self.patch_count,
            samples=max(1, sample_count),
            bits=self.bit_width,
            group_count=self.group_count,
        )


@dataclass
class Tally:
    """Sums over chunks.

    Attributes:
        sample_count: samples.
        packed_nbytes: all codes at their bit widths.
        settings: how many samples have which setting, by NAME.qp or NAME.bit_width.
        squared_error: of the values that were measured, from 0 to 255.
        value_count: how many those are.
        patches: values and patches by name of the fields of quantizer patch.
    """

    sample_count: int = 0
    packed_nbytes: int = 0
    settings: dict[str, Counter[int]] = field(default_factory=dict)
    squared_error: float = 0.0
    value_count: int = 0
    patches: dict[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, schema: Schema, coded: CodedChunk) -> Tally:
        """Count one chunk."""
        patches = {}
        for name, shape in coded.shapes.items():
            side = schema.field(name).patch or 1
            count = np.prod(-(-shape[:, :2] // side), axis=1, dtype="i8")
            values = np.prod(shape, axis=1, dtype="i8")
            patches[name] = (int(values.sum()), int(count[values > 0].sum()))
        return cls(
            sample_count=coded.encoded.sample_count,
            packed_nbytes=int(coded.encoded.packed_nbytes.sum()),
            settings={
                name: Counter(values.tolist()) for name, values in coded.encoded.settings.items()
            },
            squared_error=coded.squared_error,
            value_count=coded.value_count,
            patches=patches,
        )

    def add(self, other: Tally) -> None:
        """Add the sums of other chunks."""
        self.sample_count += other.sample_count
        self.packed_nbytes += other.packed_nbytes
        for name, counts in other.settings.items():
            self.settings.setdefault(name, Counter()).update(counts)
        self.squared_error += other.squared_error
        self.value_count += other.value_count
        for name, (values, patches) in other.patches.items():
            before = self.patches.get(name, (0, 0))
            self.patches[name] = (before[0] + values, before[1] + patches)
