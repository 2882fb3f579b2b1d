"""`dsq pack`: what it writes and reports."""

import json

import numpy as np
import pytest

pytest.importorskip("PIL")
pytest.importorskip("pyarrow")
pytest.importorskip("webdataset")

from dsqformat import open_dataset
from inputs import (
    CLASSES,
    SOURCES,
    encoded,
    listing,
    make_folder,
    make_npz,
    make_pictures,
    make_source,
    make_tar,
    pack_json,
    tar_samples,
)


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_is_packed_exactly(tmp_path, dsq, kind):
    pictures = make_pictures(40)
    report = pack_json(dsq, make_source(kind, tmp_path / "in", pictures), tmp_path / "d")
    assert report["source"]["kind"] == kind
    assert report["sample_count"] == report["written_count"] == 40
    assert report["class_count"] == 3
    with open_dataset(tmp_path / "d") as dataset:
        field = dataset.schema.fields[0]
        assert (field.shape, field.quantizer) == ((12, 12, 3), "affine")
        batch = dataset.to_numpy()
        if kind in ("folder", "parquet"):
            assert dataset.schema.column("label").names == CLASSES
        found = {
            (picture.tobytes(), int(label))
            for picture, label in zip(batch[field.name], batch["label"], strict=True)
        }
    assert found == {(picture.tobytes(), n % 3) for n, picture in enumerate(pictures)}
    # Shuffled: not the order of the classes, nor of the source.
    assert list(batch["label"]) != sorted(batch["label"])
    assert not np.array_equal(batch[field.name], pictures)


@pytest.mark.parametrize("kind", SOURCES)
def test_keep_order(tmp_path, dsq, kind):
    pictures = make_pictures(20)
    pack_json(dsq, make_source(kind, tmp_path / "in", pictures), tmp_path / "d", "--keep-order")
    with open_dataset(tmp_path / "d") as dataset:
        batch = dataset.to_numpy()[dataset.schema.fields[0].name]
    if kind == "folder":
        pictures = np.concatenate([pictures[n::3] for n in range(3)])
    assert np.array_equal(batch, pictures)


@pytest.mark.parametrize("kind", ["folder", "webdataset"])
def test_the_same_input_and_seed_make_the_same_snapshot(tmp_path, dsq, kind):
    source = make_source(kind, tmp_path / "in", make_pictures(30))
    first = pack_json(dsq, source, tmp_path / "a", "--seed", 7)
    again = pack_json(dsq, source, tmp_path / "b", "--seed", 7)
    other = pack_json(dsq, source, tmp_path / "c", "--seed", 8)
    assert first["snapshot"] == again["snapshot"] != other["snapshot"]


def test_the_report_adds_up_to_every_byte_and_compares_honestly(tmp_path, dsq):
    pictures = make_pictures(50)
    source = make_folder(tmp_path / "in", pictures)
    report = pack_json(dsq, source, tmp_path / "d")
    files = [p for p in (tmp_path / "d").rglob("*") if p.is_file() and p.name[0] != "."]
    nbytes = report["nbytes"]
    assert nbytes["total"] == sum(path.stat().st_size for path in files)
    assert nbytes["total"] == sum(n for name, n in nbytes.items() if name != "total")
    assert report["raw_nbytes"] == pictures.nbytes
    assert report["source_nbytes"] == sum(p.stat().st_size for p in source.rglob("*.png"))
    compared = report["compared"]
    assert compared["count"] == 50
    assert compared["raw_nbytes"] == pictures.nbytes
    png = sum(len(encoded(picture, "PNG", optimize=True)) for picture in pictures)
    assert compared["png_nbytes"] == png
    webp = [encoded(p, "WEBP", lossless=True, exact=True, quality=100) for p in pictures]
    assert compared["webp_lossless_nbytes"] == sum(map(len, webp))
    assert pack_json(dsq, source, tmp_path / "e", "--no-compare")["compared"] is None


def test_members_may_come_in_any_order(tmp_path, dsq):
    samples = tar_samples(make_pictures(4))
    backwards = {key: dict(reversed(members.items())) for key, members in samples.items()}
    source = make_tar(tmp_path / "a.tar", backwards)
    assert pack_json(dsq, source, tmp_path / "d")["compared"]["count"] == 4


def test_comparison_takes_evenly_spaced_pictures(tmp_path, dsq):
    make_npz(tmp_path / "a.npz", make_pictures(450, 2))
    compared = pack_json(dsq, tmp_path / "a.npz", tmp_path / "d")["compared"]
    assert compared["count"] == 200
    make_npz(tmp_path / "b.npz", np.zeros((3, 900, 1200), "u1"))
    assert pack_json(dsq, tmp_path / "b.npz", tmp_path / "e")["compared"]["count"] == 1


