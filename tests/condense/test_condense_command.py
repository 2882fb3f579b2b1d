"""`dsq condense`: what it prints, keeps and refuses in one line."""

import json
import os

import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

from dsqformat import open_dataset
from inputs import run_dsq, spawn_dsq
from recipe_runs import SMALL, write_source


@pytest.fixture
def dsq(capsys):
    return lambda *args: run_dsq(capsys, *args)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("source") / "striped.npz")


def settings(name, *more):
    return [word for setting in (*SMALL[name], *more) for word in ("--set", setting)]


def test_recipes_are_listed_with_one_line_each(dsq):
    done = dsq("condense", "--recipes")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(SMALL)
    assert max(map(len, lines)) <= 120


def test_a_recipe_is_shown_as_it_may_be_changed(dsq, tmp_path, source):
    done = dsq("condense", "--show", "lsq-fixed")
    (tmp_path / "mine.toml").write_text(done.out.replace("bits = 8", "bits = 5"))
    command = ["condense", source, tmp_path / "d", "--recipe", tmp_path / "mine.toml"]
    done = dsq(*command, "--set", "quantize.coding=zstd", "--no-report", "--json", "--limit", 30)
    assert done.code == 0, done.err
    assert done.json["samples"] == done.json["source"] == 30
    with open_dataset(tmp_path / "d") as dataset:
        assert dataset.snapshot.provenance["condense"]["recipe"]["bits"]["bits"] == 5


def test_a_run_tells_its_bytes_beside_others_and_where_its_work_is(dsq, tmp_path, source):
    command = ["condense", source, tmp_path / "d", "--recipe", "dq", *settings("dq")]
    done = dsq(*command)
    assert done.code == 0, done.err
    # The estimate comes before the work.
    assert done.err.startswith("GraphCut: ")
    assert "30 of 120" in done.out
    for name in ("float32", "uint8", "PNG", "WebP, lossless"):
        assert f"% of {name}" in done.out
    assert f"{tmp_path / 'd.work'}, " in done.out
    assert (tmp_path / "d.work" / "report.html").is_file()
    again = dsq(*command, "--json")
    assert again.code == 0
    assert again.json["published"] is False
    assert all(again.json["stages"].values())
    kept = json.loads((tmp_path / "d.work" / "report.json").read_text())
    assert again.json["report"] == kept


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--recipe", "nope"], "recipe 'nope': neither a file nor one of "),
        (["--recipe", "dq", "--set", "select.bins=x"], "dq: select.bins: got 'x', expected"),
        (["--recipe", "none.toml"], "none.toml: No such file or directory"),
    ],
)
def test_errors_are_one_line(dsq, tmp_path, source, args, line):
    done = dsq("condense", source, tmp_path / "d", *args)
    assert done.code == 1
    assert done.err.startswith(f"dsq: error: {line}")
    assert done.err.count("\n") == 1


def test_wrong_usage_is_code_2(dsq, tmp_path, source):
    assert dsq("condense", source, tmp_path / "d").code == 2
    assert dsq("condense", source, tmp_path / "d", "--recipe", "dq", "--limit", 0).code == 2


def test_a_missing_extra_is_one_line_with_its_remedy(tmp_path, source, monkeypatch):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(name='torch')")
    command = ["condense", source, tmp_path / "d", "--recipe", "lsq-adaptive-8-0"]
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), before])))
    done = spawn_dsq(*command)
    assert done.code == 1
    assert done.err == (
        "dsq: error: `dsq condense` needs torch, which is not installed: "
        "pip install 'dsqformat[build]'\n"
    )
