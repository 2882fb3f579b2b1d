"""A small convolutional network, trained from whatever brings batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

BATCH_SIZE: Final = 64
_TOP_RATE: Final = 4e-3

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class TrainingTimes:
    """When things happened in one training run.

    Attributes:
        first_batch_s: from asking for the first epoch to its first batch.
        epoch_s: seconds of each epoch.
    """

    first_batch_s: float
    epoch_s: list[float]


def new_network(classes: int, seed: int) -> nn.Module:
    """Return the network: three convolutions, about 60,000 parameters."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in ((3, 24), (24, 48), (48, 96)):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, classes))
    # Pictures come out of a dataset in this order of memory.
    moved: nn.Module = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


def train(
    network: nn.Module,
    epochs: int,
    steps: int,
    open_epoch: Callable[[int], Iterable[Batch]],
    on_step: Callable[[], None],
) -> TrainingTimes:
    """Train with AdamW and a one-cycle schedule.

    Args:
        network: changed in place.
        epochs: number of epochs.
        steps: batches of an epoch; the schedule is made for them.
        open_epoch: returns the batches of an epoch: pictures (n, 3, 32, 32) in [0, 1], labels.
        on_step: called after every batch.
    """
    optimizer = torch.optim.AdamW(network.parameters(), _TOP_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _TOP_RATE, total_steps=epochs * steps + 1
    )
    network.train()
    first_batch_s, epoch_s = 0.0, []
    for epoch in range(epochs):
        start = time.monotonic()
        for number, (pictures, labels) in enumerate(open_epoch(epoch)):
            if epoch == number == 0:
                first_batch_s = time.monotonic() - start
            optimizer.zero_grad()
            loss: Any = functional.cross_entropy(network(pictures - 0.5), labels)
            loss.backward()
            optimizer.step()
            schedule.step()
            on_step()
        epoch_s.append(time.monotonic() - start)
    return TrainingTimes(first_batch_s, epoch_s)


def test_accuracy(
    network: nn.Module, pictures: NDArray[np.uint8], labels: NDArray[np.int64]
) -> float:
    """Return the share of pictures (n, 32, 32, 3) that are classified as their labels say."""
    network.eval()
    inputs = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255 - 0.5
    with torch.no_grad():
        found: Any = network(inputs).argmax(1).numpy()
    return float((found == labels).mean())
