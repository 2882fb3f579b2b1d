"""The kernels compiled, compiled with bounds checks, uncompiled and in NumPy do the same.

They are compared with each other and with a model that follows the spec value by value.
"""

import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat import kernels
from dsqformat.kernels import plain, plain_patches, plain_rans
from kernel_model import (
    CODE,
    ELSEWHERE,
    PADDING,
    PATCH_KERNELS,
    RANS_KERNELS,
    VALUE,
    VARIANTS,
    ModelChunk,
    model_chunks,
    pack,
)

FAST = ["compiled", "baseline", "checked"]
TILE = 1536


@pytest.fixture(scope="module", params=VARIANTS)
def run(request, tmp_path_factory):
    """The kernels, in one of the ways to run them."""
    with np.errstate(over="ignore"):
        yield VARIANTS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module", params=FAST)
def run_fast(request, tmp_path_factory):
    """As `run`: those that are compared with NumPy, less the one that is slow beyond use."""
    return VARIANTS[request.param](tmp_path_factory.mktemp(request.param))


def dequantized(run, arguments, rule, total, fill=np.nan):
    out = np.full(total, fill, "f4")
    with np.errstate(over="ignore"):
        fault = run.dequantize_float32(*arguments, *rule, out)
    return fault, out


@given(chunk=model_chunks())
def test_float32_follows_the_spec(run, chunk):
    fault, out = dequantized(run, chunk.arguments(), chunk.rule(), chunk.total)
    assert fault == -1
    np.testing.assert_array_equal(out.view("u4"), chunk.values().view("u4"))


@given(chunk=model_chunks())
def test_uint8_follows_the_spec(run, chunk):
    out = np.empty(chunk.total, "u1")
    with np.errstate(over="ignore"):
        assert run.dequantize_uint8(*chunk.arguments(), *chunk.rule(), out) == -1
    np.testing.assert_array_equal(out, chunk.levels())


def test_uint8_rounds_ties_to_even(run):
    # x * 255 is 0.5, 1.5, 2.5, ... exactly.
    gain = np.full((1, 1), 1 / 510, "f4")
    levels = np.arange(1, 256, 2)
    exact = (levels.astype("f4") * gain[0, 0]) * np.float32(255)
    ties = levels[exact == levels / 2].tolist()
    assert len(ties) > 50
    chunk = ModelChunk([ties], [8], [], 1, [True], [0], [255], gain, np.zeros((1, 1), "f4"))
    out = np.empty(len(ties), "u1")
    assert run.dequantize_uint8(*chunk.arguments(), *chunk.rule(), out) == -1
    assert out.tolist() == [round(level / 2) for level in ties]


@given(chunk=model_chunks())
def test_codes_follow_the_spec(run, chunk):
    limit = chunk.rule()[1]
    out = np.empty(chunk.total, "u2")
    assert run.join_uint16(*chunk.arguments(), limit, out) == -1
    assert out.tolist() == chunk.tops()
    if chunk.widths.sum(axis=1).max(initial=0) <= 8:
        narrow = np.empty(chunk.total, "u1")
        assert run.join_uint8(*chunk.arguments(), limit, narrow) == -1
        assert narrow.tolist() == chunk.tops()


@given(chunk=model_chunks())
def test_measure_gives_the_length_of_each_layer(run, chunk):
    layers, packed, counts, widths, missing = chunk.arguments()
    needed = np.full(chunk.used, -1, "i8")
    assert run.measure(packed, counts, widths, missing, needed) == chunk.total
    assert needed.tolist() == [len(layer) for layer in layers]


