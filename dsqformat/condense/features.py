"""Embeddings and last-layer gradients of pictures, written batch by batch into .npy files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.feature_files import load_features, new_features
from dsqformat.condense.last_layer import Softmax, residuals
from dsqformat.condense.outputs import network_outputs
from dsqformat.condense.pictures import PictureSet, labels_of
from dsqformat.condense.proxy import Proxy
from dsqformat.condense.reproducibility import DEFAULT_THREADS


@dataclass(frozen=True)
class GradientFactors:
    """Last-layer gradients in factors: <g_i, g_j> = (r_i . r_j) (h_i . h_j + 1).

    Attributes:
        residual: float32 memory map, shape (n, classes), r.
        hidden: float32 memory map, shape (n, d), h.
        bias: whether the layer has a bias; without one the "+ 1" is gone.
    """

    residual: NDArray[np.float32]
    hidden: NDArray[np.float32]
    bias: bool


def write_embeddings(
    proxy: Proxy,
    pictures: PictureSet,
    path: str | os.PathLike[str],
    *,
    threads: int | None = DEFAULT_THREADS,
    progress: OnProgress | None = None,
) -> NDArray[Any]:
    """Write what enters the last layer of a network.

    Args:
        proxy: used in evaluation mode.
        pictures: in the order of the rows; labels are not needed.
        path: of the .npy file; it appears when it is complete.
        threads: as for `network_outputs`.
        progress: likewise.

    Returns:
        The file as a memory map, float32, shape (n, d).

    Raises:
        ModelError: an output of the network is NaN or infinite.
        SourceError: likewise a feature.
    """
    with new_features(path, (len(pictures), proxy.head.in_features)) as hidden:
        for batch in network_outputs(proxy, pictures, threads=threads, progress=progress):
            hidden[batch.indices] = batch.hidden
    return load_features(path, len(pictures))


def write_gradient_factors(
    proxy: Proxy,
    pictures: PictureSet,
    directory: str | os.PathLike[str],
    *,
    softmax: Softmax = "single",
    threads: int | None = DEFAULT_THREADS,
    progress: OnProgress | None = None,
) -> GradientFactors:
    """Write residuals and features whose products are last-layer gradients, in one pass.

    Args:
        proxy: used in evaluation mode.
        pictures: with labels.
        directory: in which residual.npy and hidden.npy appear; made if missing.
        softmax: "single" as in DeepCore, "double" as in the published code of DQ.
        threads: as for `network_outputs`.
        progress: likewise.

    Raises:
        ModelError: an output of the network is NaN or infinite.
        SourceError: pictures without labels, or a feature is NaN or infinite.
    """
    labels_of(pictures)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    head = proxy.head
    count = len(pictures)
    paths = folder / "residual.npy", folder / "hidden.npy"
    with (
        new_features(paths[0], (count, head.out_features)) as residual,
        new_features(paths[1], (count, head.in_features)) as hidden,
    ):
        for batch in network_outputs(proxy, pictures, threads=threads, progress=progress):
            residual[batch.indices] = residuals(batch.logits, batch.labels, softmax)
            hidden[batch.indices] = batch.hidden
    return GradientFactors(
        load_features(paths[0], count), load_features(paths[1], count), head.bias is not None
    )
