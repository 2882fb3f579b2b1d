"""The kernels of patches compiled, with bounds checks, uncompiled and in NumPy: the same bits."""

import threading
from importlib.machinery import EXTENSION_SUFFIXES
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat import kernels
from dsqformat.kernels import plain_patches
from kernel_model import PATCH_KERNELS, ROOT, SOURCES, load

MODULES = ("patch_groups", "patches")
NO_GROUPS = np.empty(0, "i8")
NO_MASK = np.empty(0, "u1")


def compiled():
    if not kernels.COMPILED:
        pytest.skip("the kernels are not compiled here")
    return kernels


def checked():
    """Those of `make checked`, which check their bounds."""
    folder, found = ROOT / "build" / "checked" / "dsqformat" / "kernels", []
    for name in MODULES:
        built = (folder / f"{name}{suffix}" for suffix in EXTENSION_SUFFIXES)
        newest = (SOURCES / f"{name}.py").stat().st_mtime
        found += [path for path in built if path.exists() and path.stat().st_mtime >= newest]
    if len(found) < len(MODULES):
        pytest.skip("not built: make checked")
    return together(
        *(load(f"checked.{name}", path) for name, path in zip(MODULES, found, strict=True))
    )


def uncompiled():
    pytest.importorskip("cython")
    return together(*(load(f"uncompiled_{name}", SOURCES / f"{name}.py") for name in MODULES))


def together(groups, values):
    """One namespace of the kernels of both modules."""
    return SimpleNamespace(
        **{name: getattr(groups, name, None) or getattr(values, name) for name in PATCH_KERNELS}
    )


@pytest.fixture(scope="module", params=[compiled, checked, uncompiled])
def run(request):
    """The kernels, in one of the ways to run them."""
    with np.errstate(over="ignore"):
        yield request.param()


# From codes to values --------------------------------------------------------------------------


