"""Networks of timm: what holds for ours holds for them, as far as their kind allows."""

import numpy as np
import pytest

pytest.importorskip("timm")
torch = pytest.importorskip("torch")

from dsqformat.condense.class_maps import find_map_layer, patch_scores  # noqa: E402
from dsqformat.condense.evaluate.network import evaluation_network  # noqa: E402
from dsqformat.condense.networks import build_network  # noqa: E402
from dsqformat.condense.proxy_training import TrainingOptions, make_proxy, train_proxy  # noqa: E402
from dsqformat.condense.round_trips import lsq_round_trip  # noqa: E402
from dsqformat.condense.sensitivity import sensitivity  # noqa: E402
from dsqformat.errors import ModelError  # noqa: E402
from proxies import striped_set  # noqa: E402

pytestmark = pytest.mark.torch

TOKENS = ("timm:test_vit", "timm:swin_tiny_patch4_window7_224")


def test_networks_of_their_own_padding_and_names():
    with pytest.raises(ModelError, match="has no model 'no_such_network'"):
        build_network("timm:no_such_network", 3, 10)
    grey = build_network("timm:resnet10t", 1, 7, (40, 24))
    assert grey.training
    with torch.no_grad():
        assert grey(torch.zeros(2, 1, 40, 24)).shape == (2, 7)


def test_layers_equal_full_with_batch_normalisation():
    pictures = striped_set(3, side=32)
    proxy = make_proxy(pictures, "timm:resnet10t")
    assert proxy.head_name == "network.fc"
    found = {
        engine: sensitivity(proxy, pictures, lsq_round_trip(3), engine=engine)
        for engine in ("full", "layers", "last_layer")
    }
    np.testing.assert_allclose(found["layers"], found["full"], rtol=2e-3, atol=1e-7)
    assert (found["last_layer"] > 0).all()


def test_engine_layers_names_a_layer_that_computes_more_than_its_class():
    proxy = make_proxy(striped_set(3, side=32), "timm:mobilenetv3_small_050")
    with pytest.raises(ModelError, match=r"BatchNormAct2d.*use engine='full'"):
        sensitivity(proxy, striped_set(3, side=32), lsq_round_trip(3), engine="layers")


@pytest.mark.parametrize("name", TOKENS)
def test_networks_on_tokens_are_made_for_the_size_of_the_pictures(name):
    """As published they take 160x160 or 224x224 and nothing else."""
    with torch.no_grad():
        logits = evaluation_network(name.removeprefix("timm:"), 3, 3, (32, 32))(
            torch.zeros(2, 3, 32, 32)
        )
    assert logits.shape == (2, 3)


def test_a_network_on_tokens_trains_and_tells_sensitivity():
    pictures = striped_set(8, side=32)
    trained = train_proxy(pictures, "timm:test_vit", TrainingOptions(epochs=1, learning_rate=0.01))
    proxy = trained.proxy
    assert proxy.head_name == "network.head"
    assert proxy.hidden(proxy.tensor(next(pictures.batches(2)))).shape == (2, 64)
    for engine in ("full", "last_layer"):
        found = sensitivity(proxy, pictures, lsq_round_trip(2), engine=engine)
        assert found.shape == (8,)
        assert (found > 0).all()


@pytest.mark.parametrize("name", TOKENS)
def test_class_maps_of_tokens_are_refused(name):
    """Queries of attention and channels in the last place have four dimensions as well."""
    pictures = striped_set(2, side=32)
    with pytest.raises(ModelError, match="'sobel', 'variance' or 'random'"):
        patch_scores(make_proxy(pictures, name), pictures, 4)


def test_class_maps_of_convolutions_are_at_their_end():
    pictures = striped_set(2, side=64)
    proxy = make_proxy(pictures, "timm:convnext_atto")
    # Its blocks work with channels last inside, its stages do not.
    assert find_map_layer(proxy, next(pictures.batches(2))) == "network.norm_pre"
    assert patch_scores(proxy, pictures, 8).shape == (2, 8, 8)


def test_pictures_that_do_not_fit_are_named():
    with pytest.raises(ModelError, match=r"timm:inception_v3 cannot take pictures of 32x32: "):
        build_network("timm:inception_v3", 3, 10, (32, 32))
