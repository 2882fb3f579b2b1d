"""Recipes carried out: every shipped one, resumed, rebuilt bit by bit, and refused."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

from dsqclient import StreamingDataset
from dsqformat import open_dataset
from dsqformat.condense.round_trips import lsq_round_trip
from dsqformat.errors import (
    DatasetError,
    ModelError,
    RecipeError,
    SampleError,
    SelectionError,
    SourceError,
    TargetError,
)
from dsqformat.quantize.mask import pixel_mask
from dsqformat.recipes import condense, shipped_names
from dsqformat.recipes.measures import stored_numbers
from dsqformat.recipes.stage_options import Quantize
from dsqformat.recipes.stages import writing
from dsqformat.recipes.work_directory import WorkDirectory
from dsqformat.reconstruct import fill_harmonic, fill_mean
from dsqformat.select import (
    LastLayerGradients,
    ScoreTable,
    contrastive_diversity,
    make_bins,
    write_scores,
)
from dsqformat.sources import PictureOptions
from proxies import TinyNetwork, striped_pictures
from recipe_runs import COUNT, SIDE, SMALL, small_run, write_source

X, Y = striped_pictures(COUNT, SIDE)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("source") / "striped.npz")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Shared by tests that do not look at resumption: the training is done once."""
    return tmp_path_factory.mktemp("work")


def stage(outcome, name):
    return next(found for found in outcome.stages if found.name == name)


def made(outcome):
    return [found.name for found in outcome.stages if not found.reused]


# What the shipped recipes make -----------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_recipe_runs_to_the_end(tmp_path, source, work, name):
    outcome = small_run(source, tmp_path / "d", name, work=work)
    with open_dataset(tmp_path / "d") as dataset:
        assert len(dataset) == outcome.sample_count
        batch = dataset.to_numpy()
        said = dataset.snapshot.provenance["condense"]
    assert batch["image"].dtype == np.uint8
    assert said["recipe"]["name"] == name
    assert [s["digest"] for s in said["stages"]] == [s.digest for s in outcome.stages]
    # Labels stay with their pictures.
    stored = np.asarray(stage(outcome, "bits").array("setting")) > 0
    numbers = stored_numbers(stored | (name == "budget"), seed=0)
    kept = np.arange(COUNT)
    if "select" in [s.name for s in outcome.stages]:
        kept = np.asarray(stage(outcome, "select").array("kept"))
    np.testing.assert_array_equal(batch["label"], Y[kept[numbers]])
    assert not list(work.glob("stages/.part-*"))


def test_high_bits_go_to_the_sensitive_and_low_ones_drop(tmp_path, source, work):
    outcome = small_run(source, tmp_path / "d", "lsq-adaptive-8-0", work=work)
    sensitivity = stage(outcome, "sensitivity").array("sensitivity")
    setting = stage(outcome, "bits").array("setting")
    assert np.bincount(setting).tolist() == [60, 0, 0, 0, 0, 0, 0, 0, 60]
    assert sensitivity[setting == 8].min() >= sensitivity[setting == 0].max()
    assert (outcome.sample_count, outcome.dropped_count) == (60, 60)
    with open_dataset(tmp_path / "d") as dataset:
        assert len(dataset) == 60
        # Dropped samples have no payload; the table still lists them.
        import pyarrow.parquet as pq

        table = pq.read_table(tmp_path / "d" / dataset.snapshot.blob("samples").path)
    assert table.num_rows == 120
    unlisted = small_run(
        source, tmp_path / "e", "lsq-adaptive-8-0", "quantize.list_dropped=false", work=work
    )
    assert (unlisted.sample_count, unlisted.dropped_count) == (60, 60)
    assert unlisted.total_nbytes < outcome.total_nbytes


def test_layers_may_be_chosen(tmp_path, source, work):
    chosen = ["sensitivity.engine=layers", "sensitivity.layers=['stem.0', 'head']"]
    outcome = small_run(source, tmp_path / "d", "lsq-adaptive-8-0", *chosen, work=work)
    whole = small_run(
        source, tmp_path / "e", "lsq-adaptive-8-0", "sensitivity.engine=layers", work=work
    )
    found = [stage(run, "sensitivity").array("sensitivity") for run in (outcome, whole)]
    assert not np.allclose(*found)
    with pytest.raises(ModelError, match="layer 'nope': the network has none of this name"):
        small_run(source, tmp_path / "f", "lsq-adaptive-8-0", chosen[0],
                  "sensitivity.layers=['nope']", work=work)  # fmt: skip


