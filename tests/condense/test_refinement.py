"""Refinement: never worse than before, better where it can be, on any pictures."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dsqformat.condense.distilled_sets import load_distilled  # noqa: E402
from dsqformat.condense.proxy_training import make_proxy  # noqa: E402
from dsqformat.condense.refinement import (  # noqa: E402
    RefinementOptions,
    patch_affine,
    refine_pictures,
    straight_through,
)
from dsqformat.condense.round_trips import patch_round_trip  # noqa: E402
from dsqformat.errors import ModelError, SampleError, SourceError  # noqa: E402
from proxies import striped_pictures, striped_set, tiny_proxy  # noqa: E402

pytestmark = pytest.mark.torch

QUICK = RefinementOptions(iterations=60, learning_rate=0.02)


def losses(pictures, refined, features, quantizer):
    def tensor(values):
        return torch.from_numpy(np.ascontiguousarray(values)).permute(0, 3, 1, 2)

    with torch.no_grad():
        goal, seen = features(tensor(pictures)), features(quantizer(tensor(refined)))
    return (seen - goal).flatten(1).square().sum(1).double().numpy()


def test_refined_pictures_survive_quantization_better():
    pictures = striped_pictures(12, side=10)[0].astype("f4") / 255
    proxy = tiny_proxy(pictures)
    done = refine_pictures(pictures, proxy, options=QUICK)
    assert (done.loss_after <= done.loss_before).all()
    assert done.loss_after.mean() < 0.3 * done.loss_before.mean()
    quantizer = patch_affine(2, 5)
    np.testing.assert_allclose(
        losses(pictures, done.pictures, proxy.hidden, quantizer), done.loss_after, rtol=1e-4
    )
    np.testing.assert_allclose(
        losses(pictures, pictures, proxy.hidden, quantizer), done.loss_before, rtol=1e-4
    )


@pytest.mark.parametrize("rate", [1e-6, 0.02, 10.0])
def test_never_worse_whatever_the_rate(rate):
    pictures = striped_pictures(6)[0]
    proxy = tiny_proxy(pictures)
    done = refine_pictures(pictures, proxy, options=RefinementOptions(8, rate))
    assert (done.loss_after <= done.loss_before).all()
    assert ((done.pictures >= 0) & (done.pictures <= 1)).all()  # bytes stay pictures


def test_without_iterations_nothing_changes():
    pictures = striped_pictures(5)[0].astype("f4") / 255
    done = refine_pictures(pictures, tiny_proxy(pictures), options=RefinementOptions(0))
    assert (done.pictures == pictures).all()
    assert (done.loss_after == done.loss_before).all()


def test_it_repeats_itself_and_batches_do_not_matter():
    pictures = striped_pictures(9)[0]
    proxy = tiny_proxy(pictures)
    whole = refine_pictures(pictures, proxy, options=QUICK)
    again = refine_pictures(pictures, proxy, options=QUICK)
    assert (whole.pictures == again.pictures).all()
    small = RefinementOptions(60, 0.02, batch_size=2)
    np.testing.assert_allclose(
        refine_pictures(pictures, proxy, options=small).loss_before, whole.loss_before, rtol=1e-4
    )


def test_the_network_is_left_as_it_was():
    pictures = striped_pictures(3)[0]
    proxy = tiny_proxy(pictures)
    proxy.train()
    weights = {name: value.clone() for name, value in proxy.state_dict().items()}
    refine_pictures(pictures, proxy, options=RefinementOptions(3))
    assert proxy.training
    assert all(parameter.requires_grad for parameter in proxy.parameters())
    assert all((value == weights[name]).all() for name, value in proxy.state_dict().items())
    assert all(parameter.grad is None for parameter in proxy.parameters())


def test_any_features_any_differentiable_quantizer_any_range():
    """A quantizer with a gradient of its own: halving, which can be undone exactly."""
    pictures = np.random.default_rng(0).normal(0, 1, (4, 6, 6, 3)).astype("f4")
    done = refine_pictures(
        pictures, lambda values: values, lambda values: values * 0.5,
        RefinementOptions(400, 0.02),
    )  # fmt: skip
    assert done.loss_after.max() < 1e-2 * done.loss_before.min()
    np.testing.assert_allclose(done.pictures, 2 * pictures, atol=0.1)


def test_progress_reaches_its_end():
    calls = []
    pictures = striped_pictures(5)[0]
    options = RefinementOptions(4, batch_size=2)
    refine_pictures(pictures, tiny_proxy(pictures), options=options,
                    progress=lambda *call: calls.append(call))  # fmt: skip
    assert [done for _, done, _ in calls] == list(range(1, 13))
    assert calls[-1][2] == 12


@pytest.mark.parametrize("side", [10, 12])
@pytest.mark.parametrize("bits", [1, 2, 8])
def test_patch_affine_is_the_quantizer_of_the_format(side, bits):
    # Not bytes: values halfway between two codes may go either way.
    pictures = np.random.default_rng(0).random((6, side, side, 3)).astype("f4")
    pictures[0, :5, :5] = 0.25  # a constant patch
    found = patch_affine(bits, 5)(torch.from_numpy(pictures).permute(0, 3, 1, 2))
    expected = patch_round_trip(bits, 5)(pictures)
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), expected, atol=1e-6)


def test_hand_vector_of_a_patch():
    """Patch (.2, .45, .8) at 2 bits: codes 0, 1, 3, back to (.2, .4, .8)."""
    back = patch_affine(2, 3)(torch.tensor([[[[0.2, 0.45, 0.8]]]]))
    np.testing.assert_allclose(back.ravel(), [0.2, 0.4, 0.8], rtol=1e-6)
    with pytest.raises(ValueError, match="1 to 16"):
        patch_affine(0, 3)


def test_straight_through():
    values = torch.tensor([0.2, 0.7], requires_grad=True)
    through = straight_through(values, values.detach().round())
    assert through.tolist() == [0, 1]
    (through * torch.tensor([3.0, 5.0])).sum().backward()
    assert values.grad.tolist() == [3, 5]


def test_what_is_refused():
    pictures = striped_pictures(3)[0].astype("f4") / 255
    proxy = tiny_proxy(pictures)
    with pytest.raises(ValueError, match="expected at least 0"):
        RefinementOptions(iterations=-1)
    with pytest.raises(ValueError, match="expected \\(n, height"):
        refine_pictures(pictures[0], proxy)
    broken = pictures.copy()
    broken[2, 0, 0, 0] = np.inf
    with pytest.raises(SampleError, match="sample 2"):
        refine_pictures(broken, proxy)
    with pytest.raises(ModelError, match="sample 0: features"):
        refine_pictures(pictures, lambda values: values / 0)


def test_refinement_of_a_trained_kind_of_network():
    pictures = striped_set(4)
    proxy = make_proxy(pictures)
    done = refine_pictures(next(pictures.batches(4)), proxy, options=RefinementOptions(20))
    assert done.loss_after.mean() < done.loss_before.mean()


IMAGES = np.random.default_rng(0).normal(size=(6, 3, 8, 8)).astype("f4")
LABELS = np.arange(6) % 3


@pytest.mark.parametrize(
    ("content", "labelled"),
    [
        (torch.from_numpy(IMAGES), False),
        ([torch.from_numpy(IMAGES), torch.from_numpy(LABELS)], True),
        ({"images": torch.from_numpy(IMAGES), "labels": torch.from_numpy(LABELS)}, True),
        ({"data": [[torch.zeros(2, 3, 8, 8), torch.zeros(2)],
                   [torch.from_numpy(IMAGES), torch.from_numpy(LABELS)]], "runs": [1.0]}, True),
        ({"x": torch.from_numpy(IMAGES).double(),
          "y": torch.nn.functional.one_hot(torch.from_numpy(LABELS)).float()}, True),
    ],
)  # fmt: skip
def test_distilled_sets_of_tensors(tmp_path, content, labelled):
    torch.save(content, tmp_path / "set.pt")
    found = load_distilled(tmp_path / "set.pt")
    assert found.pictures.dtype == np.float32
    assert (found.pictures == IMAGES.transpose(0, 2, 3, 1)).all()
    assert (found.labels == LABELS).all() if labelled else found.labels is None


def test_distilled_sets_of_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES.transpose(0, 2, 3, 1), labels=LABELS)
    np.save(tmp_path / "b.npy", IMAGES)
    assert (load_distilled(tmp_path / "a.npz").labels == LABELS).all()
    for name in ("a.npz", "b.npy"):
        assert (load_distilled(tmp_path / name).pictures == IMAGES.transpose(0, 2, 3, 1)).all()
    np.save(tmp_path / "c.npy", np.full((2, 4, 4, 3), 255, "u1"))
    assert (load_distilled(tmp_path / "c.npy").pictures == 1).all()


class Hostile:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a distilled set was run')",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Hostile(), "not a file of tensors alone"),
        ({"pixels": torch.zeros(1)}, "no pictures found in a dict named pixels"),
        (torch.zeros(3, 4), r"shape \(3, 4\)"),
        ({"images": torch.full((2, 3, 4, 4), torch.nan)}, "picture 0: a value is NaN"),
        ({"images": torch.zeros(2, 3, 4, 4), "labels": torch.tensor([0, 1, 2])}, "labels: int64"),
    ],
)
def test_distilled_sets_that_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "set.pt")
    with pytest.raises(SourceError, match=message):
        load_distilled(tmp_path / "set.pt")
    (tmp_path / "set.npz").write_bytes(b"nonsense")
    with pytest.raises(SourceError, match=r"numpy.savez"):
        load_distilled(tmp_path / "set.npz")
