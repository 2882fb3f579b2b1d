"""`dsq info` and `dsq gc`."""

import json
import os
import sys

import numpy as np
import pytest

pytest.importorskip("PIL")
pytest.importorskip("pyarrow")

from PIL import Image

from dsqformat import DatasetWriter, FieldSpec
from dsqformat.commands.histograms import count_samples
from dsqformat.dataset import open_dataset
from inputs import CLASSES, listing, make_pictures


def write(path, *, table=True, mode="create", start=0, count=40, ref="main"):
    spec = {"image": FieldSpec(), "vector": FieldSpec("lsq", 7, (3,))}
    options = {"fields": spec, "names": {"label": CLASSES}, "chunk_nbytes": 4000}
    with DatasetWriter(
        path, shard_nbytes=12000, table=table, mode=mode, ref=ref, **options
    ) as writer:
        for n, picture in enumerate(make_pictures(count, 16), start):
            sample = {
                "image": picture,
                "vector": np.linspace(-1, 1, 6, dtype="f4") * n,
                "label": n % 3,
                "weight": float("nan") if n == 1 else n / 2,
                "blob": b"abc",
            }
            writer.write(sample, key=f"k{n}", bit_width=4 if n % 4 else 8)
    return path


def test_everything_is_told(tmp_path, dsq):
    report = dsq("info", write(tmp_path / "d"), "--json", "--shards", "--samples", 3).json
    assert report["kind"] == "dataset"
    assert (report["sample_count"], report["has_keys"]) == (40, True)
    assert report["refs"] == {"main": report["snapshot"]}
    assert [field["name"] for field in report["schema"]["fields"]] == ["image", "vector"]
    assert report["settings"] == {
        "image.bit_width": {"4": 30, "8": 10},
        "vector.bit_width": {"4": 30, "8": 10},
    }
    assert report["labels"] == {"cat": 14, "dog": 13, "owl": 13}
    files = [p for p in (tmp_path / "d").rglob("*") if p.is_file() and p.name[0] != "."]
    assert report["nbytes"]["total"] == sum(path.stat().st_size for path in files)
    assert len(report["shards"]) == report["shard_count"] > 1
    assert sum(shard["sample_count"] for shard in report["shards"]) == 40
    with open_dataset(tmp_path / "d") as dataset:
        for number, listed in enumerate(report["samples"]):
            sample = dataset[number]
            assert dataset.position_of(listed["key"]) == number
            assert listed["label"] == sample["label"]
            assert listed["blob"] == "3 bytes"


def test_the_text_holds_the_same(tmp_path, dsq):
    done = dsq("info", write(tmp_path / "d"), "--shards", "--samples", 40)
    assert done.code == 0
    for text in (
        "40 samples",
        "uint8[16, 16, 3]",
        "lsq (unit)",
        "4|2|rest",
        "cat, dog, owl",
        "layer.image.0",
        "image.bit_width: 30 at 4, 10 at 8",
        "labels: cat 14, dog 13, owl 13",
        "weight='nan'",
    ):
        assert text in done.out


def test_origins_of_many_words_are_told_in_few(tmp_path, dsq):
    recipe = {"recipe": {"name": "dq", "seed": 0}, "stages": [{"stage": "bits"}] * 40}
    origin = {"condense": recipe, "other": {"numbers": list(range(200))}, "plain": "words"}
    with DatasetWriter(tmp_path / "d", provenance=origin) as writer:
        writer.write({"image": np.zeros((4, 4, 3), "u1")})
    line = next(row for row in dsq("info", tmp_path / "d").out.splitlines() if "made of" in row)
    assert line.startswith("made of")
    assert "condense dq, other {'numbers'" in line
    assert "plain words" in line
    assert len(line) < 200
    assert dsq("info", tmp_path / "d", "--json").json["provenance"].items() >= origin.items()


def test_a_single_shard(tmp_path, dsq):
    path = write(tmp_path / "d")
    shards = sorted((path / "blobs").glob("*.dsq"))
    reports = [dsq("info", shard, "--json").json for shard in shards]
    assert sum(report["sample_count"] for report in reports) == 40
    for report, shard in zip(reports, shards, strict=True):
        assert report["nbytes"]["total"] == shard.stat().st_size
        assert report["sections"] == ["SCHM", "CHNK", "KEYS"]
    assert "sections" in dsq("info", shards[0], "--samples", 2).out


def test_histograms_without_a_table_are_the_same(tmp_path, monkeypatch):
    with open_dataset(write(tmp_path / "a")) as with_table:
        expected = count_samples(with_table)
        with open_dataset(write(tmp_path / "b", table=False)) as without:
            assert count_samples(without) == expected
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        assert count_samples(with_table) == expected