def test_bits_by_class_keep_half_of_each(tmp_path, source, work):
    small_run(source, tmp_path / "d", "lsq-adaptive-8-0", "bits.per_class=true", work=work)
    with open_dataset(tmp_path / "d") as dataset:
        assert np.bincount(dataset.to_numpy()["label"]).tolist() == [20, 20, 20]


def test_masks_leave_visible_pixels_as_they_were(tmp_path, source, work):
    outcome = small_run(source, tmp_path / "d", "dq", work=work)
    kept = np.asarray(stage(outcome, "select").array("kept"))
    masks = np.asarray(stage(outcome, "mask").array("masks"))
    assert masks.shape == (30, 4, 4)
    assert (masks.sum(axis=(1, 2)) == 12).all()
    numbers = stored_numbers(np.ones(30, "?"), seed=0)
    seen = 0
    with open_dataset(tmp_path / "d") as dataset:
        assert dataset.schema.field("image").patch == 4
        for chunk in dataset.iter_chunks():
            for row, picture in enumerate(chunk.fields["image"]):
                number = numbers[seen]
                np.testing.assert_array_equal(chunk.masks["image"][row], masks[number])
                visible = pixel_mask(masks[number], SIDE, SIDE, 4)
                np.testing.assert_array_equal(picture[visible], X[kept[number]][visible])
                seen += 1
        batch = dataset.to_numpy()
        said = dataset.snapshot.provenance["condense"]
    assert seen == 30
    assert said["reconstructor"] == {"id": "harmonic", "sha256": None, "weights_nbytes": 0}
    # Who streams the dataset has them filled without asking.
    (streamed,) = StreamingDataset(
        tmp_path / "d", batch_size=30, output="source", channels_first=False
    )
    found = streamed["image"].numpy()
    np.testing.assert_array_equal(fill_harmonic(found, masks[numbers], 4), found)
    # Bin and rank of every sample stay with it.
    selected = stage(outcome, "select")
    for column, array in (("bin_id", "bin_id"), ("bin_rank", "bin_rank")):
        np.testing.assert_array_equal(batch[column], selected.array(array)[kept[numbers]])


def test_contrastive_diversity_is_that_of_a_trained_discriminator(tmp_path, source, work):
    plain = small_run(source, tmp_path / "p", "adq-bins", "mask=off", work=work)
    settings = ["mask=off", "select.diversity=contrastive"]
    outcome = small_run(source, tmp_path / "d", "adq-bins", *settings, work=work)
    featured, selected = stage(outcome, "features"), stage(outcome, "select")
    loss = featured.facts["discriminator_loss"]
    assert loss[-1] < loss[0]
    expected = contrastive_diversity(
        featured.array("anchors"), featured.array("positives"), selected.array("bin_id"), 4
    )
    assert selected.facts["diversity"] == expected.tolist()
    assert (expected < 0).all()
    # Bins are the same, what is taken of them is not.
    bins = [np.asarray(stage(run, "select").array("bin_id")) for run in (plain, outcome)]
    np.testing.assert_array_equal(*bins)
    assert stage(plain, "select").facts["diversity"] != selected.facts["diversity"]


def test_weights_of_a_trained_reconstructor_ship_and_are_counted(tmp_path, source, work):
    small = ["mask.reconstructor='tiny-mae'", "mask.epochs=1", "mask.width=24"]
    outcome = small_run(source, tmp_path / "d", "dq", *small, work=work, report=True)
    nbytes = stage(outcome, "mask").facts["weights_nbytes"]
    with open_dataset(tmp_path / "d") as dataset:
        blob = dataset.snapshot.blob(writing.RECONSTRUCTOR_ROLE)
    assert blob.nbytes == nbytes > 10_000
    assert outcome.total_nbytes > nbytes
    files = [path for path in (tmp_path / "d").rglob("*") if path.is_file() and path.name[0] != "."]
    assert outcome.total_nbytes == sum(path.stat().st_size for path in files)


