"""Decides beforehand what is kept and how finely: arrays in, numbers out; no torch, no network.

Bins              make_bins, estimate_bins; LastLayerGradients for features in two factors
Samples of bins   sample_bins, sample_bins_adaptively, bin_quotas, apportion
Importance        texture_scores, bin_means, diversity_by_mean_cosine, contrastive_diversity,
                  importance_of
Scores            TrainingDynamics with El2n, Aum, Forgetting, Entropy, Tdds; Grand, gradient_norms
Files of scores   ScoreTable, read_scores, write_scores: the only input and output here
Coresets          random_coreset, score_coreset, ccs_coreset
Sensitivity       gradient_distance and its likes, last_layer_distance, last_layer_residuals
Bits              two_bit_levels, ranked_bit_levels, budgeted_bit_levels, bits_by_class
Budgets           allocate, solve_level, LevelSearch, Window: the one solver of the project
Numbers           exact_ratio, keep_count: ratios mean their decimals, "1/3" is a third

What cannot be done with the samples at hand is a SelectionError of one line.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsqformat.select.allocation import allocate
    from dsqformat.select.apportionment import apportion
    from dsqformat.select.bin_sizes import SizeRule, bin_size_table
    from dsqformat.select.bins import Bins, estimate_bins, make_bins
    from dsqformat.select.bit_levels import (
        bits_by_class,
        budgeted_bit_levels,
        ranked_bit_levels,
        two_bit_levels,
    )
    from dsqformat.select.coresets import ccs_coreset, random_coreset, score_coreset
    from dsqformat.select.cut_cost import CutCost
    from dsqformat.select.distortion import psnr_of, squared_error_of
    from dsqformat.select.dynamics import Accumulator, Batch, TrainingDynamics
    from dsqformat.select.importance import (
        bin_means,
        contrastive_diversity,
        diversity_by_mean_cosine,
        importance_of,
    )
    from dsqformat.select.levels import (
        LevelSearch,
        Window,
        interpolated,
        mixed_settings,
        solve_level,
    )
    from dsqformat.select.points import Features, LastLayerGradients, Metric
    from dsqformat.select.ratios import Ratio, exact_ratio, keep_count
    from dsqformat.select.sampling import bin_quotas, sample_bins, sample_bins_adaptively
    from dsqformat.select.score_file import ScoreTable, read_scores, write_scores
    from dsqformat.select.scores import Aum, El2n, Entropy, Forgetting, Grand, Tdds, gradient_norms
    from dsqformat.select.sensitivity import (
        gradient_distance,
        gradient_distance_from_products,
        gradient_distance_from_sums,
        last_layer_distance,
        last_layer_residuals,
    )
    from dsqformat.select.texture import patch_count, texture_scores

__all__ = [
    "Accumulator",
    "Aum",
    "Batch",
    "Bins",
    "CutCost",
    "El2n",
    "Entropy",
    "Features",
    "Forgetting",
    "Grand",
    "LastLayerGradients",
    "LevelSearch",
    "Metric",
    "Ratio",
    "ScoreTable",
    "SizeRule",
    "Tdds",
    "TrainingDynamics",
    "Window",
    "allocate",
    "apportion",
    "bin_means",
    "bin_quotas",
    "bin_size_table",
    "bits_by_class",
    "budgeted_bit_levels",
    "ccs_coreset",
    "contrastive_diversity",
    "diversity_by_mean_cosine",
    "estimate_bins",
    "exact_ratio",
    "gradient_distance",
    "gradient_distance_from_products",
    "gradient_distance_from_sums",
    "gradient_norms",
    "importance_of",
    "interpolated",
    "keep_count",
    "last_layer_distance",
    "last_layer_residuals",
    "make_bins",
    "mixed_settings",
    "patch_count",
    "psnr_of",
    "random_coreset",
    "ranked_bit_levels",
    "read_scores",
    "sample_bins",
    "sample_bins_adaptively",
    "score_coreset",
    "solve_level",
    "squared_error_of",
    "texture_scores",
    "two_bit_levels",
    "write_scores",
]

# Imported when first used: writers need the solver of budgets alone.
_MODULES = {
    "allocation": "allocate",
    "apportionment": "apportion",
    "bin_sizes": "SizeRule bin_size_table",
    "bins": "Bins estimate_bins make_bins",
    "bit_levels": "ranked_bit_levels bits_by_class budgeted_bit_levels two_bit_levels",
    "coresets": "ccs_coreset random_coreset score_coreset",
    "cut_cost": "CutCost",
    "distortion": "psnr_of squared_error_of",
    "dynamics": "Accumulator Batch TrainingDynamics",
    "importance": "bin_means contrastive_diversity diversity_by_mean_cosine importance_of",
    "levels": "LevelSearch Window interpolated mixed_settings solve_level",
    "points": "Features LastLayerGradients Metric",
    "ratios": "Ratio exact_ratio keep_count",
    "sampling": "bin_quotas sample_bins sample_bins_adaptively",
    "score_file": "ScoreTable read_scores write_scores",
    "scores": "Aum El2n Entropy Forgetting Grand Tdds gradient_norms",
    "sensitivity": (
        "gradient_distance gradient_distance_from_products gradient_distance_from_sums "
        "last_layer_distance last_layer_residuals"
    ),
    "texture": "patch_count texture_scores",
}
_LAZY = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"dsqformat.select.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return __all__
