"""The report of a run: numbers that add up, and a page that needs nothing but itself."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")
pytest.importorskip("PIL")

from PIL import Image

from dsqformat import open_dataset
from dsqformat.recipes.measures import stored_numbers
from dsqformat.select import psnr_of
from proxies import striped_pictures
from recipe_runs import COUNT, SIDE, small_run, write_source

X, Y = striped_pictures(COUNT, SIDE)
VOID = {"meta", "img", "rect", "br"}


class Page(HTMLParser):
    """Collects texts and pictures, and notes tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag == "img":
            self.images.append(dict(attrs)["src"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)

    def pictures(self):
        for source in self.images:
            assert source.startswith("data:image/png;base64,")
            with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
                yield np.asarray(image)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    source, work = write_source(folder / "s.npz"), folder / "work"
    made = {}
    for name, *settings in (
        ("ccs-aum-lsq-adaptive", "select.keep_ratio=0.5"),
        ("dq",),
        ("lsq-fixed", "bits.bits=12"),
    ):
        outcome = small_run(source, folder / name, name, *settings, work=work, report=True)
        page = Page(outcome.report_html.read_text("utf-8"))
        made[name] = (outcome, page, json.loads(outcome.report_json.read_text("utf-8")))
    return made


@pytest.mark.parametrize("name", ["ccs-aum-lsq-adaptive", "dq", "lsq-fixed"])
def test_the_page_is_whole_and_fetches_nothing(runs, name):
    outcome, page, report = runs[name]
    assert page.open == []
    assert report == outcome.report
    for attribute, value in page.attributes:
        assert not attribute.startswith("on")
        if attribute in ("src", "href", "srcset"):
            assert value.startswith("data:")
        assert not re.search("https?://", value or "")
    text = outcome.report_html.read_text("utf-8")
    for word in ("<script", "@import", "url(", "http://", "https://"):
        assert word not in text
    assert name in page.text
    assert outcome.snapshot_id in page.text
    assert all(picture.shape == (SIDE, SIDE, 3) for picture in page.pictures())


def test_bytes_are_held_against_more_than_float32(runs):
    outcome, page, report = runs["ccs-aum-lsq-adaptive"]
    nbytes, count = report["bytes"], report["samples"]["stored"]
    assert count == outcome.sample_count == 30
    same = nbytes["same_samples"]
    assert same["uint8"] == count * SIDE * SIDE * 3
    assert same["float32"] == 4 * same["uint8"]
    assert nbytes["whole_source"]["uint8"] == COUNT * SIDE * SIDE * 3
    assert {"png", "webp_lossless"} <= same.keys()
    assert nbytes["files_measured"] == count
    with open_dataset(outcome.dest) as dataset:
        labels = dataset.to_numpy()["label"]
        png = []
        for picture in _originals(outcome):
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "PNG", optimize=True)
            png.append(len(file.getvalue()))
    assert same["png"] == sum(png)
    assert nbytes["total"] == outcome.total_nbytes == nbytes["parts"]["total"]
    # R of the paper: 30 of 120 samples at 8 bits.
    assert nbytes["paper_reduction"] == pytest.approx(1 - 0.25 * 8 / 32)
    assert [row["stored"] for row in report["classes"]] == np.bincount(labels).tolist()
    for name in ("float32 values", "uint8 values", "PNG files", "WebP files, lossless"):
        assert name in page.text


def _originals(outcome):
    kept = np.asarray(_stage(outcome, "select").array("kept"))
    setting = np.asarray(_stage(outcome, "bits").array("setting"))
    return X[kept[stored_numbers(setting, block=False, seed=0)]]


def _stage(outcome, name):
    return next(found for found in outcome.stages if found.name == name)


def test_distributions_add_up(runs):
    _outcome, _, report = runs["ccs-aum-lsq-adaptive"]
    assert report["settings"] == {"name": "bits", "counts": {"0": 30, "8": 30}}
    assert sum(report["scores"]["source"]["counts"]) == COUNT
    assert sum(report["scores"]["stored"]["counts"]) == 30
    sensitivity = report["sensitivity"]
    assert sum(sensitivity["histogram"]["counts"]) == 60
    most, least = ([row["sensitivity"] for row in sensitivity[end]] for end in ("most", "least"))
    assert most == sorted(most, reverse=True)
    assert least == sorted(least)
    assert all(row["bits"] == 8 for row in sensitivity["most"])
    assert all(row["bits"] == 0 for row in sensitivity["least"])
    bins = runs["dq"][2]["bins"]
    assert (sum(bins["sizes"]), sum(bins["kept"])) == (COUNT, 30)
    assert np.sum(bins["by_class"], axis=0).tolist() == bins["kept"]


def test_fidelity_is_what_a_reader_gets(runs):
    outcome, _, report = runs["ccs-aum-lsq-adaptive"]
    with open_dataset(outcome.dest) as dataset:
        found = dataset.to_numpy()["image"].astype("f8")
    error = float(np.square(found - _originals(outcome)).sum())
    assert report["fidelity"]["psnr"] == pytest.approx(psnr_of(error, found.size))


def test_masked_pictures_show_what_is_missing_and_what_fills_it(runs):
    _outcome, page, report = runs["dq"]
    fidelity = report["fidelity"]
    # 8 affine bits keep stored pixels exactly: only filling loses.
    assert fidelity["psnr_stored_pixels"] is None
    assert 5 < fidelity["psnr"] < 60
    assert report["masks"]["kept_patches"] == 12
    pictures = list(page.pictures())
    assert len(pictures) % 3 == 0
    original, stored, filled = pictures[:3]
    hidden = (stored == 128).all(axis=2)
    assert hidden.sum() >= SIDE * SIDE // 4
    np.testing.assert_array_equal(original[~hidden], filled[~hidden])
    assert "filled in" in page.text


def test_dropped_samples_are_shown_as_dropped(runs):
    _, page, _ = runs["ccs-aum-lsq-adaptive"]
    assert page.text.count(": dropped") == 8


def test_remarks_say_what_flatters(runs):
    remarks = " ".join(runs["lsq-fixed"][2]["remarks"])
    assert "times the bytes of plain uint8: a gain over float32 alone" in remarks
    assert "from 9 bits on; 12 only take room" in remarks
    assert "Lossless" in remarks
    assert "rans takes whole samples" in " ".join(runs["dq"][2]["remarks"])
