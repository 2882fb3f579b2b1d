"""How much is in each patch of a picture, without a network: edges, variance, or chance."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.quantize.mask import patch_grid

# Luma of ITU-R BT.601, as picture libraries turn RGB into grey.
_LUMA: Final = np.array([0.299, 0.587, 0.114], "f4")
# Pictures are worked on in parts of this many values, which stay in the cache.
_PART_VALUES: Final = 1 << 19


def sobel_importance(pictures: NDArray[Any], patch: int) -> NDArray[np.float32]:
    """Return the mean strength of edges in each patch.

    Strength is (|gx| + |gy|) / 2 of the 3x3 Sobel kernels on grey values, with the picture
    mirrored at its border (without repeating the border itself).

    Args:
        pictures: uint8 or floating point, shape (n, height, width, channels).
        patch: side of a patch; those at the right and lower edge may be smaller.

    Returns:
        float32, shape (n, rows, columns), in units of [0, 1] pictures.
    """
    return _by_part(pictures, patch, lambda part: patch_means(_edges(_grey(part)), patch))


def variance_importance(pictures: NDArray[Any], patch: int) -> NDArray[np.float32]:
    """Return the variance of the values of each patch, averaged over channels.

    Args:
        pictures: uint8 or floating point, shape (n, height, width, channels).
        patch: side of a patch.

    Returns:
        float32, shape (n, rows, columns), in units of [0, 1] pictures.
    """

    def variance(part: NDArray[Any]) -> NDArray[np.float32]:
        unit = _unit(part).astype("f8")
        count, height, width, channels = unit.shape
        planes = unit.transpose(0, 3, 1, 2).reshape(count * channels, height, width)
        spread = patch_means(planes * planes, patch) - patch_means(planes, patch) ** 2
        per_channel = np.maximum(spread, 0).reshape(count, channels, *spread.shape[1:])
        mean: NDArray[np.float32] = per_channel.mean(axis=1).astype("f4")
        return mean

    return _by_part(pictures, patch, variance)


def random_importance(
    count: int, grid: tuple[int, int], seed: int, first: int = 0
) -> NDArray[np.float32]:
    """Return importance by chance, the baseline of Zhou et al., Table 3.

    Args:
        count: pictures.
        grid: rows and columns of patches.
        seed: of the choice.
        first: position of the first picture; a picture's scores depend on its position and the
            seed alone, not on the batches it came in.

    Returns:
        float32, shape (count, rows, columns), of [0, 1).
    """
    scores = np.empty((count, *grid), "f4")
    for row in range(count):
        key = np.random.SeedSequence([seed, first + row])
        scores[row] = np.random.Generator(np.random.PCG64(key)).random(grid, "f4")
    return scores


def patch_means(values: NDArray[Any], patch: int) -> NDArray[Any]:
    """Return the mean of each patch.

    Args:
        values: floating point, shape (n, height, width).
        patch: side of a patch; those at the right and lower edge may be smaller.

    Returns:
        The dtype of `values`, shape (n, rows, columns).
    """
    if patch < 1:
        raise ValueError(f"patch={patch}: expected a side of 1 pixel or more")
    _, height, width = values.shape
    rows, columns = patch_grid(height, width, patch)
    sums = np.add.reduceat(values, np.arange(rows) * patch, axis=1)
    sums = np.add.reduceat(sums, np.arange(columns) * patch, axis=2)
    tall = np.minimum(patch, height - np.arange(rows) * patch)
    wide = np.minimum(patch, width - np.arange(columns) * patch)
    means: NDArray[Any] = (sums / (tall[:, np.newaxis] * wide)).astype(values.dtype)
    return means


def _by_part(pictures: NDArray[Any], patch: int, score: Any) -> NDArray[np.float32]:
    if pictures.ndim != 4:
        raise ValueError(
            f"pictures of shape {pictures.shape}, expected (n, height, width, channels)"
        )
    count, height, width, channels = pictures.shape
    scores = np.empty((count, *patch_grid(height, width, patch)), "f4")
    step = max(1, _PART_VALUES // max(1, height * width * channels))
    for begin in range(0, count, step):
        scores[begin : begin + step] = score(pictures[begin : begin + step])
    return scores


def _unit(pictures: NDArray[Any]) -> NDArray[Any]:
    if pictures.dtype == np.uint8:
        return pictures.astype("f4") / np.float32(255)
    return pictures


def _grey(pictures: NDArray[Any]) -> NDArray[np.float32]:
    unit = _unit(pictures).astype("f4", copy=False)
    grey: NDArray[np.float32]
    if unit.shape[3] == 3:
        grey = unit[..., 0] * _LUMA[0] + unit[..., 1] * _LUMA[1] + unit[..., 2] * _LUMA[2]
    else:
        grey = unit.mean(axis=3, dtype="f4")
    return grey


def _edges(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    around = ((0, 0), (1, 1), (1, 1))
    # A side of one pixel has nothing to mirror; its own value stands for its neighbours.
    padded = np.pad(grey, around, "reflect" if min(grey.shape[1:]) > 1 else "edge")
    smooth_down = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    smooth_across = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    across = np.abs(smooth_down[:, :, 2:] - smooth_down[:, :, :-2])
    down = np.abs(smooth_across[:, 2:] - smooth_across[:, :-2])
    edges: NDArray[np.float32] = (across + down) * np.float32(0.5)
    return edges
