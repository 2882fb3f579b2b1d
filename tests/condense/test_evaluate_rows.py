"""Rows of `dsq evaluate`: what is named, what is read, and which bytes are counted."""

import io
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL")
pytest.importorskip("pyarrow")

from PIL import Image

from dsqformat import DatasetWriter, FieldSpec, open_dataset
from dsqformat.condense.evaluate import picture_files
from dsqformat.condense.evaluate.baselines import Baseline, make_baseline, parse_baseline
from dsqformat.condense.evaluate.labelled_pictures import (
    LabelledPictures,
    check_same_task,
    facts_of,
)
from dsqformat.condense.evaluate.loading import Reading, describe_dataset, load_pictures
from dsqformat.condense.evaluate.rows import InputSpec, RowMaker, parse_input
from dsqformat.errors import SourceError
from evaluated import labelled, pack, save_npz, two_classes
from inputs import make_folder, make_pictures


def ignore(stage, done, total):
    pass


def maker(limit=None, fill="harmonic"):
    return RowMaker(labelled(20, 1), Reading(limit, fill=fill), ignore)


# Names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sets/a", InputSpec("a", "sets/a")),
        ("sets/a/dataset.json", InputSpec("a", "sets/a/dataset.json")),
        ("sets/a@2", InputSpec("a@2", "sets/a", 2)),
        ("my name=sets/a@1", InputSpec("my name", "sets/a", 1)),
        ("http://host:80/a", InputSpec("a", "http://host:80/a")),
        ("x=https://host/a?k=v@3", InputSpec("x", "https://host/a?k=v", 3)),
        ("./k=v/a", InputSpec("a", "./k=v/a")),
        ("a@0", InputSpec("a@0", "a@0")),
    ],
)
def test_inputs_are_taken_apart(text, expected):
    assert parse_input(text) == expected


def test_what_exists_is_a_path_whatever_it_looks_like(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("k=v@2").mkdir()
    assert parse_input("k=v@2") == InputSpec("k=v@2", "k=v@2")
    assert parse_input("n=k=v@2").location == "k=v@2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("uint8:0.1", Baseline("uint8:0.1", "uint8", 0.1)),
        ("uint8:1", Baseline("uint8:1", "uint8")),
        ("webp:40", Baseline("webp:40", "webp", quality=40)),
        ("jpeg:0:.5", Baseline("jpeg:0:.5", "jpeg", 0.5, 0)),
        ("webp:=sets/a@1", Baseline("webp:=sets/a@1", "webp", like="sets/a@1")),
        ("w=webp:=http://h:1/a:0.25", Baseline("w", "webp", 0.25, like="http://h:1/a")),
    ],
)
def test_baselines_are_taken_apart(text, expected):
    assert parse_baseline(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "png:3", "uint8", "uint8:", "uint8:0", "uint8:1.5", "uint8:nan", "webp:101", "webp:-1",
     "webp:=", "webp:40:2", "jpeg:x", "jpeg:40:0"],
)  # fmt: skip
def test_texts_that_are_no_baselines(text):
    with pytest.raises(ValueError, match="baseline"):
        parse_baseline(text)


# Bytes -----------------------------------------------------------------------------------------


def file_bytes(folder, pattern):
    return sum(path.stat().st_size for path in folder.glob(pattern))


def test_every_byte_of_a_dataset_is_counted(tmp_path):
    path = pack(tmp_path / "d", 80, keys=True)
    described = describe_dataset(str(path), None, Reading())
    assert described.stored_nbytes == sum(
        file.stat().st_size for file in path.rglob("*") if file.is_file()
    )
    # Training needs no keys and no sample table.
    aside = describe_dataset(str(pack(tmp_path / "e", 80, keys=True, table=False)), None, Reading())
    assert aside.fetched_nbytes < aside.stored_nbytes < described.stored_nbytes
    with open_dataset(path) as dataset:
        shard = dataset.shard(0)
        chunks = sum(e - s for s, e in map(shard.chunk_range, range(len(shard.chunks))))
        head = shard.head.header.head_nbytes
        snapshot = dataset.source.size(dataset.snapshot.path) + dataset.source.size("dataset.json")
    assert described.fetched_nbytes == head + chunks + snapshot
    assert described.sample_count == 80


