"""Short training of a proxy network on the dataset itself, with its dynamics recorded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.augmentation import crop_and_flip
from dsqformat.condense.networks import build_network
from dsqformat.condense.outputs import (
    OutputBatch,
    Record,
    network_outputs,
    output_batch,
)
from dsqformat.condense.pictures import PictureSet, labels_of
from dsqformat.condense.proxy import Proxy, channel_statistics, first_pictures
from dsqformat.condense.reproducibility import DEFAULT_THREADS, reproducible, stream
from dsqformat.errors import ModelError, SourceError

Weights = dict[str, torch.Tensor]

_WARMUP: Final = 0.25
_ORDER, _AUGMENTATION = 0, 1


@dataclass(frozen=True)
class TrainingOptions:
    """How a proxy is trained: SGD with momentum, one cycle of the rate, crops and flips.

    Attributes:
        epochs: 1 or more; 10 as in DQ and for EL2N.
        batch_size: at most; the batches of an epoch are made equally large.
        learning_rate: at the top of the cycle.
        momentum: of Nesterov's kind.
        weight_decay: of all parameters.
        padding: pixels that crops move at most; 0 together with flip=False switches crops off.
        flip: mirror every other picture.
        dynamics: "train" records the outputs the training makes anyway, as CCS does; "eval" adds
            a pass over the unchanged pictures after every epoch, for a third more time.
        seed: of weights, order and augmentation.
        threads: of one operation on the CPU; one makes results independent of the machine's
            number of cores; None takes what torch is set to.
        device: "cpu", "cuda" or any other torch device.
        checkpoint_epochs: after which epochs (counted from 1) the weights are kept.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    padding: int = 4
    flip: bool = True
    dynamics: Literal["train", "eval"] = "train"
    seed: int = 0
    threads: int | None = DEFAULT_THREADS
    device: str = "cpu"
    checkpoint_epochs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError(
                f"epochs={self.epochs}, batch_size={self.batch_size}: expected at least 1 and 2"
            )
        if self.dynamics not in ("train", "eval"):
            raise ValueError(f"dynamics={self.dynamics!r}: expected train or eval")
        wrong = [e for e in self.checkpoint_epochs if not 1 <= e <= self.epochs]
        if wrong:
            raise ValueError(f"checkpoint_epochs: {wrong[0]} is not 1 to {self.epochs}")


@dataclass(frozen=True)
class TrainedProxy:
    """A trained network.

    Attributes:
        proxy: in evaluation mode, on the device of the training.
        loss: mean training loss of each epoch.
        accuracy: share of training pictures classified right in each epoch, while it changed.
        checkpoints: weights on the CPU by epoch, of the epochs asked for.
    """

    proxy: Proxy
    loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    checkpoints: dict[int, Weights] = field(default_factory=dict)


