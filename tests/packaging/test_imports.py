"""What the packages export, and what importing them drags in."""

import importlib
import sys
import types

import pytest

HEAVY = {"PIL", "fastapi", "pyarrow", "starlette", "torch", "typer", "urllib3", "uvicorn"}
# What each package may load on import; anything else of HEAVY waits until it is used.
ALLOWED = {
    "dsqformat": set(),
    "dsqclient": {"urllib3"},
    "dsqserver": {"fastapi", "starlette", "uvicorn"},
}


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_import_is_light(package, run):
    code = f"import sys, {package}; print(*sys.modules, sep='\\n')"
    loaded = {name.split(".")[0] for name in run([sys.executable, "-c", code]).stdout.split()}
    assert loaded & HEAVY - ALLOWED[package] == set()


def test_help_loads_no_command(run):
    code = (
        "import sys\nfrom dsqformat.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    print(*sys.modules, sep='\\n')"
    )
    loaded = set(run([sys.executable, "-c", code]).stdout.split())
    assert {name.split(".")[0] for name in loaded} & (HEAVY - {"typer"}) == set()
    assert {"numpy", "dsqserver", "dsqclient"} & loaded == set()


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_all_is_the_public_namespace(package):
    module = importlib.import_module(package)
    public = {
        name
        for name in dir(module)
        if not name.startswith("_")
        and name != "TYPE_CHECKING"
        and not isinstance(getattr(module, name), types.ModuleType)
        and type(getattr(module, name)).__module__ != "__future__"
    }
    exported = list(module.__all__)
    assert len(exported) == len(set(exported))
    assert {name for name in exported if not name.startswith("__")} == public
    assert all(hasattr(module, name) for name in exported)
