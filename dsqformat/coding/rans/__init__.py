"""`rans` coding: codes by static, context-modelled rANS, with one model per field and shard."""

from dsqformat.coding.rans.fitting import fit
from dsqformat.coding.rans.model import PixelModel
from dsqformat.coding.rans.segment import decode_layer, encode_layer, samples_per_stream

__all__ = ["PixelModel", "decode_layer", "encode_layer", "fit", "samples_per_stream"]
