"""`dsq unpack`: every kind of source to every kind of target and back, and safe names."""

import re
import tarfile

import numpy as np
import pytest

pytest.importorskip("PIL")
pytest.importorskip("pyarrow")
pytest.importorskip("webdataset")

from PIL import Image

from dsqformat import DatasetWriter, FieldSpec, open_dataset
from dsqformat.commands.safe_names import file_stem, safe_component, tar_key
from dsqformat.sources import SourceOptions, open_source, raise_bad
from inputs import CLASSES, SOURCES, listing, make_npz, make_pictures, make_source

TARGETS = {"folder": "out", "npz": "out.npz", "webdataset": "out.tar"}


def ok(done):
    assert done.code == 0, done.err
    return done


def pairs(path):
    """(picture, label) of all samples of any source, as a set."""
    source = open_source(str(path), None, SourceOptions())
    main = next(iter(source.facts.fields))
    return {(s.values[main].tobytes(), s.values["label"]) for s in source.samples(raise_bad)}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", SOURCES)
def test_there_and_back(tmp_path, dsq, kind, target):
    pictures = make_pictures(30)
    source = make_source(kind, tmp_path / "in", pictures)
    out = tmp_path / TARGETS[target]
    ok(dsq("pack", source, tmp_path / "d", "--no-compare"))
    assert "sound" in ok(dsq("verify", tmp_path / "d")).out
    report = ok(dsq("unpack", tmp_path / "d", out, "--json")).json
    assert (report["kind"], report["sample_count"], report["layers"]) == (target, 30, 3)
    nbytes = [path.stat().st_size for path in [out, *out.rglob("*")] if path.is_file()]
    assert (report["file_count"], report["nbytes"]) == (len(nbytes), sum(nbytes))
    assert pairs(out) == {(picture.tobytes(), n % 3) for n, picture in enumerate(pictures)}
    ok(dsq("pack", out, tmp_path / "again", "--no-compare"))
    with open_dataset(tmp_path / "again") as dataset:
        again = dataset.to_numpy()
        main = dataset.schema.fields[0].name
        found = {(p.tobytes(), int(n)) for p, n in zip(again[main], again["label"], strict=True)}
    assert found == pairs(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["in", "d", TARGETS[target], "again"]
    )


