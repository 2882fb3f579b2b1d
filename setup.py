"""Compile the kernels; everything else about the package is in pyproject.toml.

The kernels are Python modules that Cython compiles ahead of time. Where that is
not possible the installation goes on without them, and NumPy does their work.

DSQ_KERNELS chooses how: `fast` (default), `checked` (bounds and divisions are
checked, for fuzzing and tests), `sanitized` (that, and gcc's or clang's sanitizers of addresses
and of undefined behaviour; the program that loads them needs the sanitizers preloaded) or `none`.
"""

import os
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup

KERNELS = Path("dsqformat/kernels")
# Faster with registers of 256 bits.
WIDE = ("block_decode", "block_forward", "dequant", "graph_cut", "rans_decode")
HOSTILE = ("block_decode", "dequant", "patches", "rans_decode")  # get to see the bytes of strangers
# Cython's own part of each kernel, most of it: generated and compiled once for all of them.
SHARED = KERNELS / "memoryviews.c"
MODES: dict[str, dict[str, object]] = {
    "fast": {"boundscheck": False, "cdivision": True, "initializedcheck": False},
    "checked": {"boundscheck": True, "cdivision": False, "initializedcheck": True},
    "sanitized": {"boundscheck": True, "cdivision": False, "initializedcheck": True},
}
# The first finding ends the process. Python is compiled with -fwrapv, which would hide overflows.
# Negative numbers may be shifted left: compilers for C define it as C++20 does.
SANITIZERS = [
    "-fsanitize=address,undefined,float-cast-overflow",
    "-fno-sanitize=shift-base",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
    "-fno-wrapv",
]


def is_kernel(path: Path) -> bool:
    """Tell whether a module of the folder is compiled: NumPy's part of the work is not."""
    return path.name != "__init__.py" and not path.name.startswith("plain")


def is_block(path: Path) -> bool:
    """Tell whether a kernel belongs to the quantizer `block`."""
    return path.name.startswith("block_")


def compiler_flags(mode: str) -> list[str]:
    """Return what the C compiler is told."""
    if sys.platform == "win32":
        return ["/O2", "/fp:precise"]
    # No -ffast-math and no fused multiply-add: results are the same bits on every machine.
    if mode == "sanitized":
        return ["-O1", "-g1", "-ffp-contract=off", *SANITIZERS]
    # Who checks bounds has time; compiling takes half as long.
    return ["-O1" if mode == "checked" else "-O3", "-g0", "-ffp-contract=off"]


def kernel_extensions(mode: str) -> list[Extension]:
    """Return one extension per kernel module, built as `mode` says, and what they share."""
    if mode == "none":
        return []
    if mode not in MODES:
        raise SystemExit(f"DSQ_KERNELS: got {mode!r}, expected {', '.join(MODES)} or none")
    flags = compiler_flags(mode)

    def extension(path: Path, suffix: str = "", *options: str) -> Extension:
        # Loops that write 8 values at once see memory as words; those of blocks do not, and would
        # lose a sixth of their speed.
        words = [] if is_block(path) or sys.platform == "win32" else ["-fno-strict-aliasing"]
        return Extension(
            f"dsqformat.kernels.{path.stem}{suffix}",
            [path.as_posix()],
            extra_compile_args=[*flags, *words, *options],
            extra_link_args=SANITIZERS[:1] if mode == "sanitized" else [],
        )

    paths = [path for path in sorted(KERNELS.glob("*.py")) if is_kernel(path)]
    if mode == "sanitized":
        paths = [path for path in paths if path.stem in HOSTILE]
    extensions = compiled([extension(SHARED), *map(extension, paths)], mode, f"cython-{mode}")
    if mode == "fast" and sys.platform != "win32" and platform.machine() in ("x86_64", "AMD64"):
        # The same source for registers twice as wide; the import takes it where they are there.
        wide = [extension(path, "_avx2", "-mavx2") for path in paths if path.stem in WIDE]
        extensions += compiled(wide, mode, "cython-avx2")
    return extensions


def compiled(extensions: list[Extension], mode: str, folder: str) -> list[Extension]:
    """Return extensions in C, generated below build/ and never beside the sources."""
    from Cython.Build import cythonize

    made: list[Extension] = cythonize(
        extensions,
        build_dir=f"build/{folder}",
        force=True,
        shared_utility_qualified_name=f"dsqformat.kernels.{SHARED.stem}",
        compiler_directives={
            "language_level": "3",
            "wraparound": False,
            "show_performance_hints": False,
            **MODES[mode],
        },
    )
    for extension in made:  # cythonize makes new objects and drops the flag from given ones
        extension.optional = True  # without a C compiler: warn, leave the module out
    return made


setup(
    ext_modules=kernel_extensions(os.environ.get("DSQ_KERNELS", "fast")),
    # A build in another mode has newer files than the sources: never take those for up to date.
    options={"build_ext": {"force": True, "parallel": os.cpu_count() or 1}},
)
