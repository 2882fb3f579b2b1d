"""Scores from training dynamics, summed up while a network trains: nothing is kept per epoch.

Feed every batch of every epoch once, with the indices of its samples. Each score is one number per
sample and needs one or a few more while it is summed up; TDDS alone needs the probabilities of the
epoch before, n * classes numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SelectionError
from dsqformat.select.probabilities import softmax

# How far the probabilities of a sample may be from a sum of 1: they may have been half precision.
_SLACK: Final = 0.02
NEVER: Final = -1


@dataclass(frozen=True)
class Batch:
    """What a network says of some samples in one epoch.

    Attributes:
        indices: shape (b,), int64, which samples, no two the same.
        labels: shape (b,), int64.
        probabilities: shape (b, classes), float64.
        logits: shape (b, classes), float64, or None where only probabilities are known.
        epoch: from 0 on.
    """

    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    logits: NDArray[np.float64] | None
    epoch: int


class Accumulator(Protocol):
    """A score that is summed up batch by batch."""

    def update(self, batch: Batch) -> None:
        """Take note of a batch."""

    def scores(self) -> NDArray[np.float64]:
        """Return the scores so far: float64, shape (n,)."""


class TrainingDynamics:
    """Checks batches and hands them to the scores that are asked for.

    Args:
        sample_count: n.
        class_count: at least 2.
        accumulators: by name, such as {"el2n": El2n(n), "aum": Aum(n)}.
    """

    def __init__(
        self, sample_count: int, class_count: int, accumulators: Mapping[str, Accumulator]
    ) -> None:
        if sample_count < 1 or class_count < 2:
            raise SelectionError(
                f"training dynamics: got {sample_count} samples of {class_count} classes, "
                "expected at least 1 of 2"
            )
        self._shape = sample_count, class_count
        self._accumulators = dict(accumulators)
        self._epochs = np.full(sample_count, NEVER, "i4")

    def update(
        self,
        indices: NDArray[Any],
        labels: NDArray[Any],
        epoch: int,
        *,
        logits: NDArray[Any] | None = None,
        probabilities: NDArray[Any] | None = None,
    ) -> None:
        """Take note of a batch, in any order within an epoch, epoch after epoch.

        Args:
            indices: shape (b,), which samples, 0 to n - 1.
            labels: shape (b,), 0 to classes - 1.
            epoch: from 0 on.
            logits: shape (b, classes), finite; or else
            probabilities: shape (b, classes), each row of sum 1.

        Raises:
            SelectionError: shapes, ranges or sums do not fit, or a sample is fed twice.
        """
        batch = self._checked(indices, labels, epoch, logits, probabilities)
        for accumulator in self._accumulators.values():
            accumulator.update(batch)
        self._epochs[batch.indices] = epoch

    def scores(self) -> dict[str, NDArray[np.float64]]:
        """Return all scores by name, each of shape (n,).

        Raises:
            SelectionError: a sample was never fed, or not often enough for one of the scores.
        """
        missing = self._epochs == NEVER
        if missing.any():
            raise SelectionError(
                f"training dynamics: {int(missing.sum())} samples were never fed, the first is "
                f"{int(missing.argmax())}; train on all of them, without dropping last batches"
            )
        return {name: each.scores() for name, each in self._accumulators.items()}

    def _checked(
        self,
        indices: NDArray[Any],
        labels: NDArray[Any],
        epoch: int,
        logits: NDArray[Any] | None,
        probabilities: NDArray[Any] | None,
    ) -> Batch:
        if (logits is None) == (probabilities is None):
            raise TypeError("expected either logits or probabilities")
        outputs = np.asarray(probabilities if logits is None else logits, "f8")
        places, classes = (_whole(values, "indices or labels") for values in (indices, labels))
        count, class_count = self._shape
        if outputs.ndim != 2 or outputs.shape[1] != class_count:
            raise SelectionError(
                f"outputs: got shape {outputs.shape}, expected (batch, {class_count}); a network "
                f"for {class_count} classes has that many outputs"
            )
        if places.shape != (len(outputs),) or classes.shape != places.shape:
            raise SelectionError(
                f"batch: got {places.shape} indices and {classes.shape} labels for {len(outputs)} "
                "outputs, expected one of each"
            )
        if not np.isfinite(outputs).all():
            wrong = int(places[(~np.isfinite(outputs)).any(axis=1).argmax()])
            raise SelectionError(
                f"outputs: sample {wrong} has NaN or infinite ones in epoch {epoch}; the training "
                "has diverged, lower its learning rate"
            )
        _check_range(places, count, "indices")
        _check_range(classes, class_count, "labels")
        again = self._epochs[places] >= epoch
        if again.any() or len(np.unique(places)) < len(places):
            raise SelectionError(
                f"epoch {epoch}: a sample was fed before in it, or in a later one; feed each once "
                "in each epoch"
            )
        if logits is None:
            sums = outputs.sum(axis=1)
            if (np.abs(sums - 1) > _SLACK).any() or (outputs < 0).any():
                wrong = int(places[np.abs(sums - 1).argmax()])
                raise SelectionError(
                    f"probabilities: those of sample {wrong} are not of sum 1; "
                    "if these are logits, pass them as logits"
                )
            return Batch(places, classes, outputs, None, epoch)
        return Batch(places, classes, softmax(outputs), outputs, epoch)


def _whole(values: NDArray[Any], what: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise SelectionError(f"{what}: got dtype {array.dtype}, expected integers")
    return array.astype("i8")


def _check_range(values: NDArray[np.int64], end: int, what: str) -> None:
    if len(values) and not 0 <= values.min() <= values.max() < end:
        raise SelectionError(
            f"{what}: got {values.min()} to {values.max()}, expected 0 to {end - 1}"
        )
