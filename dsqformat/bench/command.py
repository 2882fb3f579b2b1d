"""`dsq bench codec`: bytes, fidelity and speed beside picture codecs, and the bars."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from dsqformat._version import __version__
from dsqformat.bench.bars import Verdict, judge
from dsqformat.bench.conditions import (
    measure_memory,
    measure_packing,
    measure_plain_decoding,
    measure_two_threads,
)
from dsqformat.bench.figures import Figures, all_figures
from dsqformat.bench.measuring import OnProgress, measure_dsq, measure_picture_codecs
from dsqformat.bench.picture_codecs import available_codecs, codec_versions
from dsqformat.bench.picture_sets import (
    PICTURES,
    SET_NAMES,
    TILES,
    Limits,
    PictureSet,
    load_sets,
)
from dsqformat.bench.points import Point, Points, write_csv
from dsqformat.bench.results import SetResult, result_of
from dsqformat.bench.settings import (
    DEFAULT_BLOCK_LAYERS,
    ENCODE_TARGET_DB,
    FULL,
    QUICK,
    Scale,
    block_codec,
    block_setting,
    pixel_codec,
    pixel_setting,
)
from dsqformat.bench.speeds import level_reaching, measure_speeds
from dsqformat.commands.progress import shown_progress
from dsqformat.commands.report import print_json
from dsqformat.errors import DsqError

app = typer.Typer(help="Measure DSQ on this machine.", no_args_is_help=True)

_QUICK_LIMITS = Limits(tiles=48, pictures=4)
_WIDTH = 130


@app.callback()
def bench() -> None:
    """Measure DSQ on this machine."""


@app.command()
def codec(
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="DSQ_DATA",
            help="Folder of pictures and Parquet files; else photographs of scikit-image.",
        ),
    ] = None,
    sets: Annotated[
        str, typer.Option(help="Which, of tiles, pictures and small (Parquet, as it is).")
    ] = ",".join(SET_NAMES),
    tiles: Annotated[
        int | None, typer.Option(min=1, help="At most so many 32x32 samples; 2400.")
    ] = None,
    pictures: Annotated[
        int | None, typer.Option(min=1, help="At most so many 224x224 samples; 200.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="How often speeds are measured; 5.")
    ] = None,
    speed: Annotated[bool, typer.Option(help="Measure speeds and memory too.")] = True,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few samples and settings; says nothing about bars.")
    ] = False,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write every point measured.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the curves: .png or .svg.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
    check: Annotated[
        bool, typer.Option("--assert", help="Leave with status 1 if a bar is missed.")
    ] = False,
) -> None:
    """Bytes, fidelity and speed of DSQ beside PNG, JPEG, WebP, AVIF and JPEG XL.

    Real files and datasets, everything counted; each codec at one setting for all pictures.
    PSNR is 10 log10(255^2 / mean squared error over all values of all pictures). Bytes at
    equal fidelity are interpolated in their logarithm between measured settings.
    """
    _require_extra()
    scale, limits = (QUICK, _QUICK_LIMITS) if quick else (FULL, Limits())
    scale = replace(scale, rounds=rounds or scale.rounds)
    limits = Limits(tiles or limits.tiles, pictures or limits.pictures)
    started = time.monotonic()
    with shown_progress() as on_progress:
        loaded = load_sets(data, _set_names(sets), limits, on_progress)
        results: list[SetResult] = []
        for each in loaded:
            known = [point for result in results for point in result.points.all]
            keep = partial(_keep, csv_file, known)
            results.append(_measure(each, scale, speed, on_progress, keep))
    _write_files(results, csv_file, plot)
    figures = {result.name: all_figures(result) for result in results}
    verdicts = judge(figures)
    conditions = _conditions(time.monotonic() - started, quick)
    if as_json:
        print_json(_report(results, figures, verdicts, conditions))
    else:
        _print(results, figures, verdicts, conditions)
    missed = [verdict for verdict in verdicts if not verdict.met]
    if check and missed:
        for verdict in missed:
            typer.echo(f"dsq: bar missed: {verdict}", err=True)
        raise typer.Exit(1)


def _require_extra() -> None:
    try:
        import matplotlib  # noqa: F401
        import PIL  # noqa: F401
        import pyarrow  # noqa: F401
        import skimage  # noqa: F401
    except ImportError as error:
        raise DsqError(
            f"`dsq bench` needs {error.name}, which is not installed: "
            "pip install 'dsqformat[bench]'"
        ) from error


def _set_names(sets: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in sets.split(",") if name.strip())
    for name in names:
        if name not in SET_NAMES:
            raise typer.BadParameter(f"--sets {name}: expected some of {', '.join(SET_NAMES)}")
    if not names:
        raise typer.BadParameter(f"--sets: expected some of {', '.join(SET_NAMES)}")
    return names


# Measuring -------------------------------------------------------------------------------------


def _measure(
    each: PictureSet,
    scale: Scale,
    speed: bool,
    on_progress: OnProgress,
    keep: Callable[[Sequence[Point]], None],
) -> SetResult:
    codecs = available_codecs().codecs
    found: list[Point] = []
    for point in chain(
        measure_picture_codecs(each, codecs, scale, on_progress),
        measure_dsq(each, scale, on_progress),
    ):
        found.append(point)
        keep(found)
    points = Points(tuple(found))
    result = result_of(each, points, scale.ssim_samples[each.name])
    if not speed or each.name not in (TILES, PICTURES):
        return result
    rows = measure_speeds(each, points, codecs, scale, on_progress)
    qp = level_reaching(points.of(block_codec(1)), ENCODE_TARGET_DB)
    result = replace(result, points=points.with_speed(row.point for row in rows))
    result = replace(result, speeds=tuple(rows))
    if qp is None:
        return result
    on_progress(f"{each.name}: packing, threads, memory", 0, None)
    blocks = block_setting(qp)
    growth, few = scale.growth[each.name], max(1, scale.rounds // 2)
    result = replace(
        result,
        packing={
            setting.codec: measure_packing(each, setting, growth, few)
            for setting in (
                blocks,
                block_setting(qp, DEFAULT_BLOCK_LAYERS),
                block_setting(qp, 1, "high"),
            )
        },
        threads=measure_two_threads(each, blocks, growth, scale.rounds),
    )
    if each.name != TILES:
        return result
    return replace(
        result,
        plain_per_s={
            block_codec(1): measure_plain_decoding(each, blocks),
            pixel_codec("affine", "rans"): measure_plain_decoding(
                each, pixel_setting("affine", 4, "rans")
            ),
        },
        memory=measure_memory(each, blocks),
    )


def _keep(csv_file: Path | None, known: Sequence[Point], found: Sequence[Point]) -> None:
    """Write what there is so far: an hour's work should outlast an interruption."""
    if csv_file is not None:
        write_csv(csv_file, [*known, *found])


