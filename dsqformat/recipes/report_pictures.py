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
from dsqformat.select import psnr_of
from dsqformat.sources.pictures import require_pillow

# Of larger pictures the middle is shown: made smaller they would look better than they are.
_MOST_SIDE: Final = 160
# Small ones are shown a whole number of times larger, at about this size.
_SHOWN_SIDE: Final = 96
_HIDDEN: Final = 128


@dataclass(frozen=True)
class Shown:
    """A sample on a page.

    Attributes:
        name: its position in the source and its class.
        caption: how it is stored and what that did to it.
        original: data URI of a PNG.
        stored: the same as decoded, left-out patches grey; None: it was dropped.
        filled: with these filled in; None: there are none.
        size: width and height of each picture on the page, in CSS pixels.
        enlarged: whether that is more than it has pixels.
    """

    name: str
    caption: str
    original: str
    stored: str | None
    filled: str | None
    size: tuple[int, int]
    enlarged: bool


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
    found = {seen.number: seen for seen in seen_samples(run, dataset, wanted)}
    classes = _class_names(run)
    shown: dict[str, list[Shown]] = {}
    for group, numbers in groups.items():
        made = []
        for number in numbers.tolist():
            position = int(run.kept[number])
            name = f"#{position}" + (f" {classes[position]}" if classes else "")
            made.append(_shown(run, number, name, found.get(number)))
        shown[group] = [sample for sample in made if sample is not None]
    return shown


def _class_names(run: Run) -> list[str]:
    """Return the class of each sample of the source; empty where there are none."""
    if not run.staged.has_labels:
        return []
    names = run.staged.label_names
    return [
        names[label] if 0 <= label < len(names) else f"class {label}"
        for label in run.staged.labels("the report").tolist()
    ]


def _shown(run: Run, number: int, name: str, seen: Seen | None) -> Shown | None:
    original = seen.original if seen else originals_of(run.staged, run.kept[[number]])[0]
    picture = _picture(np.asarray(original))
    if picture is None:
        return None
    height, width = (min(side, _MOST_SIDE) for side in picture.shape[:2])
    if picture.shape[:2] != (height, width):
        name += f", middle {width}x{height} of {picture.shape[1]}x{picture.shape[0]}"
    times = max(1, round(_SHOWN_SIDE / max(height, width)))
    caption = _caption(run, number, seen)
    stored, filled = None, None
    if seen is not None:
        stored, filled = _stored_and_filled(seen)
        if stored is None:
            return None
    size = (width * times, height * times)
    return Shown(name, caption, _png(picture), stored, filled, size, times > 1)


def _caption(run: Run, number: int, seen: Seen | None) -> str:
    value = int(run.setting[number])
    parts = [f"qp {value}" if run.block else f"{value} bits"]
    if run.sensitivity is not None:
        parts.append(f"sensitivity {run.sensitivity[number]:.3g}")
    if seen is None:
        return f"{', '.join(parts)}: dropped"
    psnr = _psnr(seen)
    parts.append("exact" if np.isinf(psnr) else f"{psnr:.1f} dB")
    return ", ".join(parts)


def _psnr(seen: Seen) -> float:
    """Return that of the sample as a trainer sees it, in dB; infinite where nothing is lost."""
    difference = seen.difference()
    return psnr_of(float(np.square(difference).sum()), difference.size)


def _stored_and_filled(seen: Seen) -> tuple[str | None, str | None]:
    stored = _picture(seen.stored)
    if stored is None:
        return None, None
    if seen.visible is None:
        return _png(stored), None
    stored = stored.copy()
    stored[~seen.visible] = _HIDDEN
    filled = _picture(seen.filled)
    return _png(stored), None if filled is None else _png(filled)


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
    top, left = (max(0, side - _MOST_SIDE) // 2 for side in picture.shape[:2])
    picture = picture[top : top + _MOST_SIDE, left : left + _MOST_SIDE]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
