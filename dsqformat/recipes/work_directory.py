"""Results of stages on disk, each under the digest of everything it was made from.

    WORK/stages/NAME-KEY/result.json    options, inputs, facts, and the digest of every file
    WORK/stages/NAME-KEY/*.npy, ...     the files

KEY is the SHA-256 of the canonical JSON of the name and version of the stage, its options and the
digests of what went in. A stage appears under its name when it is complete, so that a run that was
killed is continued by the next one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.canonical import canonical_json
from dsqformat.errors import DatasetError
from dsqformat.recipes.option_values import json_ready

try:
    import fcntl
except ImportError:  # not a POSIX system: runs must not share a work directory there
    fcntl = None  # type: ignore[assignment]

_RESULT: Final = "result.json"
_PART: Final = ".part-"
_KEY_DIGITS: Final = 24
_PIECE: Final = 1 << 20


@dataclass(frozen=True)
class Made:
    """What a stage returns, beside the files it wrote into its folder.

    Attributes:
        arrays: by name; each becomes NAME.npy.
        facts: what JSON can hold.
    """

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A stage to be carried out, unless its result is there.

    Attributes:
        name: of the stage.
        version: to be raised when its code gives other results.
        options: that matter to it, seed included.
        inputs: digests of what goes in, by name.
        make: carries it out; may write files into the folder it is given.
    """

    name: str
    version: int
    options: Mapping[str, Any]
    inputs: Mapping[str, str]
    make: Callable[[Path], Made]

    def identity(self) -> dict[str, Any]:
        """Return all that the result depends on, as canonical JSON can hold it."""
        return {
            "inputs": dict(self.inputs),
            "options": json_ready(self.options),
            "stage": self.name,
            "version": self.version,
        }

    def key(self) -> str:
        """Return the digest of its identity that names its folder."""
        return hashlib.sha256(canonical_json(self.identity())).hexdigest()[:_KEY_DIGITS]


@dataclass(frozen=True)
class StageResult:
    """A stage that has been carried out, now or before.

    Attributes:
        name: of the stage.
        version: of its code.
        inputs: digests of what went in, by name.
        digest: SHA-256 of its files and facts, hexadecimal: equal results have equal digests.
        facts: what it says of itself.
        folder: where its files are.
        elapsed_s: seconds it took when it was carried out.
        reused: whether it was there already.
    """

    name: str
    version: int
    inputs: Mapping[str, str]
    digest: str
    facts: Mapping[str, Any]
    folder: Path
    elapsed_s: float
    reused: bool

    def has(self, name: str) -> bool:
        """Tell whether there is an array of this name."""
        return (self.folder / f"{name}.npy").is_file()

    def array(self, name: str) -> NDArray[Any]:
        """Return an array as a read-only memory map."""
        array: NDArray[Any] = np.load(
            self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False
        )
        return array

    def provenance(self) -> dict[str, Any]:
        """Return what a snapshot keeps of the stage."""
        return {"digest": self.digest, "stage": self.name, "version": self.version}


class WorkDirectory:
    """A folder of stages, for one run at a time.

    Args:
        path: made if need be.

    Raises:
        DatasetError: another run is at work in it.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stages = path / "stages"
        self._stages.mkdir(parents=True, exist_ok=True)
        self._lock = (path / ".lock").open("ab")
        if fcntl is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self._lock.close()
                raise DatasetError(
                    f"{path}: another run is at work here; wait for it, or choose another --work"
                ) from error
        for left in self._stages.glob(f"{_PART}*"):
            shutil.rmtree(left, ignore_errors=True)

    def __enter__(self) -> WorkDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other runs in."""
        self._lock.close()

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a folder that is removed afterwards."""
        folder = Path(tempfile.mkdtemp(prefix=_PART, dir=self._stages))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def nbytes(self) -> int:
        """Return the bytes of all files."""
        return sum(entry.stat().st_size for entry in self.path.rglob("*") if entry.is_file())

    def result(self, stage: Stage) -> StageResult:
        """Return the result of a stage, carrying it out if it is not there."""
        target = self._stages / f"{stage.name}-{stage.key()}"
        found = _read(target)
        reused = found is not None
        if found is None:
            found = self._carry_out(stage, target)
        return StageResult(
            name=stage.name,
            version=stage.version,
            inputs=dict(stage.inputs),
            digest=found["digest"],
            facts=found["facts"],
            folder=target,
            elapsed_s=found["elapsed_s"],
            reused=reused,
        )

    def _carry_out(self, stage: Stage, target: Path) -> dict[str, Any]:
        """Carry out a stage and keep its result; return what its folder says of it."""
        shutil.rmtree(target, ignore_errors=True)
        with self.scratch() as folder:
            started_s = time.monotonic()
            made = stage.make(folder)
            for name, array in made.arrays.items():
                np.save(folder / f"{name}.npy", array, allow_pickle=False)
            facts = json.loads(json.dumps(dict(made.facts), allow_nan=False))
            files = _digests(folder)
            digest = hashlib.sha256(canonical_json({"facts": json_ready(facts), "files": files}))
            result = {
                **stage.identity(),
                "digest": digest.hexdigest(),
                "elapsed_s": time.monotonic() - started_s,
                "facts": facts,
                "files": files,
            }
            (folder / _RESULT).write_text(json.dumps(result, indent=1, sort_keys=True), "utf-8")
            os.replace(folder, target)
        return result


def _read(folder: Path) -> dict[str, Any] | None:
    """Return what a folder says of its stage; None if it is not whole."""
    try:
        result = json.loads((folder / _RESULT).read_text("utf-8"))
        whole = all((folder / name).is_file() for name in result["files"])
        needed = {"digest", "facts", "elapsed_s"} <= result.keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return result if whole and needed else None


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file, by its path in the folder; locks are left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            found[path.relative_to(folder).as_posix()] = file_digest(path)
    return found


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
