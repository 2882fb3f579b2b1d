"""torch works out the same pixels as the kernels, bit for bit."""

import numpy as np
import pytest

from block_pictures import scene
from dsqformat.coding.block import Options, decode_ranges, encode, fit
from dsqformat.errors import CorruptShardError

torch = pytest.importorskip("torch")

from dsqclient import block_pixels  # noqa: E402

pytestmark = pytest.mark.torch

CASES = {
    "tiles": (Options(), [(32, 32, 3)] * 7, 100),
    "all sizes, odd sides": (
        Options(layers=3, sizes=(4, 32)), [(70, 45, 3), (33, 1, 3), (33, 1, 3), (1, 64, 3)], 60,
    ),
    "grey": (Options(layers=2, sizes=(4, 4)), [(13, 9, 1), (13, 9, 1), (8, 40, 1)], 90),
    "five planes": (Options(sizes=(16, 32)), [(40, 50, 5)] * 2, 120),
    "two planes": (Options(sizes=(8, 8)), [(17, 23, 2)], 30),
}  # fmt: skip
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    ),
]


def packed(name, per=2):
    """Return arguments of `decode_ranges` for a case."""
    options, shapes, qp = CASES[name]
    pictures = [scene(i, *shape) for i, shape in enumerate(shapes)]
    model = fit(pictures, qp, options)
    encoded = encode(model, pictures, qp, samples_per_stream=per)
    streams = [stream for layer in encoded.layers for stream in layer]
    ends = np.cumsum([len(stream) for stream in streams]).reshape(len(encoded.layers), -1)
    starts = np.concatenate([[0], ends.ravel()[:-1]]).reshape(ends.shape)
    data = np.frombuffer(b"".join(streams), "u1")
    return [model, data, starts, ends, encoded.shapes, encoded.qps], {"samples_per_stream": per}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("output", ["uint8", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_pixels_are_those_of_the_kernels(name, output, device, monkeypatch):
    args, options = packed(name)
    monkeypatch.setattr(block_pixels, "_BATCH_VALUES", 10_000)
    for layers in range(1, len(args[0].layers) + 1):
        args[2:4] = args[2][:layers], args[3][:layers]
        expected = decode_ranges(*args, **options, output=output)
        got = block_pixels.decode_pixels(
            *args, **options, output=output, device=device, threads=2
        ).cpu()
        assert got.dtype == getattr(torch, output)
        assert np.array_equal(got.numpy().view("u1"), expected.view("u1"))


@pytest.mark.parametrize("device", DEVICES)
def test_the_largest_coefficients_are_exact(device):
    # Fine codes decoded with coarse steps: everything is clamped somewhere.
    args, options = packed("all sizes, odd sides")
    args[5] = np.full(len(args[5]), 175)
    for output in ("uint8", "float32"):
        expected = decode_ranges(*args, **options, output=output)
        got = block_pixels.decode_pixels(*args, **options, output=output, device=device)
        assert np.array_equal(got.cpu().numpy(), expected)


@pytest.mark.parametrize("device", DEVICES)
def test_settings_for_fast_products_change_nothing_and_stay(device):
    args, options = packed("five planes")
    expected = decode_ranges(*args, **options)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast(device, dtype=torch.bfloat16):
            got = block_pixels.decode_pixels(*args, **options, device=device)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert np.array_equal(got.cpu().numpy(), expected)


def test_no_samples_are_no_pixels():
    args, options = packed("tiles")
    empty = np.empty((1, 0), "i8")
    got = block_pixels.decode_pixels(*args[:2], empty, empty, args[4][:0], args[5][:0], **options)
    assert got.shape == (0,)


def test_damage_is_reported_as_by_the_kernels():
    args, options = packed("tiles")
    args[1] = args[1] ^ 1
    with pytest.raises(CorruptShardError):
        block_pixels.decode_pixels(*args, **options)
