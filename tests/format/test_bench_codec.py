"""`dsq bench codec`: what its figures mean, what its bars say, and one short run of all of it."""

import csv
import json
import math

import numpy as np
import pytest

pytest.importorskip("PIL")
pytest.importorskip("matplotlib")
pytest.importorskip("pyarrow")
pytest.importorskip("skimage")

from PIL import Image

from dsqformat.bench import figures, speeds
from dsqformat.bench.bars import BARS, Bar, judge
from dsqformat.bench.curves import Curve, greatest, least, make_curve
from dsqformat.bench.dsq_codec import packed, read
from dsqformat.bench.fidelity import measure_fidelity, psnr_of, squared_error, ssim_of_picture
from dsqformat.bench.measuring import qps_reaching
from dsqformat.bench.picture_codecs import CODECS, PictureCodec, available_codecs, why_unusable
from dsqformat.bench.picture_sets import Limits, centre_crop, load_sets, scaled, tiles_of
from dsqformat.bench.points import DSQ, Point, Points
from dsqformat.bench.settings import block_codec, block_setting, pixel_setting
from dsqformat.bench.timing import take_turns
from dsqformat.errors import SourceError
from inputs import make_parquet, make_pictures, run_dsq


def ignore(stage, done, total):
    pass


@pytest.fixture(scope="module")
def tiles():
    (found,) = load_sets(None, ("tiles",), Limits(tiles=24), ignore)
    return found.pictures


def point(nbytes, psnr_db, codec="WebP, method 6", family="WebP", level=50.0, **more):
    return Point("tiles", 24, family, codec, "", level, nbytes, psnr_db, 0.9, **more)


# Fidelity --------------------------------------------------------------------------------------


def test_psnr_is_of_the_mean_error_of_all_pictures():
    pictures = np.full((2, 16, 16, 3), 100, "u1")
    decoded = pictures.copy()
    decoded[0, 3, 4, 1] = 110  # an error of 100 among 2 * 16 * 16 * 3 values
    found = measure_fidelity(pictures, decoded)
    assert found.psnr_db == pytest.approx(10 * math.log10(255**2 / (100 / 1536)))
    assert not found.lossless
    # The mean over pictures would be infinite: one of them is exact.
    assert math.isfinite(found.psnr_db)


def test_nothing_lost_is_lossless():
    pictures = make_pictures(2, 16)
    found = measure_fidelity(pictures, pictures.copy())
    assert found.lossless
    assert found.ssim == 1.0
    assert psnr_of(0, 5) == math.inf


def test_errors_do_not_wrap_around():
    black, white = np.zeros((2, 2, 3), "u1"), np.full((2, 2, 3), 255, "u1")
    assert squared_error(black, white) == squared_error(white, black) == 12 * 255**2


def test_pictures_of_other_shape_or_type_are_refused():
    with pytest.raises(ValueError, match="expected"):
        squared_error(np.zeros((2, 2, 3), "u1"), np.zeros((2, 3, 3), "u1"))
    with pytest.raises(ValueError, match="expected"):
        squared_error(np.zeros((2, 2, 3), "u1"), np.zeros((2, 2, 3), "f4"))


def test_ssim_of_flat_pictures_is_the_luminance_term():
    grey, lighter = np.full((16, 16, 3), 100, "u1"), np.full((16, 16, 3), 110, "u1")
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 110 + c1) / (100**2 + 110**2 + c1)
    assert ssim_of_picture()(grey, lighter) == pytest.approx(expected, abs=1e-5)


