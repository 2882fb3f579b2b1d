"""Proxy networks: what they accept, that training repeats itself, what it records."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from dsqformat.condense.augmentation import crop_and_flip  # noqa: E402
from dsqformat.condense.last_layer import factor_norms  # noqa: E402
from dsqformat.condense.networks import (  # noqa: E402
    build_network,
    load_weights,
    resnet18_cifar,
    save_weights,
)
from dsqformat.condense.outputs import network_outputs  # noqa: E402
from dsqformat.condense.pictures import ArrayPictures  # noqa: E402
from dsqformat.condense.proxy import Proxy, channel_statistics, evaluating  # noqa: E402
from dsqformat.condense.proxy_training import (  # noqa: E402
    TrainingOptions,
    load_checkpoint,
    make_proxy,
    one_cycle,
    repeated_outputs,
    train_proxy,
)
from dsqformat.errors import ModelError, SourceError  # noqa: E402
from proxies import TinyNetwork, striped_pictures, striped_set  # noqa: E402

pytestmark = pytest.mark.torch

QUICK = TrainingOptions(epochs=3, batch_size=16, learning_rate=0.05, padding=1)


def recorded(pictures, options=QUICK, network="small-resnet"):
    batches = []
    trained = train_proxy(pictures, network, options, record=batches.append)
    return trained, batches


def weights_of(trained):
    return {name: value.numpy().copy() for name, value in trained.proxy.state_dict().items()}


def test_every_sample_is_recorded_once_per_epoch():
    pictures = striped_set(50)
    _, batches = recorded(pictures)
    for epoch in range(3):
        of_epoch = [batch for batch in batches if batch.epoch == epoch]
        indices = np.concatenate([batch.indices for batch in of_epoch])
        assert sorted(indices) == list(range(50))
        assert {len(batch.indices) for batch in of_epoch} <= {11, 13}
        labels = np.concatenate([batch.labels for batch in of_epoch])
        assert (labels == pictures.labels[indices]).all()
    first = batches[0]
    assert (first.logits.dtype, first.logits.shape[1], first.hidden.dtype) == ("f4", 3, "f4")


@pytest.mark.parametrize("dynamics", ["train", "eval"])
def test_training_repeats_itself_whatever_torch_is_set_to(dynamics):
    options = TrainingOptions(epochs=2, batch_size=16, learning_rate=0.05, dynamics=dynamics)
    before = torch.get_num_threads()
    runs = []
    try:
        for threads, draws in ((1, 0), (2, 5)):
            torch.set_num_threads(threads)
            torch.rand(draws)  # the state of torch's own generator must not matter either
            np.random.default_rng(draws)
            runs.append(recorded(striped_set(40), options))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    (one, batches), (two, again) = runs
    assert all((weights_of(one)[name] == value).all() for name, value in weights_of(two).items())
    assert all((a.logits == b.logits).all() for a, b in zip(batches, again, strict=True))
    other, _ = recorded(striped_set(40), TrainingOptions(epochs=2, batch_size=16, seed=1))
    assert (other.proxy.head.weight != one.proxy.head.weight).any()


def test_torchs_own_generator_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    recorded(striped_set(20))
    assert (torch.rand(3) == expected).all()


def test_training_learns():
    options = TrainingOptions(epochs=10, batch_size=16, learning_rate=0.05, padding=0, flip=False)
    trained, _ = recorded(striped_set(90), options)
    assert trained.accuracy[-1] > 0.9 > trained.accuracy[0]
    assert trained.loss[-1] < trained.loss[0]
    logits = np.concatenate([b.logits for b in network_outputs(trained.proxy, striped_set(90))])
    assert (logits.argmax(1) == striped_set(90).labels).mean() > 0.9


def test_recorded_outputs_of_eval_are_those_of_the_network():
    options = TrainingOptions(epochs=2, batch_size=16, learning_rate=0.05, dynamics="eval")
    pictures = striped_set(30)
    trained, batches = recorded(pictures, options)
    last = np.concatenate([batch.logits for batch in batches if batch.epoch == 1])
    now = np.concatenate([batch.logits for batch in network_outputs(trained.proxy, pictures)])
    assert (last == now).all()
    hidden = np.concatenate([batch.hidden for batch in batches if batch.epoch == 1])
    head = trained.proxy.head
    again = hidden @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    np.testing.assert_allclose(again, last, atol=1e-5)


def test_checkpoints_are_the_weights_of_their_epoch():
    pictures = striped_set(40)
    options = TrainingOptions(epochs=3, batch_size=16, learning_rate=0.05, checkpoint_epochs=(1, 3))
    trained, _ = recorded(pictures, options)
    last = weights_of(trained)
    assert set(trained.checkpoints) == {1, 3}
    proxy = load_checkpoint(trained, 1)
    assert (proxy.head.weight.detach().numpy() != last["network.head.weight"]).any()
    load_checkpoint(trained, 3)
    assert all((value == last[name]).all() for name, value in weights_of(trained).items())
    with pytest.raises(ValueError, match=r"kept of \[1, 3\]"):
        load_checkpoint(trained, 2)


def test_progress_reaches_its_end():
    calls = []
    train_proxy(striped_set(20), options=QUICK, progress=lambda *call: calls.append(call))
    assert calls[-1] == ("training", 60, 60)
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)


def test_any_module_and_float_pictures():
    pictures, labels = striped_pictures(24)
    unit = pictures.astype("f4") / np.float32(255)
    assert len(recorded(ArrayPictures(pictures, labels), QUICK, TinyNetwork())[1]) == 6
    proxy = make_proxy(ArrayPictures(unit, labels), TinyNetwork())
    bytes_in = next(network_outputs(proxy, ArrayPictures(pictures, labels)))
    floats_in = next(network_outputs(proxy, ArrayPictures(unit, labels)))
    assert (bytes_in.logits == floats_in.logits).all()


@pytest.mark.parametrize("trained", [False, True])
def test_networks_repeated_for_grand(trained):
    pictures = striped_set(20)
    options = TrainingOptions(epochs=1, batch_size=16)
    batches = list(repeated_outputs(pictures, repeats=3, options=options, trained=trained))
    assert [batch.epoch for batch in batches] == [0, 1, 2]
    assert all((batch.indices == np.arange(20)).all() for batch in batches)
    assert (batches[0].logits != batches[1].logits).any()
    again = list(repeated_outputs(pictures, repeats=2, options=options, trained=trained))
    assert (again[1].logits == batches[1].logits).all()


def test_norms_of_factors_make_the_norm_of_the_gradient():
    pictures = striped_set(4)
    proxy = make_proxy(pictures)
    batch = next(network_outputs(proxy, pictures))
    residual, hidden = factor_norms(batch.logits, batch.labels, batch.hidden)
    for number, picture in enumerate(next(pictures.batches(4))):
        logits = proxy(proxy.tensor(picture[np.newaxis]))
        loss = nn.functional.cross_entropy(logits, torch.tensor(pictures.labels[number][None]))
        parts = torch.autograd.grad(loss, list(proxy.head.parameters()))
        norm = torch.cat([part.flatten() for part in parts]).norm().item()
        assert residual[number] * np.sqrt(1 + hidden[number] ** 2) == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize("side", [32, 28])
def test_resnet18_has_the_size_of_the_papers(side):
    network = resnet18_cifar(3, 10)
    assert sum(p.numel() for p in network.parameters()) == 11_173_962
    with torch.no_grad():
        assert network(torch.zeros(2, 3, side, side)).shape == (2, 10)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), "5 outputs for 3 classes"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 3), nn.Softmax(1)), "last linear layer is"),
        (nn.Sequential(nn.Conv2d(3, 3, 8), nn.Flatten()), "has no nn.Linear"),
        (nn.Conv2d(3, 3, 3), "expected logits"),
        (nn.Conv2d(3, 3, 9), "Conv2d cannot take pictures of 8x8: .*another size"),
    ],
)
def test_networks_that_cannot_serve(network, message):
    with pytest.raises(ModelError, match=message):
        make_proxy(striped_set(6), network)


def test_the_last_layer_is_the_last_to_run_not_to_be_named():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(5, 3)
            self.first = nn.Linear(192, 5)

        def forward(self, values):
            return self.last(self.first(values.flatten(1)))

    proxy = make_proxy(striped_set(6), Backwards())
    assert proxy.head_name == "network.last"
    hidden, logits = proxy.outputs(torch.zeros(2, 3, 8, 8))
    assert (hidden.shape, logits.shape) == ((2, 5), (2, 3))


def test_a_network_of_another_precision():
    pictures = striped_set(6)
    proxy = make_proxy(pictures, TinyNetwork().double())
    assert proxy(proxy.tensor(next(pictures.batches(2)))).dtype == torch.float64


def test_names_of_networks():
    with pytest.raises(ModelError, match="small-resnet, resnet18, timm:NAME"):
        build_network("resnet19", 3, 10)


def test_without_timm_the_line_says_what_to_install():
    try:
        import timm  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(ImportError, match="pip install"):
            build_network("timm:resnet10t", 3, 10)


def test_weights_go_through_a_file(tmp_path):
    torch.manual_seed(0)
    network, other = TinyNetwork(), TinyNetwork()
    save_weights(network, tmp_path / "w.pt")
    load_weights(other, tmp_path / "w.pt")
    assert (network.head.weight == other.head.weight).all()
    torch.save({"model": {f"module.{k}": v for k, v in network.state_dict().items()}},
               tmp_path / "nested.pt")  # fmt: skip
    load_weights(TinyNetwork(), tmp_path / "nested.pt")


class Hostile:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a checkpoint was run')",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Hostile(), "not a file of tensors alone"),
        ({"state_dict": TinyNetwork(classes=9).state_dict()}, "size mismatch"),
        ({"state_dict": {"head.weight": torch.zeros(3, 6)}}, "Missing key"),
        ([1, 2], "expected weights by name"),
    ],
)
def test_checkpoints_that_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=message):
        load_weights(TinyNetwork(), tmp_path / "w.pt")


def test_a_file_that_is_no_checkpoint(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="not a file of tensors alone"):
        load_weights(TinyNetwork(), tmp_path / "w.pt")
    with pytest.raises(FileNotFoundError):
        load_weights(TinyNetwork(), tmp_path / "missing.pt")


def test_an_exploding_training_says_so():
    options = TrainingOptions(epochs=3, batch_size=16, learning_rate=1e30)
    with pytest.raises(ModelError, match="smaller learning rate"):
        train_proxy(striped_set(40), options=options)


def test_a_picture_of_nan_is_named_and_not_those_beside_it():
    pictures, labels = striped_pictures(40)
    values = (pictures / 255).astype("f4")
    values[17, 2, 2, 0] = np.nan
    with pytest.raises(ModelError, match="sample 17: a value is NaN or infinite; mend"):
        train_proxy(ArrayPictures(values, labels), options=TrainingOptions(epochs=1))


@pytest.mark.parametrize(
    "options",
    [{"epochs": 0}, {"batch_size": 1}, {"dynamics": "both"}, {"checkpoint_epochs": (11,)}],
)
def test_options_that_make_no_sense(options):
    with pytest.raises(ValueError, match=r"expected|is not 1 to"):
        TrainingOptions(**options)


def test_training_needs_labels_and_pictures():
    pictures, labels = striped_pictures(4)
    with pytest.raises(SourceError, match="without labels"):
        train_proxy(ArrayPictures(pictures))
    with pytest.raises(SourceError, match="at least 2"):
        train_proxy(ArrayPictures(pictures[:1], labels[:1]))


def test_crops_are_windows_of_the_padded_picture():
    pictures, _ = striped_pictures(20)
    moved = crop_and_flip(pictures, np.random.default_rng(0), padding=2)
    padded = np.pad(pictures, ((0, 0), (2, 2), (2, 2), (0, 0)))
    flips = 0
    for number, picture in enumerate(moved):
        windows = [padded[number, y : y + 8, x : x + 8] for y in range(5) for x in range(5)]
        straight = any((picture == window).all() for window in windows)
        flipped = any((picture[:, ::-1] == window).all() for window in windows)
        assert straight or flipped
        flips += flipped and not straight
    assert 3 <= flips <= 17
    still = crop_and_flip(pictures, np.random.default_rng(0), padding=0, flip=False)
    assert (still == pictures).all()


def test_statistics_are_those_of_the_pictures():
    pictures, _ = striped_pictures(30)
    mean, std = channel_statistics(ArrayPictures(pictures))
    np.testing.assert_allclose(mean, pictures.mean((0, 1, 2)) / 255)
    np.testing.assert_allclose(std, pictures.std((0, 1, 2)) / 255)
    assert channel_statistics(ArrayPictures(np.zeros((3, 4, 4, 1), "u1")))[1] == [1.0]


def test_evaluating_puts_each_module_back():
    network = TinyNetwork()
    network.norm.eval()
    with evaluating(network):
        assert not any(module.training for module in network.modules())
    assert network.training
    assert not network.norm.training


def test_the_rate_rises_and_falls():
    rates = [one_cycle(step / 100) for step in range(101)]
    assert max(rates) == pytest.approx(1, abs=0.05)
    assert rates[0] < 0.1
    assert rates[-1] == pytest.approx(0)


def test_proxy_counts_its_channels():
    pictures, _ = striped_pictures(4)
    with pytest.raises(ValueError, match=r"expected \(1,\) or \(3,\)"):
        Proxy(TinyNetwork(), pictures, 3, np.zeros(2))
