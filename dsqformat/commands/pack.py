"""`dsq pack`: from an image folder, tars, Parquet or .npz to a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dsqformat.commands.fidelity import Fidelity
from dsqformat.commands.options import (
    CodingName,
    DomainKind,
    EffortName,
    GroupingName,
    OnError,
    PictureMode,
    QuantizerName,
    SourceKind,
    parse_decimals,
    parse_integers,
    parse_nbytes,
    usage_errors,
)
from dsqformat.commands.pack_report import print_outcome
from dsqformat.commands.packing import PackPlan, pack_source
from dsqformat.commands.progress import shown_progress
from dsqformat.schema import Domain
from dsqformat.sources import PictureOptions, SourceOptions


def pack(
    src: Annotated[
        str,
        typer.Argument(metavar="SRC", help="Image folder, .tar, folder of tars, .parquet, .npz."),
    ],
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="Dataset directory to make.")],
    source: Annotated[
        SourceKind | None, typer.Option(help="What SRC is; found out if left out.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Which part: x_SPLIT and y_SPLIT, or SPLIT-*.parquet.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Parquet column that becomes `label`.")] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="Column, array or extension to leave out.")
    ] = None,
    keys: Annotated[bool, typer.Option(help="Give samples the names they have in SRC.")] = True,
    limit: Annotated[int | None, typer.Option(help="At most so many samples.")] = None,
    on_error: Annotated[
        OnError, typer.Option(help="Stop at a sample that cannot be read, or skip and count it.")
    ] = OnError.stop,
    mode: Annotated[PictureMode, typer.Option(help="Pixels to store.")] = PictureMode.RGB,
    resize: Annotated[
        int | None, typer.Option(help="Scale pictures: length of the shorter side.")
    ] = None,
    crop: Annotated[int | None, typer.Option(help="Then cut a square from the middle.")] = None,
    bytes_per_sample: Annotated[
        float | None, typer.Option(help="Choose fidelity for such a size, all counted.")
    ] = None,
    total: Annotated[
        str | None, typer.Option(help="Choose fidelity for such a size of it all, e.g. 50MB.")
    ] = None,
    psnr: Annotated[float | None, typer.Option(help="Choose fidelity for so many dB.")] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help="Keep bytes exactly.")] = False,
    quantizer: Annotated[
        QuantizerName | None,
        typer.Option(help="How values become codes; block for pictures with a target or --qp."),
    ] = None,
    bits: Annotated[
        int | None, typer.Option(help="Bits per value, 8 (patch: 2); affine is exact at 8.")
    ] = None,
    qp: Annotated[int | None, typer.Option(help="For block: 0 (finest) to 175.")] = None,
    effort: Annotated[EffortName | None, typer.Option(help="For block.")] = None,
    patch: Annotated[int | None, typer.Option(help="For patch: side of patches, 5.")] = None,
    groups: Annotated[
        int | None, typer.Option(help="For patch: groups, 64, or found for a target.")
    ] = None,
    grouping: Annotated[
        GroupingName | None, typer.Option(help="For patch: what groups are made by.")
    ] = None,
    domain: Annotated[DomainKind | None, typer.Option(help="Domain of lsq.")] = None,
    mean: Annotated[str, typer.Option(help="For --domain normalized, e.g. 0.485,0.456,0.4.")] = "",
    std: Annotated[str, typer.Option(help="For --domain normalized.")] = "",
    raw: Annotated[
        list[str] | None, typer.Option(help="Field to store as it is, e.g. a mask.")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="Bits of each layer but the last, 4,2 (block: 1); '' for one layer."),
    ] = None,
    coding: Annotated[CodingName, typer.Option(help="Coding of layers.")] = CodingName.auto,
    level: Annotated[int, typer.Option(help="Level of zstd, 1 to 22.")] = 12,
    chunk_size: Annotated[str, typer.Option(help="Bytes of a chunk.")] = "256KiB",
    shard_size: Annotated[str, typer.Option(help="Bytes of a shard.")] = "32MiB",
    seed: Annotated[int, typer.Option(min=0, help="Of the order of samples.")] = 0,
    keep_order: Annotated[
        bool, typer.Option("--keep-order", help="Keep the order of SRC; do not shuffle.")
    ] = False,
    ref: Annotated[str, typer.Option(help="Name to publish under.")] = "main",
    replace: Annotated[
        bool, typer.Option("--replace", help="Publish over what DEST holds.")
    ] = False,
    append: Annotated[bool, typer.Option("--append", help="Add to what DEST holds.")] = False,
    table: Annotated[bool, typer.Option(help="Write the sample table for queries.")] = True,
    compare: Annotated[
        bool, typer.Option(help="Measure PNG, WebP and JPEG of some pictures.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Make a dataset of an image folder, WebDataset tars, Parquet or .npz.

    Publishes at the end, all or nothing. Sizes are reported beside those of SRC, of the raw
    values, and of picture files of about the same fidelity.
    """
    if replace and append:
        raise typer.BadParameter("--replace and --append exclude each other")
    with usage_errors():
        plan = PackPlan(
            src=src,
            dest=dest,
            kind=source.value if source is not None else None,
            reading=SourceOptions(
                pictures=PictureOptions(mode=mode.value, resize=resize, crop=crop),
                seed=None if keep_order else seed,
                limit=limit,
                split=split,
                label=label,
                drop=tuple(drop or ()),
                keyed=keys,
            ),
            fidelity=Fidelity(
                quantizer=quantizer.value if quantizer is not None else None,
                bits=bits,
                qp=qp,
                nbytes_per_sample=bytes_per_sample,
                total_nbytes=None if total is None else parse_nbytes(total),
                psnr=psnr,
                lossless=lossless,
                layers=None if layers is None else parse_integers(layers),
                domain=_domain(quantizer, domain, mean, std),
                patch=patch,
                groups=groups,
                grouping=grouping.value if grouping is not None else None,
                effort=effort.value if effort is not None else None,
            ),
            raw=frozenset(raw or ()),
            coding=coding.value,
            zstd_level=level,
            chunk_nbytes=parse_nbytes(chunk_size),
            shard_nbytes=parse_nbytes(shard_size),
            seed=seed,
            mode="replace" if replace else "append" if append else "create",
            ref=ref,
            table=table,
            skip_bad=on_error is OnError.skip,
            compare=compare,
        )
    with shown_progress() as on_progress:
        outcome = pack_source(plan, on_progress)
    print_outcome(outcome, as_json=as_json)


def _domain(
    quantizer: QuantizerName | None, kind: DomainKind | None, mean: str, std: str
) -> Domain | None:
    if (kind is not None or mean or std) and quantizer is not QuantizerName.lsq:
        raise ValueError("--domain, --mean and --std are for --quantizer lsq")
    if kind is None and not mean and not std:
        return None
    return Domain((kind or DomainKind.normalized).value, parse_decimals(mean), parse_decimals(std))
