"""Hypothesis strategies for schemas and samples, shared by all format tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from dsqformat import Domain, FieldSpec

DOMAINS = [
    None,
    Domain("centered"),
    Domain.normalized([0.5], [0.25]),
    Domain.normalized([0.1, -0.5, 2.0], [0.2, 1.0, 3.0]),
]


@dataclass
class Made:
    """Samples to write and what they are."""

    specs: dict[str, FieldSpec]
    samples: list[dict[str, Any]]
    widths: list[dict[str, int]]
    keys: list[str] | None
    masks: list[dict[str, Any]]


@st.composite
def field_specs(draw: st.DrawFn) -> tuple[FieldSpec, str]:
    """A FieldSpec and the dtype of its samples."""
    quantizer = draw(st.sampled_from(["affine", "lsq", "raw"]))
    if quantizer == "raw":
        dtype = draw(st.sampled_from(["uint8", "int16", "int64", "float16", "float32", "float64"]))
        patch = draw(st.sampled_from([None, None, 2, 3]))
        return FieldSpec("raw", patch=patch), dtype
    layers = draw(st.sampled_from([(), (1,), (4, 2), (3, 1, 2), (8,), (9, 2), (1,) * 7]))
    domain = draw(st.sampled_from(DOMAINS)) if quantizer == "lsq" else None
    patch = draw(st.sampled_from([None, None, 2, 3]))
    spec = FieldSpec(quantizer, layers=layers, domain=domain, patch=patch)
    return spec, draw(st.sampled_from(["uint8", "float32"]))


@st.composite
def made_datasets(draw: st.DrawFn, max_samples: int = 12) -> Made:
    """Fields of any kind and shape, columns of every type, mixed widths, with and without keys."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    drawn = [draw(field_specs()) for _ in range(draw(st.integers(1, 3)))]
    specs = {f"f{number}": spec for number, (spec, _) in enumerate(drawn)}
    count = draw(st.integers(1, max_samples))
    varying = draw(st.booleans())
    base = (draw(st.integers(1, 7)), draw(st.integers(1, 7)), 3)
    samples, widths, masks = [], [], []
    for number in range(count):
        sample: dict[str, Any] = {
            "label": int(rng.integers(-3, 4)),
            "weight": float(rng.normal()) if number else float("nan"),
            "text": "ä" * int(rng.integers(0, 3)),
            "blob": rng.bytes(int(rng.integers(0, 4))),
        }
        width, mask = {}, {}
        for field, (spec, dtype) in enumerate(drawn):
            shape = (int(rng.integers(0, 6)), *base[1:]) if varying else base
            name = f"f{field}"
            sample[name] = random_values(rng, shape, dtype, wild=spec.quantizer == "raw")
            width[name] = int(rng.integers(2, 17))
            if spec.patch is not None and rng.random() < 0.7:
                grid = (-(-shape[0] // spec.patch), -(-shape[1] // spec.patch))
                mask[name] = rng.random(grid) < 0.6
        samples.append(sample)
        widths.append(width)
        masks.append(mask)
    keys = [f"key/{number}" for number in range(count)] if draw(st.booleans()) else None
    return Made(specs, samples, widths, keys, masks)


@st.composite
def picture_specs(draw: st.DrawFn) -> tuple[FieldSpec, str, int | None]:
    """A FieldSpec of block or patch, the dtype of its samples, and its channels (None: no axis)."""
    channels = draw(st.sampled_from([None, 1, 3, 5]))
    if draw(st.booleans()):
        layers = (1,) * draw(st.integers(0, 3))
        return FieldSpec("block", layers=layers, qp=draw(st.integers(0, 175))), "uint8", channels
    layers = draw(st.sampled_from([(), (1,), (1, 1), (4, 2)]))
    spec = FieldSpec(
        "patch",
        bit_width=draw(st.integers(1, 8)),
        layers=layers,
        patch=draw(st.sampled_from([None, 1, 2, 3, 9])),
        group_count=draw(st.sampled_from([1, 2, 7, 300])),
        grouping=draw(st.sampled_from(["distortion", "min_max", "compat"])),
    )
    return spec, draw(st.sampled_from(["uint8", "float32"])), channels


@st.composite
def picture_datasets(draw: st.DrawFn, max_samples: int = 8) -> Made:
    """One or two fields of block or patch, smooth pictures of equal or varying sizes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    drawn = [draw(picture_specs()) for _ in range(draw(st.integers(1, 2)))]
    specs = {f"f{number}": spec for number, (spec, _, _) in enumerate(drawn)}
    varying, base = draw(st.booleans()), (draw(st.integers(1, 20)), draw(st.integers(1, 20)))
    made = Made(specs, [], [], None, [])
    for number in range(draw(st.integers(1, max_samples))):
        sample: dict[str, Any] = {"label": number}
        mask = {}
        for field, (spec, dtype, channels) in enumerate(drawn):
            sides = tuple(rng.integers(1, 21, 2).tolist()) if varying else base
            name = f"f{field}"
            sample[name] = smooth_picture(rng, (*sides, *([channels] if channels else [])), dtype)
            if spec.patch_side is not None and rng.random() < 0.4:
                grid = tuple(-(-side // spec.patch_side) for side in sides)
                mask[name] = rng.random(grid) < 0.6
        made.samples.append(sample)
        made.masks.append(mask)
        made.widths.append({n: s.bit_width for n, s in specs.items() if s.setting == "bit_width"})
    return made


def smooth_picture(rng: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """A gradient in each channel with a little noise; bytes, or floats around 0."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    slope = rng.normal(0, 6, (2, *shape[2:]))
    picture = 128 + np.multiply.outer(rows[:, 0], slope[0])[:, None]
    picture = picture + np.multiply.outer(columns[0], slope[1])[None]
    picture = np.clip(picture + rng.normal(0, rng.choice([0, 1, 20]), shape), 0, 255)
    return picture.astype("u1") if dtype == "uint8" else (picture / 100 - 1).astype("f4")


def random_values(rng: Any, shape: tuple[int, ...], dtype: str, *, wild: bool = False) -> Any:
    """Random values of a dtype; with `wild` NaN and infinity among the real ones."""
    if np.dtype(dtype).kind == "f":
        values = rng.normal(size=shape).astype(dtype)
        if wild and values.size:
            values.flat[0] = np.nan
            values.flat[-1] = np.inf
        return values
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
