"""Texture of pictures: the mean gradient of their patches (Li et al., representativeness)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SelectionError

# The patches of the authors' code.
PATCH_SIDE: Final = 32
_LUMA: Final = (0.299, 0.587, 0.114)
_CHUNK_PIXELS: Final = 1 << 20


def texture_scores(images: NDArray[Any], *, patch_side: int = PATCH_SIDE) -> NDArray[np.float64]:
    """Return the mean of |Sobel x| / 2 + |Sobel y| / 2 over the patches of each picture.

    Each patch is a picture of its own, with borders reflected about their pixels. What is left
    over to the right and below is dropped; a side shorter than a patch is one patch.

    Args:
        images: shape (n, height, width), or (n, height, width, channels) with 1 or 3 channels;
            uint8, or floats of 0 to 1.
        patch_side: L.

    Returns:
        float64, shape (n,). The score of a bin is the mean over its patches, and so that over its
        pictures where all have the same size; else weigh by `patch_count`.

    Raises:
        SelectionError: these are no such pictures.
    """
    gray = np.asarray(images)
    if gray.ndim not in (3, 4) or (gray.ndim == 4 and gray.shape[3] not in (1, 3)):
        raise SelectionError(
            f"pictures: got shape {gray.shape}, expected (n, height, width) and perhaps 1 or 3 "
            "channels"
        )
    if gray.dtype != np.dtype("u1") and gray.dtype.kind != "f":
        raise SelectionError(f"pictures: got dtype {gray.dtype}, expected uint8, or 0 to 1")
    if not all(gray.shape[1:3]) or patch_side < 1:
        raise SelectionError(f"pictures: {gray.shape} in patches of {patch_side}: nothing to see")
    step = max(1, _CHUNK_PIXELS // (gray.shape[1] * gray.shape[2]))
    parts = [_texture(gray[i : i + step], patch_side) for i in range(0, len(gray), step)]
    scores = np.concatenate(parts) if parts else np.zeros(0)
    if not np.isfinite(scores).all():
        wrong = int((~np.isfinite(scores)).argmax())
        raise SelectionError(f"pictures: sample {wrong} has NaN or infinite values")
    return scores


def patch_count(height: int, width: int, patch_side: int = PATCH_SIDE) -> int:
    """Return how many patches of a picture count."""
    return max(1, height // patch_side) * max(1, width // patch_side)


def _texture(images: NDArray[Any], patch_side: int) -> NDArray[np.float64]:
    gray = images.astype("f8")
    if images.dtype == np.dtype("u1"):
        gray /= 255
    if gray.ndim == 4:
        gray = gray @ np.array(_LUMA if gray.shape[3] == 3 else [1.0])
    count, height, width = gray.shape
    tall, wide = min(patch_side, height), min(patch_side, width)
    rows, columns = height // tall, width // wide
    patches = gray[:, : rows * tall, : columns * wide].reshape(count, rows, tall, columns, wide)
    patches = patches.swapaxes(2, 3).reshape(-1, tall, wide)
    around = np.pad(patches, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    across = around[:, :, 2:] - around[:, :, :-2]
    down = around[:, 2:] - around[:, :-2]
    energy = np.abs(across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:])
    energy += np.abs(down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:])
    means: NDArray[np.float64] = energy.reshape(count, -1).mean(axis=1) / 2
    return means
