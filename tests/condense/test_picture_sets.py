"""Pictures in batches: arrays and datasets give the same, in any order, without labels or with."""

import numpy as np
import pytest

from dsqformat import DatasetWriter, FieldSpec, open_dataset
from dsqformat.condense.pictures import ArrayPictures, DatasetPictures, checked_labels, labels_of
from dsqformat.condense.scaling import scaled_to, triangle_weights
from dsqformat.errors import SourceError
from dsqformat.quantize.mask import pixel_mask


def made(count=70, shape=(6, 5, 3)):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, *shape)).astype("u1"), rng.integers(0, 4, count)


def written(path, pictures, labels, masks=None, spec=None, name="label"):
    with DatasetWriter(path, fields=spec or FieldSpec("affine", bit_width=8), chunk_nbytes=1600,
                       shuffle=False) as writer:  # fmt: skip
        for number, picture in enumerate(pictures):
            extra = {} if labels is None else {name: int(labels[number])}
            mask = None if masks is None else {"image": masks[number]}
            writer.write({"image": picture, **extra}, masks=mask)
    return open_dataset(path)


@pytest.mark.parametrize("shape", [(6, 5, 3), (6, 5, 1), (6, 5)])
def test_dataset_and_array_agree(tmp_path, shape):
    pictures, labels = made(shape=shape)
    order = np.random.default_rng(1).permutation(70)[:50]
    with written(tmp_path / "d", pictures, labels) as dataset:
        stored = DatasetPictures(dataset)
        array = ArrayPictures(pictures, labels)
        assert (stored.labels == labels).all()
        assert len(stored) == len(array) == 70
        for chosen in (None, order, None, order[:0]):
            ours = list(stored.batches(16, chosen))
            theirs = list(array.batches(16, chosen))
            assert [len(b) for b in ours] == [len(b) for b in theirs]
            for one, other in zip(ours, theirs, strict=True):
                assert (one.dtype, one.shape) == (np.uint8, other.shape)
                assert (one == other).all()


@pytest.mark.parametrize("batch_size", [1, 7, 70, 100])
def test_batches_are_full_but_the_last(tmp_path, batch_size):
    pictures, labels = made()
    with written(tmp_path / "d", pictures, labels) as dataset:
        batches = list(DatasetPictures(dataset).batches(batch_size))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert (np.concatenate(batches) == pictures).all()


def test_left_out_patches_can_be_filled_in(tmp_path):
    pictures, labels = made(shape=(6, 6, 3))
    masks = np.random.default_rng(2).random((70, 3, 3)) < 0.7
    masks[:, 0, 0] = True
    spec = FieldSpec("affine", bit_width=8, patch=2)

    def fill_in(values, kept, patch):
        whole = values.copy()
        for picture, mask in zip(whole, kept, strict=True):
            picture[~pixel_mask(mask, 6, 6, patch)] = 9
        return whole

    with written(tmp_path / "d", pictures, labels, masks, spec) as dataset:
        left_out = np.concatenate(list(DatasetPictures(dataset).batches(32)))
        filled = np.concatenate(list(DatasetPictures(dataset, fill_in=fill_in).batches(32)))
    for number in range(70):
        kept = pixel_mask(masks[number], 6, 6, 2)
        assert (filled[number][kept] == pictures[number][kept]).all()
        assert (filled[number][~kept] == 9).all()
        assert (left_out[number][~kept] == 0).all()


def test_without_labels(tmp_path):
    pictures, _ = made()
    with written(tmp_path / "d", pictures, None) as dataset:
        with pytest.raises(SourceError, match=r"label=None"):
            DatasetPictures(dataset)
        unlabelled = DatasetPictures(dataset, label=None)
        with pytest.raises(SourceError, match="give labels"):
            labels_of(unlabelled)
        with pytest.raises(SourceError, match="no field 'picture'"):
            DatasetPictures(dataset, "picture", label=None)


def test_pictures_of_different_sizes(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (4 + number % 2, 6, 3)).astype("u1") for number in range(6)]
    with written(tmp_path / "d", pictures, np.zeros(6, "i8")) as dataset:
        stored = DatasetPictures(dataset)
        with pytest.raises(SourceError, match="give side="):
            list(stored.batches(4))
        scaled = DatasetPictures(dataset, side=(8, 6))
        batches = [*scaled.batches(4), *scaled.batches(4, np.arange(6))]
        assert [batch.shape for batch in batches] == [(4, 8, 6, 3), (2, 8, 6, 3)] * 2
        for number, picture in enumerate(np.concatenate(batches[:2])):
            assert (picture == scaled_to(pictures[number][np.newaxis], 8, 6)[0]).all()


def test_scaling():
    ramp = np.arange(8.0).reshape(1, 1, 8, 1) * np.ones((1, 4, 1, 1))
    halved = scaled_to(ramp, 2, 4)[0, 0, :, 0]
    np.testing.assert_allclose(halved[1:3], [2.5, 4.5])  # means around the centres
    doubled = scaled_to(ramp, 8, 16)[0, 0, :, 0]
    np.testing.assert_allclose(doubled[1:-1], np.arange(0.25, 7, 0.5))
    for sizes in ((1, 7), (7, 1), (5, 5), (9, 4)):
        np.testing.assert_allclose(triangle_weights(*sizes).sum(1), 1)
    even = np.full((2, 5, 7, 3), 93, "u1")
    assert (scaled_to(even, 3, 11) == 93).all()
    assert scaled_to(even, 5, 7) is even
    with pytest.raises(ValueError, match="1 or more of both"):
        triangle_weights(0, 3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2], r"shape \(3,\), expected integers of shape \(4,\)"),
        ([0.0, 1.0, 2.0, 3.0], "float64"),
        ([0, 1, -2, 1], "label -2 of sample 2"),
    ],
)
def test_labels_that_are_refused(labels, message):
    with pytest.raises(SourceError, match=message):
        checked_labels(np.array(labels), 4)


def test_arrays_that_are_refused():
    with pytest.raises(SourceError, match="expected uint8 or floating"):
        ArrayPictures(np.zeros((3, 4, 4), "i4"))
    with pytest.raises(SourceError, match="expected uint8 or floating"):
        ArrayPictures(np.zeros((4, 4), "u1"))


def test_other_floats_become_float32():
    batch = next(ArrayPictures(np.ones((3, 4, 4, 2), "f8")).batches(3))
    assert batch.dtype == np.float32
