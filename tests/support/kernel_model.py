"""What the kernels must do, value by value as spec 9 and 10 say it, and the ways to run them."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import strategies as st

from dsqformat import kernels
from dsqformat.kernels import plain

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "dsqformat" / "kernels"
PADDING, VALUE, CODE = 0, 1, 2


# The implementations ---------------------------------------------------------------------------

# Those of coding 2, of patches and of blocks have test modules of their own.
RANS_KERNELS = ("decode_streams", "encode_streams", "trace")
PATCH_KERNELS = (
    "choose_groups",
    "dequantize_patches_float32",
    "dequantize_patches_uint8",
    "find_nearest",
)
LOADERS = ("block_kernel", "graph_cut_kernel", "harmonic_kernel")
ELSEWHERE = {"COMPILED", *LOADERS, *RANS_KERNELS, *PATCH_KERNELS}


def load(name: str, path: Path) -> ModuleType:
    """Import a module from a file, under a name of its own."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def together(bits: ModuleType, dequant: ModuleType) -> SimpleNamespace:
    """One namespace of all kernels."""
    names = [name for name in kernels.__all__ if name not in ELSEWHERE]
    return SimpleNamespace(**{n: getattr(bits, n, None) or getattr(dequant, n) for n in names})


def compiled_kernels(_: Path) -> SimpleNamespace:
    if not kernels.COMPILED:
        pytest.skip("the kernels are not compiled here")
    return together(kernels, kernels)


def baseline_kernels(_: Path) -> SimpleNamespace:
    """Kernels for the least processor, where the import may have taken better ones."""
    if not kernels.COMPILED:
        pytest.skip("the kernels are not compiled here")
    return together(
        *(importlib.import_module(f"dsqformat.kernels.{name}") for name in ("bits", "dequant"))
    )


def uncompiled_kernels(_: Path) -> SimpleNamespace:
    """The source of `bits` as Python; what has `.pxd` files is none, NumPy does its part."""
    pytest.importorskip("cython")
    return together(load("uncompiled_bits", SOURCES / "bits.py"), plain)


def checked_kernels(folder: Path) -> SimpleNamespace:
    """Kernels that check their bounds: those of `make checked` if up to date, else built here."""
    found = find_built(ROOT / "build" / "checked")
    if found is None:
        pytest.importorskip("Cython")
        if not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")):
            pytest.skip("no C compiler")
        build_checked(folder)
        found = find_built(folder / "out")
    if found is None:
        pytest.skip("the kernels do not compile here")
    return together(*(load(f"checked.{path.name.partition('.')[0]}", path) for path in found))