def test_other_refs_and_states(tmp_path, dsq):
    path = write(tmp_path / "d")
    first = dsq("info", path, "--json").json["snapshot"]
    write(path, mode="append", start=100, count=5)
    report = dsq("info", path, "--json").json
    assert (report["sample_count"], report["parent"]) == (45, first)
    assert dsq("info", path, "--ref", first, "--json").json["sample_count"] == 40
    assert "no ref 'other'" in dsq("info", path, "--ref", "other").error_line


@pytest.mark.parametrize("single", [False, True])
def test_the_picture(tmp_path, dsq, single):
    path = write(tmp_path / "d")
    target = next((path / "blobs").glob("*.dsq")) if single else path
    sheet = tmp_path / "sheet.png"
    assert dsq("info", target, "--picture", sheet, "--samples", 5).code == 0
    with Image.open(sheet) as picture:
        assert picture.size == (5 * 100 + 4, 3 * 100 + 4)
        pixels = np.asarray(picture.convert("RGB")).astype("i4")
    rows = [pixels[4 + 100 * row : 100 + 100 * row, 4:504] for row in range(3)]
    errors = [np.abs(row - rows[0]).mean() for row in rows[1:]]
    assert errors[0] > errors[1] > 0


def test_no_picture_of_what_is_none(tmp_path, dsq):
    with DatasetWriter(tmp_path / "d") as writer:
        writer.write({"x": np.zeros(5, "f4")})
    before = listing(tmp_path)
    line = dsq("info", tmp_path / "d", "--picture", tmp_path / "a.png").error_line
    assert "float32[5] is no picture" in line
    assert listing(tmp_path) == before


def test_no_samples(tmp_path, dsq):
    with DatasetWriter(tmp_path / "d", fields={"x": FieldSpec(dtype="uint8", shape=(4, 4))}):
        pass
    report = dsq("info", tmp_path / "d", "--json", "--samples", 2, "--picture", tmp_path / "a.png")
    assert report.json["sample_count"] == 0
    assert report.json["samples"] == []
    assert dsq("info", tmp_path / "d").code == 0


def test_what_is_no_dataset(tmp_path, dsq):
    assert "dataset.json is missing" in dsq("info", tmp_path).error_line
    assert "dataset.json is missing" in dsq("info", tmp_path / "absent").error_line
    (tmp_path / "a.dsq").write_bytes(
        b"something else, but long enough to be a header of 64 bytes..."
    )
    assert "not a DSQ shard" in dsq("info", tmp_path / "a.dsq").error_line
    (tmp_path / "dataset.json").write_text("{}")
    assert "format is not dsq-dataset" in dsq("info", tmp_path).error_line


# gc --------------------------------------------------------------------------------------------


def test_gc_removes_what_no_ref_reaches(tmp_path, dsq):
    path = write(tmp_path / "d")
    kept = write(tmp_path / "other")
    write(path, mode="replace", count=30)
    before = listing(path)
    dry = dsq("gc", path, "--dry-run", "--json").json
    assert listing(path) == before
    assert dry["dry_run"]
    done = dsq("gc", path, "--json").json
    assert done["removed"] == dry["removed"]
    after = listing(path)
    assert set(before) - set(after) == set(done["removed"])
    assert sum(before[name] for name in done["removed"]) == done["removed_nbytes"] > 0
    assert dsq("verify", path).code == 0
    assert "0 files, 0 B removed" in dsq("gc", path).out
    refs = json.loads((path / "dataset.json").read_bytes())["refs"]
    assert len(listing(path / "snapshots")) == len(refs) == 1
    assert dsq("gc", kept, "--json").json["removed"] == []


def test_gc_removes_what_killed_writers_left_after_an_hour(tmp_path, dsq):
    path = write(tmp_path / "d")
    for name in (".new-fresh", ".new-stale"):
        (path / "blobs" / name).write_bytes(b"half")
    table = path / "blobs" / ".table-stale"
    table.mkdir()
    (table / "samples.parquet").write_bytes(b"half")
    for stale in (path / "blobs" / ".new-stale", table):
        os.utime(stale, (0, 0))
    removed = dsq("gc", path, "--json").json["removed"]
    assert removed == ["blobs/.new-stale", "blobs/.table-stale"]
    assert (path / "blobs" / ".new-fresh").exists()
    assert not table.exists()
    assert dsq("verify", path).code == 0


def test_gc_where_there_is_none_or_somebody_writes(tmp_path, dsq):
    assert "no dataset here" in dsq("gc", tmp_path).error_line
    path = write(tmp_path / "d")
    with DatasetWriter(path, mode="replace") as writer:
        writer.write({"x": np.zeros((2, 2), "u1")})
        assert "a writer is at work" in dsq("gc", path).error_line
    assert dsq("gc", path).code == 0
