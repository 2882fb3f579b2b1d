"""What the head of a shard says about how a field is coded: one model for all its chunks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block import BlockModel
from dsqformat.coding.rans import PixelModel
from dsqformat.quantize.patch import PatchGroups


@dataclass(frozen=True)
class PatchModel:
    """Groups of patches, and entropy-coding models of group ids and codes (spec 7.1, 7.2).

    Attributes:
        scale: float32, shape (G,), finite, not negative.
        offset: float32, shape (G,), finite.
        ids: model of the group ids, or None.
        codes: model of the codes, or None.
        groups: how the encoder finds the group of a patch; decoders do without.
    """

    scale: NDArray[np.float32]
    offset: NDArray[np.float32]
    ids: PixelModel | None = None
    codes: PixelModel | None = None
    groups: PatchGroups | None = None

    @property
    def id_width(self) -> int:
        """Bits of a group id: ceil(log2(G)), 0 to 16."""
        return (len(self.scale) - 1).bit_length()

    @property
    def coded(self) -> bool:
        """Whether `MODL` has anything of this field."""
        return self.ids is not None or self.codes is not None


FieldModel = PixelModel | PatchModel | BlockModel
