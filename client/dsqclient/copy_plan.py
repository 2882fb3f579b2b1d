"""What the copy of a shard consists of: all of it, or its first layers under a new head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from dsqformat import wire
from dsqformat.schema import Schema
from dsqformat.shard import ChunkTable, ShardHead
from dsqformat.shard.head import build_head

_TAIL_PIECE_NBYTES: Final = 64 << 10

# Where a segment is found in a local file, by its digest: path and offset.
LocalSegments = Mapping[bytes, tuple[Path, int]]


@dataclass(frozen=True)
class Block:
    """The unit of checking: some bytes of the copy.

    Attributes:
        target: offset in the copy.
        origin: offset in the shard it is copied from.
        nbytes: length.
        crc: CRC-32C; None where a digest of the whole has to do.
        local: a local file and an offset where the same bytes should be, or None.
    """

    target: int
    origin: int
    nbytes: int
    crc: int | None
    local: tuple[Path, int] | None = None


@dataclass(frozen=True)
class ShardPlan:
    """What the copy of a shard consists of.

    Attributes:
        path: of the shard in the source.
        head: first bytes of the copy.
        blocks: what follows, without gaps.
        tail: last bytes of the copy, when they do not come from blocks.
        segments: length and digest of each segment, in order, right behind the head.
        digest: SHA-256 of the copy if it is known beforehand, hex.
    """

    path: str
    head: bytes
    blocks: Sequence[Block]
    tail: bytes
    segments: Sequence[tuple[int, bytes]]
    digest: str | None

    @property
    def nbytes(self) -> int:
        """Length of the copy."""
        return len(self.head) + sum(block.nbytes for block in self.blocks) + len(self.tail)


def reduced_schema(schema: Schema, layers: int) -> Schema:
    """Return the schema of shards that keep only some layers of every field (spec 6)."""
    return replace(schema, order=tuple(pair for pair in schema.order if pair[1] < layers))


def plan_whole(
    path: str, digest: str, head_bytes: bytes, head: ShardHead, local: LocalSegments
) -> ShardPlan:
    """Plan a copy of all of a shard."""
    blocks = list(_segment_blocks(head, head.schema, len(head_bytes), local))
    end = head.header.head_nbytes + int(head.chunks.chunk_offset[-1])
    for start in range(end, head.header.file_nbytes, _TAIL_PIECE_NBYTES):
        nbytes = min(_TAIL_PIECE_NBYTES, head.header.file_nbytes - start)
        blocks.append(Block(start, start, nbytes, None))
    return ShardPlan(path, head_bytes, blocks, b"", _segments(head, head.schema), digest)


def plan_reduced(
    path: str, head: ShardHead, schema: Schema, keys: bytes | None, local: LocalSegments
) -> ShardPlan:
    """Plan a copy of the first layers of a shard; segments stay as they are, the head is new.

    Args:
        path: of the shard in the source.
        head: of the shard.
        schema: reduced, see `reduced_schema`.
        keys: content of the KEYS section, or None.
        local: segments that are here already.
    """
    tail = [] if keys is None else [(wire.KIND_KEYS, keys)]
    head_bytes = build_head(schema, _reduced_table(head, schema), tail, head.models)
    blocks = list(_segment_blocks(head, schema, len(head_bytes), local))
    return ShardPlan(path, head_bytes, blocks, keys or b"", _segments(head, schema), None)


def _kept(head: ShardHead, schema: Schema) -> list[int]:
    """Return the numbers of the segments of `head` that a schema keeps."""
    return [0, *(head.schema.segment_of[pair] for pair in schema.order)]


def _reduced_table(head: ShardHead, schema: Schema) -> ChunkTable:
    table, kept = head.chunks, _kept(head, schema)
    crcs = [table.block_crcs(chunk, number) for chunk in range(len(table)) for number in kept]
    return replace(
        table,
        segment_nbytes=table.segment_nbytes[:, kept],
        segment_digest=table.segment_digest[:, kept],
        block_crc=np.concatenate([np.zeros(0, "<u4"), *crcs]),
    )


def _segments(head: ShardHead, schema: Schema) -> list[tuple[int, bytes]]:
    table, kept = head.chunks, _kept(head, schema)
    return [
        (int(table.segment_nbytes[chunk, number]), table.segment_digest[chunk, number].tobytes())
        for chunk in range(len(table))
        for number in kept
    ]


def _segment_blocks(
    head: ShardHead, schema: Schema, target: int, local: LocalSegments
) -> Iterator[Block]:
    table, kept = head.chunks, _kept(head, schema)
    for chunk in range(len(table)):
        for number in kept:
            origin = head.header.head_nbytes + table.segment_offset(chunk, number)
            left = int(table.segment_nbytes[chunk, number])
            found = local.get(table.segment_digest[chunk, number].tobytes())
            for block, crc in enumerate(table.block_crcs(chunk, number).tolist()):
                nbytes = min(left, table.block_nbytes)
                here = None
                if found is not None:
                    here = (found[0], found[1] + block * table.block_nbytes)
                yield Block(target, origin, nbytes, crc, here)
                target, origin, left = target + nbytes, origin + nbytes, left - nbytes
