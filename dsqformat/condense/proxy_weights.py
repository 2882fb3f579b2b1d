"""Weights of a proxy as plain arrays, so that they can be kept and compared byte by byte."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dsqformat.condense.proxy import Proxy
from dsqformat.errors import ModelError


def weight_arrays(proxy: Proxy) -> dict[str, NDArray[Any]]:
    """Return copies of all parameters and buffers by name, on the CPU."""
    return {name: value.detach().cpu().numpy().copy() for name, value in proxy.state_dict().items()}


def set_weight_arrays(proxy: Proxy, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Put arrays of `weight_arrays` into a proxy of the same network.

    Raises:
        ModelError: names or shapes are those of another network.
    """
    weights = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    try:
        proxy.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(
            f"network {type(proxy.network).__name__}: kept weights are of another network; remove "
            "the work directory or choose another"
        ) from error


def network_digest(network: nn.Module) -> str:
    """Return a SHA-256 of the class, the structure and all weights of a network, hexadecimal."""
    digest = hashlib.sha256(f"{type(network).__qualname__}\n{network}".encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
