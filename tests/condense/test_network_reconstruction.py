"""Reconstructors that are networks: training, weights as bytes, local checkpoints."""

import hashlib
import struct

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dsqformat.canonical import canonical_json  # noqa: E402
from dsqformat.condense.masked_autoencoder import (  # noqa: E402
    MaeShape,
    MaskedAutoencoder,
    cut_patches,
    join_patches,
    places,
)
from dsqformat.condense.pictures import ArrayPictures  # noqa: E402
from dsqformat.condense.reconstruction import (  # noqa: E402
    checkpoint_reconstructor,
    scaled_patches,
    tiny_mae_reconstructor,
)
from dsqformat.condense.tiny_mae import TinyMaeOptions, drawn_masks, train_tiny_mae  # noqa: E402
from dsqformat.condense.weights_blob import (  # noqa: E402
    weight_count,
    weights_from_bytes,
    weights_to_bytes,
)
from dsqformat.errors import CorruptShardError, ModelError, UnsupportedFeatureError  # noqa: E402
from dsqformat.quantize.mask import pixel_mask  # noqa: E402
from dsqformat.reconstruct import fill_mean  # noqa: E402
from dsqformat.select.masks import patch_masks  # noqa: E402
from proxies import striped_pictures  # noqa: E402

pytestmark = pytest.mark.torch

SMALL = MaeShape(
    rows=3, columns=2, patch=4, channels=3, width=24, depth=2, heads=3, decoder_width=12,
    decoder_depth=1, decoder_heads=2,
)  # fmt: skip
QUICK = TinyMaeOptions(
    width=24, depth=2, heads=3, decoder_width=16, decoder_depth=1, decoder_heads=2, epochs=2,
    batch_size=16,
)  # fmt: skip


def small_network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MaskedAutoencoder(SMALL).eval()


