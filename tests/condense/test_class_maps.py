"""GradCAM++: the formula literally, its two readings, and the patches it points at."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from dsqformat.condense.class_maps import class_maps, find_map_layer, patch_scores  # noqa: E402
from dsqformat.condense.pictures import ArrayPictures  # noqa: E402
from dsqformat.condense.proxy import Proxy  # noqa: E402
from dsqformat.condense.proxy_training import TrainingOptions, make_proxy, train_proxy  # noqa: E402
from dsqformat.errors import ModelError, SourceError  # noqa: E402
from proxies import striped_pictures, striped_set, tiny_proxy  # noqa: E402

pytestmark = pytest.mark.torch


def literal_map(maps, gradient, alpha):
    """The formula of one picture, element by element; maps and gradient (channels, h, w)."""
    total = np.zeros(maps.shape[1:])
    for a, g in zip(maps, gradient, strict=True):
        weight = 0.0
        for value in g.ravel():
            if alpha == "compat_cubed":
                weight += max(value, 0) ** 3
            elif value != 0:
                share = value**2 / (2 * value**2 + a.sum() * value**3)
                weight += share * max(value, 0)
        total += weight * a
    return np.maximum(total, 0)


@pytest.mark.parametrize("alpha", ["paper", "compat_cubed"])
@pytest.mark.parametrize("layer", ["network.conv2", "network.norm"])
def test_maps_follow_the_formula(alpha, layer):
    pictures, labels = striped_pictures(5)
    proxy = tiny_proxy(pictures).double()
    kept = []
    handle = proxy.get_submodule(layer).register_forward_hook(lambda *call: kept.append(call[2]))
    logits = proxy(proxy.tensor(pictures))
    handle.remove()
    found = class_maps(proxy, proxy.tensor(pictures), torch.tensor(labels), layer, alpha)
    for number, label in enumerate(labels):
        gradient = torch.autograd.grad(logits[number, label], kept[0], retain_graph=True)[0]
        expected = literal_map(kept[0][number].detach().numpy(), gradient[number].numpy(), alpha)
        np.testing.assert_allclose(found[number].numpy(), expected, rtol=1e-9, atol=1e-15)


def test_hand_vector():
    """Two maps of 1x2, score = 2 mean(A_1) - mean(A_2): g = (1, 1), (-1/2, -1/2).

    w_1 = 2 x 1 / (2 + sum A_1) = 2 / 6; the negative map has weight 0.
    """

    class Given(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps = nn.Identity()
            self.head = nn.Linear(2, 1, bias=False)
            self.head.weight = nn.Parameter(torch.tensor([[2.0, -1.0]]))

        def forward(self, values):
            return self.head(self.maps(values).mean((2, 3)))

    picture = np.array([[[[1, 5], [3, 7]]]], "f4")  # (1, height 1, width 2, channels 2)
    proxy = Proxy(Given(), picture, 1)
    found = class_maps(proxy, proxy.tensor(picture), torch.tensor([0]), "network.maps")
    np.testing.assert_allclose(found[0], [[1 * 2 / 6, 3 * 2 / 6]], rtol=1e-6)
    cubed = class_maps(
        proxy, proxy.tensor(picture), torch.tensor([0]), "network.maps", "compat_cubed"
    )
    np.testing.assert_allclose(cubed[0], [[1 * 2, 3 * 2]], rtol=1e-6)


def test_the_last_feature_map_is_found():
    pictures = striped_set(4, side=16)
    assert find_map_layer(make_proxy(pictures), next(pictures.batches(2))) == "network.stages"
    flat = make_proxy(pictures, nn.Sequential(nn.Flatten(), nn.Linear(768, 3)))
    with pytest.raises(ModelError, match="'sobel'"):
        patch_scores(flat, pictures, 4)


def test_maps_before_work_on_tokens_are_none():
    """Queries have four dimensions too: (n, heads, tokens, width)."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Conv2d(3, 12, 2, stride=2)
            self.queries, self.maps = nn.Identity(), nn.Identity()
            self.mix = nn.Linear(12, 12)
            self.head = nn.Linear(12, 3)
            self.grid = False

        def forward(self, values):
            tokens = self.embed(values).flatten(2).transpose(1, 2)
            heads = self.queries(tokens.unflatten(2, (3, 4)).transpose(1, 2))
            tokens = self.mix(tokens + heads.transpose(1, 2).flatten(2))
            if self.grid:
                tokens = self.maps(tokens.transpose(1, 2).unflatten(2, (4, 4))).flatten(2).mT
            return self.head(tokens.mean(1))

    pictures = striped_set(4, side=8)
    proxy = make_proxy(pictures, Attention())
    with pytest.raises(ModelError, match="as networks on tokens never do"):
        patch_scores(proxy, pictures, 4)
    proxy.network.grid = True
    assert find_map_layer(proxy, next(pictures.batches(2))) == "network.maps"


