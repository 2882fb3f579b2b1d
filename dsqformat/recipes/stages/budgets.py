"""Stage bits, mode budget: a qp for each sample, so that a number of bytes suffices for all.

Bytes and distortion of each sample are measured at each qp, the solver of `dsqformat.select`
chooses, and the whole is written on trial; what it really took corrects the budget of the next
trial. The choice that came nearest from below is the result, so that nothing is ever over budget.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block import BlockModel, Options, decode, encode, fit
from dsqformat.commands.options import nbytes_of
from dsqformat.commands.progress import OnProgress
from dsqformat.errors import RecipeError, TargetError
from dsqformat.recipes.stage_options import Bits, Quantize
from dsqformat.recipes.work_directory import Made
from dsqformat.select import budgeted_bit_levels

if TYPE_CHECKING:
    from dsqformat.condense.proxy import Proxy

VERSION: Final = 1
# Several batches of pictures, and one after the other.
Batches = Callable[[], Any]
# Settings of all samples -> bytes of everything.
Trial = Callable[[NDArray[np.int64]], int]

_FIT_PICTURES: Final = 2048
_FIT_VALUES: Final = 6 << 20
_TRIALS: Final = 6
_NEAR: Final = 0.997
_LAYERS: Final = 2


def budget_of(options: Bits, count: int) -> int:
    """Return the bytes that everything may take.

    Raises:
        RecipeError: the total is no size.
    """
    if options.bytes_per_sample:
        return int(options.bytes_per_sample * count)
    if not isinstance(options.total, str):
        return options.total
    try:
        return nbytes_of(options.total)
    except ValueError as error:
        raise RecipeError(f"bits.total: got {error}") from error


def allocate_budget(
    batches: Batches,
    count: int,
    options: Bits,
    quantize: Quantize,
    proxy: Proxy | None,
    labels: NDArray[np.int64] | None,
    trial: Trial,
    progress: OnProgress,
) -> Made:
    """Choose the qp of every sample.

    Args:
        batches: returns batches of kept pictures, uint8, as arrays or lists of arrays.
        count: kept samples.
        options: of the stage.
        quantize: of the stage quantize.
        proxy: for measure sensitivity.
        labels: likewise, int64, shape (n,).
        trial: writes everything and returns its bytes.
        progress: called with stage, done and total.

    Returns:
        The array setting, int64, shape (n,); and the arrays nbytes and distortion, (n, levels).

    Raises:
        TargetError: the budget is below what the coarsest qp takes.
    """
    budget = budget_of(options, count)
    qps = sorted(set(options.qps), reverse=True)  # from the fewest bytes to the most
    model = _model(batches, count, qps, quantize)
    nbytes, error = np.zeros((2, count, len(qps)))
    done = 0
    for batch in batches():
        rows = slice(done, done + len(batch))
        for level, qp in enumerate(qps):
            nbytes[rows, level], back = _coded(model, batch, qp)
            if options.measure == "sensitivity" and proxy is not None and labels is not None:
                error[rows, level] = _turned(proxy, batch, back, labels[rows])
            else:
                error[rows, level] = [
                    _squared_error(a, b) for a, b in zip(batch, back, strict=True)
                ]
        done += len(batch)
        progress("measure qps", done, count)
    setting, total, tries = _search(nbytes, error, qps, budget, trial, progress)
    facts = {"budget_nbytes": budget, "total_nbytes": total, "trials": tries}
    return Made({"distortion": error, "nbytes": nbytes, "setting": setting}, facts)


def _search(
    nbytes: NDArray[np.float64],
    error: NDArray[np.float64],
    qps: list[int],
    budget: int,
    trial: Trial,
    progress: OnProgress,
) -> tuple[NDArray[np.int64], int, int]:
    """Return the best choice that fits, what it takes, and how many were tried."""
    coarsest = np.full(len(nbytes), qps[0], "i8")
    best: tuple[int, NDArray[np.int64]] | None = None
    least = float(nbytes.min(axis=1).sum())
    most = float(nbytes[np.arange(len(nbytes)), error.argmin(axis=1)].sum())
    # Samples move by whole levels: nearer than half of one is luck.
    step = float(np.abs(np.diff(nbytes, axis=1)).mean()) / 2 if len(qps) > 1 else 0.0
    allowed, low, high = float(budget), 0.0, float("inf")
    for number in range(1, _TRIALS + 1):
        progress("budget, trial", number, None)
        choice = coarsest
        if allowed > least:
            choice = budgeted_bit_levels(nbytes, error, qps, allowed)
        total = trial(choice)
        used = float(nbytes[np.arange(len(nbytes)), _levels(choice, qps)].sum())
        if total <= budget:
            low = max(low, allowed)
            if best is None or total > best[0]:
                best = total, choice
            if total >= _NEAR * budget or total > budget - step or allowed >= most:
                break
        else:
            high = min(high, allowed)
            if allowed <= least:
                raise TargetError(
                    f"budget of {budget} bytes: the smallest possible is {total} (qp {qps[0]} for "
                    f"all {len(nbytes)} samples); ask for more, or keep fewer (select.keep_ratio)"
                )
        # What was measured sample by sample differs from the whole by about a factor and a sum.
        allowed = used + (budget * (1 + _NEAR) / 2 - total) * used / max(1.0, float(total))
        if not low < allowed < high:
            allowed = (low + min(high, most)) / 2
        allowed = max(allowed, 0.0)
    if best is None:
        total = trial(coarsest)
        if total > budget:
            raise TargetError(f"budget of {budget} bytes: the smallest possible is {total}")
        best = total, coarsest
    return best[1], best[0], number


def _levels(choice: NDArray[np.int64], qps: list[int]) -> NDArray[np.intp]:
    """Return the columns of chosen qps, which fall from column to column."""
    return np.searchsorted(-np.asarray(qps), -choice)


def _model(batches: Batches, count: int, qps: list[int], quantize: Quantize) -> BlockModel:
    """Return a model for all qps, as the writer fits one for samples of several.

    It is fitted to pictures from all over the set, each at the next one of the qps.
    """
    layers = _LAYERS if isinstance(quantize.layers, str) else len(quantize.layers) + 1
    step = max(1, count // _FIT_PICTURES)
    sample: list[NDArray[np.uint8]] = []
    values = done = 0
    for batch in batches():
        for row in range(-done % step, len(batch), step):
            if values < _FIT_VALUES:
                sample.append(np.asarray(batch[row]).reshape(*batch[row].shape[:2], -1))
                values += sample[-1].size
        done += len(batch)
    cycle = [qps[number % len(qps)] for number in range(len(sample))]
    return fit(sample, cycle, Options(layers=layers, effort=quantize.effort))


def _coded(
    model: BlockModel, batch: Any, qp: int
) -> tuple[NDArray[np.float64], list[NDArray[np.uint8]]]:
    """Return the bytes of each picture in a stream of its own, and what comes back."""
    pictures = [np.asarray(picture).reshape(*picture.shape[:2], -1) for picture in batch]
    coded = encode(model, pictures, qp, samples_per_stream=1)
    nbytes = np.array([[len(stream) for stream in streams] for streams in coded.layers], "f8")
    back = decode(model, coded.layers, coded.shapes, coded.qps, samples_per_stream=1)
    shaped = [b.reshape(a.shape) for a, b in zip(batch, back, strict=True)]
    return nbytes.sum(axis=0), shaped


def _squared_error(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    difference = (before.astype("f4") - after).ravel()
    return float(np.dot(difference, difference))


def _turned(
    proxy: Proxy, batch: Any, back: list[NDArray[np.uint8]], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return how far the gradient of the last layer is turned."""
    from dsqformat.condense.pictures import ArrayPictures
    from dsqformat.condense.sensitivity import sensitivity

    before = ArrayPictures(np.stack(list(batch)), labels)
    return sensitivity(
        proxy, before, ArrayPictures(np.stack(back)), engine="last_layer", batch_size=len(labels)
    )
