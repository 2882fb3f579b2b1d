"""What came out beside what went in: errors of every sample, and what picture files take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.commands.comparison import PictureComparison, is_picture
from dsqformat.dataset import Dataset
from dsqformat.quantize.mask import pixel_mask
from dsqformat.recipes.runner import Run
from dsqformat.recipes.staging import Staged
from dsqformat.recipes.work_directory import Made
from dsqformat.select import psnr_of
from dsqformat.writer.dataset_writer import shuffled_order

VERSION: Final = 1
# Samples of different shapes are read one by one: so many of them are looked at.
_MOST_IRREGULAR: Final = 2000
# Those made into picture files are chosen from about so many.
_MOST_FILES: Final = 512
_BYTE: Final = 255.0


@dataclass(frozen=True)
class Seen:
    """A sample as it was, as it is stored, and as a trainer sees it.

    Attributes:
        number: among those kept.
        original: of the source.
        stored: decoded; 0 where patches were left out.
        filled: the same with these filled in.
        visible: pixels that were stored, boolean, (height, width); None: all.
    """

    number: int
    original: NDArray[Any]
    stored: NDArray[Any]
    filled: NDArray[Any]
    visible: NDArray[np.bool_] | None

    def difference(self) -> NDArray[np.float64]:
        """Return original less filled, float64, in units of 1/255 of [0, 1]."""
        return _levels(self.original) - _levels(self.filled)


def measure(run: Run, dataset: Dataset) -> Made:
    """Compare every stored sample with what it was.

    Args:
        run: that made the dataset.
        dataset: what it made.

    Returns:
        Arrays error (float64, shape (k,), sum of squared differences in units of 1/255; NaN where
        it was not measured), visible_error (the same over stored pixels), values and
        visible_values (int64, how many). Facts: what picture files of some samples take.
    """
    kept = run.kept
    error, visible_error = np.full((2, len(kept)), np.nan)
    values, visible_values = np.zeros((2, len(kept)), "i8")
    for seen in seen_samples(run, dataset):
        difference = seen.difference()
        error[seen.number] = float(np.square(difference).sum())
        values[seen.number] = difference.size
        inside = difference if seen.visible is None else difference[seen.visible]
        visible_error[seen.number] = float(np.square(inside).sum())
        visible_values[seen.number] = inside.size
        run.progress("compare", seen.number, len(kept))
    arrays = {
        "error": error,
        "values": values,
        "visible_error": visible_error,
        "visible_values": visible_values,
    }
    measured = np.isfinite(error)
    psnr = psnr_of(float(error[measured].sum()), int(values[measured].sum()) or 1)
    numbers = np.flatnonzero(measured)
    return Made(arrays, {"files": _files(run.staged, kept[numbers], psnr)})


def stored_numbers(stored: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """Return the number among those kept of the sample at each position of the dataset.

    Args:
        stored: whether each kept sample has a payload, shape (k,).
        seed: of the recipe.
    """
    numbers = np.flatnonzero(stored)
    return numbers[shuffled_order(len(numbers), seed)]


def seen_samples(
    run: Run, dataset: Dataset, wanted: NDArray[np.int64] | None = None
) -> Iterator[Seen]:
    """Yield stored samples beside their originals, in the order of the dataset.

    Args:
        run: that made the dataset.
        dataset: what it made.
        wanted: numbers among those kept; None: all, of different shapes the first 2,000.
    """
    staged, fill = run.staged, run.fill
    name = staged.field.name
    patch = dataset.schema.field(name).patch or 1
    numbers = stored_numbers(run.stored, run.recipe.seed)
    irregular = None in staged.field.shape
    if irregular and wanted is None:
        wanted = np.sort(numbers[:_MOST_IRREGULAR])
    begin = 0
    for chunk in dataset.iter_chunks(fields=[name]):
        here = numbers[begin : begin + chunk.sample_count]
        begin += chunk.sample_count
        rows = np.arange(len(here))
        if wanted is not None:
            rows = rows[np.isin(here, wanted)]
        if not len(rows):
            continue
        originals = originals_of(staged, run.kept[here[rows]])
        masks = chunk.masks.get(name)
        for row, original in zip(rows.tolist(), originals, strict=True):
            stored = np.asarray(chunk.fields[name][row])
            number = int(here[row])
            mask = None if masks is None else masks[row]
            if mask is None or mask.all():
                yield Seen(number, original, stored, stored, None)
                continue
            visible = pixel_mask(mask, stored.shape[0], stored.shape[1], patch)
            filled = stored
            if fill is not None:
                cube = stored.reshape(1, *stored.shape[:2], -1)
                filled = fill(cube, mask[np.newaxis], patch)[0].reshape(stored.shape)
            yield Seen(number, original, stored, filled, visible)


def originals_of(staged: Staged, positions: NDArray[np.int64]) -> Any:
    """Return samples of the main field by their positions in the source, in that order."""
    shape = staged.field.shape
    if None in shape or len(shape) not in (2, 3) or staged.field.dtype not in ("uint8", "float32"):
        return staged.dataset.take(positions)[staged.field.name]
    (batch,) = staged.pictures.batches(len(positions), positions)
    return batch.reshape(len(positions), *shape)


def _levels(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return values in units of 1/255 of [0, 1]."""
    return values.astype("f8") * (1.0 if values.dtype.kind in "iu" else _BYTE)


def _files(staged: Staged, positions: NDArray[np.int64], psnr: float) -> dict[str, Any]:
    """Return what picture files of an evenly spaced few samples take, by kind."""
    chosen = np.sort(positions)[:: max(1, len(positions) // _MOST_FILES)]
    comparison = PictureComparison(len(chosen), _pixels(staged), keep=True)
    for begin in range(0, len(chosen), 256):
        for picture in originals_of(staged, chosen[begin : begin + 256]):
            if not is_picture(np.asarray(picture)):
                return {}
            comparison.offer(np.asarray(picture))
    if not comparison.count:
        return {}
    if np.isfinite(psnr):
        comparison.match(psnr)
    found: dict[str, Any] = {
        "count": comparison.count,
        "png": comparison.png_nbytes / comparison.count,
        "webp_lossless": comparison.webp_nbytes / comparison.count,
    }
    for kind, files in comparison.lossy.items():
        found[f"{kind}_same_psnr"] = files.mean_nbytes
    return found


def _pixels(staged: Staged) -> int | None:
    shape = staged.field.shape
    if len(shape) < 2 or None in shape[:2]:
        return None
    return (shape[0] or 0) * (shape[1] or 0)