def test_maps_point_at_what_tells_the_class():
    """A square of the class's colour on noise: its patches must score above the others."""
    rng = np.random.default_rng(0)
    count, side = 120, 16
    labels = np.arange(count) % 3
    corner = rng.integers(0, 2, (count, 2))
    pictures = rng.integers(90, 120, (count, side, side, 3)).astype("u1")
    for picture, label, (row, column) in zip(pictures, labels, corner, strict=True):
        picture[8 * row : 8 * row + 8, 8 * column : 8 * column + 8, label] = 230
    there = ArrayPictures(pictures, labels)
    options = TrainingOptions(epochs=6, batch_size=16, learning_rate=0.05, padding=0, flip=False)
    proxy = train_proxy(there, options=options).proxy
    scores = patch_scores(proxy, there, 8)
    best = scores.reshape(count, -1).argmax(1)
    assert (best == corner[:, 0] * 2 + corner[:, 1]).mean() > 0.8
    assert (scores >= 0).all()


def test_scores_are_means_over_the_map_at_full_size():
    pictures = striped_set(5, side=9)
    proxy = make_proxy(pictures)
    fine = patch_scores(proxy, pictures, 1)
    coarse = patch_scores(proxy, pictures, 4)
    assert (fine.shape, coarse.shape) == ((5, 9, 9), (5, 3, 3))
    np.testing.assert_allclose(coarse[:, 0, 0], fine[:, :4, :4].mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(coarse[:, 2, 2], fine[:, 8, 8], rtol=1e-5)


def test_batches_and_threads_do_not_matter():
    pictures = striped_set(9, side=16)
    proxy = make_proxy(pictures)
    whole = patch_scores(proxy, pictures, 4)
    np.testing.assert_allclose(patch_scores(proxy, pictures, 4, batch_size=2), whole, rtol=1e-4)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert (patch_scores(proxy, pictures, 4) == whole).all()
    finally:
        torch.set_num_threads(before)


def test_argmax_needs_no_labels_and_equals_labels_that_agree():
    pictures, _ = striped_pictures(6, side=16)
    proxy = make_proxy(ArrayPictures(pictures, np.arange(6) % 3))
    with torch.no_grad():
        answers = proxy(proxy.tensor(pictures)).argmax(1).numpy()
    by_answer = patch_scores(proxy, ArrayPictures(pictures), 4, target="argmax")
    assert (by_answer == patch_scores(proxy, ArrayPictures(pictures, answers), 4)).all()
    with pytest.raises(SourceError, match="give labels"):
        patch_scores(proxy, ArrayPictures(pictures), 4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": "best"}, ValueError, "label or argmax"),
        ({"alpha": "squared"}, ValueError, "paper or compat_cubed"),
        ({"layer": "nowhere"}, ModelError, "'nowhere': the network has none"),
        ({"layer": "head"}, ModelError, "'head' gives no single feature map"),
    ],
)
def test_options_that_do_not_exist(options, error, message):
    pictures = striped_set(4, side=16)
    with pytest.raises(error, match=message):
        patch_scores(make_proxy(pictures), pictures, 4, **options)


def test_nan_is_an_error():
    pictures = striped_pictures(3, side=16)[0].astype("f4") / 255
    proxy = make_proxy(ArrayPictures(pictures, np.arange(3)))
    pictures[1, 0, 0, 0] = np.nan
    with pytest.raises(ModelError, match="sample 1: its class map"):
        patch_scores(proxy, ArrayPictures(pictures, np.arange(3)), 4)
