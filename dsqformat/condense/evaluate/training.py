"""Trains a new network on some pictures and counts what it gets right of others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from dsqformat.condense.augmentation import moved_places
from dsqformat.condense.evaluate.labelled_pictures import LabelledPictures
from dsqformat.condense.evaluate.network import evaluation_network
from dsqformat.condense.evaluate.schedule import Schedule
from dsqformat.condense.pictures import ArrayPictures
from dsqformat.condense.proxy import channel_statistics
from dsqformat.condense.proxy_training import one_cycle
from dsqformat.condense.reproducibility import reproducible, stream
from dsqformat.errors import ModelError

_ORDER, _AUGMENTATION = 0, 1
_TEST_BATCH: Final = 500
# How often the loss is looked at: each look waits for a GPU.
_LOOK_STEPS: Final = 50

# Called with steps done and steps in all.
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class RunOutcome:
    """What a training came to.

    Attributes:
        right: test pictures classified right.
        test_count: test pictures.
        last_loss: of the last batch.
        train_s: seconds by the clock, testing left out.
        cpu_s: seconds of CPU time of this process, likewise.
    """

    right: int
    test_count: int
    last_loss: float
    train_s: float
    cpu_s: float

    @property
    def accuracy(self) -> float:
        """Share of test pictures classified right."""
        return self.right / self.test_count


def train_and_test(
    training: LabelledPictures,
    test: LabelledPictures,
    schedule: Schedule,
    seed: int,
    on_step: OnStep,
) -> RunOutcome:
    """Train a new network and test it once, at the end.

    On one machine, with one version of torch and the same number of threads, the same seed gives
    the same bits.

    Args:
        training: to train on; its mean and standard deviation per channel normalise both sets.
        test: of the same size of pictures and the same classes.
        schedule: how.
        seed: of weights, order, crops and flips.
        on_step: called after steps.

    Raises:
        ModelError: the network does not fit, or its loss becomes NaN or infinite.
    """
    with reproducible(seed, schedule.threads):
        network = evaluation_network(schedule.arch, test.channels, test.class_count, test.shape[:2])
        network.to(schedule.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        run = _Run(network, training, schedule, seed)
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        last_loss = run.train(on_step)
        train_s, cpu_s = time.perf_counter() - started_s, time.process_time() - started_cpu_s
        right = run.count_right(test)
    return RunOutcome(right, len(test), last_loss, train_s, cpu_s)


class _Run:
    """One network, its optimizer and the pictures on its device."""

    def __init__(
        self, network: nn.Module, training: LabelledPictures, schedule: Schedule, seed: int
    ) -> None:
        self.schedule, self.seed = schedule, seed
        self.network = network
        # Tests have batches of other sizes, for which it would be compiled anew.
        self.trained: Any = torch.compile(network) if schedule.mixed_precision else network
        pad = schedule.padding
        sides = ((0, 0), (pad, pad), (pad, pad), (0, 0))
        # Where pictures are as small as the padding nothing can be mirrored into it.
        mode: Any = "reflect" if pad < min(training.shape[:2]) else "edge"
        self.padded = torch.from_numpy(np.pad(training.pictures, sides, mode)).to(schedule.device)
        self.labels = torch.from_numpy(training.labels).to(schedule.device)
        self.height, self.width = training.shape[:2]
        mean, std = channel_statistics(ArrayPictures(training.pictures))
        self.factor = _per_channel(1 / std, schedule.device)
        self.offset = _per_channel(-mean / std, schedule.device)
        self.optimizer = torch.optim.SGD(
            network.parameters(),
            schedule.learning_rate,
            momentum=schedule.momentum,
            nesterov=schedule.momentum > 0,
            weight_decay=schedule.weight_decay,
        )
        self.rate = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: one_cycle(step / schedule.steps)
        )

    def train(self, on_step: OnStep) -> float:
        """Take all steps; return the last loss."""
        self.network.train()
        loss, steps = 0.0, self.schedule.steps
        changes = stream(self.seed, _AUGMENTATION)
        for step, indices in enumerate(self._batches(), start=1):
            found = self._step(indices, changes)
            if step % _LOOK_STEPS == 0 or step == steps:
                loss = float(found)
                if not np.isfinite(loss):
                    raise ModelError(
                        f"step {step}: the loss is {loss}; train with a smaller --lr than "
                        f"{self.schedule.learning_rate:g}"
                    )
            on_step(step, steps)
        return loss

    def count_right(self, test: LabelledPictures) -> int:
        """Return how many pictures of another set are classified right."""
        self.network.eval()
        right = 0
        with torch.no_grad():
            for begin in range(0, len(test), _TEST_BATCH):
                rows = slice(begin, begin + _TEST_BATCH)
                pictures = torch.from_numpy(test.pictures[rows]).to(self.schedule.device)
                with self._precision():
                    logits = self.network(self._normalised(pictures))
                found = logits.argmax(1).cpu().numpy()
                right += int((found == test.labels[rows]).sum())
        return right

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        """Yield the pictures of each step: permutations of all, one after the other."""
        orders = stream(self.seed, _ORDER)
        size, count = self.schedule.batch_size, len(self.labels)
        waiting = np.empty(0, "i8")
        for _ in range(self.schedule.steps):
            while len(waiting) < size:
                waiting = np.concatenate([waiting, orders.permutation(count)])
            yield waiting[:size]
            waiting = waiting[size:]

    def _step(self, indices: NDArray[np.int64], changes: np.random.Generator) -> torch.Tensor:
        chosen = torch.from_numpy(indices).to(self.labels.device)
        pictures = self._moved(chosen, changes)
        with self._precision():
            logits = self.trained(self._normalised(pictures))
            loss = functional.cross_entropy(
                logits, self.labels[chosen], label_smoothing=self.schedule.label_smoothing
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.rate.step()
        return loss.detach()

    def _moved(self, chosen: torch.Tensor, changes: np.random.Generator) -> torch.Tensor:
        """Return pictures (n, height, width, channels), each cropped and perhaps mirrored."""
        rows, columns = moved_places(
            changes,
            len(chosen),
            self.height,
            self.width,
            padding=self.schedule.padding,
            flip=self.schedule.flip,
        )
        device = chosen.device
        by_row = torch.from_numpy(rows).to(device)[:, :, None]
        by_column = torch.from_numpy(columns).to(device)[:, None, :]
        return self.padded[chosen[:, None, None], by_row, by_column]

    def _normalised(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return (n, channels, height, width) as float32, channels last in memory."""
        factor = self.factor / 255 if pictures.dtype == torch.uint8 else self.factor
        return pictures.permute(0, 3, 1, 2).to(torch.float32) * factor + self.offset

    def _precision(self) -> AbstractContextManager[Any]:
        if not self.schedule.mixed_precision:
            return nullcontext()
        return torch.autocast("cuda", torch.bfloat16)


def _per_channel(values: NDArray[np.float64], device: str) -> torch.Tensor:
    return torch.from_numpy(values.astype("f4").reshape(1, -1, 1, 1)).to(device)
