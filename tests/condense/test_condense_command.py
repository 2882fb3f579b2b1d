"""`dsq condense`: what it prints, keeps and refuses in one line."""

import io
import json
import os

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

from dsqformat import open_dataset
from dsqformat.select import make_bins
from inputs import make_tar, run_dsq, spawn_dsq
from recipe_runs import COUNT, SMALL, write_source


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
        (["--recipe", "nope"], "recipe 'nope': neither a .toml nor a dataset nor one of "),
        (["--recipe", "dq", "--set", "select.bins=x"], "dq: select.bins: got 'x', expected"),
        (["--recipe", "none.toml"], "none.toml: No such file or directory"),
    ],
)
def test_errors_are_one_line(dsq, tmp_path, source, args, line):
    done = dsq("condense", source, tmp_path / "d", *args)
    assert done.code == 1
    assert done.err.startswith(f"dsq: error: {line}")
    assert done.err.count("\n") == 1


@pytest.fixture(scope="module")
def bad_inputs(tmp_path_factory):
    """What is wrong with samples, by a name that stands for the path."""
    import torch

    from dsqformat.condense.networks import small_resnet

    folder = tmp_path_factory.mktemp("bad")
    rare = np.array([1] * 3 + [0] * (COUNT - 3))
    features = np.ones((COUNT, 4))
    features[7, 2] = np.nan
    np.save(folder / "nan.npy", features)
    torch.save(small_resnet(3, 5).state_dict(), folder / "five.pt")
    write_source(folder / "unlabelled.npz", labels=False)
    write_source(folder / "rare.npz", y=rare)
    write_source(folder / "good.npz")
    return folder


@pytest.mark.parametrize(
    ("source_name", "name", "more", "line", "remedy"),
    [
        ("unlabelled", "dq", [], "needs the class of each sample", "name one with --label"),
        ("rare", "dq", ["features.kind=file", "features.file={}/ones.npy"],
         "class 1: 3 samples are fewer than the 4 bins", "ask for at most 3 bins"),
        ("good", "dq", ["features.kind=file", "features.file={}/nan.npy"],
         "features of sample 7 are NaN", "leave the sample out"),
        ("good", "dq", ["select.keep_ratio=0"], "keep_ratio: got 0", "more than 0 and at most 1"),
        ("good", "dq", ["select.keep_ratio=2"], "keep_ratio: got 2", "more than 0 and at most 1"),
        ("good", "budget", ["bits.bytes_per_sample=5"], "budget of 600 bytes: the smallest",
         "ask for more, or keep fewer"),
        ("good", "lsq-adaptive-8-0", ["train.weights={}/five.pt"], "size mismatch for head.weight",
         "choose the network it was made with"),
    ],
)  # fmt: skip
def test_bad_samples_are_one_line_with_its_remedy(
    dsq, tmp_path, bad_inputs, source_name, name, more, line, remedy
):
    np.save(bad_inputs / "ones.npy", np.ones((COUNT, 4)))
    words = settings(name, *(setting.format(bad_inputs) for setting in more))
    source = bad_inputs / f"{source_name}.npz"
    done = dsq("condense", source, tmp_path / "d", "--recipe", name, "--no-report", *words)
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert last.startswith("dsq: error: ")
    assert line in last
    assert remedy in last
    # The estimate of bins may stand before it.
    assert all(told.startswith("GraphCut: ") for told in done.err.splitlines()[:-1])
    assert not (tmp_path / "d").exists()


def test_a_device_that_is_not_there_is_one_line(dsq, tmp_path, source):
    command = ["condense", source, tmp_path / "d", "--recipe", "lsq-fixed", "--device", "abacus"]
    done = dsq(*command)
    assert done.code == 1
    assert done.err.startswith("dsq: error: device 'abacus': ")
    assert done.err.endswith("(use auto, cpu or cuda)\n")


def test_wrong_usage_is_code_2(dsq, tmp_path, source):
    assert dsq("condense", source, tmp_path / "d").code == 2
    assert dsq("condense", source, tmp_path / "d", "--recipe", "dq", "--limit", 0).code == 2


SUBJECTS = {
    "sea": ["wave", "tide", "salt", "boat", "gull", "foam", "reef", "harbour"],
    "wood": ["moss", "pine", "owl", "bark", "fern", "root", "deer", "trail"],
}


def test_texts_are_condensed_by_features_of_ones_own(dsq, tmp_path):
    """Texts of any length as raw fields, bins of them all from counts of words."""
    rng = np.random.default_rng(0)
    words = sorted(word for subject in SUBJECTS.values() for word in subject)
    texts = [
        " ".join(rng.choice(SUBJECTS[subject], rng.integers(3, 30)))
        for subject in rng.choice(sorted(SUBJECTS), 60)
    ]
    counts = np.array([[text.split().count(word) for word in words] for text in texts], "f4")
    np.save(tmp_path / "counts.npy", counts)
    samples = {}
    for number, text in enumerate(texts):
        file = io.BytesIO()
        np.save(file, np.frombuffer(text.encode(), "u1"))
        samples[f"{number:04}"] = {"npy": file.getvalue()}
    source = make_tar(tmp_path / "texts.tar", samples)
    recipe = tmp_path / "texts.toml"
    recipe.write_text(
        "[features]\n"
        f"kind = 'file'\nfile = '{tmp_path / 'counts.npy'}'\n"
        "[select]\n"
        "method = 'bins'\nbins = 5\nkeep_ratio = 0.5\nmetric = 'dot'\nper_class = false\n"
        "[quantize]\n"
        "quantizer = 'raw'\n"
    )
    done = dsq("condense", source, tmp_path / "d", "--recipe", recipe, "--json", "--no-report")
    assert done.code == 0, done.err
    assert (done.json["source"], done.json["samples"]) == (60, 30)
    with open_dataset(tmp_path / "d") as dataset:
        batch = dataset.take(np.arange(30))
        keys = dataset.keys()
        (name,) = (field.name for field in dataset.schema.fields)
    bins = make_bins(counts, bin_count=5, metric="dot", per_class=False)
    for key, values, number in zip(keys, batch[name], batch["bin_id"], strict=True):
        assert np.asarray(values).tobytes().decode() == texts[int(key)]
        assert number == bins.bin_ids[int(key)]


@pytest.mark.soak
@pytest.mark.parametrize("name", ["adq-bins", "ptq-patch"])
def test_threads_do_not_matter(tmp_path, source, monkeypatch, name):
    snapshots = []
    for threads in (1, 3):
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            monkeypatch.setenv(variable, str(threads))
        command = ["condense", source, tmp_path / f"{threads}", "--recipe", name, "--json"]
        done = spawn_dsq(*command, "--no-report", *settings(name, "quantize.coding=zstd"))
        assert done.code == 0, done.err
        snapshots.append(done.json["snapshot"])
    assert snapshots[0] == snapshots[1]


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
