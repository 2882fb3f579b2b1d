"""Sensitivity: every engine against finite differences, loops and closed forms."""

import os

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from dsqformat.condense.gradient_pairs import GradientPairs, rank_one_pairs  # noqa: E402
from dsqformat.condense.last_layer import residuals  # noqa: E402
from dsqformat.condense.pictures import ArrayPictures  # noqa: E402
from dsqformat.condense.proxy import Proxy  # noqa: E402
from dsqformat.condense.proxy_training import make_proxy  # noqa: E402
from dsqformat.condense.round_trips import (  # noqa: E402
    affine_round_trip,
    lsq_round_trip,
    patch_round_trip,
    probe_bits,
)
from dsqformat.condense.sensitivity import gradient_pairs, sensitivity  # noqa: E402
from dsqformat.errors import ModelError, SourceError  # noqa: E402
from dsqformat.schema import CENTERED, Domain  # noqa: E402
from dsqformat.select.probabilities import softmax  # noqa: E402
from proxies import striped_pictures, striped_set, tiny_proxy  # noqa: E402

pytestmark = pytest.mark.torch

SOAK = os.environ.get("DSQ_SOAK") == "1"


def loop_gradients(proxy, pictures, labels, names=None):
    """The gradient of each sample, one backward each, float64, shape (n, parameters)."""
    rows = []
    wanted = [p for name, p in proxy.named_parameters() if names is None or name in names]
    for picture, label in zip(pictures, labels, strict=True):
        logits = proxy(proxy.tensor(picture[np.newaxis]))
        loss = functional.cross_entropy(logits, torch.tensor([label]))
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, wanted)]))
    return torch.stack(rows).double().numpy()


def expected_pairs(one, two):
    return GradientPairs(
        (one * two).sum(1), (one**2).sum(1), (two**2).sum(1), ((one - two) ** 2).sum(1)
    )


def assert_pairs_equal(found, expected, rtol=1e-5):
    for name in ("dot", "square_1", "square_2", "distance"):
        scale = np.abs(getattr(expected, name)).max()
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=rtol, atol=rtol * 0.01 * scale
        )


def double_proxy(pictures, **options):
    return tiny_proxy(pictures, **options).double()


def test_loop_gradients_are_finite_differences():
    """The reference itself: central differences of the loss in every parameter."""
    pictures, labels = striped_pictures(2)
    proxy = double_proxy(pictures)
    analytic = loop_gradients(proxy, pictures, labels)

    def losses():
        with torch.no_grad():
            logits = proxy(proxy.tensor(pictures))
            return functional.cross_entropy(logits, torch.tensor(labels), reduction="none").numpy()

    # Every parameter takes half a minute; one in eleven is of every kind and channel.
    step, column, every = 1e-6, 0, 1 if SOAK else 11
    for parameter in proxy.parameters():
        flat = parameter.detach().view(-1)
        for position in range(0, len(flat), every):
            kept = flat[position].item()
            flat[position] = kept + step
            above = losses().copy()
            flat[position] = kept - step
            below = losses().copy()
            flat[position] = kept
            difference = (above - below) / (2 * step)
            np.testing.assert_allclose(difference, analytic[:, column + position], atol=1e-8)
        column += len(flat)
    assert column == analytic.shape[1]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"engine": "full"}, None),
        ({"engine": "full", "memory_nbytes": 1}, None),
        ({"engine": "full", "batch_size": 5}, None),
        ({"engine": "layers"}, None),
        ({"engine": "layers", "memory_nbytes": 1, "batch_size": 7}, None),
        ({"engine": "layers", "layers": ["conv2"]}, ["network.conv2.weight"]),
        (
            {"engine": "layers", "layers": ["norm", "head"]},
            ["network.norm.weight", "network.norm.bias", "network.head.weight",
             "network.head.bias"],
        ),
        ({"engine": "last_layer"}, ["network.head.weight", "network.head.bias"]),
    ],
)  # fmt: skip
def test_engines_equal_a_backward_per_sample(options, names):
    pictures, labels = striped_pictures(12)
    round_trip = lsq_round_trip(3)
    proxy = double_proxy(pictures)
    back = round_trip(pictures)
    expected = expected_pairs(
        loop_gradients(proxy, pictures, labels, names), loop_gradients(proxy, back, labels, names)
    )
    found = gradient_pairs(proxy, ArrayPictures(pictures, labels), round_trip, **options)
    assert_pairs_equal(found, expected, rtol=1e-9)
    cosines = expected.dot / np.sqrt(expected.square_1 * expected.square_2)
    np.testing.assert_allclose(found.cosine_distance(), 1 - cosines, atol=1e-9)


