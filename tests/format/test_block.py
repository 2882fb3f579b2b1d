"""Pictures as transform blocks: every decoder returns the same values for every prefix."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from block_pictures import decode_with, decoders, noise, reference_decode, scene
from dsqformat.coding.block import (
    BlockModel,
    Options,
    decode,
    decode_coefficients,
    decode_ranges,
    encode,
    fit,
)
from dsqformat.coding.block.layout import step_of
from dsqformat.coding.block.workspace import padded
from dsqformat.kernels import COMPILED

SOAK = os.environ.get("DSQ_SOAK") == "1"
CASES = {
    "default": (Options(), [(32, 32, 3)] * 6, 100),
    "three layers, all sizes": (Options(layers=3, sizes=(4, 32)), [(32, 32, 3)] * 4, 70),
    "grey, odd": (Options(layers=2, sizes=(4, 16)), [(1, 1, 1), (33, 7, 1), (50, 41, 1)], 60),
    "five planes": (Options(layers=2, sizes=(8, 32)), [(40, 40, 5), (9, 64, 5)], 90),
    "two planes": (Options(layers=2, sizes=(16, 16)), [(30, 50, 2)] * 3, 110),
    "fine": (Options(layers=4, sizes=(8, 8)), [(16, 24, 3), (24, 16, 3)], 3),
    "coarse": (Options(sizes=(16, 32)), [(70, 33, 3)], 175),
    "weighted": (
        Options(layers=2, sizes=(4, 32), weights=(*range(40, 72, 2),)),
        [(40, 48, 3)] * 2,
        95,
    ),
}


def case(name):
    options, shapes, qp = CASES[name]
    pictures = [scene(i, *shape) for i, shape in enumerate(shapes)]
    return pictures, qp, fit(pictures, qp, options)


def error_of(pictures, decoded):
    squares = [((a.astype(float) - b) ** 2).sum() for a, b in zip(pictures, decoded, strict=True)]
    return sum(squares) / sum(p.size for p in pictures)


def same(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_the_reference_decodes_the_same(name):
    pictures, qp, model = case(name)
    raw = model.to_bytes()
    per = len(pictures) if SOAK else 1
    encoded = encode(model, pictures, qp, samples_per_stream=per)
    errors = []
    for layers in range(1, len(model.layers) + 1):
        streams = encoded.layers[:layers]
        args = BlockModel.from_bytes(raw), streams, encoded.shapes, encoded.qps
        got = decode(*args, samples_per_stream=per)
        floats = decode(*args, samples_per_stream=per, output="float32")
        shapes, qps = encoded.shapes[:per].tolist(), encoded.qps[:per].tolist()
        theirs = reference_decode(raw, [s[0] for s in streams], shapes, qps)
        for i, (octets, values) in enumerate(theirs):
            assert np.array_equal(got[i], octets)
            assert np.array_equal(floats[i], values)
        errors.append(error_of(pictures, got))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < max(1, (step_of(qp) / 64) ** 2)


@pytest.mark.parametrize("output", ["uint8", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_all_builds_and_numpy_decode_the_same(name, output):
    pictures, qp, model = case(name)
    encoded = encode(model, pictures, qp, samples_per_stream=2)
    for layers in range(1, len(model.layers) + 1):
        args = model, encoded.layers[:layers], encoded.shapes, encoded.qps
        expected = decode(*args, samples_per_stream=2, output=output)
        for kernel in decoders().values():
            got = decode_with(kernel, *args, samples_per_stream=2, output=output)
            assert same(expected, got)
            assert {g.dtype.name for g in got} == {output}


@st.composite
def batches(draw):
    """Return pictures, one qp each, options, and samples per stream."""
    planes = draw(st.sampled_from([1, 1, 2, 3, 3, 3, 4, 5]))
    side = st.one_of(st.integers(1, 40), st.sampled_from([1, 4, 31, 32, 33, 64 if SOAK else 36]))
    make = draw(st.sampled_from([scene, scene, noise]))
    shapes = draw(st.lists(st.tuples(side, side), min_size=1, max_size=4))
    pictures = [make(i, *shape, planes) for i, shape in enumerate(shapes)]
    qps = draw(st.lists(st.integers(0, 175), min_size=len(pictures), max_size=len(pictures)))
    sizes = sorted(draw(st.tuples(*[st.sampled_from([4, 8, 16, 32])] * 2)))
    weights = st.tuples(*[st.integers(1, 255)] * 16)
    options = Options(
        layers=draw(st.integers(1, 4)),
        sizes=tuple(sizes),
        passes=1,
        **draw(st.one_of(st.just({}), st.builds(lambda w: {"weights": w}, weights))),
    )
    return pictures, qps, options, draw(st.integers(1, 5))


@settings(max_examples=1000 if SOAK else 15)
@given(batch=batches())
def test_round_trips(batch):
    pictures, qps, options, per = batch
    model = fit(pictures, qps, options)
    parsed = BlockModel.from_bytes(model.to_bytes())
    encoded = encode(model, pictures, qps, samples_per_stream=per)
    for layers in {1, options.layers}:
        args = parsed, encoded.layers[:layers], encoded.shapes, encoded.qps
        got = decode(*args, samples_per_stream=per)
        assert same(got, decode_with(None, *args, samples_per_stream=per))
        assert same(got, decode(*args, samples_per_stream=per, threads=2))
    if options.weights == (64,) * 16:
        for picture, qp, back in zip(pictures, qps, got, strict=True):
            # Errors are weighed over whole blocks, of which a small picture is a corner.
            height, width = picture.shape[:2]
            whole = padded(height, model.smallest) * padded(width, model.smallest)
            bound = 2 * (1 + (step_of(qp) / 64) ** 2) * whole / (height * width)
            assert error_of([picture], [back]) < bound


def test_one_pixel_of_a_corner_is_as_cheap_as_its_block():
    """A case that fuzzing found: six pixels in a block of 1,024, one of them 16 levels off."""
    picture = np.array([[[188], [181], [171]], [[181], [192], [181]]], "u1")
    model = fit([picture], 0, Options(sizes=(32, 32), passes=1))
    encoded = encode(model, [picture], 0)
    (back,) = decode(model, encoded.layers, encoded.shapes, encoded.qps)
    assert error_of([picture], [back]) * 6 < 2.5 * 1024
    fine = fit([picture], 0, Options())
    encoded = encode(fine, [picture], 0)
    (back,) = decode(fine, encoded.layers, encoded.shapes, encoded.qps)
    assert error_of([picture], [back]) < 2.5


def test_expected_magnitudes_of_any_size():
    # Blocks of noise at the finest step: what is expected exceeds 4095 and every clamp is met.
    pictures = [noise(i, 64, 64, 1) for i in range(2)]
    model = fit(pictures, 0, Options(layers=2, sizes=(32, 32), passes=1))
    encoded = encode(model, pictures, 0, samples_per_stream=1)
    args = model, encoded.layers, encoded.shapes, encoded.qps
    got = decode(*args, samples_per_stream=1)
    assert same(got, decode_with(None, *args, samples_per_stream=1))
    ((octets, _),) = reference_decode(
        model.to_bytes(), [layer[0] for layer in encoded.layers], [(64, 64)], [0]
    )
    assert np.array_equal(octets, got[0])
    assert error_of(pictures, got) < 2


def packed(encoded):
    """Return the arrays of `decode_ranges` for all layers."""
    streams = [stream for layer in encoded.layers for stream in layer]
    ends = np.cumsum([len(stream) for stream in streams]).reshape(len(encoded.layers), -1)
    starts = ends - np.array([len(stream) for stream in streams]).reshape(ends.shape)
    return np.frombuffer(b"".join(streams), "u1"), starts, ends, encoded.shapes, encoded.qps


def test_streams_may_lie_anywhere_and_values_come_flat():
    pictures = [scene(i, 20, 30 + i) for i in range(5)]
    model = fit(pictures, 90, Options(layers=2))
    encoded = encode(model, pictures, 90, samples_per_stream=2)
    data, starts, ends, shapes, qps = packed(encoded)
    apart = np.concatenate([np.full(7, 255, "u1"), data, np.full(3, 255, "u1")])
    flat = decode_ranges(model, apart, starts + 7, ends + 7, shapes, qps, samples_per_stream=2)
    expected = decode(model, encoded.layers, shapes, qps, samples_per_stream=2)
    assert flat.flags.c_contiguous
    assert np.array_equal(flat, np.concatenate([p.ravel() for p in expected]))
    part = slice(1, 2)  # the second stream alone
    flat = decode_ranges(
        model, data, starts[:, part], ends[:, part], shapes[2:4], qps[2:4], samples_per_stream=2
    )
    assert np.array_equal(flat, np.concatenate([p.ravel() for p in expected[2:4]]))


def test_no_samples():
    model = fit([scene(0, 8, 8)], 90, Options(layers=2))
    encoded = encode(model, [], 90)
    assert encoded.layers == [[], []]
    for output in ("uint8", "float32"):
        for kernel in decoders().values():
            args = model, encoded.layers, encoded.shapes, encoded.qps
            assert decode_with(kernel, *args, output=output) == []


@pytest.mark.parametrize("threads", [2, 3, 16])
def test_threads_change_nothing(threads):
    pictures = [scene(i, 16 + i % 5, 40) for i in range(23)]
    model = fit(pictures, 90, Options(layers=3))
    encoded = encode(model, pictures, 90, samples_per_stream=2)
    args = model, *packed(encoded)
    one = decode_ranges(*args, samples_per_stream=2)
    assert np.array_equal(one, decode_ranges(*args, samples_per_stream=2, threads=threads))


@pytest.mark.parametrize("name", ["three layers, all sizes", "grey, odd", "five planes"])
def test_coefficients_are_the_same_without_kernels(name, monkeypatch):
    pictures, qp, model = case(name)
    args = model, *packed(encode(model, pictures, qp, samples_per_stream=2))
    ours = decode_coefficients(*args, samples_per_stream=2, threads=2)
    monkeypatch.setattr("dsqformat.coding.block.decoding._kernel", None)
    theirs = decode_coefficients(*args, samples_per_stream=2)
    for field in ("values", "leaves", "shapes", "firsts"):
        assert np.array_equal(getattr(ours, field), getattr(theirs, field))
    assert np.abs(ours.values).max() > 0
    assert (ours.shapes >= args[4]).all()


def test_qp_per_sample():
    pictures = [scene(i, 32, 32) for i in range(48)]
    qps = [60 + i for i in range(len(pictures))]
    model = fit(pictures, qps)
    encoded = encode(model, pictures, qps, samples_per_stream=1)
    got = decode(model, encoded.layers, encoded.shapes, encoded.qps, samples_per_stream=1)
    assert error_of(pictures[:8], got[:8]) < error_of(pictures[-8:], got[-8:])
    assert sum(map(len, encoded.layers[0][:8])) > sum(map(len, encoded.layers[0][-8:]))


@pytest.mark.skipif(not COMPILED, reason="without kernels codes are not chosen by rate")
@pytest.mark.parametrize("layers", [2, 3])
def test_prefixes_are_worth_their_bytes(layers):
    pictures = [scene(seed, 64, 64) for seed in range(20)]

    def prefixes(qp, layers):
        """Return bytes and PSNR of each prefix."""
        model = fit(pictures, qp, Options(layers=layers))
        encoded = encode(model, pictures, qp)
        out = []
        for count in range(1, layers + 1):
            streams = encoded.layers[:count]
            found = decode(model, streams, encoded.shapes, encoded.qps)
            error = np.square(np.subtract(found, pictures, dtype="f8")).mean()
            out.append(
                (sum(len(s) for part in streams for s in part), 10 * np.log10(255**2 / error))
            )
        return out

    single = sorted(point for qp in range(84, 149, 8) for point in prefixes(qp, 1))
    nbytes, psnr = np.array(single).T
    for size, reached in prefixes(100, layers):
        assert reached > np.interp(np.log(size), np.log(nbytes), psnr) - 0.4


def test_pictures_that_agree_with_the_model_cost_nothing():
    black = [np.zeros((32, 32, 3), "u1")] * 8
    model = fit(black, 100)
    encoded = encode(model, black, 100, samples_per_stream=1)
    assert sum(map(len, encoded.layers[0])) <= len(black)
    got = decode(model, encoded.layers, encoded.shapes, encoded.qps, samples_per_stream=1)
    assert max(int(g.max()) for g in got) <= 1


def test_a_model_codes_pictures_unlike_those_it_was_fitted_on():
    model = fit([np.full((32, 32, 3), 90, "u1")] * 4, 80, Options(layers=2))
    pictures = [noise(i, 32, 32) for i in range(3)]
    encoded = encode(model, pictures, 40)
    got = decode(model, encoded.layers, encoded.shapes, encoded.qps)
    assert error_of(pictures, got) < (step_of(40) / 64) ** 2 / 4


@pytest.mark.parametrize("shape", [(4096, 3), (3, 4096)])
def test_the_longest_sides(shape):
    picture = scene(1, *shape, 1)
    model = fit([picture], 110)
    encoded = encode(model, [picture], 110, samples_per_stream=1)
    args = model, encoded.layers, encoded.shapes, encoded.qps
    (got,) = decode(*args, samples_per_stream=1)
    assert got.shape == (*shape, 1)
    assert error_of([picture], [got]) < (step_of(110) / 64) ** 2 / 2
    assert same([got], decode_with(None, *args, samples_per_stream=1))


def test_the_most_planes():
    picture = scene(1, 24, 24, 64)
    model = fit([picture], 90, Options(layers=2, passes=1))
    encoded = encode(model, [picture], 90)
    args = model, encoded.layers, encoded.shapes, encoded.qps
    got = decode(*args)
    assert same(got, decode_with(None, *args))
    assert error_of([picture], got) < (step_of(90) / 64) ** 2
