"""What is written once all stages are done, and what the snapshot says of how it was made."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.recipes.stages import masking
from dsqformat.recipes.stages.writing import Plan

if TYPE_CHECKING:
    from dsqformat.recipes.runner import Run


def plan_of(run: Run) -> Plan:
    """Carry out all stages before quantize, and return what is to be written."""
    _note_stages_left_out(run)
    # In this order, whatever asks for them first: the provenance lists them so.
    refined = (run.selected, run.masked, run.sensed, run.allocated, run.refined)[-1]
    return Plan(
        kept=run.kept,
        setting=run.setting,
        pictures=None if refined is None else refined.array("pictures"),
        masks=run.masks,
        patch=run.patch,
        columns=columns_of(run),
        provenance=provenance_of(run),
        weights=_weights_of(run),
        seed=run.recipe.seed,
    )


def identity_of(run: Run) -> dict[str, Any]:
    """Return what the provenance says before any stage has run: the recipe and the source."""
    return {
        "recipe": run.recipe.to_json(),
        "source": dict(run.reading) | {"snapshot": run.staged.digest},
    }


def provenance_of(run: Run, *later: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the snapshot says: the recipe, how the source was read, digests of stages.

    Args:
        run: as far as it has come.
        later: what will be said of stages that are to come.
    """
    said = identity_of(run)
    said["stages"] = [*(stage.provenance() for stage in run.stages), *later]
    fill: dict[str, Any] = {}
    if run.masked is not None:
        facts = run.masked.facts
        said["reconstructor"] = {
            "id": facts["reconstructor"],
            "sha256": facts["sha256"],
            "weights_nbytes": facts["weights_nbytes"],
        }
        fill["fill"] = {run.staged.field.name: facts["reconstructor"]}  # spec 11
    if any(stage.name == "train" for stage in run.stages):
        said["torch"] = importlib.metadata.version("torch")
        said["device"] = run.device
    return {"condense": said, **fill}


def columns_of(run: Run) -> dict[str, NDArray[Any]]:
    """Return the columns that go along with the kept samples, shape (k,) each, as far as known."""
    known: dict[str, NDArray[Any]] = {}
    if run.selected is not None:
        for name in ("bin_id", "bin_rank"):
            if run.selected.has(name):
                known[name] = np.asarray(run.selected.array(name))[run.kept].astype("i8")
    if run.score is not None:
        known["score"] = run.score[run.kept].astype("f4")
    if run.sensitivity is not None:
        known["sensitivity"] = run.sensitivity.astype("f4")
    return {name: known[name] for name in run.recipe.quantize.columns if name in known}


def _weights_of(run: Run) -> Path | None:
    """Return the file of weights that ships with the dataset."""
    if run.masked is None or not run.masked.facts["weights_nbytes"]:
        return None
    return run.masked.folder / masking.WEIGHTS


def _note_stages_left_out(run: Run) -> None:
    """Tell which tables of the recipe have no effect."""
    recipe = run.recipe
    if recipe.sensitivity is not None and not recipe.bits.ranked:
        run.note("[sensitivity] is left out: no bits depend on it")
    if recipe.features is not None and (recipe.select is None or not recipe.select.binned):
        run.note("[features] is left out: there are no bins")
