"""`dsq verify`: every checksum, digest and rule of the spec."""

from __future__ import annotations

from typing import Annotated

import typer

from dsqformat.bytesource import ByteSource, LocalSource
from dsqformat.commands.locations import (
    dataset_folder,
    is_shard,
    open_location,
    shard_source,
    url_scheme,
)
from dsqformat.commands.progress import shown_progress
from dsqformat.commands.report import format_count, format_nbytes, print_json
from dsqformat.dataset.verify import verify_dataset, verify_file
from dsqformat.dataset.verify_shard import VerifyReport

_SHOWN_PROBLEMS = 100


def verify(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="Dataset directory, URL, or a .dsq file.")
    ],
    ref: Annotated[
        list[str] | None, typer.Option(help="Check only what this ref names; all otherwise.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Check every checksum, digest and rule of the spec; go on after a problem.

    The exit code is 1 if there is one. Each names file, section of the spec, and offset.
    """
    with shown_progress() as on_progress:
        if is_shard(path):
            report = verify_file(*shard_source(path), on_progress=on_progress)
        else:
            source = _source(path)
            report = verify_dataset(source, refs=ref, on_progress=on_progress)
            source.close()
    if as_json:
        _print_as_json(path, report)
    else:
        _print_as_text(path, report)
    if not report.ok:
        raise typer.Exit(1)


def _source(path: str) -> ByteSource:
    if url_scheme(path):
        return open_location(path).source
    return LocalSource(dataset_folder(path))


def _print_as_text(path: str, report: VerifyReport) -> None:
    for problem in report.problems[:_SHOWN_PROBLEMS]:
        typer.echo(f"problem: {problem}", err=True)
    if len(report.problems) > _SHOWN_PROBLEMS:
        typer.echo(f"... and {len(report.problems) - _SHOWN_PROBLEMS} more (--json)", err=True)
    for note in report.notes:
        typer.echo(f"note: {note}")
    checked = ", ".join(
        [
            format_count(report.sample_count, "sample"),
            format_count(report.chunk_count, "chunk"),
            format_count(report.segment_count, "segment"),
            format_count(report.file_count, "file"),
            format_nbytes(report.nbytes),
        ]
    )
    verdict = "sound" if report.ok else format_count(len(report.problems), "problem")
    typer.echo(f"{path}: {verdict}; checked {checked}")


def _print_as_json(path: str, report: VerifyReport) -> None:
    print_json(
        {
            "path": path,
            "ok": report.ok,
            "problems": [
                {
                    "path": problem.path,
                    "message": problem.message,
                    "spec": problem.section,
                    "offset": problem.offset,
                }
                for problem in report.problems
            ],
            "notes": report.notes,
            "checked": {
                "file_count": report.file_count,
                "shard_count": report.shard_count,
                "chunk_count": report.chunk_count,
                "segment_count": report.segment_count,
                "sample_count": report.sample_count,
                "nbytes": report.nbytes,
            },
        }
    )
