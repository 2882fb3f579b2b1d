"""Decides beforehand what is kept and how finely: pure functions of numbers, no I/O."""

from dsqformat.select.allocation import (
    LevelSearch,
    Window,
    allocate,
    interpolated,
    mixed_settings,
    psnr_of,
    solve_level,
    squared_error_of,
)
from dsqformat.select.apportion import apportion
from dsqformat.select.bin_sizes import bin_size_table
from dsqformat.select.bins import Bins, estimate_bins, make_bins
from dsqformat.select.bit_levels import (
    bit_levels,
    bits_by_class,
    budgeted_bit_levels,
    two_bit_levels,
)
from dsqformat.select.coresets import ccs_coreset, random_coreset, score_coreset
from dsqformat.select.cut_cost import CutCost
from dsqformat.select.dynamics import Accumulator, Batch, TrainingDynamics
from dsqformat.select.importance import (
    bin_means,
    contrastive_diversity,
    diversity_by_mean_cosine,
    importance_of,
)
from dsqformat.select.points import LastLayerGradients
from dsqformat.select.ratios import Ratio, exact_ratio, keep_count
from dsqformat.select.sampling import bin_quotas, sample_bins, sample_bins_adaptively
from dsqformat.select.score_file import ScoreTable, read_scores, write_scores
from dsqformat.select.scores import (
    Aum,
    El2n,
    Entropy,
    Forgetting,
    Grand,
    Tdds,
    gradient_norms,
)
from dsqformat.select.sensitivity import (
    gradient_distance,
    gradient_distance_from_products,
    gradient_distance_from_sums,
    last_layer_distance,
    last_layer_residuals,
)
from dsqformat.select.texture import patch_count, texture

__all__ = [
    "Accumulator",
    "Aum",
    "Batch",
    "Bins",
    "CutCost",
    "El2n",
    "Entropy",
    "Forgetting",
    "Grand",
    "LastLayerGradients",
    "LevelSearch",
    "Ratio",
    "ScoreTable",
    "Tdds",
    "TrainingDynamics",
    "Window",
    "allocate",
    "apportion",
    "bin_means",
    "bin_quotas",
    "bin_size_table",
    "bit_levels",
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
    "read_scores",
    "sample_bins",
    "sample_bins_adaptively",
    "score_coreset",
    "solve_level",
    "squared_error_of",
    "texture",
    "two_bit_levels",
    "write_scores",
]