@pytest.mark.parametrize(
    ("counts", "widths", "missing", "result"),
    [
        ([1, -1], [[4], [4]], [0, 0], -2),
        ([1 << 62], [[16]], [0], -1),
        ([1 << 28, 1], [[1], [1]], [0, 0], -2),
        ([1 << 28], [[16]], [0], 1 << 28),
        ([1, 1], [[16], [17]], [0, 0], -2),
        ([1, 1], [[16], [9]], [0, 8], -2),
        ([1], [[255]], [255], -1),
    ],
)
def test_measure_refuses_what_no_chunk_has(run, counts, widths, missing, result):
    needed = np.empty(1, "i8")
    arguments = [np.array(a, t) for a, t in [(counts, "i8"), (widths, "u1"), (missing, "u1")]]
    assert run.measure(np.ones(1, "u1"), *arguments, needed) == result


@given(chunk=model_chunks())
def test_split_and_pack_follow_the_spec(run, chunk):
    counts = np.array([len(codes) for codes in chunk.codes], "i8")
    codes = np.array([code for codes in chunk.codes for code in codes], "u2")
    for layer in range(chunk.used):
        width = np.ascontiguousarray(chunk.widths[:, layer])
        below = (np.array(chunk.stored, "i4") - chunk.widths[:, : layer + 1].sum(axis=1)).astype(
            "u1"
        )
        expected = [
            (code >> int(below[i])) & ((1 << int(width[i])) - 1)
            for i, sample in enumerate(chunk.codes)
            for code in sample
            if width[i]
        ]
        wide = np.empty(len(expected), "u2")
        run.split_uint16(codes, counts, below, width, wide)
        assert wide.tolist() == expected
        packed = np.full(int(((counts * width + 7) >> 3).sum()), 0xAA, "u1")
        assert run.pack_uint16(wide, counts, width, packed) == -1
        assert packed.tobytes() == ModelChunk(
            chunk.codes, chunk.stored, chunk.plan, chunk.used, [True] * 8,
            chunk.zero_point, chunk.max_code, chunk.gain, chunk.shift,
        ).layer(layer)  # fmt: skip
        if width.max(initial=0) <= 8:
            narrow = np.empty(len(expected), "u1")
            run.split_uint8(codes, counts, below, width, narrow)
            assert narrow.tolist() == expected
            again = np.full(len(packed), 0x55, "u1")
            assert run.pack_uint8(narrow, counts, width, again) == -1
            assert again.tobytes() == packed.tobytes()


@pytest.mark.parametrize("width", range(1, 16))
def test_pack_names_the_sample_whose_value_is_too_large(run, width):
    counts, widths = np.array([3, 0, 2], "i8"), np.array([width] * 3, "u1")
    values = np.array([0, 1, 0, 1, 1 << width], "u2")
    assert run.pack_uint16(values, counts, widths, np.empty(16, "u1")) == 2
    if width < 8:
        assert run.pack_uint8(values.astype("u1"), counts, widths, np.empty(16, "u1")) == 2


# Faults ----------------------------------------------------------------------------------------


def simple_chunk(codes, stored, plan, packed, max_code=None):
    n = len(codes)
    return ModelChunk(
        codes, stored, plan, len(plan) + 1, packed, [0] * n,
        max_code or [(1 << b) - 1 for b in stored], np.ones((n, 1), "f4"), np.zeros((n, 1), "f4"),
    )  # fmt: skip


@pytest.mark.parametrize("plan", [[], [4, 2], [3], [9]])
@pytest.mark.parametrize("stored", [3, 5, 7, 8, 11, 13])
def test_set_spare_bits_are_found(run, plan, stored):
    chunk = simple_chunk([[0], [0, 1, 0], [1]], [stored] * 3, plan, [True] * 8)
    arguments = chunk.arguments()
    for layer in range(chunk.used):
        width = int(chunk.widths[1, layer])
        if not (3 * width) % 8:
            continue
        at = len(pack([0], width)) + len(pack([0] * 3, width)) - 1
        arguments[0][layer][at] |= 0x80
        fault, _ = dequantized(run, arguments, chunk.rule(), chunk.total)
        assert fault == 1 * 32 + PADDING * 8 + layer
        arguments[0][layer][at] &= 0x7F
    assert dequantized(run, arguments, chunk.rule(), chunk.total)[0] == -1


