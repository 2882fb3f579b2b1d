"""Parquet in the layout of Hugging Face, and in others."""

import numpy as np
import pytest

pytest.importorskip("PIL")
pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

from dsqformat.errors import SampleError, SourceError
from dsqformat.schema import Column
from dsqformat.sources import PictureOptions, SourceOptions, open_source, raise_bad
from inputs import CLASSES, encoded, make_parquet, make_pictures

PICTURE = encoded(np.zeros((4, 4, 3), "u1"))


def open_parquet(path, **options):
    return open_source(str(path), "parquet", SourceOptions(**options))


def read_all(source, on_bad=raise_bad):
    return list(source.samples(on_bad))


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_hugging_face_layout(tmp_path):
    pictures = make_pictures(12)
    path = make_parquet(tmp_path / "train.parquet", pictures)
    source = open_source(str(path), None, SourceOptions())
    assert source.facts.kind == "parquet"
    assert source.facts.sample_count == 12
    assert source.facts.source_nbytes == path.stat().st_size
    assert source.facts.columns == (Column("label", "int64", CLASSES),)
    assert source.facts.fields["img"].shape == (12, 12, 3)
    samples = read_all(source)
    for number, sample in enumerate(samples):
        assert sample.key == f"train/{number:04d}.png"
        assert sample.values["label"] == number % 3
        assert np.array_equal(sample.values["img"], pictures[number])
    limited = open_parquet(path, limit=7, keyed=False)
    assert limited.facts.source_nbytes == path.stat().st_size * 7 // 12
    assert [s.key for s in read_all(limited)] == [None] * 7


def test_all_column_types(tmp_path):
    columns = {
        "image": [PICTURE, PICTURE],
        "small": pa.array([1, -2], pa.int8()),
        "flag": [True, False],
        "real": pa.array([0.5, float("nan")], pa.float32()),
        "double": [0.1, 1e300],
        "word": pa.array(["a", "b"]).dictionary_encode(),
        "blob": [b"x", b""],
        "with space": ["p", "q"],
    }
    source = open_parquet(write(tmp_path / "a.parquet", **columns))
    assert [(c.name, c.type) for c in source.facts.columns] == [
        ("small", "int64"),
        ("flag", "int64"),
        ("real", "float32"),
        ("double", "float64"),
        ("word", "utf8"),
        ("blob", "bytes"),
        ("with_space", "utf8"),
    ]
    assert not source.facts.keyed
    second = read_all(source)[1].values
    assert second.pop("image").shape == (4, 4, 3)
    assert np.isnan(second.pop("real"))
    assert second == {
        "small": -2,
        "flag": 0,
        "double": 1e300,
        "word": "b",
        "blob": b"",
        "with_space": "q",
    }


def test_labels_as_text_and_under_another_name(tmp_path):
    path = write(tmp_path / "a.parquet", image=[PICTURE] * 3, kind=["owl", "cat", "owl"])
    assert open_parquet(path).facts.columns == (Column("kind", "utf8"),)
    source = open_parquet(path, label="kind")
    assert source.facts.columns == (Column("label", "int64", ("cat", "owl")),)
    assert [s.values["label"] for s in read_all(source)] == [1, 0, 1]


def test_keys_from_a_column_or_paths_that_differ(tmp_path):
    path = write(tmp_path / "a.parquet", image=[PICTURE] * 2, key=["k1", "k2"])
    source = open_parquet(path)
    assert [s.key for s in read_all(source)] == ["k1", "k2"]
    assert source.facts.columns == ()
    same = [{"bytes": PICTURE, "path": "0.png"}] * 2
    assert not open_parquet(write(tmp_path / "b.parquet", image=same)).facts.keyed
    null = [{"bytes": PICTURE, "path": None}, {"bytes": PICTURE, "path": "1.png"}]
    assert not open_parquet(write(tmp_path / "c.parquet", image=null)).facts.keyed


