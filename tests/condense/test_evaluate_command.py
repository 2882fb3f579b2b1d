"""`dsq evaluate`: the table, the files, what is reused, and what it says when it cannot."""

import csv
import json
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")
pytest.importorskip("pyarrow")

from dsqformat.condense.evaluate.results import ResultFile, Run, run_key
from dsqformat.condense.evaluate.table import HEADER
from evaluated import pack, save_npz
from inputs import RUN, run_dsq, spawn_dsq

pytestmark = pytest.mark.torch

QUICK = ("--epochs", 2, "--batch", 16, "--lr", 0.1, "--device", "cpu")


@pytest.fixture
def sets(tmp_path):
    """A source, a dataset of it and a test set."""
    save_npz(tmp_path / "full.npz")
    pack(tmp_path / "four")
    save_npz(tmp_path / "test.npz", 40, 1)
    return tmp_path


@pytest.fixture
def dsq(sets, capsys, monkeypatch):
    """Run `dsq evaluate` beside the sets, with a short schedule."""
    monkeypatch.chdir(sets)
    return partial(run_dsq, capsys, "evaluate")


def cells(line):
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_the_table(dsq):
    done = dsq("full.npz", "ours=four", "four@1", "--test", "test.npz", "--seeds", 2, *QUICK,
               "--baseline", "uint8:0.1", "--baseline", "w=webp:=ours")  # fmt: skip
    assert done.code == 0, done
    header, *lines = done.out.splitlines()
    assert cells(header) == list(HEADER)
    rows = {line.split("  ")[0]: cells(line) for line in lines[:5]}
    quality = next(name for name in rows if name.startswith("w (quality "))
    assert list(rows) == ["full.npz", "ours", "four@1", "uint8:0.1", quality]
    assert rows["full.npz"][1:3] == ["80", "192.0"]
    # A tenth of the pictures is a tenth of the bytes for each picture there might have been.
    assert rows["uint8:0.1"][1:3] == ["8", "19.2"]
    assert float(rows["four@1"][2]) < float(rows["ours"][2]) < 192
    assert float(rows[quality][2]) <= float(rows["ours"][2])
    assert all(row[7] == "2" and 0 <= float(row[5]) <= 100 for row in rows.values())
    assert "10 steps of 16 pictures for every row, which makes 2 to 20 epochs" in done.out
    assert "full.npz, seed 1: " in done.err


def test_a_rerun_measures_only_what_is_new(dsq, sets):
    first = dsq("full.npz", "--test", "test.npz", "--seeds", 1, *QUICK, "--results", "r.json")
    assert first.code == 0, first
    kept = json.loads((sets / "r.json").read_text())["runs"]
    more = dsq("again=full.npz", "four", "--test", "test.npz", "--seeds", 2, *QUICK,
               "--results", "r.json", "--json")  # fmt: skip
    assert more.err.splitlines()[0].endswith("% from the results")
    assert sum("from the results" in line for line in more.err.splitlines()) == 1
    runs = json.loads((sets / "r.json").read_text())["runs"]
    assert runs[:1] == kept
    assert len(runs) == 4
    rows = more.json["rows"]
    assert [row["label"] for row in rows] == ["again", "four"]
    assert rows[0]["runs"][0]["train_s"] == kept[0]["train_s"]
    # Another schedule, another test set, other pictures: nothing of it is the same run.
    save_npz(sets / "other.npz", 40, 2)
    save_npz(sets / "full2.npz", 80, 3)
    for changed in (
        ("full.npz", "--test", "test.npz", *QUICK, "--lr", 0.2),
        ("full.npz", "--test", "other.npz", *QUICK),
        ("full2.npz", "--test", "test.npz", *QUICK),
        ("full.npz", "--test", "test.npz", *QUICK, "--limit", 40),
    ):
        done = dsq(*changed, "--seeds", 1, "--results", "r.json")
        assert "from the results" not in done.err, changed


def test_a_killed_run_loses_no_finished_row(dsq, sets):
    args = ("full.npz", "four", "--test", "test.npz", "--seeds", 2, *QUICK, "--results", "r.json")
    # Long enough that it is killed while later runs are on their way.
    slow = [*RUN, "evaluate", *map(str, args), "--steps", "60"]
    with subprocess.Popen(slow, cwd=sets, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 120
            while not (sets / "r.json").exists() and time.monotonic() < deadline:
                assert process.poll() is None
                time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGKILL)
    kept = json.loads((sets / "r.json").read_text())["runs"]
    assert kept[0]["label"] == "full.npz"
    assert len(kept) < 4
    done = dsq(*args, "--steps", 60, "--json")
    assert done.code == 0, done
    assert sum("from the results" in line for line in done.err.splitlines()) == len(kept)
    assert done.json["rows"][0]["runs"][0]["right"] == kept[0]["right"]
    assert [path.name for path in sets.glob("*.part")] == []


