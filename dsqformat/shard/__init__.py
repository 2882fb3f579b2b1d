"""A shard: one immutable file of header, head, chunks and tail (spec 5 to 12)."""

from dsqformat.shard.chunk_table import ChunkTable
from dsqformat.shard.head import Header, Section, ShardHead, parse_head, parse_header
from dsqformat.shard.reader import ShardReader
from dsqformat.shard.writer import ShardWriter, WrittenShard

__all__ = [
    "ChunkTable",
    "Header",
    "Section",
    "ShardHead",
    "ShardReader",
    "ShardWriter",
    "WrittenShard",
    "parse_head",
    "parse_header",
]
