"""From what a vector was built of to what a reader must make of it (format.md, sections 9 to 11).

Arithmetic is NumPy's binary32, so that it shares nothing with the reference decoder.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np
from block_pixels import integers, levels, numbers

STRUCT_DTYPES = {
    "uint8": "u1", "int8": "i1", "uint16": "<u2", "int16": "<i2", "int32": "<i4", "int64": "<i8",
    "float16": "<f2", "float32": "<f4", "float64": "<f8",
}  # fmt: skip


@dataclass
class FieldData:
    """One field of one chunk: what its samples hold, and how it is to be encoded.

    `codes` are the codes of the kept values of each sample; of a raw field, its kept values.
    `columns` gives encoded index columns in place of the default (constant or plain).
    `frames` makes a layer zstd: {layer: (samples per frame, function from content to frame)}.
    `rans` gives layers in coding 2: {layer: samples per stream}, or {layer: the whole segment}.
    Of a field of `patch`, `groups` are scale and offset of all groups, `group_ids` those of the
    kept patches of each sample; `id_frames` and `id_rans` are like `frames` and `rans`.
    Of a field of `block`, `block` is (model, pictures, samples per stream); codes are None.
    """

    codes: list[list]
    bit_width: list[int] | None = None
    scale: list[float] | None = None
    offset: list[float] | None = None
    signed: list[int] | None = None
    shape: list[list[int]] | None = None
    mask: list[bytes] | None = None
    columns: dict[str, bytes] = field(default_factory=dict)
    frames: dict = field(default_factory=dict)
    rans: dict = field(default_factory=dict)
    groups: tuple[list[float], list[float]] | None = None
    group_ids: list[list[int]] | None = None
    id_frames: dict = field(default_factory=dict)
    id_rans: dict = field(default_factory=dict)
    qp: list[int] | None = None
    block: tuple | None = None


def number(x):
    """Floats in hexadecimal notation, bytes in hexadecimal digits: exact in JSON."""
    if isinstance(x, np.generic):
        x = x.item()
    return x.hex() if isinstance(x, float | bytes) else x


def binary32(x):
    """The binary32 value next to x."""
    return float(np.float32(x))


def stored_width(schema_field, data, i):
    """Section 10.2: B."""
    if schema_field["quantizer"] == "raw":
        return 8
    if schema_field["quantizer"] == "lsq" and not data.signed[i]:
        return data.bit_width[i] - 1
    return data.bit_width[i]


def kept_places(schema_field, shape, mask):
    """Section 11: which values of a sample are kept, as a boolean array."""
    kept = np.ones(shape, dtype=bool)
    if not mask:
        return kept
    patch = schema_field["patch"]
    across = math.ceil(shape[1] / patch)
    down = math.ceil(shape[0] / patch)
    bits = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")[: down * across]
    grid = bits.reshape(down, across).astype(bool)
    grid = grid.repeat(patch, axis=0).repeat(patch, axis=1)[: shape[0], : shape[1]]
    kept[:] = grid.reshape(grid.shape + (1,) * (len(shape) - 2))
    return kept


def groups_of_values(schema_field, data, i, shape, kept):
    """Section 10.5: the group of each kept value of a sample."""
    patch, groups = schema_field["patch"], np.zeros(shape, dtype=np.int64)
    if not groups.size:
        return groups[kept]
    for number, origin in enumerate(kept_patches(schema_field, shape, data.mask and data.mask[i])):
        y, x = (patch * at for at in origin)
        groups[y : y + patch, x : x + patch] = data.group_ids[i][number]
    return groups[kept]


def kept_patches(schema_field, shape, mask):
    """Section 11: (row, column) of the patches that are kept, in raster order."""
    down, across = (math.ceil(size / schema_field["patch"]) for size in shape[:2])
    places = [(y, x) for y in range(down) for x in range(across)]
    bits = int.from_bytes(mask, "little") if mask else -1
    return [place for number, place in enumerate(places) if bits >> number & 1]


def gains_shifts(schema_field, data, i):
    """Section 10.3: binary32 arrays of one value or one for each channel."""
    scale = np.float32(data.scale[i])
    if schema_field["quantizer"] == "affine":
        return np.array([scale]), np.array([np.float32(data.offset[i])])
    domain = schema_field["domain"]
    if domain["kind"] == "normalized":
        std = np.array([np.float32(x) for x in domain["std"]])
        return scale * std, np.array([np.float32(x) for x in domain["mean"]])
    return np.array([scale]), np.float32([0.5 if domain["kind"] == "centered" else 0.0])


def sample_values(schema_field, data, i, shape, layers):
    """The values of one sample from its first layers: array of `shape`, left-out ones 0."""
    kept = kept_places(schema_field, shape, data.mask and data.mask[i])
    if schema_field["quantizer"] == "raw":
        values = np.zeros(shape, STRUCT_DTYPES[schema_field["dtype"]])
        values[kept] = data.codes[i]
        return values
    stored = stored_width(schema_field, data, i)
    plan = schema_field["layers"]
    # The bits of layers 0 .. M-1 are the first min(B, sum of the plan) ones; the last takes all.
    missing = max(0, stored - sum(plan[:layers])) if layers <= len(plan) else 0
    codes = np.array(data.codes[i], dtype=np.int64)
    middle = (codes >> missing << missing) + (2.0**missing - 1) / 2
    if schema_field["quantizer"] == "lsq" and data.signed[i]:
        middle = middle - (2 ** (data.bit_width[i] - 1) - 1)
    if schema_field["quantizer"] == "patch":
        gain, shift = (np.array(numbers, np.float32) for numbers in data.groups)
        source = groups_of_values(schema_field, data, i, shape, kept)
    else:
        gain, shift = gains_shifts(schema_field, data, i)
        source = np.nonzero(kept.ravel())[0] % len(gain)
    values = np.zeros(shape, np.float32)
    with np.errstate(over="ignore"):
        values[kept] = middle.astype(np.float32) * gain[source] + shift[source]
    return values


def field_facts(schema_field, chunks, stored):
    """`expected["fields"][NAME]` of the JSON beside a vector.

    `chunks` holds the FieldData of all chunks, `stored` is the number of layers in the shard.
    """
    facts = {"shape": [], "mask": [], "codes": [], "layers": {}}
    raw, plan = schema_field["quantizer"] == "raw", schema_field["layers"]
    if schema_field["quantizer"] == "patch":
        facts["group_ids"] = [ids for data in chunks for ids in data.group_ids]
    for data in chunks:
        count = len(data.codes)
        facts["shape"] += data.shape or [schema_field["shape"]] * count
        facts["mask"] += [mask.hex() or None for mask in data.mask or [b""] * count]
        facts["codes"] += [None] * count if raw or stored <= len(plan) else data.codes
        for name in ("bit_width", "signed", "scale", "offset", "qp"):
            if getattr(data, name) is not None:
                facts.setdefault(name, []).extend(map(number, getattr(data, name)))
    for layers in range(1, stored + 1):
        facts["layers"][str(layers)] = layer_facts(schema_field, chunks, layers)
    return facts


def layer_facts(schema_field, chunks, layers):
    """Values of a field from its first layers: a digest, a few of them, the picture."""
    raw, block = (schema_field["quantizer"] == name for name in ("raw", "block"))
    if block:
        decoded = [levels(data.block[0], p, layers) for data in chunks for p in data.block[1]]
        arrays = [numbers(y).ravel() for y in decoded]
    else:
        arrays = [
            sample_values(schema_field, data, i, shape, layers).ravel()
            for data in chunks
            for i, shape in enumerate(data.shape or [schema_field["shape"]] * len(data.codes))
        ]
    dtype = STRUCT_DTYPES[schema_field["dtype"]] if raw else "<f4"
    values = np.concatenate([np.empty(0, dtype), *arrays])
    facts = {
        "values_sha256": hashlib.sha256(values.astype(dtype).tobytes()).hexdigest(),
        "first_values": [number(x) for x in values[:4]],
    }
    if schema_field["dtype"] == "uint8":
        if block:
            values = np.concatenate(
                [np.empty(0, np.uint8), *(integers(y).ravel() for y in decoded)]
            )
        elif not raw:
            with np.errstate(over="ignore"):
                values = np.clip(np.rint(values * np.float32(255)), 0, 255)
        facts["picture_sha256"] = hashlib.sha256(values.astype(np.uint8).tobytes()).hexdigest()
    return facts
