"""NumPy archives: names, types, and what is refused."""

import os
import zipfile

import numpy as np
import pytest

from dsqformat.errors import SampleError, SourceError
from dsqformat.schema import Column
from dsqformat.sources import SourceOptions, open_source, raise_bad
from inputs import make_npz, make_pictures


def open_npz(path, **options):
    return open_source(str(path), "npz", SourceOptions(**{"seed": None} | options))


def read_all(source):
    return list(source.samples(raise_bad))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_x_y_and_others(tmp_path, save):
    pictures = make_pictures(9)
    path = tmp_path / "a.npz"
    save(
        path,
        x=pictures,
        y=np.arange(9) % 3,
        keys=np.array([f"k{n}" for n in range(9)]),
        classes=np.array(["cat", "dog", "owl"]),
        mask=np.asfortranarray(pictures[..., 0] > 50).astype(">i2"),
        weight=np.linspace(0, 1, 9, dtype="f4"),
        name=np.array([f"é{n}" for n in range(9)]),
        tag=np.array([b"t"] * 9),
    )
    source = open_source(str(path), None, SourceOptions(seed=None))
    assert source.facts.kind == "npz"
    assert {n: (f.dtype, f.shape) for n, f in source.facts.fields.items()} == {
        "image": ("uint8", (12, 12, 3)),
        "mask": ("int16", (12, 12)),
    }
    assert source.facts.columns == (
        Column("name", "utf8"),
        Column("tag", "bytes"),
        Column("weight", "float32"),
        Column("label", "int64", ("cat", "dog", "owl")),
    )
    for number, sample in enumerate(read_all(source)):
        assert sample.key == f"k{number}"
        assert np.array_equal(sample.values["image"], pictures[number])
        assert np.array_equal(sample.values["mask"], pictures[number, ..., 0] > 50)
        assert sample.values["label"] == number % 3
        assert sample.values["name"] == f"é{number}"
        assert sample.values["weight"] == np.float32(number / 8)
    source.close()


def test_order_limit_and_no_keys(tmp_path):
    path = make_npz(tmp_path / "a.npz", make_pictures(20), keys=np.array(["k"] * 20))
    source = open_npz(path, seed=5, limit=6, keyed=False)
    assert source.facts.shuffled
    samples = read_all(source)
    assert [s.key for s in samples] == [None] * 6
    labels = [s.values["label"] for s in samples]
    again = [s.values["label"] for s in read_all(open_npz(path, seed=5, limit=6))]
    assert labels == again
    assert [s.values["label"] for s in read_all(open_npz(path, limit=4))] == [0, 1, 2, 0]


def test_splits(tmp_path):
    pictures = make_pictures(9)
    path = tmp_path / "a.npz"
    classes = np.array(["a", "b"])
    np.savez(path, x_train=pictures[:5], y_train=np.zeros(5, "i8"), classes=classes)
    assert open_npz(path).facts.sample_count == 5
    np.savez(
        path,
        x_train=pictures[:5],
        y_train=np.zeros((5, 1), "u1"),
        x_test=pictures[5:],
        y_test=np.ones((4, 1), "u1"),
        classes=classes,
    )
    with pytest.raises(SourceError, match=r"holds the splits \['test', 'train'\]; choose one"):
        open_npz(path)
    source = open_npz(path, split="test")
    assert source.facts.label_names == ("a", "b")
    assert [s.values["label"] for s in read_all(source)] == [1] * 4
    with pytest.raises(SourceError, match="no array x_dev; there are"):
        open_npz(path, split="dev")


def test_labels_of_other_types(tmp_path):
    path = tmp_path / "a.npz"
    pictures = make_pictures(3)
    np.savez(path, x=pictures, y=np.array(["owl", "cat", "owl"]))
    source = open_npz(path)
    assert source.facts.label_names == ("cat", "owl")
    assert [s.values["label"] for s in read_all(source)] == [1, 0, 1]
    np.savez(path, x=pictures, y=np.array([0.5, 1.5, 2.5]))
    assert open_npz(path).facts.columns == (Column("label", "float64"),)
    np.savez(path, x=pictures, y=np.eye(3, dtype="f4"))
    source = open_npz(path)
    assert list(source.facts.fields) == ["image", "y"]
    assert source.facts.columns == ()


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_objects_are_refused_and_never_run(tmp_path):
    proof = tmp_path / "proof"
    path = tmp_path / "a.npz"
    objects = np.array([Payload(str(proof))] * 3, dtype=object)
    np.savez(path, x=make_pictures(3), y=objects)
    with pytest.raises(SampleError, match=r"a\.npz: y: holds Python objects"):
        open_npz(path)
    assert not proof.exists()
    assert open_npz(path, drop=("y",)).facts.sample_count == 3


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"images": np.zeros(3)}, r"no array x, only \['images'\]; expected x and y"),
        ({"x": np.zeros((3, 2), "f4"), "y": np.zeros(4)}, r"'y' has shape \[4\], expected 3"),
        ({"x": np.zeros((3, 2), "f4"), "w": np.float64(1)}, r"'w' has shape \[\], expected 3"),
        ({"x": np.zeros((0, 2), "f4")}, "no samples"),
        ({"x": np.float32(1)}, "no samples"),
        ({"x": np.zeros((3, 2), "c8")}, "dtype complex64, expected one of uint8"),
        ({"x": np.zeros((3, 2), "f4"), "when": np.zeros(3, "M8[s]")}, "--drop it"),
    ],
)
def test_archives_that_are_no_source(tmp_path, arrays, says):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(SourceError, match=says):
        open_npz(tmp_path / "a.npz")


def test_damaged_archives(tmp_path):
    path = make_npz(tmp_path / "a.npz", make_pictures(3))
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(SourceError, match="not a readable"):
        open_npz(path)
    at = whole.index(make_pictures(3).tobytes()[:40]) + 5
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(SourceError, match="Bad CRC-32"):
        open_npz(path)
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(SourceError, match="not a readable"):
        open_npz(path)


def test_an_array_that_says_more_than_it_has(tmp_path):
    header = b"\x93NUMPY\x01\x00\x76\x00"
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (9, 1000000000), }"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", header + text.ljust(117) + b"\n" + b"short")
        archive.writestr("notes.npy", b"no array")
    with pytest.raises(SampleError, match="x: 5 bytes, expected 9000000000"):
        open_npz(tmp_path / "a.npz", drop=("notes",))
    with pytest.raises(SampleError, match=r"notes: not a \.npy array"):
        open_npz(tmp_path / "a.npz", drop=("x",))
