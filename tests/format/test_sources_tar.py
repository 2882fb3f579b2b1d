"""WebDataset tars: what members become, and that nothing in them is ever run."""

import io
import json
import os
import pickle
import tarfile

import numpy as np
import pytest

pytest.importorskip("PIL")
pytest.importorskip("webdataset")

from dsqformat.errors import SampleError, SourceError
from dsqformat.schema import Column
from dsqformat.sources import SourceOptions, open_source, raise_bad
from inputs import add_members, encoded, make_pictures, make_tar, tar_samples

PICTURE = encoded(np.zeros((4, 4, 3), "u1"))


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def open_tar(path, **options):
    return open_source(str(path), "webdataset", SourceOptions(**options))


def read_all(source, on_bad=raise_bad):
    return list(source.samples(on_bad))


def test_members_become_fields_and_columns(tmp_path):
    pictures = make_pictures(5)
    source = open_tar(make_tar(tmp_path / "a.tar", tar_samples(pictures)))
    assert source.facts.sample_count == 5
    with tarfile.open(tmp_path / "a.tar") as tar:
        padded = sum(512 + -(-member.size // 512) * 512 for member in tar)
    assert source.facts.source_nbytes == padded
    assert {name: f.shape for name, f in source.facts.fields.items()} == {"image": (12, 12, 3)}
    assert sorted(source.facts.columns, key=lambda column: column.name) == [
        Column("height", "float64"),
        Column("label", "int64"),
        Column("night", "int64"),
        Column("text", "utf8"),
    ]
    samples = read_all(source)
    assert [s.key for s in samples] == [f"shot/{n:04d}" for n in range(5)]
    for number, sample in enumerate(samples):
        assert np.array_equal(sample.values.pop("image"), pictures[number])
        assert sample.values == {
            "label": number % 3,
            "text": f"picture {number} é",
            "height": 1.5 * number,
            "night": int(number % 2 == 0),
        }


def test_labels_that_are_names_get_numbers_in_order(tmp_path):
    labels = [b"owl", b"cat\n", b"owl", b"7"]
    samples = {str(n): {"png": PICTURE, "cls": label} for n, label in enumerate(labels)}
    source = open_tar(make_tar(tmp_path / "a.tar", samples))
    assert source.facts.label_names == ("7", "cat", "owl")
    assert [s.values["label"] for s in read_all(source)] == [2, 1, 2, 0]


@pytest.mark.parametrize(
    ("documents", "columns"),
    [
        ([{"a": 1, "b": "x"}, {"a": 2.5, "b": "y"}], {"a": "float64", "b": "utf8"}),
        ([{"a": True}, {"a": False}], {"a": "int64"}),
        ([{"a": 1}, {"b": 1}], {"json": "utf8"}),
        ([{"a": [1]}, {"a": [2]}], {"json": "utf8"}),
        ([{"a": None}, {"a": 1}], {"json": "utf8"}),
        ([{"a": 1}, {"a": "x"}], {"json": "utf8"}),
        ([{"a": 1 << 70}, {"a": 1}], {"json": "utf8"}),
        ([{"a-b": 1, "a_b": 2}] * 2, {"json": "utf8"}),
        ([{"label": 1, "image": 2}] * 2, {"json_label": "int64", "json_image": "int64"}),
        ([[1], 2], {"json": "utf8"}),
        ([{}, {}], {"json": "utf8"}),
    ],
)
def test_json_is_flattened_or_kept_as_it_is(tmp_path, documents, columns):
    samples = {
        str(n): {"png": PICTURE, "cls": b"0", "json": json.dumps(document).encode()}
        for n, document in enumerate(documents)
    }
    source = open_tar(make_tar(tmp_path / "a.tar", samples))
    found = {c.name: c.type for c in source.facts.columns if c.name != "label"}
    assert found == columns
    values = [s.values for s in read_all(source)]
    if "json" in columns:
        assert [json.loads(v["json"]) for v in values] == documents
    else:
        kept = [[v[name] for name in columns] for v in values]
        assert kept == [list(document.values()) for document in documents]


def test_arrays_other_members_and_names(tmp_path):
    arrays = np.arange(24, dtype=">f4").reshape(2, 3, 4)
    samples = {
        f"{n}.x": {
            "JPG": encoded(make_pictures(1)[0], "JPEG"),
            "a.png": encoded(np.full((12, 12), n, "u1")),
            "emb.npy": npy(arrays[n]),
            "caption.txt": b"c",
            "sound.mp3": bytes([n, 0, 0]),
            "Weird-Ext": b"w",
        }
        for n in range(2)
    }
    source = open_tar(make_tar(tmp_path / "a.tar", samples))
    assert list(source.facts.fields) == ["x", "x_a", "x_emb"]
    samples = {key.replace(".", "_"): members for key, members in samples.items()}
    source = open_tar(make_tar(tmp_path / "b.tar", samples))
    assert list(source.facts.fields) == ["image", "a", "emb"]
    assert source.facts.fields["emb"].dtype == "float32"
    second = read_all(source)[1].values
    assert np.array_equal(second["emb"], arrays[1])
    assert second["a"].shape == (12, 12, 3)
    assert second["caption"] == "c"
    assert second["sound_mp3"] == b"\1\0\0"
    assert second["weird_ext"] == b"w"


def test_two_pictures_of_one_sample_keep_their_extensions_as_names(tmp_path):
    both = {"jpg": encoded(make_pictures(1)[0], "JPEG"), "png": PICTURE}
    source = open_tar(make_tar(tmp_path / "a.tar", {"1": both, "2": both}))
    assert list(source.facts.fields) == ["jpg", "png"]
    apart = {"1": {"jpg": both["jpg"]}, "2": {"png": both["png"]}}
    source = open_tar(make_tar(tmp_path / "b.tar", apart))
    assert source.facts.fields["image"].shape == (None, None, 3)
    source = open_tar(make_tar(tmp_path / "c.tar", {"1": both}), drop=("jpg",))
    assert list(source.facts.fields) == ["image"]


def test_files_patterns_and_folders(tmp_path):
    pictures = make_pictures(6)
    samples = tar_samples(pictures)
    keys = list(samples)
    for number in range(3):
        part = {key: samples[key] for key in keys[2 * number : 2 * number + 2]}
        compressed = number == 1
        name = f"s-{number:03d}.tar" + (".gz" if compressed else "")
        make_tar(tmp_path / name, part, "w:gz" if compressed else "w")
    source = open_source(str(tmp_path), None, SourceOptions())
    assert source.facts.kind == "webdataset"
    assert [s.key for s in read_all(source)] == keys
    pattern = open_source(str(tmp_path / "s-{000,002}.tar"), None, SourceOptions())
    assert [s.key for s in read_all(pattern)] == keys[:2] + keys[4:]
    limited = open_source(str(tmp_path), None, SourceOptions(limit=3))
    assert limited.facts.sample_count == 3
    assert [s.key for s in read_all(limited)] == keys[:3]
    with pytest.raises(FileNotFoundError):
        open_tar(tmp_path / "s-{000..003}.tar")
    with pytest.raises(SourceError, match="stands for more than"):
        open_tar(tmp_path / "s-{000000..999999}.tar")
    with pytest.raises(SourceError, match="Unbalanced"):
        open_tar(tmp_path / "s-{000.tar")


def test_directories_links_metadata_and_names_without_extension_are_left_out(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        folder = tarfile.TarInfo("d")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        link = tarfile.TarInfo("d/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        add_members(tar, {"__meta__/x.txt": b"", "README": b"", "d/0.png": PICTURE})
    source = open_tar(tmp_path / "a.tar")
    assert (source.facts.sample_count, source.facts.ignored_count) == (1, 2)
    assert [s.key for s in read_all(source)] == ["d/0"]


# Danger ----------------------------------------------------------------------------------------


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("extension", ["pkl", "pickle", "pyd", "pt", "pth", "x.PYD", "pkl.gz"])
def test_pickles_are_refused_by_name_and_never_run(tmp_path, extension):
    proof = tmp_path / "proof"
    data = pickle.dumps(Payload(str(proof)))
    samples = {"1": {"png": PICTURE}, "2": {"png": PICTURE, extension: data}}
    path = make_tar(tmp_path / "a.tar", samples)
    with pytest.raises(SourceError, match=f"member '2.{extension}': a pickle") as caught:
        open_tar(path)
    assert str(path) in str(caught.value)
    assert not proof.exists()


def test_a_pickle_that_comes_in_after_the_look_is_refused(tmp_path):
    path = make_tar(tmp_path / "a.tar", {"1": {"png": PICTURE}})
    source = open_tar(path)
    make_tar(path, {"1": {"png": PICTURE, "pkl": b"x"}})
    with pytest.raises(SourceError, match=r"1\.pkl: a pickle"):
        read_all(source)


def test_arrays_of_objects_are_refused_and_never_run(tmp_path):
    proof = tmp_path / "proof"
    data = npy(np.array([Payload(str(proof))], dtype=object), allow_pickle=True)
    path = make_tar(tmp_path / "a.tar", {"1": {"png": PICTURE, "npy": data}})
    with pytest.raises(SampleError, match="holds Python objects"):
        open_tar(path)
    samples = {"0": {"png": PICTURE, "npy": npy(np.zeros(1))}, "1": {"png": PICTURE, "npy": data}}
    with pytest.raises(SampleError, match="holds Python objects"):
        read_all(open_tar(make_tar(path, samples)))
    assert not proof.exists()


def test_names_that_webdataset_would_run_are_files_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_tar("pipe:touch proof")
    assert not (tmp_path / "proof").exists()
    monkeypatch.setenv("GOPEN_REWRITE", "a.tar=pipe:touch proof")
    make_tar(tmp_path / "a.tar", {"1": {"png": PICTURE}})
    assert len(read_all(open_tar("a.tar"))) == 1
    assert not (tmp_path / "proof").exists()


def test_nothing_is_extracted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside = tmp_path / "inside"
    inside.mkdir()
    path = inside / "a.tar"
    with tarfile.open(path, "w") as tar:
        add_members(tar, {"../escaped.png": PICTURE, "/tmp/dsq-absolute.png": PICTURE})
    assert len(read_all(open_tar(path))) == 2
    assert [p.name for p in tmp_path.rglob("*")] == ["inside", "a.tar"]
    assert not os.path.exists("/tmp/dsq-absolute.png")


def test_a_huge_header_of_an_array_is_refused_before_it_is_allocated(tmp_path):
    data = npy(np.zeros(2)).replace(b"(2,)", b"(1 << 60,)".ljust(4)[:4])
    header = npy(np.zeros(2))
    at = header.index(b"(2,), }")
    data = header[:at] + b"(9999999999999,), }".ljust(25) + header[at + 25 :]
    path = make_tar(tmp_path / "a.tar", {"1": {"png": PICTURE, "npy": data}})
    with pytest.raises(SampleError, match="for an array of 79999999999992"):
        read_all(open_tar(path))


def test_members_larger_than_the_limit_are_refused(tmp_path):
    info = tarfile.TarInfo("1.bin")
    info.size = (1 << 30) + 1
    (tmp_path / "a.tar").write_bytes(info.tobuf() + bytes(1024))
    with pytest.raises(SourceError, match="expected at most 1073741824"):
        open_tar(tmp_path / "a.tar")


# Damage ----------------------------------------------------------------------------------------


def test_what_is_no_tar(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"not a tar" * 200)
    with pytest.raises(SourceError, match="not a readable tar"):
        open_tar(tmp_path / "a.tar")
    make_tar(tmp_path / "b.tar", {})
    with pytest.raises(SourceError, match="no samples: expected members such as"):
        open_tar(tmp_path / "b.tar")
    make_tar(tmp_path / "c.tar", {"1": {"txt": b"x"}})
    with pytest.raises(SourceError, match="pictures or"):
        open_tar(tmp_path / "c.tar")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_that_was_cut_short(tmp_path, mode):
    path = make_tar(tmp_path / "a.tar", tar_samples(make_pictures(9, 40)), mode)
    whole = path.read_bytes()
    source = open_tar(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=str(path)):
        read_all(source)
    with pytest.raises(SourceError, match="not a readable tar"):
        open_tar(path)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"png": PICTURE}, "has no 'label', which other samples have"),
        ({"png": b"x", "cls": b"1"}, r"1\.png: not a readable picture"),
        ({"png": PICTURE, "cls": b"\xff"}, r"1\.cls: not UTF-8"),
        ({"png": PICTURE, "cls": b"1", "txt": b"extra"}, "has no 'text'"),
    ],
)
def test_bad_samples_are_named_or_skipped(tmp_path, members, says):
    good = {"png": PICTURE, "cls": b"0"}
    path = make_tar(tmp_path / "a.tar", {"0": good, "1": members, "2": good})
    with pytest.raises(SampleError, match=says) as caught:
        read_all(open_tar(path))
    assert str(path) in str(caught.value)
    bad = []
    read_all(open_tar(path), bad.append)
    assert bad


def test_the_same_member_twice(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add_members(tar, {"1.png": PICTURE})
        add_members(tar, {"1.png": PICTURE})
    with pytest.raises(SourceError, match="duplicate file name"):
        read_all(open_tar(tmp_path / "a.tar"))


def test_columns_that_would_share_a_name(tmp_path):
    members = {"png": PICTURE, "a.txt": b"x"}
    other = {"png": PICTURE, "a.cls": b"1"}
    path = make_tar(tmp_path / "a.tar", {"1": members, "2": other})
    with pytest.raises(SourceError, match="would both become the column 'a'"):
        open_tar(path)