def test_the_table_names_what_was_measured(tmp_path, dsq):
    done = dsq("pack", make_folder(tmp_path / "in", make_pictures(9)), tmp_path / "d")
    assert done.code == 0
    for text in (
        "9 samples of 3 classes in 1 chunk, 1 shard",
        "everything in DEST",
        "layer 0 of image",
        "source (folder)",
        "raw values (uint8)",
        "the same as float32",
        "PNG, optimised (mean of 9)",
        "WebP, lossless (mean of 9)",
    ):
        assert text in done.out


def test_options_reach_the_writer(tmp_path, dsq):
    source = make_npz(tmp_path / "a.npz", make_pictures(64, 16))
    pack_json(
        dsq, source, tmp_path / "d", "--quantizer", "lsq", "--bits", 5, "--domain", "centered",
        "--layers", "2,2", "--coding", "packed", "--chunk-size", "4KiB", "--shard-size", "16KiB",
        "--no-table", "--no-compare", "--limit", 60, "--ref", "other",
    )  # fmt: skip
    with open_dataset(tmp_path / "d", ref="other") as dataset:
        field = dataset.schema.fields[0]
        assert (field.quantizer, field.layers) == ("lsq", (2, 2))
        assert field.domain.kind == "centered"
        assert len(dataset) == 60
        assert dataset.snapshot.shard_count > 1
        assert [blob.role for blob in dataset.snapshot.blobs] == []
        assert dataset.snapshot.provenance["bits"] == 5
        assert dataset.snapshot.provenance["limit"] == 60
        assert str(tmp_path) not in json.dumps(dict(dataset.snapshot.provenance))
    pack_json(
        dsq, source, tmp_path / "e", "--quantizer", "lsq", "--domain", "normalized",
        "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--layers", "",
    )  # fmt: skip
    with open_dataset(tmp_path / "e") as dataset:
        assert dataset.schema.fields[0].domain.mean == ("0.485", "0.456", "0.406")
        assert dataset.schema.fields[0].layer_count == 1


def test_pictures_of_different_sizes(tmp_path, dsq):
    root = tmp_path / "in"
    root.mkdir()
    for number in range(6):
        (root / f"{number}.png").write_bytes(encoded(make_pictures(1, 6 + number)[0]))
    pack_json(dsq, root, tmp_path / "d", "--keep-order")
    with open_dataset(tmp_path / "d") as dataset:
        assert dataset.schema.fields[0].shape == (None, None, 3)
        for number, sample in enumerate(dataset):
            assert np.array_equal(sample["image"], make_pictures(1, 6 + number)[0])
    pack_json(dsq, root, tmp_path / "e", "--resize", 8, "--crop", 8, "--mode", "L")
    with open_dataset(tmp_path / "e") as dataset:
        assert dataset.schema.fields[0].shape == (8, 8)


def test_replace_append_and_refs(tmp_path, dsq):
    pictures = make_pictures(12)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = make_tar(tmp_path / "a" / "a.tar", tar_samples(pictures[:6]))
    second = {f"more-{key}": value for key, value in tar_samples(pictures[6:]).items()}
    second = make_tar(tmp_path / "b" / "b.tar", second)
    pack_json(dsq, first, tmp_path / "d")
    before = listing(tmp_path / "d")
    line = dsq("pack", second, tmp_path / "d").error_line
    assert line.endswith("already; choose another folder, or say --replace or --append")
    assert listing(tmp_path / "d") == before
    report = pack_json(dsq, second, tmp_path / "d", "--append")
    assert (report["sample_count"], report["written_count"]) == (12, 6)
    line = dsq("pack", second, tmp_path / "d", "--append").error_line
    assert "has it already" in line
    report = pack_json(dsq, second, tmp_path / "d", "--replace")
    assert report["sample_count"] == 6
    pack_json(dsq, first, tmp_path / "d", "--ref", "v2")
    assert set(dsq("info", tmp_path / "d", "--json").json["refs"]) == {"main", "v2"}
    assert dsq("pack", first, tmp_path / "d", "--replace", "--append").code == 2
    line = dsq("pack", first, tmp_path / "absent", "--append").error_line
    assert "no dataset with ref 'main' to append to" in line
    assert not (tmp_path / "absent").exists()


def test_labels_that_mean_something_else_are_not_appended(tmp_path, dsq):
    pictures = make_pictures(6)
    pack_json(dsq, make_folder(tmp_path / "a", pictures), tmp_path / "d")
    other = make_folder(tmp_path / "b", pictures)
    (other / "cat").rename(other / "zebra")
    before = listing(tmp_path / "d")
    line = dsq("pack", other, tmp_path / "d", "--append").error_line
    assert "has the names ['dog', 'owl', 'zebra']" in line
    assert listing(tmp_path / "d") == before