def gradients(count, seed=0, side=16):
    """Pictures with one direction each, which a network can learn to continue."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, (count, 1, 1))
    rows, columns = np.mgrid[:side, :side] / side
    ramp = rows * np.sin(angle) + columns * np.cos(angle)
    colour = rng.uniform(60, 190, (count, 1, 1, 3))
    return np.clip(colour + 90 * ramp[..., np.newaxis], 0, 255).astype("u1")


def random_masks(count, grid, ratio=0.5, seed=0):
    return patch_masks(np.random.default_rng(seed).random((count, *grid)), ratio)


def pixels(masks, side, patch):
    return np.stack([pixel_mask(mask, side, side, patch) for mask in masks])


def test_training_learns_to_continue_pictures():
    options = TinyMaeOptions(
        width=32, depth=2, heads=4, decoder_width=32, decoder_depth=1, decoder_heads=2, epochs=80,
        batch_size=16, learning_rate=0.005,
    )  # fmt: skip
    trained = train_tiny_mae(ArrayPictures(gradients(64)), 4, options)
    assert trained.loss[-1] < 0.1 * trained.loss[0]
    pictures = gradients(20, seed=1)
    masks = random_masks(20, (4, 4))
    filled = trained.reconstructor(pictures, masks, 4)
    shown = pixels(masks, 16, 4)
    assert (filled[shown] == pictures[shown]).all()
    error, by_mean = (
        np.square(found - pictures.astype("f4")).mean()
        for found in (filled, fill_mean(pictures, masks, 4))
    )
    assert error < 0.4 * by_mean


def test_weights_are_counted_and_come_back():
    pictures = gradients(40)
    trained = train_tiny_mae(ArrayPictures(pictures), 4, QUICK)
    assert hashlib.sha256(trained.weights).hexdigest() == trained.sha256
    again = tiny_mae_reconstructor(trained.weights, trained.sha256)
    assert (again.id, again.weights_nbytes) == ("tiny-mae", len(trained.weights))
    assert again.sha256 == trained.sha256
    masks = random_masks(40, (4, 4))
    assert (again(pictures, masks, 4) == trained.reconstructor(pictures, masks, 4)).all()


def test_training_repeats_itself_whatever_torch_is_set_to():
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.rand(threads)
            found.append(train_tiny_mae(ArrayPictures(gradients(30)), 4, QUICK).weights)
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_default_size_is_that_of_the_notes():
    shape = MaeShape(rows=8, columns=8, patch=4, channels=3)
    parameters = sum(p.numel() for p in MaskedAutoencoder(shape).parameters())
    assert 1.9e6 < parameters < 2.1e6
    assert weight_count(shape) == parameters
    assert weight_count(SMALL) == sum(p.numel() for p in small_network().parameters())
    assert len(weights_to_bytes(MaskedAutoencoder(shape))) < 2 * parameters + 400


@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_what_is_hidden_does_not_matter_and_masks_may_differ(dtype):
    pictures = gradients(6).astype(dtype)
    if dtype == "f4":
        pictures /= 255
    fill = train_tiny_mae(ArrayPictures(pictures), 4, QUICK).reconstructor
    masks = np.concatenate([random_masks(2, (4, 4), ratio) for ratio in (0.2, 0.5, 0.8)])
    whole = fill(pictures, masks, 4)
    shown = pixels(masks, 16, 4)
    ruined = pictures.copy()
    ruined[~shown] = 255 if dtype == "u1" else np.nan
    assert (fill(ruined, masks, 4) == whole).all()
    assert (whole[shown] == pictures[shown]).all()
    # Pictures with fewer visible patches are padded in a batch; that must not be seen.
    for number in range(6):
        alone = fill(pictures[number : number + 1], masks[number : number + 1], 4)
        np.testing.assert_allclose(
            alone[0].astype("f4"), whole[number].astype("f4"), atol=1 if dtype == "u1" else 1e-5
        )


def test_network_by_its_definition():
    """Attention, encoder and decoder written out for one picture with chosen patches."""
    network = small_network().double()
    rng = np.random.default_rng(0)
    picture = torch.tensor(rng.normal(size=(1, 3, 12, 8)))
    kept = [0, 2, 5]
    visible = torch.zeros(1, 6, dtype=torch.bool)
    visible[0, kept] = True
    weights = network.state_dict()

    def block(tokens, name, heads):
        def norm(values, part):
            return torch.nn.functional.layer_norm(
                values, values.shape[-1:], weights[f"{name}.{part}.weight"],
                weights[f"{name}.{part}.bias"], 1e-6,
            )  # fmt: skip

        def linear(values, part):
            return values @ weights[f"{name}.{part}.weight"].T + weights[f"{name}.{part}.bias"]

        qkv = linear(norm(tokens, "norm1"), "attn.qkv")
        width = tokens.shape[-1]
        size = width // heads
        mixed = []
        for head in range(heads):
            q, k, v = (
                qkv[:, part * width + head * size : part * width + (head + 1) * size]
                for part in range(3)
            )
            mixed.append(torch.softmax(q @ k.T / size**0.5, 1) @ v)
        tokens = tokens + linear(torch.cat(mixed, 1), "attn.proj")
        inner = torch.nn.functional.gelu(linear(norm(tokens, "norm2"), "mlp.fc1"))
        return tokens + linear(inner, "mlp.fc2")

    def norm(values, part):
        return torch.nn.functional.layer_norm(
            values, values.shape[-1:], weights[f"{part}.weight"], weights[f"{part}.bias"], 1e-6
        )

    cells = [
        picture[0, :, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4] for r in range(3) for c in range(2)
    ]
    embedding = weights["patch_embed.proj.weight"]
    tokens = torch.stack([
        (embedding * cell).sum((1, 2, 3)) + weights["patch_embed.proj.bias"] for cell in cells
    ]) + weights["pos_embed"][0, 1:]  # fmt: skip
    own = weights["cls_token"][0] + weights["pos_embed"][0, :1]
    latent = torch.cat([own, tokens[kept]])
    for number in range(2):
        latent = block(latent, f"blocks.{number}", 3)
    latent = (
        norm(latent, "norm") @ weights["decoder_embed.weight"].T + weights["decoder_embed.bias"]
    )
    whole = weights["mask_token"][0].repeat(6, 1)
    whole[kept] = latent[1:]
    whole = torch.cat([latent[:1], whole]) + weights["decoder_pos_embed"][0]
    whole = norm(block(whole, "decoder_blocks.0", 2), "decoder_norm")
    expected = (whole @ weights["decoder_pred.weight"].T + weights["decoder_pred.bias"])[1:]
    np.testing.assert_allclose(network(picture, visible)[0].detach(), expected.detach(), atol=1e-12)


def test_patches_are_cut_and_joined():
    pictures = torch.arange(2 * 3 * 8 * 12.0).reshape(2, 3, 8, 12)
    patches = cut_patches(pictures, 4)
    assert patches.shape == (2, 6, 48)
    assert (patches[0, 1, :3] == pictures[0, :, 0, 4]).all()  # channels are next to each other
    assert (join_patches(patches, 2, 3, 4) == pictures).all()


def test_patches_are_scaled_by_themselves():
    pictures = torch.zeros(1, 1, 4, 4)
    pictures[:, :, :2, :2] = 1
    larger = scaled_patches(pictures, 2, 5)
    assert larger.shape == (1, 1, 10, 10)
    assert (larger[0, 0, :5, :5] == 1).all()
    assert larger.sum() == 25
    assert (scaled_patches(larger, 5, 2) == pictures).all()


def test_places_tell_patches_apart():
    found = places(3, 4, 16)[0]
    assert found.shape == (13, 16)
    assert (found[0] == 0).all()
    assert torch.cdist(found, found).add(torch.eye(13)).min() > 0.1


def test_drawn_masks_hide_equally_many():
    masks = drawn_masks(np.random.default_rng(0), 200, 10, 0.34)
    assert (masks.sum(1) == 7).all()
    assert masks.mean(0).min() > 0.5
    assert drawn_masks(np.random.default_rng(0), 5, 2, 0.99).sum() == 5


def test_pictures_of_another_grid_are_refused():
    fill = train_tiny_mae(ArrayPictures(gradients(8)), 4, QUICK).reconstructor
    with pytest.raises(ModelError, match=r"4 x 4 patches of 3 channels.*'harmonic'"):
        fill(gradients(2, side=20), np.ones((2, 5, 5), "?"), 4)
    for side in (18, 4):
        with pytest.raises(ModelError, match="multiples of the patch"):
            train_tiny_mae(ArrayPictures(gradients(4, side=side)), 4, QUICK)


@pytest.mark.parametrize("options", [{"epochs": 0}, {"hidden": (0.8, 0.2)}, {"hidden": (0.1, 1)}])
def test_options_that_make_no_sense(options):
    with pytest.raises(ValueError, match="two rising shares"):
        TinyMaeOptions(**options)


def test_widths_must_fit_their_heads():
    with pytest.raises(ValueError, match="multiple"):
        MaeShape(2, 2, 4, 3, width=20, heads=3)


# Weights as bytes ------------------------------------------------------------------------------


def test_every_prefix_and_every_extension_is_refused():
    data = weights_to_bytes(small_network())
    for length in [*range(200), *range(200, len(data), 997), len(data) - 1]:
        with pytest.raises(CorruptShardError):
            weights_from_bytes(data[:length])
    with pytest.raises(CorruptShardError, match="expected"):
        weights_from_bytes(data + b"\0")


def resealed(data, **changes):
    """The same weights under another header."""
    import json

    nbytes = struct.unpack_from("<I", data, 8)[0]
    header = json.loads(data[12 : 12 + nbytes])
    header["shape"] |= changes.pop("shape", {})
    header |= changes
    text = canonical_json(header)
    return data[:8] + struct.pack("<I", len(text)) + text + data[12 + nbytes :]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"version": 2}, UnsupportedFeatureError, "version 2, expected 1"),
        ({"version": True}, CorruptShardError, "without a version"),
        ({"shape": {"depth": 3}}, CorruptShardError, "by their header"),
        # 4096 blocks of width 4096: 3 TB, never allocated.
        ({"shape": {"depth": 4096, "width": 4096, "heads": 1}}, CorruptShardError, "by their"),
        # Positions of 16 million patches likewise.
        ({"shape": {"rows": 4096, "columns": 4096}}, CorruptShardError, "more than 16384 patches"),
        ({"shape": {"depth": 0}}, CorruptShardError, "sizes are 1 to"),
        ({"shape": {"depth": 1 << 40}}, CorruptShardError, "sizes are 1 to"),
        ({"shape": {"depth": True}}, CorruptShardError, "sizes are 1 to"),
        ({"shape": {"heads": 5}}, CorruptShardError, "multiple"),
        ({"shape": {"more": 1}}, CorruptShardError, "expected the sizes"),
    ],
)
def test_headers_that_are_refused(changes, error, message):
    data = weights_to_bytes(small_network())
    with pytest.raises(error, match=message):
        weights_from_bytes(resealed(data, **changes))


def test_damaged_weights_are_refused():
    data = weights_to_bytes(small_network())
    with pytest.raises(CorruptShardError, match="sha256"):
        weights_from_bytes(data, "0" * 64)
    with pytest.raises(CorruptShardError, match="magic"):
        weights_from_bytes(b"x" + data[1:])
    with pytest.raises(CorruptShardError, match="NaN"):
        weights_from_bytes(data[:-2] + struct.pack("<e", float("nan")))
    with pytest.raises(CorruptShardError, match="header of"):
        weights_from_bytes(data[:8] + b"\xff" * 4 + data[12:])


def test_weights_that_leave_float16():
    network = small_network()
    with torch.no_grad():
        network.cls_token += 1e6
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="leaves float16"):
        weights_to_bytes(network)


# Local checkpoints -----------------------------------------------------------------------------

SQUARE = MaeShape(
    rows=3, columns=3, patch=8, channels=3, width=24, depth=2, heads=3, decoder_width=16,
    decoder_depth=1, decoder_heads=2,
)  # fmt: skip


def written_checkpoint(path, **extra):
    torch.manual_seed(0)
    network = MaskedAutoencoder(SQUARE)
    torch.save({"model": network.state_dict(), **extra}, path)
    return network.eval(), hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("patch", [8, 4])
def test_a_checkpoint_fills_pictures(tmp_path, patch):
    network, digest = written_checkpoint(tmp_path / "mae.pth", epoch=3)
    fill = checkpoint_reconstructor(tmp_path / "mae.pth", digest, heads=3, decoder_heads=2)
    assert (fill.id, fill.sha256) == ("checkpoint", digest)
    assert fill.weights_nbytes == (tmp_path / "mae.pth").stat().st_size
    side = 3 * patch
    pictures = striped_pictures(5, side=side)[0]
    masks = random_masks(5, (3, 3))
    filled = fill(pictures, masks, patch)
    shown = pixels(masks, side, patch)
    assert (filled[shown] == pictures[shown]).all()
    assert (filled[~shown] != 0).any()
    if patch == 8:
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in
                     ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # fmt: skip
        unit = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            patches = network((unit - mean) / std, torch.from_numpy(masks.reshape(5, -1)))
        whole = join_patches(patches, 3, 3, 8) * std + mean
        expected = (whole.clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(filled[~shown], expected[~shown], atol=1)


def test_checkpoints_that_are_refused(tmp_path):
    path = tmp_path / "mae.pth"
    _, digest = written_checkpoint(path)
    with pytest.raises(ModelError, match=f"sha256 {digest}, expected 00"):
        checkpoint_reconstructor(path, "00" * 32)
    with pytest.raises(ModelError, match="width 24 of no published network; give heads="):
        checkpoint_reconstructor(path, digest)
    with pytest.raises(ModelError, match="multiple"):
        checkpoint_reconstructor(path, digest, heads=5)
    with pytest.raises(ModelError, match="3 channels, but 1 means"):
        checkpoint_reconstructor(path, digest, heads=3, decoder_heads=2, mean=(0.5,), std=(0.5,))
    with pytest.raises(FileNotFoundError):
        checkpoint_reconstructor(tmp_path / "missing.pth", digest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("decoder_embed.weight"), "no decoder_embed.weight"),
        (lambda w: w.pop("blocks.0.norm1.bias"), "Missing key"),
        (
            lambda w: w.update({"pos_embed": torch.zeros(1, 6, 24)}),
            "5 patches do not make a square",
        ),
        (lambda w: w.update({"pos_embed": torch.zeros(24)}), "where sizes are read"),
    ],
)
def test_weights_of_something_else(tmp_path, change, message):
    weights = MaskedAutoencoder(SQUARE).state_dict()
    change(weights)
    torch.save(weights, tmp_path / "mae.pth")
    digest = hashlib.sha256((tmp_path / "mae.pth").read_bytes()).hexdigest()
    with pytest.raises(ModelError, match=message):
        checkpoint_reconstructor(tmp_path / "mae.pth", digest, heads=3, decoder_heads=2)


class Hostile:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a checkpoint was run')",))


def test_a_checkpoint_is_never_run(tmp_path):
    torch.save({"model": Hostile()}, tmp_path / "mae.pth")
    digest = hashlib.sha256((tmp_path / "mae.pth").read_bytes()).hexdigest()
    with pytest.raises(ModelError, match="not a file of tensors alone"):
        checkpoint_reconstructor(tmp_path / "mae.pth", digest)
