"""Features in files: what networks give, what is brought along, what is refused."""

import numpy as np
import pytest

from dsqformat.condense.feature_files import load_features
from dsqformat.errors import SourceError


@pytest.fixture(scope="module")
def made():
    pytest.importorskip("torch")
    from dsqformat.condense.proxy_training import make_proxy
    from proxies import striped_set

    pictures = striped_set(300)
    return pictures, make_proxy(pictures)


@pytest.mark.torch
def test_embeddings_are_what_enters_the_last_layer(made, tmp_path):
    from dsqformat.condense.features import write_embeddings
    from dsqformat.condense.outputs import network_outputs

    pictures, proxy = made
    features = write_embeddings(proxy, pictures, tmp_path / "e.npy")
    assert (features.shape, features.dtype) == ((300, 64), "f4")
    logits = np.concatenate([b.logits for b in network_outputs(proxy, pictures)])
    head = proxy.head
    again = features @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    np.testing.assert_allclose(again, logits, atol=1e-5)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.torch
@pytest.mark.parametrize("softmax", ["single", "double"])
def test_products_of_factors_are_products_of_gradients(made, tmp_path, softmax):
    import torch
    from torch.nn import functional

    from dsqformat.condense.features import write_gradient_factors

    pictures, proxy = made
    factors = write_gradient_factors(proxy, pictures, tmp_path / "g", softmax=softmax)
    gradients = []
    batch = next(pictures.batches(5))
    for picture, label in zip(batch, pictures.labels, strict=False):
        logits = proxy(proxy.tensor(picture[np.newaxis]))
        inner = torch.softmax(logits, 1) if softmax == "double" else logits
        loss = functional.cross_entropy(inner, torch.tensor([label]))
        parts = torch.autograd.grad(loss, list(proxy.head.parameters()))
        gradients.append(torch.cat([part.flatten() for part in parts]).numpy())
    r, h = factors.residual[:5], factors.hidden[:5]
    np.testing.assert_allclose(
        (r @ r.T) * (h @ h.T + 1), np.stack(gradients) @ np.stack(gradients).T, rtol=2e-4
    )
    assert factors.bias


@pytest.mark.torch
def test_factors_need_labels(made, tmp_path):
    from dsqformat.condense.features import write_gradient_factors
    from dsqformat.condense.pictures import ArrayPictures

    unlabelled = ArrayPictures(next(made[0].batches(4)))
    with pytest.raises(SourceError, match="give labels"):
        write_gradient_factors(made[1], unlabelled, tmp_path)


@pytest.mark.torch
def test_nothing_is_left_of_a_failure(made, tmp_path):
    from dsqformat.condense.features import write_embeddings
    from dsqformat.condense.pictures import ArrayPictures
    from dsqformat.errors import ModelError

    broken = np.full((3, 8, 8, 3), np.nan, "f4")
    with pytest.raises(ModelError, match="NaN or infinite"):
        write_embeddings(made[1], ArrayPictures(broken), tmp_path / "e.npy")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
def test_features_of_any_kind_of_sample(tmp_path, dtype):
    values = np.random.default_rng(0).normal(size=(50, 7)).astype(dtype)
    np.save(tmp_path / "text.npy", values)
    features = load_features(tmp_path / "text.npy", 50)
    assert isinstance(features, np.memmap)
    assert (features == values).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((4, 3), "i8"), "int64 of shape"),
        (np.zeros(4), r"shape \(4,\)"),
        (np.zeros((4, 0)), r"shape \(4, 0\)"),
        (np.zeros((3, 3)), "features of 3 samples for 4"),
        (np.array([[0, 1.0], [2, np.nan], [0, 0], [0, 0]]), "sample 1 are NaN"),
        (np.array([[0, 1.0], [2, 2], [0, 0], [np.inf, 0]]), "sample 3 are NaN"),
        (np.array([[None, 1], [2, 2], [0, 0], [1, 0]]), "not a .npy file of numbers"),
    ],
)
def test_features_that_are_refused(tmp_path, values, message):
    np.save(tmp_path / "f.npy", values)
    with pytest.raises(SourceError, match=message):
        load_features(tmp_path / "f.npy", 4)


def test_files_that_are_no_features(tmp_path):
    (tmp_path / "f.npy").write_bytes(b"\x00\x01 not an array")
    with pytest.raises(SourceError, match=r"numpy.save"):
        load_features(tmp_path / "f.npy")
    (tmp_path / "f.npy").write_bytes(b"")
    with pytest.raises(SourceError, match=r"numpy.save"):
        load_features(tmp_path / "f.npy")
    np.savez(tmp_path / "f.npz", a=np.zeros((3, 3)))
    with pytest.raises(SourceError, match="archive"):
        load_features(tmp_path / "f.npz")
    with pytest.raises(FileNotFoundError):
        load_features(tmp_path / "missing.npy")
