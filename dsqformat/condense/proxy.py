"""A network as the other modules see it: pictures of [0, 1] in, hidden features and logits out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dsqformat.condense.networks import fitting
from dsqformat.condense.pictures import PictureSet, labels_of
from dsqformat.errors import ModelError, SourceError

_STATISTICS_SAMPLES: Final = 2048
_REMEDY: Final = "give a network whose last operation is an nn.Linear on (n, features)"


class Proxy(nn.Module):
    """A network with the normalisation of its input and its last linear layer found.

    Args:
        network: takes (n, channels, height, width), returns logits (n, classes); its last
            operation is an nn.Linear.
        example: pictures to try it with, shape (n, height, width, channels), n at least 1.
        classes: outputs it must have.
        mean: subtracted from pictures of [0, 1], per channel; None: 0.
        std: then divided by; None: 1.

    Raises:
        ModelError: the output has another width, or the last layer is not linear.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        network: nn.Module,
        example: NDArray[Any],
        classes: int,
        mean: NDArray[np.float64] | None = None,
        std: NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__()
        channels = example.shape[-1]
        self.network = network
        # Where the network is, and in its precision.
        like = next(network.parameters(), torch.empty(0))
        self.register_buffer("mean", _per_channel(mean, 0.0, channels).to(like))
        self.register_buffer("std", _per_channel(std, 1.0, channels).to(like))
        self.classes = classes
        self.head_name = self._find_head(example)

    @property
    def head(self) -> nn.Linear:
        """The last layer."""
        head = self.get_submodule(self.head_name)
        if not isinstance(head, nn.Linear):
            raise ModelError(f"layer {self.head_name!r} is no longer an nn.Linear; {_REMEDY}")
        return head

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.mean.device

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return logits (n, classes) of pictures of [0, 1], (n, channels, height, width)."""
        logits: torch.Tensor = self.network((values - self.mean) / self.std)
        return logits

    def outputs(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return hidden features (n, d), which enter the last layer, and logits (n, classes)."""
        seen: list[torch.Tensor] = []

        def keep(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            seen.append(inputs[0])

        handle = self.head.register_forward_pre_hook(keep)
        try:
            logits = self(values)
        finally:
            handle.remove()
        return seen[-1], logits

    def hidden(self, values: torch.Tensor) -> torch.Tensor:
        """Return the hidden features (n, d) of pictures of [0, 1]."""
        return self.outputs(values)[0]

    def tensor(self, pictures: NDArray[Any]) -> torch.Tensor:
        """Return pictures (n, height, width, channels) as the network takes them, on its device.

        uint8 becomes [0, 1]; floating point stays as it is, in the precision of the network.
        """
        # torch shares memory with arrays and wants to be allowed to write.
        owned = np.require(pictures, requirements=["C", "W"])
        values = torch.from_numpy(owned).to(self.device)
        values = values.permute(0, 3, 1, 2)
        if values.dtype == torch.uint8:
            return values.to(self.mean.dtype) / 255
        return values.to(self.mean.dtype)

    def known_labels(self, pictures: PictureSet) -> NDArray[np.int64]:
        """Return the labels of pictures, int64, shape (n,), all below the number of classes.

        Raises:
            ModelError: one is not.
            SourceError: there are none.
        """
        labels = labels_of(pictures)
        if len(labels) and labels.max() >= self.classes:
            raise ModelError(
                f"label {int(labels.max())}: the network has {self.classes} classes; train it on "
                "these labels"
            )
        return labels

    def _find_head(self, example: NDArray[Any]) -> str:
        """Run the network once; the last layer is the one whose output is the network's."""
        calls: list[tuple[str, Any]] = []
        handles = [
            module.register_forward_hook(
                lambda _module, _inputs, output, name=name: calls.append((name, output))
            )
            for name, module in self.named_modules()
            if isinstance(module, nn.Linear)
        ]
        what = f"network {type(self.network).__name__}"
        height, width = example.shape[1:3]
        try:
            with evaluating(self), torch.no_grad(), fitting(what, (height, width)):
                logits = self(self.tensor(example[:2]))
        finally:
            for handle in handles:
                handle.remove()
        if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
            raise ModelError(
                f"{what}: output is "
                f"{tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits)}, "
                f"expected logits (n, {self.classes})"
            )
        if logits.shape[1] != self.classes:
            raise ModelError(
                f"{what}: {logits.shape[1]} outputs for {self.classes} classes; "
                f"give its last layer {self.classes} outputs, or set classes="
            )
        if not calls:
            raise ModelError(f"{what}: it has no nn.Linear; {_REMEDY}")
        if calls[-1][1] is not logits:
            raise ModelError(
                f"{what}: its last linear layer is {calls[-1][0]!r}, but the output is made after "
                f"it; {_REMEDY}"
            )
        return calls[-1][0]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode for the block, and each module back afterwards."""
    before = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def first_pictures(pictures: PictureSet) -> NDArray[Any]:
    """Return up to two pictures to try a network with.

    Raises:
        SourceError: there are none.
    """
    if not len(pictures):
        raise SourceError("no pictures: a network needs at least one to look at")
    return next(iter(pictures.batches(2)))


def channel_statistics(
    pictures: PictureSet, batch_size: int = 256
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each channel, in [0, 1], of up to 2,048 pictures.

    The pictures are spread evenly over the set, so that the result does not depend on a seed.

    Returns:
        Two float64 arrays, shape (channels,); a constant channel has standard deviation 1.
    """
    count = len(pictures)
    order = np.unique(np.linspace(0, count - 1, min(count, _STATISTICS_SAMPLES)).astype("i8"))
    total: Any = 0.0
    squares: Any = 0.0
    values = 0
    for batch in pictures.batches(batch_size, order):
        unit = batch.astype("f8") / (255 if batch.dtype == np.uint8 else 1)
        total = total + unit.sum(axis=(0, 1, 2))
        squares = squares + (unit * unit).sum(axis=(0, 1, 2))
        values += batch[..., 0].size
    mean = total / values
    std = np.sqrt(np.maximum(squares / values - mean * mean, 0))
    return mean, np.where(std > 1e-6, std, 1.0)


def _per_channel(values: NDArray[np.float64] | None, default: float, channels: int) -> torch.Tensor:
    filled = np.full(channels, default) if values is None else np.asarray(values, "f8")
    if filled.shape not in ((1,), (channels,)):
        raise ValueError(f"mean or std of shape {filled.shape}, expected (1,) or ({channels},)")
    return torch.from_numpy(filled.astype("f4").reshape(1, -1, 1, 1))