def test_single_precision_is_enough_for_ssim(tiles):
    from skimage.metrics import structural_similarity

    noisy = np.clip(tiles[0] + np.random.default_rng(0).integers(-9, 10, tiles[0].shape), 0, 255)
    double = structural_similarity(
        tiles[0].astype("f8"), noisy.astype("f8"), data_range=255, channel_axis=2,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert ssim_of_picture()(tiles[0], noisy.astype("u1")) == pytest.approx(double, abs=1e-5)


# Curves ----------------------------------------------------------------------------------------


def test_bytes_are_interpolated_in_their_logarithm():
    curve = make_curve([(400.0, 34.0), (100.0, 30.0)])
    assert curve.nbytes_at(32.0) == pytest.approx(200.0)
    assert curve.nbytes_at(30.0) == pytest.approx(100.0)
    assert curve.fidelity_at(200.0) == pytest.approx(32.0)


def test_outside_of_what_was_measured_nothing_is_claimed():
    curve = make_curve([(100.0, 30.0), (400.0, 34.0), (900.0, math.inf)])
    assert math.isnan(curve.nbytes_at(29.9))
    assert math.isnan(curve.nbytes_at(34.1))
    assert math.isnan(curve.fidelity_at(99.0))
    assert curve.fidelity_at(200.0, widest=4.0) == pytest.approx(32.0)
    assert math.isnan(curve.fidelity_at(200.0, widest=3.9))
    assert math.isnan(Curve((), ()).nbytes_at(30.0))
    # But a rival whose coarsest file is better than asked for is not written off.
    assert curve.least_nbytes_for(20.0) == 100.0
    assert math.isnan(curve.least_nbytes_for(34.1))


def test_settings_that_cost_more_for_less_are_dropped():
    curve = make_curve([(100.0, 30.0), (150.0, 29.0), (120.0, 32.0), (120.0, 31.0)])
    assert curve == Curve((30.0, 32.0), (100.0, 120.0))


def test_nan_never_passes_for_a_figure():
    assert least([math.nan, 2.0, 3.0]) == 2.0
    assert math.isnan(least([math.nan]))
    assert math.isnan(greatest([1.0, math.nan]))
    assert math.isnan(greatest([]))


def test_the_level_that_just_reaches_a_fidelity():
    jpeg = [point(1, 30.0, level=40), point(2, 32.0, level=45)]
    assert speeds.level_reaching(jpeg, 31.0) == 43
    blocks = [point(1, 30.0, level=110), point(2, 32.0, level=105)]
    assert speeds.level_reaching(blocks, 31.0) == 107
    assert speeds.level_reaching(jpeg, 33.0) is None
    assert speeds.level_reaching([], 30.0) is None


# Bars ------------------------------------------------------------------------------------------


def test_a_figure_is_held_against_its_bar():
    bar = Bar("tiles", "ratio", ("28 dB", "30 dB", "33 dB"), "<=", 0.65, 0.55)
    found = judge({"tiles": {("ratio", "28 dB"): 0.5, ("ratio", "30 dB"): 0.66}}, (bar,))
    assert [verdict.met for verdict in found] == [True, False, False]
    assert [verdict.stretch_met for verdict in found] == [True, False, False]
    assert str(found[1]) == "tiles: ratio at 30 dB: 0.66, expected <= 0.65"
    assert str(found[2]) == "tiles: ratio at 33 dB: not measured, expected <= 0.65"


def test_bars_of_sets_that_were_not_measured_are_not_judged():
    assert judge({"small": {}}) == []
    assert {verdict.bar.set_name for verdict in judge({"tiles": {}})} == {"tiles"}
    assert not any(verdict.met for verdict in judge({"tiles": {}, "pictures": {}}))


def test_bars_from_below():
    bar = Bar("tiles", "speed", ("",), ">=", 3.0, 6.0)
    for value, met, stretch in ((2.9, False, False), (3.0, True, False), (6.0, True, True)):
        (verdict,) = judge({"tiles": {("speed", ""): value}}, (bar,))
        assert (verdict.met, verdict.stretch_met) == (met, stretch)


def test_the_best_rival_counts():
    result = Points(
        (
            point(100.0, 28.0),
            point(400.0, 36.0, level=90),
            point(80.0, 29.0, "JPEG XL, effort 7", "JPEG XL"),
            point(300.0, 31.0, "JPEG XL, effort 7", "JPEG XL", level=90),
            point(10.0, 30.0, block_codec(1), DSQ),
        )
    )
    assert figures.rival_nbytes(result, "psnr_db", 29.0, None) == pytest.approx(80.0)
    assert figures.rival_nbytes(result, "psnr_db", 28.0, None) == pytest.approx(80.0)
    assert figures.rival_nbytes(result, "psnr_db", 32.0, None) == pytest.approx(200.0)
    assert math.isnan(figures.rival_nbytes(result, "psnr_db", 37.0, None))


def test_prefixes_are_set_beside_one_layer_of_as_many_bytes():
    one, two = block_codec(1), block_codec(2)
    result = Points(
        (
            point(100.0, 30.0, one, DSQ, level=110),
            point(400.0, 34.0, one, DSQ, level=90),
            point(420.0, 34.0, two, DSQ, level=90, layers=2, prefix=2),
            point(200.0, 31.7, f"{two}, first 1", DSQ, level=90, layers=2, prefix=1),
        )
    )
    (row,) = figures.prefix_rows(result, two, one)
    assert row.whole_nbytes == 420.0
    assert row.below_db == pytest.approx(0.3)


def test_a_qp_for_each_sample_reaches_the_same_psnr():
    # Two samples of 100 values; the second loses four times as much: 6.02 dB.
    errors = {80: np.array([100, 400]), 96: np.array([400, 1600]), 112: np.array([1600, 6400])}
    psnr = psnr_of(400, 100)
    assert qps_reaching(errors, 100, psnr - 1e-9).tolist() == [96, 80]
    assert qps_reaching(errors, 100, psnr - 3.0103).tolist() == [104, 88]
    assert qps_reaching(errors, 100, 99.0).tolist() == [80, 80]
    assert qps_reaching(errors, 100, 1.0).tolist() == [112, 112]


# Timing ----------------------------------------------------------------------------------------


def test_jobs_take_turns_and_the_best_counts():
    seconds = iter([2.0, 1.0, 4.0, 1.0, 3.0, 2.0])
    ran = []

    def clock(job):
        job()
        return next(seconds)

    jobs = {"a": (lambda: ran.append("a"), 8), "b": (lambda: ran.append("b"), 4)}
    found = take_turns(jobs, 3, clock)
    assert ran == ["a", "b", "b", "a", "a", "b"]
    assert (found["a"].best, found["a"].median) == (8.0, 4.0)
    assert (found["b"].best, found["b"].median) == (4.0, 2.0)


# Pictures and codecs ---------------------------------------------------------------------------


def test_tiles_are_disjoint_and_cover_what_fits():
    picture = np.arange(70 * 100 * 3, dtype="u4").reshape(70, 100, 3)
    found = list(tiles_of(picture, 32))
    assert len(found) == 6
    values = np.concatenate([tile.ravel() for tile in found])
    assert len(np.unique(values)) == 6 * 32 * 32 * 3


def test_scaling_sets_the_shorter_side():
    picture = np.zeros((300, 200, 3), "u1")
    assert scaled(picture, 96).shape == (144, 96, 3)
    assert centre_crop(np.arange(5 * 4 * 3).reshape(5, 4, 3), 2)[0, 0, 0] == (1 * 4 + 1) * 3


def test_folders_and_parquet_are_read(tmp_path):
    (tmp_path / "cats").mkdir()
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 256, (260, 300, 3), dtype="u1")
        Image.fromarray(noise).save(tmp_path / "cats" / f"{number}.png")
    (tmp_path / "cats" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    small = make_pictures(9, 12)
    make_parquet(tmp_path / "small.parquet", small)
    found = load_sets(tmp_path, ("tiles", "pictures", "small"), Limits(10, 1), ignore)
    shapes = {each.name: each.pictures.shape for each in found}
    assert shapes == {
        "tiles": (10, 32, 32, 3),
        "pictures": (1, 224, 224, 3),
        "small": (9, 12, 12, 3),
    }
    assert "small.parquet" in found[2].title
    assert "scaling down pictures that had been JPEG" in found[2].caution
    assert found[0].caution == ""
    again = load_sets(tmp_path, ("tiles",), Limits(10, 1), ignore)
    assert np.array_equal(found[0].pictures, again[0].pictures)


def test_a_folder_without_pictures_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="no pictures for tiles"):
        load_sets(tmp_path, ("tiles",), Limits(), ignore)
    with pytest.raises(SourceError, match="no such folder"):
        load_sets(tmp_path / "none", ("tiles",), Limits(), ignore)