def test_a_prefix_counts_its_layers_and_gives_coarser_pictures(tmp_path):
    path = str(pack(tmp_path / "d", 400))
    one, two = (describe_dataset(path, layers, Reading()) for layers in (1, 2))
    assert two.fetched_nbytes == describe_dataset(path, None, Reading()).fetched_nbytes
    assert one.fetched_nbytes < 0.75 * two.fetched_nbytes
    assert one.stored_nbytes == two.stored_nbytes
    whole, first = (
        row.open()(0).pictures.pictures
        for row in maker().inputs([parse_input(path), parse_input(f"{path}@1")])
    )
    exact, _ = two_classes(400)
    order = np.argsort(np.asarray(exact, "i8").sum((1, 2, 3)))
    assert whole.shape == first.shape == exact[order].shape
    assert len(np.unique(first[0, ..., 0])) <= 4 < len(np.unique(whole[0, ..., 0]))


def test_a_limit_takes_the_first_samples_and_their_share_of_the_chunks(tmp_path):
    path = str(pack(tmp_path / "d", 400))
    all_of_it = describe_dataset(path, None, Reading())
    half = describe_dataset(path, None, Reading(limit=200))
    assert half.sample_count == 200
    assert 0.4 < half.fetched_nbytes / all_of_it.fetched_nbytes < 0.65
    taken, _ = load_pictures(path, Reading(limit=200), ignore)
    whole, _ = load_pictures(path, Reading(), ignore)
    assert (taken.pictures == whole.pictures[:200]).all()
    assert (taken.labels == whole.labels[:200]).all()


def test_a_source_counts_its_arrays_and_its_files(tmp_path):
    path = save_npz(tmp_path / "a.npz", 40)
    (row,) = maker().inputs([parse_input(f"full={path}")])
    data = row.open()(0)
    assert (row.label, row.kind, row.sample_count) == ("full", "uint8", 40)
    assert data.fetched_nbytes == 40 * 8 * 8 * 3
    assert data.stored_nbytes == path.stat().st_size


def test_a_folder_is_a_source(tmp_path):
    folder = make_folder(tmp_path / "pictures", make_pictures(12))
    found, nbytes = load_pictures(str(folder), Reading(), ignore)
    assert found.pictures.shape == (12, 12, 12, 3)
    assert found.names == ("cat", "dog", "owl")
    assert nbytes == sum(file.stat().st_size for file in folder.rglob("*.png"))


# Baselines -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fraction", "counts"),
    [("0.1", [1, 1, 0]), ("0.3", [2, 2, 2]), ("0.65", [6, 5, 2]), ("0.95", [9, 8, 2]),
     ("1", [10, 8, 2])],
)  # fmt: skip
def test_coresets_have_as_many_of_each_class_as_there_are(fraction, counts):
    labels = np.array([0] * 10 + [1] * 8 + [2] * 2)
    pictures = np.arange(20, dtype="u1").reshape(20, 1, 1, 1)
    source = LabelledPictures("made", pictures, labels)
    made = make_baseline(parse_baseline(f"uint8:{fraction}"), source, None, ignore)
    found = made.open()(0).pictures
    assert np.bincount(found.labels, minlength=3).tolist() == counts
    assert len(np.unique(found.pictures)) == len(found) == made.sample_count
    assert (found.labels == labels[found.pictures.ravel()]).all()


def test_coresets_are_drawn_by_the_seed():
    source = labelled(40)
    load = make_baseline(parse_baseline("uint8:0.25"), source, None, ignore).open()
    one, again, other = load(0), load(0), load(1)
    assert (one.pictures.pictures == again.pictures.pictures).all()
    assert (one.pictures.pictures != other.pictures.pictures).any()
    assert one.fetched_nbytes == 10 * 8 * 8 * 3
    assert np.bincount(one.pictures.labels).tolist() == [5, 5]


@pytest.mark.parametrize(("kind", "name"), [("webp", "WEBP"), ("jpeg", "JPEG")])
def test_files_are_real_files_and_their_pictures_are_trained_on(kind, name):
    source = labelled(10, side=16)
    data = make_baseline(parse_baseline(f"{kind}:30"), source, None, ignore).open()(0)
    files = [picture_files.encoded(picture, kind, 30) for picture in source.pictures]
    assert data.fetched_nbytes == data.stored_nbytes == sum(map(len, files))
    for file, picture in zip(files, data.pictures.pictures, strict=True):
        with Image.open(io.BytesIO(file), formats=(name,)) as image:
            assert (np.asarray(image.convert("RGB")) == picture).all()
    assert (data.pictures.labels == source.labels).all()


