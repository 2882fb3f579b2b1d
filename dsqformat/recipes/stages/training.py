"""Stage train: a proxy network and the scores of its training dynamics."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.networks import load_weights
from dsqformat.condense.outputs import OutputBatch, network_outputs
from dsqformat.condense.picture_subsets import picture_shape
from dsqformat.condense.pictures import PictureSet
from dsqformat.condense.proxy import Proxy
from dsqformat.condense.proxy_training import (
    TrainingOptions,
    class_count,
    make_proxy,
    train_proxy,
)
from dsqformat.condense.proxy_weights import set_weight_arrays, weight_arrays
from dsqformat.errors import RecipeError
from dsqformat.recipes.stage_options import Train
from dsqformat.recipes.stages.scoring import SCORES
from dsqformat.recipes.work_directory import Made, StageResult
from dsqformat.select import (
    Accumulator,
    Aum,
    El2n,
    Entropy,
    Forgetting,
    ScoreTable,
    Tdds,
    TrainingDynamics,
    write_scores,
)

if TYPE_CHECKING:
    from torch import nn

VERSION: Final = 2
_WEIGHT: Final = "weight."
_TDDS_WINDOW: Final = 10
_TDDS_LEAST: Final = 3


def train(
    folder: Path,
    pictures: PictureSet,
    options: Train,
    network: nn.Module | None,
    *,
    tdds: bool,
    seed: int,
    device: str,
    progress: OnProgress,
) -> Made:
    """Train a proxy and record its dynamics.

    Args:
        folder: where the file of scores goes.
        pictures: the whole set, with labels.
        options: of the stage.
        network: to be used instead of that of the options; stays as it is.
        tdds: whether to sum up TDDS too, which takes n * classes numbers.
        seed: of weights, order and augmentation.
        device: of torch.
        progress: called with stage, done and total.

    Raises:
        ModelError: the network does not fit the pictures or the classes.
        RecipeError: nothing would be trained, and there are no weights.
    """
    if options.epochs == 0 and not options.weights and network is None:
        raise RecipeError(
            "train.epochs: got 0, expected at least 1 without train.weights or a network of your "
            "own: an untrained network says nothing of the samples"
        )
    proxy = make_proxy(
        pictures, copy.deepcopy(network) or options.network, seed=seed, device=device
    )
    if options.weights:
        load_weights(proxy.network, options.weights)
    if not options.epochs:
        proxy.eval()
        return Made(_weights_of(proxy), {"accuracy": [], "classes": proxy.classes, "loss": []})
    dynamics = _dynamics(len(pictures), class_count(pictures), options.epochs, tdds=tdds)

    def record(outputs: OutputBatch) -> None:
        dynamics.update(outputs.indices, outputs.labels, outputs.epoch, logits=outputs.logits)

    trained = train_proxy(
        pictures,
        proxy,
        TrainingOptions(
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            padding=options.padding,
            flip=options.flip,
            dynamics=options.dynamics,
            seed=seed,
            threads=options.threads,
            device=device,
        ),
        record=record,
        progress=progress,
    )
    scores = dynamics.scores() | _final_scores(trained.proxy, pictures, options.threads)
    table = ScoreTable(len(pictures), scores, {"epochs": options.epochs})
    write_scores(folder / SCORES, table)
    facts = {
        "accuracy": list(trained.accuracy),
        "classes": proxy.classes,
        "loss": list(trained.loss),
    }
    return Made(_weights_of(trained.proxy), facts)


def trained_proxy(
    result: StageResult,
    pictures: PictureSet,
    options: Train,
    network: nn.Module | None,
    device: str,
) -> Proxy:
    """Return the proxy that a stage has trained."""
    channels = picture_shape(pictures)[2]
    proxy = make_proxy(
        pictures,
        copy.deepcopy(network) or options.network,
        normalization=(np.zeros(channels), np.ones(channels)),
        device=device,
    )
    names = sorted(path.name for path in result.folder.glob(f"{_WEIGHT}*.npy"))
    arrays = {
        name.removeprefix(_WEIGHT).removesuffix(".npy"): result.array(name.removesuffix(".npy"))
        for name in names
    }
    set_weight_arrays(proxy, arrays)
    proxy.eval()
    return proxy


def _weights_of(proxy: Proxy) -> dict[str, Any]:
    return {f"{_WEIGHT}{name}": value for name, value in weight_arrays(proxy).items()}


def _dynamics(count: int, classes: int, epochs: int, *, tdds: bool) -> TrainingDynamics:
    accumulators: dict[str, Accumulator] = {
        "aum": Aum(count),
        "el2n": El2n(count),
        "forgetting": Forgetting(count),
    }
    if tdds:
        if epochs < _TDDS_LEAST:
            raise RecipeError(
                f"train.epochs: got {epochs}, expected {_TDDS_LEAST} or more for score tdds"
            )
        accumulators["tdds"] = Tdds(count, classes, window=min(_TDDS_WINDOW, epochs))
    return TrainingDynamics(count, classes, accumulators)


def _final_scores(
    proxy: Proxy, pictures: PictureSet, threads: int
) -> dict[str, NDArray[np.float64]]:
    """Return the entropy of what the finished network says of unchanged pictures."""
    final = TrainingDynamics(len(pictures), proxy.classes, {"entropy": Entropy(len(pictures))})
    for batch in network_outputs(proxy, pictures, threads=threads):
        final.update(batch.indices, batch.labels, 0, logits=batch.logits)
    return final.scores()
