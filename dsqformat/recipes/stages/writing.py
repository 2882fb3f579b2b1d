"""Stage quantize: the kept samples, quantized and written as a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk.decode import Array
from dsqformat.commands.progress import OnProgress
from dsqformat.errors import RecipeError
from dsqformat.recipes.stage_options import Quantize
from dsqformat.recipes.staging import Staged
from dsqformat.schema import Column, Field
from dsqformat.writer import DatasetWriter, FieldSpec, WriteReport

VERSION: Final = 1
RECONSTRUCTOR_ROLE: Final = "reconstructor"
_BATCH: Final = 256


@dataclass(frozen=True)
class Plan:
    """What is written.

    Attributes:
        kept: int64, shape (k,), positions of samples in the staged set, ascending.
        setting: int64, shape (k,), bits or qp of each; 0 bits drop it.
        pictures: refined pictures in the place of those staged, shape (k, ...), or None.
        masks: boolean, shape (k, rows, columns), or None.
        patch: side of the patches of masks.
        columns: further columns by name, shape (k,) each.
        provenance: what the snapshot says of how it was made.
        weights: of the reconstructor, to be shipped; or None.
        seed: of the order.
    """

    kept: NDArray[np.int64]
    setting: NDArray[np.int64]
    pictures: NDArray[Any] | None = None
    masks: NDArray[np.bool_] | None = None
    patch: int | None = None
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    seed: int = 0


def write(
    folder: Path,
    staged: Staged,
    plan: Plan,
    options: Quantize,
    *,
    mode: Literal["create", "replace"] = "create",
    ref: str = "main",
    progress: OnProgress | None = None,
) -> WriteReport:
    """Write the kept samples.

    Args:
        folder: of the dataset.
        staged: where they come from.
        plan: which, and how finely.
        options: of the stage.
        mode: what to do with a dataset that is there.
        ref: name to publish under.
        progress: called with stage, done and total.

    Raises:
        RecipeError: the quantizer does not fit the samples, or a column is there already.
        SampleError: a sample cannot be quantized.
    """
    main = staged.field
    specs = field_specs(staged, plan, options)
    columns = _columns(staged, plan)
    with DatasetWriter(
        folder,
        fields=specs,
        columns=columns,
        coding=options.coding,
        zstd_level=options.zstd_level,
        chunk_nbytes=options.chunk_nbytes,
        shard_nbytes=options.shard_nbytes,
        shuffle=True,
        seed=plan.seed,
        mode=mode,
        ref=ref,
        provenance=plan.provenance,
        table=options.table,
        on_progress=progress,
    ) as writer:
        if plan.weights is not None:
            writer.add_blob(RECONSTRUCTOR_ROLE, plan.weights, "application/octet-stream", "bin")
        for rows, fields, values, keys in _kept(staged, plan, options):
            settings = plan.setting[rows]
            batch: dict[str, Any] = {**fields, **values}
            batch |= {name: array[rows].tolist() for name, array in plan.columns.items()}
            masks = {} if plan.masks is None else {main.name: list(plan.masks[rows])}
            block = specs[main.name].setting == "qp"
            dropped = np.zeros(len(rows), "?") if block else settings == 0
            widths = {name: np.where(dropped, 0, spec.bit_width) for name, spec in specs.items()}
            if specs[main.name].setting == "bit_width":
                widths[main.name] = settings
            writer.write_batch(
                batch,
                keys=keys,
                bit_width=widths,
                qp={main.name: settings} if block else None,
                masks=masks,
            )
    return writer.report


def field_specs(staged: Staged, plan: Plan, options: Quantize) -> dict[str, FieldSpec]:
    """Return how each field is stored: the main one as asked, others without loss.

    Raises:
        RecipeError: the quantizer cannot hold the main field.
    """
    main, *others = staged.dataset.schema.fields
    specs = {main.name: _main_spec(main, plan, options)}
    for other in others:
        quantizer: Literal["affine", "raw"] = "affine" if other.dtype == "uint8" else "raw"
        specs[other.name] = FieldSpec(quantizer, shape=other.shape, dtype=other.dtype)
    return specs


def _main_spec(main: Field, plan: Plan, options: Quantize) -> FieldSpec:
    bits = int(plan.setting.max(initial=0)) or 8
    layers = None if isinstance(options.layers, str) else options.layers
    patch = plan.patch
    if options.quantizer == "patch" and patch is None:
        patch = options.patch
    try:
        spec = FieldSpec(
            options.quantizer,
            bit_width=8 if options.quantizer in ("block", "raw") else bits,
            layers=None if options.quantizer == "raw" else layers,
            shape=main.shape,
            dtype=main.dtype,
            patch=patch,
            group_count=options.groups,
            grouping=options.grouping,
            effort=options.effort,
        )
        spec.field(main.name, main.dtype, main.shape)
    except ValueError as error:
        raise RecipeError(f"quantize.quantizer: {options.quantizer}: {error}") from error
    return spec


def _columns(staged: Staged, plan: Plan) -> tuple[Column, ...]:
    names = {column.name for column in staged.columns}
    names |= {member.name for member in staged.dataset.schema.fields}
    for name in plan.columns:
        if name in names:
            raise RecipeError(
                f"quantize.columns: the source has {name!r} already; leave that out with --drop "
                f"{name}, or take the name out of quantize.columns"
            )
    added = [
        Column(name, "int64" if values.dtype.kind in "iu" else "float32")
        for name, values in plan.columns.items()
    ]
    return (*staged.columns, *added)


def _kept(
    staged: Staged, plan: Plan, options: Quantize
) -> Iterator[tuple[NDArray[np.int64], dict[str, Any], dict[str, Any], list[str] | None]]:
    """Yield kept samples of one shape: their numbers among those kept, fields, columns, keys."""
    main = staged.field.name
    block = options.quantizer == "block"
    for chunk, keys, numbers, all_rows in staged.chunks_with(plan.kept):
        wanted = np.ones(len(numbers), "?")
        if not options.list_dropped and not block:
            wanted = plan.setting[numbers] > 0
        for part, rows in _same_shapes(chunk.fields, numbers[wanted], all_rows[wanted]):
            fields = {
                name: np.stack([values[row] for row in rows])
                for name, values in chunk.fields.items()
            }
            if plan.pictures is not None:
                fields[main] = np.asarray(plan.pictures[part]).reshape(fields[main].shape)
            columns = {
                name: [column[row] for row in rows] for name, column in chunk.columns.items()
            }
            yield part, fields, columns, None if keys is None else [keys[row] for row in rows]


def _same_shapes(
    fields: Mapping[str, Array], numbers: NDArray[np.int64], rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield runs of consecutive samples whose arrays have the same shapes: numbers and rows."""
    start = 0
    for place in range(1, len(numbers) + 1):
        ends = place == len(numbers) or place - start >= _BATCH
        if ends or any(
            values[rows[place]].shape != values[rows[start]].shape for values in fields.values()
        ):
            yield numbers[start:place], rows[start:place]
            start = place
