"""`dsq pack`: what it writes and reports, and what it refuses in one line."""

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
    run_dsq,
    tar_samples,
)


@pytest.fixture
def dsq(capsys):
    return lambda *args: run_dsq(capsys, *args)


def packed(dsq, *args):
    done = dsq("pack", *args, "--json")
    assert done.code == 0, done.err
    assert done.err == ""
    return done.json


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_is_packed_exactly(tmp_path, dsq, kind):
    pictures = make_pictures(40)
    report = packed(dsq, make_source(kind, tmp_path / "in", pictures), tmp_path / "d")
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
    packed(dsq, make_source(kind, tmp_path / "in", pictures), tmp_path / "d", "--keep-order")
    with open_dataset(tmp_path / "d") as dataset:
        batch = dataset.to_numpy()[dataset.schema.fields[0].name]
    if kind == "folder":
        pictures = np.concatenate([pictures[n::3] for n in range(3)])
    assert np.array_equal(batch, pictures)


@pytest.mark.parametrize("kind", ["folder", "webdataset"])
def test_the_same_input_and_seed_make_the_same_snapshot(tmp_path, dsq, kind):
    source = make_source(kind, tmp_path / "in", make_pictures(30))
    first = packed(dsq, source, tmp_path / "a", "--seed", 7)
    again = packed(dsq, source, tmp_path / "b", "--seed", 7)
    other = packed(dsq, source, tmp_path / "c", "--seed", 8)
    assert first["snapshot"] == again["snapshot"] != other["snapshot"]


def test_the_report_adds_up_to_every_byte_and_compares_honestly(tmp_path, dsq):
    pictures = make_pictures(50)
    source = make_folder(tmp_path / "in", pictures)
    report = packed(dsq, source, tmp_path / "d")
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
    assert packed(dsq, source, tmp_path / "e", "--no-compare")["compared"] is None


def test_members_may_come_in_any_order(tmp_path, dsq):
    samples = tar_samples(make_pictures(4))
    backwards = {key: dict(reversed(members.items())) for key, members in samples.items()}
    source = make_tar(tmp_path / "a.tar", backwards)
    assert packed(dsq, source, tmp_path / "d")["compared"]["count"] == 4


