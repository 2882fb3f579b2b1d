"""Patch masks: bits, pixels, and kept values out of pictures and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat.quantize.mask import (
    gather,
    pack_mask,
    patch_grid,
    pixel_mask,
    scatter,
    unpack_mask,
)


@st.composite
def masks(draw):
    """Height, width, patch side and which patches are kept."""
    height, width, patch = (draw(st.integers(1, 12)) for _ in range(3))
    rows, columns = patch_grid(height, width, patch)
    bits = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    return height, width, patch, np.array(bits, bool).reshape(rows, columns)


def test_patches_at_the_edges_count():
    assert patch_grid(32, 32, 5) == (7, 7)
    assert patch_grid(32, 32, 8) == (4, 4)
    assert patch_grid(0, 5, 8) == (0, 1)


def test_bits_are_in_raster_order_lowest_first():
    mask = np.zeros((3, 3), bool)
    mask[0, 1] = mask[2, 2] = True
    assert pack_mask(mask) == bytes([0b10, 0b1])


@given(made=masks())
def test_masks_come_back(made):
    *_, mask = made
    data = pack_mask(mask)
    assert len(data) == -(-mask.size // 8)
    np.testing.assert_array_equal(unpack_mask(data, mask.shape), mask)


def test_spare_bits_and_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match="spare bit"):
        unpack_mask(bytes([0xFF, 2]), (3, 3))
    with pytest.raises(ValueError, match="3 bytes for 9 patches"):
        unpack_mask(bytes(3), (3, 3))


@given(made=masks(), channels=st.sampled_from([None, 1, 3]))
def test_kept_pixels_are_in_c_order_and_go_back_where_they_were(made, channels):
    height, width, patch, mask = made
    shape = (height, width) if channels is None else (height, width, channels)
    picture = np.arange(1, np.prod(shape) + 1).reshape(shape)
    pixels = pixel_mask(mask, height, width, patch)
    expected = [
        picture[y, x] for y in range(height) for x in range(width) if mask[y // patch, x // patch]
    ]
    kept = gather(picture, pixels)
    np.testing.assert_array_equal(kept, np.array(expected).reshape(-1, *shape[2:]))
    back = scatter(kept.ravel(), pixels, shape)
    whole = pixels.reshape(*pixels.shape, *(1 for _ in shape[2:]))
    np.testing.assert_array_equal(back, np.where(whole, picture, 0))
