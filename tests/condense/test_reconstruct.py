"""Reconstructors without weights: what is visible stays, what is missing is continued."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat import kernels
from dsqformat.errors import UnsupportedFeatureError
from dsqformat.quantize.mask import patch_grid, pixel_mask
from dsqformat.reconstruct import fill_harmonic, fill_mean, named_reconstructor
from dsqformat.select.masks import patch_masks

FILLS = [fill_harmonic, fill_mean]


def smooth(count=6, side=20, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    axis = np.linspace(0, 3, side)
    phase = rng.uniform(0, 6, (count, 1, 1, channels))
    waves = np.sin(axis[:, None, None] + phase) + np.cos(2 * axis[None, :, None] + phase)
    return np.rint(60 * waves + 128 + rng.normal(0, 3, waves.shape)).clip(0, 255).astype("u1")


def drawn_masks(count, grid, ratio=0.4, seed=1):
    return patch_masks(np.random.default_rng(seed).random((count, *grid)), ratio)


def holes(masks, height, width, patch):
    return np.stack([~pixel_mask(mask, height, width, patch) for mask in masks])


@pytest.mark.parametrize("fill", FILLS)
@given(
    st.integers(1, 13), st.integers(1, 13), st.sampled_from([1, 3]), st.integers(1, 5),
    st.sampled_from(["u1", "f4", "f8"]), st.floats(0, 0.95), st.integers(0, 5),
)  # fmt: skip
def test_visible_pixels_stay_and_the_rest_is_within_range(
    fill, height, width, channels, patch, dtype, ratio, seed
):
    rng = np.random.default_rng(seed)
    pictures = (rng.random((3, height, width, channels)) * 255).astype(dtype)
    masks = drawn_masks(3, patch_grid(height, width, patch), ratio, seed)
    hidden = holes(masks, height, width, patch)
    ruined = pictures.copy()
    ruined[hidden] = 77 if dtype == "u1" else np.nan
    filled = fill(ruined, masks, patch)
    assert (filled.dtype, filled.shape) == (pictures.dtype, pictures.shape)
    assert (filled[~hidden] == pictures[~hidden]).all()
    for picture, before, gone in zip(filled, pictures, hidden, strict=True):
        for channel in range(channels):
            kept = before[~gone, channel].astype("f4")
            made = picture[gone, channel].astype("f4")
            assert ((made >= kept.min() - 1e-3) & (made <= kept.max() + 1e-3)).all()


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_a_constant_comes_back_exactly(fill, dtype):
    levels = np.array([3, 77, 200]) if dtype == "u1" else np.array([0.1, 1 / 3, -0.7])
    pictures = np.broadcast_to(levels.astype(dtype), (5, 15, 17, 3))
    masks = drawn_masks(5, (4, 5), 0.7)
    assert (fill(pictures * ~holes(masks, 15, 17, 4)[..., None], masks, 4) == pictures).all()


def test_holes_inside_a_ramp_come_back():
    rows, columns = np.mgrid[:24, :28]
    ramp = np.stack([2 * rows + 3 * columns, 100 - rows, 5 * columns], axis=-1).astype("f4")
    masks = np.ones((2, 6, 7), "?")
    masks[0, 1:3, 2:5] = False  # 8 x 12 pixels, inside
    masks[1, 4, 5] = False
    broken = np.broadcast_to(ramp, (2, 24, 28, 3)).copy()
    broken[holes(masks, 24, 28, 4)] = np.nan
    np.testing.assert_allclose(
        fill_harmonic(broken, masks, 4), np.broadcast_to(ramp, (2, 24, 28, 3)), atol=0.15
    )
    as_bytes = ramp.astype("u1")
    assert (fill_harmonic(np.stack([as_bytes] * 2), masks, 4) == as_bytes).all()


def test_the_laplace_equation_holds():
    """Against a direct solution of the linear equations of every hole pixel."""
    pictures = smooth(2, side=16, channels=1).astype("f4")
    masks = drawn_masks(2, (4, 4), 0.5, seed=3)
    hidden = holes(masks, 16, 16, 4)
    filled = fill_harmonic(pictures, masks, 4)
    for number in range(2):
        unknown = np.flatnonzero(hidden[number])
        place = {pixel: row for row, pixel in enumerate(unknown)}
        matrix, right = np.zeros((len(unknown),) * 2), np.zeros(len(unknown))
        for row, pixel in enumerate(unknown):
            y, x = divmod(pixel, 16)
            for other in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if not (0 <= other[0] < 16 and 0 <= other[1] < 16):
                    continue
                matrix[row, row] += 1
                if hidden[number][other]:
                    matrix[row, place[other[0] * 16 + other[1]]] -= 1
                else:
                    right[row] += pictures[number][other][0]
        exact = np.linalg.solve(matrix, right)
        np.testing.assert_allclose(filled[number][hidden[number]][:, 0], exact, atol=0.5)


@pytest.mark.skipif(kernels.harmonic_kernel() is None, reason="not compiled")
@given(
    st.integers(1, 19), st.integers(1, 19), st.sampled_from([1, 3]), st.integers(1, 6),
    st.floats(0, 0.95), st.integers(0, 5),
)  # fmt: skip
def test_kernel_and_numpy_give_the_same_bits(height, width, channels, patch, ratio, seed):
    pictures = np.random.default_rng(seed).normal(0, 50, (4, height, width, channels)).astype("f4")
    masks = drawn_masks(4, patch_grid(height, width, patch), ratio, seed)
    compiled = fill_harmonic(pictures, masks, patch)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kernels, "harmonic_kernel", lambda: None)
        plain = fill_harmonic(pictures, masks, patch)
    assert (compiled.view("u4") == plain.view("u4")).all()


@pytest.mark.skipif(kernels.harmonic_kernel() is None, reason="not compiled")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"places": [6]}, "outside of the picture"),  # in the frame, whose row above is missing
        ({"places": [29]}, "outside of the picture"),
        ({"places": [-1]}, "outside of the picture"),
        ({"weight": np.ones(35, "f4")}, "sizes do not fit"),
        ({"neighbours": np.ones(37, "f4")}, "sizes do not fit"),
        ({"tolerance": np.ones(3, "f4")}, "one tolerance for each plane"),
    ],
)
def test_the_kernel_stays_inside(change, message):
    arguments = {
        "framed": np.zeros((2, 6, 6), "f4"), "places": [8], "weight": np.ones(36, "f4"),
        "neighbours": np.ones(36, "f4"), "tolerance": np.ones(2, "f4"), "sweeps": 8, "checks": 2,
    } | change  # fmt: skip
    arguments["places"] = np.array(arguments["places"], "i4")
    with pytest.raises(ValueError, match=message):
        kernels.harmonic_kernel().relax(**arguments)


def test_harmonic_beats_mean_on_smooth_pictures():
    pictures = smooth()
    masks = drawn_masks(6, (5, 5))
    error = [np.square(fill(pictures, masks, 4) - pictures.astype("f4")).mean() for fill in FILLS]
    assert error[0] < 0.2 * error[1]


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("layout", [lambda v: v, np.asfortranarray, lambda v: v[:, :, ::-1]])
def test_a_picture_does_not_depend_on_its_batch_or_its_layout(fill, layout):
    pictures = smooth(70)
    masks = drawn_masks(70, (5, 5))
    pictures, masks = layout(pictures), layout(masks) if layout is not np.asfortranarray else masks
    whole = fill(pictures, masks, 4)
    order = np.random.default_rng(4).permutation(70)[:45]
    assert (fill(pictures[order], masks[order], 4) == whole[order]).all()
    one = fill(np.ascontiguousarray(pictures[3:4]), np.ascontiguousarray(masks[3:4]), 4)
    assert (one == whole[3:4]).all()


@pytest.mark.parametrize("fill", FILLS)
def test_nothing_missing_is_nothing_changed(fill):
    pictures = smooth(3)
    assert (fill(pictures, np.ones((3, 5, 5), "?"), 4) == pictures).all()
    assert fill(pictures[:0], np.ones((0, 5, 5), "?"), 4).shape == (0, 20, 20, 3)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(
    ("pictures", "masks", "message"),
    [
        (smooth(2), np.ones((2, 4, 5), "?"), r"booleans of shape \(2, 5, 5\)"),
        (smooth(2), np.ones((2, 5, 5), "u1"), "uint8 of shape"),
        (smooth(2)[0], np.ones((2, 5, 5), "?"), "expected uint8 or floating"),
        (smooth(2).astype("i4"), np.ones((2, 5, 5), "?"), "int32"),
        (smooth(2), np.arange(2)[:, None, None] * np.ones((2, 5, 5)) == 0, "picture 1: no patch"),
    ],
)
def test_what_is_refused(fill, pictures, masks, message):
    with pytest.raises(ValueError, match=message):
        fill(pictures, masks, 4)


@pytest.mark.parametrize("fill", FILLS)
def test_nan_in_sight_is_refused(fill):
    pictures = smooth(3).astype("f4")
    pictures[2, 0, 0, 1] = np.nan
    with pytest.raises(ValueError, match="picture 2: a visible value"):
        fill(pictures, np.ones((3, 5, 5), "?"), 4)


def test_names():
    pictures, masks = smooth(2), drawn_masks(2, (5, 5))
    for name, fill in (("harmonic", fill_harmonic), ("mean", fill_mean)):
        reconstructor = named_reconstructor(name)
        assert (reconstructor.id, reconstructor.weights_nbytes, reconstructor.sha256) == (
            name,
            0,
            None,
        )
        assert (reconstructor(pictures, masks, 4) == fill(pictures, masks, 4)).all()
    assert named_reconstructor("none")(pictures, masks, 4) is pictures
    with pytest.raises(UnsupportedFeatureError, match="harmonic, mean, none"):
        named_reconstructor("tiny-mae")
