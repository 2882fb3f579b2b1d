"""Stage features: what bins are made of."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.feature_files import load_features
from dsqformat.condense.pictures import PictureSet
from dsqformat.recipes.stage_options import Features as FeatureOptions
from dsqformat.recipes.work_directory import Made, StageResult
from dsqformat.select import Features, LastLayerGradients

if TYPE_CHECKING:
    from dsqformat.condense.proxy import Proxy

VERSION: Final = 2


def copy_features(folder: Path, options: FeatureOptions, count: int) -> Made:
    """Take features from a file: what bins were made of stays with them.

    Raises:
        SourceError: no such features, or of another number of samples.
        OSError: the file cannot be read.
    """
    load_features(options.file, count)
    shutil.copyfile(options.file, folder / "hidden.npy")
    return Made()


def write_features(
    folder: Path,
    proxy: Proxy,
    pictures: PictureSet,
    options: FeatureOptions,
    *,
    mirrored: bool,
    threads: int,
    progress: OnProgress,
) -> Made:
    """Write what a network makes of the pictures.

    Args:
        folder: where hidden.npy goes, and residual.npy, anchors.npy and positives.npy.
        proxy: trained.
        pictures: the whole set.
        options: of the stage.
        mirrored: whether to write what a discriminator, trained on embeddings of pictures and of
            their mirror images, makes of both.
        threads: of one operation.
        progress: called with stage, done and total.
    """
    from dsqformat.condense.features import write_embeddings, write_gradient_factors

    bias = True
    if options.kind == "last_layer_grad":
        factors = write_gradient_factors(
            proxy, pictures, folder, softmax=options.softmax, threads=threads, progress=progress
        )
        bias = factors.bias
    else:
        write_embeddings(proxy, pictures, folder / "hidden.npy", threads=threads, progress=progress)
    if not mirrored:
        return Made(facts={"bias": bias})
    from dsqformat.condense.diversity_head import HeadOptions, discriminate

    other = write_embeddings(
        proxy, _Mirrored(pictures), folder / "mirrored.npy", threads=threads, progress=progress
    )
    hidden = load_features(folder / "hidden.npy", len(pictures))
    found = discriminate(hidden, other, HeadOptions(threads=threads), progress=progress)
    facts = {"bias": bias, "discriminator_loss": list(found.loss)}
    return Made({"anchors": found.anchors, "positives": found.positives}, facts)


def features_of(result: StageResult) -> Features:
    """Return the features that a stage has written."""
    if result.has("residual"):
        factors = result.array("residual"), result.array("hidden")
        return LastLayerGradients(*factors, bias=result.facts["bias"])
    return result.array("hidden")


class _Mirrored:
    """The mirror images of a set."""

    def __init__(self, pictures: PictureSet) -> None:
        self._pictures = pictures
        self.labels = pictures.labels

    def __len__(self) -> int:
        return len(self._pictures)

    def batches(
        self, batch_size: int, order: NDArray[np.int64] | None = None
    ) -> Iterator[NDArray[Any]]:
        for batch in self._pictures.batches(batch_size, order):
            yield np.ascontiguousarray(batch[:, :, ::-1])
