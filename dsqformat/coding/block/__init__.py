"""Transform blocks with a context-modelled entropy coder for whole datasets of pictures (SPEC)."""

from dsqformat.coding.block.decoding import decode, decode_ranges
from dsqformat.coding.block.encoding import EncodedPictures, Options, encode, fit
from dsqformat.coding.block.model import BlockModel

__all__ = [
    "BlockModel",
    "EncodedPictures",
    "Options",
    "decode",
    "decode_ranges",
    "encode",
    "fit",
]
