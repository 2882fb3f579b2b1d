"""Puts something into the patches of pictures that were not stored.

Every reconstructor leaves the visible pixels as they are, bit for bit, and gives the same values
on every machine and for every composition of a batch. Those that need a network are in
`dsqformat.condense.reconstruction`.
"""

from dsqformat.reconstruct.harmonic import HARMONIC, fill_harmonic
from dsqformat.reconstruct.mean import MEAN, fill_mean
from dsqformat.reconstruct.reconstructor import NONE, Reconstructor, named_reconstructor

__all__ = [
    "HARMONIC",
    "MEAN",
    "NONE",
    "Reconstructor",
    "fill_harmonic",
    "fill_mean",
    "named_reconstructor",
]
