"""Encoding blocks without kernels: the same streams for the same choices, and sound ones."""

import numpy as np
import pytest

from block_pictures import noise, scene
from dsqformat.coding.block import Options, choosing, decode, encode, encoding, fit, transform
from dsqformat.coding.block.plain_encoding import stream_plain
from dsqformat.kernels import COMPILED

needs_kernels = pytest.mark.skipif(not COMPILED, reason="the kernels are not compiled here")
CASES = {
    "tiles": (Options(layers=2), [scene(i, 32, 32) for i in range(4)], 100),
    "grey, odd, all sizes": (
        Options(layers=3, sizes=(4, 32)),
        [scene(1, 33, 7, 1), scene(2, 1, 1, 1), scene(3, 70, 41, 1)],
        60,
    ),
    "five planes": (Options(layers=2, sizes=(8, 32)), [scene(4, 40, 40, 5)], 90),
    "noise": (Options(layers=2, sizes=(4, 16)), [noise(5, 24, 40)], 0),
    "noise in large blocks": (Options(sizes=(32, 32)), [noise(6, 40, 40, 1)], 0),
    "black and white": (
        Options(sizes=(16, 32)),
        [np.kron(np.eye(4), np.full((32, 32), 255)).astype("u1")[:, :, None].repeat(3, 2)],
        0,
    ),
}


@pytest.fixture
def no_kernels(monkeypatch):
    """Take the compiled loops of the encoder away."""
    monkeypatch.setattr(choosing, "_search", None)
    monkeypatch.setattr(encoding, "_emit", None)
    monkeypatch.setattr(encoding, "_streams", None)
    monkeypatch.setattr(transform, "_kernel", None)


@needs_kernels
@pytest.mark.parametrize("name", CASES)
def test_symbols_and_streams_are_those_of_the_kernels(name, monkeypatch):
    options, pictures, qp = CASES[name]
    model = fit(pictures, qp, options)
    qps = np.full(len(pictures), qp)
    lam, search = choosing.LAM[options.layers - 1], choosing.costs_of(model.search, options.layers)
    group = [choice for choice, _ in choosing.choose(model, pictures, qps, lam, search)]
    expected = encode(model, pictures, qp, samples_per_stream=len(pictures))
    tables = model.coder_tables(options.layers)
    first = 0
    for layer in range(options.layers):
        ours = encoding.symbols_of(model, group, layer, options.layers)
        with monkeypatch.context() as patch:
            patch.setattr(encoding, "_emit", None)
            theirs = encoding.symbols_of(model, group, layer, options.layers)
        assert np.array_equal(ours, theirs)
        assert stream_plain(theirs.tolist(), tables, first) == expected.layers[layer][0]
        first += len(model.layers[layer].map)


@needs_kernels
def test_coefficients_are_those_of_the_kernel(monkeypatch):
    planes = np.random.default_rng(1).normal(0, 50, (2, 40, 36)).astype("f4")
    ours = transform.forward(planes, 0, 3, 0.5)
    monkeypatch.setattr(transform, "_kernel", None)
    np.testing.assert_allclose(transform.forward(planes, 0, 3, 0.5), ours, atol=1e-3)


@pytest.mark.usefixtures("no_kernels")
@pytest.mark.parametrize("name", CASES)
def test_pictures_come_back(name):
    options, pictures, qp = CASES[name]
    model = fit(pictures, qp, options)
    encoded = encode(model, pictures, qp, samples_per_stream=2)
    got = decode(model, encoded.layers, encoded.shapes, encoded.qps, samples_per_stream=2)
    step = 0.5 * 2 ** (qp / 16)
    for picture, back in zip(pictures, got, strict=True):
        error = ((picture.astype(float) - back) ** 2).mean()
        assert error < 2 + step**2 / 3


@needs_kernels
def test_its_own_choices_cost_little_more(request):
    pictures = [scene(i, 32, 32) for i in range(24)]
    sizes = []
    for kernels in (True, False):
        if not kernels:
            request.getfixturevalue("no_kernels")
        model = fit(pictures, 90)
        encoded = encode(model, pictures, 90)
        sizes.append(sum(map(len, encoded.layers[0])) + len(model.to_bytes()))
    assert sizes[1] < 1.3 * sizes[0]
