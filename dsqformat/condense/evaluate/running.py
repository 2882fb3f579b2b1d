"""All rows with all seeds, one after the other; what is in the results already is not repeated."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.evaluate.labelled_pictures import LabelledPictures, TrainingData
from dsqformat.condense.evaluate.results import ResultFile, RowResult, Run, run_key
from dsqformat.condense.evaluate.rows import Row
from dsqformat.condense.evaluate.schedule import Schedule

# Called with a run, and whether it was there already.
OnRun = Callable[[Run, bool], None]


def evaluate_rows(
    rows: Sequence[Row],
    test: LabelledPictures,
    schedule: Schedule,
    seeds: Sequence[int],
    results: ResultFile,
    on_progress: OnProgress,
    on_run: OnRun,
) -> list[RowResult]:
    """Train and test every row with every seed.

    Args:
        rows: what to compare.
        test: pictures to test on.
        schedule: the same for all.
        seeds: of the runs.
        results: what is there is used, what is new is added at once.
        on_progress: called with stage, done, total.
        on_run: called with every run as it is finished or found.

    Raises:
        DsqError: a row cannot be made or trained.
        ImportError: torch is missing.
    """
    digest, settings = test.digest(), schedule.to_json()
    of_count = max(row.sample_count for row in rows)
    found = []
    for row in rows:
        key = run_key(row.identity, settings, digest)
        runs, load = [], None
        for seed in seeds:
            known = results.find(key, seed)
            if known is None:
                # Opened for a missing run only, and forgotten after the row.
                load = load or row.open()
                run = _measured(row, load(seed), key, seed, test, schedule, on_progress)
                results.add(run)
            else:
                run = known
            on_run(run, known is not None)
            runs.append(run)
        found.append(RowResult(row.label, row.kind, tuple(runs), of_count))
    return found


def _measured(
    row: Row,
    data: TrainingData,
    key: str,
    seed: int,
    test: LabelledPictures,
    schedule: Schedule,
    on_progress: OnProgress,
) -> Run:
    import torch

    from dsqformat.condense.evaluate.training import train_and_test

    stage = f"{row.label}, seed {seed}"
    outcome = train_and_test(
        data.pictures, test, schedule, seed, lambda done, total: on_progress(stage, done, total)
    )
    return Run(
        key=key,
        seed=seed,
        label=row.label,
        kind=row.kind,
        setting=data.setting,
        sample_count=len(data.pictures),
        fetched_nbytes=data.fetched_nbytes,
        stored_nbytes=data.stored_nbytes,
        right=outcome.right,
        test_count=outcome.test_count,
        last_loss=outcome.last_loss,
        train_s=round(outcome.train_s, 3),
        cpu_s=round(outcome.cpu_s, 3),
        schedule=schedule.to_json(),
        torch=str(torch.__version__),
    )
