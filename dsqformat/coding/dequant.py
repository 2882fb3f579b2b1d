"""TEMPORARY plain dequantization by LEAD until K delivers; K: replace freely."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.columns import unpack_integers
from dsqformat.errors import CorruptShardError


def _codes(
    layers: Any, counts: Any, widths: Any, missing: Any, max_code: Any
) -> list[NDArray[Any]]:
    n = len(counts)
    tops = [np.zeros(int(c), "i4") for c in counts]
    for number, layer in enumerate(layers):
        view, at = memoryview(layer.data), 0
        for i in range(n):
            c, w = int(counts[i]), int(widths[i, number])
            size = (c * w + 7) // 8 if layer.packed else c * (0 if not w else 1 if w <= 8 else 2)
            if at + size > len(view):
                raise CorruptShardError(f"sample {i}: layer too short")
            part = view[at : at + size]
            at += size
            if not w or not c:
                continue
            if layer.packed:
                values = unpack_integers(part, c, w, f"sample {i}").astype("i4")
            else:
                values = np.frombuffer(part, "u1" if w <= 8 else "<u2").astype("i4")
            if (values >= 1 << w).any():
                raise CorruptShardError(f"sample {i}: a value has more than {w} bits")
            tops[i] = (tops[i] << w) | values
        if at != len(view):
            raise CorruptShardError("layer too long")
    for i in range(n):
        if not missing[i] and (tops[i] > max_code[i]).any():
            raise CorruptShardError(f"sample {i}: a code above {max_code[i]}")
    return tops


def dequantize_chunk(layers, counts, widths, missing, zero_point, max_code, gain, shift, out=None):  # type: ignore
    parts = []
    for i, top in enumerate(_codes(layers, counts, widths, missing, max_code)):
        k = int(missing[i])
        c = ((top << k).astype("f4") + np.float32((2**k - 1) / 2)) - np.float32(zero_point[i])
        g, s = gain[i], shift[i]
        with np.errstate(over="ignore", invalid="ignore"):
            parts.append(((c.reshape(-1, len(g)) * g) + s).astype("f4").ravel())
    return np.concatenate([*parts, np.empty(0, "f4")])


def dequantize_chunk_uint8(*args):  # type: ignore
    x = dequantize_chunk(*args)
    return np.clip(np.rint(x * np.float32(255)), 0, 255).astype("u1")
