"""`dsq pull`: the client on the command line."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dsqclient.opening import open_source
from dsqclient.pull import PullReport, pull_dataset
from dsqclient.retry import HttpOptions
from dsqformat.commands.options import parse_nbytes
from dsqformat.commands.progress import shown_progress
from dsqformat.commands.report import format_count, format_nbytes, print_json


def pull(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Dataset: an http(s) URL, or a local directory.")
    ],
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="Dataset directory to make.")],
    layers: Annotated[
        int | None,
        typer.Option(min=1, help="Layers of each field to copy; all if left out."),
    ] = None,
    ref: Annotated[str, typer.Option(help="Which state of the dataset.")] = "main",
    rate_limit: Annotated[
        str, typer.Option(help="Most bytes per second to receive, such as 250kB.")
    ] = "",
    patience: Annotated[
        float, typer.Option(min=1, help="Seconds to wait for a server that has gone silent.")
    ] = 30.0,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let DEST hold another dataset than before.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Copy a dataset, whole or only its first layers.

    A pull that was stopped, however it was stopped, goes on at the byte when it is run again.
    A copy of fewer layers is a dataset like any other; pulling more layers into it later fetches
    only what is missing. DEST shows the copy when it is complete, not before.
    """
    options = HttpOptions(read_timeout_s=patience)
    limit = parse_nbytes(rate_limit) if rate_limit else None
    try:
        source = open_source(url, rate_limit=limit, options=options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        with shown_progress() as on_progress:
            report = pull_dataset(
                source, dest, layers=layers, ref=ref, replace=replace, on_progress=on_progress
            )
    finally:
        source.close()
    if as_json:
        print_json({"dest": str(dest), **asdict(report)})
        return
    _print_report(dest, report)


def _print_report(dest: Path, report: PullReport) -> None:
    typer.echo(
        f"{dest}: {format_count(report.sample_count, 'sample')} with "
        f"{format_count(report.layers, 'layer')}, {format_nbytes(report.nbytes)}"
    )
    typer.echo(
        f"{format_nbytes(report.received_nbytes)} received in {report.seconds:.1f} s, "
        f"{format_nbytes(report.reused_nbytes)} were here"
    )