def test_as_a_real_process_with_all_its_files(sets):
    done = spawn_dsq(
        "evaluate", "full.npz", "four", "--test", "test.npz", "--seeds", 2, *QUICK, "--json",
        "--csv", "runs.csv", "--plot", "plot.svg", "--results", "new/r.json", cwd=sets,
    )  # fmt: skip
    assert done.code == 0, done
    rows = done.json["rows"]
    assert done.json["schedule"]["steps"] == 10
    with (sets / "runs.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["label"], line["seed"]) for line in lines] == [
        ("full.npz", "0"), ("full.npz", "1"), ("four", "0"), ("four", "1"),
    ]  # fmt: skip
    for row, pair in zip(rows, (lines[:2], lines[2:]), strict=True):
        found = [float(line["accuracy"]) for line in pair]
        assert row["accuracy"] == pytest.approx(sum(found) / 2)
        assert row["spread"] == pytest.approx(abs(found[0] - found[1]) / 2**0.5, abs=1e-5)
        assert row["nbytes_per_sample"] * 80 == pytest.approx(row["fetched_nbytes"])
    plot = (sets / "plot.svg").read_text()
    assert "four" in plot
    assert "bytes fetched per sample of the 80" in plot
    assert (sets / "new" / "r.json").exists()


def test_the_same_results_draw_the_same_picture(dsq, sets):
    args = ("full.npz", "--test", "test.npz", "--seeds", 1, *QUICK, "--results", "r.json")
    for name in ("a.svg", "b.svg"):
        assert dsq(*args, "--plot", name).code == 0
    assert (sets / "a.svg").read_bytes() == (sets / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("gone.npz",), "gone.npz: No such file or directory"),
        (("full.npz@2",), "only datasets have layers"),
        (("four@7",), "has 2 layers, @7 asks for more"),
        (("full.npz", "--device", "abacus"), "use auto, cpu or cuda"),
        (("full.npz", "--results", "full.npz"), "not results of this version"),
    ],
)
def test_errors_are_one_line(dsq, args, message):
    assert message in dsq(*args, "--test", "test.npz", *QUICK[:-2]).error_line


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("full.npz", "full.npz"), "two rows are called"),
        (("four", "--baseline", "uint8:0.1"), "name them with --source"),
        (("full.npz", "--baseline", "png:1"), "expected uint8:FRACTION"),
        (("full.npz", "--limit", 1), "expected 2 or more"),
        (("full.npz", "--plot", "p.xyz"), "p.xyz: expected a name that ends in one of"),
        (("full.npz", "--csv", "absent/runs.csv"), "there is no folder absent"),
        (("full.npz", "--lr", -1), "expected a number above 0"),
    ],
)
def test_wrong_usage(dsq, args, message):
    done = dsq(*args, "--test", "test.npz")
    assert done.code == 2
    assert message in " ".join(done.err.replace("│", " ").split())


@pytest.mark.parametrize(("package", "args"), [("torch", ()), ("matplotlib", ("--plot", "p.svg"))])
def test_without_the_extra_one_line_says_what_to_install(sets, package, args):
    code = f"import sys; sys.modules['{package}'] = None; from dsqformat.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", "full.npz", "--test", "test.npz", *args],
        cwd=sets, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        f"dsq: error: `dsq evaluate` needs {package}, which is not installed: "
        "pip install 'dsqformat[build]'\n"
    )


def test_help_needs_neither_torch_nor_matplotlib():
    code = (
        "import sys\nfrom dsqformat.cli import main\n"
        "try:\n    main(['evaluate', '--help'])\n"
        "except SystemExit:\n    print(*sys.modules, sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert not {"torch", "matplotlib", "timm", "pyarrow", "PIL"} & set(done.stdout.split())


# Results ---------------------------------------------------------------------------------------


def made_run(**changed):
    values = {
        "key": "k", "seed": 0, "label": "a", "kind": "uint8", "setting": "", "sample_count": 8,
        "fetched_nbytes": 80, "stored_nbytes": 90, "right": 3, "test_count": 4, "last_loss": 0.5,
        "train_s": 1.0, "cpu_s": 1.0, "schedule": {}, "torch": "2",
    }  # fmt: skip
    return Run(**(values | changed))


def test_two_processes_may_share_a_file(tmp_path):
    one, other = ResultFile(tmp_path / "r.json"), ResultFile(tmp_path / "r.json")
    one.add(made_run())
    other.add(made_run(seed=1))
    both = ResultFile(tmp_path / "r.json")
    assert both.find("k", 0) == made_run()
    assert both.find("k", 1) == made_run(seed=1)
    assert both.find("k", 2) is None


def test_keys_depend_on_all_that_matters():
    keys = {
        run_key(row, schedule, test)
        for row in ({"a": 1}, {"a": 2}, {"a": 0.1})
        for schedule in ({"lr": 0.1}, {"lr": 0.2})
        for test in ("x", "y")
    }
    assert len(keys) == 12
    assert run_key({"a": 1, "b": None}, {}, "") == run_key({"b": None, "a": 1}, {}, "")
