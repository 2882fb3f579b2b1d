"""Source trees, wheels and virtual environments, made once per run."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What a source distribution is made from; README.md is taken where it exists.
SOURCES = [
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "client",
    "constraints.txt",
    "dsqformat",
    "pyproject.toml",
    "server",
    "setup.py",
]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def run() -> Run:
    """Run a program to its end, outside the repository; a failure shows what it printed."""

    def run_program(
        args: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        check: bool = True,
        timeout_s: float = 240,
        **env: str,
    ) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "DSQ_KERNELS"}}
        done = subprocess.run(
            [str(arg) for arg in args],
            cwd=cwd or os.path.expanduser("~"),
            env={**inherited, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode != 0:
            pytest.fail(f"{args} left with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    return run_program


@pytest.fixture(scope="session")
def copy_sources() -> Callable[[Path], Path]:
    """Copy what a distribution is made from into a folder, without anything built."""

    def copy(destination: Path) -> Path:
        destination.mkdir(parents=True)
        built = shutil.ignore_patterns("__pycache__", "*.so", "*.c", "*.egg-info")
        for name in SOURCES:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, destination / name, ignore=built)
            elif source.exists():
                shutil.copy2(source, destination / name)
        return destination

    return copy


@pytest.fixture(scope="session")
def make_venv(run: Run) -> Callable[[Path], Path]:
    """Make an environment that sees this one's packages but not this one's editable install.

    The function returns its python. Editable installs are found through .pth files, which are
    read in an environment's own site-packages only; so nothing has to be downloaded.
    """

    def make(folder: Path) -> Path:
        run([sys.executable, "-m", "venv", "--without-pip", folder])
        python = folder / "bin" / "python"
        purelib = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
        here = sysconfig.get_path("purelib")
        Path(purelib.stdout.strip(), "packages_of_the_test_run.pth").write_text(f"{here}\n")
        return python

    return make


@pytest.fixture(scope="session")
def wheel(
    copy_sources: Callable[[Path], Path], run: Run, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The wheel, made from the sdist, made from the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = copy_sources(folder / "tree")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", tree])
    (path,) = (folder / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="session")
def wheel_python(
    wheel: Path,
    make_venv: Callable[[Path], Path],
    run: Run,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The python of an environment with the wheel installed."""
    python = make_venv(tmp_path_factory.mktemp("installed") / "venv")
    run([python, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", wheel])
    return python
