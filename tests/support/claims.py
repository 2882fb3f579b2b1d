"""Chunks of a few bytes that claim to hold very much, and a process that may not use much.

    python tests/support/claims.py FILE --memory-mib 64

FILE holds a JSON object: of each claim the parts of `fuzz_targets.run_chunk` in hexadecimal.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import struct
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsqformat.canonical import canonical_json
from dsqformat.chunk import FieldModel, PatchModel
from dsqformat.coding.columns import encode_column
from dsqformat.coding.rans import PixelModel
from dsqformat.errors import DsqError
from dsqformat.schema import Field, Schema
from dsqformat.schema_json import schema_to_json
from dsqformat.shard.models import encode_groups, encode_models
from fuzz_models import odd_pixel_model
from fuzz_targets import run_chunk
from fuzz_worker import limit_memory


def claim(
    field: Field,
    shapes: Sequence[Sequence[int]],
    layers: Sequence[bytes],
    *,
    masks: Sequence[bytes] | None = None,
    model: FieldModel | None = None,
    width: int = 8,
) -> list[bytes]:
    """Return the parts of a chunk of one field whose dimensions are all variable."""
    schema = Schema((field,), (), tuple((field.name, layer) for layer in range(len(layers))))
    columns = [encode_column(np.array(shapes)[:, axis], "int64") for axis in field.variable_axes]
    count = len(shapes)
    if field.patch is not None:
        columns.append(encode_column(list(masks or [b""] * count), "bytes"))
    if field.quantizer != "raw":
        columns.append(encode_column(np.full(count, width), "int64"))
    if field.quantizer == "lsq":
        columns.append(encode_column(np.ones(count), "int64"))
    if field.quantizer in ("lsq", "affine"):
        columns.append(encode_column(np.ones(count, "f4"), "float32"))
    if field.quantizer == "affine":
        columns.append(encode_column(np.zeros(count, "f4"), "float32"))
    models: Mapping[str, FieldModel] = {} if model is None else {field.name: model}
    return [
        struct.pack("<BBH", field.dtype == "uint8", 0, count - 1),
        canonical_json(schema_to_json(schema)),
        encode_models(models, schema),
        encode_groups(models, schema),
        b"".join(columns),
        *layers,
    ]


def model_of(width: int, channels: int) -> PixelModel:
    """Return a pixel model that knows layers of `width` bits."""
    for seed in range(10_000):
        model = odd_pixel_model(random.Random(seed), channels)
        if (0, width) in model.config_of:
            return model
    raise ValueError(f"no model of {width} bits")


def groups_of(count: int, width: int) -> PatchModel:
    """Return `count` groups of patches with models of ids and of codes of `width` bits."""
    scale = np.full(count, 1 / 255, "f4")
    ids = model_of((count - 1).bit_length(), 1) if count > 1 else None
    return PatchModel(scale, np.zeros(count, "f4"), ids, model_of(width, 3))


def main() -> int:
    """Decode claims with little memory; print of each the outcome and what it cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--memory-mib", type=int, required=True)
    options = parser.parse_args()
    claims = json.loads(options.file.read_text())
    limit_memory(options.memory_mib)
    sys.stdout.write(json.dumps({name: _decoded(claims[name]) for name in claims}))
    return 0


def _decoded(parts: Sequence[str]) -> dict[str, Any]:
    before, started, result = _peak_mib(), time.process_time(), "accepted"
    try:
        run_chunk([bytes.fromhex(part) for part in parts], any_size=True)
    except (DsqError, MemoryError, ValueError) as error:
        result = f"{type(error).__name__}: {error}"
    return {
        "result": result,
        "mib": _peak_mib() - before,
        "cpu_s": time.process_time() - started,
    }


def _peak_mib() -> float:
    # ru_maxrss would begin with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    sys.exit(main())
