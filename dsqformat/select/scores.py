"""The scores that the papers prune by: EL2N, forgetting, AUM, TDDS, entropy and GraNd.

What is hard, and so kept first by most, is high in all of them but AUM, where it is low.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dsqformat.errors import SelectionError
from dsqformat.select.dynamics import NEVER, Batch

Reduction: TypeAlias = Literal["sum", "mean"]

_ENTROPY_OFFSET: Final = 1e-10
_TDDS_OFFSET: Final = 1e-8


class _Sum:
    """A sum over epochs, and how many."""

    def __init__(self, sample_count: int, reduction: Reduction, name: str) -> None:
        if reduction not in ("sum", "mean"):
            raise SelectionError(f"{name}: got reduction {reduction!r}, expected sum or mean")
        self._total = np.zeros(sample_count)
        self._counts = np.zeros(sample_count, "i4")
        self._reduction, self._name = reduction, name

    def _add(self, indices: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        self._total[indices] += values
        self._counts[indices] += 1

    def scores(self) -> NDArray[np.float64]:
        """Return the sums or means: float64, shape (n,).

        Raises:
            SelectionError: a sample was never fed; or less often than others, so that its sum
                says nothing.
        """
        least, most = int(self._counts.min()), int(self._counts.max())
        if not least or (self._reduction == "sum" and least < most):
            raise SelectionError(
                f"{self._name}: sample {int(self._counts.argmin())} was fed in {least} epochs, "
                f"others in {most}; feed all in each (no dropped last batch)"
                + (", or take the mean" if least else "")
            )
        return self._total / self._counts if self._reduction == "mean" else self._total.copy()


class El2n(_Sum):
    """||p - onehot(y)||, summed over the first epochs (Paul et al.; 10 epochs as in CCS).

    Args:
        sample_count: n.
        epochs: how many count.
        reduction: "sum", or "mean" where samples are fed unequally often.
    """

    def __init__(
        self, sample_count: int, *, epochs: int = 10, reduction: Reduction = "sum"
    ) -> None:
        super().__init__(sample_count, reduction, "el2n")
        self._epochs = epochs

    def update(self, batch: Batch) -> None:
        """Take note of a batch."""
        if batch.epoch >= self._epochs:
            return
        error = batch.probabilities.copy()
        error[np.arange(len(error)), batch.labels] -= 1
        self._add(batch.indices, np.sqrt((error * error).sum(axis=1)))


class Aum(_Sum):
    """Area under the margin: p_y - max of the others, over the epochs; low is hard or mislabelled.

    Args:
        sample_count: n.
        on: "probabilities" as CCS has it, or "logits" as Pleiss et al. define it (with the mean).
        reduction: "sum" or "mean".
    """

    def __init__(
        self,
        sample_count: int,
        *,
        on: Literal["probabilities", "logits"] = "probabilities",
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__(sample_count, reduction, "aum")
        if on not in ("probabilities", "logits"):
            raise SelectionError(f"aum: got {on!r}, expected probabilities or logits")
        self._on = on

    def update(self, batch: Batch) -> None:
        """Take note of a batch.

        Raises:
            SelectionError: logits are needed, and only probabilities were fed.
        """
        values = batch.probabilities if self._on == "probabilities" else batch.logits
        if values is None:
            raise SelectionError("aum: is to be of logits, but probabilities were fed")
        rows = np.arange(len(values))
        others = values.copy()
        others[rows, batch.labels] = -np.inf
        self._add(batch.indices, values[rows, batch.labels] - others.max(axis=1))


class Forgetting:
    """How often a sample went from right to wrong (Toneva et al.).

    A prediction is the largest probability, the first of equals.

    Args:
        sample_count: n.
        never_learned: what a sample that never was right counts as. "hardest": as many as it was
            fed, more than any other can have; "zero": 0 as in CCS, where it passes for easy.
    """

    def __init__(
        self, sample_count: int, *, never_learned: Literal["hardest", "zero"] = "hardest"
    ) -> None:
        if never_learned not in ("hardest", "zero"):
            raise SelectionError(f"forgetting: got {never_learned!r}, expected hardest or zero")
        self._zero = never_learned == "zero"
        self._right, self._learned = np.zeros((2, sample_count), "?")
        self._forgotten, self._counts = np.zeros((2, sample_count), "i4")

    def update(self, batch: Batch) -> None:
        """Take note of a batch."""
        right = batch.probabilities.argmax(axis=1) == batch.labels
        self._forgotten[batch.indices] += self._right[batch.indices] & ~right
        self._learned[batch.indices] |= right
        self._right[batch.indices] = right
        self._counts[batch.indices] += 1

    def scores(self) -> NDArray[np.float64]:
        """Return the counts: float64, shape (n,)."""
        never = np.zeros_like(self._counts) if self._zero else self._counts
        return np.where(self._learned, self._forgotten, never).astype("f8")


class Entropy:
    """-sum p log(p + 1e-10) of the last epoch fed.

    Args:
        sample_count: n.
    """

    def __init__(self, sample_count: int) -> None:
        self._last = np.zeros(sample_count)

    def update(self, batch: Batch) -> None:
        """Take note of a batch."""
        p = batch.probabilities
        self._last[batch.indices] = -(p * np.log(p + _ENTROPY_OFFSET)).sum(axis=1)

    def scores(self) -> NDArray[np.float64]:
        """Return the entropies: float64, shape (n,)."""
        return self._last.copy()


class Tdds:
    """How unsteadily predictions change (TDDS): high is kept.

    K_t = sum_c |p_t (log p_t - log p_{t-1})| from epoch to epoch; in each window of W epochs the
    norm of its W - 1 values less their mean; windows weighed by decay * (1 - decay)^age, so that
    the last one carries nine tenths.

    Args:
        sample_count: n.
        class_count: the probabilities of the last epoch are kept, n * classes numbers.
        window: W, at least 3: with 2 there is one value, and nothing to vary.
        decay: weight of the last window.
        stored: their dtype: "f4", or "f2" for half the memory, where probabilities below 6e-8
            become 0 and others lose all but 3 digits.
    """

    def __init__(
        self,
        sample_count: int,
        class_count: int,
        *,
        window: int = 10,
        decay: float = 0.9,
        stored: Literal["f4", "f2"] = "f4",
    ) -> None:
        if window < 3 or not 0 < decay <= 1:
            raise SelectionError(
                f"tdds: got a window of {window} and a decay of {decay}, expected at least 3 "
                "epochs, and more than 0 up to 1"
            )
        self._window, self._decay = window, decay
        self._before = np.zeros((sample_count, class_count), stored)
        self._changes = np.zeros((sample_count, window - 1))
        self._average = np.zeros(sample_count)
        self._epochs = np.full(sample_count, NEVER, "i4")

    def update(self, batch: Batch) -> None:
        """Take note of a batch.

        Raises:
            SelectionError: a sample was left out of an epoch.
        """
        at, p = batch.indices, batch.probabilities
        skipped = self._epochs[at] != batch.epoch - 1
        if skipped.any():
            raise SelectionError(
                f"tdds: sample {int(at[skipped.argmax()])} was fed in epoch {batch.epoch} and not "
                "in the one before; feed all in each from 0 on (no dropped last batch)"
            )
        if batch.epoch:
            ratio = np.log(p + _TDDS_OFFSET) - np.log(self._before[at].astype("f8") + _TDDS_OFFSET)
            place = (batch.epoch - 1) % (self._window - 1)
            self._changes[at, place] = np.abs(p * ratio).sum(axis=1)
        if batch.epoch >= self._window - 1:
            changes = self._changes[at]
            changes -= changes.mean(axis=1, keepdims=True)
            norm = np.sqrt((changes * changes).sum(axis=1))
            self._average[at] = (1 - self._decay) * self._average[at] + self._decay * norm
        self._before[at] = p
        self._epochs[at] = batch.epoch

    def scores(self) -> NDArray[np.float64]:
        """Return the scores: float64, shape (n,).

        Raises:
            SelectionError: the training was shorter than a window, or an epoch is incomplete.
        """
        least, most = int(self._epochs.min()) + 1, int(self._epochs.max()) + 1
        if least < self._window:
            raise SelectionError(
                f"tdds: {least} epochs were fed, its window is {self._window}; "
                "train longer, or take a window of 3 epochs or more that fits"
            )
        if least < most:
            raise SelectionError(
                f"tdds: sample {int(self._epochs.argmin())} was fed in {least} epochs, others in "
                f"{most}; feed all in each"
            )
        return self._average.copy()


class Grand(_Sum):
    """GraNd: the norm of the last layer's gradient, averaged over initialisations (Paul et al.).

    Args:
        sample_count: n.
    """

    def __init__(self, sample_count: int) -> None:
        super().__init__(sample_count, "mean", "grand")

    def update(
        self, indices: NDArray[Any], residual_norms: NDArray[Any], hidden_norms: NDArray[Any]
    ) -> None:
        """Take note of a batch of one initialisation.

        Args:
            indices: shape (b,), which samples, no two the same.
            residual_norms: shape (b,), ||softmax(z) - onehot(y)||.
            hidden_norms: shape (b,), ||h|| of the layer's inputs; its bias counts too.

        Raises:
            SelectionError: a norm is negative or not finite, or an index out of range.
        """
        places = np.asarray(indices)
        values = gradient_norms(residual_norms, hidden_norms)
        if places.shape != values.shape or len(np.unique(places)) < len(places):
            raise SelectionError(
                f"grand: got indices of shape {places.shape} for norms of shape {values.shape}, "
                "expected one each, no two the same"
            )
        if len(places) and not 0 <= places.min() <= places.max() < len(self._total):
            raise SelectionError(
                f"grand: got indices {places.min()} to {places.max()}, "
                f"expected 0 to {len(self._total) - 1}"
            )
        self._add(places, values)


def gradient_norms(residual_norms: NDArray[Any], hidden_norms: NDArray[Any]) -> NDArray[np.float64]:
    """Return ||r|| sqrt(1 + ||h||^2), the norm of the last layer's gradient: float64.

    Args:
        residual_norms: ||r||, shape (b,).
        hidden_norms: ||h||, shape (b,).

    Raises:
        SelectionError: a norm is negative or not finite, or the shapes differ.
    """
    residual, hidden = np.asarray(residual_norms, "f8"), np.asarray(hidden_norms, "f8")
    if residual.shape != hidden.shape or residual.ndim != 1:
        raise SelectionError(f"norms: got shapes {residual.shape} and {hidden.shape}")
    if not (np.isfinite(residual) & np.isfinite(hidden) & (residual >= 0) & (hidden >= 0)).all():
        raise SelectionError("norms: a norm is negative, NaN or infinite")
    norms: NDArray[np.float64] = residual * np.hypot(1.0, hidden)
    return norms
