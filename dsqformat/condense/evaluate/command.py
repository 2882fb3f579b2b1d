"""`dsq evaluate`: the same network from scratch on each dataset, accuracy beside bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from dsqformat.commands.options import usage_errors
from dsqformat.commands.progress import shown_progress
from dsqformat.commands.report import print_json, print_table
from dsqformat.condense.evaluate.baselines import Baseline, parse_baseline
from dsqformat.condense.evaluate.loading import Reading, is_dataset, load_pictures
from dsqformat.condense.evaluate.results import ResultFile, RowResult, Run
from dsqformat.condense.evaluate.rows import InputSpec, RowMaker, parse_input
from dsqformat.condense.evaluate.running import evaluate_rows
from dsqformat.condense.evaluate.schedule import SMALL, Schedule, defaults_of, steps_of
from dsqformat.condense.evaluate.table import HEADER, notes, result_json, table_cells, write_csv

_CPU_LIMIT = 10_000


def evaluate(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="[LABEL=]PATH[@N]...",
            help="Datasets (paths, URLs; @N: first N layers) and sources as dsq pack reads them.",
        ),
    ],
    test: Annotated[str, typer.Option(help="Test set: a source or dataset.")],
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="uint8:FRACTION, webp:QUALITY, jpeg:QUALITY, webp:=PATH (its bytes) of --source."
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="What baselines are made of; the first source, if not said.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Training pictures of a row; on a CPU 10000.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Part of sources to train on.")] = None,
    test_split: Annotated[str | None, typer.Option(help="Part of --test to test on.")] = None,
    label: Annotated[str | None, typer.Option(help="Parquet column of the classes.")] = None,
    fill: Annotated[
        str, typer.Option(help="What left-out patches become: harmonic, mean or none.")
    ] = "harmonic",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each row.")] = 3,
    arch: Annotated[
        str, typer.Option(help="small, resnet18, small-resnet, or a network of timm.")
    ] = SMALL,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Of the largest row; others get as many steps.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Instead of --epochs.")] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="Pictures of a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate at its top.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Threads of a CPU run.")] = 1,
    results_file: Annotated[
        Path | None,
        typer.Option("--results", metavar="FILE.json", help="Keep runs here; reuse those there."),
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write a line for each run.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw accuracy beside bytes: .svg or .png.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Train the same network from scratch on each input; compare accuracy and bytes.

    Every row gets the same number of steps, so that a small coreset is updated as often as the
    full set. Bytes are those of real files, everything counted that a training client fetches.
    """
    _require_extra(plot)
    from dsqformat.condense.devices import chosen_device

    with usage_errors():
        _check_targets(csv_file, plot)
        wanted = [parse_baseline(text) for text in baseline or ()]
        specs = [parse_input(text) for text in inputs]
        _check_labels(specs, wanted)
        origin = _baseline_source(source, specs, wanted)
        # Tried now, not after the reading: only the number of steps is still open.
        schedule = _schedule(arch, chosen_device(device), batch, lr, threads)
        on_cpu = schedule.device == "cpu"
        reading = Reading(limit or (_CPU_LIMIT if on_cpu else None), split, label, fill)
    results = ResultFile(results_file)
    with shown_progress() as on_progress:
        tested, _ = load_pictures(test, Reading(None, test_split, label, fill), on_progress)
        maker = RowMaker(tested, reading, on_progress)
        rows = [*maker.inputs(specs), *maker.baselines(wanted, origin, specs)]
        largest = max(row.sample_count for row in rows)
        epochs = epochs or defaults_of(arch).epochs
        steps = steps or steps_of(epochs, largest, schedule.batch_size)
        schedule = replace(schedule, steps=steps)
        found = evaluate_rows(rows, tested, schedule, range(seeds), results, on_progress, _tell_run)
    _write_files(found, csv_file, plot)
    if as_json:
        print_json(_report(found, schedule))
    else:
        _print(found)


def _require_extra(plot: Path | None) -> None:
    """Find out now, not after an hour, what is not installed; the CLI says how to get it."""
    import torch  # noqa: F401

    if plot is not None:
        import matplotlib  # noqa: F401


def _check_targets(csv_file: Path | None, plot: Path | None) -> None:
    """Refuse files now that could not be written after an hour."""
    for path in (csv_file, plot):
        if path is not None and not path.absolute().parent.is_dir():
            raise ValueError(f"{path}: there is no folder {path.parent}; make it first")
    if plot is not None:
        from dsqformat.condense.evaluate.plot import check_format

        check_format(plot)


def _schedule(
    arch: str, device: str, batch: int | None, lr: float | None, threads: int
) -> Schedule:
    defaults = defaults_of(arch)
    return Schedule(
        arch=arch,
        batch_size=batch or defaults.batch_size,
        learning_rate=defaults.learning_rate if lr is None else lr,
        padding=defaults.padding,
        device=device,
        threads=threads,
    )


def _check_labels(specs: Sequence[InputSpec], baselines: Sequence[Baseline]) -> None:
    labels = [*(spec.label for spec in specs), *(each.label for each in baselines)]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ValueError(f"two rows are called {twice!r}; name one of them: LABEL=PATH")


def _baseline_source(
    source: str | None, specs: Sequence[InputSpec], baselines: Sequence[Baseline]
) -> str:
    """Return what baselines are made of; empty if there are none."""
    if not baselines:
        return ""
    found = source or next((s.location for s in specs if not is_dataset(s.location)), None)
    if found is None:
        raise ValueError("--baseline needs pictures to be made of: name them with --source")
    return found


def _tell_run(run: Run, known: bool) -> None:
    """Say on stderr what has been found: all of it may take an hour."""
    took = "from the results" if known else f"in {run.train_s:.1f} s"
    text = f"{run.label}, seed {run.seed}: {100 * run.accuracy:.2f} % {took}"
    typer.echo(text, err=True)


def _write_files(found: Sequence[RowResult], csv_file: Path | None, plot: Path | None) -> None:
    if csv_file is not None:
        write_csv(csv_file, found)
    if plot is not None:
        from dsqformat.condense.evaluate.plot import draw_plot

        draw_plot(plot, found)


def _report(found: Sequence[RowResult], schedule: Schedule) -> dict[str, Any]:
    return {
        "schedule": schedule.to_json(),
        "notes": notes(found),
        "rows": [result_json(result) for result in found],
    }


def _print(found: Sequence[RowResult]) -> None:
    print_table(HEADER, [table_cells(result) for result in found])
    typer.echo()
    for note in notes(found):
        typer.echo(note)
