"""What all pictures of a shard share: geometry, colour, reconstruction and tables (spec A.6, 7)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.block.bitstring import BitReader, BitWriter
from dsqformat.coding.block.layout import (
    CONTEXTS,
    MAX_LAYERS,
    MAX_PLANES,
    REFINEMENT_CONTEXTS,
    STEPS,
    TABLE_STRIDE,
)
from dsqformat.coding.block.tables import LayerTables, read_tables, write_tables
from dsqformat.errors import CorruptShardError

_HEAD: Final = struct.Struct("<BBBB")
_RGB: Final = 1
_WEIGHTED: Final = 2
FLAT: Final = (64,) * 16
OFFSETS: Final = 7  # luma 1, 2, 3 and above; chroma likewise; DC


@dataclass(frozen=True, slots=True)
class BlockModel:
    """Everything but streams and per-sample values that decoding needs.

    Attributes:
        planes: channels of a picture, 1 to 64.
        rgb: the first three channels are red, green and blue and are decorrelated.
        smallest: index of the smallest block size, 0 to 3 for 4 to 32.
        largest: index of the largest.
        channel_offsets: mean of each channel in sixteenths, 0 to 4095.
        weights: 64ths of the step for luma bands 0 to 6 and DC, then chroma likewise; 1 to 255.
        offsets: for each number of layers read, from 1: sixteenths of a step that are added to
            magnitudes 1, 2, 3 and above of luma, of chroma, and to DC; -8 to 31.
        layers: tables of each layer.
        search: tables of all bits at once, which guide the encoder; never stored.
    """

    planes: int
    rgb: bool
    smallest: int
    largest: int
    channel_offsets: tuple[int, ...]
    weights: tuple[int, ...]
    offsets: tuple[tuple[int, ...], ...]
    layers: tuple[LayerTables, ...]
    search: LayerTables | None = None

    def to_bytes(self) -> bytes:
        """Return the model as spec A.6 lays it out."""
        flags = _RGB * self.rgb | _WEIGHTED * (self.weights != FLAT)
        out = _HEAD.pack(self.planes, flags, self.smallest | self.largest << 4, len(self.layers))
        out += struct.pack(f"<{self.planes}H", *self.channel_offsets)
        if self.weights != FLAT:
            out += bytes(self.weights)
        for values in self.offsets:
            out += struct.pack("<7b", *values)
        bits = BitWriter()
        for layer in self.layers:
            write_tables(layer, bits)
        return out + bits.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes, what: str = "model") -> BlockModel:
        """Undo `to_bytes`, checking everything.

        Args:
            data: the bytes of one model, no more.
            what: whose model it is, for messages.

        Raises:
            CorruptShardError: too short, too long, or a value out of its range.
        """
        try:
            return _parse(data)
        except CorruptShardError as error:
            raise error.located(what) from None

    def coder_tables(self, layers: int) -> NDArray[np.uint16]:
        """Return the maps of the first `layers` layers, then their tables, as kernels want them.

        A map holds, for each context, where its table begins in this array.
        """
        maps = CONTEXTS + (layers - 1) * REFINEMENT_CONTEXTS
        parts, at = [], maps
        for layer in self.layers[:layers]:
            parts.append((at + layer.map.astype("i4") * TABLE_STRIDE).astype("u2"))
            at += layer.starts.size
        parts += [layer.starts.ravel() for layer in self.layers[:layers]]
        return np.concatenate(parts)

    def band_steps(self, qps: NDArray[np.int64], missing: int) -> NDArray[np.int64]:
        """Return steps in 64ths, int64, shape (n, 16): by luma or chroma and band, 7 for DC.

        Args:
            qps: int64, shape (n,).
            missing: layers that are not read; each doubles the step.
        """
        steps = STEPS[qps]
        scaled = (steps[:, None] * np.array(self.weights, "i8") + 32) >> 6
        out: NDArray[np.int64] = np.maximum(scaled, 1) << missing
        return out


def _parse(data: bytes) -> BlockModel:
    if len(data) < _HEAD.size:
        raise CorruptShardError(f"{len(data)} bytes, expected at least {_HEAD.size}")
    planes, flags, sizes, layers = _HEAD.unpack_from(data)
    smallest, largest = sizes & 15, sizes >> 4
    weighted = bool(flags & _WEIGHTED)
    if not 1 <= planes <= MAX_PLANES or flags > 3 or (flags & _RGB and planes < 3):
        raise CorruptShardError(f"{planes} planes with flags {flags}")
    if not (smallest <= largest <= 3 and 1 <= layers <= MAX_LAYERS):
        raise CorruptShardError(
            f"sizes {smallest} to {largest}, {layers} layers; expected sizes within 0 to 3, "
            f"1 to {MAX_LAYERS} layers"
        )
    at = _HEAD.size
    nbytes = 2 * planes + 16 * weighted + OFFSETS * layers
    if len(data) < at + nbytes:
        raise CorruptShardError(f"{len(data)} bytes, expected at least {at + nbytes}")
    channel_offsets = struct.unpack_from(f"<{planes}H", data, at)
    at += 2 * planes
    weights = tuple(data[at : at + 16]) if weighted else FLAT
    at += 16 * weighted
    offsets = tuple(struct.unpack_from("<7b", data, at + OFFSETS * i) for i in range(layers))
    at += OFFSETS * layers
    if max(channel_offsets) > 4095 or min(weights) < 1:
        raise CorruptShardError("a channel offset above 4095 or a weight of 0")
    if (weighted and weights == FLAT) or not all(-8 <= v <= 31 for row in offsets for v in row):
        raise CorruptShardError("an offset out of -8 to 31, or needless weights")
    bits = BitReader(data[at:])
    tables = [
        read_tables(bits, CONTEXTS if layer == 0 else REFINEMENT_CONTEXTS)
        for layer in range(layers)
    ]
    bits.close()
    return BlockModel(
        planes, bool(flags & _RGB), smallest, largest, channel_offsets, weights, offsets,
        tuple(tables),
    )  # fmt: skip
