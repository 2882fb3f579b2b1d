"""Whole datasets: what goes in comes out, at every number of layers, by every way of reading."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dsqformat
from dsqformat import DatasetWriter, FieldSpec, open_dataset
from dsqformat.quantize import affine, lsq
from dsqformat.quantize.mask import gather, pixel_mask
from dsqformat.quantize.parameters import gains_shifts, stored_widths, zero_points
from dsqformat.schema import UNIT
from strategies import made_datasets
from writing import write_made, write_pictures


def expected_values(field, sample, width, mask, layers):
    """What the spec says a sample decodes to, value by value, from the quantizer's codes."""
    values = sample[field.name]
    kept = values
    pixels = None
    if mask is not None:
        pixels = pixel_mask(mask, values.shape[0], values.shape[1], field.patch)
        kept = gather(values, pixels)
    if field.quantizer == "raw":
        flat = kept
    else:
        quantize = lsq.quantize if field.quantizer == "lsq" else affine.quantize
        options = (field.domain or UNIT,) if field.quantizer == "lsq" else ()
        batch = quantize(kept[np.newaxis], width, *options)
        signed = batch.signed if field.quantizer == "lsq" else None
        stored = int(stored_widths(field.quantizer, batch.bit_width, signed)[0])
        zero = int(zero_points(field.quantizer, batch.bit_width, signed)[0])
        known = stored if layers is None else min(stored, sum(field.layers[:layers]))
        known = stored if layers is not None and layers > len(field.layers) else known
        missing = stored - known
        code = (batch.codes[0] >> missing).astype("f8") * 2**missing + (2**missing - 1) / 2
        gain, shift = gains_shifts(field, batch.scale, batch.offset)
        centered = (code - zero).astype("f4").reshape(-1, gain.shape[1])
        flat = (centered * gain[0] + shift[0]).astype("f4").reshape(kept.shape)
    if pixels is None:
        return flat
    whole = np.zeros(values.shape, flat.dtype)
    whole[pixels] = flat
    return whole


def check_sample(dataset, made, number, found, layers):
    for field in dataset.schema.fields:
        mask = made.masks[number].get(field.name)
        width = made.widths[number][field.name]
        wanted = expected_values(field, made.samples[number], width, mask, layers)
        got = np.asarray(found[field.name])
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)
    for column in dataset.schema.columns:
        np.testing.assert_equal(found[column.name], made.samples[number][column.name])


@given(made=made_datasets(), coding=st.sampled_from(["auto", "packed", "zstd", "rans"]))
def test_every_sample_decodes_to_what_the_spec_says_at_every_layer(tmp_path_factory, made, coding):
    path = tmp_path_factory.mktemp("made")
    write_made(path / "d", made, coding=coding, chunk_nbytes=700, shard_nbytes=3000)
    with open_dataset(path / "d") as dataset:
        assert len(dataset) == len(made.samples)
        for layers in (None, *range(1, dataset.schema.layer_count + 1)):
            number = 0
            for chunk in dataset.iter_chunks(layers=layers, output="float32"):
                for row in range(chunk.sample_count):
                    check_sample(dataset, made, number, chunk.sample(row), layers)
                    number += 1
            assert number == len(made.samples)
        assert list(dataset.keys()) == (made.keys or [])


@given(made=made_datasets(max_samples=8), seed=st.integers(0, 5))
def test_all_ways_of_reading_agree(tmp_path_factory, made, seed):
    path = tmp_path_factory.mktemp("made") / "d"
    write_made(path, made, shuffle=True, seed=seed, chunk_nbytes=400, shard_nbytes=1200)
    with open_dataset(path) as dataset:
        samples = list(dataset)
        whole = dataset.to_numpy()
        pick = np.random.default_rng(seed).integers(-len(dataset), len(dataset), 9)
        batch = dataset[pick]
        for number, sample in enumerate(samples):
            for name, value in sample.items():
                np.testing.assert_equal(dataset[number][name], value)
                np.testing.assert_equal(whole[name][number], value)
        for row, position in enumerate(pick.tolist()):
            for name in samples[0]:
                np.testing.assert_equal(batch[name][row], samples[position][name])
        for position, key in enumerate(dataset.keys()):
            assert dataset.position_of(key) == position
        with pytest.raises(IndexError):
            dataset[len(dataset)]


def test_the_order_is_a_seeded_permutation(tmp_path):
    write_pictures(tmp_path / "a", 200, seed=1)
    write_pictures(tmp_path / "b", 200, seed=1)
    write_pictures(tmp_path / "c", 200, seed=1, shuffle=False)
    a, b, c = (open_dataset(tmp_path / name) for name in "abc")
    assert a.snapshot.id == b.snapshot.id
    order = a.to_numpy()["number"]
    assert sorted(order) == list(range(200))
    assert order.tolist() != list(range(200))
    assert c.to_numpy()["number"].tolist() == list(range(200))


