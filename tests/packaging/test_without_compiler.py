"""Without a C compiler the installation works; the kernels run uncompiled and say so once."""

import re
import sys
import zipfile

import pytest

# Cython is there when a package is built, not where it runs. Everything that can use the
# kernels is imported, twice over.
LOAD_ALL = """
import importlib, pkgutil, sys
sys.modules["cython"] = sys.modules["Cython"] = None
import dsqformat
# Commands and what needs torch: extras that need not be installed.
LEFT_OUT = ("dsqformat.kernels.", "dsqformat.commands.", "dsqformat.condense.")
for _ in range(2):
    for module in pkgutil.walk_packages(dsqformat.__path__, "dsqformat."):
        if not module.name.startswith(LEFT_OUT):
            importlib.import_module(module.name)
print(*sys.modules)
"""


def _warnings(stderr: str) -> list[str]:
    return re.findall(r"^.*Warning: .*$", stderr, re.MULTILINE)


@pytest.fixture(scope="module")
def uncompiled_wheel(copy_sources, run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uncompiled")
    tree = copy_sources(folder / "tree")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, tree]
    run(build, CC="/bin/false")
    (path,) = folder.glob("*.whl")
    return path


def test_the_build_goes_on_without_the_kernels(uncompiled_wheel, wheel):
    names = set(zipfile.ZipFile(uncompiled_wheel).namelist())
    compiled = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")}
    assert not any(name.endswith(".so") for name in names)
    # dequant_avx2 is dequant.py compiled once more; memoryviews is Cython's own.
    sources = {re.sub(r"(_avx2)?\..*", ".py", name) for name in compiled}
    assert sources - {"dsqformat/kernels/memoryviews.py"} <= names


def test_there_is_exactly_one_warning(uncompiled_wheel, make_venv, run, tmp_path):
    python = make_venv(tmp_path / "venv")
    run([python, "-m", "pip", "install", "--no-deps", "--no-index", "-q", uncompiled_wheel])
    done = run([python, "-W", "always", "-c", LOAD_ALL])
    assert "dsqformat.kernels" in done.stdout.split()
    warnings = _warnings(done.stderr)
    assert len(warnings) == 1, done.stderr
    assert "compile" in warnings[0]


def test_compiled_kernels_do_not_warn(wheel_python, run):
    done = run([wheel_python, "-W", "always", "-c", LOAD_ALL])
    assert "dsqformat.kernels" in done.stdout.split()
    assert _warnings(done.stderr) == []