def test_an_option_that_is_ignored_is_noticed():
    invented = PictureCodec("x", "JPEG", "JPEG", {"make_better": 1}, (50,), ("make_better",))
    assert why_unusable(invented) == "this encoder ignores make_better: the same bytes without it"
    honoured = PictureCodec("x", "JPEG", "JPEG", {"subsampling": 0}, (50,), ("subsampling",))
    assert why_unusable(honoured) == ""
    assert "not offered" in why_unusable(PictureCodec("x", "y", "NONE", {}, (50,)))


def test_every_codec_is_there_or_told_to_be_missing(tiles):
    found = available_codecs()
    assert len(found.codecs) + len(found.missing) == len(CODECS)
    for codec in found.codecs:
        quality = codec.qualities[-1] if codec.qualities else None
        decoded = codec.decode(codec.encode(tiles[0], quality))
        assert decoded.shape == (32, 32, 3)
        assert np.array_equal(decoded, tiles[0]) or not codec.lossless


def test_every_byte_of_a_dataset_counts(tiles):
    with packed(tiles, block_setting(90, 2)) as dataset:
        files = [path for path in dataset.path.rglob("*") if path.is_file()]
        assert {path.suffix for path in files} >= {".dsq", ".json"}
        assert dataset.nbytes == sum(len(path.read_bytes()) for path in files)
        assert dataset.prefix_nbytes(2) == dataset.nbytes / len(tiles)
        first = dataset.prefix_nbytes(1)
        assert dataset.nbytes - dataset.layer_nbytes[1] == pytest.approx(first * len(tiles))
        assert 0 < first < dataset.prefix_nbytes(2)
        whole, prefix = read(dataset.path), read(dataset.path, 1)
    assert (
        measure_fidelity(tiles, prefix).psnr_db < measure_fidelity(tiles, whole).psnr_db < math.inf
    )


