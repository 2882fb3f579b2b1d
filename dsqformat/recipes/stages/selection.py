"""Stage select: which samples are kept, and the bin and rank of every one."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.pictures import PictureSet
from dsqformat.errors import RecipeError
from dsqformat.recipes.stage_options import Select
from dsqformat.recipes.stages.features import features_of
from dsqformat.recipes.work_directory import Made, StageResult
from dsqformat.select import (
    Bins,
    bin_means,
    ccs_coreset,
    contrastive_diversity,
    diversity_by_mean_cosine,
    importance_of,
    make_bins,
    random_coreset,
    sample_bins,
    sample_bins_adaptively,
    score_coreset,
    texture_scores,
)

VERSION: Final = 1
_BATCH: Final = 256


def select(
    count: int,
    options: Select,
    *,
    labels: NDArray[np.int64] | None,
    scores: NDArray[np.float64] | None,
    score_name: str,
    features: StageResult | None,
    pictures: PictureSet | None,
    seed: int,
    progress: OnProgress,
) -> Made:
    """Choose samples.

    Args:
        count: n.
        options: of the stage.
        labels: int64, shape (n,), where samples are chosen in each class.
        scores: float64, shape (n,), for methods score and ccs.
        score_name: which one.
        features: result of stage features, for bins.
        pictures: for the textures of adaptive-bins.
        seed: of what is left to chance.
        progress: called with stage, done and total.

    Returns:
        Arrays kept (int64, ascending), and with bins bin_id and bin_rank (int32, shape (n,)).

    Raises:
        SelectionError: the samples do not allow it.
    """
    if options.method == "random":
        kept = random_coreset(count, options.keep_ratio, labels, balance=options.balance, seed=seed)
        return Made({"kept": kept})
    if options.scored:
        if scores is None:
            raise RecipeError(f"select.method: {options.method} needs [scores]")
        return Made({"kept": _by_score(options, labels, scores, score_name, seed)})
    if features is None:
        raise RecipeError(f"select.method: {options.method} needs [features]")
    return _by_bins(options, labels, features, pictures, seed, progress)


def _by_score(
    options: Select,
    labels: NDArray[np.int64] | None,
    scores: NDArray[np.float64],
    score_name: str,
    seed: int,
) -> NDArray[np.int64]:
    """Return what is kept of one end of the scores, or of strata of them."""
    if options.method == "score":
        return score_coreset(
            scores, options.keep_ratio, labels, keep=options.keep, balance=options.balance
        )
    hardest = options.hardest
    if hardest == "auto":
        hardest = "lowest" if score_name == "aum" else "highest"
    return ccs_coreset(
        scores,
        options.keep_ratio,
        labels,
        hardest=hardest,
        beta=options.beta,
        strata=options.strata,
        balance=options.balance,
        seed=seed,
    )


def _by_bins(
    options: Select,
    labels: NDArray[np.int64] | None,
    features: StageResult,
    pictures: PictureSet | None,
    seed: int,
    progress: OnProgress,
) -> Made:
    """Put all samples into bins, and keep as many of each, or more of the important ones."""
    bins = make_bins(
        features_of(features),
        labels,
        bin_count=options.bins,
        metric=options.metric,
        per_class=options.per_class,
        sizes=options.sizes,
        progress=lambda done, total: progress("bins", done, total),
    )
    facts: dict[str, Any] = {"bin_sizes": bins.sizes().tolist(), "zero_rows": bins.zero_rows}
    if options.method == "bins":
        kept = sample_bins(
            bins,
            options.keep_ratio,
            labels,
            choice=options.choice,
            seed=seed,
            compat_rng=options.compat_rng,
        )
    else:
        importance, parts = _importance(bins, options, features, pictures, progress)
        facts |= parts
        kept = sample_bins_adaptively(
            bins,
            importance,
            options.keep_ratio,
            labels,
            mode=options.quota,
            alpha=options.alpha,
            choice=options.choice,
            seed=seed,
        )
    facts["kept_by_bin"] = np.bincount(bins.bin_ids[kept], minlength=options.bins).tolist()
    return Made({"bin_id": bins.bin_ids, "bin_rank": bins.ranks, "kept": kept}, facts)


def _importance(
    bins: Bins,
    options: Select,
    features: StageResult,
    pictures: PictureSet | None,
    progress: OnProgress,
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Return the importance of each bin, and what it is made of."""
    if pictures is None:
        raise RecipeError("select.method: adaptive-bins needs pictures, for their texture")
    textures = np.empty(len(bins))
    done = 0
    for batch in pictures.batches(_BATCH):
        textures[done : done + len(batch)] = texture_scores(
            batch if batch.shape[3] in (1, 3) else batch[..., :3]
        )
        done += len(batch)
        progress("texture", done, len(bins))
    texture = bin_means(textures, bins.bin_ids, bins.bin_count)
    if options.diversity == "contrastive":
        diversity = contrastive_diversity(
            features.array("anchors"),
            features.array("positives"),
            bins.bin_ids,
            bins.bin_count,
            temperature=options.temperature,
        )
    else:
        diversity = diversity_by_mean_cosine(features.array("hidden"), bins.bin_ids, bins.bin_count)
    importance = importance_of(texture, diversity, norm=options.norm)
    parts = {"texture": texture, "diversity": diversity, "importance": importance}
    return importance, {name: values.tolist() for name, values in parts.items()}