def test_last_layer_equals_the_cosines_of_its_factors():
    """S = 1 - cos(r1, r2) cos(h1', h2'), h' = [h; 1]."""
    pictures, labels = striped_pictures(10)
    proxy = double_proxy(pictures)
    round_trip = lsq_round_trip(3)
    found = sensitivity(proxy, ArrayPictures(pictures, labels), round_trip, engine="last_layer")

    def cosine(a, b):
        return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))

    factors = []
    for values in (pictures, round_trip(pictures)):
        with torch.no_grad():
            hidden, logits = proxy.outputs(proxy.tensor(values))
        factors.append((
            residuals(logits.numpy(), labels),
            np.hstack([hidden.numpy(), np.ones((len(hidden), 1))]),
        ))  # fmt: skip
    (r1, h1), (r2, h2) = factors
    np.testing.assert_allclose(found, 1 - cosine(r1, r2) * cosine(h1, h2), atol=1e-14)


def test_a_head_without_bias():
    pictures, labels = striped_pictures(8)
    proxy = double_proxy(pictures, bias=False)
    back = lsq_round_trip(3)(pictures)
    names = ["network.head.weight"]
    expected = expected_pairs(
        loop_gradients(proxy, pictures, labels, names), loop_gradients(proxy, back, labels, names)
    )
    for options in ({"engine": "last_layer"}, {"engine": "layers", "layers": ["head"]}):
        found = gradient_pairs(proxy, ArrayPictures(pictures, labels), lsq_round_trip(3), **options)
        assert_pairs_equal(found, expected, rtol=1e-9)


def test_gradients_in_the_input():
    pictures, labels = striped_pictures(6)
    proxy = double_proxy(pictures)
    rows = []
    for values in (pictures, affine_round_trip(2)(pictures)):
        inputs = proxy.tensor(values).requires_grad_()
        per_sample = functional.cross_entropy(proxy(inputs), torch.tensor(labels), reduction="none")
        rows.append(
            torch.stack([
                torch.autograd.grad(loss, inputs, retain_graph=True)[0][number].flatten()
                for number, loss in enumerate(per_sample)
            ]).numpy()
        )  # fmt: skip
    found = gradient_pairs(
        proxy, ArrayPictures(pictures, labels), affine_round_trip(2), wrt="input"
    )
    assert_pairs_equal(found, expected_pairs(*rows), rtol=1e-9)


@pytest.mark.parametrize("network", ["small-resnet", "resnet18"])
def test_layers_equal_full_on_real_networks(network):
    pictures = striped_set(3)
    proxy = make_proxy(pictures, network)
    full = sensitivity(proxy, pictures, lsq_round_trip(3), engine="full")
    layers = sensitivity(proxy, pictures, lsq_round_trip(3), engine="layers")
    np.testing.assert_allclose(layers, full, rtol=2e-3, atol=1e-7)


