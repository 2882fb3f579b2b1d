"""The discriminator of contrastive diversity."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dsqformat.condense.diversity_head import HeadOptions, discriminate  # noqa: E402
from dsqformat.errors import ModelError  # noqa: E402
from dsqformat.select import contrastive_diversity  # noqa: E402

pytestmark = pytest.mark.torch

SMALL = {"width": 32, "outputs": 8, "epochs": 30, "batch_size": 32, "learning_rate": 0.01}


def two_views(count=96, width=12, seed=0):
    """What is the same in both views lies in the first three values, beneath loud noise."""
    rng = np.random.default_rng(seed)
    views = rng.normal(0, 1, (2, count, width)).astype("f4")
    views[:, :, :3] = 0.05 * rng.normal(size=(count, 3)) + 3
    return views


def rank_of_partner(anchors, positives):
    """How many other samples are nearer than the other view, on average."""
    near = anchors @ positives.T / np.linalg.norm(positives, axis=1)
    return (near > np.diag(near)[:, np.newaxis]).mean()


def test_it_learns_what_views_of_a_sample_share():
    one, two = two_views()
    told = []
    found = discriminate(one, two, HeadOptions(**SMALL), progress=lambda *args: told.append(args))
    assert found.loss[-1] < found.loss[0]
    assert rank_of_partner(found.anchors, found.positives) < 0.1 < rank_of_partner(one, two)
    for outputs in (found.anchors, found.positives):
        assert (outputs.shape, outputs.dtype) == ((96, 8), np.float32)
        np.testing.assert_allclose(np.linalg.norm(outputs, axis=1), 1, rtol=1e-5)
    assert told[-1] == ("diversity", 30 * 96, 30 * 96)


def test_alike_samples_are_less_diverse():
    one, two = two_views(200)
    one[:100, :3] = two[:100, :3] = one[0, :3]
    found = discriminate(one, two, HeadOptions(**SMALL))
    ids = np.repeat([0, 1], 100)
    alike, diverse = contrastive_diversity(found.anchors, found.positives, ids, 2)
    assert alike < diverse < 0


def test_it_repeats_itself_whatever_torch_is_set_to():
    before = torch.get_num_threads()
    runs = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.rand(threads)
            runs.append(discriminate(*two_views(50), HeadOptions(epochs=2, batch_size=16)))
    finally:
        torch.set_num_threads(before)
    assert runs[0].loss == runs[1].loss
    np.testing.assert_array_equal(runs[0].anchors, runs[1].anchors)
    other = discriminate(*two_views(50), HeadOptions(epochs=2, batch_size=16, seed=1))
    assert not np.array_equal(other.anchors, runs[0].anchors)


def test_loss_is_that_of_finding_the_other_view():
    """One sample in two: -log softmax of cosines, by hand."""
    from dsqformat.condense.diversity_head import _loss

    one = torch.tensor([[1.0, 0], [0, 1]])
    two = torch.tensor([[0.6, 0.8], [0, 1]])
    rows = [np.log1p(np.exp((0 - 0.6) / 0.5)), np.log1p(np.exp((0.8 - 1) / 0.5))]
    columns = [np.log1p(np.exp((0.8 - 0.6) / 0.5)), np.log1p(np.exp((0 - 1) / 0.5))]
    expected = (np.mean(rows) + np.mean(columns)) / 2
    assert float(_loss(one, two, 0.5)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((5, 3), (5, 4)), r"views of shapes \(5, 3\) and \(5, 4\)"),
        (((1, 3), (1, 3)), "of at least 2 samples"),
        (((5, 3, 1), (5, 3, 1)), r"expected \(samples, features\) twice"),
    ],
)
def test_views_that_do_not_fit(shapes, message):
    with pytest.raises(ModelError, match=message):
        discriminate(*(np.ones(shape, "f4") for shape in shapes))


def test_values_that_are_no_numbers():
    one, two = two_views(20)
    one[3, 0] = np.nan
    with pytest.raises(ModelError, match="epoch 0 is NaN"):
        discriminate(one, two, HeadOptions(epochs=1))


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"batch_size": 1}, {"learning_rate": 0}, {"temperature": -1}]
)
def test_options_that_make_no_sense(options):
    with pytest.raises(ValueError, match="expected"):
        HeadOptions(**options)