def build_checked(folder: Path) -> None:
    shutil.copytree(ROOT / "dsqformat", folder / "dsqformat", ignore=shutil.ignore_patterns("*.so"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", "out"],
        cwd=folder,
        env={**os.environ, "DSQ_KERNELS": "checked"},
        check=True,
        capture_output=True,
        timeout=600,
    )


def find_built(folder: Path) -> list[Path] | None:
    """Built modules, if there is one for each source and none is older."""
    paths = []
    for name in ("bits", "dequant"):
        places = [folder / "dsqformat" / "kernels" / (name + s) for s in EXTENSION_SUFFIXES]
        sources = [p for p in SOURCES.glob(f"{name}*") if p.suffix in {".py", ".pxd"}]
        newest = max(path.stat().st_mtime for path in sources)
        path = next((p for p in places if p.exists() and p.stat().st_mtime >= newest), None)
        if path is None:
            return None
        paths.append(path)
    return paths


VARIANTS = {
    "plain": lambda _: together(plain, plain),
    "compiled": compiled_kernels,
    "baseline": baseline_kernels,
    "checked": checked_kernels,
    "uncompiled": uncompiled_kernels,
}


# The model -------------------------------------------------------------------------------------


def pack(values: list[int], width: int) -> bytes:
    """Spec 9.1: integers from the least significant bit upwards."""
    number = sum(value << (width * i) for i, value in enumerate(values))
    return number.to_bytes((len(values) * width + 7) // 8, "little")


def whole(values: list[int], width: int) -> bytes:
    """Spec 9, coding 1: a byte per value, or two."""
    return b"".join(value.to_bytes(1 if width <= 8 else 2, "little") for value in values)


def split_widths(stored: int, plan: list[int]) -> list[int]:
    """Spec 9: each layer takes its width or what is left."""
    widths = []
    for width in plan:
        widths.append(min(width, stored - sum(widths)))
    return [*widths, stored - sum(widths)]


@dataclass
class ModelChunk:
    """A chunk as lists: codes and parameters of each sample, and which layers are at hand."""

    codes: list[list[int]]
    stored: list[int]
    plan: list[int]
    used: int
    packed: list[bool]
    zero_point: list[int]
    max_code: list[int]
    gain: np.ndarray
    shift: np.ndarray
    widths: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rows = [split_widths(b, self.plan)[: self.used] for b in self.stored]
        self.widths = np.array(rows, "u1").reshape(len(self.stored), self.used)

    def missing(self, sample: int) -> int:
        return self.stored[sample] - int(self.widths[sample].sum())

    def layer(self, number: int) -> bytes:
        data = b""
        for sample, codes in enumerate(self.codes):
            width = int(self.widths[sample, number])
            below = self.stored[sample] - int(self.widths[sample, : number + 1].sum())
            values = [(code >> below) & ((1 << width) - 1) for code in codes]
            if width:
                data += pack(values, width) if self.packed[number] else whole(values, width)
        return data

    def arguments(self) -> list:
        """layers, packed, counts, widths, missing: what every kernel begins with."""
        layers = [np.frombuffer(bytearray(self.layer(m)), "u1") for m in range(self.used)]
        missing = [self.missing(sample) for sample in range(len(self.codes))]
        return [
            layers,
            np.array(self.packed[: self.used], "u1"),
            np.array([len(codes) for codes in self.codes], "i8"),
            self.widths,
            np.array(missing, "u1"),
        ]

    def rule(self) -> list:
        """zero_point, max_code, gain, shift."""
        return [
            np.array(self.zero_point, "i4"),
            np.array(self.max_code, "i4"),
            self.gain,
            self.shift,
        ]

    @property
    def total(self) -> int:
        return sum(map(len, self.codes))

    def tops(self) -> list[int]:
        return [c >> self.missing(i) for i, codes in enumerate(self.codes) for c in codes]

    def values(self) -> np.ndarray:
        """Spec 9.2 and 10.3 in float32 scalars, one rounding each."""
        out = []
        for sample, codes in enumerate(self.codes):
            k = self.missing(sample)
            channels = self.gain.shape[1]
            for j, code in enumerate(codes):
                middle = (code >> k) * 2**k + (2**k - 1) / 2
                c = np.float32(middle - self.zero_point[sample])
                with np.errstate(over="ignore"):
                    product = c * self.gain[sample, j % channels]
                    out.append(product + self.shift[sample, j % channels])
        return np.array(out, "f4")

    def levels(self) -> np.ndarray:
        with np.errstate(over="ignore"):
            scaled = [float(x * np.float32(255)) for x in self.values()]
        return np.array([round(min(255.0, max(0.0, x))) for x in scaled], "u1")


@st.composite
def model_chunks(draw: st.DrawFn, most: int = 40) -> ModelChunk:
    """Chunks of 0 to 5 samples with widths, counts, plans, forms and channels of every kind."""
    n = draw(st.integers(0, 5))
    plan = draw(
        st.sampled_from([[], [4, 2], [4, 2], [8], [1] * 7, [3, 5], [9], [10, 3], [2, 12], [16]])
        | st.lists(st.integers(1, 16), max_size=7)
    )
    stored = [draw(st.integers(1, 16)) for _ in range(n)]
    if n and draw(st.booleans()):
        stored = [stored[0]] * n
    counts = [draw(st.integers(0, most)) for _ in range(n)]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    codes = [rng.integers(0, 1 << b, c).tolist() for b, c in zip(stored, counts, strict=True)]
    channels = draw(st.sampled_from([1, 1, 2, 3, 5]))
    finite = st.floats(0, 2.0**127, width=32) | st.floats(0, 1, width=32)
    gain = [[draw(finite) for _ in range(channels)] for _ in range(n)]
    shift = [
        [draw(st.floats(-(2.0**100), 2.0**100, width=32)) for _ in range(channels)]
        for _ in range(n)
    ]
    return ModelChunk(
        codes=codes,
        stored=stored,
        plan=plan,
        used=draw(st.integers(1, len(plan) + 1)),
        packed=[draw(st.booleans()) for _ in range(len(plan) + 1)],
        zero_point=[draw(st.sampled_from([0, (1 << (b - 1)) - 1])) for b in stored],
        max_code=[(1 << b) - 1 for b in stored],
        gain=np.array(gain, "f4").reshape(n, channels),
        shift=np.array(shift, "f4").reshape(n, channels),
    )