def test_activations_in_place_and_tokens():
    """Layers whose output is overwritten, and linear layers on sequences."""

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Conv2d(3, 8, 4, stride=4)
            self.relu = nn.ReLU(inplace=True)
            self.mix = nn.Linear(8, 8)
            self.head = nn.Linear(8, 3)

        def forward(self, values):
            tokens = self.relu(self.embed(values)).flatten(2).transpose(1, 2)
            return self.head(self.relu(self.mix(tokens)).mean(1))

    pictures, labels = striped_pictures(6)
    torch.manual_seed(0)
    proxy = Proxy(Tokens(), pictures, 3).double()
    back = lsq_round_trip(3)(pictures)
    expected = expected_pairs(
        loop_gradients(proxy, pictures, labels), loop_gradients(proxy, back, labels)
    )
    for engine in ("full", "layers"):
        found = gradient_pairs(
            proxy, ArrayPictures(pictures, labels), lsq_round_trip(3), engine=engine
        )
        assert_pairs_equal(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    "options",
    [{"engine": "full"}, {"engine": "layers"}, {"engine": "last_layer"}, {"wrt": "input"}],
)
def test_no_change_gives_zero(options):
    pictures = striped_set(12)
    proxy = make_proxy(pictures)
    same = sensitivity(proxy, pictures, lambda batch: batch / np.float32(255), **options)
    assert (same == 0).all()
    # A decoder multiplies by float32(1/255) where others divide: the last bit differs.
    assert sensitivity(proxy, pictures, affine_round_trip(8), **options).max() < 1e-12


def test_order_threads_and_batches_do_not_matter():
    pictures, labels = striped_pictures(20)
    proxy = make_proxy(ArrayPictures(pictures, labels))
    order = np.random.default_rng(0).permutation(20)
    score = sensitivity(proxy, ArrayPictures(pictures, labels), lsq_round_trip(4))
    other = sensitivity(
        proxy, ArrayPictures(pictures[order], labels[order]), lsq_round_trip(4), batch_size=3
    )
    np.testing.assert_allclose(other, score[order], rtol=1e-3, atol=1e-9)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        again = sensitivity(proxy, ArrayPictures(pictures, labels), lsq_round_trip(4))
    finally:
        torch.set_num_threads(before)
    assert (again == score).all()


def test_degraded_pictures_may_be_a_set():
    pictures, labels = striped_pictures(10)
    proxy = make_proxy(ArrayPictures(pictures, labels))
    there = ArrayPictures(lsq_round_trip(3)(pictures))
    by_set = sensitivity(proxy, ArrayPictures(pictures, labels), there)
    assert (by_set == sensitivity(proxy, ArrayPictures(pictures, labels), lsq_round_trip(3))).all()
    with pytest.raises(SourceError, match="9 degraded pictures for 10"):
        sensitivity(proxy, ArrayPictures(pictures, labels), ArrayPictures(pictures[:9]))
    with pytest.raises(SourceError, match="degraded pictures"):
        sensitivity(proxy, ArrayPictures(pictures, labels), lambda batch: batch[:, :4])


def test_averaged_over_checkpoints():
    pictures = striped_set(10)
    one, two = (make_proxy(pictures, seed=seed) for seed in (0, 1))
    each = [sensitivity(proxy, pictures, lsq_round_trip(3)) for proxy in (one, two)]
    weights = [proxy.state_dict() for proxy in (one, two)]
    kept = {name: value.clone() for name, value in one.state_dict().items()}
    mean = sensitivity(one, pictures, lsq_round_trip(3), checkpoints=[
        {name: value.clone() for name, value in state.items()} for state in weights
    ])  # fmt: skip
    np.testing.assert_allclose(mean, (each[0] + each[1]) / 2)
    assert all((value == kept[name]).all() for name, value in one.state_dict().items())


def test_modes_are_put_back_and_train_mode_does_not_matter():
    pictures = striped_set(6)
    proxy = make_proxy(pictures)
    score = sensitivity(proxy, pictures, lsq_round_trip(3))
    proxy.train()
    assert (sensitivity(proxy, pictures, lsq_round_trip(3)) == score).all()
    assert proxy.training


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"engine": "exact"}, ValueError, "expected one of full, layers, last_layer"),
        ({"layers": ["head"]}, ValueError, "goes with engine='layers'"),
        ({"engine": "layers", "layers": ["haed"]}, ModelError, "stem.0, stem.1"),
        ({"engine": "layers", "layers": ["stages"]}, ModelError, "is a Sequential"),
    ],
)
def test_options_that_do_not_exist(options, error, message):
    pictures = striped_set(4)
    with pytest.raises(error, match=message):
        gradient_pairs(make_proxy(pictures), pictures, lsq_round_trip(3), **options)


