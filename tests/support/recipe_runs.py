"""Recipes on a small labelled set, small enough for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dsqformat.recipes import CondenseOutcome, condense
from proxies import striped_pictures

COUNT, SIDE = 120, 16
# One epoch everywhere, so that recipes that share a work directory share the training.
SMALL: dict[str, list[str]] = {
    "adq-bins": ["train.epochs=1", "select.bins=4", "select.keep_ratio=0.25"],
    "budget": ["bits.qps=[40, 92, 144]"],
    "ccs-aum-lsq-adaptive": ["train.epochs=1", "select.keep_ratio=0.3"],
    "dq": ["train.epochs=1", "select.bins=4", "select.keep_ratio=0.25"],
    "lsq-adaptive-10-6": ["train.epochs=1"],
    "lsq-adaptive-16-16": ["train.epochs=1"],
    "lsq-adaptive-4-0": ["train.epochs=1"],
    "lsq-adaptive-8-0": ["train.epochs=1"],
    "lsq-fixed": [],
    "ptq-patch": ["train.epochs=1", "refine.iterations=3"],
}


def write_source(path: Path, *, labels: bool = True, count: int = COUNT, **more: Any) -> Path:
    """Write a .npz of striped pictures."""
    x, y = striped_pictures(count, SIDE)
    arrays: dict[str, Any] = {"x": x, **({"y": y} if labels else {}), **more}
    np.savez(path, **arrays)
    return path


def small_run(
    source: Path, dest: Path, name: str, *settings: str, **options: Any
) -> CondenseOutcome:
    """Carry out a shipped recipe with small settings; without a report unless asked for."""
    options.setdefault("report", False)
    # Models of pixels take seconds to fit; one test has them.
    coding = [] if name == "budget" else ["quantize.coding=zstd"]
    return condense(source, dest, name, settings=[*SMALL[name], *coding, *settings], **options)