def test_sensitivity_is_that_of_what_a_trained_reconstructor_fills_in(tmp_path, source, work):
    """Masked, quantized and filled in, as the trainer will see it: not the bare quantization."""
    small = ["mask.epochs=1", "mask.width=24", "mask.importance=random"]
    bits = ["bits.mode=two-level", "quantize.quantizer=lsq", "sensitivity.engine=distortion"]
    found = {}
    for reconstructor in ("tiny-mae", "mean"):
        settings = [*small, *bits, f"mask.reconstructor='{reconstructor}'"]
        outcome = small_run(source, tmp_path / reconstructor, "dq", *settings, work=work)
        kept = np.asarray(stage(outcome, "select").array("kept"))
        masks = np.asarray(stage(outcome, "mask").array("masks"))
        found[reconstructor] = np.asarray(stage(outcome, "sensitivity").array("sensitivity"))
    shown = np.stack([pixel_mask(mask, SIDE, SIDE, 4) for mask in masks])[..., np.newaxis]
    # The range is that of stored pixels alone.
    low = np.where(shown, X[kept], 255).min(axis=(1, 2, 3), keepdims=True)
    back = lsq_round_trip(8)(np.where(shown, X[kept], low).astype("u1")) * shown
    expected = np.square(fill_mean(back.astype("f4"), masks, 4) - X[kept] / 255)
    np.testing.assert_allclose(found["mean"], expected.sum(axis=(1, 2, 3)), rtol=1e-4)
    assert not np.allclose(found["mean"], found["tiny-mae"], rtol=0.01)


def test_a_budget_is_never_exceeded(tmp_path, source, work):
    nbytes = 260
    outcome = small_run(
        source, tmp_path / "d", "budget", f"bits.bytes_per_sample={nbytes}", work=work
    )
    files = [path for path in (tmp_path / "d").rglob("*") if path.is_file() and path.name[0] != "."]
    assert outcome.total_nbytes == sum(path.stat().st_size for path in files)
    assert 0.8 * nbytes * COUNT < outcome.total_nbytes <= nbytes * COUNT
    assert outcome.sample_count == COUNT
    # Coarser where it hurts less: not one qp for all.
    assert len(np.unique(stage(outcome, "bits").array("setting"))) > 1


def test_a_budget_by_sensitivity_and_as_a_total(tmp_path, source, work):
    settings = ["bits.bytes_per_sample=0", "bits.total='15kB'", "bits.measure='sensitivity'"]
    settings += ["train.epochs=1", "select.keep_ratio=0.5"]
    outcome = small_run(source, tmp_path / "d", "budget", *settings, work=work)
    assert outcome.total_nbytes <= 15_000
    assert stage(outcome, "bits").array("distortion").max() <= 2


def test_a_budget_that_is_too_small_names_the_least(tmp_path, source, work):
    with pytest.raises(TargetError, match=r"budget of 1200 bytes: the smallest possible is \d+ "):
        small_run(source, tmp_path / "d", "budget", "bits.bytes_per_sample=10", work=work)
    assert not (tmp_path / "d").exists()


def test_refined_pictures_are_those_that_are_stored(tmp_path, source, work):
    outcome = small_run(source, tmp_path / "d", "ptq-patch", work=work)
    refined = stage(outcome, "refine")
    assert (refined.array("loss_after") <= refined.array("loss_before")).all()
    pictures = np.asarray(refined.array("pictures"))
    assert pictures.dtype == np.uint8
    assert not np.array_equal(pictures, X)
    plain = small_run(source, tmp_path / "e", "ptq-patch", "refine=off", work=work)
    assert plain.snapshot_id != outcome.snapshot_id


# Resumption and rebuilds -----------------------------------------------------------------------


def test_a_second_run_does_no_stage_again(tmp_path, source):
    first = small_run(source, tmp_path / "d", "ccs-aum-lsq-adaptive", report=True)
    assert made(first) == ["staging", "train", "scores", "select", "sensitivity", "bits"]
    again = small_run(source, tmp_path / "d", "ccs-aum-lsq-adaptive", report=True)
    assert made(again) == []
    assert (first.published, again.published) == (True, False)
    assert again.snapshot_id == first.snapshot_id
    # A late option repeats late stages only.
    late = small_run(
        source, tmp_path / "d", "ccs-aum-lsq-adaptive", "bits.high=6", replace_existing=True
    )
    assert made(late) == ["bits"]
    # Bits decide at which width sensitivity is probed.
    probe = small_run(
        source, tmp_path / "d", "ccs-aum-lsq-adaptive", "bits.low=4", replace_existing=True
    )
    assert made(probe) == ["sensitivity", "bits"]


