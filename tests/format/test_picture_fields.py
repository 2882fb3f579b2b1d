"""Datasets of block and patch fields: what goes in comes out, as near as asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat import DatasetWriter, FieldSpec, open_dataset
from dsqformat.bytesource import LocalSource
from dsqformat.dataset.verify import verify_file
from dsqformat.errors import CorruptShardError, SampleError
from dsqformat.quantize.mask import pixel_mask
from dsqformat.shard import parse_head
from dsqformat.shard.head import build_head
from strategies import picture_datasets, smooth_picture
from writing import shard_paths, write_made


def pictures(count, shape=(32, 32, 3), seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([smooth_picture(rng, shape, "uint8") for _ in range(count)])


def written(path, images, spec, **options):
    with DatasetWriter(path, fields={"image": spec}, **{"shuffle": False} | options) as writer:
        writer.write_batch({"image": images, "label": np.arange(len(images))})
    return open_dataset(path)


def error_of(images, decoded):
    return float(((images.astype("f8") - decoded) ** 2).mean())


# Round trips -----------------------------------------------------------------------------------


@given(made=picture_datasets(), coding=st.sampled_from(["auto", "packed", "zstd", "rans"]))
def test_every_way_of_reading_agrees_and_verifies(tmp_path_factory, made, coding):
    path = tmp_path_factory.mktemp("made") / "d"
    write_made(path, made, coding=coding, chunk_nbytes=600, shard_nbytes=3000)
    for shard in shard_paths(path):
        assert verify_file(LocalSource(shard.parent), shard.name).ok
    with open_dataset(path) as dataset:
        chunks = [c for c in dataset.iter_chunks(output="source")]
        rows = [chunk.sample(row) for chunk in chunks for row in range(chunk.sample_count)]
        assert len(rows) == len(made.samples)
        for number, row in enumerate(rows):
            single = dataset[number]
            for field in dataset.schema.fields:
                source = made.samples[number][field.name]
                assert row[field.name].shape == source.shape
                assert row[field.name].dtype == source.dtype
                np.testing.assert_array_equal(row[field.name], single[field.name])
                mask = made.masks[number].get(field.name)
                if mask is not None:
                    kept = pixel_mask(mask, *source.shape[:2], field.patch)
                    assert not row[field.name][~kept].any()


@given(made=picture_datasets(max_samples=4))
def test_source_and_float32_output_agree(tmp_path_factory, made):
    path = tmp_path_factory.mktemp("made") / "d"
    write_made(path, made)
    with open_dataset(path) as dataset:
        for layers in (1, None):
            whole = list(dataset.iter_chunks(layers=layers, output="source"))
            real = list(dataset.iter_chunks(layers=layers, output="float32"))
            for a, b in zip(whole, real, strict=True):
                for field in dataset.schema.fields:
                    for bytes_, x in zip(a.fields[field.name], b.fields[field.name], strict=True):
                        assert x.dtype == np.float32
                        if field.dtype == "uint8":
                            # The byte is what the real number rounds to; ties may differ.
                            clipped = np.clip(x.astype("f8") * 255, 0, 255)
                            assert np.abs(clipped - bytes_).max(initial=0) <= 0.5001
                        else:
                            np.testing.assert_array_equal(bytes_, x)


# Fidelity --------------------------------------------------------------------------------------


def test_every_layer_of_block_brings_the_pictures_nearer(tmp_path):
    images = pictures(60)
    dataset = written(tmp_path / "d", images, FieldSpec("block", qp=60, layers=(1, 1, 1)))
    errors = [error_of(images, dataset.to_numpy(layers=layers)["image"]) for layers in range(1, 5)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 4


def test_a_lower_qp_is_nearer_and_larger(tmp_path):
    images = pictures(60)
    found = []
    for qp in (0, 40, 80, 120):
        dataset = written(tmp_path / str(qp), images, FieldSpec("block", qp=qp))
        found.append((error_of(images, dataset.to_numpy()["image"]), dataset.snapshot.nbytes))
    assert [error for error, _ in found] == sorted(error for error, _ in found)
    assert [nbytes for _, nbytes in found] == sorted((n for _, n in found), reverse=True)
    assert found[0][0] < 0.5


def test_every_sample_has_the_qp_it_was_given(tmp_path):
    images = pictures(40)
    qps = np.where(np.arange(40) % 2, 20, 140)
    with DatasetWriter(tmp_path / "d", fields=FieldSpec("block"), shuffle=False) as writer:
        writer.write_batch({"image": images}, qp=qps)
    decoded = open_dataset(tmp_path / "d").to_numpy()["image"]
    errors = ((images.astype("f8") - decoded) ** 2).mean(axis=(1, 2, 3))
    assert errors[1::2].mean() < errors[::2].mean() / 4


def test_more_bits_and_more_groups_bring_patches_nearer(tmp_path):
    images = pictures(60)

    def error(name, bits, groups):
        spec = FieldSpec("patch", bit_width=bits, group_count=groups)
        return error_of(images, written(tmp_path / name, images, spec).to_numpy()["image"])

    coarse, more_bits, more_groups = error("a", 2, 8), error("b", 4, 8), error("c", 2, 128)
    assert more_bits < coarse
    assert more_groups < coarse


def test_more_effort_saves_bytes_at_the_same_qp(tmp_path):
    images = pictures(400)
    sizes, errors = [], []
    for effort in ("default", "high"):
        spec = FieldSpec("block", qp=90, effort=effort)
        dataset = written(tmp_path / effort, images, spec)
        sizes.append(sum(dataset.snapshot.segment_nbytes))
        errors.append(error_of(images, dataset.to_numpy()["image"]))
    assert sizes[1] < sizes[0]
    assert errors[1] < 1.05 * errors[0]


def test_grey_pictures_without_an_axis_of_channels(tmp_path):
    images = pictures(20, (17, 23))
    for name, spec in (("block", FieldSpec("block", qp=20)), ("patch", FieldSpec("patch"))):
        decoded = written(tmp_path / name, images, spec).to_numpy()["image"]
        assert decoded.shape == images.shape
        assert error_of(images, decoded) < 2


def test_one_thin_picture_of_the_longest_side(tmp_path):
    image = pictures(1, (1, 4096, 1))
    decoded = written(tmp_path / "d", image, FieldSpec("block", qp=20)).to_numpy()["image"]
    assert error_of(image, decoded) < 2


# Bytes -----------------------------------------------------------------------------------------


def test_one_prefix_of_the_bytes_is_the_whole_dataset(tmp_path):
    images = pictures(300)
    dataset = written(tmp_path / "d", images, FieldSpec("block", qp=70, layers=(1, 1)))
    shard = dataset.shard(0)
    start, first = shard.chunk_range(0, 1)
    _, whole = shard.chunk_range(0)
    assert first - start < 0.6 * (whole - start)
    assert len(shard.read_chunk(0, layers=1).fields["image"]) == shard.chunks.sample_count[0]


def test_damage_within_streams_is_reported_or_harmless(tmp_path):
    images = pictures(30)
    for name, spec in (("b", FieldSpec("block", qp=70)), ("p", FieldSpec("patch", bit_width=3))):
        shard = written(tmp_path / name, images, spec).shard(0)
        segments = [bytes(s) for s in shard.read_segments(0)]
        count = int(shard.chunks.sample_count[0])
        refused = 0
        for bit in range(0, 8 * len(segments[1]), max(1, len(segments[1]) // 40)):
            damaged = bytearray(segments[1])
            damaged[bit // 8] ^= 1 << bit % 8
            try:
                chunk = shard.decode(0, [segments[0], bytes(damaged), *segments[2:]])
            except CorruptShardError:
                refused += 1
            else:
                assert len(chunk.fields["image"]) == count
        assert refused


def test_a_head_without_its_models_is_refused(tmp_path):
    images = pictures(30)
    for name, spec in (("b", FieldSpec("block")), ("p", FieldSpec("patch", bit_width=2))):
        shard = written(tmp_path / name, images, spec).shard(0)
        head = build_head(shard.schema, shard.chunks, [], {})
        if name == "p":
            with pytest.raises(CorruptShardError, match="no groups of field 'image'"):
                parse_head(head)
        else:
            assert not parse_head(head).models


# Refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "image", "message"),
    [
        (FieldSpec("block"), np.zeros((4, 4), "f4"), "dtype uint8"),
        (FieldSpec("block"), np.zeros((4,), "u1"), "needs \\(height, width\\)"),
        (FieldSpec("block"), np.zeros((0, 4, 3), "u1"), "sides of block"),
        (FieldSpec("block"), np.zeros((4097, 1, 1), "u1"), "sides of block"),
        (FieldSpec("block"), np.zeros((1, 1, 65), "u1"), "1 to 64"),
        (FieldSpec("block", layers=(2,)), np.zeros((4, 4), "u1"), "up to three ones"),
        (FieldSpec("block", patch=2), np.zeros((4, 4), "u1"), "has no patches"),
        (FieldSpec("patch"), np.zeros((4, 4), "i2"), "uint8 or float32"),
        (FieldSpec("patch"), np.zeros((4,), "u1"), "dimensions"),
        (FieldSpec("patch"), np.full((4, 4), np.nan, "f4"), "NaN"),
    ],
)
def test_what_a_quantizer_cannot_store_is_refused(tmp_path, spec, image, message):
    writer = DatasetWriter(tmp_path / "d", fields={"image": spec})
    with pytest.raises(SampleError, match=message):
        writer.write({"image": image})
    writer.abort()


@pytest.mark.parametrize("options", [{"qp": 176}, {"qp": -1}, {"qp": {"image": 1.5}}])
def test_qps_out_of_range_are_refused(tmp_path, options):
    writer = DatasetWriter(tmp_path / "d", fields={"image": FieldSpec("block")})
    with pytest.raises(SampleError, match="qp"):
        writer.write({"image": np.zeros((4, 4, 3), "u1")}, **options)
    writer.abort()


def test_patches_take_one_bit_width(tmp_path):
    writer = DatasetWriter(tmp_path / "d", fields={"image": FieldSpec("patch", bit_width=2)})
    with pytest.raises(SampleError, match="one bit width for all samples"):
        writer.write({"image": np.zeros((4, 4, 3), "u1")}, bit_width=3)
    writer.abort()
