"""Models of blocks: bytes and back, damage, and what fitting and encoding refuse."""

import dataclasses
import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from block_pictures import decode_with, noise, reference, scene, small_case
from dsqformat.coding.block import BlockModel, Options, decode, encode, fit, fitting
from dsqformat.errors import CorruptShardError, SampleError

SOAK = os.environ.get("DSQ_SOAK") == "1"


def test_bytes_round_trip():
    model, _, data = small_case()
    parsed = BlockModel.from_bytes(data)
    assert parsed.to_bytes() == data
    for a, b in zip(parsed.layers, model.layers, strict=True):
        assert np.array_equal(a.starts, b.starts)
        assert np.array_equal(a.map, b.map)
        assert (a.starts[:, -1] == 4096).all()
        assert (np.diff(a.starts.astype(int)) >= 0).all()
    # What guides the encoder is not stored, and nothing else is lost.
    assert parsed.search is None
    assert dataclasses.replace(model, search=None).to_bytes() == data


def test_every_truncation_and_every_tail():
    _, _, data = small_case()
    for length in range(len(data)):
        with pytest.raises(CorruptShardError, match=r"^the model of field 3: "):
            BlockModel.from_bytes(data[:length], "the model of field 3")
    for tail in (b"\0", b"\1", b"\x80", bytes(9)):
        with pytest.raises(CorruptShardError, match=r"^model: "):
            BlockModel.from_bytes(data + tail)


@settings(max_examples=3000 if SOAK else 60)
@given(st.data())
def test_damaged_models(data):
    model, encoded, good = small_case()
    raw = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        # Every second change in the head, where values have meanings.
        last = data.draw(st.sampled_from([31, len(raw) - 1]))
        raw[data.draw(st.integers(0, last))] ^= data.draw(st.integers(1, 255))
    _, models, _, refused = reference()
    try:
        model = BlockModel.from_bytes(bytes(raw))
    except CorruptShardError:
        with pytest.raises(refused):
            models.parse_block_model(bytes(raw))
        return
    theirs = models.parse_block_model(bytes(raw))
    for a, b in zip(model.layers, theirs["tables"], strict=True):
        assert [a.starts[t].tolist() for t in a.map] == [list(table) for table in b]
    # Streams read with wrong tables are hostile streams.
    args = model, [layer[:1] for layer in encoded.layers[: len(model.layers)]]
    options = {"samples_per_stream": 2}
    shapes, qps = encoded.shapes[:2], encoded.qps[:2]
    results = []
    for run in (decode, lambda *a, **k: decode_with(None, *a, **k)):
        try:
            results.append(run(*args, shapes, qps, **options))
        except CorruptShardError:
            results.append(None)
    ours, plain = results
    assert (ours is None) == (plain is None)
    assert ours is None or all(np.array_equal(a, b) for a, b in zip(ours, plain, strict=True))


def test_reserved_bits_and_impossible_heads():
    _, _, data = small_case()
    head = np.frombuffer(data, "u1")
    for at, value in (
        (0, 0), (0, 65), (1, 4), (1, 1 | 128), (2, 0x23), (2, 0x40), (3, 0), (3, 5), (5, 16),
    ):  # fmt: skip
        raw = head.copy()
        raw[at] = value
        with pytest.raises(CorruptShardError):
            BlockModel.from_bytes(raw.tobytes())


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 4, 1), "u1"),
        np.zeros((4, 4), "u1"),
        np.zeros((0, 4, 3), "u1"),
        np.zeros((4, 4097, 3), "u1"),
        np.zeros((4, 4, 3), "f4"),
    ],
)
def test_pictures_that_cannot_be_encoded(picture):
    model = fit([scene(0, 8, 8)], 90)
    with pytest.raises(SampleError, match="picture 1"):
        encode(model, [scene(0, 8, 8), picture], 90)
    with pytest.raises(SampleError, match="picture 1"):
        fit([scene(0, 8, 8), picture], 90)


def test_wrong_options():
    pictures = [scene(0, 8, 8)]
    model = fit(pictures, 90)
    for qp in (-1, 176, [90, 176]):
        with pytest.raises(ValueError, match="qp"):
            encode(model, pictures * 2, qp)
    with pytest.raises(ValueError, match="no pictures"):
        fit([], 90)
    for options in (
        Options(layers=0),
        Options(layers=5),
        Options(sizes=(8, 12)),
        Options(sizes=(16, 8)),
        Options(weights=(64,) * 15),
        Options(weights=(0,) * 16),
        Options(max_tables=0),
        Options(max_tables=256),
        Options(effort="highest"),
    ):
        with pytest.raises(ValueError, match="expected"):
            fit(pictures, 90, options)


def test_more_effort_is_smaller_at_less_error():
    pictures = [scene(i, 32, 32) for i in range(64)]
    found = []
    for effort in ("default", "high"):
        model = fit(pictures, 100, Options(effort=effort))
        encoded = encode(model, pictures, 100)
        back = decode(model, encoded.layers, encoded.shapes, encoded.qps)
        error = np.mean((np.stack(pictures).astype("f4") - np.stack(back)) ** 2)
        # A hundredth of the error is worth 0.75 % of the bytes.
        found.append(np.log(sum(map(len, encoded.layers[0]))) + 0.75 * np.log(error))
    assert found[1] < found[0] - 0.005


def test_fitting_looks_at_a_bounded_number_of_values(monkeypatch):
    monkeypatch.setattr(fitting, "FIT_VALUES", 3 * 64 * 64)
    monkeypatch.setattr(fitting, "FIT_SIDE", 40)
    rng = np.random.default_rng(3)
    for _ in range(20):
        shapes = rng.integers(1, 200, (rng.integers(1, 30), 2)).tolist()
        pictures = [np.zeros((*shape, 3), "u1") for shape in shapes]
        sample, qps = fitting.fitting_sample(pictures, 90)
        assert 0 < sum(p.size for p in sample) <= 3 * 64 * 64
        assert len(sample) == len(qps)
    many = [np.zeros((100, 100, 64), "u1")]
    ((picture,), _) = fitting.fitting_sample(many, 90)
    assert picture.size <= 3 * 64 * 64
    # Enough pictures that fit are all taken.
    few = [np.zeros((32, 32, 3), "u1")] * 4
    assert len(fitting.fitting_sample(few, 90)[0]) == 4


def test_fitting_takes_memory_by_what_it_looks_at(monkeypatch):
    monkeypatch.setattr(fitting, "FIT_VALUES", 3 << 16)
    monkeypatch.setattr(fitting, "FIT_SIDE", 128)
    pictures = [noise(i, 300, 300) for i in range(8)]  # eleven times as many values
    tracemalloc.start()
    try:
        fit(pictures, 40, Options(layers=2, sizes=(4, 32), passes=1))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Codes of all crops, coefficients of one and its symbols; tables besides.
    assert peak < 20 * (3 << 16) + (4 << 20)
