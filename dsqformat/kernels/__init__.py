"""Hot loops, compiled ahead of time where a C compiler was at hand.

The functions come from modules that Cython compiles, or else from `plain*`, the same in NumPy.
Which of them is decided once, at import: the uncompiled source of the former is never imported,
because it needs Cython and would be slow beyond use. Inline functions stand in `.pxd` files.
`memoryviews` is what Cython adds to each of them, compiled once.
`dequant_avx2` and `rans_decode_avx2` are `dequant` and `rans_decode` compiled once more for x86-64
processors with AVX2; they return the same bits, up to 1.5 times faster.
The modules `block_*` are the loops of the quantizer `block`; NumPy's part of that work is in
`dsqformat.coding.block`, and that of `harmonic` in `dsqformat.reconstruct.harmonic`.
`graph_cut` chooses samples, for `dsqformat.select`; `plain_graph_cut` is the same in NumPy.
The environment variable DSQ_KERNELS=plain asks for `plain` without a warning.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from importlib.machinery import EXTENSION_SUFFIXES
from types import ModuleType

import numpy as np

__all__ = [
    "COMPILED",
    "block_kernel",
    "choose_groups",
    "decode_streams",
    "dequantize_float32",
    "dequantize_patches_float32",
    "dequantize_patches_uint8",
    "dequantize_uint8",
    "encode_streams",
    "find_nearest",
    "graph_cut_kernel",
    "harmonic_kernel",
    "join_uint8",
    "join_uint16",
    "measure",
    "pack_uint8",
    "pack_uint16",
    "split_uint8",
    "split_uint16",
    "trace",
]


_PATCHES = ("patch_groups", "patches")
_RANS = ("rans_decode", "rans_encode", "rans_trace")
_BLOCK = ("block_decode", "block_emit", "block_forward", "block_search", "block_streams")


def _is_compiled(name: str) -> bool:
    spec = importlib.util.find_spec(f"dsqformat.kernels.{name}")
    return spec is not None and str(spec.origin).endswith(tuple(EXTENSION_SUFFIXES))


def _use_compiled() -> bool:
    # The kernels write words where values are meant, which needs little-endian memory.
    if os.environ.get("DSQ_KERNELS") == "plain" or sys.byteorder != "little":
        return False
    if all(map(_is_compiled, ("memoryviews", "bits", "dequant", *_PATCHES, *_RANS, *_BLOCK))):
        return True
    warnings.warn(
        "dsqformat: its kernels are not compiled, NumPy does their work, many times slower; "
        f"install a C compiler and the headers of {sys.implementation.name} and reinstall, "
        "or set DSQ_KERNELS=plain to accept it",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


def _has_avx2() -> bool:
    # NumPy has looked at the processor already; 2.4 names groups of features.
    simd = np.show_config(mode="dicts").get("SIMD Extensions", {})
    names = {*(simd.get("baseline") or ()), *(simd.get("found") or ())}
    return not names.isdisjoint({"AVX2", "X86_V3"})


COMPILED = _use_compiled()


def block_kernel(name: str) -> ModuleType | None:
    """Return the loops of the quantizer `block`, for the widest registers there are.

    Args:
        name: one of the modules `block_*` of this package.

    Returns:
        A compiled module, or None: then `dsqformat.coding.block` does the work in NumPy.
    """
    if not COMPILED:
        return None
    wide = f"{name}_avx2"
    found = wide if _has_avx2() and _is_compiled(wide) else name
    return importlib.import_module(f"dsqformat.kernels.{found}")


def graph_cut_kernel() -> ModuleType:
    """Return the loops of GraphCut, compiled or in NumPy; only selection imports them."""
    if not COMPILED or not _is_compiled("graph_cut"):
        name = "plain_graph_cut"
    elif _has_avx2() and _is_compiled("graph_cut_avx2"):
        name = "graph_cut_avx2"
    else:
        name = "graph_cut"
    return importlib.import_module(f"dsqformat.kernels.{name}")


def harmonic_kernel() -> ModuleType | None:
    """Return the compiled module `harmonic`, or None: then NumPy does its work."""
    if not COMPILED or not _is_compiled("harmonic"):
        return None
    return importlib.import_module("dsqformat.kernels.harmonic")


if COMPILED:
    from dsqformat.kernels.bits import pack_uint8, pack_uint16, split_uint8, split_uint16
    from dsqformat.kernels.patch_groups import choose_groups, find_nearest
    from dsqformat.kernels.patches import dequantize_patches_float32, dequantize_patches_uint8
    from dsqformat.kernels.rans_encode import encode_streams
    from dsqformat.kernels.rans_trace import trace

    if _has_avx2() and _is_compiled("rans_decode_avx2"):
        from dsqformat.kernels.rans_decode_avx2 import decode_streams
    else:
        from dsqformat.kernels.rans_decode import decode_streams

    if _has_avx2() and _is_compiled("dequant_avx2"):
        from dsqformat.kernels.dequant_avx2 import (
            dequantize_float32,
            dequantize_uint8,
            join_uint8,
            join_uint16,
            measure,
        )
    else:
        from dsqformat.kernels.dequant import (
            dequantize_float32,
            dequantize_uint8,
            join_uint8,
            join_uint16,
            measure,
        )
else:
    from dsqformat.kernels.plain import (
        dequantize_float32,
        dequantize_uint8,
        join_uint8,
        join_uint16,
        measure,
        pack_uint8,
        pack_uint16,
        split_uint8,
        split_uint16,
    )
    from dsqformat.kernels.plain_patches import (
        choose_groups,
        dequantize_patches_float32,
        dequantize_patches_uint8,
        find_nearest,
    )
    from dsqformat.kernels.plain_rans import decode_streams, encode_streams, trace
