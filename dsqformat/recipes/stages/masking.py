"""Stage mask: which patches of the kept pictures are stored, and what fills the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.picture_subsets import picture_shape
from dsqformat.condense.pictures import PictureSet
from dsqformat.errors import RecipeError
from dsqformat.quantize.mask import patch_grid
from dsqformat.recipes.stage_options import Mask
from dsqformat.recipes.work_directory import Made, StageResult
from dsqformat.reconstruct import NONE, Reconstructor, named_reconstructor
from dsqformat.select.masks import kept_patches, patch_masks
from dsqformat.select.patch_importance import (
    random_importance,
    sobel_importance,
    variance_importance,
)

if TYPE_CHECKING:
    from dsqformat.condense.proxy import Proxy

VERSION: Final = 1
WEIGHTS: Final = "reconstructor.bin"
_BATCH: Final = 256


def mask(
    folder: Path,
    pictures: PictureSet,
    options: Mask,
    proxy: Proxy | None,
    *,
    seed: int,
    device: str,
    threads: int,
    progress: OnProgress,
) -> Made:
    """Choose the patches of the kept pictures.

    Args:
        folder: where weights of tiny-mae go.
        pictures: those kept.
        options: of the stage.
        proxy: for gradcam.
        seed: of random importance and of tiny-mae.
        device: of torch.
        threads: of one operation.
        progress: called with stage, done and total.

    Returns:
        The array masks: boolean, shape (n, rows, columns), True for patches that are kept.

    Raises:
        RecipeError: the pictures have a single patch.
        ModelError: the network or the weights do not fit, or the file of a checkpoint is another.
    """
    height, width = picture_shape(pictures)[:2]
    rows, columns = patch_grid(height, width, options.patch)
    if rows * columns < 2 and options.drop_ratio:
        raise RecipeError(
            f"mask.patch: got {options.patch} for pictures of {height} x {width}, expected less: "
            "they would have one patch, which cannot be left out"
        )
    if options.reconstructor == "checkpoint":
        # Whoever reads the dataset needs this very file: it is looked at where it is named.
        fill = _checkpoint(options, device, threads)
        fill(next(iter(pictures.batches(1))), np.ones((1, rows, columns), "?"), options.patch)
    masks = patch_masks(
        _importance(pictures, options, proxy, seed, threads, progress), options.drop_ratio
    )
    facts: dict[str, Any] = {
        "kept_patches": kept_patches(rows * columns, options.drop_ratio),
        "patches": rows * columns,
        "reconstructor": options.reconstructor,
        "weights_nbytes": 0,
        "sha256": options.sha256 or None,
    }
    if options.reconstructor == "tiny-mae":
        from dsqformat.condense.tiny_mae import TinyMaeOptions, train_tiny_mae

        trained = train_tiny_mae(
            pictures,
            options.patch,
            TinyMaeOptions(
                width=options.width,
                decoder_width=options.width // 2,
                epochs=options.epochs,
                seed=seed,
                threads=threads,
                device=device,
            ),
            progress=progress,
        )
        (folder / WEIGHTS).write_bytes(trained.weights)
        facts |= {"weights_nbytes": len(trained.weights), "sha256": trained.sha256}
    return Made({"masks": masks}, facts)


def reconstructor_of(
    options: Mask, result: StageResult, *, device: str, threads: int
) -> Reconstructor | None:
    """Return what fills the patches that are left out; None: nothing does.

    Raises:
        ModelError: a file of weights is another one, or does not fit.
    """
    if options.reconstructor == NONE:
        return None
    if options.reconstructor == "tiny-mae":
        from dsqformat.condense.reconstruction import tiny_mae_reconstructor

        data = (result.folder / WEIGHTS).read_bytes()
        return tiny_mae_reconstructor(data, result.facts["sha256"], device=device, threads=threads)
    if options.reconstructor == "checkpoint":
        return _checkpoint(options, device, threads)
    return named_reconstructor(options.reconstructor)


def _checkpoint(options: Mask, device: str, threads: int) -> Reconstructor:
    from dsqformat.condense.reconstruction import checkpoint_reconstructor

    return checkpoint_reconstructor(options.file, options.sha256, device=device, threads=threads)


def _importance(
    pictures: PictureSet,
    options: Mask,
    proxy: Proxy | None,
    seed: int,
    threads: int,
    progress: OnProgress,
) -> NDArray[np.float32]:
    if options.importance == "gradcam":
        from dsqformat.condense.class_maps import patch_scores

        if proxy is None:
            raise RecipeError("mask.importance: gradcam needs [train]")
        return patch_scores(
            proxy,
            pictures,
            options.patch,
            target=options.target,
            alpha=options.alpha,
            layer=options.layer or None,
            threads=threads,
            progress=progress,
        )
    parts: list[NDArray[np.float32]] = []
    done = 0
    for batch in pictures.batches(_BATCH):
        if options.importance == "random":
            grid = patch_grid(batch.shape[1], batch.shape[2], options.patch)
            parts.append(random_importance(len(batch), grid, seed, done))
        elif options.importance == "sobel":
            parts.append(sobel_importance(batch, options.patch))
        else:
            parts.append(variance_importance(batch, options.patch))
        done += len(batch)
        progress("masks", done, len(pictures))
    return np.concatenate(parts)
