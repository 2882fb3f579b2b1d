"""Small datasets and shards for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dsqformat import DatasetWriter, FieldSpec
from strategies import Made


def write_made(path: Path, made: Made, **options: Any) -> DatasetWriter:
    """Write drawn samples, in their order unless `shuffle` says otherwise."""
    options = {"shuffle": False, "zstd_level": 3} | options
    with DatasetWriter(path, fields=made.specs, **options) as writer:
        for number, sample in enumerate(made.samples):
            writer.write(
                sample,
                key=made.keys[number] if made.keys else None,
                bit_width=made.widths[number],
                masks=made.masks[number],
            )
    return writer


def write_pictures(path: Path, count: int = 40, *, seed: int = 0, **options: Any) -> Any:
    """Write `count` smooth random pictures of 8x8x3 with labels and keys; return them."""
    rng = np.random.default_rng(seed)
    ramp = np.arange(8)
    pictures = (
        rng.integers(0, 100, (count, 1, 1, 3))
        + rng.integers(0, 9, (count, 1, 1, 1)) * ramp[:, None, None]
        + rng.integers(0, 9, (count, 1, 1, 1)) * ramp[:, None]
        + rng.integers(0, 12, (count, 8, 8, 3))
    ).astype("u1")
    spec = options.pop("spec", FieldSpec())
    with DatasetWriter(path, fields=spec, **options) as writer:
        for number, picture in enumerate(pictures):
            sample = {"image": picture, "label": number % 5, "number": number}
            writer.write(sample, key=f"picture-{number:04d}")
    return pictures


def shard_paths(path: Path) -> list[Path]:
    """The shard files of a dataset."""
    return sorted((path / "blobs").glob("*.dsq"))
