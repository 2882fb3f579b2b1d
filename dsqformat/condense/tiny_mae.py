"""Trains a small masked autoencoder on the pictures that are kept (He et al. 2022)."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.masked_autoencoder import MaeShape, MaskedAutoencoder, cut_patches
from dsqformat.condense.pictures import PictureSet, unit_values
from dsqformat.condense.proxy import first_pictures
from dsqformat.condense.proxy_training import one_cycle
from dsqformat.condense.reconstruction import (
    TINY_MEAN,
    TINY_STD,
    tiny_mae_reconstructor,
)
from dsqformat.condense.reproducibility import DEFAULT_THREADS, reproducible, stream
from dsqformat.condense.weights_blob import weights_to_bytes
from dsqformat.errors import ModelError
from dsqformat.reconstruct import Reconstructor

_ORDER, _MASKS = 0, 1


@dataclass(frozen=True)
class TinyMaeOptions:
    """Sizes and training of the tiny masked autoencoder.

    The defaults make 2 million weights, 4 MB as float16, against 15.4 MB for a tenth of CIFAR-10
    in bytes: they pay for themselves in large sets only.

    Attributes:
        width: of the encoder.
        depth: blocks of the encoder.
        heads: of attention in the encoder.
        decoder_width: of the decoder.
        decoder_depth: blocks of the decoder.
        decoder_heads: of attention in the decoder.
        epochs: 1 or more.
        batch_size: pictures of a step.
        learning_rate: of AdamW at the top of its cycle.
        weight_decay: of AdamW.
        hidden: smallest and largest share of patches that are hidden, drawn for each batch.
        flip: mirror every other picture.
        seed: of weights, order and masks.
        threads: of one operation on the CPU; None: as torch is set.
        device: where to train.
    """

    width: int = 192
    depth: int = 4
    heads: int = 6
    decoder_width: int = 96
    decoder_depth: int = 2
    decoder_heads: int = 6
    epochs: int = 50
    batch_size: int = 128
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    hidden: tuple[float, float] = (0.25, 0.75)
    flip: bool = True
    seed: int = 0
    threads: int | None = DEFAULT_THREADS
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not 0 < self.hidden[0] <= self.hidden[1] < 1:
            raise ValueError(
                f"epochs={self.epochs}, batch_size={self.batch_size}, hidden={self.hidden}: "
                "expected at least 1, at least 1, and two rising shares between 0 and 1"
            )


@dataclass(frozen=True)
class TrainedMae:
    """A trained masked autoencoder.

    Attributes:
        weights: what has to be shipped, to be counted with the dataset.
        sha256: of the weights, hexadecimal.
        reconstructor: made of these very bytes.
        loss: mean squared error of hidden patches in each epoch, in units of [0, 1] pictures.
    """

    weights: bytes
    sha256: str
    reconstructor: Reconstructor
    loss: tuple[float, ...]


def train_tiny_mae(
    pictures: PictureSet,
    patch: int,
    options: TinyMaeOptions | None = None,
    *,
    progress: OnProgress | None = None,
) -> TrainedMae:
    """Train a masked autoencoder to imagine hidden patches.

    Args:
        pictures: whole ones, whose sides are multiples of `patch`.
        patch: side of a patch.
        options: None for the defaults.
        progress: called with a stage, pictures done and pictures in all.

    Raises:
        ModelError: the sides do not fit, there is a single patch, or the loss becomes NaN.
        SourceError: no pictures.
    """
    options = options or TinyMaeOptions()
    _, height, width, channels = first_pictures(pictures).shape
    if patch < 1 or height % patch or width % patch or height * width == patch * patch:
        raise ModelError(
            f"pictures of {height} x {width} with patches of {patch}: tiny-mae needs sides that "
            "are multiples of the patch, and several patches; use reconstructor 'harmonic'"
        )
    shape = MaeShape(
        rows=height // patch,
        columns=width // patch,
        patch=patch,
        channels=channels,
        width=options.width,
        depth=options.depth,
        heads=options.heads,
        decoder_width=options.decoder_width,
        decoder_depth=options.decoder_depth,
        decoder_heads=options.decoder_heads,
    )
    with reproducible(options.seed, options.threads):
        network = MaskedAutoencoder(shape).to(options.device)
        loss = _train(network, pictures, options, progress)
    weights = weights_to_bytes(network)
    made = tiny_mae_reconstructor(weights, device=options.device, threads=options.threads)
    return TrainedMae(weights, hashlib.sha256(weights).hexdigest(), made, loss)


def drawn_masks(rng: np.random.Generator, count: int, tokens: int, share: float) -> NDArray[Any]:
    """Return masks that hide the same number of patches of each picture.

    Args:
        rng: draws them.
        count: pictures.
        tokens: patches of a picture, 2 or more.
        share: of patches to hide; at least one is, and one is not.

    Returns:
        Boolean, shape (count, tokens): True for visible.
    """
    hidden = min(tokens - 1, max(1, round(share * tokens)))
    ranks = np.argsort(rng.random((count, tokens)), axis=1, kind="stable")
    visible = np.ones((count, tokens), "?")
    np.put_along_axis(visible, ranks[:, :hidden], False, axis=1)
    return visible


def _train(
    network: MaskedAutoencoder,
    pictures: PictureSet,
    options: TinyMaeOptions,
    progress: OnProgress | None,
) -> tuple[float, ...]:
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(
        groups, options.learning_rate, betas=(0.9, 0.95), weight_decay=options.weight_decay
    )
    count = len(pictures)
    steps = options.epochs * math.ceil(count / options.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: one_cycle(step / steps))
    losses = []
    network.train()
    for epoch in range(options.epochs):
        order = stream(options.seed, epoch, _ORDER).permutation(count)
        rng = stream(options.seed, epoch, _MASKS)
        total, done = 0.0, 0
        for batch in pictures.batches(options.batch_size, order):
            loss = _loss(network, batch, options, rng)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            schedule.step()
            total += float(loss.detach()) * len(batch) * TINY_STD**2
            done += len(batch)
            if progress is not None:
                progress("tiny-mae", epoch * count + done, options.epochs * count)
        losses.append(total / count)
        if not math.isfinite(total):
            raise ModelError(f"epoch {epoch}: the loss is NaN; use a smaller learning rate")
    network.eval()
    return tuple(losses)


def _loss(
    network: MaskedAutoencoder,
    batch: NDArray[Any],
    options: TinyMaeOptions,
    rng: np.random.Generator,
) -> torch.Tensor:
    """Return the mean squared error of hidden patches of a batch."""
    if options.flip:
        flipped = rng.random(len(batch)) < 0.5
        batch = np.where(flipped[:, None, None, None], batch[:, :, ::-1], batch)
    visible = drawn_masks(rng, len(batch), network.shape.tokens, rng.uniform(*options.hidden))
    device = network.cls_token.device
    normal = (unit_values(batch) - np.float32(TINY_MEAN)) / np.float32(TINY_STD)
    values = torch.from_numpy(normal).to(device).permute(0, 3, 1, 2)
    seen = torch.from_numpy(visible).to(device)
    imagined = network(values, seen)
    error = (imagined - cut_patches(values, network.shape.patch)).square().mean(2)
    mean: torch.Tensor = error[~seen].mean()
    return mean
