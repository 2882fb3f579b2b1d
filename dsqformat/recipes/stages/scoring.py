"""Stage scores: one number per sample that says how hard it is."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.pictures import PictureSet
from dsqformat.errors import RecipeError, SelectionError
from dsqformat.recipes.stage_options import Scores
from dsqformat.recipes.work_directory import Made, StageResult
from dsqformat.select import Grand, read_scores

VERSION: Final = 1
# Stage train writes them into its folder.
SCORES: Final = "scores.npz"


def score(
    options: Scores,
    trained: StageResult | None,
    pictures: PictureSet | None,
    count: int,
    network: str,
    *,
    seed: int,
    device: str,
    threads: int,
    progress: OnProgress,
) -> Made:
    """Return the score that samples are chosen by, as the array "score".

    Args:
        options: of the stage.
        trained: result of stage train, for scores of training dynamics.
        pictures: the whole set, for grand.
        count: samples.
        network: name of that of grand.
        seed: of the networks of grand.
        device: of torch.
        threads: of one operation.
        progress: called with stage, done and total.

    Raises:
        RecipeError: a file has another number of samples.
        SelectionError: the score was not recorded, or is not finite.
    """
    if options.score == "file":
        table = read_scores(options.file)
        if table.sample_count != count:
            raise RecipeError(
                f"scores.file: {options.file} is of {table.sample_count} samples, the source has "
                f"{count}; they must be the same, in the same order"
            )
        return Made({"score": table.column(options.column)})
    if options.score == "grand" and pictures is not None:
        return Made({"score": _grand(pictures, options, network, seed, device, threads, progress)})
    if trained is None or not (trained.folder / SCORES).is_file():
        raise SelectionError(f"scores.score: {options.score} needs [train] with 1 epoch or more")
    return Made({"score": read_scores(trained.folder / SCORES).column(options.score)})


def _grand(
    pictures: PictureSet,
    options: Scores,
    network: str,
    seed: int,
    device: str,
    threads: int,
    progress: OnProgress,
) -> NDArray[np.float64]:
    """Return the norm of the last layer's gradient, averaged over new networks."""
    from dsqformat.condense.last_layer import factor_norms
    from dsqformat.condense.proxy_training import TrainingOptions, repeated_outputs

    grand = Grand(len(pictures))
    for batch in repeated_outputs(
        pictures,
        network,
        options.initialisations,
        TrainingOptions(seed=seed, device=device, threads=threads),
        progress=progress,
    ):
        grand.update(batch.indices, *factor_norms(batch.logits, batch.labels, batch.hidden))
    return grand.scores()
