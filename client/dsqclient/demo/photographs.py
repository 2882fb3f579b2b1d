"""Real input without a download: patches of photographs that scikit-learn and scikit-image ship."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SIDE: Final = 32
STRIDE: Final = 16
MAX_TRAINING: Final = 4000
MAX_TEST_PER_CLASS: Final = 60
# Photographs are cut into tiles of this side; every fourth tile, in both directions shifted, is
# for testing. A training patch keeps this many pixels away from every test tile.
_TILE: Final = 80
_GAP: Final = 8

_SKIMAGE: Final = {
    "astronaut": "astronaut",
    "cat": "chelsea",
    "coffee": "coffee",
    "galaxies": "hubble_deep_field",
    "retina": "retina",
    "rocket": "rocket",
    "tissue": "immunohistochemistry",
}


@dataclass(frozen=True)
class Patches:
    """Patches of all photographs; the class of a patch is the photograph it comes from.

    Attributes:
        names: of the classes.
        train: uint8, shape (n, 32, 32, 3), balanced over the classes.
        train_label: int64, shape (n,).
        test: uint8, shape (m, 32, 32, 3), from regions no training patch touches.
        test_label: int64, shape (m,).
    """

    names: tuple[str, ...]
    train: NDArray[np.uint8]
    train_label: NDArray[np.int64]
    test: NDArray[np.uint8]
    test_label: NDArray[np.int64]


def load_photographs() -> dict[str, NDArray[np.uint8]]:
    """Return the photographs by name, uint8, shape (height, width, 3)."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    photographs = {name: getattr(data, loader)() for name, loader in _SKIMAGE.items()}
    stereo: Any = data.stereo_motorcycle
    photographs["motorcycle"] = stereo()[0]
    photographs["temple"] = load_sample_image("china.jpg")
    photographs["flower"] = load_sample_image("flower.jpg")
    return {name: np.asarray(photographs[name], "u1") for name in sorted(photographs)}


def make_patches(seed: int = 0, limit: int = MAX_TRAINING) -> Patches:
    """Cut the photographs into training and test patches.

    Args:
        seed: of the choice where there are more patches than needed.
        limit: most training patches.
    """
    rng = np.random.default_rng(seed)
    photographs = load_photographs()
    corners = {name: split_corners(p.shape[:2]) for name, p in photographs.items()}
    per_class = min(limit // len(corners), *(len(train) for train, _ in corners.values()))
    held_out = min(MAX_TEST_PER_CLASS, *(len(test) for _, test in corners.values()))
    parts: list[list[Any]] = [[], []]
    for name, photograph in photographs.items():
        for part, (chosen, count) in enumerate(
            zip(corners[name], (per_class, held_out), strict=True)
        ):
            some = chosen[rng.permutation(len(chosen))[:count]]
            parts[part].append(cut(photograph, some))
    labels = [np.repeat(np.arange(len(corners)), count) for count in (per_class, held_out)]
    return Patches(
        tuple(photographs),
        np.concatenate(parts[0]),
        labels[0],
        np.concatenate(parts[1]),
        labels[1],
    )


def cut(photograph: NDArray[np.uint8], corners: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the patches with these upper left corners, shape (n, 32, 32, 3)."""
    return np.stack([photograph[y : y + SIDE, x : x + SIDE] for y, x in corners])


def split_corners(shape: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the upper left corners of training and test patches of a photograph.

    Args:
        shape: height and width of the photograph.

    Returns:
        Two int64 arrays of shape (n, 2). No pixel of a training patch is in, or within 8 pixels
        of, a test tile; test patches lie inside test tiles.
    """
    for_test = np.zeros(shape, "?")
    for y, x in _test_tiles(shape):
        for_test[y : y + _TILE, x : x + _TILE] = True
    near_test = np.zeros(shape, "?")
    for y, x in _test_tiles(shape):
        top, left = max(0, y - _GAP), max(0, x - _GAP)
        near_test[top : y + _TILE + _GAP, left : x + _TILE + _GAP] = True
    train, test = [], []
    for y in range(0, shape[0] - SIDE + 1, STRIDE):
        for x in range(0, shape[1] - SIDE + 1, STRIDE):
            window = np.s_[y : y + SIDE, x : x + SIDE]
            if not near_test[window].any():
                train.append((y, x))
            elif for_test[window].all():
                test.append((y, x))
    return np.array(train, "i8").reshape(-1, 2), np.array(test, "i8").reshape(-1, 2)


def _test_tiles(shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    for row in range(shape[0] // _TILE):
        for column in range(shape[1] // _TILE):
            if (row + 2 * column) % 5 == 0:
                yield row * _TILE, column * _TILE


def mean_colour_accuracy(patches: Patches) -> float:
    """Return the test accuracy of a classifier that sees only the mean colour of a patch."""
    from sklearn.linear_model import LogisticRegression

    train = patches.train.mean(axis=(1, 2)) / 255
    test = patches.test.mean(axis=(1, 2)) / 255
    model = LogisticRegression(max_iter=2000).fit(train, patches.train_label)
    return float(model.score(test, patches.test_label))
