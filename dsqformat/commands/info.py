"""`dsq info`: what a dataset or a single shard holds."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dsqformat.commands.contact_sheet import shards_of, write_contact_sheet
from dsqformat.commands.histograms import Histograms, add_shard, count_samples
from dsqformat.commands.locations import is_shard, open_location, shard_source
from dsqformat.commands.report import (
    format_count,
    format_nbytes,
    print_json,
    print_pairs,
    print_table,
)
from dsqformat.commands.sizes import SnapshotSizes, measure_snapshot
from dsqformat.dataset import Dataset
from dsqformat.dataset.refs import read_refs
from dsqformat.schema import Column, Field, Schema
from dsqformat.schema_json import schema_from_json, schema_to_json
from dsqformat.shard import ShardReader

_PICTURE_SAMPLES = 8
_SHOWN_LABELS = 20
_ORIGIN_LENGTH = 60


def info(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="Dataset directory, URL, or a .dsq file.")
    ],
    ref: Annotated[str, typer.Option(help="Which state of the dataset.")] = "main",
    shards: Annotated[bool, typer.Option("--shards", help="List the shards too.")] = False,
    samples: Annotated[
        int | None, typer.Option(min=1, help="List so many samples; also of --picture.")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw samples: all layers, then 1, 2, ... layers."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Show schema, counts, bytes of each layer, bit widths, labels, refs and provenance."""
    if is_shard(path):
        shard = ShardReader(*shard_source(path))
        report, readers = _describe_shard(path, shard), [shard]
        listed = _first_samples([shard], samples)
    else:
        with open_location(path, ref) as dataset:
            report, readers = _describe_dataset(path, dataset, shards), shards_of(dataset)
            listed = _first_samples(readers, samples)
    if picture is not None and report["sample_count"]:
        first = report["schema"]["fields"][0]["name"]
        write_contact_sheet(readers, first, samples or _PICTURE_SAMPLES, picture)
    if samples is not None:
        report["samples"] = listed
    if as_json:
        print_json(report)
    else:
        _print(report)


# Gathering -------------------------------------------------------------------------------------


def _describe_dataset(path: str, dataset: Dataset, shards: bool) -> dict[str, Any]:
    snapshot = dataset.snapshot
    report: dict[str, Any] = {
        "path": path,
        "kind": "dataset",
        "snapshot": snapshot.id,
        "parent": snapshot.parent,
        "refs": read_refs(dataset.source),
        "sample_count": len(dataset),
        "shard_count": snapshot.shard_count,
        "chunk_count": snapshot.chunk_count,
        "has_keys": dataset.has_keys,
        "schema": schema_to_json(snapshot.schema),
        "nbytes": measure_snapshot(dataset).to_json(),
        **_histograms(count_samples(dataset), snapshot.schema),
        "blobs": [dict(vars(blob)) for blob in snapshot.blobs],
        "provenance": dict(snapshot.provenance),
    }
    if shards:
        report["shards"] = [
            {
                "path": shard.path,
                "sample_count": shard.sample_count,
                "chunk_count": shard.chunk_count,
                "nbytes": shard.nbytes,
                "head_nbytes": shard.head_nbytes,
                "segment_nbytes": list(shard.segment_nbytes),
            }
            for shard in snapshot.read_shards(dataset.source)
        ]
    return report


def _describe_shard(path: str, shard: ShardReader) -> dict[str, Any]:
    header, schema = shard.head.header, shard.schema
    histograms = Histograms()
    add_shard(histograms, shard)
    segments = shard.chunks.segment_nbytes.sum(axis=0).tolist()
    sizes = SnapshotSizes(
        layers=dict(zip(schema.order, segments[1:], strict=True)),
        index=segments[0],
        heads=header.head_nbytes,
        tails=header.file_nbytes - header.head_nbytes - sum(segments),
        sample_table=0,
        key_table=0,
        other_blobs=0,
        snapshot=0,
    )
    return {
        "path": path,
        "kind": "shard",
        "version": f"1.{header.version_minor}",
        "sample_count": header.sample_count,
        "chunk_count": len(shard.chunks),
        "has_keys": shard.has_keys,
        "sections": [section.name for section in shard.head.sections],
        "schema": schema_to_json(schema),
        "nbytes": sizes.to_json(),
        **_histograms(histograms, schema),
    }


def _histograms(histograms: Histograms, schema: Schema) -> dict[str, Any]:
    names = next((c.names or () for c in schema.columns if c.name == "label"), ())
    labels = {
        (names[value] if 0 <= value < len(names) else str(value)): count
        for value, count in sorted(histograms.label.items())
    }
    return {
        "settings": {
            name: {str(value): count for value, count in sorted(counts.items())}
            for name, counts in histograms.settings.items()
        },
        "labels": labels,
    }