@pytest.mark.parametrize(
    ("width", "layer"),
    [(w, n) for w in range(1, 16) for n in (0, 1) if w != 8 and w + 2 * n <= 16],
)
def test_whole_values_that_are_too_large_are_found(run, width, layer):
    plan, stored = ([], width) if layer == 0 else ([2], width + 2)
    chunk = simple_chunk([[0, 1], [1, 0, 1]], [stored] * 2, plan, [False] * 8)
    arguments = chunk.arguments()
    item = 1 if width <= 8 else 2
    octets = np.array([1 << width], "<u2").view("u1")[:item]
    arguments[0][layer][4 * item : 5 * item] = octets
    fault, _ = dequantized(run, arguments, chunk.rule(), chunk.total)
    assert fault == 1 * 32 + VALUE * 8 + layer


@pytest.mark.parametrize("stored", range(2, 17))
@pytest.mark.parametrize("plan", [[], [4, 2]])
@pytest.mark.parametrize("packed", [True, False])
def test_illegal_codes_are_found_only_with_all_layers(run, stored, plan, packed):
    top = (1 << stored) - 1
    chunk = simple_chunk([[0], [top, 0]], [stored] * 2, plan, [packed] * 8, [top - 1] * 2)
    fault, _ = dequantized(run, chunk.arguments(), chunk.rule(), chunk.total)
    assert fault == 1 * 32 + CODE * 8
    legal = simple_chunk([[0], [top - 1, 0]], [stored] * 2, plan, [packed] * 8, [top - 1] * 2)
    assert dequantized(run, legal.arguments(), legal.rule(), legal.total)[0] == -1
    if plan and stored > 6:
        chunk.used = 1
        chunk.__post_init__()
        assert dequantized(run, chunk.arguments(), chunk.rule(), chunk.total)[0] == -1


@given(chunk=model_chunks(), seed=st.integers(0, 2**32), data=st.data())
def test_any_bytes_give_the_same_values_or_the_same_fault(run, chunk, seed, data):
    arguments, rule = chunk.arguments(), chunk.rule()
    rng = np.random.default_rng(seed)
    for layer in arguments[0]:
        density = data.draw(st.sampled_from([0, 0.02, 0.5]))
        layer ^= np.where(
            rng.random(len(layer)) < density, rng.integers(0, 256, len(layer)), 0
        ).astype("u1")
    if len(rule[1]) and data.draw(st.booleans()):
        rule[1] -= 1
    expected = dequantized(plain, arguments, rule, chunk.total)
    fault, out = dequantized(run, arguments, rule, chunk.total)
    assert fault == expected[0]
    if fault < 0:
        np.testing.assert_array_equal(out.view("u4"), expected[1].view("u4"))


# Larger than a tile ----------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("packed", [1, 0])
@pytest.mark.parametrize(
    "widths", [*([w] for w in range(1, 17)), [4, 2, 2], [4, 2, 6], [4, 1], [9, 7], [1, 9]], ids=str
)
def test_tiles_join_up(run_fast, widths, packed, channels):
    rng = np.random.default_rng(sum(widths))
    counts = np.array([TILE - 1, 0, TILE, TILE + 1, 3 * TILE + 5], "i8")
    n = len(counts)
    codes = [
        rng.integers(0, 1 << width, counts.sum()).astype("u1" if width <= 8 else "<u2")
        for width in widths
    ]
    if packed:
        layers = []
        for width, values in zip(widths, codes, strict=True):
            column = np.full(n, width, "u1")
            data = np.empty(int(((counts * width + 7) >> 3).sum()), "u1")
            assert plain.pack_uint8(values, counts, column, data) == -1
            layers.append(data)
    else:
        layers = [values.view("u1") for values in codes]
    arguments = [
        layers, np.full(len(widths), packed, "u1"), counts, np.tile(np.array(widths, "u1"), (n, 1)),
    ]  # fmt: skip
    total = int(counts.sum())
    gain, shift = rng.random((2, n, channels)).astype("f4")
    for missing in (0, min(3, 16 - sum(widths))):
        lost = np.full(n, missing, "u1")
        rule = [np.arange(n).astype("i4"), np.full(n, 65535, "i4"), gain, shift]
        expected = dequantized(plain, [*arguments, lost], rule, total)
        got = dequantized(run_fast, [*arguments, lost], rule, total)
        assert got[0] == expected[0] == -1
        np.testing.assert_array_equal(got[1], expected[1])
        levels = np.empty((2, total), "u1")
        assert plain.dequantize_uint8(*arguments, lost, *rule, levels[0]) == -1
        assert run_fast.dequantize_uint8(*arguments, lost, *rule, levels[1]) == -1
        np.testing.assert_array_equal(*levels)


