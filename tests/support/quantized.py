"""Quantized samples through real layers and back, as a dataset would."""

from __future__ import annotations

import numpy as np

from dsqformat.coding.dequant import dequantize_chunk, dequantize_chunk_uint8
from dsqformat.coding.layers import layer_widths, split_codes
from dsqformat.coding.packing import LayerData, pack_values
from dsqformat.quantize.parameters import gains_shifts, max_codes, stored_widths, zero_points
from dsqformat.schema import Field


def restored(field: Field, batch, *, levels: bool = False, used: int | None = None) -> np.ndarray:
    """Values of a batch, shape (n, values), from its first `used` layers."""
    n, count = batch.codes.shape
    signed = batch.signed if field.quantizer == "lsq" else None
    stored = stored_widths(field.quantizer, batch.bit_width, signed)
    counts = np.full(n, count)
    widths = layer_widths(stored, field.layers)
    layers = [
        LayerData(pack_values(values, counts, width), packed=True)
        for values, width in zip(
            split_codes(batch.codes.ravel(), counts, widths), widths.T, strict=True
        )
    ][:used]
    widths = widths[:, : len(layers)]
    decode = dequantize_chunk_uint8 if levels else dequantize_chunk
    flat = decode(
        layers,
        counts,
        widths,
        stored - widths.sum(axis=1),
        zero_points(field.quantizer, batch.bit_width, signed),
        max_codes(field.quantizer, batch.bit_width, signed),
        *gains_shifts(field, batch.scale, batch.offset),
    )
    return flat.reshape(n, count)
