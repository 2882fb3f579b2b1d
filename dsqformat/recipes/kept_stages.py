"""Stages that look at the kept samples: mask, sensitivity, bits, refine.

As in `source_stages`, each function says what the result of a stage depends on, and what the code
of the stage is handed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.condense.picture_subsets import SeenPictures
from dsqformat.condense.round_trips import probe_bits
from dsqformat.errors import RecipeError
from dsqformat.recipes.planning import columns_of, provenance_of
from dsqformat.recipes.stage_options import Mask, Refine, Sensitivity
from dsqformat.recipes.stages import bit_allocation, masking, sensitivity, writing
from dsqformat.recipes.work_directory import Made, Stage

if TYPE_CHECKING:
    from dsqformat.recipes.runner import Run


def mask_stage(run: Run, options: Mask) -> Stage:
    """Return the choice of the patches that are stored."""
    inputs = _kept_inputs(run)
    network = options.importance == "gradcam"
    if network:
        inputs["train"] = run.trained.digest
    return Stage(
        "mask",
        masking.VERSION,
        asdict(options)
        | {
            "device": run.device,
            "seed": run.recipe.seed,
            "threads": run.train_options.threads,
        },
        inputs,
        lambda folder: masking.mask(
            folder,
            run.kept_pictures,
            options,
            run.proxy if network else None,
            seed=run.recipe.seed,
            device=run.device,
            threads=run.train_options.threads,
            progress=run.progress,
        ),
    )


def sensitivity_stage(run: Run, options: Sensitivity) -> Stage:
    """Return the probing of each kept sample, as its trainer will see it."""
    quantize = run.recipe.quantize
    network = options.engine != "distortion"
    probe = options.probe_bits or probe_bits(run.recipe.bits.lowest)
    inputs = _kept_inputs(run)
    if network:
        inputs["train"] = run.trained.digest
    if run.masked is not None:
        inputs["mask"] = run.masked.digest
    patch = run.patch or quantize.patch

    def make(_folder: Path) -> Made:
        round_trip = sensitivity.round_trip_of(quantize, probe, patch)
        return sensitivity.measure_sensitivity(
            run.kept_pictures,
            SeenPictures(run.kept_pictures, round_trip, run.masks, patch, run.fill),
            options,
            run.proxy if network else None,
            threads=run.train_options.threads,
            progress=run.progress,
        )

    own = {
        "device": run.device,
        "patch": patch,
        "probe_bits": probe,
        "quantizer": quantize.quantizer,
    }
    return Stage("sensitivity", sensitivity.VERSION, asdict(options) | own, inputs, make)


def bits_stage(run: Run) -> Stage:
    """Return the giving of bits: the same for all, or by rank of sensitivity."""
    options, quantize = run.recipe.bits, run.recipe.quantize
    inputs = {"kept": str(len(run.kept))}
    if run.sensed is not None:
        inputs["sensitivity"] = run.sensed.digest
    labels = None
    if options.per_class and options.ranked:
        labels = run.kept_labels
        inputs |= _kept_inputs(run)
    return Stage(
        "bits",
        bit_allocation.VERSION,
        asdict(options) | {"quantizer": quantize.quantizer},
        inputs,
        lambda _folder: bit_allocation.allocate_bits(
            len(run.kept), options, quantize, run.sensitivity, labels
        ),
    )


def budget_stage(run: Run) -> Stage:
    """Return the search for a qp of each kept sample, so that a number of bytes holds everything.

    Raises:
        RecipeError: the source has no pictures that quantizer block can store.
    """
    from dsqformat.recipes.stages import budgets

    options, quantize, field = run.recipe.bits, run.recipe.quantize, run.staged.field
    by_sensitivity = options.measure == "sensitivity"
    inputs = _kept_inputs(run)
    if by_sensitivity:
        inputs["train"] = run.trained.digest
    if field.dtype != "uint8" or len(field.shape) not in (2, 3):
        raise RecipeError(
            f"quantize.quantizer: block stores pictures of uint8, the source has "
            f"{field.dtype}{list(field.shape)}; use another recipe"
        )

    def make(_folder: Path) -> Made:
        # The digest of this stage, not known yet, will be as long as any other.
        unknown = {"digest": "0" * 64, "stage": "bits", "version": budgets.VERSION}
        provenance = provenance_of(run, unknown)
        return budgets.allocate_budget(
            lambda: _kept_batches(run),
            len(run.kept),
            options,
            quantize,
            run.proxy if by_sensitivity else None,
            run.kept_labels if by_sensitivity else None,
            lambda setting: _nbytes_on_trial(run, setting, provenance),
            run.progress,
        )

    own = {
        "bits": asdict(options),
        "quantize": asdict(quantize),
        # The snapshot says how it was made: other words take other room.
        "provenance": provenance_of(run),
        "seed": run.recipe.seed,
        "spare_nbytes": run.spare_nbytes,
    }
    return Stage("bits", budgets.VERSION, own, inputs, make)


def refine_stage(run: Run, options: Refine) -> Stage:
    """Return the moving of pictures so that less is lost at their bits."""
    from dsqformat.recipes.stages import refining

    quantize = run.recipe.quantize
    inputs = _kept_inputs(run) | {"bits": run.allocated.digest, "train": run.trained.digest}
    own = {"device": run.device, "patch": quantize.patch, "quantizer": quantize.quantizer}
    return Stage(
        "refine",
        refining.VERSION,
        asdict(options) | own,
        inputs,
        lambda folder: refining.refine(
            folder,
            run.kept_pictures,
            run.setting,
            options,
            quantize,
            run.proxy,
            device=run.device,
            threads=run.train_options.threads,
            progress=run.progress,
        ),
    )


def _kept_inputs(run: Run) -> dict[str, str]:
    """Return the digests of what the kept samples follow from."""
    chosen = {} if run.selected is None else {"select": run.selected.digest}
    return {"staged": run.staged.digest} | chosen


def _kept_batches(run: Run) -> Iterator[list[NDArray[Any]]]:
    """Yield kept samples of the main field, chunk by chunk; their shapes may differ."""
    name = run.staged.field.name
    for chunk, _, _, rows in run.staged.chunks_with(run.kept):
        yield [chunk.fields[name][row] for row in rows]


def _nbytes_on_trial(run: Run, setting: NDArray[np.int64], provenance: dict[str, Any]) -> int:
    """Return the bytes of the whole dataset with these settings: it is written, and removed."""
    plan = writing.Plan(
        run.kept, setting, columns=columns_of(run), provenance=provenance, seed=run.recipe.seed
    )
    with run.work.scratch() as folder:
        report = writing.write(folder / "trial", run.staged, plan, run.recipe.quantize)
    return report.total_nbytes + run.spare_nbytes
