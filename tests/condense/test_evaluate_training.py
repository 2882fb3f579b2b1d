"""The trainer of `dsq evaluate`: it learns, repeats itself, and gives every row as many steps."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from dsqformat.condense.devices import chosen_device  # noqa: E402
from dsqformat.condense.evaluate.labelled_pictures import LabelledPictures  # noqa: E402
from dsqformat.condense.evaluate.network import evaluation_network  # noqa: E402
from dsqformat.condense.evaluate.schedule import Schedule, steps_of  # noqa: E402
from dsqformat.condense.evaluate.training import train_and_test  # noqa: E402
from dsqformat.errors import ModelError  # noqa: E402
from evaluated import labelled, two_classes  # noqa: E402

pytestmark = pytest.mark.torch

QUICK = Schedule(steps=12, batch_size=16, learning_rate=0.1, padding=1)


def run(training, schedule=QUICK, seed=0, test=None):
    steps = []
    outcome = train_and_test(
        training, test or labelled(40, 1), schedule, seed, lambda *step: steps.append(step)
    )
    return outcome, steps


def test_it_learns():
    outcome, _ = run(labelled(80))
    assert outcome.accuracy > 0.9
    assert (outcome.right, outcome.test_count) == (round(outcome.accuracy * 40), 40)


def test_it_learns_nothing_from_labels_that_mean_nothing():
    pictures, labels = two_classes(80)
    shuffled = np.random.default_rng(0).permutation(labels)
    outcome, _ = run(LabelledPictures("made", pictures, shuffled))
    assert outcome.accuracy < 0.9


def test_the_same_seed_gives_the_same_bits_whatever_torch_is_set_to():
    before = torch.get_num_threads()
    losses = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.rand(threads)
            losses.append(run(labelled(80))[0].last_loss)
    finally:
        torch.set_num_threads(before)
    assert losses[0] == losses[1]
    assert run(labelled(80), seed=1)[0].last_loss != losses[0]


def test_torchs_generator_and_threads_are_left_alone():
    threads = torch.get_num_threads()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    run(labelled(20))
    assert (torch.rand(3) == expected).all()
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("count", [2, 10, 80])
def test_small_sets_take_as_many_steps(count):
    _, steps = run(labelled(count))
    assert steps == [(step, 12) for step in range(1, 13)]


def test_floats_train_as_bytes_do():
    pictures, labels = two_classes(80)
    floats = LabelledPictures("made", pictures.astype("f4") / np.float32(255), labels)
    one, other = run(labelled(80))[0], run(floats)[0]
    assert one.last_loss == pytest.approx(other.last_loss, abs=1e-3)
    assert one.right == other.right
    # Whatever the test set is stored as.
    pictures, labels = two_classes(40, 1)
    test = LabelledPictures("test", pictures.astype("f4") / np.float32(255), labels)
    assert run(labelled(80), test=test)[0].right == one.right


def test_grey_pictures_and_other_sizes():
    pictures, labels = two_classes(40, side=12)
    grey = LabelledPictures("grey", np.ascontiguousarray(pictures[:, :10, :, :1]), labels)
    assert run(grey, test=grey)[0].test_count == 40


@pytest.mark.parametrize("arch", ["small", "small-resnet"])
def test_networks_by_name(arch):
    with torch.no_grad():
        assert evaluation_network(arch, 3, 7)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_a_network_that_nobody_knows():
    try:
        import timm  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(ImportError, match="pip install"):
            evaluation_network("resnet19", 3, 7)
    else:
        with pytest.raises(ModelError, match="no model 'resnet19'"):
            evaluation_network("resnet19", 3, 7)


def test_an_exploding_training_says_so():
    with pytest.raises(ModelError, match="smaller --lr than 1e\\+30"):
        run(labelled(40), Schedule(steps=20, batch_size=16, learning_rate=1e30))


def test_devices():
    assert chosen_device("cpu") == "cpu"
    assert chosen_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ModelError, match="use auto, cpu or cuda"):
        chosen_device("abacus")


def test_steps_are_those_of_the_largest_row():
    assert steps_of(10, 10_000, 64) == 1562
    assert steps_of(1, 3, 64) == 1


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"batch_size": 1}, {"threads": 0}, {"learning_rate": 0.0}]
)
def test_schedules_that_make_no_sense(options):
    with pytest.raises(ValueError, match="expected"):
        Schedule(**options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_cuda():
    outcome, _ = run(labelled(80), Schedule(steps=30, batch_size=16, device="cuda", padding=1))
    assert outcome.accuracy > 0.9
