"""How well patches share ranges: PSNR of each way to group them, and of colour palettes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.quantize.patch import (
    Method,
    PatchGroups,
    dequantize_patches,
    fit_groups,
    quantize_alone,
    quantize_patches,
)
from dsqformat.quantize.patch.layout import patch_count
from dsqformat.quantize.patch.storage import PARAMETER_BITS, storage_bits
from dsqformat.sources.pictures import require_pillow

_GROUPINGS: Final[tuple[tuple[str, Method], ...]] = (
    ("groups of least distortion", "distortion"),
    ("groups of (min, max)", "min_max"),
    ("groups of raw (alpha, z)", "compat"),
)
_PICTURES_AT_ONCE: Final = 256
_MOST_COLOURS: Final = 256


@dataclass(frozen=True)
class GroupingRow:
    """One way to quantize pictures.

    Attributes:
        name: of the way.
        psnr_db: 10 log10(255^2 / mean squared error) over all values, decoded to bytes.
        nbytes_per_sample: without entropy coding, parameters counted.
    """

    name: str
    psnr_db: float
    nbytes_per_sample: float


def compare_groupings(
    pictures: NDArray[np.uint8], bits: int, group_count: int, patch: int
) -> list[GroupingRow]:
    """Compare ways to share ranges among patches, best first where photographs are concerned.

    Args:
        pictures: uint8, shape (n, height, width) or (n, height, width, 1 or 3), n at least 1.
        bits: of a code, 1 to 8.
        group_count: G.
        patch: side of a patch.

    Returns:
        Groups of least distortion, a range for each patch, groups of (min, max), groups of raw
        (alpha, z) as the paper has it, a range for each picture; and median-cut palettes of as
        many colours as fit the bytes of the first row.

    Raises:
        ImportError: Pillow is not installed.
    """
    require_pillow()
    count, shape = len(pictures), pictures.shape[1:]
    values, patches = math.prod(shape), patch_count(shape, patch)
    rows = []
    for name, method in _GROUPINGS:
        groups = fit_groups(pictures, bits, group_count, patch=patch, method=method)
        storage = storage_bits(values, patches, count, bits, len(groups))
        psnr = _psnr(pictures, partial(_through, groups=groups))
        rows.append(GroupingRow(name, psnr, storage["total"] / 8 / count))
    whole = max(shape[:2])
    for place, name, side in (
        (1, "a range for each patch", patch),
        (4, "a range for each picture", whole),
    ):
        nbytes = (values * bits + PARAMETER_BITS * patch_count(shape, side)) / 8
        psnr = _psnr(pictures, partial(_alone, bits=bits, patch=side))
        rows.insert(place, GroupingRow(name, psnr, nbytes))
    colours = _affordable_colours(shape, rows[0].nbytes_per_sample)
    name = f"median-cut palettes of {colours} colours"
    psnr = _psnr(pictures, partial(_palettes, colours=colours))
    return [*rows, GroupingRow(name, psnr, _palette_nbytes(shape, colours))]


def _through(pictures: NDArray[np.uint8], groups: PatchGroups) -> NDArray[Any]:
    codes, ids = quantize_patches(pictures, groups)
    shapes = np.tile(np.array(pictures.shape[1:], "i8"), (len(pictures), 1))
    missing = np.zeros(len(pictures), "u1")
    flat = dequantize_patches(
        codes, missing, ids, groups.scale, groups.offset, shapes, groups.patch, None, "uint8"
    )
    return flat.reshape(pictures.shape)


def _alone(pictures: NDArray[np.uint8], bits: int, patch: int) -> NDArray[np.float32]:
    levels = np.rint(quantize_alone(pictures, bits, patch) * np.float32(255))
    bounded: NDArray[np.float32] = np.clip(levels, 0, 255)
    return bounded


def _psnr(
    pictures: NDArray[np.uint8], decoded: Callable[[NDArray[np.uint8]], NDArray[Any]]
) -> float:
    """Return the PSNR in dB of all pictures, decoded a bounded number at a time."""
    error = 0.0
    for begin in range(0, len(pictures), _PICTURES_AT_ONCE):
        part = pictures[begin : begin + _PICTURES_AT_ONCE]
        error += float(((decoded(part).astype("f8") - part) ** 2).sum())
    return 10 * math.log10(255**2 * pictures.size / error) if error else math.inf


# Palettes --------------------------------------------------------------------------------------


def _affordable_colours(shape: tuple[int, ...], nbytes: float) -> int:
    fitting = [k for k in range(2, _MOST_COLOURS + 1) if _palette_nbytes(shape, k) <= nbytes]
    return max(fitting, default=2)


def _palette_nbytes(shape: tuple[int, ...], colours: int) -> float:
    """Return the bytes of a picture: an index for each pixel and a colour for each index."""
    channels = shape[2] if len(shape) == 3 else 1
    return math.ceil(shape[0] * shape[1] * (colours - 1).bit_length() / 8) + colours * channels


def _palettes(pictures: NDArray[np.uint8], colours: int) -> NDArray[np.uint8]:
    """Return each picture in a palette of its own, found by median cut, without dither."""
    from PIL import Image

    # Pillow's grey pictures have two dimensions.
    grey = pictures.shape[3:] in ((), (1,))
    found = []
    for array in pictures.reshape(pictures.shape[:3]) if grey else pictures:
        whole = Image.fromarray(array)
        reduced = whole.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        found.append(np.asarray(reduced.convert(whole.mode)))
    return np.stack(found).reshape(pictures.shape)
