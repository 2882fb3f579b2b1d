"""Transform blocks with a context-modelled entropy coder for whole datasets of pictures (SPEC)."""

from dsqblock.decode import decode, decode_ranges
from dsqblock.encode import EncodedPictures, Options, encode, fit
from dsqblock.model import BlockModel

__all__ = [
    "BlockModel",
    "EncodedPictures",
    "Options",
    "decode",
    "decode_ranges",
    "encode",
    "fit",
]
