"""What a network makes of pictures, batch by batch, as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.pictures import PictureSet
from dsqformat.condense.proxy import Proxy, evaluating
from dsqformat.condense.reproducibility import DEFAULT_THREADS, reproducible
from dsqformat.errors import ModelError

_SCORING_BATCH: Final = 256


@dataclass(frozen=True)
class OutputBatch:
    """What a network made of some samples.

    Attributes:
        epoch: from 0; of a finished network the number of its epochs.
        indices: int64, shape (b,), positions in the picture set.
        logits: float32, shape (b, classes).
        labels: int64, shape (b,).
        hidden: float32, shape (b, d), what entered the last layer.
    """

    epoch: int
    indices: NDArray[np.int64]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    hidden: NDArray[np.float32]


Record = Callable[[OutputBatch], None]


def network_outputs(
    proxy: Proxy,
    pictures: PictureSet,
    *,
    epoch: int = 0,
    batch_size: int = _SCORING_BATCH,
    threads: int | None = DEFAULT_THREADS,
    progress: OnProgress | None = None,
) -> Iterator[OutputBatch]:
    """Yield what a network makes of the unchanged pictures, in their order.

    Args:
        proxy: used in evaluation mode.
        pictures: labels are optional here; without any, those yielded are -1.
        epoch: to write into the batches.
        batch_size: pictures at a time.
        threads: of one operation on the CPU; None: as torch is set.
        progress: called with a stage, samples done and samples in all.

    Raises:
        ModelError: an output is NaN or infinite.
    """
    begin = 0
    for batch in pictures.batches(batch_size):
        # Entered anew for each batch: a generator may be left at any time.
        with reproducible(0, threads), evaluating(proxy), torch.no_grad():
            hidden, logits = proxy.outputs(proxy.tensor(batch))
        indices = np.arange(begin, begin + len(batch))
        labels = np.full(len(batch), -1) if pictures.labels is None else pictures.labels[indices]
        yield output_batch(epoch, indices, labels, hidden, logits)
        begin += len(batch)
        if progress is not None:
            progress("outputs", begin, len(pictures))


def output_batch(
    epoch: int,
    indices: NDArray[np.int64],
    labels: NDArray[np.int64],
    hidden: torch.Tensor,
    logits: torch.Tensor,
) -> OutputBatch:
    """Return a batch as arrays.

    Raises:
        ModelError: an output is NaN or infinite.
    """
    values = logits.detach().float().cpu().numpy()
    features = hidden.detach().float().cpu().numpy().reshape(len(values), -1)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise ModelError(
            f"epoch {epoch}, sample {int(indices[finite.argmin()])}: the network's output is NaN "
            "or infinite; use a smaller learning rate, or look at this sample's values"
        )
    return OutputBatch(epoch, indices, values, labels, features)
