"""`dsq pack`: bad samples, and what it refuses in one line."""

import numpy as np
import pytest

pytest.importorskip("PIL")
pytest.importorskip("pyarrow")
pytest.importorskip("webdataset")

from dsqformat import open_dataset
from inputs import encoded, listing, make_folder, make_npz, make_pictures, pack_json


def test_bad_samples_stop_or_are_skipped_and_told(tmp_path, dsq):
    root = make_folder(tmp_path / "in", make_pictures(12))
    (root / "dog" / "bad.png").write_bytes(b"not a picture")
    (root / "owl" / "cut.png").write_bytes(encoded(make_pictures(1, 64)[0])[:-800])
    line = dsq("pack", root, tmp_path / "d").error_line
    assert "bad.png: not a readable picture" in line
    assert not (tmp_path / "d").exists()
    report = pack_json(dsq, root, tmp_path / "d", "--on-error", "skip")
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
    report = pack_json(dsq, source, tmp_path / "d", "--on-error", "skip")
    assert (report["written_count"], report["skipped_count"]) == (4, 1)
    pack_json(dsq, source, tmp_path / "e", "--quantizer", "raw", "--keep-order")
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
    assert pack_json(dsq, source, tmp_path / "d", "--no-keys")["written_count"] == 4


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
