"""Decides beforehand what is kept and how finely: pure functions of numbers, no I/O."""

from dsqformat.select.allocation import allocate
from dsqformat.select.distortion import psnr_of, squared_error_of
from dsqformat.select.levels import LevelSearch, Window, interpolated, mixed_settings, solve_level

__all__ = [
    "LevelSearch",
    "Window",
    "allocate",
    "interpolated",
    "mixed_settings",
    "psnr_of",
    "solve_level",
    "squared_error_of",
]
