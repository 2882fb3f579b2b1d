"""What fuzzing starts from: the conformance vectors and small datasets of every quantizer."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat import DatasetWriter, Domain, FieldSpec

VECTORS: Final = Path(__file__).parents[2] / "spec" / "vectors" / "v1" / "valid"


def write_corpus(folder: Path) -> Path:
    """Write all seeds below `folder`, which is made: shards, snapshots, refs and key tables."""
    folder.mkdir(parents=True)
    for path in sorted(VECTORS.glob("*.dsq")):
        shutil.copy(path, folder / f"vector-{path.name}")
    for name, spec, shapes, settings in _datasets():
        _write(folder / "made", name, spec, shapes, settings)
        for path in sorted((folder / "made" / name).rglob("*")):
            if path.is_file() and path.suffix != ".parquet":
                kind = {".json": "json", ".dsq": "dsq"}.get(path.suffix, path.suffix[1:])
                shutil.copy(path, folder / f"{name}-{path.stem[:12]}.{kind}")
    shutil.rmtree(folder / "made")
    return folder


def _datasets() -> list[tuple[str, FieldSpec, list[tuple[int, ...]], list[int]]]:
    """Name, how the field is stored, shapes of its samples, qp or bit width of each in turn."""
    small = [(8, 8, 3)] * 3
    odd = [(1, 1, 3), (5, 9, 3), (4, 33, 3), (17, 2, 3)]
    return [
        ("block-one", FieldSpec("block", layers=()), small, [60, 100, 140]),
        ("block-two", FieldSpec("block"), odd, [40, 90]),
        ("block-three", FieldSpec("block", layers=(1, 1)), [(40, 36, 3)], [50]),
        ("block-four", FieldSpec("block", layers=(1, 1, 1)), [(12, 12, 5)] * 2, [30, 175]),
        ("block-grey", FieldSpec("block"), [(33, 20)] * 2, [80]),
        ("affine", FieldSpec(layers=()), small, [8, 5]),
        ("affine-layers", FieldSpec(layers=(2, 1)), [(6, 7, 3), (3, 2, 3)], [8, 4, 12]),
        ("lsq", FieldSpec("lsq", layers=(3,), domain=Domain("centered")), small, [6, 3]),
        ("grey", FieldSpec(layers=(4,)), [(9, 11)] * 3, [8]),
        ("masked", FieldSpec(layers=(4,), patch=3), small, [6]),
        ("patch", FieldSpec("patch", group_count=3, patch=3), small, [2]),
        ("patch-layers", FieldSpec("patch", layers=(1, 2), group_count=5), [(7, 11, 3)] * 3, [5]),
        ("patch-masked", FieldSpec("patch", group_count=2, patch=4), small, [3]),
        ("raw", FieldSpec("raw", patch=2), [(5, 3), (2, 2)], [0]),
        ("raw-empty", FieldSpec("raw", patch=2), [(5, 3, 2), (3, 4, 0), (0, 4, 1)], [0]),
    ]


def _write(
    folder: Path, name: str, spec: FieldSpec, shapes: list[tuple[int, ...]], settings: list[int]
) -> None:
    rng = np.random.default_rng(sum(name.encode()))
    if spec.quantizer == "patch":
        # Its samples share their groups and with them one bit width.
        spec = replace(spec, bit_width=settings[0])
    with DatasetWriter(
        folder / name, fields=spec, coding="rans" if "raw" not in name else "auto", shuffle=False
    ) as writer:
        for number in range(len(shapes)):
            picture = _picture(rng, shapes[number])
            sample: dict[str, Any] = {"image": picture, "label": number % 2, "note": "ab"[:number]}
            options: dict[str, Any] = {}
            if spec.setting is not None and spec.quantizer != "patch":
                options[spec.setting] = settings[number % len(settings)]
            if "masked" in name or "raw" in name:
                side = spec.patch or 1
                grid = [-(-length // side) for length in picture.shape[:2]]
                options["masks"] = {"image": rng.random(grid) < 0.7}
            writer.write(sample, key=f"key-{number}", **options)


def _picture(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Something smooth with noise, so that most symbols are likely and some are not."""
    ramp = np.add.outer(np.arange(shape[0]) * rng.normal(0, 4), np.arange(shape[1]) * 3.0)
    values = 120 + ramp.reshape(*ramp.shape, *[1] * (len(shape) - 2)) + rng.normal(0, 9, shape)
    return np.clip(values, 0, 255).astype("u1")
