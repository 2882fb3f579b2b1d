"""From a dataset on disk through training, masks and sensitivity, and what needs no torch."""

import subprocess
import sys

import numpy as np
import pytest

from dsqformat import DatasetWriter, FieldSpec, open_dataset
from dsqformat.condense.pictures import ArrayPictures, DatasetPictures
from dsqformat.condense.round_trips import lsq_round_trip
from dsqformat.reconstruct import fill_harmonic
from dsqformat.select.masks import patch_masks


@pytest.mark.torch
def test_a_dataset_is_masked_packed_and_measured(tmp_path):
    pytest.importorskip("torch")
    from dsqformat.condense.class_maps import patch_scores
    from dsqformat.condense.proxy_training import TrainingOptions, train_proxy
    from dsqformat.condense.sensitivity import sensitivity
    from proxies import striped_pictures

    values, labels = striped_pictures(60, side=16)
    with DatasetWriter(tmp_path / "whole", fields=FieldSpec("affine", bit_width=8)) as writer:
        for picture, label in zip(values, labels, strict=True):
            writer.write({"image": picture, "label": int(label)})
    options = TrainingOptions(epochs=3, batch_size=16, learning_rate=0.05, padding=1)
    with open_dataset(tmp_path / "whole") as dataset:
        pictures = DatasetPictures(dataset)
        stored = np.concatenate(list(pictures.batches(64)))
        trained = train_proxy(pictures, options=options)
        # The same as from an array of the same pictures.
        by_array = train_proxy(ArrayPictures(stored, pictures.labels), options=options)
        assert trained.loss == by_array.loss
        masks = patch_masks(patch_scores(trained.proxy, pictures, 4), 0.25)
        assert (masks.sum(axis=(1, 2)) == 12).all()

        spec = FieldSpec("lsq", bit_width=6, patch=4)
        with DatasetWriter(tmp_path / "small", fields=spec, shuffle=False) as writer:
            for picture, label, mask in zip(stored, pictures.labels, masks, strict=True):
                writer.write({"image": picture, "label": int(label)}, masks={"image": mask})
        with open_dataset(tmp_path / "small") as small:
            seen = DatasetPictures(small, fill_in=fill_harmonic)
            score = sensitivity(trained.proxy, pictures, seen, engine="layers")
    finer = sensitivity(
        trained.proxy, ArrayPictures(stored, pictures.labels), lsq_round_trip(8), engine="layers"
    )
    assert score.shape == (60,)
    assert (score > 0).all()
    assert score.mean() > finer.mean()


@pytest.mark.parametrize(
    "module",
    [
        "dsqformat.condense",
        "dsqformat.condense.feature_files",
        "dsqformat.condense.gradient_pairs",
        "dsqformat.condense.last_layer",
        "dsqformat.condense.pictures",
        "dsqformat.condense.round_trips",
        "dsqformat.condense.scaling",
        "dsqformat.reconstruct",
        "dsqformat.select.masks",
        "dsqformat.select.patch_importance",
    ],
)
def test_what_needs_no_torch_loads_none(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