def test_order_is_kept_and_8_bits_are_lossless(tiles):
    with packed(tiles, pixel_setting("affine", 8, "rans")) as dataset:
        assert np.array_equal(read(dataset.path), tiles)


# The command -----------------------------------------------------------------------------------


def test_a_short_run_says_everything_and_names_missed_bars(tmp_path, capsys):
    table, plot = tmp_path / "points.csv", tmp_path / "curves.svg"
    done = run_dsq(
        capsys, "bench", "codec", "--quick", "--sets", "tiles", "--tiles", 12, "--json",
        "--csv", table, "--plot", plot, "--assert",
    )  # fmt: skip
    # A dozen tiles cannot carry the tables of a dataset.
    assert done.code == 1
    assert "dsq: bar missed: tiles: " in done.err
    report = json.loads(done.out)
    (found,) = report["sets"]
    assert found["sample_count"] == 12
    assert report["conditions"]["quick"] is True
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found["points"])
    assert {row["family"] for row in rows} >= {"DSQ", "JPEG", "WebP", "AVIF", "PNG"}
    assert {row["quantizer"] for row in rows} == {"", "raw", "affine", "lsq", "patch", "block"}
    assert all(float(row["nbytes"]) > 0 for row in rows)
    lossless = {row["codec"] for row in rows if row["psnr_db"] == "inf"}
    assert {"PNG", "WebP lossless", "DSQ affine, rans, 1 layer", "DSQ raw, zstd"} <= lossless
    drawn = plot.read_text()
    assert block_codec(1) in drawn
    assert "WebP, method 6" in drawn
    # Each figure that a bar of this set asks for was computed, even if not all could be measured.
    known = {(figure["figure"], figure["at"]) for figure in found["figures"]}
    asked_for = {(bar.figure, "") for bar in BARS if bar.set_name == "tiles" and bar.at == ("",)}
    assert asked_for <= known
    missed = {bar["bar"] for bar in report["bars"] if not bar["met"]}
    assert all(f"bar missed: {name}: " in done.err for name in missed)


def test_tables_are_printed(capsys):
    done = run_dsq(
        capsys, "bench", "codec", "--quick", "--sets", "tiles", "--tiles", 8, "--no-speed"
    )
    assert done.code == 0
    for title in (
        "Bytes per sample at equal PSNR",
        "Bytes of DSQ divided by those of picture codecs, at equal mean SSIM",
        "What layers cost: further bytes at equal PSNR",
        "Prefixes of layered datasets beside a single layer of the same bytes",
        "Codes of pixels in one layer",
        "Lossless: bytes per sample",
        "Measured with --quick",
    ):
        assert title in done.out
    assert "MISSED" in done.out


def test_unknown_sets_are_refused(capsys):
    assert run_dsq(capsys, "bench", "codec", "--sets", "tiles,huge").code == 2
