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
from dsqformat.recipes.report_charts import Histogram, Series, bars, histogram, nice_ticks
from dsqformat.recipes.report_page import render
from dsqformat.recipes.report_pictures import Shown
from dsqformat.select import psnr_of
from proxies import striped_pictures
from recipe_runs import COUNT, SIDE, small_run, write_source

X, Y = striped_pictures(COUNT, SIDE)
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects texts and pictures, and notes tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.attributes, self.texts, self.alts = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag == "img":
            self.images.append(dict(attrs)["src"])
            self.alts.append(dict(attrs)["alt"])
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

    @property
    def lines(self):
        return "|".join(self.texts)

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
    assert all(re.fullmatch(r"sample #\d+ class [012], (original|stored|filled in)", alt)
               for alt in page.alts)  # fmt: skip
    # Each pixel is a whole number of pixels of the page.
    assert set(re.findall(r'<img class="sharp" width="(\d+)" height="(\d+)"', text)) == {
        (str(6 * SIDE), str(6 * SIDE))
    }


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


def test_the_dataset_stands_among_other_forms_by_size(runs):
    for _outcome, page, report in runs.values():
        rows = re.findall(
            r"(this dataset|values|PNG files|lossless)[^|]*?\|([\d,.]+)\|", page.lines
        )
        sizes = [float(size.replace(",", "")) for _, size in rows]
        assert sizes == sorted(sizes, reverse=True)
        assert dict(rows)["this dataset"] == f"{report['bytes']['per_sample']:,.0f}"
        same, total = report["bytes"]["same_samples"], report["bytes"]["total"]
        times = max(total / same["uint8"], same["uint8"] / total)
        place = page.texts.index("Against uint8")
        kind = "larger" if total > same["uint8"] else "smaller"
        assert page.texts[place + 1].endswith(f"\N{MULTIPLICATION SIGN} {kind}")
        assert float(page.texts[place + 1].split("\N{MULTIPLICATION SIGN}")[0]) == pytest.approx(
            times, rel=0.03
        )


def _originals(outcome):
    kept = np.asarray(_stage(outcome, "select").array("kept"))
    setting = np.asarray(_stage(outcome, "bits").array("setting"))
    return X[kept[stored_numbers(setting > 0, seed=0)]]


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


def page_of(report, pictures=None, **changes):
    return Page(render({**report, **changes}, pictures or {}))


def test_names_of_others_are_text_and_nothing_else(runs):
    _, _, report = runs["dq"]
    name = '<img src=x onerror="y">&amp;'
    classes = [{**row, "name": name} for row in report["classes"]]
    recipe = {**report["recipe"], "name": name, "summary": name, "paper": name}
    shown = Shown(name, name, "data:,", "data:,", None, (8, 8), True)
    page = page_of(
        report, {"spread": [shown]}, classes=classes, recipe=recipe, remarks=[name],
        bytes={**report["bytes"], "parts": {f"layer.{name}.0": 1, "total": 1}},
    )  # fmt: skip
    assert page.open == []
    assert page.images == ["data:,", "data:,"]
    assert page.alts[0] == f"sample {name}, original"
    assert page.texts.count(name) >= 2 * len(classes) + 5


def test_a_report_of_anything_has_a_page(runs):
    """Nothing measured, nothing selected by a network, no classes, no sample left."""
    _, _, report = runs["dq"]
    none = dict.fromkeys(("bins", "scores", "sensitivity", "masks", "training"))
    nbytes = {**report["bytes"], "files_measured": 0, "paper_reduction": None,
              "same_samples": {"float32": 0, "uint8": 0}}  # fmt: skip
    page = page_of(
        report, **none, classes=[], remarks=[], fidelity={"measured": 0}, bytes=nbytes,
        settings={"name": "qp", "counts": {}},
        samples={"source": 10, "kept": 0, "stored": 0, "dropped": 0},
    )  # fmt: skip
    assert page.open == []
    assert "Distributions" not in page.text
    exact = {"measured": 3, "exact": 3, "psnr": None, "psnr_stored_pixels": None, "histogram": None}
    page = page_of(report, **none, fidelity=exact)
    assert "exact" in page.texts
    assert "Samples by PSNR" not in page.text


def test_psnr_is_that_of_samples_that_lost_something(runs):
    _, _, report = runs["dq"]
    fidelity = report["fidelity"]
    counted = sum(fidelity["histogram"]["counts"])
    assert counted + fidelity["exact"] == fidelity["measured"]
    assert max(fidelity["histogram"]["edges"]) < 90
    half = {**fidelity, "exact": 7}
    assert "7 more are exact" in page_of(report, fidelity=half).text


def test_many_classes_are_folded(runs):
    _, _, report = runs["dq"]
    row = report["classes"][0]
    many = [{**row, "name": f"kind {number}"} for number in range(40)]
    page = page_of(report, classes=many)
    assert "All 40 rows" in page.texts
    assert "kind 39" in page.texts


def test_of_large_pictures_the_middle_is_shown_as_it_is(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (2, 170, 20, 3)).astype("u1")
    np.savez(tmp_path / "s.npz", x=x, y=np.arange(2))
    settings = ["quantize.quantizer=affine"]
    outcome = small_run(
        tmp_path / "s.npz", tmp_path / "d", "lsq-fixed", *settings, work=tmp_path / "w", report=True
    )
    page = Page(outcome.report_html.read_text("utf-8"))
    original, stored = list(page.pictures())[:2]
    np.testing.assert_array_equal(original, x[0, 5:165])
    np.testing.assert_array_equal(stored, x[0, 5:165])
    assert "#0 class 0, middle 20x160 of 20x170" in page.texts
    assert "8 bits" in page.texts
    assert 'width="20" height="160"' in outcome.report_html.read_text("utf-8")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (50.4, 99, [60, 70, 80, 90]),
        (-1.5, 1.5, [-1.5, -1, -0.5, 0, 0.5, 1, 1.5]),
        (0.0003, 0.0042, [0.001, 0.002, 0.003, 0.004]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert nice_ticks(low, high) == expected


def test_bars_are_as_high_as_their_counts():
    part, whole = Series("selected", [10, 0, 5]), Series("source", [20, 20, 10])
    edges = [0, 1, 2, 3]
    for shown in (
        bars("By bin", "bin", ["0", "1", "2"], part, whole),
        histogram(
            "By score", "score", Histogram("selected", {"counts": part.values, "edges": edges}),
            Histogram("source", {"counts": whole.values, "edges": edges}),
        ),
    ):  # fmt: skip
        assert Page(shown).open == []
        heights = [float(found) for found in re.findall(r'height="([\d.]+)" class="[ab]"', shown)]
        full = heights[0]
        assert heights == pytest.approx([full, full, full / 2, full / 2, 0, full / 4])
        for name in ("selected", "source", "10", "20"):
            assert name in Page(shown).text
