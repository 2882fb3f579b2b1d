"""Pictures with classes that can be learned, and networks small enough for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dsqformat.condense.pictures import ArrayPictures
from dsqformat.condense.proxy import Proxy


def striped_pictures(
    count: int = 48, side: int = 8, classes: int = 3, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Stripes whose width and colour tell the class, under noise; uint8 (n, side, side, 3)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    rng.shuffle(labels)
    rows = np.arange(side)[:, np.newaxis, np.newaxis]
    phase = rng.integers(0, 4, count)
    stripes = ((rows + phase) // (labels + 1) % 2).transpose(2, 0, 1)
    colour = np.stack([labels == c for c in range(3)], axis=1) * 60
    values = 60 + 90 * stripes[..., np.newaxis] + colour[:, np.newaxis, np.newaxis, :]
    noisy = values + rng.normal(0, 12, (count, side, side, 3))
    return np.clip(np.rint(noisy), 0, 255).astype("u1"), labels.astype("i8")


def striped_set(count: int = 48, **options: Any) -> ArrayPictures:
    """The same as a picture set."""
    return ArrayPictures(*striped_pictures(count, **options))


class TinyNetwork(nn.Module):
    """Convolutions of all kinds, batch normalisation, smooth activations, a linear layer."""

    def __init__(self, classes: int = 3, channels: int = 3, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 3), groups=2, bias=False)
        self.head = nn.Linear(6, classes, bias=bias)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        values = torch.tanh(self.norm(self.conv(values)))
        values = torch.tanh(self.conv2(values)).mean((2, 3))
        logits: torch.Tensor = self.head(values)
        return logits


def tiny_proxy(
    pictures: NDArray[Any], classes: int = 3, *, seed: int = 0, bias: bool = True
) -> Proxy:
    """An untrained TinyNetwork around pictures, its batch statistics away from 0 and 1."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = TinyNetwork(classes, pictures.shape[-1], bias)
        with torch.no_grad():
            network.norm.running_mean.uniform_(-0.5, 0.5)
            network.norm.running_var.uniform_(0.5, 2)
            network.norm.weight.uniform_(0.5, 1.5)
    proxy = Proxy(network, pictures[:2], classes, np.full(3, 0.4), np.full(3, 0.3))
    proxy.eval()
    return proxy
