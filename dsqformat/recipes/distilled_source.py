"""A .pt of distilled pictures as a source, beside those that `dsq pack` reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from dsqformat.errors import SourceError
from dsqformat.schema import Column
from dsqformat.sources import FieldFacts, SourceFacts, SourceOptions, SourceSample
from dsqformat.sources.sample_source import LABEL_COLUMN, PICTURE_FIELD, BadSample

DISTILLED: Final = (".pt", ".pth")


class DistilledSource:
    """Tensors of a distilled set: float32 pictures, which need not be in [0, 1].

    Args:
        path: .pt or .pth; read as data, never run.
        options: limit and order.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        from dsqformat.condense.distilled_sets import load_distilled

        self._set = load_distilled(path)
        count = len(self._set.pictures)
        if not count:
            raise SourceError(f"{path}: no pictures")
        self._order = np.arange(count)[: options.limit]
        labels = self._set.labels
        self.facts = SourceFacts(
            kind="npz",
            location=str(path),
            sample_count=len(self._order),
            fields={PICTURE_FIELD: FieldFacts("float32", self._set.pictures.shape[1:], False)},
            columns=() if labels is None else (Column(LABEL_COLUMN, "int64"),),
            keyed=False,
            source_nbytes=path.stat().st_size,
            shuffled=False,
        )

    def samples(self, on_bad: BadSample) -> Iterator[SourceSample]:
        """Yield the pictures in their order."""
        for number in self._order.tolist():
            values: dict[str, Any] = {PICTURE_FIELD: self._set.pictures[number]}
            if self._set.labels is not None:
                values[LABEL_COLUMN] = int(self._set.labels[number])
            yield SourceSample(None, values)

    def close(self) -> None:
        """Nothing is open."""
