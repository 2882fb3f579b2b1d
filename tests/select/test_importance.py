"""Texture, diversity and importance of bins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat.errors import SelectionError
from dsqformat.select import (
    bin_means,
    contrastive_diversity,
    diversity_by_mean_cosine,
    importance_of,
    patch_count,
    texture_scores,
)

# Per bin, from the saved scores of the authors of adaptive sampling.
PUBLISHED = [
    0.32309,
    0.32225,
    0.32143,
    0.32184,
    0.31931,
    0.31929,
    0.32007,
    0.31492,
    0.31082,
    0.30686,
]
IMPORTANCE = [1, 0.985, 1.031, 1.182, 1.094, 1.176, 1.083, 1.089, 1.011, 1]

# Texture ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("height", [1, 2, 8, 31])
def test_a_ramp_has_its_slope(height):
    ramp = np.tile(np.arange(8) * 0.1, (height, 1))[None]
    assert texture_scores(ramp)[0] == pytest.approx(0.3, abs=1e-12)
    assert texture_scores(ramp.swapaxes(1, 2))[0] == pytest.approx(0.3, abs=1e-12)
    color = np.repeat(ramp[..., None], 3, axis=3)
    assert texture_scores(color)[0] == pytest.approx(0.3, abs=1e-12)


def literal_texture(image, side):
    """Pixel by pixel, with borders reflected by arithmetic on indices."""
    tall, wide = min(side, image.shape[0]), min(side, image.shape[1])
    energies = []
    for top in range(0, image.shape[0] - tall + 1, tall):
        for left in range(0, image.shape[1] - wide + 1, wide):
            patch = image[top : top + tall, left : left + wide]

            def at(y, x, patch=patch):
                y, x = abs(y), abs(x)
                height, width = patch.shape
                y = 0 if height == 1 else (2 * height - 2 - y if y >= height else y)
                x = 0 if width == 1 else (2 * width - 2 - x if x >= width else x)
                return patch[y, x]

            for y in range(tall):
                for x in range(wide):
                    gx = sum(w * (at(y + d, x + 1) - at(y + d, x - 1)) for d, w in SMOOTH)
                    gy = sum(w * (at(y + 1, x + d) - at(y - 1, x + d)) for d, w in SMOOTH)
                    energies.append(abs(gx) / 2 + abs(gy) / 2)
    return np.mean(energies)


SMOOTH = [(-1, 1), (0, 2), (1, 1)]


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9), st.integers(0, 99))
def test_texture_is_what_the_pixels_say(height, width, side, seed):
    image = np.random.default_rng(seed).random((height, width))
    assert texture_scores(image[None], patch_side=side)[0] == pytest.approx(
        literal_texture(image, side), abs=1e-12
    )
    patches = -(-max(1, height // side) // 1) * max(1, width // side)
    assert patch_count(height, width, side) == patches


def test_bytes_are_hundreds_and_grays_are_weighed():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (5, 70, 40, 3)).astype("u1")
    gray = images / 255 @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(texture_scores(images), texture_scores(gray), atol=1e-12)
    np.testing.assert_allclose(
        texture_scores(images), [literal_texture(g[:64, :32], 32) for g in gray], atol=1e-12
    )
    assert texture_scores(images[:0]).shape == (0,)
    assert texture_scores(np.full((2, 9, 9), 7, "u1")).tolist() == [0, 0]
    # One picture at a time is the same as many.
    large = rng.random((3, 1100, 1000)).astype("f4")
    np.testing.assert_array_equal(
        texture_scores(large), [texture_scores(x[None])[0] for x in large]
    )


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 4)), r"got shape \(3, 4\)"),
        (np.zeros((3, 4, 4, 2)), "1 or 3 channels"),
        (np.zeros((3, 4, 4), "i8"), "got dtype int64, expected uint8"),
        (np.zeros((3, 0, 4)), "nothing to see"),
        (np.full((3, 4, 4), np.nan), "sample 0 has NaN"),
    ],
)
def test_what_are_no_pictures(images, message):
    with pytest.raises(SelectionError, match=message):
        texture_scores(images)


def test_means_of_bins_weigh_by_patches():
    ids = np.array([0, 1, 0, 1])
    assert bin_means([1.0, 2, 3, 4], ids, 2).tolist() == [2, 3]
    assert bin_means([1.0, 2, 3, 4], ids, 2, [3, 1, 1, 1]).tolist() == [1.5, 3]
    with pytest.raises(SelectionError, match="bin 2: is empty"):
        bin_means([1.0, 2, 3, 4], ids, 3)
    with pytest.raises(SelectionError, match="sample 1 has none"):
        bin_means([1.0, np.nan, 3, 4], ids, 2)
    with pytest.raises(SelectionError, match="numbers 0 to 1 of 1"):
        bin_means([1.0, 2, 3, 4], ids, 1)


# Diversity -------------------------------------------------------------------------------------


def test_the_vectors_of_the_mean_cosine():
    same = np.ones((6, 3))
    orthogonal = np.eye(6)
    ids = np.zeros(6, "i4")
    assert diversity_by_mean_cosine(same, ids, 1) == pytest.approx([1])
    assert diversity_by_mean_cosine(orthogonal, ids, 1) == pytest.approx([6])
    cancelling = np.array([[1.0, 0], [-1, 0]] * 3)
    assert diversity_by_mean_cosine(cancelling, ids, 1).tolist() == [36]
    views = np.stack([np.eye(12)[:6], np.eye(12)[6:]])
    assert diversity_by_mean_cosine(views, ids, 1) == pytest.approx([12])


@given(st.integers(0, 2**32), st.integers(1, 3))
def test_the_closed_form_is_the_mean_of_the_matrix(seed, views):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((views, 20, 5)) + 1
    ids = np.arange(20) % 3
    units = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    expected = []
    for number in range(3):
        rows = units[:, ids == number].reshape(-1, 5)
        expected.append(1 / (rows @ rows.T).mean())
    np.testing.assert_allclose(
        diversity_by_mean_cosine(vectors * 10.0 ** rng.integers(-200, 200), ids, 3), expected
    )


@given(st.integers(0, 2**32), st.sampled_from([0.07, 0.5, 3.0]))
def test_contrast_is_the_equation(seed, temperature):
    rng = np.random.default_rng(seed)
    x, other = rng.standard_normal((2, 11, 4))
    ids = np.arange(11) % 2
    units = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, other)]
    expected = []
    for number in (0, 1):
        members = np.flatnonzero(ids == number)
        ratios = []
        for i in members:
            top = sum(np.exp(units[0][i] @ units[0][j] / temperature) for j in members if j != i)
            ratios.append(top / np.exp(units[0][i] @ units[1][i] / temperature))
        expected.append(-np.mean(ratios) / (len(members) - 1))
    found = contrastive_diversity(x, other, ids, 2, temperature=temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert (found < 0).all()


def test_low_temperatures_do_not_overflow_before_they_must():
    x = np.eye(4)
    ids = np.zeros(4, "i4")
    # Negatives are orthogonal, positives are the same: exp(-1 / t) each.
    assert contrastive_diversity(x, x, ids, 1, temperature=0.002)[0] == pytest.approx(
        -np.exp(-500.0)
    )
    with pytest.raises(SelectionError, match=r"0\.001 is too low for bin 0"):
        contrastive_diversity(x + 1, -x - 1, ids, 1, temperature=0.001)
    with pytest.raises(SelectionError, match="bin 1: has 1 sample"):
        contrastive_diversity(x, x, np.array([0, 0, 0, 1]), 2)
    with pytest.raises(SelectionError, match="temperature: got 0, expected more"):
        contrastive_diversity(x, x, ids, 1, temperature=0)
    with pytest.raises(SelectionError, match="sample 2 has NaN"):
        contrastive_diversity(x, np.where(np.arange(4)[:, None] == 2, np.nan, x), ids, 1)


# Importance ------------------------------------------------------------------------------------


def test_published_scores_normalise_to_published_numbers():
    representativeness = (np.array(PUBLISHED) - min(PUBLISHED)) / np.ptp(PUBLISHED)
    np.testing.assert_allclose(
        representativeness,
        [1, 0.948, 0.898, 0.923, 0.767, 0.765, 0.814, 0.497, 0.244, 0],
        atol=1e-3,
    )
    # What is left of the published importance is a diversity in 0 to 1: their sum is that again.
    diversity = np.array(IMPORTANCE) - representativeness
    assert diversity.min() == pytest.approx(0, abs=1e-12)
    assert diversity.max() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(importance_of(PUBLISHED, 3 + 5 * diversity), IMPORTANCE, atol=1e-9)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=9), st.integers(0, 9))
def test_importance_is_never_negative(scores, seed):
    other = np.random.default_rng(seed).permutation(scores)
    for norm in ("min_max", "rank", "softmax"):
        found = importance_of(scores, other, norm=norm)
        assert ((found >= 0) & (found <= 2)).all()


def test_norms():
    assert importance_of([3, 3], [3, 3]).tolist() == [1, 1]
    assert importance_of([1, 9, 9], [0, 1, 2], norm="rank").tolist() == [0, 1.25, 1.75]
    assert importance_of([7], [7], norm="rank").tolist() == [1]
    assert importance_of([0, 0], [0, np.log(3)], norm="softmax") == pytest.approx([0.75, 1.25])
    with pytest.raises(SelectionError, match="norm: got 'z', expected one of min_max"):
        importance_of([1, 2], [1, 2], norm="z")
    with pytest.raises(SelectionError, match="NaN or infinite"):
        importance_of([1, np.inf], [1, 2])
    with pytest.raises(SelectionError, match=r"got shapes \(2,\) and \(3,\)"):
        importance_of([1, 2], [1, 2, 3])
