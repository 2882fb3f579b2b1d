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
