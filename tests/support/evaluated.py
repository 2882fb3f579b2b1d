"""Small sets of two classes for `dsq evaluate`: as arrays, .npz and packed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat import DatasetWriter, FieldSpec
from dsqformat.condense.evaluate.labelled_pictures import LabelledPictures


def two_classes(
    count: int = 80, seed: int = 0, side: int = 8
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures brighter above or brighter below, under noise; labels in turns."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    ramp = np.linspace(-50, 50, side)[np.newaxis, :, np.newaxis, np.newaxis]
    slopes = np.where(labels == 0, 1, -1)[:, np.newaxis, np.newaxis, np.newaxis]
    noise = rng.normal(0, 25, (count, side, side, 3))
    return np.clip(128 + ramp * slopes + noise, 0, 255).astype("u1"), labels.astype("i8")


def labelled(count: int = 80, seed: int = 0, side: int = 8) -> LabelledPictures:
    """The same as the trainer takes them."""
    return LabelledPictures("made", *two_classes(count, seed, side))


def save_npz(path: Path, count: int = 80, seed: int = 0, side: int = 8) -> Path:
    """The same as a source."""
    pictures, labels = two_classes(count, seed, side)
    np.savez(path, x=pictures, y=labels)
    return path


def pack(
    path: Path, count: int = 80, *, keys: bool = False, layers: tuple[int, ...] = (2, 2),
    labels: bool = True, **options: Any,
) -> Path:  # fmt: skip
    """The same as a dataset of 4 bits in layers."""
    spec = FieldSpec("affine", bit_width=sum(layers), layers=layers[:-1])
    pictures, classes = two_classes(count)
    with DatasetWriter(path, fields=spec, **options) as writer:
        for number, picture in enumerate(pictures):
            sample = {"image": picture} | ({"label": int(classes[number])} if labels else {})
            writer.write(sample, key=f"a-long-key-of-{number:06d}" if keys else None)
    return path
