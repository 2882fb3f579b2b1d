"""`dsq condense`: a dataset by a recipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dsqformat.commands.options import OnError, PictureMode, SourceKind, usage_errors
from dsqformat.commands.progress import shown_progress
from dsqformat.commands.report import format_nbytes, print_json, print_pairs
from dsqformat.recipes.condensing import CondenseOutcome, condense
from dsqformat.recipes.shipped import load_recipe, shipped_names, shipped_text
from dsqformat.sources import PictureOptions

_BASELINES = {
    "float32": "float32",
    "uint8": "uint8",
    "png": "PNG",
    "webp_lossless": "WebP, lossless",
    "webp_same_psnr": "WebP, same PSNR",
    "jpeg_same_psnr": "JPEG, same PSNR",
}


def _print_recipes(asked: bool) -> None:
    if asked:
        names = shipped_names()
        width = max(map(len, names))
        for name in names:
            typer.echo(f"{name:<{width}}  {load_recipe(name).summary}")
        raise typer.Exit


def _print_recipe(name: str | None) -> None:
    if name is not None:
        typer.echo(shipped_text(name), nl=False)
        raise typer.Exit


def command(
    src: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="Image folder, .tar, folder of tars, .parquet, .npz, .pt of tensors.",
        ),
    ],
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="Dataset directory to make.")],
    recipe: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE.toml|DATASET",
            help="What to do; see --recipes. A dataset: as that one was made.",
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="STAGE.OPTION=VALUE", help="Over the recipe; STAGE=off."),
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Where results of stages are kept; DEST.work.")
    ] = None,
    source: Annotated[
        SourceKind | None, typer.Option(help="What SRC is; found out if left out.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Which part, such as train.")] = None,
    label: Annotated[str | None, typer.Option(help="Parquet column that becomes `label`.")] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="Column, array or extension to leave out.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many samples, at random.")] = None,
    mode: Annotated[PictureMode, typer.Option(help="Pixels to store.")] = PictureMode.RGB,
    resize: Annotated[
        int | None, typer.Option(help="Scale pictures: length of the shorter side.")
    ] = None,
    crop: Annotated[int | None, typer.Option(help="Then cut a square from the middle.")] = None,
    on_error: Annotated[
        OnError, typer.Option(help="Stop at a sample that cannot be read, or skip and count it.")
    ] = OnError.stop,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of everything; that of the recipe.")
    ] = None,
    device: Annotated[str, typer.Option(help="Of torch: auto, cpu, cuda.")] = "cpu",
    ref: Annotated[str, typer.Option(help="Name to publish under.")] = "main",
    replace: Annotated[
        bool, typer.Option("--replace", help="Publish over what DEST holds.")
    ] = False,
    report: Annotated[
        bool, typer.Option(help="Measure what came out; write report.json and report.html.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
    recipes: Annotated[
        bool,
        typer.Option(
            "--recipes",
            help="List the recipes that come along, and exit.",
            callback=_print_recipes,
            is_eager=True,
        ),
    ] = False,
    show: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Print the TOML of a recipe that comes along, and exit.",
            callback=_print_recipe,
            is_eager=True,
        ),
    ] = None,
) -> None:
    """Condense a dataset: select, mask, give bits, quantize, as a recipe says.

    Every stage is kept in the work directory, so that a run that was stopped goes on where it was,
    and a changed option repeats only what depends on it.
    """
    with usage_errors():
        pictures = PictureOptions(mode=mode.value, resize=resize, crop=crop)
    if limit is not None and limit < 1:
        raise typer.BadParameter(f"--limit {limit}: expected 1 or more")
    with shown_progress() as on_progress:
        outcome = condense(
            src,
            dest,
            recipe,
            settings=settings or (),
            work=work,
            kind=source.value if source is not None else None,
            pictures=pictures,
            split=split,
            label=label,
            drop=drop or (),
            limit=limit,
            seed=seed,
            skip_bad=on_error is OnError.skip,
            device=device,
            replace_existing=replace,
            ref=ref,
            report=report,
            on_progress=on_progress,
            on_note=lambda line: typer.echo(line, file=sys.stderr),
        )
    if as_json:
        print_json(_as_json(outcome))
    else:
        print_pairs(_lines(outcome))


def _as_json(outcome: CondenseOutcome) -> dict[str, Any]:
    said: dict[str, Any] = {
        "dest": str(outcome.dest),
        "dropped": outcome.dropped_count,
        "elapsed_s": round(outcome.elapsed_s, 3),
        "kept": outcome.kept_count,
        "notes": list(outcome.notes),
        "published": outcome.published,
        "recipe": outcome.recipe.name,
        "samples": outcome.sample_count,
        "snapshot": outcome.snapshot_id,
        "source": outcome.source_count,
        "stages": {stage.name: stage.reused for stage in outcome.stages},
        "total_nbytes": outcome.total_nbytes,
        "work": str(outcome.work),
        "work_nbytes": outcome.work_nbytes,
    }
    if outcome.report is not None:
        said["report"] = outcome.report
    return said


def _lines(outcome: CondenseOutcome) -> list[tuple[str, str]]:
    count = max(1, outcome.sample_count)
    stored = f"{outcome.sample_count:,} of {outcome.source_count:,}"
    if outcome.dropped_count:
        stored += f" ({outcome.kept_count:,} selected, {outcome.dropped_count:,} at 0 bits)"
    lines = [
        ("recipe", f"{outcome.recipe.name}: {outcome.recipe.summary}"),
        ("dataset", f"{outcome.dest}" + ("" if outcome.published else " (held this already)")),
        ("samples", stored),
        (
            "bytes",
            f"{format_nbytes(outcome.total_nbytes)}, {outcome.total_nbytes / count:,.0f} a sample, "
            "every file counted",
        ),
    ]
    if outcome.report is not None:
        lines += _report_lines(outcome.report, outcome.total_nbytes)
    stages = [
        f"{stage.name} {'found' if stage.reused else f'{stage.elapsed_s:.1f} s'}"
        for stage in outcome.stages
    ]
    lines.append(("stages", ", ".join(stages)))
    if outcome.report_html is not None:
        lines.append(("report", str(outcome.report_html)))
    lines.append(("work", f"{outcome.work}, {format_nbytes(outcome.work_nbytes)}; may be removed"))
    return lines


def _report_lines(report: dict[str, Any], total: int) -> list[tuple[str, str]]:
    same = [
        f"{total / nbytes:.1%} of {_BASELINES[name]}"
        for name, nbytes in report["bytes"]["same_samples"].items()
        if nbytes
    ]
    lines = [("the same samples", ", ".join(same))]
    if report["fidelity"].get("psnr") is not None:
        lines.append(("PSNR", f"{report['fidelity']['psnr']:.2f} dB, as a trainer sees them"))
    lines += [("remark", remark) for remark in report["remarks"]]
    return lines
