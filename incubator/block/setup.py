"""Compile the kernels in place: `python setup.py build_ext --inplace`.

DSQ_KERNELS=checked checks bounds and divisions; DSQ_SANITIZE=1 adds address and undefined-
behaviour sanitizers (run with LD_PRELOAD=libasan.so).
"""

import os
import platform
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

KERNELS = Path("dsqblock/kernels")
CHECKED = os.environ.get("DSQ_KERNELS", "fast") == "checked"
SANITIZE = os.environ.get("DSQ_SANITIZE") == "1"
FLAGS = ["-O3", "-ffp-contract=off", "-g0"]
LINK = []
if SANITIZE:
    FLAGS = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize=alignment", "-fwrapv"]
    LINK = ["-fsanitize=address,undefined"]

modules = [(path.stem, path, FLAGS) for path in sorted(KERNELS.glob("block_*.py"))]
if not CHECKED and not SANITIZE and platform.machine() in ("x86_64", "AMD64"):
    modules += [(f"{name}_avx2", path, [*FLAGS, "-mavx2"]) for name, path, _ in modules]

extensions = []
for name, path, flags in modules:
    extensions += cythonize(
        [
            Extension(
                f"dsqblock.kernels.{name}",
                [path.as_posix()],
                extra_compile_args=flags,
                extra_link_args=LINK,
            )
        ],
        build_dir=f"build/cython-{name}{'-checked' * CHECKED}",
        force=True,
        compiler_directives={
            "language_level": "3",
            "wraparound": False,
            "boundscheck": CHECKED,
            "cdivision": not CHECKED,
            "initializedcheck": CHECKED,
        },
    )
setup(name="dsqblock", packages=[], ext_modules=extensions, options={"build_ext": {"force": True}})
