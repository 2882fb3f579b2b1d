"""Weights of a tiny masked autoencoder as bytes: data that ships with a dataset, never code.

Eight bytes of magic, the length of a JSON header (u32, little-endian), the header in canonical
JSON, then all tensors as float16, little-endian, in the order of their names.
The header is {"shape": {sizes of MaeShape}, "version": 1}; it determines every tensor, so that
the length of the whole is known before anything of it is used.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import asdict, fields
from typing import Any, Final

import numpy as np
import torch

from dsqformat.canonical import canonical_json, parse_canonical_json
from dsqformat.condense.masked_autoencoder import MaeShape, MaskedAutoencoder
from dsqformat.errors import CorruptShardError, UnsupportedFeatureError

MAGIC: Final = b"DSQ\x9dMAE\n"
VERSION: Final = 1

_HEAD: Final = struct.Struct("<8sI")
_MAX_HEADER_NBYTES: Final = 4096
# Beyond those of any network one would ship to an edge device.
_MAX_SIZE: Final = 4096
_MAX_TOKENS: Final = 1 << 14
# Positions follow from the sizes.
_MADE: Final = ("pos_embed", "decoder_pos_embed")


def weights_to_bytes(network: MaskedAutoencoder) -> bytes:
    """Return the weights as bytes; the same weights give the same bytes.

    Raises:
        ValueError: a weight leaves float16.
    """
    header = canonical_json({"shape": asdict(network.shape), "version": VERSION})
    parts = [_HEAD.pack(MAGIC, len(header)), header]
    for name, value in _stored(network):
        half = value.detach().cpu().numpy().astype("<f2")
        if not np.isfinite(half).all():
            raise ValueError(f"weights: {name} leaves float16; train with a smaller learning rate")
        parts.append(half.tobytes())
    return b"".join(parts)


def weights_from_bytes(data: bytes, sha256: str | None = None) -> MaskedAutoencoder:
    """Return the network of these weights, in evaluation mode.

    Args:
        data: what `weights_to_bytes` returned.
        sha256: hexadecimal digest they must have; None: not compared.

    Raises:
        CorruptShardError: the bytes are damaged or no such weights.
        UnsupportedFeatureError: they are of another version.
    """
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise CorruptShardError(f"weights: sha256 {found}, expected {sha256}; fetch them again")
    shape, begin = _parse_header(data)
    # Sizes are believed only once the length agrees with them.
    expected = begin + 2 * weight_count(shape)
    if len(data) != expected:
        raise CorruptShardError(f"weights: {len(data)} bytes, expected {expected} by their header")
    network = MaskedAutoencoder(shape)
    weights: dict[str, torch.Tensor] = {}
    for name, value in _stored(network):
        half = np.frombuffer(data, "<f2", value.numel(), begin)
        if not np.isfinite(half).all():
            raise CorruptShardError(f"weights: {name} has a value that is NaN or infinite")
        weights[name] = torch.from_numpy(half.astype("f4").reshape(tuple(value.shape)))
        begin += half.nbytes
    network.load_state_dict({**network.state_dict(), **weights})
    return network.eval()


def weight_count(shape: MaeShape) -> int:
    """Return how many numbers the weights of a network of this shape are."""
    width, narrow = shape.width, shape.decoder_width
    blocks = shape.depth * _block_weights(width) + shape.decoder_depth * _block_weights(narrow)
    # Embedding with bias and the token that stands for no patch; the norms; both ends of the
    # decoder, and what stands for a hidden patch.
    ends = width * (shape.values + 2) + 2 * width + 2 * narrow
    ends += narrow * (width + 1) + narrow + shape.values * (narrow + 1)
    return blocks + ends


def _block_weights(width: int) -> int:
    # Four matrices of attention and eight of the two layers behind it; biases and norms.
    return 12 * width * width + 13 * width


def _parse_header(data: bytes) -> tuple[MaeShape, int]:
    if len(data) < _HEAD.size:
        raise CorruptShardError(f"weights: {len(data)} bytes, expected at least {_HEAD.size}")
    magic, nbytes = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise CorruptShardError(f"weights: magic {magic!r}, expected {MAGIC!r}")
    begin = _HEAD.size + nbytes
    if nbytes > _MAX_HEADER_NBYTES or begin > len(data):
        raise CorruptShardError(f"weights: header of {nbytes} bytes in {len(data)}")
    header = parse_canonical_json(
        data[_HEAD.size : begin], limit=_MAX_HEADER_NBYTES, what="weights: header"
    )
    if not isinstance(header, dict) or type(header.get("version")) is not int:
        raise CorruptShardError("weights: header without a version")
    if header["version"] != VERSION:
        raise UnsupportedFeatureError(
            f"weights: version {header['version']}, expected {VERSION}; install a newer dsqformat"
        )
    return _parse_shape(header.get("shape")), begin


def _parse_shape(sizes: Any) -> MaeShape:
    names = {field.name for field in fields(MaeShape)}
    if not isinstance(sizes, dict) or set(sizes) != names:
        raise CorruptShardError(f"weights: header: expected the sizes {', '.join(sorted(names))}")
    if not all(type(size) is int and 1 <= size <= _MAX_SIZE for size in sizes.values()):
        raise CorruptShardError(f"weights: header: sizes are 1 to {_MAX_SIZE}")
    if sizes["rows"] * sizes["columns"] > _MAX_TOKENS:
        raise CorruptShardError(f"weights: header: more than {_MAX_TOKENS} patches")
    try:
        return MaeShape(**sizes)
    except ValueError as error:
        raise CorruptShardError(f"weights: header: {error}") from error


def _stored(network: MaskedAutoencoder) -> list[tuple[str, torch.Tensor]]:
    return sorted((n, v) for n, v in network.state_dict().items() if n not in _MADE)
