"""TEMPORARY plain packing by LEAD until K delivers; K: replace freely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.columns import pack_integers


@dataclass(frozen=True)
class LayerData:
    """One layer of a chunk."""

    data: Any
    packed: bool


def pack_values(
    values: NDArray[Any], counts: NDArray[np.int64], widths: NDArray[np.uint8]
) -> bytes:
    out, at = [], 0
    for count, width in zip(counts.tolist(), widths.tolist(), strict=True):
        if width:
            out.append(pack_integers(values[at : at + count].astype("<u8"), width))
            at += count
    return b"".join(out)