def test_a_killed_run_is_continued(tmp_path, source, monkeypatch):
    from dsqformat.recipes.stages import sensitivity

    def killed(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sensitivity, "measure_sensitivity", killed)
        with pytest.raises(KeyboardInterrupt):
            small_run(source, tmp_path / "d", "lsq-adaptive-8-0")
    assert not (tmp_path / "d").exists()
    # What a process that is killed outright leaves behind.
    left = tmp_path / "d.work" / "stages" / ".part-left"
    left.mkdir()
    (left / "half.npy").write_bytes(b"\x93NUMPY")
    # A stage whose files are gone is carried out again.
    done = small_run(source, tmp_path / "d", "lsq-adaptive-8-0")
    assert made(done) == ["sensitivity", "bits"]
    assert not left.exists()
    shutil.rmtree(stage(done, "sensitivity").folder)
    again = small_run(source, tmp_path / "d", "lsq-adaptive-8-0")
    assert made(again) == ["sensitivity"]
    assert again.snapshot_id == done.snapshot_id


@pytest.mark.parametrize("name", ["dq", "ccs-aum-lsq-adaptive"])
def test_a_rebuild_elsewhere_is_bit_identical(tmp_path, source, name):
    import torch

    one = small_run(source, tmp_path / "one", name)
    before = torch.get_num_threads()
    torch.set_num_threads(3 - min(before, 2))  # another number
    try:
        other = small_run(source, tmp_path / "elsewhere" / "two", name, work=tmp_path / "w2")
    finally:
        torch.set_num_threads(before)
    assert one.snapshot_id == other.snapshot_id
    assert [s.digest for s in one.stages] == [s.digest for s in other.stages]
    assert made(other) == made(one)
    # What the snapshot says of itself is enough.
    work = tmp_path / "w3"
    third = condense(source, tmp_path / "three", tmp_path / "one", work=work, report=False)
    assert third.snapshot_id == one.snapshot_id
    assert made(third) == made(one)


def test_another_seed_is_another_choice(tmp_path, source, work):
    settings = ["select.keep_ratio=0.5"]
    one = small_run(source, tmp_path / "one", "lsq-fixed", *settings, work=work)
    two = small_run(source, tmp_path / "two", "lsq-fixed", *settings, work=work, seed=1)
    assert one.snapshot_id != two.snapshot_id
    kept = [np.asarray(stage(run, "select").array("kept")) for run in (one, two)]
    assert not np.array_equal(*kept)


def test_two_runs_do_not_share_a_work_directory(tmp_path, source):
    with WorkDirectory(tmp_path / "w"), pytest.raises(DatasetError, match="another run"):
        small_run(source, tmp_path / "d", "lsq-fixed", work=tmp_path / "w")


def test_another_dataset_is_not_overwritten_unasked(tmp_path, source, work):
    small_run(source, tmp_path / "d", "lsq-fixed", work=work)
    with pytest.raises(DatasetError, match="--replace"):
        small_run(source, tmp_path / "d", "lsq-fixed", "bits.bits=6", work=work)
    replaced = small_run(
        source, tmp_path / "d", "lsq-fixed", "bits.bits=6", work=work, replace_existing=True
    )
    assert replaced.published


# What is brought along -------------------------------------------------------------------------


def test_features_and_scores_of_files_need_no_network(tmp_path, work):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "f.npy", rng.normal(size=(60, 8)).astype("f4"))
    write_scores(tmp_path / "s.npz", ScoreTable(60, {"mine": rng.random(60)}))
    source = write_source(tmp_path / "s.npz.npz", count=60)
    files = ["features.kind=file", f"features.file={tmp_path / 'f.npy'}"]
    outcome = small_run(source, tmp_path / "d", "dq", *files, "mask.importance=variance", work=work)
    assert "train" not in [s.name for s in outcome.stages]
    scores = ["scores.score=file", f"scores.file={tmp_path / 's.npz'}", "scores.column=mine"]
    chosen = ["select.method=score", "select.keep_ratio=0.1", "select.per_class=false"]
    best = small_run(source, tmp_path / "e", "lsq-fixed", *scores, *chosen, work=work)
    kept = stage(best, "select").array("kept")
    values = stage(best, "scores").array("score")
    assert values[kept].min() >= np.delete(values, kept).max()
    with open_dataset(tmp_path / "e") as dataset:
        found = np.sort(dataset.to_numpy()["score"])
    np.testing.assert_allclose(found, np.sort(values[kept]), rtol=1e-6)


