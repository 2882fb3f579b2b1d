"""Stage sensitivity: what quantization does to each kept sample, as its trainer will see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.commands.progress import OnProgress
from dsqformat.condense.picture_subsets import SeenPictures
from dsqformat.condense.pictures import PictureSet, unit_values
from dsqformat.condense.round_trips import (
    RoundTrip,
    affine_round_trip,
    lsq_round_trip,
    patch_round_trip,
)
from dsqformat.errors import RecipeError
from dsqformat.recipes.stage_options import Quantize, Sensitivity
from dsqformat.recipes.work_directory import Made

if TYPE_CHECKING:
    from dsqformat.condense.proxy import Proxy

VERSION: Final = 1
_BATCH: Final = 256
# The fewest and the most of each quantizer.
_BIT_WIDTHS: Final = {"lsq": (2, 16), "affine": (1, 16), "patch": (1, 8)}


def measure_sensitivity(
    pictures: PictureSet,
    seen: SeenPictures,
    options: Sensitivity,
    proxy: Proxy | None,
    *,
    threads: int,
    progress: OnProgress,
) -> Made:
    """Return the array sensitivity: float64, shape (n,).

    Args:
        pictures: those kept, as they are.
        seen: the same as they come back: masked, quantized at the probe, filled in.
        options: of the stage.
        proxy: trained; not needed by engine distortion.
        threads: of one operation.
        progress: called with stage, done and total.

    Raises:
        ModelError: a gradient is not finite.
    """
    if options.engine == "distortion":
        return Made({"sensitivity": squared_errors(pictures, seen, progress)})
    from dsqformat.condense.sensitivity import sensitivity

    if proxy is None:
        raise RecipeError(f"sensitivity.engine: {options.engine} needs [train]")
    found = sensitivity(
        proxy,
        pictures,
        seen,
        engine=options.engine,
        layers=options.layers or None,
        wrt=options.wrt,
        threads=threads,
        progress=progress,
    )
    return Made({"sensitivity": found})


def squared_errors(
    pictures: PictureSet, seen: PictureSet, progress: OnProgress
) -> NDArray[np.float64]:
    """Return the sum of squared differences of each picture, in units of [0, 1]: float64."""
    parts: list[NDArray[np.float64]] = []
    done = 0
    for batch, other in zip(pictures.batches(_BATCH), seen.batches(_BATCH), strict=True):
        difference = (unit_values(batch).astype("f8") - other).reshape(len(batch), -1)
        parts.append(np.einsum("ij,ij->i", difference, difference))
        done += len(batch)
        progress("distortion", done, len(pictures))
    return np.concatenate(parts) if parts else np.empty(0)


def round_trip_of(quantize: Quantize, bits: int, patch: int) -> RoundTrip:
    """Return quantization at a bit width and back.

    Args:
        quantize: which quantizer.
        bits: bit width.
        patch: side of patches of quantizer patch.

    Raises:
        RecipeError: the quantizer has no bit widths, or not this one.
    """
    least, most = _BIT_WIDTHS.get(quantize.quantizer, (bits, bits))
    if not least <= bits <= most:
        raise RecipeError(
            f"bits or sensitivity.probe_bits: got {bits}, expected {least} to {most} with "
            f"quantizer {quantize.quantizer}"
        )
    if quantize.quantizer == "lsq":
        return lsq_round_trip(bits)
    if quantize.quantizer == "affine":
        return affine_round_trip(bits)
    if quantize.quantizer == "patch":
        return patch_round_trip(bits, patch)
    raise RecipeError(
        f"quantize.quantizer: got {quantize.quantizer!r}, expected lsq, affine or patch "
        "with [sensitivity]"
    )
