"""Masks of patches and the importance they are made of, without a network."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dsqformat.select.masks import kept_patches, patch_masks
from dsqformat.select.patch_importance import (
    patch_means,
    random_importance,
    sobel_importance,
    variance_importance,
)


@pytest.mark.parametrize(
    ("count", "ratio", "kept"),
    [
        (64, 0.25, 48),
        (196, 0.25, 147),
        (196, 0.2, 157),
        (10, 0.9, 1),  # 10 * (1 - 0.9) is below 1 in floating point
        (10, 0.3, 7),
        (3, 0.99, 1),
        (1, 0.5, 1),
        (7, 0.0, 7),
    ],
)
def test_kept_patches(count, ratio, kept):
    assert kept_patches(count, ratio) == kept


@pytest.mark.parametrize("ratio", [1, 1.5, -0.1, float("nan")])
def test_ratios_that_are_refused(ratio):
    with pytest.raises(ValueError, match=r"0 \(keep all\) up to but not 1"):
        kept_patches(10, ratio)


@given(
    hnp.arrays("f4", st.tuples(st.integers(0, 5), st.integers(1, 6), st.integers(1, 6)),
               elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0])),
    st.floats(0, 0.999),
)  # fmt: skip
def test_exactly_as_many_are_kept_and_no_dropped_one_is_better(scores, ratio):
    masks = patch_masks(scores, ratio)
    count = scores.shape[1] * scores.shape[2]
    flat, kept = scores.reshape(-1, count), masks.reshape(-1, count)
    assert (kept.sum(axis=1) == kept_patches(count, ratio)).all()
    for values, mask in zip(flat, kept, strict=True):
        # By definition: order by score, then by number.
        order = sorted(range(len(values)), key=lambda i: (-values[i], i))
        assert set(order[: mask.sum()]) == set(np.flatnonzero(mask))


def test_ties_keep_the_first():
    masks = patch_masks(np.zeros((1, 2, 4)), 0.5)
    assert masks.tolist() == [[[True] * 4, [False] * 4]]


def test_nothing_dropped_is_everything_kept():
    assert patch_masks(np.random.default_rng(0).random((3, 4, 4)), 0).all()


def test_scores_that_are_refused():
    with pytest.raises(ValueError, match="picture 1: one is NaN"):
        patch_masks(np.array([[[0.0]], [[np.nan]]]), 0)
    with pytest.raises(ValueError, match="expected \\(pictures, rows, columns\\)"):
        patch_masks(np.zeros((3, 4)), 0)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_means_of_patches(height, width, patch):
    values = np.random.default_rng(0).random((2, height, width))
    found = patch_means(values, patch)
    for row in range(found.shape[1]):
        for column in range(found.shape[2]):
            cell = values[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            np.testing.assert_allclose(found[:, row, column], cell.mean(axis=(1, 2)))


def test_edges_of_a_ramp():
    """Mean edge strength 4 a (W - 2) / W of slope a and width W: 0.3 for 0.1 and 8."""
    ramp = np.broadcast_to(0.1 * np.arange(8, dtype="f4"), (2, 8, 8))[..., np.newaxis]
    np.testing.assert_allclose(sobel_importance(ramp, 8), 0.3, rtol=1e-6)
    turned = ramp.transpose(0, 2, 1, 3)
    np.testing.assert_allclose(sobel_importance(turned, 8), 0.3, rtol=1e-6)


def test_edges_by_their_definition():
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (1, 7, 9, 3)).astype("u1")
    grey = picture[0] / 255 @ np.array([0.299, 0.587, 0.114])
    padded = np.pad(grey, 1, "reflect")
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    strength = sum(np.abs((windows * k).sum(axis=(2, 3))) for k in (kernel, kernel.T)) / 2
    np.testing.assert_allclose(
        sobel_importance(picture, 4)[0], patch_means(strength[np.newaxis], 4)[0], rtol=1e-5
    )


def test_variance_by_its_definition():
    rng = np.random.default_rng(2)
    pictures = rng.random((3, 6, 7, 2)).astype("f4")
    found = variance_importance(pictures, 3)
    assert found.shape == (3, 2, 3)
    np.testing.assert_allclose(
        found[:, 0, 0], pictures[:, :3, :3].var(axis=(1, 2)).mean(axis=1), rtol=1e-4
    )
    np.testing.assert_allclose(found[:, 1, 2], pictures[:, 3:, 6:].var(axis=(1, 2)).mean(axis=1),
                               rtol=1e-4)  # fmt: skip
    assert (variance_importance(np.full((1, 4, 4, 3), 7, "u1"), 2) < 1e-12).all()


@pytest.mark.parametrize("importance", [sobel_importance, variance_importance])
def test_scores_do_not_depend_on_the_batch(importance):
    pictures = np.random.default_rng(3).integers(0, 256, (400, 32, 32, 3)).astype("u1")
    whole = importance(pictures, 4)
    assert (importance(pictures[200:], 4) == whole[200:]).all()
    as_unit = importance(pictures[:5].astype("f4") / np.float32(255), 4)
    assert (as_unit == whole[:5]).all()
    assert (importance(pictures[:0], 4)).shape == (0, 8, 8)


def test_edges_of_a_single_row():
    assert (sobel_importance(np.ones((1, 1, 5, 1), "f4"), 2) == 0).all()


def test_chance_depends_on_position_and_seed_alone():
    whole = random_importance(10, (3, 4), seed=5)
    assert (random_importance(4, (3, 4), seed=5, first=6) == whole[6:]).all()
    assert (random_importance(10, (3, 4), seed=6) != whole).all()
    assert len(np.unique(whole)) == whole.size


def test_pictures_that_are_refused():
    with pytest.raises(ValueError, match="expected \\(n, height, width, channels\\)"):
        sobel_importance(np.zeros((4, 4, 3), "u1"), 2)
    with pytest.raises(ValueError, match="side of 1 pixel"):
        patch_means(np.zeros((1, 4, 4)), 0)