# Reporting -------------------------------------------------------------------------------------


def _write_files(results: list[SetResult], csv_file: Path | None, plot: Path | None) -> None:
    if csv_file is not None:
        write_csv(csv_file, [point for result in results for point in result.points.all])
    if plot is not None:
        from dsqformat.bench.plot import draw_curves

        draw_curves(plot, results)


def _conditions(elapsed_s: float, quick: bool) -> dict[str, Any]:
    from dsqformat import kernels

    return {
        "dsqformat": __version__,
        "kernels": "compiled" if kernels.COMPILED else "NumPy",
        "codecs": codec_versions(),
        "left_out": list(available_codecs().missing),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "elapsed_s": round(elapsed_s, 1),
        "quick": quick,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _report(
    results: list[SetResult],
    figures: dict[str, Figures],
    verdicts: list[Verdict],
    conditions: dict[str, Any],
) -> dict[str, Any]:
    from dsqformat.bench.tables import point_json

    return {
        "conditions": conditions,
        "sets": [
            {
                "name": result.name,
                "title": result.title,
                "caution": result.caution,
                "sample_count": result.sample_count,
                "points": [point_json(point) for point in result.points.all],
                "figures": [
                    {"figure": name, "at": at, "value": value if value == value else None}
                    for (name, at), value in figures[result.name].items()
                ],
            }
            for result in results
        ],
        "bars": [
            {
                "bar": verdict.name,
                "value": verdict.value if verdict.value == verdict.value else None,
                "sense": verdict.bar.sense,
                "limit": verdict.bar.limit,
                "stretch": verdict.bar.stretch,
                "met": verdict.met,
                "stretch_met": verdict.stretch_met,
            }
            for verdict in verdicts
        ],
    }


def _print(
    results: list[SetResult],
    figures: dict[str, Figures],
    verdicts: list[Verdict],
    conditions: dict[str, Any],
) -> None:
    from rich.console import Console

    from dsqformat.bench.tables import print_result, print_verdicts

    console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    for result in results:
        print_result(console, result, figures[result.name])
    console.rule("Bars and conditions", align="left")
    print_verdicts(console, verdicts)
    console.print()
    for line in conditions["left_out"]:
        console.print(f"Left out: {line}.")
    versions = ", ".join(f"{name} {number}" for name, number in conditions["codecs"].items())
    console.print(
        f"dsqformat {conditions['dsqformat']}, kernels: {conditions['kernels']}; {versions}; "
        f"{conditions['processor']}, {conditions['cores']} cores, load {conditions['load']}; "
        f"{conditions['elapsed_s']:.0f} s."
    )
    if conditions["quick"]:
        console.print("Measured with --quick: too little to judge the bars by.")