def make_proxy(
    pictures: PictureSet,
    network: str | nn.Module = "small-resnet",
    *,
    classes: int | None = None,
    normalization: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Proxy:
    """Return an untrained proxy for these pictures.

    Args:
        pictures: with labels, unless `classes` is given.
        network: a name of `build_network`, or a module that takes normalised pictures
            (n, channels, height, width) and ends in an nn.Linear.
        classes: number of outputs; None: the largest label + 1.
        normalization: mean and std per channel in [0, 1]; None: those of the pictures.
        seed: of new weights.
        device: where to put it.

    Raises:
        ModelError: the network does not fit the pictures or the classes.
        SourceError: no pictures, or no labels where they are needed.
    """
    example = first_pictures(pictures)
    classes = class_count(pictures) if classes is None else classes
    mean, std = normalization or channel_statistics(pictures)
    with reproducible(seed, None):
        if isinstance(network, str):
            height, width, channels = example.shape[1:]
            network = build_network(network, channels, classes, (height, width))
        proxy = Proxy(network, example, classes, mean, std)
    proxy.eval()
    # Pictures come out of arrays in this order of memory, and it is the faster one.
    return proxy.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def class_count(pictures: PictureSet) -> int:
    """Return the number of classes: the largest label + 1."""
    labels = labels_of(pictures)
    return int(labels.max()) + 1 if len(labels) else 0


def train_proxy(
    pictures: PictureSet,
    network: str | nn.Module | Proxy = "small-resnet",
    options: TrainingOptions | None = None,
    *,
    record: Record | None = None,
    progress: OnProgress | None = None,
) -> TrainedProxy:
    """Train a network on labelled pictures and record what it makes of each, epoch by epoch.

    Every sample is recorded once per epoch. The same seed gives the same bits; see
    `dsqformat.condense.reproducibility` for what that depends on.

    Args:
        pictures: with labels, at least two.
        network: as for `make_proxy`, or a proxy, which is trained further, in place.
        options: how; None for the defaults.
        record: called for every batch, in the order of training.
        progress: called with a stage, samples done and samples in all.

    Raises:
        ModelError: the network does not fit, or its outputs become NaN or infinite.
        SourceError: fewer than two pictures, or no labels.
    """
    options = options or TrainingOptions()
    labels = labels_of(pictures)
    if len(labels) < 2:
        raise SourceError(f"{len(labels)} pictures: training needs at least 2")
    if isinstance(network, Proxy):
        proxy = network.to(options.device)
    else:
        proxy = make_proxy(pictures, network, seed=options.seed, device=options.device)
    with reproducible(options.seed, options.threads):
        run = _Run(proxy, pictures, labels, options, record, progress)
        return run.train()


def repeated_outputs(
    pictures: PictureSet,
    network: str = "small-resnet",
    repeats: int = 10,
    options: TrainingOptions | None = None,
    *,
    trained: bool = False,
    progress: OnProgress | None = None,
) -> Iterator[OutputBatch]:
    """Yield what several networks make of the pictures, each from weights of its own.

    GraNd averages gradient norms over ten of them (Paul et al. 2021; DeepCore).

    Args:
        pictures: with labels.
        network: a name of `build_network`.
        repeats: how many networks; their seeds follow on that of the options.
        options: seed, threads and device; None for the defaults.
        trained: whether to train each network first, as the options say.
        progress: called with a stage, samples done and samples in all.

    Returns:
        Batches of all pictures, network by network; `epoch` is the number of the network.
    """
    labels_of(pictures)
    settings = options or TrainingOptions()
    for number in range(repeats):
        seed = settings.seed + number
        if trained:
            proxy = train_proxy(pictures, network, replace(settings, seed=seed)).proxy
        else:
            proxy = make_proxy(pictures, network, seed=seed, device=settings.device)
        for batch in network_outputs(proxy, pictures, epoch=number, threads=settings.threads):
            yield batch
            if progress is not None:
                done = number * len(pictures) + int(batch.indices[-1]) + 1
                progress("networks", done, repeats * len(pictures))


def load_checkpoint(trained: TrainedProxy, epoch: int) -> Proxy:
    """Return the proxy with the weights it had after an epoch; it changes in place.

    Raises:
        ValueError: the weights of this epoch were not kept.
    """
    if epoch not in trained.checkpoints:
        raise ValueError(f"epoch {epoch}: weights were kept of {sorted(trained.checkpoints)}")
    trained.proxy.load_state_dict(trained.checkpoints[epoch])
    return trained.proxy


class _Run:
    """One training run."""

    def __init__(
        self,
        proxy: Proxy,
        pictures: PictureSet,
        labels: NDArray[np.int64],
        options: TrainingOptions,
        record: Record | None,
        progress: OnProgress | None,
    ) -> None:
        self.proxy, self.pictures, self.labels, self.options = proxy, pictures, labels, options
        self.record, self.progress = record, progress
        batches = math.ceil(len(labels) / options.batch_size)
        # Equally large batches: a last one of a single picture has no batch statistics.
        self.batch_size = math.ceil(len(labels) / batches)
        self.optimizer = torch.optim.SGD(
            proxy.parameters(),
            options.learning_rate,
            momentum=options.momentum,
            nesterov=options.momentum > 0,
            weight_decay=options.weight_decay,
        )
        steps = options.epochs * math.ceil(len(labels) / self.batch_size)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: one_cycle(step / steps)
        )

    def train(self) -> TrainedProxy:
        losses, accuracies, checkpoints = [], [], {}
        for epoch in range(self.options.epochs):
            loss, right = self._epoch(epoch)
            losses.append(loss / len(self.labels))
            accuracies.append(right / len(self.labels))
            if self.options.dynamics == "eval" and self.record is not None:
                for outputs in network_outputs(
                    self.proxy, self.pictures, epoch=epoch, threads=self.options.threads
                ):
                    self.record(outputs)
            if epoch + 1 in self.options.checkpoint_epochs:
                checkpoints[epoch + 1] = {
                    name: value.detach().cpu().clone()
                    for name, value in self.proxy.state_dict().items()
                }
        self.proxy.eval()
        return TrainedProxy(self.proxy, tuple(losses), tuple(accuracies), checkpoints)

    def _epoch(self, epoch: int) -> tuple[float, int]:
        """Return the sum of losses and the number of right answers."""
        options = self.options
        count = len(self.labels)
        order = stream(options.seed, epoch, _ORDER).permutation(count)
        changes = stream(options.seed, epoch, _AUGMENTATION)
        self.proxy.train()
        total, right, done = 0.0, 0, 0
        for batch in self.pictures.batches(self.batch_size, order):
            indices = order[done : done + len(batch)]
            _check_finite(batch, indices)
            if options.padding or options.flip:
                batch = crop_and_flip(batch, changes, padding=options.padding, flip=options.flip)
            outputs, loss = self._step(epoch, batch, indices)
            if self.record is not None and options.dynamics == "train":
                self.record(outputs)
            total += loss * len(batch)
            right += int((outputs.logits.argmax(1) == outputs.labels).sum())
            done += len(batch)
            if self.progress is not None:
                self.progress("training", epoch * count + done, options.epochs * count)
        return total, right

    def _step(
        self, epoch: int, batch: NDArray[Any], indices: NDArray[np.int64]
    ) -> tuple[OutputBatch, float]:
        labels = self.labels[indices]
        self.optimizer.zero_grad()
        hidden, logits = self.proxy.outputs(self.proxy.tensor(batch))
        loss = functional.cross_entropy(logits, torch.from_numpy(labels).to(logits.device))
        outputs = output_batch(epoch, indices, labels, hidden, logits)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        return outputs, float(loss.detach())


def _check_finite(batch: NDArray[Any], indices: NDArray[np.int64]) -> None:
    """Batch statistics would carry NaN from one sample into the outputs of all others."""
    if batch.dtype.kind != "f":
        return
    finite = np.isfinite(batch).all(axis=(1, 2, 3))
    if not finite.all():
        raise ModelError(
            f"sample {int(indices[finite.argmin()])}: a value is NaN or infinite; mend the sample "
            "or leave it out"
        )


def one_cycle(share: float) -> float:
    """Return the learning rate, relative to its top, at a share of the run from 0 to 1.

    It rises from 4% over the first quarter and falls along a cosine to 0 afterwards.
    """
    if share < _WARMUP:
        return 0.04 + 0.96 * share / _WARMUP
    return 0.5 + 0.5 * math.cos(math.pi * (share - _WARMUP) / (1 - _WARMUP))
