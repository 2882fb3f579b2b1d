"""The discriminator behind contrastive diversity: it learns to tell samples apart (Li et al., 5).

A small network on features of an image network, trained so that two views of one sample are alike
and views of different ones are not. What it makes of a bin's samples is what
`dsqformat.select.contrastive_diversity` compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.reproducibility import DEFAULT_THREADS, reproducible, stream
from dsqformat.errors import ModelError


@dataclass(frozen=True)
class HeadOptions:
    """How the discriminator is made and trained.

    Attributes:
        width: of its hidden layer.
        outputs: numbers per sample.
        epochs: 1 or more.
        batch_size: samples of a step, 2 or more; each is told apart from the others of its batch.
        learning_rate: of Adam.
        temperature: of the loss. The paper states none; at 0.07 single pairs dominate.
        seed: of weights and order.
        threads: of one operation on the CPU; None: as torch is set.
        device: where to train.
    """

    width: int = 512
    outputs: int = 128
    epochs: int = 10
    batch_size: int = 256
    learning_rate: float = 1e-3
    temperature: float = 0.5
    seed: int = 0
    threads: int | None = DEFAULT_THREADS
    device: str = "cpu"

    def __post_init__(self) -> None:
        if min(self.width, self.outputs, self.epochs) < 1 or self.batch_size < 2:
            raise ValueError(
                f"width={self.width}, outputs={self.outputs}, epochs={self.epochs}, "
                f"batch_size={self.batch_size}: expected at least 1, 1, 1 and 2"
            )
        if not (self.learning_rate > 0 and self.temperature > 0):
            raise ValueError(
                f"learning_rate={self.learning_rate}, temperature={self.temperature}: "
                "expected above 0"
            )


@dataclass(frozen=True)
class Discriminated:
    """What the trained discriminator says.

    Attributes:
        anchors: float32, shape (n, outputs), of the samples.
        positives: likewise, of the other view of each.
        loss: mean of each epoch.
    """

    anchors: NDArray[np.float32]
    positives: NDArray[np.float32]
    loss: tuple[float, ...]


def discriminate(
    features: NDArray[Any],
    other_view: NDArray[Any],
    options: HeadOptions | None = None,
    *,
    progress: OnProgress | None = None,
) -> Discriminated:
    """Train a discriminator on two views of samples, and return what it makes of them.

    Args:
        features: floating point, shape (n, d), finite, n at least 2; a memory map will do.
        other_view: the same of another view of each sample, such as its mirror image.
        options: None for the defaults.
        progress: called with a stage, samples done and samples in all.

    Raises:
        ModelError: the views do not fit together, there are fewer than two samples, or the loss
            becomes NaN.
    """
    options = options or HeadOptions()
    if features.ndim != 2 or features.shape != other_view.shape or len(features) < 2:
        raise ModelError(
            f"views of shapes {features.shape} and {other_view.shape}: expected (samples, "
            "features) twice, of at least 2 samples"
        )
    with reproducible(options.seed, options.threads):
        head = _Head(features, options).to(options.device)
        loss = _train(head, features, other_view, options, progress)
        found = [_applied(head, views, options.batch_size) for views in (features, other_view)]
    return Discriminated(found[0], found[1], loss)


class _Head(nn.Module):
    """Standardised features, one hidden layer, outputs of length 1."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, features: NDArray[Any], options: HeadOptions) -> None:
        super().__init__()
        mean, std = _statistics(features, options.batch_size)
        self.register_buffer("mean", torch.from_numpy(mean.astype("f4")))
        self.register_buffer("std", torch.from_numpy(std.astype("f4")))
        self.layers = nn.Sequential(
            nn.Linear(features.shape[1], options.width),
            nn.ReLU(),
            nn.Linear(options.width, options.outputs),
        )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return functional.normalize(self.layers((values - self.mean) / self.std), dim=1)

    def of(self, rows: NDArray[Any]) -> torch.Tensor:
        """Return the outputs of rows of an array."""
        values = torch.from_numpy(np.array(rows, "f4")).to(self.mean.device)
        outputs: torch.Tensor = self(values)
        return outputs


def _statistics(
    features: NDArray[Any], step: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    total, squares = np.zeros((2, features.shape[1]))
    for begin in range(0, len(features), step):
        part = features[begin : begin + step].astype("f8")
        total += part.sum(axis=0)
        squares += (part * part).sum(axis=0)
    mean = total / len(features)
    std = np.sqrt(np.maximum(squares / len(features) - mean * mean, 0))
    return mean, np.where(std > 1e-6, std, 1.0)


def _train(
    head: _Head,
    features: NDArray[Any],
    other_view: NDArray[Any],
    options: HeadOptions,
    progress: OnProgress | None,
) -> tuple[float, ...]:
    adam = torch.optim.Adam(head.parameters(), options.learning_rate)
    count = len(features)
    losses = []
    for epoch in range(options.epochs):
        order = stream(options.seed, epoch).permutation(count)
        total, done = 0.0, 0
        # Batches of nearly one size: a last one of a single sample has nothing to be told from.
        for rows in np.array_split(order, max(1, count // options.batch_size)):
            loss = _loss(head.of(features[rows]), head.of(other_view[rows]), options.temperature)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            total += float(loss.detach()) * len(rows)
            done += len(rows)
            if progress is not None:
                progress("diversity", epoch * count + done, options.epochs * count)
        if not np.isfinite(total):
            raise ModelError(
                f"diversity: the loss of epoch {epoch} is NaN; look for features that are, or use "
                "a smaller learning rate"
            )
        losses.append(total / count)
    return tuple(losses)


def _loss(one: torch.Tensor, two: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the cross-entropy of finding the other view of each sample in the batch."""
    near = one @ two.T / temperature
    right = torch.arange(len(one), device=one.device)
    both = functional.cross_entropy(near, right) + functional.cross_entropy(near.T, right)
    return both / 2


def _applied(head: _Head, features: NDArray[Any], step: int) -> NDArray[np.float32]:
    with torch.no_grad():
        parts = [
            head.of(features[begin : begin + step]).cpu().numpy()
            for begin in range(0, len(features), step)
        ]
    return np.concatenate(parts)