def test_layers_that_run_twice_are_refused():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Linear(192, 192)
            self.head = nn.Linear(192, 3)

        def forward(self, values):
            return self.head(self.mix(self.mix(values.flatten(1))))

    pictures = striped_set(4)
    proxy = make_proxy(pictures, Twice())
    with pytest.raises(ModelError, match=r"'mix' runs 2 times.*engine='full'"):
        sensitivity(proxy, pictures, lsq_round_trip(3), engine="layers")
    assert len(sensitivity(proxy, pictures, lsq_round_trip(3), engine="full")) == 4


def test_layers_that_compute_more_than_their_class_are_refused():
    """As those of some libraries, whose normalisation ends in an activation."""

    class NormAndActivation(nn.BatchNorm2d):
        def forward(self, values):
            return torch.relu(super().forward(values))

    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), NormAndActivation(4), nn.Flatten(), nn.Linear(144, 3)
    )
    pictures = striped_set(4)
    proxy = make_proxy(pictures, network)
    with pytest.raises(ModelError, match=r"'1' is a NormAndActivation.*engine='full'"):
        sensitivity(proxy, pictures, lsq_round_trip(3), engine="layers")
    chosen = sensitivity(proxy, pictures, lsq_round_trip(3), engine="layers", layers=["0", "3"])
    assert (chosen > 0).all()


def test_labels_must_be_there_and_fit():
    pictures, labels = striped_pictures(6)
    proxy = make_proxy(ArrayPictures(pictures, labels))
    with pytest.raises(SourceError, match="give labels"):
        sensitivity(proxy, ArrayPictures(pictures), lsq_round_trip(3))
    with pytest.raises(ModelError, match="label 7: the network has 3 classes"):
        sensitivity(proxy, ArrayPictures(pictures, labels + 5), lsq_round_trip(3))


def test_nan_is_an_error():
    pictures, labels = striped_pictures(6)
    unit = pictures.astype("f4") / 255
    proxy = make_proxy(ArrayPictures(pictures, labels))
    broken = unit.copy()
    broken[4, 0, 0, 0] = np.nan
    with pytest.raises(ModelError, match="sample 4: its gradient"):
        sensitivity(proxy, ArrayPictures(unit, labels), ArrayPictures(broken))


def test_score_of_pairs():
    dot = GradientPairs(*np.array([
        # dot, |g1|^2, |g2|^2, |g1 - g2|^2
        [0, 0, 0, 0],  # both zero
        [0, 0, 4, 4],  # one zero
        [0, 9, 0, 9],
        [2, 2, 2, 0],  # equal
        [0, 1, 1, 2],  # at right angles
        [-3, 1, 9, 16],  # opposite
        [6, 4, 9, 1],  # parallel
    ], "f8").T)  # fmt: skip
    np.testing.assert_allclose(dot.cosine_distance(), [0, 1, 1, 0, 1, 2, 0], atol=1e-15)


def test_score_does_not_cancel():
    """Where float32 1 - cos is off by 8e-4, at 11 million dimensions and S = 5e-9."""
    rng = np.random.default_rng(0)
    one = rng.normal(size=2_000_000).astype("f4")
    two = (one + 1e-4 * rng.normal(size=len(one))).astype("f4")
    a, b = one.astype("f8"), two.astype("f8")
    true = 0.5 * (((a / np.linalg.norm(a)) - (b / np.linalg.norm(b))) ** 2).sum()
    from dsqformat.condense.gradient_engines import _as_pairs, tensor_sums

    pairs = _as_pairs(tensor_sums(torch.from_numpy(one)[None], torch.from_numpy(two)[None]))
    assert 4e-9 < true < 6e-9
    assert pairs.cosine_distance()[0] == pytest.approx(true, rel=1e-3)