def _first_samples(shards: list[ShardReader], count: int | None) -> list[dict[str, Any]]:
    """Return key and columns of the first samples; bytes as their number."""
    rows: list[dict[str, Any]] = []
    for shard in shards if count is not None else ():
        for number in range(len(shard.chunks)):
            chunk = shard.read_chunk(number, layers=1, fields=[])
            keys = shard.read_keys(number)
            for row in range(chunk.sample_count):
                values = {name: _shown(value) for name, value in chunk.sample(row).items()}
                rows.append(({"key": keys[row]} if keys else {}) | values)
                if len(rows) == count:
                    return rows
    return rows


def _shown(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


# Printing --------------------------------------------------------------------------------------


def _print(report: Mapping[str, Any]) -> None:
    schema = schema_from_json(report["schema"])
    print_pairs(_facts(report))
    typer.echo()
    print_table(
        ("field", "type", "quantizer", "layers"),
        [_field_row(field, schema.stored_layers(field.name)) for field in schema.fields],
    )
    if schema.columns:
        typer.echo()
        print_table(("column", "type", "names"), [_column_row(c) for c in schema.columns])
    typer.echo()
    _print_sizes(report)
    for name, counts in report["settings"].items():
        listed = ", ".join(f"{count:,} at {value}" for value, count in counts.items())
        typer.echo(f"\n{name}: {listed}")
    _print_labels(report["labels"])
    if "shards" in report:
        typer.echo()
        rows = [
            (s["path"], f"{s['sample_count']:,}", f"{s['chunk_count']:,}", f"{s['nbytes']:,}")
            for s in report["shards"]
        ]
        print_table(("shard", "samples", "chunks", "bytes"), rows)
    for number, sample in enumerate(report.get("samples", ())):
        values = "  ".join(f"{name}={value!r}" for name, value in sample.items())
        typer.echo(f"{'' if number else chr(10)}sample {number}: {values}")


def _facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    if report["kind"] == "shard":
        facts = [("shard", report["path"]), ("version", report["version"])]
        return [*facts, ("sections", " ".join(report["sections"])), _contents(report)]
    refs = ", ".join(f"{name} -> {sid[:12]}" for name, sid in report["refs"].items())
    made = ", ".join(_origin(name, value) for name, value in report["provenance"].items())
    return [
        ("dataset", report["path"]),
        ("snapshot", report["snapshot"]),
        ("refs", refs),
        _contents(report),
        ("made of", made),
    ]


def _origin(name: str, value: Any) -> str:
    """Return a member of the provenance in a few words; --json has all of it."""
    if not isinstance(value, Mapping):
        return f"{name} {value}"
    recipe = value.get("recipe")
    known = recipe.get("name") if isinstance(recipe, Mapping) else None
    return f"{name} {known or textwrap.shorten(str(value), _ORIGIN_LENGTH, placeholder=' ...')}"


def _contents(report: Mapping[str, Any]) -> tuple[str, str]:
    parts = [format_count(report["sample_count"], "sample")]
    if "shard_count" in report:
        parts.append(format_count(report["shard_count"], "shard"))
    parts.append(format_count(report["chunk_count"], "chunk"))
    parts.append("with keys" if report["has_keys"] else "no keys")
    return "contents", ", ".join(parts)


def _field_row(field: Field, stored: int) -> tuple[str, str, str, str]:
    shape = ", ".join("?" if length is None else str(length) for length in field.shape)
    domain = f" ({field.domain.kind})" if field.domain is not None else ""
    layers = "|".join([*(str(width) for width in field.layers), "rest"][:stored])
    if stored < field.layer_count:
        layers += f" ({stored} of {field.layer_count})"
    return field.name, f"{field.dtype}[{shape}]", field.quantizer + domain, layers


def _column_row(column: Column) -> tuple[str, str, str]:
    names = column.names or ()
    shown = ", ".join(names[:5]) + (f", ... ({len(names)})" if len(names) > 5 else "")
    return column.name, column.type, shown


def _print_sizes(report: Mapping[str, Any]) -> None:
    count = max(1, report["sample_count"])
    rows = []
    for name, nbytes in report["nbytes"].items():
        if nbytes:
            per_sample = f"{nbytes / count:,.1f}"
            rows.append((name.replace("_", " "), per_sample, format_nbytes(nbytes)))
    print_table(("bytes", "per sample", "total"), rows)


def _print_labels(labels: Mapping[str, int]) -> None:
    if not labels:
        return
    shown = [f"{name} {count:,}" for name, count in list(labels.items())[:_SHOWN_LABELS]]
    more = f", ... ({len(labels)} labels)" if len(labels) > _SHOWN_LABELS else ""
    typer.echo(f"\nlabels: {', '.join(shown)}{more}")