@st.composite
def chunks(draw):
    """Arguments of `dequantize_patches_*` but the output."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    patch, masked = draw(st.integers(1, 12)), draw(st.booleans())
    groups = draw(st.sampled_from([1, 2, 300]))
    shapes = draw(
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 4)), max_size=5)
    )
    if draw(st.booleans()):
        shapes = [*shapes, (2, 1100, 2)]  # rows that take several tiles
    kept, counts, patches = [], 0, 0
    for height, width, channels in shapes:
        grid = -(-height // patch), -(-width // patch)
        mask = rng.random(grid) < 0.6 if masked else np.ones(grid, "?")
        pixels = mask[np.arange(height)[:, np.newaxis] // patch, np.arange(width) // patch]
        counts += int(pixels.sum()) * channels
        patches += int(mask.sum()) if channels else 0
        kept.append(mask.ravel())
    scale = rng.choice([0, 0.3, 1e-40, 3e38], groups) * rng.random(groups)
    return (
        rng.integers(0, 256, counts).astype("u2"),
        rng.integers(0, 9, len(shapes)).astype("u1"),
        rng.integers(0, groups, patches).astype("u2"),
        scale.astype("f4"),
        rng.normal(0, 1, groups).astype("f4"),
        np.array(shapes, "i8").reshape(-1, 3),
        patch,
        np.concatenate([NO_MASK, *kept]).astype("u1") if masked else NO_MASK,
    )


@given(chunk=chunks())
@pytest.mark.parametrize("kind", ["float32", "uint8"])
def test_values_are_the_same_as_in_numpy(run, kind, chunk):
    name, dtype = f"dequantize_patches_{kind}", np.dtype(kind)
    expected, out = np.empty(len(chunk[0]), dtype), np.full(len(chunk[0]), 77, dtype)
    with np.errstate(over="ignore"):
        assert getattr(plain_patches, name)(*chunk, expected) == -1
        assert getattr(run, name)(*chunk, out) == -1
    np.testing.assert_array_equal(out.view("u1"), expected.view("u1"))


@given(chunk=chunks(), places=st.lists(st.integers(0, 2**16), min_size=1, max_size=3))
def test_the_first_id_without_a_group_is_found(run, chunk, places):
    codes, missing, ids, *rest = chunk
    if not len(ids):
        return
    wrong = sorted({place % len(ids) for place in places})
    ids = ids.copy()
    ids[wrong] = len(chunk[3])
    for kind in ("float32", "uint8"):
        out = np.empty(len(codes), kind)
        for module in (run, plain_patches):
            dequantize = getattr(module, f"dequantize_patches_{kind}")
            assert dequantize(codes, missing, ids, *rest, out) == wrong[0]


def test_values_follow_the_spec(run):
    rng = np.random.default_rng(0)
    codes, ids = rng.integers(0, 16, 7 * 8 * 2).astype("u2"), np.array([0, 2, 1, 2], "u2")
    scale, offset = rng.random(3).astype("f4"), rng.normal(size=3).astype("f4")
    shapes, missing = np.array([[7, 8, 2]]), np.array([3], "u1")
    out, levels = np.empty(112, "f4"), np.empty(112, "u1")
    arguments = codes, missing, ids, scale, offset, shapes, 5, NO_MASK
    assert run.dequantize_patches_float32(*arguments, out) == -1
    assert run.dequantize_patches_uint8(*arguments, levels) == -1
    for i, code in enumerate(codes.tolist()):
        y, x = i // 16, i // 2 % 8
        group = ids[(y // 5) * 2 + x // 5]
        middle = np.float32(code * 8 + 3.5)
        value = np.float32(np.float32(middle * scale[group]) + offset[group])
        assert out[i] == value
        assert levels[i] == min(255, max(0, round(float(np.float32(value * np.float32(255))))))


# Choosing groups -------------------------------------------------------------------------------


def choose(module, patches, top, rule, centres, current, tried):
    group, error = np.full(len(patches), -1), np.full(len(patches), np.nan)
    codes = np.full(patches.shape, 255, "u1")
    module.choose_groups(patches, top, *rule, centres, current, tried, group, error, codes)
    return group, error, codes


@given(
    st.integers(0, 2**32), st.integers(0, 6), st.integers(1, 80), st.integers(1, 9),
    st.integers(1, 8), st.integers(0, 9), st.booleans(), st.sampled_from([1.0, 1e-30, 3e38]),
)  # fmt: skip
def test_groups_are_the_same_as_in_numpy(run, seed, m, k, groups, bits, tried, known, size):
    rng = np.random.default_rng(seed)
    # Few levels, so that distances and errors tie.
    patches = rng.integers(0, 4, (m, k)) / 4 * size
    scale = (rng.integers(0, 3, groups) / 9 * size).astype("f4")
    offset = (rng.integers(-1, 3, groups) / 4 * size).astype("f4")
    centres = rng.integers(0, 4, (2, groups)) / 4 * size
    current = rng.integers(0, groups, m) if known or not tried else NO_GROUPS
    arguments = patches, (1 << bits) - 1, (scale, offset), centres, current, min(tried, groups)
    for found, expected in zip(
        choose(run, *arguments), choose(plain_patches, *arguments), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 8))
def test_groups_are_those_of_least_distortion(run, seed, k, bits):
    rng = np.random.default_rng(seed)
    patches, top = rng.random((3, k)), (1 << bits) - 1
    scale, offset = (rng.random(6) / top).astype("f4"), rng.random(6).astype("f4")
    group, error, codes = choose(run, patches, top, (scale, offset), np.zeros((2, 6)), NO_GROUPS, 6)
    back = codes * scale[group, np.newaxis].astype("f8") + offset[group, np.newaxis]
    np.testing.assert_allclose(error, ((back - patches) ** 2).sum(axis=1), rtol=1e-9)
    for g in range(6):
        steps = np.clip(np.rint((patches - offset[g]) / np.float64(scale[g])), 0, top)
        other = ((steps * np.float64(scale[g]) + offset[g] - patches) ** 2).sum(axis=1)
        assert (error <= other * (1 + 1e-9)).all()


@given(st.integers(0, 2**32), st.integers(0, 30), st.integers(1, 9))
def test_nearest_centres_are_the_same_as_in_numpy(run, seed, points, centres):
    rng = np.random.default_rng(seed)
    x, c = rng.integers(0, 4, (2, points)) / 4, rng.integers(0, 4, (2, centres)) / 4
    found, expected = np.full(points, -1), np.full(points, -2)
    run.find_nearest(x, c, found)
    plain_patches.find_nearest(x, c, expected)
    np.testing.assert_array_equal(found, expected)


# Memory and threads ----------------------------------------------------------------------------


def test_bounds_are_checked_where_they_are_said_to_be(monkeypatch):
    seen = []
    monkeypatch.setattr("sys.unraisablehook", lambda caught: seen.append(caught.exc_type))
    one, shapes = np.zeros(1, "u2"), np.array([[1, 2, 1]])
    scale = np.ones(1, "f4")
    arguments = one, np.zeros(1, "u1"), one, scale, scale, shapes, 5, NO_MASK
    checked().dequantize_patches_float32(*arguments, np.empty(2, "f4"))
    assert IndexError in seen


def test_threads_do_not_disturb_each_other():
    module = compiled()
    rng = np.random.default_rng(0)
    shapes, results = np.tile([32, 32, 3], (200, 1)), {}
    codes, ids = rng.integers(0, 4, 200 * 3072), rng.integers(0, 64, 200 * 49)
    scale, offset = rng.random(64).astype("f4"), rng.random(64).astype("f4")
    arguments = codes.astype("u2"), np.zeros(200, "u1"), ids.astype("u2"), scale, offset, shapes, 5

    def work(number):
        out = np.empty(200 * 3072, "f4")
        for _ in range(10):
            module.dequantize_patches_float32(*arguments, NO_MASK, out)
        results[number] = out

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    expected = np.empty(200 * 3072, "f4")
    plain_patches.dequantize_patches_float32(*arguments, NO_MASK, expected)
    for number in range(4):
        np.testing.assert_array_equal(results[number], expected)


def test_all_names_are_there(run):
    assert all(callable(getattr(run, name)) for name in PATCH_KERNELS)
