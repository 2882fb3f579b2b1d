"""Patches that a dataset does not store: filled in, or masks for the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dsqclient import StreamingDataset
from dsqformat import DatasetWriter, FieldSpec
from dsqformat.errors import UnsupportedFeatureError
from dsqformat.reconstruct import Reconstructor, fill_harmonic, named_reconstructor

pytestmark = pytest.mark.torch

PATCH = 4


def pictures_and_masks(count, shape=(10, 12, 3)):
    rng = np.random.default_rng(0)
    pictures = rng.integers(1, 256, (count, *shape)).astype("u1")
    masks = rng.random((count, 3, 3)) < 0.7
    masks[:, 1, 1] = True
    return pictures, masks


def write(path, pictures, masks, provenance=None, patch=PATCH):
    spec = FieldSpec(patch=patch)
    options = {"chunk_nbytes": 4096, "shuffle": False, "provenance": provenance}
    with DatasetWriter(path, fields={"image": spec}, **options) as writer:
        for i, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
            writer.write({"image": picture, "index": i}, masks={"image": mask})
    return path


def read(path, **options):
    """Return all batches of a dataset as one."""
    dataset = StreamingDataset(path, batch_size=7, output="source", channels_first=False, **options)
    batches = list(dataset)
    return {name: torch.cat([batch[name] for batch in batches]).numpy() for name in batches[0]}


def visible(masks, height, width):
    rows, columns = np.arange(height) // PATCH, np.arange(width) // PATCH
    return masks[:, rows[:, None], columns]


@pytest.mark.parametrize("name", ["harmonic", "mean"])
@pytest.mark.parametrize("said", ["by the reader", "by the snapshot"])
def test_filled_and_visible_pixels_untouched(tmp_path, name, said):
    pictures, masks = pictures_and_masks(20)
    by_reader = said == "by the reader"
    provenance = None if by_reader else {"fill": {"image": name}}
    path = write(tmp_path / "d", pictures, masks, provenance)
    found = read(path, **({"fill": name} if by_reader else {}))["image"]
    shown = visible(masks, 10, 12)
    assert np.array_equal(found[shown], pictures[shown])
    assert np.array_equal(found, named_reconstructor(name)(found, masks, PATCH))
    assert found[~shown].min() > 0


def test_zeros_where_nobody_says_anything(tmp_path):
    pictures, masks = pictures_and_masks(9)
    found = read(write(tmp_path / "d", pictures, masks))
    assert sorted(found) == ["image", "index"]
    assert not found["image"][~visible(masks, 10, 12)].any()


def test_masks_for_the_model(tmp_path):
    pictures, masks = pictures_and_masks(30)
    masks[10:20] = True  # some chunks have no masks at all
    path = write(tmp_path / "d", pictures, masks, {"fill": {"image": "harmonic"}})
    found = read(path, fill="none", shuffle=True)
    assert found["image.mask"].dtype == np.bool_
    assert np.array_equal(found["image.mask"], masks[found["index"]])
    assert not found["image"][~visible(masks[found["index"]], 10, 12)].any()


def test_pictures_of_many_sizes_and_without_channels(tmp_path):
    rng = np.random.default_rng(1)
    shapes = [(8, 8), (4, 12), (9, 5)]
    pictures = [rng.integers(1, 256, shape).astype("u1") for shape in shapes]
    masks = [np.arange(-(-h // PATCH) * -(-w // PATCH)).reshape(-(-h // PATCH), -1) % 3 != 1
             for h, w in shapes]  # fmt: skip
    path = write(tmp_path / "d", pictures, masks)
    (batch,) = StreamingDataset(path, batch_size=9, output="source", fill="mean")
    for picture, mask, found in zip(pictures, masks, batch["image"], strict=True):
        shown = visible(mask[None], *picture.shape)[0]
        assert np.array_equal(found.numpy()[shown], picture[shown])
        assert found.numpy()[~shown].min() > 0
    (batch,) = StreamingDataset(path, batch_size=9, fill="none")
    assert all(np.array_equal(a, b) for a, b in zip(batch["image.mask"], masks, strict=True))


def test_a_reconstructor_of_ones_own_and_workers(tmp_path):
    pictures, masks = pictures_and_masks(40)
    path = write(tmp_path / "d", pictures, masks)
    own = Reconstructor("own", fill_harmonic)
    options = {"batch_size": 8, "output": "source", "channels_first": False, "fill": own}
    loader = DataLoader(StreamingDataset(path, **options), batch_size=None, num_workers=2)
    found = {int(i): p.numpy() for b in loader for i, p in zip(b["index"], b["image"], strict=True)}
    expected = fill_harmonic(pictures, masks, PATCH)
    assert all(np.array_equal(found[i], expected[i]) for i in range(40))


def test_a_fill_that_needs_weights_says_so(tmp_path):
    pictures, masks = pictures_and_masks(3)
    path = write(tmp_path / "d", pictures, masks, {"fill": {"image": "tiny-mae"}})
    with pytest.raises(UnsupportedFeatureError, match="tiny-mae"):
        StreamingDataset(path)
    assert len(StreamingDataset(path, fill="harmonic")) == 3
