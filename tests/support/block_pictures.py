"""Pictures for the tests of the quantizer `block`, and other ways to decode them."""

import functools
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import dsqformat.coding.block.decoding as decoding
from dsqformat.coding.block import Options, decode, encode, fit
from dsqformat.kernels import COMPILED
from kernel_model import load

ROOT = Path(__file__).parents[2]
SPEC = str(ROOT / "spec")


def scene(seed, height, width, planes=3):
    """Return something like a photograph: gradients, a few edges and texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype("f8")
    out = np.zeros((height, width, planes))
    for p in range(planes):
        out[..., p] = 128 + rng.normal(0, 30) + rng.normal(0, 2) * (x - width / 2)
    for _ in range(6):
        a, b, c = rng.normal(size=3)
        mask = a * (x - width * rng.random()) + b * (y - height * rng.random()) > 4 * c
        out[mask] += rng.normal(0, 30, planes)
    out += rng.normal(0, 8, (height, width, 1)) * (rng.random((height, width, 1)) < 0.5)
    return np.clip(out, 0, 255).astype("u1")


def noise(seed, height, width, planes=3):
    """Return values without any order: the largest codes there are."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, planes)).astype("u1")


@functools.cache
def small_case():
    """Return a model of three layers, four small pictures encoded with it, and its bytes."""
    pictures = [scene(i, 12, 20) for i in range(4)]
    model = fit(pictures, 80, Options(layers=3, sizes=(4, 32)))
    return model, encode(model, pictures, 80, samples_per_stream=2), model.to_bytes()


def decode_with(kernel, *args, **options):
    """Decode with another module in place of the kernel; None is NumPy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "_kernel", kernel)
        return decode(*args, **options)


def decoders():
    """Return decoding kernels by name: those there are of several builds, and NumPy."""
    out = {"plain": None}
    if COMPILED:
        out["fastest"] = decoding._kernel
        out["baseline"] = importlib.import_module("dsqformat.kernels.block_decode")
    newest = max(p.stat().st_mtime for p in (ROOT / "dsqformat/kernels").glob("block_*.p*"))
    for path in (ROOT / "build/checked/dsqformat/kernels").glob("block_decode.*"):
        if path.stat().st_mtime >= newest:
            out["checked"] = load("checked.block_decode", path)
    return out


@functools.cache
def reference():
    """Return the reference decoder of blocks, which shares no code with the package."""
    sys.path.insert(0, SPEC)
    try:
        blocks, models, pixels = (
            importlib.import_module(name)
            for name in ("reference_block", "reference_block_model", "reference_block_pixels")
        )
        errors = importlib.import_module("reference_schema")
    finally:
        sys.path.remove(SPEC)
    return blocks, models, pixels, errors.DecodeError


def reference_decode(model_bytes, streams, shapes, qps):
    """Decode one stream of each layer by the reference; return bytes and floats of each sample."""
    blocks, models, pixels, _ = reference()
    model = models.parse_block_model(model_bytes)
    readers = [blocks.Stream(stream) for stream in streams]
    out = []
    for (height, width), qp in zip(shapes, qps, strict=True):
        levels = blocks.Picture(model, readers, height, width, qp).channels()
        shape = height, width, model["planes"]
        octets = np.array([pixels.integer_value(y) for y in levels], "u1").reshape(shape)
        out.append((octets, np.array([pixels.real_value(y) for y in levels], "f4").reshape(shape)))
    for reader in readers:
        reader.close()
    return out
