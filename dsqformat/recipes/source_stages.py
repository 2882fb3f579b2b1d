"""Stages that look at the whole source: train, scores, features, select.

Each function says what the result of a stage depends on, which makes its key, and what the code of
the stage is handed. Both stand side by side, because what is handed over must follow from the key.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import RecipeError
from dsqformat.recipes.stage_options import Features, Scores, Select
from dsqformat.recipes.stages import features, selection
from dsqformat.recipes.work_directory import Made, Stage, StageResult, file_digest
from dsqformat.select import estimate_bins

if TYPE_CHECKING:
    from dsqformat.recipes.runner import Run


def train_stage(run: Run) -> Stage:
    """Return the training of the proxy network on all samples.

    Raises:
        RecipeError: the source has no classes.
    """
    from dsqformat.recipes.stages import training

    run.staged.labels("training a proxy network")
    options, inputs = run.train_options, {"staged": run.staged.digest}
    tdds = run.recipe.scores is not None and run.recipe.scores.score == "tdds"
    if run.network is not None:
        from dsqformat.condense.proxy_weights import network_digest

        inputs["network"] = network_digest(run.network)
    if options.weights:
        inputs["weights"] = file_digest(Path(options.weights))
    return Stage(
        "train",
        training.VERSION,
        asdict(options) | {"device": run.device, "seed": run.recipe.seed, "tdds": tdds},
        inputs,
        lambda folder: training.train(
            folder,
            run.staged.pictures,
            options,
            run.network,
            tdds=tdds,
            seed=run.recipe.seed,
            device=run.device,
            progress=run.progress,
        ),
    )


def scores_stage(run: Run, options: Scores) -> Stage:
    """Return the scoring of all samples: from a file, new networks, or what training recorded.

    Raises:
        RecipeError: the source has no classes, and the score needs some.
        OSError: the file of scores cannot be read.
    """
    from dsqformat.recipes.stages import scoring

    inputs = {"staged": run.staged.digest}
    trained, pictures = None, None
    if options.score == "file":
        inputs["file"] = file_digest(Path(options.file))
    elif options.score == "grand":
        pictures = run.staged.pictures
        run.staged.labels("score grand")
    else:
        trained = run.trained
        inputs["train"] = trained.digest
    network = run.train_options.network
    return Stage(
        "scores",
        scoring.VERSION,
        asdict(options) | {"network": network, "seed": run.recipe.seed},
        inputs,
        lambda _folder: scoring.score(
            options,
            trained,
            pictures,
            len(run.staged),
            network,
            seed=run.recipe.seed,
            device=run.device,
            threads=run.train_options.threads,
            progress=run.progress,
        ),
    )


def features_stage(run: Run, options: Features, select: Select) -> Stage:
    """Return the making of features of all samples, for the bins that `select` asks for.

    Raises:
        RecipeError: mirror images are needed, and features come from a file.
        OSError: the file cannot be read.
    """
    mirrored = select.method == "adaptive-bins" and select.diversity == "contrastive"
    if options.kind == "file":
        if mirrored:
            raise RecipeError(
                "select.diversity: got 'contrastive', expected 'mean-cosine' with features of "
                "a file: mirror images need a network"
            )
        return Stage(
            "features",
            features.VERSION,
            {"kind": "file"},
            {"file": file_digest(Path(options.file)), "staged": run.staged.digest},
            lambda folder: features.copy_features(folder, options, len(run.staged)),
        )
    return Stage(
        "features",
        features.VERSION,
        asdict(options) | {"mirrored": mirrored},
        {"staged": run.staged.digest, "train": run.trained.digest},
        lambda folder: features.write_features(
            folder,
            run.proxy,
            run.staged.pictures,
            options,
            mirrored=mirrored,
            threads=run.train_options.threads,
            progress=run.progress,
        ),
    )


def select_stage(run: Run, options: Select) -> Stage:
    """Return the choice of samples.

    Raises:
        RecipeError: samples are to be chosen in each class, and the source has none.
    """
    inputs = {"staged": run.staged.digest}
    if run.scored is not None and options.scored:
        inputs["scores"] = run.scored.digest
    if run.featured is not None:
        inputs["features"] = run.featured.digest
    by_class = options.per_class and (options.method != "random" or run.staged.has_labels)
    labels = run.staged.labels(f"select.method {options.method}") if by_class else None
    score_name = (run.recipe.scores or Scores()).score

    def make(_folder: Path) -> Made:
        if run.featured is not None:
            run.note(_bins_estimate(run.featured, labels, options))
        return selection.select(
            len(run.staged),
            options,
            labels=labels,
            scores=run.score if options.scored else None,
            score_name=score_name,
            features=run.featured,
            pictures=run.staged.pictures if options.method == "adaptive-bins" else None,
            seed=run.recipe.seed,
            progress=run.progress,
        )

    own = {"score": score_name if options.scored else None, "seed": run.recipe.seed}
    return Stage("select", selection.VERSION, asdict(options) | own, inputs, make)


def _bins_estimate(featured: StageResult, labels: NDArray[np.int64] | None, options: Select) -> str:
    """Return what bins will take, told before they are made."""
    found = features.features_of(featured)
    return str(estimate_bins(found, labels, per_class=options.per_class))
