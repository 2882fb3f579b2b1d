"""`condense`: from a source and a recipe to a dataset and a report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dsqformat._version import __version__
from dsqformat.commands.progress import OnProgress
from dsqformat.commands.sizes import measure_snapshot
from dsqformat.dataset import LocalStore, open_dataset
from dsqformat.dataset.refs import encode_refs
from dsqformat.errors import DatasetError, TargetError
from dsqformat.recipes.option_values import json_ready
from dsqformat.recipes.planning import identity_of, plan_of
from dsqformat.recipes.recipe import Recipe
from dsqformat.recipes.runner import OnNote, Run
from dsqformat.recipes.shipped import load_recipe
from dsqformat.recipes.stages import writing
from dsqformat.recipes.staging import Reading, stage_source
from dsqformat.recipes.work_directory import StageResult, WorkDirectory
from dsqformat.sources import Kind, PictureOptions, SourceOptions

if TYPE_CHECKING:
    from torch import nn

# A snapshot that replaces another names it.
_PARENT_NBYTES: Final = 96


@dataclass(frozen=True)
class CondenseOutcome:
    """What came of a recipe.

    Attributes:
        recipe: that was carried out.
        dest: the dataset.
        snapshot_id: of the snapshot published.
        source_count: samples of the source.
        kept_count: samples that the selection kept.
        sample_count: samples with a payload.
        dropped_count: kept samples of 0 bits.
        total_nbytes: every byte of the snapshot.
        stages: in order, carried out now or found.
        published: False where DEST held this very snapshot already.
        work: the work directory.
        work_nbytes: its bytes.
        report: what report.json holds; None where no report was asked for.
        report_json: path of it.
        report_html: path of the page.
        elapsed_s: seconds all took.
        notes: what was told on the way.
    """

    recipe: Recipe
    dest: Path
    snapshot_id: str
    source_count: int
    kept_count: int
    sample_count: int
    dropped_count: int
    total_nbytes: int
    stages: tuple[StageResult, ...]
    published: bool
    work: Path
    work_nbytes: int
    report: dict[str, Any] | None
    report_json: Path | None
    report_html: Path | None
    elapsed_s: float
    notes: tuple[str, ...]


def condense(
    source: str | Path,
    dest: str | Path,
    recipe: str | Path | Recipe,
    *,
    settings: Sequence[str] = (),
    work: str | Path | None = None,
    kind: Kind | None = None,
    pictures: PictureOptions | None = None,
    split: str | None = None,
    label: str | None = None,
    drop: Sequence[str] = (),
    limit: int | None = None,
    seed: int | None = None,
    skip_bad: bool = False,
    device: str = "cpu",
    network: nn.Module | None = None,
    replace_existing: bool = False,
    ref: str = "main",
    report: bool = True,
    on_progress: OnProgress | None = None,
    on_note: OnNote | None = None,
) -> CondenseOutcome:
    """Condense a source by a recipe.

    Args:
        source: what `dsq pack` reads, or a .pt of distilled pictures.
        dest: the dataset directory.
        recipe: a shipped name, a .toml, or a Recipe.
        settings: "stage.option=value" over a name or file.
        work: where results of stages are kept; None: DEST.work. A second run uses what is there.
        kind: of the source; None: find out.
        pictures: mode, size and crop.
        split: as for `SourceOptions`.
        label: likewise.
        drop: likewise.
        limit: at most so many samples, at random where the source allows it.
        seed: of everything; None: that of the recipe.
        skip_bad: skip and count samples that cannot be read.
        device: of torch.
        network: takes the place of train.network; stays as it is.
        replace_existing: publish over what DEST holds.
        ref: name to publish under.
        report: measure what came out, and write report.json and report.html.
        on_progress: called with stage, done and total.
        on_note: called with lines to be told at once.

    Raises:
        RecipeError: the recipe, or what it asks of this source, is impossible.
        SelectionError: the samples do not allow the selection.
        TargetError: the budget cannot be met.
        DatasetError: DEST holds another dataset and is not to be replaced.
        SourceError: the source cannot be read.
        ModelError: the network does not fit.
        ImportError: torch is needed and not installed.
    """
    started_s = time.monotonic()
    chosen = load_recipe(recipe, settings)
    if seed is not None:
        chosen = replace(chosen, seed=seed)
    notes: list[str] = []
    tell = on_note or (lambda _line: None)

    def note(line: str) -> None:
        notes.append(line)
        tell(line)

    progress = on_progress or (lambda _stage, _done, _total: None)
    target = Path(dest)
    folder = Path(work) if work is not None else target.with_name(f"{target.name}.work")
    reading = Reading(
        str(source),
        kind,
        SourceOptions(
            pictures=pictures or PictureOptions(),
            seed=None if limit is None else chosen.seed,
            limit=limit,
            split=split,
            label=label,
            drop=tuple(drop),
        ),
        skip_bad,
    )
    with WorkDirectory(folder) as directory:
        staged = stage_source(directory, reading, progress)
        try:
            run = Run(
                chosen, directory, staged, _said(reading), device, network, progress, note,
                _spare_nbytes(target, ref), [staged.result],
            )  # fmt: skip
            written = _publish(run, target, ref, replace_existing, progress)
            found = None
            if report:
                from dsqformat.recipes.report import write_report

                found = write_report(run, written, target, ref)
        finally:
            staged.close()
        return CondenseOutcome(
            recipe=chosen,
            dest=target,
            snapshot_id=written.snapshot_id,
            source_count=len(staged.dataset),
            kept_count=len(run.kept),
            sample_count=written.sample_count,
            dropped_count=len(run.kept) - written.sample_count,
            total_nbytes=written.total_nbytes,
            stages=tuple(run.stages),
            published=written.published,
            work=folder,
            work_nbytes=directory.nbytes(),
            report=found,
            report_json=folder / "report.json" if report else None,
            report_html=folder / "report.html" if report else None,
            elapsed_s=time.monotonic() - started_s,
            notes=tuple(notes),
        )


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


def _publish(
    run: Run, target: Path, ref: str, replace_existing: bool, progress: OnProgress
) -> Written:
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
            progress=progress,
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


def _spare_nbytes(target: Path, ref: str) -> int:
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


def _said(reading: Reading) -> dict[str, Any]:
    """Return how a source was read; no paths, no dates, so that it repeats."""
    options = reading.options
    said = {
        "crop": options.pictures.crop,
        "limit": options.limit,
        "mode": options.pictures.mode,
        "resize": options.pictures.resize,
        "seed": options.seed,
        "split": options.split,
    }
    return {name: json_ready(value) for name, value in said.items() if value is not None}
