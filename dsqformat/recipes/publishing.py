"""Publishes what a run has made: never over another dataset unasked, and nothing twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dsqformat._version import __version__
from dsqformat.commands.sizes import measure_snapshot
from dsqformat.dataset import LocalStore, open_dataset
from dsqformat.dataset.refs import encode_refs
from dsqformat.errors import DatasetError, TargetError
from dsqformat.recipes.planning import identity_of, plan_of
from dsqformat.recipes.runner import Run
from dsqformat.recipes.stages import writing

# A snapshot that replaces another names it.
_PARENT_NBYTES: Final = 96


@dataclass(frozen=True)
class Written:
    """A published snapshot.

    Attributes:
        snapshot_id: its id.
        sample_count: samples with a payload.
        total_nbytes: every byte of it.
        sizes: bytes by what they are for.
        published: whether it was published now.
    """

    snapshot_id: str
    sample_count: int
    total_nbytes: int
    sizes: dict[str, int]
    published: bool


def publish(run: Run, target: Path, ref: str, *, replace_existing: bool) -> Written:
    """Carry out all stages, and write and publish what came of them.

    Args:
        run: the recipe and its source.
        target: the dataset directory.
        ref: name to publish under.
        replace_existing: publish over another dataset of this name.

    Raises:
        DatasetError: there is another dataset of this name, and it is not to be replaced.
        TargetError: the budget cannot be met.
    """
    exists = ref in _refs(target)
    other = DatasetError(
        f"{target}: holds another dataset (ref {ref!r}) already; choose another folder, "
        "or say --replace"
    )
    if exists and not replace_existing and not _of_recipe(target, ref, run):
        # Told before anything takes long.
        raise other
    plan = plan_of(run)
    published = not (exists and _holds(target, ref, plan))
    if published:
        if exists and not replace_existing:
            raise other
        writing.write(
            target,
            run.staged,
            plan,
            run.recipe.quantize,
            mode="replace" if exists else "create",
            ref=ref,
            progress=run.progress,
        )
    with open_dataset(target, ref=ref) as dataset:
        sizes = measure_snapshot(dataset)
        written = Written(
            dataset.snapshot.id, len(dataset), sizes.total, sizes.to_json(), published
        )
    _check_budget(run, written)
    return written


def _refs(target: Path) -> dict[str, str]:
    return dict(LocalStore(target).refs()) if target.is_dir() else {}


def spare_nbytes(target: Path, ref: str) -> int:
    """Return the bytes that other refs, a longer name and a parent take."""
    refs = _refs(target)
    new = encode_refs({"main": "0" * 64})
    more = len(encode_refs(refs | {ref: "0" * 64})) - len(new)
    return more + (_PARENT_NBYTES if ref in refs else 0)


def _of_recipe(target: Path, ref: str, run: Run) -> bool:
    """Tell whether a dataset was made by this recipe of this source."""
    with open_dataset(target, ref=ref) as dataset:
        said = dataset.snapshot.provenance.get("condense")
    return isinstance(said, dict) and all(
        said.get(name) == value for name, value in identity_of(run).items()
    )


def _holds(target: Path, ref: str, plan: writing.Plan) -> bool:
    """Tell whether a dataset was made by this very plan."""
    with open_dataset(target, ref=ref) as dataset:
        found = dict(dataset.snapshot.provenance)
    return found == {**plan.provenance, "writer": f"dsqformat {__version__}"}


def _check_budget(run: Run, written: Written) -> None:
    budget = run.allocated.facts.get("budget_nbytes")
    if budget is not None and written.total_nbytes > budget:
        raise TargetError(
            f"budget of {budget} bytes: the dataset has {written.total_nbytes}; "
            "choose an empty folder, or a smaller budget"
        )
