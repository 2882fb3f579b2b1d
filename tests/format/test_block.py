"""The block codec: every decoder returns the same bytes, hostile bytes only typed errors."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import block_reference as reference
import dsqformat.coding.block.decoding as decoding
from block_pictures import scene
from dsqformat.coding.block.decoding import decode, decode_ranges
from dsqformat.coding.block.encoding import Options, _costs_of, choose, encode, fit
from dsqformat.coding.block.layout import step_of
from dsqformat.coding.block.model import BlockModel
from dsqformat.coding.block.plain_pixels import prefix_codes, reconstruct, to_floats, to_octets
from dsqformat.errors import CorruptShardError, SampleError

CASES = {
    "default": (Options(), [(32, 32, 3)] * 6, 100),
    "three layers, all sizes": (Options(layers=3, sizes=(4, 32)), [(32, 32, 3)] * 4, 70),
    "grey, odd": (Options(layers=2, sizes=(4, 16)), [(1, 1, 1), (33, 7, 1), (50, 41, 1)], 60),
    "five planes": (Options(layers=2, sizes=(8, 32)), [(40, 40, 5), (9, 64, 5)], 90),
    "fine": (Options(layers=4, sizes=(8, 8)), [(16, 24, 3), (24, 16, 3)], 3),
    "coarse": (Options(sizes=(16, 32)), [(70, 33, 3)], 175),
    "weighted": (
        Options(layers=2, sizes=(4, 32), weights=(*range(40, 72, 2),)),
        [(40, 48, 3)] * 2,
        95,
    ),
}


def decode_plain(*args, **kwargs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "_kernel", None)
        return decode(*args, **kwargs)


@pytest.fixture(scope="module")
def tiles():
    return [scene(i, 32, 32) for i in range(48)]


def case(name):
    options, shapes, qp = CASES[name]
    pictures = [scene(i, *shape) for i, shape in enumerate(shapes)]
    model = fit(pictures, qp, options)
    return pictures, qp, model


def error_of(pictures, decoded):
    squares = [((a.astype(float) - b) ** 2).sum() for a, b in zip(pictures, decoded, strict=True)]
    return sum(squares) / sum(p.size for p in pictures)


@pytest.mark.parametrize("name", CASES)
def test_all_decoders_agree(name):
    pictures, qp, model = case(name)
    parsed = BlockModel.from_bytes(model.to_bytes())
    encoded = encode(model, pictures, qp, samples_per_stream=2)
    plain_model = reference.read_model(model.to_bytes())
    errors = []
    for layers in range(1, len(model.layers) + 1):
        streams = encoded.layers[:layers]
        args = parsed, streams, encoded.shapes, encoded.qps
        got = decode(*args, samples_per_stream=2)
        floats = decode(*args, samples_per_stream=2, output="float32", threads=2)
        errors.append(error_of(pictures, got))
        for output, expected in (("uint8", got), ("float32", floats)):
            plain = decode_plain(*args, samples_per_stream=2, output=output)
            assert all(np.array_equal(a, b) for a, b in zip(plain, expected, strict=True))
        chosen = choose(model, pictures, encoded.qps, 0.13, _costs_of(model.search))
        for i, (choice, _) in enumerate(chosen):
            height, width = pictures[i].shape[:2]
            codes = prefix_codes(choice.codes, choice.leaves, len(model.layers) - layers)
            channels = reconstruct(model, codes, choice.leaves, qp, layers)[:height, :width]
            assert np.array_equal(got[i], to_octets(channels))
            assert np.array_equal(floats[i], to_floats(channels))
        plain = reference.decode(
            plain_model,
            [s[0] for s in streams],
            encoded.shapes[:2].tolist(),
            encoded.qps[:2].tolist(),
        )
        for a, b in zip(plain, got, strict=False):
            assert np.array_equal(np.array(a), b)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < max(1, (step_of(qp) / 64) ** 2)


@pytest.mark.torch
@pytest.mark.parametrize("name", CASES)
def test_torch_returns_the_same_bytes(name):
    torch = pytest.importorskip("torch")
    pictures, qp, model = case(name)

    def matmul(a, b):
        return torch.matmul(torch.from_numpy(a.copy()), torch.from_numpy(b.copy())).numpy()

    qps = np.full(len(pictures), qp)
    for choice, _ in choose(model, pictures, qps, 0.13, _costs_of(model.search)):
        for codes in (choice.codes, np.where(choice.codes < 0, -32767, 32767).astype("i4")):
            layers = len(model.layers)
            ours = reconstruct(model, codes, choice.leaves, qp, layers)
            theirs = reconstruct(model, codes, choice.leaves, qp, layers, matmul)
            assert np.array_equal(ours, theirs)
            whole = reconstruct(model, codes, choice.leaves, qp, layers, _int64_matmul)
            assert np.array_equal(ours, whole)


def _int64_matmul(a, b):
    return np.matmul(a.astype("i8"), b.astype("i8"))


def test_streams_that_start_at_state_zero_cost_nothing_when_empty(tiles):
    black = [np.zeros((32, 32, 3), "u1")] * 8
    model = fit(black, 100)
    encoded = encode(model, black, 100, samples_per_stream=1)
    assert sum(len(s) for s in encoded.layers[0]) <= len(black)
    got = decode(model, encoded.layers, encoded.shapes, encoded.qps, samples_per_stream=1)
    assert np.abs(np.stack(got).astype(int)).max() <= 1


def test_qp_per_sample(tiles):
    qps = [60 + i for i in range(len(tiles))]
    model = fit(tiles, qps)
    encoded = encode(model, tiles, qps, samples_per_stream=1)
    got = decode(model, encoded.layers, encoded.shapes, encoded.qps, samples_per_stream=1)
    fine, coarse = error_of(tiles[:8], got[:8]), error_of(tiles[-8:], got[-8:])
    assert fine < coarse
    assert sum(map(len, encoded.layers[0][:8])) > sum(map(len, encoded.layers[0][-8:]))


def test_a_model_codes_pictures_unlike_those_it_was_fitted_on(tiles):
    model = fit([np.full((32, 32, 3), 90, "u1")] * 4, 80, Options(layers=2))
    noise = [np.random.default_rng(i).integers(0, 256, (32, 32, 3)).astype("u1") for i in range(3)]
    encoded = encode(model, noise, 40)
    got = decode(model, encoded.layers, encoded.shapes, encoded.qps)
    assert error_of(noise, got) < (step_of(40) / 64) ** 2 / 4


def test_streams_do_not_depend_on_their_neighbours(tiles):
    model = fit(tiles, 100)
    encoded = encode(model, tiles, 100, samples_per_stream=4)
    whole = decode(model, encoded.layers, encoded.shapes, encoded.qps, samples_per_stream=4)
    part = decode(
        model,
        [encoded.layers[0][5:6]],
        encoded.shapes[20:24],
        encoded.qps[20:24],
        samples_per_stream=4,
    )
    assert all(np.array_equal(a, b) for a, b in zip(part, whole[20:24], strict=True))


def test_model_bytes_round_trip_and_are_checked(tiles):
    model = fit(tiles, 100, Options(layers=3))
    data = model.to_bytes()
    parsed = BlockModel.from_bytes(data)
    assert parsed.to_bytes() == data
    for a, b in zip(parsed.layers, model.layers, strict=True):
        assert np.array_equal(a.starts, b.starts)
        assert np.array_equal(a.map, b.map)
        assert (a.starts[:, -1] == 4096).all()
        assert (np.diff(a.starts.astype(int)) >= 0).all()
    for length in range(len(data)):
        with pytest.raises(CorruptShardError):
            BlockModel.from_bytes(data[:length])
    with pytest.raises(CorruptShardError):
        BlockModel.from_bytes(data + b"\0")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_models_raise_typed_errors_or_parse(data):
    raw = bytearray(_fuzz_case()[2])
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        model = BlockModel.from_bytes(bytes(raw))
    except CorruptShardError:
        with pytest.raises(reference.Corrupt):
            reference.read_model(bytes(raw))
        return
    plain = reference.read_model(bytes(raw))
    for a, b in zip(model.layers, plain.layers, strict=True):
        assert [a.starts[t].tolist() for t in a.map] == b.starts


_CACHE = []


def _fuzz_case():
    if not _CACHE:
        pictures = [scene(i, 24, 40) for i in range(4)]
        model = fit(pictures, 80, Options(layers=3, sizes=(4, 32)))
        _CACHE.append((model, encode(model, pictures, 80, samples_per_stream=2), model.to_bytes()))
    return _CACHE[0]


@settings(max_examples=1500, deadline=None)
@given(st.data())
def test_damaged_streams_raise_typed_errors_or_decode_alike(data):
    model, encoded, _ = _fuzz_case()
    layers = data.draw(st.integers(1, 3))
    streams = [list(layer) for layer in encoded.layers[:layers]]
    layer, which = data.draw(st.integers(0, layers - 1)), data.draw(st.integers(0, 1))
    kind = data.draw(st.integers(0, 2))
    raw = bytearray(streams[layer][which])
    if kind == 0:
        raw = bytearray(data.draw(st.binary(max_size=400)))
    elif kind == 1:
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    else:
        for _ in range(data.draw(st.integers(1, 8))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    streams[layer][which] = bytes(raw)
    try:
        got = decode(model, streams, encoded.shapes, encoded.qps, samples_per_stream=2)
    except CorruptShardError:
        return
    assert [g.shape for g in got] == [(24, 40, 3)] * 4


def test_reference_rejects_what_the_kernel_rejects():
    model, encoded, raw = _fuzz_case()
    plain = reference.read_model(raw)
    rng = np.random.default_rng(5)
    shapes, qps = encoded.shapes[:2], encoded.qps[:2]
    for trial in range(12):
        streams = [bytearray(layer[0]) for layer in encoded.layers]
        target = streams[trial % 3]
        target[rng.integers(len(target))] ^= 1 << rng.integers(8)
        try:
            expected = reference.decode(
                plain, list(map(bytes, streams)), shapes.tolist(), qps.tolist()
            )
        except reference.Corrupt:
            for run in (decode, decode_plain):
                with pytest.raises(CorruptShardError):
                    run(model, [[bytes(s)] for s in streams], shapes, qps)
            continue
        got = decode(model, [[bytes(s)] for s in streams], shapes, qps)
        assert all(np.array_equal(np.array(a), b) for a, b in zip(expected, got, strict=True))


def test_wrong_arguments_have_typed_errors(tiles):
    model = fit(tiles, 100)
    encoded = encode(model, tiles, 100)
    shapes, qps = encoded.shapes, encoded.qps
    for bad_shapes, bad_qps in (
        (shapes * 0, qps),
        (shapes + 5000, qps),
        (shapes, qps + 100),
        (shapes, qps - 101),
    ):
        with pytest.raises(CorruptShardError):
            decode(model, encoded.layers, bad_shapes, bad_qps)
    with pytest.raises(CorruptShardError):
        decode(model, encoded.layers * 2, shapes, qps)
    with pytest.raises(CorruptShardError):
        decode(model, encoded.layers, shapes[:20], qps[:20])
    data = np.zeros(10, "u1")
    for start, end in ((-4, 4), (4, 2), (0, 11)):
        one = np.array([[start]]), np.array([[end]])
        with pytest.raises(CorruptShardError):
            decode_ranges(model, data, *one, shapes[:1], qps[:1], samples_per_stream=1)
    with pytest.raises(SampleError):
        encode(model, [np.zeros((4, 4, 1), "u1")], 100)
    with pytest.raises(SampleError):
        encode(model, [np.zeros((0, 4, 3), "u1")], 100)
    with pytest.raises(ValueError, match="qp"):
        encode(model, tiles, 176)


def test_largest_picture():
    picture = np.tile(scene(1, 64, 64, 1), (64, 64, 1))
    model = fit([picture], 110)
    encoded = encode(model, [picture], 110, samples_per_stream=1)
    (got,) = decode(model, encoded.layers, encoded.shapes, encoded.qps, samples_per_stream=1)
    assert got.shape == (4096, 4096, 1)
    assert error_of([picture], [got]) < (step_of(110) / 64) ** 2 / 4


def test_models_do_not_hold_what_is_not_stored(tiles):
    model = fit(tiles, 100)
    parsed = BlockModel.from_bytes(model.to_bytes())
    assert parsed.search is None
    assert dataclasses.replace(model, search=None).to_bytes() == model.to_bytes()
