"""Quantizer and coding `block`: transform blocks, context-modelled rANS, one model per shard."""

from dsqformat.coding.block.decoding import decode, decode_coefficients, decode_ranges
from dsqformat.coding.block.encoding import EncodedPictures, encode
from dsqformat.coding.block.fitting import Options, fit
from dsqformat.coding.block.job import Coefficients
from dsqformat.coding.block.model import BlockModel

__all__ = [
    "BlockModel",
    "Coefficients",
    "EncodedPictures",
    "Options",
    "decode",
    "decode_coefficients",
    "decode_ranges",
    "encode",
    "fit",
]