@pytest.mark.parametrize("length", [1.5, 0.01, 30])
@pytest.mark.parametrize("count", [40, 2_000_000])
def test_score_does_not_cancel_where_lengths_differ(count, length):
    """A quantized sample that is surer of its class has the shorter gradient."""
    from dsqformat.condense.gradient_engines import _as_pairs, tensor_sums

    rng = np.random.default_rng(0)
    one = rng.normal(size=(3, count)).astype("f4")
    noise = np.array([[0.0], [1e-4], [1e-2]])
    two = (length * (one + noise * rng.normal(size=one.shape))).astype("f4")
    wide = one.astype("f8"), two.astype("f8")
    units = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in wide]
    true = 0.5 * np.square(units[0] - units[1]).sum(axis=1)
    pairs = _as_pairs(tensor_sums(torch.from_numpy(one), torch.from_numpy(two)))
    np.testing.assert_allclose(pairs.cosine_distance(), true, rtol=1e-5, atol=1e-11)


def test_score_does_not_depend_on_lengths():
    rng = np.random.default_rng(1)
    one, two = rng.normal(size=(2, 5, 40))
    score = expected_pairs(one, two).cosine_distance()
    scaled = expected_pairs(3.5 * one, 0.01 * two).cosine_distance()
    np.testing.assert_allclose(scaled, score, rtol=1e-12)


def test_rank_one_pairs_are_those_of_the_products():
    rng = np.random.default_rng(2)
    l1, l2 = rng.normal(size=(2, 6, 3))
    r1, r2 = rng.normal(size=(2, 6, 5))
    r2[:3] = r1[:3]
    outer = [np.einsum("ni,nj->nij", a, b).reshape(6, -1) for a, b in ((l1, r1), (l2, r2))]
    assert_pairs_equal(rank_one_pairs(l1, r1, l2, r2), expected_pairs(*outer), rtol=1e-12)


@pytest.mark.parametrize("kind", ["single", "double"])
def test_residuals_are_the_gradient_in_the_logits(kind):
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(0, 3, (7, 4)), rng.integers(0, 4, 7)
    leaf = torch.tensor(logits, requires_grad=True)
    inner = leaf if kind == "single" else torch.softmax(leaf, 1)
    functional.cross_entropy(inner, torch.tensor(labels), reduction="sum").backward()
    np.testing.assert_allclose(residuals(logits, labels, kind), leaf.grad.numpy(), atol=1e-14)
    with pytest.raises(ValueError, match="single or double"):
        residuals(logits, labels, "triple")


def test_residuals_of_a_sure_network_do_not_vanish():
    logits = np.array([[60.0, 0, 0]])
    residual = residuals(logits, np.array([0]))
    assert residual[0, 0] == pytest.approx(-2 * np.exp(-60.0), rel=1e-12)
    assert softmax(logits)[0, 0] == 1.0


def test_round_trips_are_those_of_the_decoder(tmp_path):
    from dsqformat import DatasetWriter, FieldSpec, open_dataset

    pictures, _ = striped_pictures(6)
    specs = {
        "lsq": (FieldSpec("lsq", bit_width=4), lsq_round_trip(4)),
        "centered": (FieldSpec("lsq", bit_width=4, domain=CENTERED), lsq_round_trip(4, CENTERED)),
        "affine": (FieldSpec("affine", bit_width=3), affine_round_trip(3)),
    }
    for name, (spec, round_trip) in specs.items():
        with DatasetWriter(tmp_path / name, fields=spec, shuffle=False) as writer:
            for picture in pictures:
                writer.write({"image": picture})
        with open_dataset(tmp_path / name) as dataset:
            stored = dataset.to_numpy(output="float32")["image"]
        assert (round_trip(pictures) == stored).all()
    normal = Domain.normalized((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    assert np.abs(lsq_round_trip(10, normal)(pictures) - pictures / 255).max() < 0.003
    assert np.abs(patch_round_trip(8, 4)(pictures) - pictures / 255).max() < 0.003


def test_hand_vector_of_lsq():
    picture = np.array([[[0, 0.1], [0.25, 1]]], "f4")[..., np.newaxis]
    back = lsq_round_trip(4)(picture).ravel()
    np.testing.assert_allclose(back, [0, 1 / 7, 2 / 7, 1], rtol=1e-6)


def test_width_of_the_probe():
    assert [probe_bits(bits) for bits in (0, 1, 2, 4, 6, 16)] == [8, 8, 2, 4, 6, 16]
    with pytest.raises(ValueError, match="0 or more"):
        probe_bits(-1)
