"""The network of `--arch small`, made for a minute of one core; all others come by name."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn
from torch.nn import functional

from dsqformat.condense.evaluate.schedule import SMALL
from dsqformat.condense.networks import NETWORK_NAMES, TIMM_PREFIX, build_network

_WIDTHS: Final = (16, 32, 64)
# Logits of a normalised last layer start near 0 and grow no faster than the schedule can follow.
_LOGIT_SCALE: Final = 0.125


class _Unit(nn.Module):
    """A convolution with batch normalisation and ReLU."""

    def __init__(self, before: int, after: int, side: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, side, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.norm(self.conv(values)))


class _Shortcut(nn.Module):
    """Two units around which the values also go unchanged."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(_Unit(width, width), _Unit(width, width))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        changed: torch.Tensor = self.inner(values)
        return values + changed


class SmallNetwork(nn.Module):
    """A residual network of a few layers, after the ResNet-9 of fast CIFAR training.

    The stem has stride 2 already: at full resolution a CPU spends its time on memory. 117,000
    parameters; wider ones learn less in a minute, because they see the pictures less often.

    Args:
        channels: of the pictures.
        classes: number of outputs.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        first, second, third = _WIDTHS
        self.layers = nn.Sequential(
            _Unit(channels, first, side=4, stride=2),
            _Unit(first, second, stride=2),
            _Shortcut(second),
            _Unit(second, third, stride=2),
            _Shortcut(third),
        )
        self.head = nn.Linear(third, classes)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return logits (n, classes) of pictures (n, channels, height, width)."""
        hidden: torch.Tensor = self.layers(values).amax((2, 3))
        logits: torch.Tensor = self.head(hidden)
        return logits * _LOGIT_SCALE


def evaluation_network(
    arch: str, channels: int, classes: int, size: tuple[int, int] | None = None
) -> nn.Module:
    """Return a new network; its weights come from torch's generator.

    Args:
        arch: "small", a name of `build_network`, or the name of a model of timm.
        channels: of the pictures.
        classes: number of outputs.
        size: height and width of the pictures; see `build_network`.

    Raises:
        ModelError: there is no network of this name, or it cannot take pictures of this size.
        ImportError: it is one of timm, which is not installed.
    """
    if arch == SMALL:
        return SmallNetwork(channels, classes)
    known = arch in NETWORK_NAMES or arch.startswith(TIMM_PREFIX)
    return build_network(arch if known else TIMM_PREFIX + arch, channels, classes, size)
