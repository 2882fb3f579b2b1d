"""The public names, and the documentation's example."""

import importlib
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from dsqformat import select

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "selection.md"


def test_every_public_name_is_there():
    assert sorted(set(select.__all__)) == select.__all__
    assert dir(select) == select.__all__
    for name in select.__all__:
        assert getattr(select, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'bin_everything'"):
        select.bin_everything  # noqa: B018


def test_no_public_name_is_that_of_a_module():
    # Importing such a module would put it in the place of the name.
    modules = {path.stem for path in Path(select.__path__[0]).glob("*.py")}
    assert modules.isdisjoint(select.__all__)
    for module in modules - {"__init__"}:
        importlib.import_module(f"dsqformat.select.{module}")
    assert callable(select.texture_scores)


def test_functions_that_are_documented_exist():
    named = set(re.findall(r"`([a-z_]+|[A-Z][A-Za-z0-9]+)`", DOCUMENT.read_text("utf-8")))
    rows = [line for line in DOCUMENT.read_text("utf-8").splitlines() if line.startswith("| `")]
    for row in rows:
        for name in re.findall(r"`(\w+)`", row.split("|")[1]):
            assert name in select.__all__, name
    functions = {name for name in select.__all__ if callable(getattr(select, name))}
    # What selects is in the table.
    assert {name for name in functions if "coreset" in name or "levels" in name} <= named


def test_the_example_runs(tmp_path, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.S)
    script = tmp_path / "example.py"
    script.write_text(code, "utf-8")
    names = runpy.run_path(str(script))
    assert "multiply-adds" in capsys.readouterr().out
    assert sorted(set(names["bits"].tolist())) in ([2, 4, 8], [2, 4], [4, 8], [2, 8])


def test_selection_imports_neither_torch_nor_a_network():
    code = (
        "import sys, importlib, dsqformat.select as s\n"
        "[getattr(s, name) for name in s.__all__]\n"
        "print(sorted({'torch', 'urllib3', 'fastapi', 'pyarrow', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