def test_a_folder_keeps_classes_and_names(tmp_path, dsq):
    pictures = make_pictures(9)
    source = make_source("folder", tmp_path / "in", pictures)
    ok(dsq("pack", source, tmp_path / "d"))
    ok(dsq("unpack", tmp_path / "d", tmp_path / "out"))
    names = {str(path.relative_to(source)) for path in source.rglob("*.png")}
    assert {str(p.relative_to(tmp_path / "out")) for p in tmp_path.glob("out/**/*.png")} == names
    for name in names:
        with Image.open(source / name) as a, Image.open(tmp_path / "out" / name) as b:
            assert np.array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("suffix", ["png", "webp"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_picture_formats_keep_every_value(tmp_path, dsq, suffix, mode):
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (6, 9, 7, *channels)).astype("u1")
    make_npz(tmp_path / "a.npz", pictures)
    ok(dsq("pack", tmp_path / "a.npz", tmp_path / "d", "--no-compare"))
    ok(dsq("unpack", tmp_path / "d", tmp_path / "out", "--format", suffix))
    ok(dsq("unpack", tmp_path / "d", tmp_path / "o.tar", "--format", suffix))
    expected = {picture.tobytes() for picture in pictures}
    for path in (tmp_path / "out", tmp_path / "o.tar"):
        ok(dsq("pack", path, tmp_path / f"{path.name}-d", "--mode", mode, "--no-compare"))
        with open_dataset(tmp_path / f"{path.name}-d") as dataset:
            assert {p.tobytes() for p in dataset.to_numpy()["image"]} == expected


def test_fewer_layers(tmp_path, dsq):
    make_npz(tmp_path / "a.npz", make_pictures(12))
    ok(dsq("pack", tmp_path / "a.npz", tmp_path / "d", "--keep-order"))
    for layers in (1, 2, 3, 9):
        out = tmp_path / f"{layers}.npz"
        report = ok(dsq("unpack", tmp_path / "d", out, "--layers", layers, "--json")).json
        assert report["layers"] == min(layers, 3)
        with open_dataset(tmp_path / "d") as dataset, np.load(out) as arrays:
            expected = dataset.to_numpy(layers=layers)["image"]
            assert np.array_equal(arrays["x"], expected)
    assert dsq("unpack", tmp_path / "d", tmp_path / "o", "--layers", 0).code == 2


def test_an_npz_has_everything(tmp_path, dsq):
    pictures = make_pictures(7)
    arrays = {
        "keys": np.array([f"é/{n}" for n in range(7)]),
        "classes": np.array(CLASSES),
        "weight": np.linspace(0, 1, 7),
        "text": np.array([f"t{n}" * n for n in range(7)]),
        "blob": np.array([b"ab", b"c"] * 3 + [b""]),
        "vector": np.arange(14, dtype="f4").reshape(7, 2),
    }
    source = make_npz(tmp_path / "a.npz", pictures, **arrays)
    ok(dsq("pack", source, tmp_path / "d", "--keep-order", "--raw", "vector"))
    ok(dsq("unpack", tmp_path / "d", tmp_path / "b.npz"))
    with np.load(tmp_path / "b.npz", allow_pickle=False) as found:
        assert set(found.files) == {"x", "y", *arrays}
        assert np.array_equal(found["x"], pictures)
        assert np.array_equal(found["y"], np.arange(7) % 3)
        for name, array in arrays.items():
            assert np.array_equal(found[name], array), name


def test_a_tar_has_everything(tmp_path, dsq):
    rng = np.random.default_rng(0)
    samples = [
        {
            "image": rng.integers(0, 255, (5, 6, 3)).astype("u1"),
            "seg": rng.integers(0, 3, (5, 6)).astype("u1"),
            "vector": rng.random((2, 3)).astype("f4"),
            "label": n % 2,
            "text": f"é {n}",
            "note": "n",
            "sound": bytes([n, 0]),
            "png": b"no picture",
            "weight": n / 3,
            "count": n,
        }
        for n in range(5)
    ]
    fields = {"image": FieldSpec(), "seg": FieldSpec(), "vector": FieldSpec("raw")}
    with DatasetWriter(tmp_path / "d", fields=fields, shuffle=False) as writer:
        for n, sample in enumerate(samples):
            writer.write(sample, key=f"a.b/c.{n}.jpg")
    report = ok(dsq("unpack", tmp_path / "d", tmp_path / "o.tar", "--json")).json
    assert report["left_out"] == []
    source = open_source(str(tmp_path / "o.tar"), None, SourceOptions())
    for n, sample in enumerate(source.samples(raise_bad)):
        expected = dict(samples[n])
        expected["png_bin"] = expected.pop("png")
        assert sample.key == f"a.b/c_{n}"
        assert sample.values.keys() == expected.keys()
        for name, value in expected.items():
            found = sample.values[name]
            if name == "seg":
                found = found[..., 0]
            same = np.array_equal(found, value) if isinstance(value, np.ndarray) else found == value
            assert same, name


def test_a_folder_of_tars(tmp_path, dsq):
    make_npz(tmp_path / "a.npz", make_pictures(50, 16))
    ok(dsq("pack", tmp_path / "a.npz", tmp_path / "d", "--chunk-size", "4KiB"))
    args = ("--to", "webdataset", "--samples-per-tar", 20)
    report = ok(dsq("unpack", tmp_path / "d", tmp_path / "out", *args, "--json")).json
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        f"out-{n:06d}.tar" for n in range(report["file_count"])
    ]
    assert report["file_count"] > 1
    assert len(pairs(tmp_path / "out")) == 50


def test_what_a_folder_cannot_hold_is_told(tmp_path, dsq):
    extra = {"weight": np.zeros(4), "other": np.zeros((4, 2, 2), "u1")}
    make_npz(tmp_path / "a.npz", make_pictures(4), classes=np.array(["b", "a", "c"]), **extra)
    ok(dsq("pack", tmp_path / "a.npz", tmp_path / "d"))
    done = ok(dsq("unpack", tmp_path / "d", tmp_path / "out"))
    assert "left out: 'other', 'weight', the numbers of the labels" in done.out
    done = ok(dsq("unpack", tmp_path / "d", tmp_path / "other", "--field", "other"))
    with Image.open(next((tmp_path / "other").rglob("*.png"))) as picture:
        assert picture.size == (2, 2)
    assert dsq("unpack", tmp_path / "d", tmp_path / "x", "--field", "none").code == 2


