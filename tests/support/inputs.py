"""Inputs for `dsq pack`: folders of pictures, tars, Parquet, .npz; and running `dsq`."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsqformat.cli import main

CLASSES = ("cat", "dog", "owl")
RUN = [sys.executable, "-c", "from dsqformat.cli import main; main()"]


def make_pictures(count: int = 12, side: int = 12, seed: int = 0) -> np.ndarray:
    """Smooth pictures with noise, uint8, shape (count, side, side, 3)."""
    rng = np.random.default_rng(seed)
    ramp = np.arange(side)
    values = (
        rng.integers(0, 90, (count, 1, 1, 3))
        + rng.integers(0, 9, (count, 1, 1, 1)) * ramp[:, None, None]
        + rng.integers(0, 12, (count, side, side, 3))
    )
    return np.minimum(values, 255).astype("u1")


def encoded(picture: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """A picture file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


def make_folder(root: Path, pictures: np.ndarray) -> Path:
    """A folder with a sub-folder per class; picture i has class i % 3."""
    for number, picture in enumerate(pictures):
        folder = root / CLASSES[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:03d}.png").write_bytes(encoded(picture))
    return root


def add_members(tar: tarfile.TarFile, members: dict[str, bytes]) -> None:
    """Add files to a tar."""
    for name, data in members.items():
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))


def make_tar(path: Path, samples: dict[str, dict[str, bytes]], mode: str = "w") -> Path:
    """A tar of samples: key -> extension -> bytes."""
    with tarfile.open(path, mode) as tar:
        for key, members in samples.items():
            add_members(tar, {f"{key}.{extension}": data for extension, data in members.items()})
    return path


def tar_samples(pictures: np.ndarray) -> dict[str, dict[str, bytes]]:
    """Samples for make_tar: png, cls, txt and json each."""
    return {
        f"shot/{number:04d}": {
            "png": encoded(picture),
            "cls": str(number % 3).encode(),
            "txt": f"picture {number} é".encode(),
            "json": json.dumps({"height": 1.5 * number, "night": number % 2 == 0}).encode(),
        }
        for number, picture in enumerate(pictures)
    }


def make_parquet(path: Path, pictures: np.ndarray, *, names: bool = True, **columns: Any) -> Path:
    """A Parquet file as Hugging Face writes it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"bytes": encoded(picture), "path": f"train/{number:04d}.png"}
        for number, picture in enumerate(pictures)
    ]
    table = pa.table({"img": rows, "label": [n % 3 for n in range(len(rows))], **columns})
    if names:
        features = {
            "img": {"_type": "Image"},
            "label": {"names": list(CLASSES), "_type": "ClassLabel"},
        }
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = table.replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=5)
    return path


def make_npz(path: Path, pictures: np.ndarray, **arrays: Any) -> Path:
    """An .npz with x and y."""
    np.savez(path, x=pictures, y=np.arange(len(pictures)) % 3, **arrays)
    return path


SOURCES = ("folder", "webdataset", "parquet", "npz")


def make_source(kind: str, root: Path, pictures: np.ndarray) -> Path:
    """An input of any kind."""
    root.mkdir(parents=True, exist_ok=True)
    if kind == "folder":
        return make_folder(root / "pictures", pictures)
    if kind == "webdataset":
        return make_tar(root / "shots.tar", tar_samples(pictures))
    if kind == "parquet":
        return make_parquet(root / "train.parquet", pictures)
    return make_npz(root / "arrays.npz", pictures)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it reported with --json."""
        return json.loads(self.out)

    @property
    def error_line(self) -> str:
        """Its one-line error; anything else fails the test."""
        assert self.code == 1, self
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("dsq: error: "), self.err
        return self.err.removeprefix("dsq: error: ").strip()


def run_dsq(capsys: Any, *args: object) -> Done:
    """Run a `dsq` command in this process."""
    capsys.readouterr()
    code = 0
    try:
        main([str(arg) for arg in args])
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    captured = capsys.readouterr()
    return Done(code, captured.out, captured.err)


def pack_json(dsq: Callable[..., Done], *args: object) -> Any:
    """Run `dsq pack --json`, which must succeed; return its report."""
    done = dsq("pack", *args, "--json")
    assert done.code == 0, done.err
    assert done.err == ""
    return done.json


def spawn_dsq(*args: object, **options: Any) -> Done:
    """Run a `dsq` command in a process of its own."""
    done = subprocess.run(
        [*RUN, *map(str, args)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "80"},
        **options,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def listing(folder: Path) -> dict[str, int]:
    """Every file below a folder and its length, folders with -1."""
    return {
        str(path.relative_to(folder)): path.stat().st_size if path.is_file() else -1
        for path in sorted(folder.rglob("*"))
    }
