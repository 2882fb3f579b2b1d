"""Stage refine: pictures moved so that a network sees less of their quantization."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.fake_quantizers import through_arrays
from dsqformat.condense.picture_subsets import picture_shape
from dsqformat.condense.pictures import PictureSet
from dsqformat.condense.proxy import Proxy
from dsqformat.condense.refinement import (
    FakeQuantizer,
    RefinementOptions,
    patch_affine,
    refine_pictures,
)
from dsqformat.recipes.stage_options import Quantize, Refine
from dsqformat.recipes.stages.sensitivity import round_trip_of
from dsqformat.recipes.work_directory import Made

VERSION: Final = 1
PICTURES: Final = "pictures"


def refine(
    folder: Path,
    pictures: PictureSet,
    setting: NDArray[np.int64],
    options: Refine,
    quantize: Quantize,
    proxy: Proxy,
    *,
    device: str,
    threads: int,
    progress: OnProgress,
) -> Made:
    """Write refined pictures as pictures.npy, in the type of the originals.

    Refined uint8 pictures are rounded to whole levels; the losses are those before that.

    Args:
        folder: where to.
        pictures: those kept.
        setting: bits of each, int64, shape (n,); pictures of 0 bits stay as they are.
        options: of the stage.
        quantize: of the stage quantize.
        proxy: whose hidden features count.
        device: of torch.
        threads: of one operation.
        progress: called with stage, done and total.
    """
    shape = (len(pictures), *picture_shape(pictures))
    before, after = np.zeros((2, len(pictures)))
    first = next(iter(pictures.batches(1)))
    path = folder / f"{PICTURES}.npy"
    refined = np.lib.format.open_memmap(path, "w+", first.dtype, shape)
    own = RefinementOptions(
        iterations=options.iterations,
        learning_rate=options.learning_rate,
        batch_size=options.batch_size,
        threads=threads,
    )
    done = 0
    for bits in np.unique(setting).tolist():
        rows = np.flatnonzero(setting == bits)
        quantizer = _fake(quantize, bits) if bits else None
        for begin in range(0, len(rows), options.batch_size):
            part = rows[begin : begin + options.batch_size]
            (batch,) = pictures.batches(len(part), part)
            done += len(part)
            if quantizer is None:
                refined[part] = batch
                continue
            found = refine_pictures(batch, proxy, quantizer, own, device=device)
            before[part], after[part] = found.loss_before, found.loss_after
            refined[part] = _as_source(found.pictures, first.dtype)
            progress("refine", done, len(pictures))
    refined.flush()
    facts = {"loss_after": float(after.sum()), "loss_before": float(before.sum())}
    return Made({"loss_after": after, "loss_before": before}, facts)


def _fake(quantize: Quantize, bits: int) -> FakeQuantizer:
    round_trip = round_trip_of(quantize, bits, quantize.patch)
    if quantize.quantizer == "patch":
        return patch_affine(bits, quantize.patch)
    return through_arrays(round_trip)


def _as_source(pictures: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype == np.uint8:
        return np.clip(np.rint(pictures * 255), 0, 255).astype("u1")
    return pictures
