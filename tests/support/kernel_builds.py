"""Kernels of another build in place of those beside the sources, for a process of its own."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path
from types import ModuleType

PREFIX = "dsqformat.kernels."


class _BuiltKernels(MetaPathFinder):
    """Finds the compiled kernels of one folder there, and no others for wider registers."""

    def __init__(self, folder: Path) -> None:
        self.paths = {path.name.partition(".")[0]: path for path in built_kernels(folder)}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        kernel = name.removeprefix(PREFIX)
        if not name.startswith(PREFIX) or kernel.startswith("plain"):
            return None
        if kernel in self.paths:
            return importlib.util.spec_from_file_location(name, self.paths[kernel])
        # What the build leaves out, such as encoders, comes from beside the sources.
        return ModuleSpec(name, None, origin="absent") if kernel.endswith("_avx2") else None


def built_kernels(folder: Path) -> list[Path]:
    """Return the compiled modules of `setup.py build_ext --build-lib folder`."""
    kernels = folder / "dsqformat" / "kernels"
    return [p for p in sorted(kernels.glob("*")) if p.name.endswith(tuple(EXTENSION_SUFFIXES))]


def use_kernels(folder: Path) -> None:
    """Take the kernels of `folder` from now on.

    Raises:
        RuntimeError: other kernels have been imported already.
    """
    if any(name.startswith(PREFIX) for name in sys.modules):
        raise RuntimeError("the kernels have been imported already")
    sys.meta_path.insert(0, _BuiltKernels(folder))
