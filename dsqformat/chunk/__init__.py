"""A chunk: some consecutive samples, index segment first, then layers (spec 8 and 9)."""

from dsqformat.chunk.decode import Chunk, decode_chunk
from dsqformat.chunk.encode import ChunkInput, EncodedChunk, FieldInput, encode_chunk, fit_models
from dsqformat.chunk.index import ChunkIndex, FieldIndex, parse_index

__all__ = [
    "Chunk",
    "ChunkIndex",
    "ChunkInput",
    "EncodedChunk",
    "FieldIndex",
    "FieldInput",
    "decode_chunk",
    "encode_chunk",
    "fit_models",
    "parse_index",
]