@pytest.mark.parametrize("at", [0, TILE - 1, TILE, 3 * TILE + 4])
def test_faults_are_found_in_every_tile(run, at):
    count = 3 * TILE + 5
    arguments = [
        [np.zeros(2 * count, "u1")],
        np.zeros(1, "u1"),
        np.full(2, count, "i8"),
        np.full((2, 1), 5, "u1"),
        np.zeros(2, "u1"),
    ]
    rule = [np.zeros(2, "i4"), np.full(2, 30, "i4"), *np.ones((2, 2, 1), "f4")]
    arguments[0][0][count + at] = 31
    assert dequantized(run, arguments, rule, 2 * count)[0] == 32 + CODE * 8
    arguments[0][0][count + at] = 32
    assert dequantized(run, arguments, rule, 2 * count)[0] == 32 + VALUE * 8


def test_threads_do_not_share_scratch(run_fast):
    rng = np.random.default_rng(0)
    counts = np.full(40, 3000, "i8")
    jobs = []
    for width in (3, 5, 11, 12):
        n = len(counts)
        data = rng.integers(0, 256, n * ((3000 * width + 7) // 8)).astype("u1")
        arguments = [
            [data],
            np.ones(1, "u1"),
            counts,
            np.full((n, 1), width, "u1"),
            np.zeros(n, "u1"),
        ]
        rule = [np.zeros(n, "i4"), np.full(n, 65535, "i4"), *np.ones((2, n, 1), "f4")]
        jobs.append((arguments, rule, dequantized(plain, arguments, rule, n * 3000)[1]))
    wrong = []

    def work(arguments, rule, expected):
        for _ in range(5):
            _, out = dequantized(run_fast, arguments, rule, len(expected))
            if not np.array_equal(out, expected):
                wrong.append(arguments[3][0, 0])

    threads = [threading.Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


# Choosing an implementation --------------------------------------------------------------------


def test_the_checked_build_checks(tmp_path_factory, monkeypatch):
    checked = VARIANTS["checked"](tmp_path_factory.mktemp("checks"))
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda caught: seen.append(caught.exc_type))
    chunk = simple_chunk([[1] * 8], [8], [], [True])
    checked.dequantize_float32(*chunk.arguments(), *chunk.rule(), np.empty(7, "f4"))
    assert seen == [IndexError]


def test_the_environment_asks_for_numpy_without_a_warning():
    code = "from dsqformat import kernels; print(kernels.COMPILED, kernels.pack_uint8.__module__)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={"DSQ_KERNELS": "plain", "PATH": ""},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["False", "dsqformat.kernels.plain"]


def test_all_implementations_have_the_same_names():
    for name in kernels.__all__:
        assert hasattr(kernels, name)
        if name in RANS_KERNELS:
            assert callable(getattr(plain_rans, name))
        elif name in PATCH_KERNELS:
            assert callable(getattr(plain_patches, name))
        elif name not in ELSEWHERE:
            assert callable(getattr(plain, name))
