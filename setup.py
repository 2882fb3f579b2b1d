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
WIDE = ("block_decode", "block_forward", "dequant", "graph_cut")  # faster with 256-bit registers
HOSTILE = ("block_decode", "dequant", "patches", "rans_decode")  # get to see the bytes of strangers
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


def kernel_extensions(mode: str) -> list[Extension]:
    """Return one extension per kernel module, built as `mode` says."""
    if mode == "none":
        return []
    if mode not in MODES:
        raise SystemExit(f"DSQ_KERNELS: got {mode!r}, expected {', '.join(MODES)} or none")
    from Cython.Build import cythonize

    # No -ffast-math and no fused multiply-add: results are the same bits on every machine.
    flags = ["-O3", "-ffp-contract=off", "-g0"]
    # Loops that write 8 values at once see memory as words; those of blocks do not, and would
    # lose a sixth of their speed.
    words = [*flags, "-fno-strict-aliasing"]
    if sys.platform == "win32":
        flags = words = ["/O2", "/fp:precise"]
    linked: list[str] = []
    if mode == "sanitized":
        flags = ["-O1", "-g1", "-ffp-contract=off", *SANITIZERS]
        words = [*flags, "-fno-strict-aliasing"]
        linked = SANITIZERS[:1]
    paths = [path for path in sorted(KERNELS.glob("*.py")) if is_kernel(path)]
    if mode == "sanitized":
        paths = [path for path in paths if path.stem in HOSTILE]
    modules = [
        (path.stem, path, flags if is_block(path) else words, f"build/cython-{mode}")
        for path in paths
    ]
    if mode == "fast" and sys.platform != "win32" and platform.machine() in ("x86_64", "AMD64"):
        # The same source for registers twice as wide; the import takes it where they are there.
        modules += [
            (f"{name}_avx2", path, [*options, "-mavx2"], "build/cython-avx2")
            for name, path, options, _ in modules
            if name in WIDE
        ]
    extensions = []
    for name, path, options, folder in modules:
        # The generated C goes to build/, one folder per mode, never beside the sources.
        extensions += cythonize(
            [
                Extension(
                    f"dsqformat.kernels.{name}",
                    [path.as_posix()],
                    extra_compile_args=options,
                    extra_link_args=linked,
                )
            ],
            build_dir=folder,
            force=True,
            compiler_directives={"language_level": "3", "wraparound": False, **MODES[mode]},
        )
    for extension in extensions:  # cythonize makes new objects and drops the flag from given ones
        extension.optional = True  # without a C compiler: warn, leave the module out
    return extensions


setup(
    ext_modules=kernel_extensions(os.environ.get("DSQ_KERNELS", "fast")),
    # A build in another mode has newer files than the sources: never take those for up to date.
    options={"build_ext": {"force": True, "parallel": os.cpu_count() or 1}},
)
