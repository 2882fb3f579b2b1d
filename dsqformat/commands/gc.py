"""`dsq gc`: remove what no ref reaches."""

from __future__ import annotations

from typing import Annotated

import typer

from dsqformat.commands.locations import dataset_folder
from dsqformat.commands.report import format_count, format_nbytes, print_json
from dsqformat.dataset import LocalStore


def gc(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Dataset directory.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be removed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Remove snapshots and blobs that no ref reaches, and leftovers of killed writers.

    Leftovers are removed when they are an hour old. Refuses to run beside a writer.
    """
    report = LocalStore(dataset_folder(path)).gc(dry_run=dry_run)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "removed": list(report.removed),
                "removed_nbytes": report.nbytes,
                "kept_count": report.kept,
            }
        )
        return
    for name in report.removed:
        typer.echo(f"{'would remove' if dry_run else 'removed'} {name}")
    typer.echo(
        f"{format_count(len(report.removed), 'file')}, {format_nbytes(report.nbytes)} "
        f"{'to remove' if dry_run else 'removed'}; {format_count(report.kept, 'file')} kept"
    )
