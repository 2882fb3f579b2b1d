"""A chunk: some consecutive samples, index segment first, then layers (spec 8 and 9)."""

from dsqformat.chunk.decode import Chunk, decode_chunk
from dsqformat.chunk.encode import encode_chunk, fit_models
from dsqformat.chunk.index import ChunkIndex, FieldIndex, parse_index
from dsqformat.chunk.inputs import (
    ChunkInput,
    CodingOptions,
    EncodedChunk,
    FieldInput,
    FieldTuning,
)
from dsqformat.chunk.models import FieldModel, PatchModel

__all__ = [
    "Chunk",
    "ChunkIndex",
    "ChunkInput",
    "CodingOptions",
    "EncodedChunk",
    "FieldIndex",
    "FieldInput",
    "FieldModel",
    "FieldTuning",
    "PatchModel",
    "decode_chunk",
    "encode_chunk",
    "fit_models",
    "parse_index",
]
