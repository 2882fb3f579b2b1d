"""What is compared: datasets, sources, and baselines made of a source, each with its bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.evaluate.baselines import Baseline, Load, make_baseline
from dsqformat.condense.evaluate.labelled_pictures import (
    LabelledPictures,
    TaskFacts,
    TrainingData,
    check_same_task,
    facts_of,
)
from dsqformat.condense.evaluate.loading import (
    Reading,
    StoredSet,
    describe_dataset,
    is_dataset,
    load_dataset,
    load_pictures,
)
from dsqformat.errors import SourceError

_LABELLED: Final = re.compile(r"([^=/:]+)=(.+)", re.DOTALL)
_PREFIX: Final = re.compile(r"(.+)@([1-9][0-9]{0,2})", re.DOTALL)
DATASET: Final = "dataset"
SOURCE: Final = "uint8"


@dataclass(frozen=True)
class Row:
    """One thing to train on.

    Attributes:
        label: its name.
        kind: "dataset", "uint8", "webp" or "jpeg".
        sample_count: pictures to train on.
        identity: what its pictures and bytes depend on, as JSON can hold it.
        open: reads or makes what it needs, and returns what makes the pictures of a seed.
    """

    label: str
    kind: str
    sample_count: int
    identity: dict[str, Any]
    open: Callable[[], Load]


@dataclass(frozen=True)
class InputSpec:
    """An argument of the command line, taken apart.

    Attributes:
        label: name of the row.
        location: path or URL.
        layers: use only the first layers; None: all.
    """

    label: str
    location: str
    layers: int | None = None


def parse_input(text: str) -> InputSpec:
    """Take `[LABEL=]PATH[@N]` apart; what is the path of something there is all path."""
    label, location, layers = "", text, None
    if not Path(text).exists():
        if found := _LABELLED.fullmatch(text):
            label, location = found[1].strip(), found[2]
        if not Path(location).exists() and (found := _PREFIX.fullmatch(location)):
            location, layers = found[1], int(found[2])
    if not label:
        name = location.rstrip("/").removesuffix("/dataset.json").rpartition("/")[2] or location
        label = name if layers is None else f"{name}@{layers}"
    return InputSpec(label, location, layers)


class RowMaker:
    """Makes rows of what the command line names, and refuses what cannot be compared.

    Args:
        test: what all are tested on.
        reading: how locations are read.
        on_progress: called with stage, done, total.
    """

    def __init__(self, test: LabelledPictures, reading: Reading, on_progress: OnProgress) -> None:
        self._test = facts_of(test)
        self._reading = reading
        self._on_progress = on_progress
        # Each is read once, however many rows are made of it.
        self._source = cache(self._read_source)
        self._described = cache(self._describe)

    def inputs(self, specs: Sequence[InputSpec]) -> list[Row]:
        """Return the rows of datasets and sources.

        Raises:
            SourceError: pictures or classes do not fit the test set, or layers are asked for
                that are not there.
        """
        return [self._input(spec) for spec in specs]

    def baselines(
        self, wanted: Sequence[Baseline], location: str, specs: Sequence[InputSpec]
    ) -> list[Row]:
        """Return the rows of baselines.

        Args:
            wanted: what to make.
            location: of the source they are made of.
            specs: rows whose labels baselines may name to have their bytes.

        Raises:
            SourceError: as for `inputs`.
        """
        if not wanted:
            return []
        pictures, _, digest = self._source(location)
        rows = []
        for baseline in wanted:
            aim = None if baseline.like is None else self._nbytes_of(baseline.like, specs)
            made = make_baseline(baseline, pictures, aim, self._on_progress)
            identity = {"source": digest, "aim": aim} | made.identity
            rows.append(Row(baseline.label, baseline.kind, made.sample_count, identity, made.open))
        return rows

    def _input(self, spec: InputSpec) -> Row:
        if is_dataset(spec.location):
            return self._dataset(spec)
        if spec.layers is not None:
            raise SourceError(
                f"{spec.location}@{spec.layers}: only datasets have layers; leave out the "
                f"@{spec.layers}"
            )
        pictures, nbytes, digest = self._source(spec.location)
        data = TrainingData(pictures, pictures.pictures.nbytes, nbytes)
        identity = {"source": digest, "stored_nbytes": nbytes}
        return Row(spec.label, SOURCE, len(pictures), identity, lambda: lambda _seed: data)

    def _dataset(self, spec: InputSpec) -> Row:
        stored = self._described(spec.location, spec.layers)
        identity = {
            "snapshot": stored.snapshot,
            "layers": spec.layers,
            "limit": self._reading.limit,
            "fill": self._reading.fill,
            "fetched_nbytes": stored.fetched_nbytes,
        }
        opened = partial(self._open_dataset, spec, stored)
        return Row(spec.label, DATASET, stored.sample_count, identity, opened)

    def _open_dataset(self, spec: InputSpec, stored: StoredSet) -> Load:
        pictures = load_dataset(spec.location, spec.layers, self._reading, self._on_progress)
        data = TrainingData(pictures, stored.fetched_nbytes, stored.stored_nbytes)
        return lambda _seed: data

    def _read_source(self, location: str) -> tuple[LabelledPictures, int, str]:
        pictures, nbytes = load_pictures(location, self._reading, self._on_progress)
        self._check(facts_of(pictures))
        return pictures, nbytes, pictures.digest()

    def _describe(self, location: str, layers: int | None) -> StoredSet:
        stored = describe_dataset(location, layers, self._reading)
        self._check(stored.facts)
        return stored

    def _check(self, facts: TaskFacts) -> None:
        check_same_task(facts, self._test)

    def _nbytes_of(self, name: str, specs: Sequence[InputSpec]) -> int:
        """Return the bytes that a client fetches of a row, or of a path that is no row."""
        spec = next((spec for spec in specs if spec.label == name), None) or parse_input(name)
        if is_dataset(spec.location):
            return self._described(spec.location, spec.layers).fetched_nbytes
        return int(self._source(spec.location)[0].pictures.nbytes)
