"""Reconstructors that are networks: `tiny-mae`, trained on the kept set, and `checkpoint`.

Visible pixels come back bit-equal, as from all reconstructors. What is filled in repeats itself
on one machine with one version of torch; other machines differ in the last bits. Those of
`dsqformat.reconstruct` need neither torch nor weights and agree everywhere.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from dsqformat.condense.masked_autoencoder import (
    MaeShape,
    MaskedAutoencoder,
    cut_patches,
    join_patches,
)
from dsqformat.condense.networks import read_weights
from dsqformat.condense.reproducibility import DEFAULT_THREADS, reproducible
from dsqformat.condense.weights_blob import weights_from_bytes
from dsqformat.errors import ModelError
from dsqformat.reconstruct import Reconstructor
from dsqformat.reconstruct.visible import pasted, visible_pixels

TINY_MAE: Final = "tiny-mae"
CHECKPOINT: Final = "checkpoint"

# What published checkpoints were trained with (ImageNet).
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
# Of the tiny one: pictures of [0, 1] around 0.
TINY_MEAN: Final = 0.5
TINY_STD: Final = 0.25
# Heads are not written into weights; these are those of the published ViT-B, ViT-L and ViT-H.
_PUBLISHED_HEADS: Final = {768: 12, 1024: 16, 1280: 16}
_PUBLISHED_DECODER_HEADS: Final = 16
_BATCH: Final = 64


def tiny_mae_reconstructor(
    weights: bytes,
    sha256: str | None = None,
    *,
    device: str = "cpu",
    threads: int | None = DEFAULT_THREADS,
) -> Reconstructor:
    """Return the reconstructor of weights that came with a dataset.

    Args:
        weights: as `train_tiny_mae` returns them.
        sha256: hexadecimal digest they must have; None: not compared.
        device: where to work.
        threads: of one operation on the CPU; None: as torch is set.

    Raises:
        CorruptShardError: the bytes are damaged or no such weights.
        UnsupportedFeatureError: they are of another version.
    """
    network = weights_from_bytes(weights, sha256).to(device)
    channels = network.shape.channels
    fill = NetworkFill(network, (TINY_MEAN,) * channels, (TINY_STD,) * channels, threads)
    return Reconstructor(TINY_MAE, fill, len(weights), hashlib.sha256(weights).hexdigest())


def checkpoint_reconstructor(
    path: str | os.PathLike[str],
    sha256: str,
    *,
    heads: int | None = None,
    decoder_heads: int = _PUBLISHED_DECODER_HEADS,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    device: str = "cpu",
    threads: int | None = DEFAULT_THREADS,
) -> Reconstructor:
    """Return the reconstructor of a local file of masked-autoencoder weights.

    Pictures may have patches of another side than the network: each patch is scaled by itself, so
    that nothing of a left-out patch reaches its neighbours. Only the grid must be the network's.

    Args:
        path: of a file as published with He et al. (2022): a state dict, alone or under "model",
            of a network trained on pixels (not on pixels normalised by patch).
        sha256: hexadecimal digest the file must have.
        heads: of attention in the encoder; None: those of ViT-B, ViT-L and ViT-H by their width.
        decoder_heads: of attention in the decoder.
        mean: subtracted from pictures of [0, 1], per channel.
        std: then divided by.
        device: where to work.
        threads: of one operation on the CPU; None: as torch is set.

    Raises:
        ModelError: the file has another digest, or is no masked autoencoder.
        OSError: it cannot be read.
    """
    where = os.fspath(path)
    data = Path(path).read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        raise ModelError(
            f"{where}: sha256 {found}, expected {sha256}; it is not the file that was named"
        )
    weights = read_weights(path, data)
    shape = _shape_of(weights, where, heads, decoder_heads)
    network = MaskedAutoencoder(shape)
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        detail = " ".join(str(error).splitlines()[1:2]).strip()[:200]
        raise ModelError(f"{where}: not the weights of a masked autoencoder: {detail}") from error
    if len(mean) != shape.channels or len(std) != shape.channels:
        raise ModelError(f"{where}: {shape.channels} channels, but {len(mean)} means given")
    fill = NetworkFill(network.eval().to(device), mean, std, threads)
    return Reconstructor(CHECKPOINT, fill, len(data), found)


class NetworkFill:
    """Fills left-out patches with what a masked autoencoder imagines.

    Args:
        network: in evaluation mode.
        mean: subtracted from pictures of [0, 1], per channel.
        std: then divided by.
        threads: of one operation on the CPU.
    """

    def __init__(
        self,
        network: MaskedAutoencoder,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        threads: int | None,
    ) -> None:
        self.network = network
        device = network.cls_token.device
        self._mean = torch.tensor(mean, device=device).view(1, -1, 1, 1)
        self._std = torch.tensor(std, device=device).view(1, -1, 1, 1)
        self._threads = threads

    def __call__(
        self, pictures: NDArray[Any], masks: NDArray[np.bool_], patch: int
    ) -> NDArray[Any]:
        """Return the pictures whole; arguments and result as of `fill_mean`.

        Raises:
            ModelError: the pictures do not have the network's grid of patches.
            ValueError: shapes do not fit together, or a picture has no visible patch.
        """
        visible = visible_pixels(pictures, masks, patch)
        self._check(pictures.shape, patch)
        largest = 255.0 if pictures.dtype == np.uint8 else 1.0
        filled = np.empty(pictures.shape, "f4")
        with reproducible(0, self._threads), torch.no_grad():
            for begin in range(0, len(pictures), _BATCH):
                rows = slice(begin, begin + _BATCH)
                shown = np.where(visible[rows, ..., np.newaxis], pictures[rows], 0) / largest
                filled[rows] = self._imagined(shown.astype("f4"), masks[rows], patch) * largest
        return pasted(filled, pictures, visible)

    def _imagined(
        self, shown: NDArray[np.float32], masks: NDArray[np.bool_], patch: int
    ) -> NDArray[np.float32]:
        shape = self.network.shape
        values = torch.from_numpy(shown).to(self._mean.device).permute(0, 3, 1, 2)
        values = scaled_patches((values - self._mean) / self._std, patch, shape.patch)
        # A copy: masks may come out of a file, and torch wants to be allowed to write.
        seen = torch.from_numpy(masks.reshape(len(masks), -1).copy()).to(values.device)
        patches = self.network(values, seen)
        whole = join_patches(patches, shape.rows, shape.columns, shape.patch)
        whole = scaled_patches(whole, shape.patch, patch) * self._std + self._mean
        found: NDArray[np.float32] = whole.clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
        return found

    def _check(self, shape: tuple[int, ...], patch: int) -> None:
        own = self.network.shape
        if shape[1:] != (own.rows * patch, own.columns * patch, own.channels):
            raise ModelError(
                f"pictures {shape[1:]} with patches of {patch}: the network knows "
                f"{own.rows} x {own.columns} patches of {own.channels} channels, so pictures must "
                f"be {(own.rows * patch, own.columns * patch, own.channels)}; "
                "use reconstructor 'harmonic' for others"
            )


def scaled_patches(pictures: torch.Tensor, before: int, after: int) -> torch.Tensor:
    """Scale each patch of pictures (n, channels, height, width) from one side to another.

    Bilinear upwards, means downwards.
    """
    if before == after:
        return pictures
    count, channels, height, width = pictures.shape
    rows, columns = height // before, width // before
    cells = cut_patches(pictures, before).reshape(-1, before, before, channels).permute(0, 3, 1, 2)
    if after > before:
        cells = functional.interpolate(
            cells, size=(after, after), mode="bilinear", align_corners=False
        )
    else:
        cells = functional.interpolate(cells, size=(after, after), mode="area")
    flat = cells.permute(0, 2, 3, 1).reshape(count, rows * columns, -1)
    return join_patches(flat, rows, columns, after)


def _shape_of(
    weights: Mapping[str, torch.Tensor], where: str, heads: int | None, decoder_heads: int
) -> MaeShape:
    """Read the sizes of a network off its weights."""
    needed = ("patch_embed.proj.weight", "pos_embed", "decoder_embed.weight", "mask_token")
    missing = [name for name in needed if name not in weights]
    if missing:
        raise ModelError(
            f"{where}: no {missing[0]}: not a masked autoencoder with its decoder (published under "
            "names with 'visualize')"
        )
    width, channels, patch, _ = _sizes(weights["patch_embed.proj.weight"], 4, where)
    tokens = _sizes(weights["pos_embed"], 3, where)[1] - 1
    side = round(max(tokens, 0) ** 0.5)
    if side * side != tokens:
        raise ModelError(f"{where}: {tokens} patches do not make a square grid")
    own_heads = heads or _PUBLISHED_HEADS.get(width)
    if own_heads is None:
        raise ModelError(f"{where}: width {width} of no published network; give heads=")
    try:
        return MaeShape(
            rows=side,
            columns=side,
            patch=patch,
            channels=channels,
            width=width,
            depth=_depth(weights, "blocks."),
            heads=own_heads,
            decoder_width=len(weights["decoder_embed.weight"]),
            decoder_depth=_depth(weights, "decoder_blocks."),
            decoder_heads=decoder_heads,
        )
    except ValueError as error:
        raise ModelError(f"{where}: {error}") from error


def _sizes(tensor: torch.Tensor, dimensions: int, where: str) -> tuple[int, ...]:
    if tensor.ndim != dimensions:
        raise ModelError(f"{where}: a tensor of shape {tuple(tensor.shape)} where sizes are read")
    return tuple(tensor.shape)


def _depth(weights: Mapping[str, torch.Tensor], prefix: str) -> int:
    return len({name.split(".")[1] for name in weights if name.startswith(prefix)})