def test_several_files_and_splits(tmp_path):
    pictures = make_pictures(10)
    data = tmp_path / "data"
    make_parquet(data / "train-00000-of-00002.parquet", pictures[:6])
    make_parquet(data / "train-00001-of-00002.parquet", pictures[6:8])
    with_paths = open_source(str(tmp_path), None, SourceOptions())
    assert with_paths.facts.kind == "parquet"
    assert with_paths.facts.sample_count == 8
    make_parquet(data / "test-00000-of-00001.parquet", pictures[8:])
    with pytest.raises(SourceError, match=r"holds the splits \['test', 'train'\]"):
        open_parquet(tmp_path)
    source = open_parquet(tmp_path, split="test")
    assert np.array_equal(read_all(source)[1].values["img"], pictures[9])
    with pytest.raises(SourceError, match=r"expected split 'dev' among"):
        open_parquet(tmp_path, split="dev")
    assert open_parquet(tmp_path, split="train", limit=7).facts.sample_count == 7


def test_modes_and_sizes_by_column(tmp_path):
    gray = encoded(np.zeros((4, 6), "u1"))
    path = write(tmp_path / "a.parquet", image=[PICTURE, PICTURE], mask=[gray, gray])
    source = open_parquet(path, pictures=PictureOptions(mode="auto"))
    assert {n: f.shape for n, f in source.facts.fields.items()} == {
        "image": (4, 4, 3),
        "mask": (4, 6),
    }
    assert read_all(source)[0].values["mask"].shape == (4, 6)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"n": [1, 2]}, "expected a column of pictures"),
        ({"image": [PICTURE], "v": [[1, 2]]}, r"column 'v' is list<.*> *.*--drop v"),
        ({"image": [PICTURE], "when": pa.array([1], pa.timestamp("s"))}, "--drop when"),
        ({"image": [PICTURE], "a b": [1], "a_b": [1]}, "both be named 'a_b'"),
        ({"image": pa.array([], pa.binary())}, "no samples: expected rows"),
    ],
)
def test_tables_that_are_no_source(tmp_path, columns, says):
    with pytest.raises(SourceError, match=says):
        open_parquet(write(tmp_path / "a.parquet", **columns))


def test_a_column_in_the_way_can_be_dropped(tmp_path):
    path = write(tmp_path / "a.parquet", image=[PICTURE], v=[[1, 2]])
    assert open_parquet(path, drop=("v",)).facts.columns == ()


@pytest.mark.parametrize(
    ("rows", "label", "says"),
    [
        ([PICTURE, b"x"], [1, 2], "row 1: image: not a readable picture"),
        ([PICTURE, None], [1, 2], "row 1: image: no bytes of a picture"),
        ([PICTURE, PICTURE], [1, None], "row 1: column 'label' is null, expected int64"),
    ],
)
def test_bad_rows_are_named_or_skipped(tmp_path, rows, label, says):
    path = write(tmp_path / "a.parquet", image=rows, label=label)
    with pytest.raises(SampleError, match=says):
        read_all(open_parquet(path))
    bad = []
    assert len(read_all(open_parquet(path), bad.append)) == 1
    assert len(bad) == 1


def test_pictures_that_are_only_named(tmp_path):
    rows = pa.array(
        [{"bytes": None, "path": "far/away.png"}],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    path = write(tmp_path / "a.parquet", image=rows)
    with pytest.raises(SampleError, match=r"it only names the file 'far/away\.png'"):
        open_parquet(path)


def test_files_that_are_damaged_or_differ(tmp_path):
    path = make_parquet(tmp_path / "a.parquet", make_pictures(12))
    whole = path.read_bytes()
    path.write_bytes(b"PAR1 nothing of the kind PAR1")
    with pytest.raises(SourceError, match="not a readable Parquet file"):
        open_parquet(path)
    path.write_bytes(whole[:200] + bytes(300) + whole[500:])
    with pytest.raises((SourceError, SampleError), match=str(tmp_path)):
        read_all(open_parquet(path))
    path.write_bytes(whole)
    write(tmp_path / "b.parquet", image=[PICTURE])
    with pytest.raises(SourceError, match="its columns differ from those of"):
        open_parquet(tmp_path)
