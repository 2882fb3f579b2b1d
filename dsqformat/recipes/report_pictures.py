"""Samples as PNG data for a page: as they were, as they are stored, as a trainer sees them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.commands.comparison import is_picture
from dsqformat.dataset import Dataset
from dsqformat.recipes.measures import Seen, originals_of, seen_samples
from dsqformat.recipes.runner import Run
from dsqformat.sources.pictures import require_pillow

_MOST_SIDE: Final = 160
_HIDDEN: Final = 128


@dataclass(frozen=True)
class Shown:
    """A sample on a page.

    Attributes:
        caption: below it.
        original: data URI of a PNG.
        stored: the same as decoded, left-out patches grey; None: it was dropped.
        filled: with these filled in; None: there are none.
    """

    caption: str
    original: str
    stored: str | None
    filled: str | None


def shown_samples(
    run: Run, dataset: Dataset, groups: Mapping[str, NDArray[np.int64]]
) -> dict[str, list[Shown]]:
    """Return samples by group; empty where the field holds no pictures.

    Args:
        run: that made the dataset.
        dataset: what it made.
        groups: numbers among those kept, by name of the group.
    """
    require_pillow()
    wanted = np.unique(np.concatenate(list(groups.values())))
    found = {
        seen.number: seen
        for seen in seen_samples(
            run.staged,
            dataset,
            run.kept,
            run.setting,
            block=run.block,
            seed=run.recipe.seed,
            fill=run.fill,
            wanted=wanted,
        )
    }
    shown: dict[str, list[Shown]] = {}
    for name, numbers in groups.items():
        made = [_shown(run, number, found.get(number)) for number in numbers.tolist()]
        shown[name] = [sample for sample in made if sample is not None]
    return shown


def _shown(run: Run, number: int, seen: Seen | None) -> Shown | None:
    original = seen.original if seen else originals_of(run.staged, run.kept[[number]])[0]
    picture = _picture(np.asarray(original))
    if picture is None:
        return None
    value = int(run.setting[number])
    caption = f"#{int(run.kept[number])}, {'qp' if run.block else 'bits'} {value}"
    if run.sensitivity is not None:
        caption += f", S {run.sensitivity[number]:.3g}"
    if seen is None:
        return Shown(f"{caption}: dropped", _png(picture), None, None)
    stored, filled = _picture(seen.stored), None
    if stored is None:
        return None
    if seen.visible is not None:
        stored = stored.copy()
        stored[~seen.visible] = _HIDDEN
        shown = _picture(seen.filled)
        filled = None if shown is None else _png(shown)
    return Shown(caption, _png(picture), _png(stored), filled)


def _picture(values: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return values as a picture; None if they are none. What leaves [0, 1] is scaled into it."""
    if values.dtype.kind == "f":
        low, high = float(values.min(initial=0.0)), float(values.max(initial=1.0))
        values = np.rint((values - low) / max(high - low, 1e-9) * 255).astype("u1")
    return values if is_picture(values) else None


def _png(picture: NDArray[np.uint8]) -> str:
    from PIL import Image

    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[:, :, 0]
    image = Image.fromarray(np.ascontiguousarray(picture))
    if max(image.size) > _MOST_SIDE:
        image.thumbnail((_MOST_SIDE, _MOST_SIDE))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
