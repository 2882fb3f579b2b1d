"""Ways to share ranges among patches, side by side with palettes of colours."""

import numpy as np
import pytest

pytest.importorskip("PIL")

from dsqformat.commands.grouping_comparison import compare_groupings
from dsqformat.quantize.patch import storage_bits
from patch_pictures import made_pictures, photographs

NAMES = [
    "groups of least distortion",
    "a range for each patch",
    "groups of (min, max)",
    "groups of raw (alpha, z)",
    "a range for each picture",
]


@pytest.mark.parametrize("source", [photographs, made_pictures])
def test_ordering_at_2_bits_with_64_groups(source):
    pictures = source()
    rows = compare_groupings(pictures, 2, 64, 5)
    assert [row.name for row in rows[:-1]] == NAMES
    psnr = [row.psnr_db for row in rows]
    assert psnr[:4] == sorted(psnr[:4], reverse=True)
    assert psnr[0] > psnr[4] + 3
    # Bytes as the formula says: 2 bits a value, 6 a patch, 64 a group or a range.
    n = len(pictures)
    assert rows[0].nbytes_per_sample == storage_bits(3072, 49, n, 2, 64)["total"] / 8 / n
    assert [row.nbytes_per_sample for row in rows[1:5:3]] == [768 + 8 * 49, 768 + 8]
    # The palette takes as many colours as fit: here 32 of 5 bits a pixel and 3 bytes each.
    assert rows[5].name == "median-cut palettes of 32 colours"
    assert rows[5].nbytes_per_sample == 640 + 96 <= rows[0].nbytes_per_sample
    assert 20 < psnr[5] < 60


@pytest.mark.parametrize("shape", [(6, 20, 21), (6, 20, 21, 1)])
def test_grey_pictures(shape):
    grey = made_pictures(6)[:, :20, :21, 0].reshape(shape)
    rows = compare_groupings(grey, 2, 8, 5)
    assert rows[0].psnr_db > rows[4].psnr_db
    assert rows[5].nbytes_per_sample <= rows[0].nbytes_per_sample


def test_a_palette_of_all_colours_is_exact():
    two = np.zeros((2, 16, 16, 3), "u1")
    two[:, :, 8:] = 200
    rows = compare_groupings(two, 8, 4, 5)
    assert rows[5].psnr_db == rows[0].psnr_db == np.inf