def test_bytes_come_back_exactly_at_eight_bits(tmp_path):
    pictures = write_pictures(tmp_path / "d", 60)
    with open_dataset(tmp_path / "d") as dataset:
        found = dataset.to_numpy()
    assert found["image"].dtype == np.uint8
    np.testing.assert_array_equal(found["image"], pictures[found["number"]])


def test_one_sample_and_no_sample(tmp_path):
    with DatasetWriter(tmp_path / "one") as writer:
        writer.write({"image": np.full((2, 2), 7, "u1")})
    one = open_dataset(tmp_path / "one")
    assert len(one) == 1
    assert one[-1]["image"].tolist() == [[7, 7], [7, 7]]
    fields = {"image": FieldSpec(dtype="uint8", shape=(None, 4, 3))}
    with DatasetWriter(tmp_path / "none", fields=fields, columns={"label": "int64"}) as writer:
        pass
    none = open_dataset(tmp_path / "none")
    assert len(none) == 0
    assert list(none) == []
    assert none.to_numpy()["image"].shape == (0, 0, 4, 3)
    assert none[0:5]["label"].shape == (0,)


def test_more_than_1024_shards_are_listed_in_pages(tmp_path):
    path = tmp_path / "d"
    with DatasetWriter(path, shuffle=False, chunk_nbytes=1, shard_nbytes=1, table=False) as writer:
        for number in range(2100):
            writer.write({"x": np.full((1, 1), number % 251, "u1"), "n": number}, key=f"{number}")
    with open_dataset(path) as dataset:
        assert dataset.snapshot.shard_count == 2100
        assert [page.shard_count for page in dataset.snapshot.pages] == [1024, 1024, 52]
        assert len(dataset) == 2100
        for position in (0, 1023, 1024, 2047, 2048, 2099):
            assert dataset[position]["n"] == position
        assert dataset.position_of("2050") == 2050


def test_append_keeps_positions_and_adds_keys(tmp_path):
    path = tmp_path / "d"
    write_pictures(path, 20)
    before = [sample["number"] for sample in open_dataset(path)]
    spec = FieldSpec()
    with DatasetWriter(path, fields=spec, mode="append") as writer:
        sample = {"image": np.zeros((8, 8, 3), "u1"), "label": 1, "number": 99}
        writer.write(sample, key="later")
    after = open_dataset(path)
    assert [sample["number"] for sample in after] == [*before, 99]
    assert after.by_key("later")["number"] == 99
    assert after.by_key("picture-0007")["number"] == 7
    assert after.snapshot.parent is not None


def test_dropped_samples_are_rows_of_the_table_only(tmp_path):
    import pyarrow.parquet as pq

    path = tmp_path / "d"
    with DatasetWriter(path, shuffle=False) as writer:
        for number in range(10):
            sample = {"x": np.full((2, 2), number, "u1"), "n": number}
            writer.write(sample, key=f"k{number}", bit_width=0 if number % 2 else 6)
    dataset = open_dataset(path)
    assert [sample["n"] for sample in dataset] == [0, 2, 4, 6, 8]
    table = pq.read_table(path / dataset.snapshot.blob("samples").path)
    assert table.column("position").to_pylist() == [0, 1, 2, 3, 4, None, None, None, None, None]
    assert table.column("n").to_pylist() == [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]
    assert table.column("x.bit_width").to_pylist() == [6] * 5 + [0] * 5
    assert writer.report.dropped_count == 5
    with pytest.raises(dsqformat.UnknownKeyError):
        dataset.by_key("k1")


def test_a_layer_plan_that_ends_early_costs_no_segment_bytes(tmp_path):
    write_pictures(tmp_path / "d", 20, spec=FieldSpec(bit_width=4))
    dataset = open_dataset(tmp_path / "d")
    assert dataset.snapshot.segment_nbytes[2:] == (0, 0)
    np.testing.assert_array_equal(dataset.to_numpy(layers=1)["image"], dataset.to_numpy()["image"])


def test_the_index_of_small_pictures_costs_at_most_four_bytes_a_sample(tmp_path):
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "d", fields=FieldSpec(bit_width=4)) as writer:
        for number in range(1500):
            picture = rng.integers(0, rng.integers(20, 256), (32, 32, 3), dtype="u1")
            writer.write({"image": picture, "label": number % 10})
    assert writer.report.index_nbytes / 1500 <= 4
