"""Pictures for tests of patches, real and made, and PSNR."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray


def made_pictures(count: int = 40, side: int = 32, seed: int = 0) -> NDArray[np.uint8]:
    """Pictures with the spectrum of photographs and some edges, uint8, shape (n, side, side, 3)."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = 1 / side
    spectrum = np.fft.fft2(rng.normal(size=(count, 4, side, side))) / frequency**1.4
    waves = np.fft.ifft2(spectrum).real
    waves /= waves.std(axis=(2, 3), keepdims=True)
    # A light that all channels share, a little colour, and an edge across each picture.
    light = waves[:, 3, :, :, np.newaxis] + 0.35 * waves[:, :3].transpose(0, 2, 3, 1)
    slope = rng.normal(size=(count, 2))
    y, x = np.mgrid[:side, :side] - side / 2
    edge = np.sign(slope[:, :1, np.newaxis] * y + slope[:, 1:, np.newaxis] * x)
    values = 120 + 38 * light + 30 * rng.normal(size=(count, 1, 1, 3)) * edge[..., np.newaxis]
    return np.clip(np.rint(values), 0, 255).astype("u1")


def photographs() -> NDArray[np.uint8]:
    """Crops of photographs, scaled down, uint8, shape (n, 32, 32, 3)."""
    data = pytest.importorskip("skimage.data")
    tiles = [
        picture[y : y + 128, x : x + 128].reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
        for picture in (data.astronaut(), data.chelsea(), data.coffee())
        for y in range(0, picture.shape[0] - 127, 128)
        for x in range(0, picture.shape[1] - 127, 128)
    ]
    return np.rint(tiles).astype("u1")


def psnr(values: NDArray[Any], back: NDArray[Any]) -> float:
    """PSNR in dB of values of 0 to 1."""
    return float(10 * np.log10(1 / np.mean((values - back) ** 2.0)))