@pytest.mark.parametrize("kind", ["webp", "jpeg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_best_quality_that_fits_is_found(kind, channels):
    pictures = two_classes(30, side=16)[0][..., :channels]

    def mean(quality):
        return np.mean([len(picture_files.encoded(p, kind, quality)) for p in pictures])

    for aim in (mean(20), mean(71) + 0.5):
        found = picture_files.best_quality(pictures, kind, aim, ignore)
        assert mean(found) <= aim < mean(found + 1)
    assert picture_files.best_quality(pictures, kind, 1e6, ignore) == 100
    assert picture_files.best_quality(pictures, kind, 10, ignore) is None


def test_files_with_the_bytes_of_a_row(tmp_path):
    dataset = pack(tmp_path / "d", 80)
    source = save_npz(tmp_path / "a.npz", 80)
    specs = [parse_input(f"ours={dataset}")]
    rows = maker().baselines(
        [parse_baseline("webp:=ours"), parse_baseline(f"webp:={dataset}:0.5")], str(source), specs
    )
    aim = describe_dataset(str(dataset), None, Reading()).fetched_nbytes
    whole, half = (row.open()(3) for row in rows)
    assert 0.9 * aim < whole.fetched_nbytes <= aim
    assert whole.setting.startswith("quality ")
    assert len(half.pictures) == 40
    assert int(half.setting.removeprefix("quality ")) > int(whole.setting.removeprefix("quality "))


def test_files_that_cannot_be_small_enough(tmp_path):
    dataset = pack(tmp_path / "d", 400, layers=(1,))
    source = save_npz(tmp_path / "a.npz", 400)
    (row,) = maker().baselines([parse_baseline(f"jpeg:={dataset}")], str(source), [])
    with pytest.raises(SourceError, match=r"lowest quality are larger than .* jpeg:=.*:0\.5$"):
        row.open()


# Refusals --------------------------------------------------------------------------------------


def test_layers_are_of_datasets_and_not_too_many(tmp_path):
    with pytest.raises(SourceError, match="has 2 layers, @3 asks for more"):
        maker().inputs([parse_input(f"{pack(tmp_path / 'd')}@3")])
    with pytest.raises(SourceError, match="only datasets have layers"):
        maker().inputs([parse_input(f"{save_npz(tmp_path / 'a.npz')}@1")])


def test_labels_are_needed(tmp_path):
    with pytest.raises(SourceError, match=r"/d: .*no column 'label'"):
        maker().inputs([parse_input(str(pack(tmp_path / "d", labels=False)))])
    np.savez(tmp_path / "a.npz", x=two_classes()[0])
    with pytest.raises(SourceError, match="no labels; name their column"):
        load_pictures(str(tmp_path / "a.npz"), Reading(), ignore)


def test_training_and_test_must_be_of_one_kind():
    pictures, labels = two_classes(20)
    test = facts_of(LabelledPictures("test", pictures, labels, ("up", "down")))

    def refused(match, pictures=pictures, labels=labels, names=("up", "down")):
        with pytest.raises(SourceError, match=match):
            check_same_task(facts_of(LabelledPictures("train", pictures, labels, names)), test)

    refused("train: pictures of 4x8x3, the test set test has 8x8x3", pictures[:, :4])
    refused(r"train: 3 classes \(0, 1, 2\), the test set test has 2", labels=np.arange(20) % 3)
    refused(r"train: 1 classes \(0\), the test set test has 2", labels=np.zeros(20, "i8"))
    refused("classes are named", names=("down", "up"))
    check_same_task(facts_of(LabelledPictures("train", pictures, labels)), test)


def test_pictures_of_different_sizes(tmp_path):
    for number, side in enumerate((8, 9)):
        folder = tmp_path / "f" / f"class{number}"
        folder.mkdir(parents=True)
        Image.fromarray(np.zeros((side, side, 3), "u1")).save(folder / "a.png")
    with pytest.raises(SourceError, match=r"f: pictures of different .* --resize N --crop N"):
        load_pictures(str(tmp_path / "f"), Reading(), ignore)
    with DatasetWriter(tmp_path / "d", fields=FieldSpec("affine", shape=(None, None, 3))) as writer:
        for number, side in enumerate((8, 9)):
            writer.write({"image": np.zeros((side, side, 3), "u1"), "label": number})
    with pytest.raises(SourceError, match=r"/d: .*pictures of different .* --resize N --crop N"):
        load_pictures(str(tmp_path / "d"), Reading(), ignore)


def test_too_few_pictures():
    with pytest.raises(SourceError, match="1 pictures; training needs 2"):
        make_baseline(parse_baseline("uint8:0.1"), labelled(10), None, ignore)
    with pytest.raises(ValueError, match="expected 2 or more"):
        Reading(limit=1)


def test_files_are_of_uint8():
    pictures, labels = two_classes(10)
    floats = LabelledPictures("floats", (pictures / 255).astype("f4"), labels)
    with pytest.raises(SourceError, match="such files are of uint8"):
        make_baseline(parse_baseline("webp:3"), floats, None, ignore)
