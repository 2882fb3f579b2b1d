"""Targets of the writer: sizes met within one per cent from below, fidelities within 0.15 dB."""

import functools

import numpy as np
import pytest

from dsqformat import DatasetWriter, FieldSpec, SampleError, open_dataset
from dsqformat.errors import TargetError
from dsqformat.writer import NbytesPerSample, Psnr, TotalNbytes

COUNT = 1000
SEVERAL = {"shard_nbytes": 8_000, "chunk_nbytes": 2_000}


@functools.cache
def pictures(count=COUNT, side=8, seed=0):
    """Smooth pictures with more or less noise, uint8, shape (count, side, side, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 1, (count, 4, 4, 3))
    values = coarse.repeat(side // 4, axis=1).repeat(side // 4, axis=2)
    for axis in (1, 2):
        values = (values + np.roll(values, 1, axis) + np.roll(values, -1, axis)) / 3
    noise = rng.normal(0, 6, values.shape) * rng.random((count, 1, 1, 1))
    return np.clip(128 + 45 * values + noise, 0, 255).astype("u1")


def write(path, spec, target, values=None, *, keyed=True, **options):
    """Write labelled pictures; the writer."""
    values = pictures() if values is None else values
    labels = np.arange(len(values))
    keys = [f"k{number}" for number in labels] if keyed else None
    options = {"zstd_level": 3} | options
    with DatasetWriter(path, fields={"image": spec}, target=target, **options) as writer:
        writer.write_batch({"image": values, "label": labels}, keys=keys)
    return writer


def files_of(folder):
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def check_size(path, writer, most):
    """What is on the disk is what was asked for: nothing above, nothing left over."""
    report = writer.report
    assert 0.99 * most <= report.total_nbytes <= most
    assert sum(file.stat().st_size for file in files_of(path)) == report.total_nbytes


def psnr_of_dataset(path, values):
    """PSNR over all values, from the dataset as it is read."""
    with open_dataset(path) as dataset:
        batch = dataset.to_numpy(output="source")
    difference = batch["image"].astype("f8") - values[batch["label"]]
    return 10 * np.log10(255**2 / np.mean(difference**2))


# Sizes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("several", [False, True])
def test_blocks_of_a_size(tmp_path, shuffle, several):
    options = SEVERAL if several else {}
    writer = write(
        tmp_path / "d", FieldSpec("block"), NbytesPerSample(50), shuffle=shuffle, **options
    )
    check_size(tmp_path / "d", writer, 50 * COUNT)
    assert (writer.report.shard_count > 1) == several
    (counts,) = writer.report.settings.values()
    assert sum(counts.values()) == COUNT
    # The pictures stay what they were, and in place.
    assert psnr_of_dataset(tmp_path / "d", pictures()) > 25
    with open_dataset(tmp_path / "d") as dataset:
        found = dataset.to_numpy()["label"]
        assert (found.tolist() == list(range(COUNT))) == (not shuffle)
        assert dataset.by_key("k7")["label"] == 7


@pytest.mark.parametrize(
    ("spec", "nbytes", "options"),
    [
        (FieldSpec("affine"), 80, {}),
        (FieldSpec("affine", layers=()), 110, {"shuffle": False} | SEVERAL),
        (FieldSpec("affine"), 90, {"coding": "packed"}),
        (FieldSpec("lsq"), 80, {}),
        (FieldSpec("lsq"), 95, SEVERAL),
        (FieldSpec("patch", bit_width=2, patch=4), 72, {}),
        (FieldSpec("patch", bit_width=3, patch=4), 109, {"shuffle": False, "coding": "packed"}),
    ],
)
def test_other_quantizers_of_a_size(tmp_path, spec, nbytes, options):
    writer = write(tmp_path / "d", spec, NbytesPerSample(nbytes), **options)
    check_size(tmp_path / "d", writer, nbytes * COUNT)
    if spec.quantizer == "patch":
        assert set(writer.report.settings["image.bit_width"]) == {spec.bit_width}
        storage = writer.report.patches["image"]
        assert storage.group_count > 1
        assert (storage.value_count, storage.patch_count) == (192 * COUNT, 4 * COUNT)


def test_a_total_without_keys_and_table(tmp_path):
    writer = write(
        tmp_path / "d", FieldSpec("block"), TotalNbytes(30_000), keyed=False, table=False
    )
    check_size(tmp_path / "d", writer, 30_000)


def test_real_values_have_sizes_too(tmp_path):
    values = pictures().astype("f4") / 255
    writer = write(tmp_path / "d", FieldSpec("affine"), NbytesPerSample(85), values)
    check_size(tmp_path / "d", writer, 85 * COUNT)


def test_a_size_counts_files_that_were_added(tmp_path):
    with DatasetWriter(
        tmp_path / "d", fields={"image": FieldSpec("block")}, target=TotalNbytes(90_000)
    ) as writer:
        writer.write_batch({"image": pictures(), "label": np.arange(COUNT)})
        writer.add_blob("weights", bytes(20_000), "application/octet-stream", "bin")
    check_size(tmp_path / "d", writer, 90_000)


def test_the_same_samples_make_the_same_snapshot(tmp_path):
    first, again = (
        write(tmp_path / name, FieldSpec("block"), NbytesPerSample(70), pictures()[:300])
        for name in "ab"
    )
    assert first.snapshot_id == again.snapshot_id


def test_few_samples_never_take_more(tmp_path):
    writer = write(tmp_path / "d", FieldSpec("block"), TotalNbytes(10_500), pictures()[:30])
    assert 10_000 < writer.report.total_nbytes <= 10_500


def test_appending_counts_what_is_written(tmp_path):
    write(tmp_path / "d", FieldSpec("affine", 3), None)
    before = {path: path.stat().st_size for path in files_of(tmp_path / "d")}
    with DatasetWriter(
        tmp_path / "d",
        fields={"image": FieldSpec("affine")},
        mode="append",
        target=TotalNbytes(120_000),
    ) as writer:
        labels = np.arange(COUNT)
        keys = [f"more-{number}" for number in labels]
        writer.write_batch({"image": pictures(seed=1), "label": labels}, keys=keys)
    assert 0.99 * 120_000 <= writer.report.total_nbytes <= 120_000
    # dataset.json was there and is written anew.
    new = [path for path in files_of(tmp_path / "d") if path not in before]
    added = sum(path.stat().st_size for path in new)
    assert added + (tmp_path / "d" / "dataset.json").stat().st_size == writer.report.total_nbytes
    with open_dataset(tmp_path / "d") as dataset:
        assert len(dataset) == 2 * COUNT
        assert dataset.by_key("k3")["label"] == dataset.by_key("more-3")["label"] == 3


def test_other_fields_and_dropped_samples_stay_as_they_are(tmp_path):
    masks = pictures()[..., 0] > 128
    fields = {"image": FieldSpec("affine"), "mask": FieldSpec("raw")}
    target = NbytesPerSample(85)
    with DatasetWriter(tmp_path / "d", fields=fields, target=target) as writer:
        for number in range(COUNT):
            sample = {"image": pictures()[number], "mask": masks[number].astype("u1")}
            sample["label"] = number
            writer.write(sample, bit_width=0 if number % 100 == 0 else None)
    check_size(tmp_path / "d", writer, 85 * (COUNT - 10))
    assert writer.report.dropped_count == 10
    with open_dataset(tmp_path / "d") as dataset:
        batch = dataset.to_numpy()
    assert np.array_equal(batch["mask"], masks[batch["label"]])


# Fidelities -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "decibels", "options"),
    [
        (FieldSpec("block"), 33, {}),
        (FieldSpec("block", layers=()), 30, {"shuffle": False} | SEVERAL),
        (FieldSpec("affine"), 31, {}),
        (FieldSpec("lsq"), 34, {"shuffle": False} | SEVERAL),
    ],
)
def test_a_fidelity(tmp_path, spec, decibels, options):
    writer = write(tmp_path / "d", spec, Psnr(decibels), **options)
    assert decibels <= writer.report.psnr <= decibels + 0.15
    assert psnr_of_dataset(tmp_path / "d", pictures()) == pytest.approx(writer.report.psnr)


def test_a_fidelity_of_patches_is_reached(tmp_path):
    # Groups are found by k-means: one more may change much where there are few.
    spec = FieldSpec("patch", bit_width=2, patch=4)
    writer = write(tmp_path / "d", spec, Psnr(31))
    assert 31 <= writer.report.psnr <= 31.5
    assert psnr_of_dataset(tmp_path / "d", pictures()) == pytest.approx(writer.report.psnr)


def test_the_fidelity_of_given_settings_is_measured(tmp_path):
    writer = write(tmp_path / "d", FieldSpec("affine", 4), None, measure_psnr=True)
    assert psnr_of_dataset(tmp_path / "d", pictures()) == pytest.approx(writer.report.psnr)
    assert write(tmp_path / "e", FieldSpec("affine", 4), None).report.psnr is None


# Refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "target", "says"),
    [
        (FieldSpec("block"), NbytesPerSample(9), r"9 bytes per sample cannot be met: the smallest"),
        (
            FieldSpec("block"),
            TotalNbytes(10_000_000),
            r"largest possible is .* per sample \(qp 0\)",
        ),
        (FieldSpec("affine"), NbytesPerSample(20), r"smallest possible is .* \(1 bits\)"),
        (FieldSpec("affine"), Psnr(12), r"a PSNR of 12 dB cannot be met: the lowest possible is"),
        (FieldSpec("block"), Psnr(75), r"the highest possible is .* dB \(qp 0\)"),
        (FieldSpec("patch", bit_width=1), Psnr(60), r"dB \(4096 groups\)"),
    ],
)
def test_what_cannot_be_met_is_said_and_leaves_nothing(tmp_path, spec, target, says):
    with pytest.raises(TargetError, match=says) as caught:
        write(tmp_path / "d", spec, target, pictures()[:300])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "d").exists()


def test_settings_of_samples_and_a_target_exclude_each_other(tmp_path):
    writer = DatasetWriter(tmp_path / "d", fields=FieldSpec("block"), target=Psnr(30))
    with pytest.raises(SampleError, match="give one or the other"):
        writer.write({"x": pictures()[0]}, qp=30)
    writer.abort()
    writer = DatasetWriter(tmp_path / "d", target=Psnr(30))
    with pytest.raises(SampleError, match="give one or the other"):
        writer.write({"x": pictures()[0]}, bit_width=3)
    writer.abort()


def test_targets_that_are_none(tmp_path):
    for make in (lambda: TotalNbytes(0), lambda: NbytesPerSample(0.0), lambda: Psnr(200)):
        with pytest.raises(ValueError, match="expected"):
            make()
    with pytest.raises(ValueError, match="all are raw"):
        write(tmp_path / "d", FieldSpec("raw"), TotalNbytes(1000), pictures()[:5])
    with pytest.raises(ValueError, match="needs fields of uint8"):
        write(tmp_path / "d", FieldSpec(), Psnr(30), pictures()[:5].astype("f4"))
    assert not (tmp_path / "d").exists()


def test_no_samples_meet_any_target(tmp_path):
    fields = {"x": FieldSpec("block", dtype="uint8", shape=(8, 8, 3))}
    with DatasetWriter(tmp_path / "d", fields=fields, target=NbytesPerSample(50)) as writer:
        pass
    assert writer.report.sample_count == 0


def test_rounds_are_told(tmp_path):
    told = []
    progress = lambda *event: told.append(event)  # noqa: E731
    writer = write(tmp_path / "d", FieldSpec("affine"), NbytesPerSample(75), on_progress=progress)
    stages = [stage for stage, _, _ in told]
    assert stages[0] == "read"
    assert "measure" in stages
    assert ("encode", COUNT, COUNT) in told
    assert (f"encode again ({writer.report.rounds})" in stages) == (writer.report.rounds > 1)