def test_comparison_takes_evenly_spaced_pictures(tmp_path, dsq):
    make_npz(tmp_path / "a.npz", make_pictures(450, 2))
    compared = packed(dsq, tmp_path / "a.npz", tmp_path / "d")["compared"]
    assert compared["count"] == 200
    make_npz(tmp_path / "b.npz", np.zeros((3, 900, 1200), "u1"))
    assert packed(dsq, tmp_path / "b.npz", tmp_path / "e")["compared"]["count"] == 1


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
    packed(
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
    packed(
        dsq, source, tmp_path / "e", "--quantizer", "lsq", "--domain", "normalized",
        "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--layers", "",
    )  # fmt: skip
    with open_dataset(tmp_path / "e") as dataset:
        assert dataset.schema.fields[0].domain.mean == ("0.485", "0.456", "0.406")
        assert dataset.schema.fields[0].layer_count == 1


def fidelity_of(folder):
    with open_dataset(folder) as dataset:
        field = dataset.schema.fields[0]
        return field.quantizer, field.layers, dict(dataset.snapshot.provenance)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """120 pictures of 16 x 16 as .npz, where an empty dataset weighs little."""
    path = tmp_path_factory.mktemp("scenes") / "a.npz"
    return make_npz(path, make_pictures(120, 16)), make_pictures(120, 16)


def test_a_target_takes_blocks_and_tells_what_came_out(tmp_path, dsq, scenes):
    source, pictures = scenes
    done = dsq("pack", source, tmp_path / "d", "--bytes-per-sample", 170, "--no-table")
    assert done.code == 0, done
    assert fidelity_of(tmp_path / "d")[:2] == ("block", (1,))
    assert fidelity_of(tmp_path / "d")[2]["nbytes_per_sample"] == "170"
    for text in (
        "image: block, samples by setting: qp ",
        "dB over all values of all samples",
        "asked for 170 bytes per sample; ",
    ):
        assert text in done.out
    report = packed(dsq, source, tmp_path / "e", "--psnr", 33, "--no-table")
    assert 33 <= report["psnr"] <= 33.15
    assert report["written_nbytes"] == report["nbytes"]["total"]
    assert report["nbytes_per_sample"] == report["nbytes"]["total"] / 120
    assert sum(report["settings"]["image.qp"].values()) == 120
    assert report["target"] == "a PSNR of 33 dB"
    assert set(report["compared"]["lossy"]) == {"webp", "jpeg"}
    for files in report["compared"]["lossy"].values():
        assert files["count"] == 120
        assert files["psnr"] == report["psnr"]
        assert 0 < files["nbytes_per_sample"] < pictures.nbytes / 120


@pytest.mark.parametrize(
    ("args", "quantizer", "layers"),
    [
        (("--total", "22.5kB"), "block", (1,)),
        (("--total", "24kB", "--quantizer", "affine", "--layers", ""), "affine", ()),
        (("--psnr", "34", "--layers", "1,1"), "block", (1, 1)),
        (("--psnr", "34", "--quantizer", "lsq"), "lsq", (4, 2)),
        (("--qp", "60", "--effort", "high"), "block", (1,)),
        (("--quantizer", "block"), "block", (1,)),
        (("--lossless",), "affine", ()),
        (("--lossless", "--layers", "4"), "affine", (4,)),
        (("--quantizer", "patch", "--grouping", "min_max"), "patch", (4, 2)),
        (("--quantizer", "patch", "--bits", "3", "--psnr", "33"), "patch", (4, 2)),
    ],
)
def test_ways_to_say_how_finely(tmp_path, dsq, scenes, args, quantizer, layers):
    source, pictures = scenes
    order = ("--keep-order", "--no-compare", "--no-table")
    report = packed(dsq, source, tmp_path / "d", *args, *order)
    assert fidelity_of(tmp_path / "d")[:2] == (quantizer, layers)
    assert report["quantizers"] == {"image": quantizer}
    with open_dataset(tmp_path / "d") as dataset:
        found = dataset.to_numpy(output="source")["image"]
    error = np.mean((found.astype("f8") - pictures) ** 2)
    if "--lossless" in args:
        assert error == 0
        assert report["psnr"] is None
        return
    assert report["psnr"] == pytest.approx(10 * np.log10(255**2 / error))
    if "--psnr" in args:
        assert report["psnr"] >= float(args[args.index("--psnr") + 1])
    if "--total" in args:
        total = {"22.5kB": 22_500, "24kB": 24_000}[args[1]]
        assert 0.95 * total < report["nbytes"]["total"] <= total


def test_patches_are_accounted_for_as_the_paper_does(tmp_path, dsq, scenes):
    source, _ = scenes
    args = ("--quantizer", "patch", "--bits", 2, "--patch", 4, "--groups", 16, "--no-compare")
    done = dsq("pack", source, tmp_path / "d", *args)
    assert done.code == 0, done
    for text in ("16 groups of patches", "image: group ids", "codes and group ids as coded"):
        assert text in done.out
    report = packed(dsq, source, tmp_path / "e", *args)
    patches = report["patches"]["image"]
    assert (patches["bit_width"], patches["group_count"], patches["patch_count"]) == (2, 16, 1920)
    bits = patches["formula_bits"]
    assert bits["codes"] == 120 * 768 * 2
    assert bits["group ids"] == 1920 * 4
    assert bits["total"] == bits["codes"] + bits["group ids"] + 16 * 64
    layers = [n for name, n in report["nbytes"].items() if name.startswith("layer.")]
    assert patches["coded_nbytes"] == sum(layers)


def test_what_cannot_be_met_is_one_line(tmp_path, dsq, scenes):
    line = dsq("pack", scenes[0], tmp_path / "d", "--total", "2kB").error_line
    assert line.startswith("a total of 2,000 bytes cannot be met: the smallest possible is")
    assert not (tmp_path / "d").exists()


def test_real_values_have_a_size_but_neither_blocks_nor_decibels(tmp_path, dsq):
    values = make_pictures(60).astype("f4") / 255
    source = make_npz(tmp_path / "a.npz", values)
    for args in (("--psnr", 30), ("--qp", 30), ("--lossless",)):
        assert dsq("pack", source, tmp_path / "d", *args).code == 2
    report = packed(dsq, source, tmp_path / "d", "--bytes-per-sample", 200, "--no-table")
    assert report["quantizers"] == {"image": "affine"}
    assert report["nbytes_per_sample"] <= 200
    assert report["psnr"] is None


def test_other_fields_are_quantized_unless_they_cannot_be_or_must_not(tmp_path, dsq):
    pictures = make_pictures(8)
    mask, ids = pictures[..., 0], np.arange(16).reshape(8, 2)
    source = make_npz(tmp_path / "a.npz", pictures, mask=mask, ids=ids)
    packed(dsq, source, tmp_path / "d", "--bits", 3, "--raw", "mask", "--keep-order")
    with open_dataset(tmp_path / "d") as dataset:
        kinds = {field.name: field.quantizer for field in dataset.schema.fields}
        assert kinds == {"image": "affine", "ids": "raw", "mask": "raw"}
        batch = dataset.to_numpy()
    assert np.array_equal(batch["mask"], mask)
    assert np.array_equal(batch["ids"], ids)
    assert dsq("pack", source, tmp_path / "e", "--raw", "absent").code == 2


def test_pictures_of_different_sizes(tmp_path, dsq):
    root = tmp_path / "in"
    root.mkdir()
    for number in range(6):
        (root / f"{number}.png").write_bytes(encoded(make_pictures(1, 6 + number)[0]))
    packed(dsq, root, tmp_path / "d", "--keep-order")
    with open_dataset(tmp_path / "d") as dataset:
        assert dataset.schema.fields[0].shape == (None, None, 3)
        for number, sample in enumerate(dataset):
            assert np.array_equal(sample["image"], make_pictures(1, 6 + number)[0])
    packed(dsq, root, tmp_path / "e", "--resize", 8, "--crop", 8, "--mode", "L")
    with open_dataset(tmp_path / "e") as dataset:
        assert dataset.schema.fields[0].shape == (8, 8)


def test_replace_append_and_refs(tmp_path, dsq):
    pictures = make_pictures(12)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = make_tar(tmp_path / "a" / "a.tar", tar_samples(pictures[:6]))
    second = {f"more-{key}": value for key, value in tar_samples(pictures[6:]).items()}
    second = make_tar(tmp_path / "b" / "b.tar", second)
    packed(dsq, first, tmp_path / "d")
    before = listing(tmp_path / "d")
    line = dsq("pack", second, tmp_path / "d").error_line
    assert line.endswith("already; choose another folder, or say --replace or --append")
    assert listing(tmp_path / "d") == before
    report = packed(dsq, second, tmp_path / "d", "--append")
    assert (report["sample_count"], report["written_count"]) == (12, 6)
    line = dsq("pack", second, tmp_path / "d", "--append").error_line
    assert "has it already" in line
    report = packed(dsq, second, tmp_path / "d", "--replace")
    assert report["sample_count"] == 6
    packed(dsq, first, tmp_path / "d", "--ref", "v2")
    assert set(dsq("info", tmp_path / "d", "--json").json["refs"]) == {"main", "v2"}
    assert dsq("pack", first, tmp_path / "d", "--replace", "--append").code == 2
    line = dsq("pack", first, tmp_path / "absent", "--append").error_line
    assert "no dataset with ref 'main' to append to" in line
    assert not (tmp_path / "absent").exists()


def test_labels_that_mean_something_else_are_not_appended(tmp_path, dsq):
    pictures = make_pictures(6)
    packed(dsq, make_folder(tmp_path / "a", pictures), tmp_path / "d")
    other = make_folder(tmp_path / "b", pictures)
    (other / "cat").rename(other / "zebra")
    before = listing(tmp_path / "d")
    line = dsq("pack", other, tmp_path / "d", "--append").error_line
    assert "has the names ['dog', 'owl', 'zebra']" in line
    assert listing(tmp_path / "d") == before


# Bad samples -----------------------------------------------------------------------------------


def test_bad_samples_stop_or_are_skipped_and_told(tmp_path, dsq):
    root = make_folder(tmp_path / "in", make_pictures(12))
    (root / "dog" / "bad.png").write_bytes(b"not a picture")
    (root / "owl" / "cut.png").write_bytes(encoded(make_pictures(1, 64)[0])[:-800])
    line = dsq("pack", root, tmp_path / "d").error_line
    assert "bad.png: not a readable picture" in line
    assert not (tmp_path / "d").exists()
    report = packed(dsq, root, tmp_path / "d", "--on-error", "skip")
    assert (report["written_count"], report["skipped_count"]) == (12, 2)
    assert any("bad.png" in reason for reason in report["skipped"])
    assert any("cut.png" in reason for reason in report["skipped"])
    done = dsq("pack", root, tmp_path / "e", "--on-error", "skip")
    assert "skipped 2 bad samples:" in done.out


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(tmp_path, dsq, bad):
    values = np.linspace(0, 1, 60, dtype="f4").reshape(5, 3, 4)
    values[3, 1, 1] = bad
    source = make_npz(tmp_path / "a.npz", values)
    line = dsq("pack", source, tmp_path / "d", "--keep-order").error_line
    assert line.startswith("sample 3: field 'image' holds NaN or infinity")
    assert not (tmp_path / "d").exists()
    report = packed(dsq, source, tmp_path / "d", "--on-error", "skip")
    assert (report["written_count"], report["skipped_count"]) == (4, 1)
    packed(dsq, source, tmp_path / "e", "--quantizer", "raw", "--keep-order")
    with open_dataset(tmp_path / "e") as dataset:
        assert np.array_equal(dataset.to_numpy()["image"], values, equal_nan=True)


@pytest.mark.parametrize("dtype", ["f8", "i4", "f2"])
def test_values_of_a_type_that_cannot_be_quantized(tmp_path, dsq, dtype):
    source = make_npz(tmp_path / "a.npz", np.zeros((4, 3, 3), dtype))
    line = dsq("pack", source, tmp_path / "d").error_line
    assert "needs dtype uint8 or float32, got" in line
    assert not (tmp_path / "d").exists()


def test_duplicate_keys_are_named(tmp_path, dsq):
    keys = np.array(["a", "b", "c", "b"])
    source = make_npz(tmp_path / "a.npz", make_pictures(4), keys=keys)
    line = dsq("pack", source, tmp_path / "d").error_line
    assert "key 'b': another sample has it" in line
    assert not (tmp_path / "d").exists()
    assert packed(dsq, source, tmp_path / "d", "--no-keys")["written_count"] == 4


def test_labels_beyond_64_bits(tmp_path, dsq):
    labels = np.array([1, 2, 1 << 63], "u8")
    np.savez(tmp_path / "a.npz", x=make_pictures(3), y=labels)
    line = dsq("pack", tmp_path / "a.npz", tmp_path / "d").error_line
    assert "column 'label': 9223372036854775808 is beyond 64 bits" in line


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--bits", "1", "--quantizer", "lsq"), "bit_width 1 with lsq"),
        (("--qp", "176"), "qp 176"),
        (("--qp", "30", "--bits", "4"), "--qp and --bits exclude each other"),
        (("--psnr", "30", "--total", "5MB"), "--total and --psnr exclude each other"),
        (
            ("--psnr", "30", "--bytes-per-sample", "9"),
            "--bytes-per-sample and --psnr exclude each other",
        ),
        (("--psnr", "30", "--lossless"), "--psnr and --lossless exclude each other"),
        (("--total", "5MB", "--qp", "30"), "--total and --qp exclude each other"),
        (("--total", "5MB", "--bits", "3"), "--total and --bits exclude each other"),
        (
            ("--quantizer", "patch", "--psnr", "30", "--groups", "9"),
            "--psnr and --groups exclude each other",
        ),
        (("--lossless", "--quantizer", "lsq"), "--lossless and --quantizer lsq exclude each other"),
        (("--qp", "30", "--quantizer", "lsq"), "--qp and --quantizer lsq exclude each other"),
        (("--bits", "3", "--quantizer", "block"), "--bits and --quantizer block exclude"),
        (("--psnr", "30", "--quantizer", "raw"), "--psnr and --quantizer raw exclude each other"),
        (("--groups", "9"), "--groups is for --quantizer patch"),
        (("--patch", "4", "--quantizer", "block"), "--patch and --quantizer block exclude"),
        (("--groups", "0", "--quantizer", "patch"), "group_count 0"),
        (("--bits", "9", "--quantizer", "patch"), "bit_width 9"),
        (("--psnr", "200"), "PSNR of 200"),
        (("--bytes-per-sample", "-1"), "-1.0 bytes per sample"),
        (("--total", "much"), "expected a size"),
        (("--psnr", "30", "--raw", "image"), "all fields are raw"),
        (("--qp", "30", "--layers", "4,2"), "layers"),
        (("--bits", "17"), "bit_width 17"),
        (("--layers", "4,x"), "expected whole numbers"),
        (("--layers", "40"), "widths of 1 to 16"),
        (("--domain", "unit"), "are for --quantizer lsq"),
        (("--quantizer", "lsq", "--mean", "0.5"), "normalized"),
        (("--quantizer", "lsq", "--mean", "a", "--std", "b"), "expected decimal numbers"),
        (("--chunk-size", "much"), "expected a size"),
        (("--chunk-size", "64MiB"), "expected chunk_nbytes to"),
        (("--level", "50"), "zstd_level 50"),
        (("--limit", "0"), "expected 1 or more"),
        (("--crop", "9", "--resize", "8"), "crop 9 is larger"),
        (("--ref", "-"), "ref"),
        (("--source", "zip"), "zip"),
    ],
)
def test_wrong_options_are_code_2_and_write_nothing(tmp_path, dsq, args, says):
    source = make_npz(tmp_path / "a.npz", make_pictures(4))
    done = dsq("pack", source, tmp_path / "d", *args)
    assert done.code == 2, done
    assert says in " ".join(done.err.replace("│", " ").split())
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: root / "absent", "absent: No such file or directory"),
        (lambda root: (root / "e").mkdir() or root / "e", "no samples: expected pictures"),
        (lambda root: (root / "x.bin").write_bytes(b"x") and root / "x.bin", "expected a folder"),
        (lambda root: root / "a\nb", "No such file"),
    ],
)
def test_sources_that_are_none(tmp_path, dsq, make, says):
    source = make(tmp_path)
    before = listing(tmp_path)
    assert says in dsq("pack", source, tmp_path / "d").error_line
    assert listing(tmp_path) == before


def test_a_target_that_is_something_else(tmp_path, dsq):
    source = make_npz(tmp_path / "a.npz", make_pictures(4))
    line = dsq("pack", source, tmp_path / "a.npz").error_line
    assert "is a file, expected a folder" in line
    other = make_folder(tmp_path / "other", make_pictures(3))
    before = listing(tmp_path)
    assert "and no dataset; choose a new or empty folder" in dsq("pack", source, other).error_line
    assert listing(tmp_path) == before


def test_usage(dsq):
    assert dsq("pack").code == 2
    done = dsq("pack", "--help")
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 80
