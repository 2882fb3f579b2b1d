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
from dsqformat.select.bin_sizes import bin_size_table
from dsqformat.select.bins import Bins, estimate_bins, make_bins
from dsqformat.select.cut_cost import CutCost
from dsqformat.select.points import LastLayerGradients

__all__ = [
    "Bins",
    "CutCost",
    "LastLayerGradients",
    "LevelSearch",
    "Window",
    "allocate",
    "bin_size_table",
    "estimate_bins",
    "interpolated",
    "make_bins",
    "mixed_settings",
    "psnr_of",
    "solve_level",
    "squared_error_of",
]
