"""How bytes of a dataset are laid out."""

from __future__ import annotations

from dataclasses import dataclass

from dsqformat import wire
from dsqformat.chunk.inputs import DEFAULT_ZSTD_LEVEL, Coding


@dataclass(frozen=True)
class StorageOptions:
    """How bytes are laid out.

    Attributes:
        coding: "auto", "packed", "zstd" or "rans".
        zstd_level: 1 to 22.
        chunk_nbytes: what a chunk should have at full fidelity.
        shard_nbytes: what a shard should have.
        block_nbytes: unit of the link check.
    """

    coding: Coding = "auto"
    zstd_level: int = DEFAULT_ZSTD_LEVEL
    chunk_nbytes: int = 256 << 10
    shard_nbytes: int = 32 << 20
    block_nbytes: int = wire.DEFAULT_BLOCK_NBYTES

    def __post_init__(self) -> None:
        if self.coding not in ("auto", "packed", "zstd", "rans"):
            raise ValueError(f"coding {self.coding!r}: expected auto, packed, zstd or rans")
        if not 1 <= self.zstd_level <= 22:
            raise ValueError(f"zstd_level {self.zstd_level}: expected 1 to 22")
        if not 1 <= self.chunk_nbytes <= 1 << 28:
            raise ValueError(f"chunk_nbytes {self.chunk_nbytes}: expected 1 to 2^28")
        if not self.chunk_nbytes <= self.shard_nbytes <= 1 << 30:
            raise ValueError(f"shard_nbytes {self.shard_nbytes}: expected chunk_nbytes to 2^30")
        if self.block_nbytes not in (4096, 8192, 16384, 32768, 65536):
            raise ValueError(f"block_nbytes {self.block_nbytes}: a power of two, 4096 to 65536")
