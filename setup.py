"""Compile the kernels; everything else about the package is in pyproject.toml.

The kernels are Python modules that Cython compiles ahead of time. Where that is
not possible the installation goes on without them, and the same source runs uncompiled.

DSQ_KERNELS chooses how: `fast` (default), `checked` (bounds and divisions are
checked, for fuzzing and tests) or `none`.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

KERNELS = Path("dsqformat/kernels")
UNCOMPILED = {"__init__.py", "plain.py"}
MODES: dict[str, dict[str, object]] = {
    "fast": {"boundscheck": False, "cdivision": True, "initializedcheck": False},
    "checked": {"boundscheck": True, "cdivision": False, "initializedcheck": True},
}


def kernel_extensions(mode: str) -> list[Extension]:
    """Return one extension per kernel module, built as `mode` says."""
    if mode == "none":
        return []
    if mode not in MODES:
        raise SystemExit(f"DSQ_KERNELS: got {mode!r}, expected fast, checked or none")
    from Cython.Build import cythonize

    # No -ffast-math and no fused multiply-add: results are the same bits on every machine.
    flags = (
        ["/O2", "/fp:precise"] if sys.platform == "win32" else ["-O3", "-ffp-contract=off", "-g0"]
    )
    extensions = [
        Extension(f"dsqformat.kernels.{path.stem}", [path.as_posix()], extra_compile_args=flags)
        for path in sorted(KERNELS.glob("*.py"))
        if path.name not in UNCOMPILED
    ]
    # The generated C goes to build/, one folder per mode, never beside the sources.
    extensions = cythonize(
        extensions,
        build_dir=f"build/cython-{mode}",
        force=True,
        compiler_directives={"language_level": "3", "wraparound": False, **MODES[mode]},
    )
    for extension in extensions:  # cythonize makes new objects and drops the flag from given ones
        extension.optional = True  # without a C compiler: warn, leave the module out
    return extensions


setup(
    ext_modules=kernel_extensions(os.environ.get("DSQ_KERNELS", "fast")),
    # A build in another mode has newer files than the sources: never take those for up to date.
    options={"build_ext": {"force": True}},
)
