"""`dsq pack`: how finely values are stored, by settings and by targets."""

import numpy as np
import pytest

pytest.importorskip("PIL")
pytest.importorskip("pyarrow")
pytest.importorskip("webdataset")

from dsqformat import open_dataset
from inputs import make_npz, make_pictures, pack_json


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
    report = pack_json(dsq, source, tmp_path / "e", "--psnr", 33, "--no-table")
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
    report = pack_json(dsq, source, tmp_path / "d", *args, *order)
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
    report = pack_json(dsq, source, tmp_path / "e", *args)
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
    report = pack_json(dsq, source, tmp_path / "d", "--bytes-per-sample", 200, "--no-table")
    assert report["quantizers"] == {"image": "affine"}
    assert report["nbytes_per_sample"] <= 200
    assert report["psnr"] is None


def test_other_fields_are_quantized_unless_they_cannot_be_or_must_not(tmp_path, dsq):
    pictures = make_pictures(8)
    mask, ids = pictures[..., 0], np.arange(16).reshape(8, 2)
    source = make_npz(tmp_path / "a.npz", pictures, mask=mask, ids=ids)
    pack_json(dsq, source, tmp_path / "d", "--bits", 3, "--raw", "mask", "--keep-order")
    with open_dataset(tmp_path / "d") as dataset:
        kinds = {field.name: field.quantizer for field in dataset.schema.fields}
        assert kinds == {"image": "affine", "ids": "raw", "mask": "raw"}
        batch = dataset.to_numpy()
    assert np.array_equal(batch["mask"], mask)
    assert np.array_equal(batch["ids"], ids)
    assert dsq("pack", source, tmp_path / "e", "--raw", "absent").code == 2
