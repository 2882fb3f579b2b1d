"""`condense`: from a source and a recipe to a dataset and a report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsqformat.commands.progress import OnProgress
from dsqformat.recipes.publishing import publish, spare_nbytes
from dsqformat.recipes.recipe import Recipe
from dsqformat.recipes.report import write_report
from dsqformat.recipes.runner import OnNote, Run
from dsqformat.recipes.shipped import load_recipe
from dsqformat.recipes.staging import Reading, stage_source
from dsqformat.recipes.work_directory import StageResult, WorkDirectory
from dsqformat.sources import Kind, PictureOptions, SourceOptions

if TYPE_CHECKING:
    from torch import nn


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
        recipe: a shipped name, a .toml, a dataset to be made again, or a Recipe.
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
        device: of torch; "auto" is CUDA where there is some.
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
    if device != "cpu":
        from dsqformat.condense.devices import chosen_device

        device = chosen_device(device)
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
        finite=chosen.quantize.quantizer != "raw",
    )
    with (
        WorkDirectory(folder) as directory,
        closing(stage_source(directory, reading, progress)) as staged,
    ):
        run = Run(
            recipe=chosen,
            work=directory,
            staged=staged,
            reading=reading.provenance(),
            device=device,
            network=network,
            progress=progress,
            note=note,
            spare_nbytes=spare_nbytes(target, ref),
            stages=[staged.result],
        )
        written = publish(run, target, ref, replace_existing=replace_existing)
        found = write_report(run, written, target, ref) if report else None
        return CondenseOutcome(
            recipe=chosen,
            dest=target,
            snapshot_id=written.snapshot_id,
            source_count=len(staged),
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