def test_what_needs_no_network_needs_no_torch(tmp_path):
    source = write_source(tmp_path / "x.npz", count=30)
    np.save(tmp_path / "f.npy", np.random.default_rng(0).normal(size=(30, 8)).astype("f4"))
    write_scores(tmp_path / "s.npz", ScoreTable(30, {"mine": np.arange(30.0)}))
    settings = [
        "scores.score=file",
        f"scores.file={tmp_path / 's.npz'}",
        "scores.column=mine",
        "features.kind=file",
        f"features.file={tmp_path / 'f.npy'}",
        "select.method=bins",
        "select.bins=2",
        "mask.importance=sobel",
        "sensitivity.engine=distortion",
        "bits.mode=two-level",
        "quantize.coding=zstd",
    ]
    script = """if True:
        import sys
        sys.modules["torch"] = None  # as if it were not installed
        from dsqformat.recipes import condense
        outcome = condense(*sys.argv[1:3], "lsq-fixed", settings=sys.argv[3:])
        print([stage.name for stage in outcome.stages])
    """
    done = subprocess.run(
        [sys.executable, "-c", script, source, tmp_path / "d", *settings],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    stages = ["staging", "scores", "features", "select", "mask", "sensitivity", "bits"]
    assert done.stdout.strip() == str(stages)


def test_samples_of_any_kind_travel_raw(tmp_path, work):
    rng = np.random.default_rng(1)
    texts = rng.integers(97, 123, (40, 24)).astype("i4")
    np.savez(tmp_path / "t.npz", x=texts, y=np.arange(40) % 2)
    np.save(tmp_path / "f.npy", rng.normal(size=(40, 6)))
    settings = [
        "quantize.quantizer=raw",
        "select.method=bins",
        "select.bins=4",
        "select.keep_ratio=0.5",
        "features.kind=file",
        f"features.file={tmp_path / 'f.npy'}",
    ]
    outcome = small_run(
        tmp_path / "t.npz", tmp_path / "d", "lsq-fixed", *settings, work=work, report=True
    )
    kept = np.asarray(stage(outcome, "select").array("kept"))
    with open_dataset(tmp_path / "d") as dataset:
        found = dataset.to_numpy()["image"]
    assert {row.tobytes() for row in found} == {texts[k].tobytes() for k in kept}


def test_entropy_is_that_of_the_finished_network(tmp_path, source, work):
    import torch

    from dsqformat.condense.outputs import network_outputs
    from dsqformat.condense.pictures import ArrayPictures
    from dsqformat.recipes.recipe import Train
    from dsqformat.recipes.stages.training import trained_proxy

    settings = ["select.method=score", "scores.score=entropy", "train.epochs=1"]
    outcome = small_run(source, tmp_path / "d", "lsq-fixed", *settings, work=work)
    pictures = ArrayPictures(X, Y)
    proxy = trained_proxy(stage(outcome, "train"), pictures, Train(), None, "cpu")
    logits = np.concatenate([batch.logits for batch in network_outputs(proxy, pictures)])
    p = torch.softmax(torch.from_numpy(logits).double(), 1).numpy()
    expected = -(p * np.log(p + 1e-10)).sum(axis=1)
    np.testing.assert_allclose(stage(outcome, "scores").array("score"), expected, rtol=1e-9)


def test_a_network_of_ones_own_takes_the_place_of_the_proxy(tmp_path, source, work):
    network = TinyNetwork()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    outcome = small_run(
        source, tmp_path / "d", "lsq-adaptive-8-0", "train.epochs=0", work=work, network=network
    )
    assert "network" in stage(outcome, "train").inputs
    assert all((value == before[name]).all() for name, value in network.state_dict().items())
    with pytest.raises(ModelError, match="5 outputs for 3 classes"):
        small_run(
            source, tmp_path / "e", "lsq-adaptive-8-0", work=work, network=TinyNetwork(classes=5)
        )


def test_gradients_of_a_head_without_bias_have_none(tmp_path, source, work):
    settings = ["features.kind=last_layer_grad", "train.epochs=0", "mask=off"]
    for bias in (True, False):
        outcome = small_run(
            source, tmp_path / f"{bias}", "dq", *settings, work=work, network=TinyNetwork(bias=bias)
        )
        featured = stage(outcome, "features")
        factors = featured.array("residual"), featured.array("hidden")
        expected = make_bins(LastLayerGradients(*factors, bias=bias), Y, bin_count=4)
        np.testing.assert_array_equal(
            stage(outcome, "select").array("bin_id"), expected.bin_ids, strict=True
        )


def test_distilled_tensors_are_a_source(tmp_path, work):
    import torch

    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(12, 3, 10, 10, generator=generator)
    torch.save({"images": pictures, "labels": torch.arange(12) % 3}, tmp_path / "d.pt")
    settings = ["train.batch_size=6", "refine.iterations=2", "quantize.groups=8"]
    outcome = small_run(tmp_path / "d.pt", tmp_path / "d", "ptq-patch", *settings, work=work)
    with open_dataset(tmp_path / "d") as dataset:
        assert dataset.schema.field("image").dtype == "float32"
        assert len(dataset) == outcome.sample_count == 12


def test_pictures_of_different_sizes_need_no_network(tmp_path, work):
    from PIL import Image

    for number in range(12):
        folder = tmp_path / "in" / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        picture = X[number][: 10 + number % 3]
        Image.fromarray(picture).save(folder / f"{number:02}.png")
    outcome = small_run(tmp_path / "in", tmp_path / "d", "lsq-fixed", work=work, report=True)
    assert outcome.report["fidelity"]["psnr"] > 45
    with open_dataset(tmp_path / "d") as dataset:
        assert dataset.by_key("class1/03.png")["label"] == 1
    limit = ["bits.bytes_per_sample=0", "bits.total='20kB'"]
    budget = small_run(tmp_path / "in", tmp_path / "b", "budget", *limit, work=work)
    assert (budget.sample_count, budget.total_nbytes <= 20_000) == (12, True)
    with pytest.raises(SourceError, match=r"field 'image': .* sizes, .* --resize N --crop N"):
        small_run(tmp_path / "in", tmp_path / "e", "lsq-adaptive-8-0", work=work)
    # What the message advises is a way out.
    one_size = PictureOptions(resize=10, crop=10)
    scaled = small_run(
        tmp_path / "in", tmp_path / "e", "lsq-adaptive-8-0", work=work, pictures=one_size
    )
    assert scaled.kept_count == 12


# Refusals --------------------------------------------------------------------------------------


def test_a_recipe_that_needs_labels_says_so(tmp_path, work):
    source = write_source(tmp_path / "x.npz", labels=False)
    with pytest.raises(RecipeError, match="training a proxy network: needs the class of each"):
        small_run(source, tmp_path / "d", "lsq-adaptive-8-0", work=work)
    # Without a network, and without classes, most still works.
    done = small_run(source, tmp_path / "d", "lsq-fixed", "select.keep_ratio=0.5", work=work)
    assert done.sample_count == 60


@pytest.mark.parametrize(
    ("name", "settings", "error", "line"),
    [
        ("dq", ["select.bins=50"], SelectionError, "class 0.*50"),
        ("ccs-aum-lsq-adaptive", ["select.keep_ratio=0.9"], SelectionError, "beta"),
        ("lsq-adaptive-8-0", ["sensitivity=off"], RecipeError, r"needs a table \[sensitivity\]"),
        ("lsq-adaptive-8-0", ["train.epochs=0"], RecipeError, "train.epochs: got 0"),
        ("lsq-fixed", ["bits.bits=1"], RecipeError, "bit_width 1 with lsq"),
        ("lsq-fixed", ["bits.bits=40"], RecipeError, "bits.bits: got 40, expected 0 to 16"),
        ("lsq-fixed", ["select.method=ccs", "scores.score=tdds", "train.epochs=1"], RecipeError,
         "3 or more for score tdds"),
        ("dq", ["mask.patch=16"], RecipeError, "one patch, which cannot be left out"),
        ("lsq-fixed", ["bits.bits=0"], RecipeError, "0 bits to all 120 samples.*ask for more bits"),
        ("lsq-adaptive-8-0", ["select.keep_ratio=0.01", "bits.average=3"], RecipeError,
         "0 bits to all 1 samples.*keep more samples"),
        ("lsq-adaptive-8-0", ["sensitivity.probe_bits=1"], RecipeError, "got 1, expected 2 to 16"),
        ("ptq-patch", ["bits.bits=9"], RecipeError, "got 9, expected 1 to 8 with quantizer patch"),
        ("budget", ["bits.bytes_per_sample=0", "bits.total='much'"], RecipeError,
         "bits.total: got 'much': expected a size such as"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_in_one_line(tmp_path, source, work, name, settings, error, line):
    with pytest.raises(error, match=line) as caught:
        small_run(source, tmp_path / "d", name, *settings, work=work)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "d").exists()


def test_features_with_nan_are_refused(tmp_path, source, work):
    features = np.ones((COUNT, 4))
    features[7, 2] = np.nan
    np.save(tmp_path / "f.npy", features)
    settings = ["features.kind=file", f"features.file={tmp_path / 'f.npy'}"]
    with pytest.raises(SourceError, match="sample 7 are NaN"):
        small_run(source, tmp_path / "d", "dq", *settings, work=work)


def test_a_checkpoint_is_verified_where_it_is_named(tmp_path, source, work):
    import hashlib

    import torch

    from dsqformat.condense.masked_autoencoder import MaeShape, MaskedAutoencoder

    shape = MaeShape(4, 4, 8, 3, width=768, depth=1, heads=12, decoder_width=64, decoder_depth=1,
                     decoder_heads=16)  # fmt: skip
    file = tmp_path / "mae.pth"
    torch.save(MaskedAutoencoder(shape).state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()

    def run(sha256, *settings):
        named = ["mask.reconstructor='checkpoint'", f"mask.file='{file}'"]
        named.append(f"mask.sha256='{sha256}'")
        easy = ["mask.importance='random'", "select.method='random'", *settings]
        return small_run(source, tmp_path / "d", "dq", *named, *easy, work=work)

    with pytest.raises(ModelError, match="it is not the file that was named"):
        run("00" * 32)
    with pytest.raises(ModelError, match="the network knows 4 x 4 patches"):
        run(digest, "mask.patch=8")
    assert not (tmp_path / "d").exists()
    assert stage(run(digest), "mask").facts["sha256"] == digest


def test_values_that_are_no_numbers_are_found_where_they_are(tmp_path, work):
    pictures = (X / 255).astype("f4")
    pictures[5, 3, 3, 0], pictures[9, 0, 0, 2] = np.nan, np.inf
    np.savez(tmp_path / "x.npz", x=pictures, y=Y)
    for name in ("lsq-fixed", "lsq-adaptive-8-0"):
        with pytest.raises(SampleError, match="sample 5: field 'image' holds NaN or infinity"):
            small_run(tmp_path / "x.npz", tmp_path / "d", name, work=work)
    done = small_run(tmp_path / "x.npz", tmp_path / "d", "lsq-fixed", work=work, skip_bad=True)
    assert (done.source_count, stage(done, "staging").facts["skipped"]) == (COUNT - 2, 2)
    raw = small_run(
        tmp_path / "x.npz", tmp_path / "e", "lsq-fixed", "quantize.quantizer=raw", work=work
    )
    assert raw.sample_count == COUNT


def test_a_column_of_the_source_is_not_overwritten(tmp_path, work):
    source = write_source(tmp_path / "c.npz", bin_id=np.arange(COUNT))
    with pytest.raises(RecipeError, match="the source has 'bin_id' already"):
        small_run(source, tmp_path / "d", "dq", work=work)
    small_run(source, tmp_path / "d", "dq", "quantize.columns=['bin_rank']", work=work)


def test_columns_are_checked_before_anything_is_run():
    assert Quantize().columns == ("bin_id", "bin_rank", "score", "sensitivity")
    assert set(SMALL) == set(shipped_names())


def test_condense_takes_a_recipe_as_data(tmp_path, source, work):
    from dsqformat.recipes import Recipe
    from dsqformat.recipes.stage_options import Bits

    recipe = Recipe(name="mine", bits=Bits(bits=4), quantize=Quantize(quantizer="affine"))
    # Coding auto: pixels are modelled.
    outcome = condense(source, tmp_path / "d", recipe, work=work, report=False, limit=50)
    assert (outcome.source_count, outcome.sample_count) == (50, 50)
