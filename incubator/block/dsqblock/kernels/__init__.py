"""The compiled loops of the block codec, once more for processors with AVX2.

The modules are None where nothing is compiled: `dsqblock.plain_decode` decodes then.
"""

from __future__ import annotations

import importlib
import importlib.util
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Any

import numpy as np

__all__ = ["COMPILED", "block_decode", "block_encode", "block_forward"]


def _is_compiled(name: str) -> bool:
    spec = importlib.util.find_spec(f"dsqblock.kernels.{name}")
    return spec is not None and str(spec.origin).endswith(tuple(EXTENSION_SUFFIXES))


def _has_avx2() -> bool:
    simd = np.show_config(mode="dicts").get("SIMD Extensions", {})
    names = {*(simd.get("baseline") or ()), *(simd.get("found") or ())}
    return not names.isdisjoint({"AVX2", "X86_V3"})


COMPILED = _is_compiled("block_decode") and _is_compiled("block_encode")
_WIDE = "_avx2" if _has_avx2() and _is_compiled("block_decode_avx2") else ""


def _load(name: str) -> Any:
    return importlib.import_module(f"dsqblock.kernels.{name}{_WIDE}") if COMPILED else None


block_decode = _load("block_decode")
block_encode = _load("block_encode")
block_forward = _load("block_forward")
