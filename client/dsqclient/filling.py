"""What becomes of the patches that a dataset does not store (spec 11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.chunk import Chunk
from dsqformat.dataset import Snapshot
from dsqformat.quantize.mask import patch_grid
from dsqformat.reconstruct import NONE, Reconstructor, named_reconstructor
from dsqformat.schema import Field

AUTO: Final = "auto"
FILL_MEMBER: Final = "fill"  # of provenance
MASK_SUFFIX: Final = ".mask"


class ChunkFiller:
    """Fills left-out patches of decoded chunks, or hands out the masks.

    Args:
        snapshot: whose provenance may say, under "fill", how each field wants to be filled.
        fields: names of the fields that are read.
        fill: "auto" for what the snapshot says, and zeros where it says nothing; the name of a
            reconstructor; "none" for zeros and, for each field that may have masks, an entry
            NAME.mask with the patches that are stored; or a Reconstructor with weights.

    Raises:
        UnsupportedFeatureError: there is no reconstructor of this name that needs no weights.
    """

    def __init__(
        self, snapshot: Snapshot, fields: Sequence[str], fill: str | Reconstructor
    ) -> None:
        masked = [f for f in snapshot.schema.fields if f.name in fields and f.patch is not None]
        wanted = snapshot.provenance.get(FILL_MEMBER)
        by_field = wanted if isinstance(wanted, dict) else {}
        self._fills: dict[str, tuple[Reconstructor, int]] = {}
        for field in masked:
            name = by_field.get(field.name, NONE) if fill == AUTO else fill
            reconstructor = named_reconstructor(name) if isinstance(name, str) else name
            if reconstructor.id != NONE:
                self._fills[field.name] = reconstructor, field.patch or 1
        self._handed_out = {f.name: f for f in masked} if fill == NONE else {}

    @property
    def mask_names(self) -> tuple[str, ...]:
        """Names of the entries with masks."""
        return tuple(name + MASK_SUFFIX for name in self._handed_out)

    def __call__(self, chunk: Chunk) -> Chunk:
        """Return the chunk with its pictures filled, or with masks as further fields."""
        changed: dict[str, Any] = {}
        for name, (reconstructor, patch) in self._fills.items():
            if name in chunk.masks:
                changed[name] = _filled(chunk.fields[name], chunk.masks[name], patch, reconstructor)
        for name, field in self._handed_out.items():
            changed[name + MASK_SUFFIX] = _masks(chunk, field)
        return replace(chunk, fields={**chunk.fields, **changed}) if changed else chunk


def _filled(
    values: NDArray[Any] | list[NDArray[Any]],
    masks: list[NDArray[np.bool_]],
    patch: int,
    reconstructor: Reconstructor,
) -> NDArray[Any] | list[NDArray[Any]]:
    if isinstance(values, list):
        return [
            _with_channels(value[np.newaxis], mask[np.newaxis], patch, reconstructor)[0]
            for value, mask in zip(values, masks, strict=True)
        ]
    return _with_channels(values, np.stack(masks), patch, reconstructor)


def _with_channels(
    pictures: NDArray[Any], masks: NDArray[np.bool_], patch: int, reconstructor: Reconstructor
) -> NDArray[Any]:
    """Fill pictures with or without an axis of channels."""
    shape = pictures.shape
    return reconstructor(pictures.reshape(*shape[:3], -1), masks, patch).reshape(shape)


def _masks(chunk: Chunk, field: Field) -> NDArray[np.bool_] | list[NDArray[np.bool_]]:
    """Return the masks of a field: one array where all grids are alike; True is stored."""
    masks = chunk.masks.get(field.name)
    values = chunk.fields[field.name]
    if masks is None:
        sides = [(value.shape[0], value.shape[1]) for value in values]
        masks = [np.ones(patch_grid(*side, field.patch or 1), "?") for side in sides]
    return np.stack(masks) if isinstance(values, np.ndarray) and len(masks) else masks
