"""`dsq unpack`: from a dataset back to what everybody reads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from dsqformat.commands.locations import open_location
from dsqformat.commands.options import PictureFormat, TargetKind
from dsqformat.commands.progress import shown_progress
from dsqformat.commands.report import format_count, format_nbytes, print_json
from dsqformat.commands.unpack_folder import unpack_folder
from dsqformat.commands.unpack_npz import unpack_npz
from dsqformat.commands.unpack_tar import unpack_tar
from dsqformat.commands.unpacking import UnpackReport, main_field, require_absent
from dsqformat.dataset import Dataset
from dsqformat.sources.pictures import require_pillow


def unpack(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Dataset directory or URL.")],
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="Folder, .npz or .tar to make.")],
    to: Annotated[
        TargetKind | None, typer.Option(help="What to make; by the name of DEST if left out.")
    ] = None,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Layers of each field to use; all if left out.")
    ] = None,
    field: Annotated[
        str | None, typer.Option(help="Field of the pictures, or x; the first if left out.")
    ] = None,
    picture_format: Annotated[
        PictureFormat, typer.Option("--format", help="Format of pictures; all keep every value.")
    ] = PictureFormat.png,
    samples_per_tar: Annotated[
        int, typer.Option(min=1, help="Where DEST is a folder of tars.")
    ] = 10_000,
    ref: Annotated[str, typer.Option(help="Which state of the dataset.")] = "main",
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Write a dataset as a folder of pictures, an .npz or WebDataset tars.

    DEST appears when it is complete. File names come from the keys and never lead out of DEST.
    """
    require_absent(dest)
    target = to or _target_of(dest)
    with open_location(path, ref) as dataset, shown_progress() as on_progress:
        try:
            main = main_field(dataset, field)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

        def on_sample(count: int) -> None:
            on_progress("unpack", count, len(dataset))

        if target is not TargetKind.npz:
            require_pillow()
        suffix = picture_format.value
        write: dict[TargetKind, Callable[..., UnpackReport]] = {
            TargetKind.folder: partial(unpack_folder, suffix=suffix),
            TargetKind.npz: unpack_npz,
            TargetKind.webdataset: partial(
                unpack_tar, suffix=suffix, samples_per_tar=samples_per_tar
            ),
        }
        report = write[target](dataset, dest, field=main, layers=layers, on_sample=on_sample)
        used = _layers_used(dataset, layers)
    if as_json:
        print_json(
            {
                "dest": str(dest),
                "kind": target.value,
                "layers": used,
                "sample_count": report.sample_count,
                "file_count": report.file_count,
                "nbytes": report.nbytes,
                "left_out": list(report.left_out),
            }
        )
        return
    typer.echo(
        f"{dest}: {format_count(report.sample_count, 'sample')} in "
        f"{format_count(report.file_count, 'file')}, {format_nbytes(report.nbytes)}; "
        f"{used} of {format_count(dataset.schema.layer_count, 'layer')}"
    )
    if report.left_out:
        typer.echo(f"left out: {', '.join(report.left_out)}")


def _target_of(dest: Path) -> TargetKind:
    name = dest.name.lower()
    if name.endswith(".npz"):
        return TargetKind.npz
    return TargetKind.webdataset if name.endswith(".tar") else TargetKind.folder


def _layers_used(dataset: Dataset, layers: int | None) -> int:
    most = dataset.schema.layer_count
    return most if layers is None else min(layers, most)
