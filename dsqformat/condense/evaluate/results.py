"""What was measured, in one JSON file that grows by a run at a time and outlasts interruptions."""

from __future__ import annotations

import json
import math
import os
import statistics
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from dsqformat.canonical import canonical_json
from dsqformat.errors import SourceError
from dsqformat.wire import sha256_hex

_FORMAT: Final = "dsq-evaluate"
_VERSION: Final = 1


@dataclass(frozen=True)
class Run:
    """One training of one row.

    Attributes:
        key: hash of all that the outcome depends on but the seed.
        seed: of the run.
        label: of the row when it was measured.
        kind: of the row.
        setting: of the row, where it was found out while it was made.
        sample_count: pictures trained on.
        fetched_nbytes: bytes that a training client fetches of them.
        stored_nbytes: every byte that is kept of them.
        right: test pictures classified right.
        test_count: test pictures.
        last_loss: of the last batch.
        train_s: seconds by the clock, testing left out.
        cpu_s: seconds of CPU time, likewise.
        schedule: of the training, as JSON.
        torch: version that trained.
    """

    key: str
    seed: int
    label: str
    kind: str
    setting: str
    sample_count: int
    fetched_nbytes: int
    stored_nbytes: int
    right: int
    test_count: int
    last_loss: float
    train_s: float
    cpu_s: float
    schedule: dict[str, Any]
    torch: str

    @property
    def accuracy(self) -> float:
        """Share of test pictures classified right."""
        return self.right / self.test_count


@dataclass(frozen=True)
class RowResult:
    """The runs of a row.

    Attributes:
        label: of the row.
        kind: of the row.
        runs: by seed, at least one.
        of_count: pictures of the largest row, which all bytes are divided by.
    """

    label: str
    kind: str
    runs: tuple[Run, ...]
    of_count: int

    @property
    def accuracy(self) -> float:
        """Mean over the seeds, 0 to 1."""
        return statistics.fmean(run.accuracy for run in self.runs)

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds (n - 1); NaN of a single one."""
        if len(self.runs) < 2:
            return math.nan
        return statistics.stdev(run.accuracy for run in self.runs)

    @property
    def sample_count(self) -> int:
        """Pictures trained on."""
        return self.runs[0].sample_count

    @property
    def fetched_nbytes(self) -> float:
        """Bytes that a training client fetches, on average over the seeds."""
        return statistics.fmean(run.fetched_nbytes for run in self.runs)

    @property
    def stored_nbytes(self) -> float:
        """Every byte that is kept, on average over the seeds."""
        return statistics.fmean(run.stored_nbytes for run in self.runs)

    @property
    def nbytes_per_sample(self) -> float:
        """Bytes fetched for each picture of the largest row: leaving pictures out saves too."""
        return self.fetched_nbytes / self.of_count

    @property
    def setting(self) -> str:
        """How the pictures were made, where that was found out."""
        return self.runs[0].setting


def run_key(identity: dict[str, Any], schedule: dict[str, Any], test: str) -> str:
    """Return the hash under which the runs of a row are kept.

    Args:
        identity: what pictures and bytes of the row depend on.
        schedule: of the training, with everything it depends on.
        test: digest of the test set.
    """
    parts = {"row": identity, "schedule": schedule, "test": test}
    # Numbers as text: canonical JSON knows whole ones only.
    return sha256_hex(canonical_json(json.loads(json.dumps(parts), parse_float=str)))


class ResultFile:
    """Runs by key and seed, kept in a file or, without one, in memory alone.

    Args:
        path: of the file, which may not exist yet; None: keep nothing.

    Raises:
        SourceError: the file is something else.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._runs = {} if path is None else _read(path)

    def find(self, key: str, seed: int) -> Run | None:
        """Return a run that was measured before."""
        return self._runs.get((key, seed))

    def add(self, run: Run) -> None:
        """Keep a run; the file is replaced as a whole, so that it is complete at any time."""
        self._runs[run.key, run.seed] = run
        if self._path is None:
            return
        # Another process may have added to it meanwhile.
        self._runs = _read(self._path) | self._runs
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "runs": [asdict(run) for run in self._runs.values()],
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
        try:
            part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
            os.replace(part, self._path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _read(path: Path) -> dict[tuple[str, int], Run]:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise _no_results(path) from error
    try:
        content = json.loads(text)
        if (content["format"], content["version"]) != (_FORMAT, _VERSION):
            raise _no_results(path)
        names = [field.name for field in fields(Run)]
        runs = [Run(**{name: entry[name] for name in names}) for entry in content["runs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise _no_results(path) from error
    return {(run.key, run.seed): run for run in runs}


def _no_results(path: Path) -> SourceError:
    return SourceError(
        f"{path}: not results of this version of dsq evaluate; name another file (--results)"
    )
