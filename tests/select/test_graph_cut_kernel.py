"""The kernel of GraphCut compiled, uncompiled and in NumPy: the same bits."""

import importlib
import threading
from importlib.machinery import EXTENSION_SUFFIXES

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat import kernels
from dsqformat.kernels import plain_graph_cut
from kernel_model import ROOT, SOURCES, load


def compiled():
    """For the widest registers there are."""
    if not kernels.COMPILED:
        pytest.skip("the kernels are not compiled here")
    return kernels.graph_cut_kernel()


def narrow():
    """For those that every processor has."""
    if not kernels.COMPILED:
        pytest.skip("the kernels are not compiled here")
    return importlib.import_module("dsqformat.kernels.graph_cut")


def checked():
    """That of `make checked`, which checks its bounds."""
    folder, source = ROOT / "build" / "checked" / "dsqformat" / "kernels", SOURCES / "graph_cut.py"
    for path in (folder / f"graph_cut{suffix}" for suffix in EXTENSION_SUFFIXES):
        if path.exists() and path.stat().st_mtime >= source.stat().st_mtime:
            return load("checked.graph_cut", path)
    pytest.skip("not built: make checked")
    return None


def uncompiled():
    pytest.importorskip("cython")
    return load("uncompiled_graph_cut", SOURCES / "graph_cut.py")


@pytest.fixture(scope="module", params=[compiled, narrow, checked, uncompiled])
def run(request):
    """The kernel, in one of the ways to run it."""
    return request.param()


def results(module, seed, count, width, dtype, second):
    """All outputs of all functions for some inputs."""
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((count, width)) * 10.0 ** rng.integers(-6, 6)).astype(dtype)
    weights, vector, scale = rng.random(count), rng.standard_normal(width), rng.random(count)
    first = int(rng.integers(0, count + 1))
    stop = int(rng.integers(first, count + 1))
    products = np.full(count, 7.0)
    module.row_products(rows, first, stop, vector, products)
    block, sums, lacks = np.zeros((3, width))
    module.column_sums(rows, weights, block, sums, lacks)
    total, carry = np.zeros((2, count))
    others = rng.random(count) if second else np.empty(0)
    for gain in (1e9, 0.3, -1e9):
        module.accumulate(products, others, scale, gain, first, stop, total, carry)
    values = np.where(rng.random(count) < 0.2, -np.inf, 0.0)
    best = module.evaluate(weights, total, carry, scale, -3.0, first, stop, values)
    return [products, sums, lacks, total, carry, values, np.array(best)]


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 80),
    width=st.sampled_from([16, 32, 80]),
    dtype=st.sampled_from(["f4", "f8"]),
    second=st.booleans(),
)
def test_all_ways_to_run_it_give_the_same_bits(run, seed, count, width, dtype, second):
    if run.__file__.endswith(".py"):
        count, width = min(count, 40), 16
    expected = results(plain_graph_cut, seed, count, width, dtype, second)
    for found, wanted in zip(
        results(run, seed, count, width, dtype, second), expected, strict=True
    ):
        np.testing.assert_array_equal(found.view("u8"), wanted.view("u8"))


def test_sums_carry_what_they_lack(run):
    total, carry = np.zeros((2, 1))
    for value in (1.0, *[1e-17] * 1000, -1.0):
        run.accumulate(np.array([value]), np.empty(0), np.ones(1), 1.0, 0, 1, total, carry)
    assert total[0] + carry[0] == pytest.approx(1e-14, rel=1e-9)
    rows = np.array([[1.0] * 16, *[[1e-17] * 16] * 63, [-1.0] * 16])
    block, sums, lacks = np.zeros((3, 16))
    run.column_sums(rows, np.ones(65), block, sums, lacks)
    # The first block of 32 is added up plainly, the second keeps its share.
    np.testing.assert_allclose(sums + lacks, 32e-17, rtol=1e-9)


def test_other_threads_go_on_meanwhile():
    module = compiled()
    rows, vector, out = np.ones((200_000, 64), "f4"), np.ones(64), np.empty(200_000)
    ticks, stop = [0], threading.Event()

    def tick():
        while not stop.is_set():
            ticks[0] += 1

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        for _ in range(20):
            module.row_products(rows, 0, len(rows), vector, out)
    finally:
        stop.set()
        ticker.join()
    assert ticks[0] > 0
    assert (out == 64).all()