def test_pictures_of_different_sizes(tmp_path, dsq):
    with DatasetWriter(tmp_path / "d", shuffle=False) as writer:
        for n in range(4):
            writer.write({"image": make_pictures(1, 5 + n)[0]})
    before = listing(tmp_path)
    line = dsq("unpack", tmp_path / "d", tmp_path / "o.npz").error_line
    assert "samples differ in shape" in line
    assert listing(tmp_path) == before
    ok(dsq("unpack", tmp_path / "d", tmp_path / "out"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        f"{n:08d}.png" for n in range(4)
    ]


def test_samples_that_are_no_pictures(tmp_path, dsq):
    make_npz(tmp_path / "a.npz", np.zeros((3, 4, 5), "f4"))
    ok(dsq("pack", tmp_path / "a.npz", tmp_path / "d"))
    before = listing(tmp_path)
    line = dsq("unpack", tmp_path / "d", tmp_path / "out").error_line
    assert "float32[4, 5] is no picture" in line
    assert "--to npz" in line
    assert listing(tmp_path) == before
    ok(dsq("unpack", tmp_path / "d", tmp_path / "o.npz"))


def test_no_samples(tmp_path, dsq):
    spec = FieldSpec(dtype="uint8", shape=(4, 4))
    with DatasetWriter(tmp_path / "d", fields={"image": spec}):
        pass
    for name in TARGETS.values():
        ok(dsq("unpack", tmp_path / "d", tmp_path / name))
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays["x"].shape == (0, 4, 4)
    assert list((tmp_path / "out").iterdir()) == []


def test_existing_targets_are_left_alone(tmp_path, dsq):
    make_npz(tmp_path / "a.npz", make_pictures(3))
    ok(dsq("pack", tmp_path / "a.npz", tmp_path / "d"))
    (tmp_path / "out").mkdir()
    ok(dsq("unpack", tmp_path / "d", tmp_path / "out"))
    before = listing(tmp_path)
    for name in ("out", "a.npz", "d"):
        line = dsq("unpack", tmp_path / "d", tmp_path / name).error_line
        assert "exists already" in line
    assert "no dataset here" in dsq("unpack", tmp_path / "out", tmp_path / "x").error_line
    assert listing(tmp_path) == before


def test_a_damaged_dataset_leaves_nothing(tmp_path, dsq):
    make_npz(tmp_path / "a.npz", make_pictures(30, 30))
    ok(dsq("pack", tmp_path / "a.npz", tmp_path / "d", "--chunk-size", "8KiB"))
    shard = next((tmp_path / "d" / "blobs").glob("*.dsq"))
    data = bytearray(shard.read_bytes())
    data[-3000] ^= 1
    shard.write_bytes(data)
    before = listing(tmp_path)
    for name in TARGETS.values():
        assert "CRC-32C" in dsq("unpack", tmp_path / "d", tmp_path / name).error_line
        assert listing(tmp_path) == before


# Names -----------------------------------------------------------------------------------------

NASTY = [
    "../../escaped",
    "/etc/passwd",
    "..",
    ".",
    "a/../../../b",
    "C:\\windows\\x.png",
    "nul\0byte",
    "new\nline",
    ".hidden",
    "x" * 4000,
    "é" * 300,
    "a.b.c.jpg",
    "__meta__/x",
    "a/b",
    "a_b",
    "dot.",
    "A_b",
    "   ",
]


def test_names_never_lead_out_of_the_target(tmp_path, dsq):
    pictures = make_pictures(len(NASTY))
    with DatasetWriter(tmp_path / "d", names={"label": ["../up", "/abs", ".."]}) as writer:
        for n, key in enumerate(NASTY):
            writer.write({"image": pictures[n], "label": n % 3}, key=key)
    before = listing(tmp_path)
    ok(dsq("unpack", tmp_path / "d", tmp_path / "in" / "out"))
    ok(dsq("unpack", tmp_path / "d", tmp_path / "in" / "o.tar"))
    after = {name for name in listing(tmp_path) if name not in before}
    assert all(name == "in" or name.startswith("in/") for name in after)
    assert len(pairs(tmp_path / "in" / "out")) == len(NASTY)
    assert len(pairs(tmp_path / "in" / "o.tar")) == len(NASTY)
    with tarfile.open(tmp_path / "in" / "o.tar") as tar:
        for name in tar.getnames():
            assert not name.startswith("/")
            assert ".." not in name.split("/")


@pytest.mark.parametrize("text", [*NASTY, ""])
def test_one_part_of_a_path(text):
    name = safe_component(text)
    assert name not in ("", ".", "..")
    assert not name.startswith(".")
    assert not re.search(r"[\x00-\x1f/\\]", name)
    assert len(name.encode()) <= 120
    key = tar_key(text, 3)
    assert re.fullmatch(r"(?:.*/|)[^./]+", key)


def test_stems():
    assert file_stem("cat/001.png", 5, "cat") == "001"
    assert file_stem("cat/001.png", 5, "dog") == "cat_001"
    assert file_stem("cat/sub/001.v2.jpeg", 5, "cat") == "sub_001.v2"
    assert file_stem("001", 5, "001") == "001"
    assert file_stem("///", 5, "x") == "00000005"
    assert file_stem(None, 5, "x") == "00000005"
