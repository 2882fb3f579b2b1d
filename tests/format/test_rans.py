"""`rans` coding: compiled kernels and NumPy agree to the byte; damage gives typed errors."""

import importlib
import itertools
import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat import DatasetWriter, FieldSpec, open_dataset
from dsqformat.coding.rans import fitting, segment
from dsqformat.coding.rans.fitting import fit
from dsqformat.coding.rans.geometry import grid_of
from dsqformat.coding.rans.masking import PatchMasks, gathered, spread_out
from dsqformat.coding.rans.model import PixelModel
from dsqformat.coding.rans.segment import decode_layer, encode_layer
from dsqformat.errors import CorruptShardError, UnsupportedFeatureError
from dsqformat.kernels import COMPILED, plain_layout
from dsqformat.kernels import plain_rans as plain


def pictures(shapes, bits, seed=0):
    """Smooth random codes of the given shapes and bits, flat, and their shapes."""
    rng = np.random.default_rng(seed)
    parts = []
    for shape, width in zip(shapes, bits, strict=True):
        walk = np.cumsum(rng.normal(0, 0.04, shape), axis=max(0, len(shape) - 2))
        noisy = 0.5 + walk + rng.normal(0, 0.02, shape)
        parts.append(np.clip(noisy * (1 << width), 0, (1 << width) - 1).astype("u2").ravel())
    return np.concatenate(parts), np.array(shapes, "i8")


def widths(bits, plan):
    rows = []
    for width in bits:
        row = []
        for part in plan:
            row.append(min(part, width - sum(row)))
        rows.append([*row, width - sum(row)])
    return np.array(rows, "u1")


def compiled_kernels():
    """Those the import took, and those for the least processor."""
    if not COMPILED:
        return []
    least = importlib.import_module("dsqformat.kernels.rans_decode").decode_streams
    return [segment.kernels, SimpleNamespace(**{**vars(segment.kernels), "decode_streams": least})]


CASES = [
    ([(9, 7, 3)] * 6, [8] * 6, []),
    ([(9, 7, 3)] * 6, [8] * 6, [4, 2]),
    ([(5, 6)] * 5, [2, 3, 4, 1, 6], [2]),
    ([(40,), (1,), (0,), (17,)], [16, 12, 9, 5], [8]),
    ([(3, 4, 1), (6, 2, 1), (1, 1, 1)], [1, 4, 2], []),
    ([(3, 5, 4)] * 3, [6, 6, 5], [4, 1]),
    ([(2, 3, 4, 5)] * 3, [7] * 3, [4, 2]),
    ([(4, 4, 2)] * 3, [16] * 3, [4, 2]),
    # More streams than are decoded in step, alike in runs.
    ([(3, 4, 3)] * 18 + [(2, 5, 3)] * 3 + [(3, 4, 3)] * 6, [8] * 25 + [7] * 2, [2, 2, 2]),
]


def encode_all(model, codes, shape, width, per_stream):
    return [
        encode_layer(model, codes, shape, width, layer, per_stream)
        for layer in range(width.shape[1])
    ]


@pytest.mark.parametrize("case", range(len(CASES)))
@pytest.mark.parametrize("per_stream", [1, 2, 4096])
@pytest.mark.parametrize("class_values", [50, fitting.CLASS_VALUES])
def test_layers_come_back_and_numpy_agrees(case, per_stream, class_values, monkeypatch):
    monkeypatch.setattr(fitting, "CLASS_VALUES", class_values)
    shapes, bits, plan = CASES[case]
    codes, shape = pictures(shapes, bits)
    width = widths(bits, plan)
    model = PixelModel.from_bytes(fit(codes, shape, width, complete=True).to_bytes())
    data = encode_all(model, codes, shape, width, per_stream)
    results = []
    for kernels in [*compiled_kernels(), plain]:
        monkeypatch.setattr(segment, "kernels", kernels)
        assert encode_all(model, codes, shape, width, per_stream) == data
        known = None
        for layer, segment_bytes in enumerate(data):
            known = decode_layer(model, segment_bytes, known, shape, width, layer)
            results.append(known)
        np.testing.assert_array_equal(known, codes)
    for i, known in enumerate(results):
        np.testing.assert_array_equal(known, results[i % len(data)])


# Shapes, bits, plan and side of patches.
MASKED = [
    ([(9, 7, 3)] * 6, [8] * 6, [], 2),
    ([(9, 7, 3)] * 5, [8] * 5, [4, 2], 4),
    ([(5, 6)] * 4 + [(3, 2), (1, 1), (0, 3)], [2, 3, 4, 1, 6, 5, 5], [2], 1),
    ([(4, 3, 2, 3), (2, 5, 1, 3)], [7, 5], [3], 2),
    ([(4, 3, 6)] * 3, [6, 6, 5], [4, 1], 1),
    ([(3, 4, 3)] * 36, [8] * 36, [2, 2, 2], 1),
]


def random_masks(shape, patch, seed=0):
    """Masks that leave out some patches of most samples, none of some, and all of others."""
    rng = np.random.default_rng(seed)
    grids = [(-(-height // patch), -(-width // patch)) for height, width, *_ in shape.tolist()]
    shares = rng.choice([0.0, 0.3, 0.6, 1.0], len(shape), p=[0.1, 0.2, 0.5, 0.2])
    drawn = zip(grids, shares, strict=True)
    return PatchMasks(patch, [rng.random(grid) < share for grid, share in drawn], shape)


@pytest.mark.parametrize("case", range(len(MASKED)))
@pytest.mark.parametrize("per_stream", [1, 3])
def test_masked_layers_come_back_and_numpy_agrees(case, per_stream, monkeypatch):
    monkeypatch.setattr(fitting, "CLASS_VALUES", 50)
    shapes, bits, plan, patch = MASKED[case]
    whole, shape = pictures(shapes, bits)
    masks = random_masks(shape, patch)
    grid = grid_of(shape)
    codes = gathered(whole, masks.kept, grid.channels)
    assert 0 < len(codes) < len(whole)
    width = widths(bits, plan)
    model = fit(codes, shape, width, masks=masks, complete=True)
    results = []
    for kernels in [*compiled_kernels(), plain]:
        monkeypatch.setattr(segment, "kernels", kernels)
        monkeypatch.setattr(fitting, "kernels", kernels)
        if per_stream == 1:
            again = fit(codes, shape, width, masks=masks, complete=True)
            assert again.to_bytes() == model.to_bytes()
        known = None
        for layer in range(width.shape[1]):
            data = encode_layer(model, codes, shape, width, layer, per_stream, masks)
            known = decode_layer(model, data, known, shape, width, layer, masks=masks)
            results.append((data, known.tolist()))
        np.testing.assert_array_equal(known, codes)
    for i, found in enumerate(results):
        assert found == results[i % width.shape[1]]


def test_what_is_left_out_costs_nothing_and_teaches_nothing():
    whole, shape = pictures([(8, 8, 3)] * 6, [8] * 6)
    masks = random_masks(shape, 4)
    kept = masks.kept
    codes, width = gathered(whole, kept, 3), widths([8] * 6, [])
    spoilt = np.where(np.repeat(kept, 3) > 0, whole, 255).astype("u2")
    assert (gathered(spoilt, kept, 3) == codes).all()
    model = fit(codes, shape, width, masks=masks, complete=True)
    masked = encode_layer(model, codes, shape, width, 0, 6, masks)
    everything = fit(whole, shape, width, complete=True)
    assert len(masked) < 0.8 * len(encode_layer(everything, whole, shape, width, 0, 6))


@given(case=st.integers(0, len(MASKED) - 1), seed=st.integers(0, 99), above=st.integers(0, 4))
def test_copies_from_the_left_are_those_of_the_spec(case, seed, above):
    shapes, bits, _, patch = MASKED[case]
    whole, shape = pictures(shapes, bits, seed)
    masks, grid = random_masks(shape, patch, seed), grid_of(shape)
    kept = masks.kept
    known = np.minimum(np.array(bits), above)
    top = whole >> np.repeat(np.array(bits) - known, grid.counts).astype("u2")
    found = spread_out(gathered(top, kept, grid.channels), kept, grid, known)
    expected, at = [], 0
    for height, row, bit_count in zip(
        grid.heights, grid.widths * grid.channels, known, strict=True
    ):
        rows = []
        for place in range(at, at + int(height * row)):
            x, y, here = (place - at) % row, (place - at) // row, len(rows)
            if not len(kept) or kept[place // grid.channels]:
                rows.append(int(top[place]))
            elif x >= grid.channels:
                rows.append(rows[here - grid.channels])
            else:
                rows.append(rows[here - row] if y else (1 << int(bit_count)) // 2)
        expected += rows
        at += len(rows)
    assert found.tolist() == expected


@pytest.mark.parametrize("case", [1, 2, 3])
def test_fitting_in_numpy_gives_the_same_model(case, monkeypatch):
    shapes, bits, plan = CASES[case]
    codes, shape = pictures(shapes, bits)
    width = widths(bits, plan)
    monkeypatch.setattr(fitting, "CLASS_VALUES", 50)
    expected = fit(codes, shape, width).to_bytes()
    monkeypatch.setattr("dsqformat.coding.rans.fitting.kernels", plain)
    assert fit(codes, shape, width).to_bytes() == expected


def test_model_codes_samples_it_was_not_fitted_to():
    codes, shape = pictures([(8, 8, 3)] * 4, [8] * 4)
    width = widths([8] * 4, [4, 2])
    model = fit(codes, shape, width)
    other = np.random.default_rng(1).integers(0, 256, len(codes)).astype("u2")
    known = None
    for layer, data in enumerate(encode_all(model, other, shape, width, 2)):
        known = decode_layer(model, data, known, shape, width, layer)
    np.testing.assert_array_equal(known, other)


@pytest.fixture(scope="module")
def damaged():
    shapes, bits = [(6, 5, 3)] * 5, [8] * 5
    codes, shape = pictures(shapes, bits)
    width = widths(bits, [4])
    model = fit(codes, shape, width)
    data = encode_all(model, codes, shape, width, 2)
    return model, codes, shape, width, data


def test_every_prefix_and_longer_data_is_refused(damaged):
    model, _, shape, width, data = damaged
    for end in range(len(data[0])):
        with pytest.raises(CorruptShardError):
            decode_layer(model, data[0][:end], None, shape, width, 0)
    with pytest.raises(CorruptShardError):
        decode_layer(model, data[0] + b"\0", None, shape, width, 0)


@given(
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4)
)
def test_damaged_streams_give_codes_in_range_or_an_error(damaged, flips):
    model, codes, shape, width, data = damaged
    for layer in (0, 1):
        mutated = bytearray(data[layer])
        for at, mask in flips:
            mutated[at % len(mutated)] ^= mask
        coarse = None if layer == 0 else codes >> 4
        try:
            got = decode_layer(model, bytes(mutated), coarse, shape, width, layer)
        except CorruptShardError:
            continue
        assert got.max() < 1 << (4, 8)[layer]


@given(
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4)
)
def test_damaged_models_are_refused_or_harmless(damaged, flips):
    model, codes, shape, width, data = damaged
    mutated = bytearray(model.to_bytes())
    for at, mask in flips:
        mutated[at % len(mutated)] ^= mask
    try:
        other = PixelModel.from_bytes(bytes(mutated))
        decode_layer(other, data[1], codes >> 4, shape, width, 1)
    except (CorruptShardError, UnsupportedFeatureError):
        return


def test_huge_counts_allocate_nothing(damaged):
    model = damaged[0]
    shape = np.array([[1 << 14, 1 << 12, 3]], "i8")
    with pytest.raises(CorruptShardError):
        decode_layer(model, bytes(60), None, shape, np.array([[4, 4]], "u1"), 0)


def test_arguments_are_checked(damaged):
    model, codes, shape, width, data = damaged
    with pytest.raises(ValueError, match="per stream"):
        encode_layer(model, codes, shape, width, 0, 0)
    with pytest.raises(ValueError, match="needs what the layers before say"):
        decode_layer(model, data[1], None, shape, width, 1)
    with pytest.raises(ValueError, match="more bits"):
        decode_layer(model, data[1], codes, shape, width, 1)
    with pytest.raises(ValueError, match="no layer of"):
        encode_layer(model, codes, shape, width + np.uint8(1), 0, 1)


@cache
def fitted(case):
    """Codes of a case, their shapes and layer widths, and a model of them."""
    shapes, bits, plan = CASES[case]
    codes, shape = pictures(shapes, bits, seed=4)
    width = widths(bits, plan)
    return codes, shape, width, fit(codes, shape, width)


def test_models_survive_their_bytes():
    for case, complete in itertools.product(range(len(CASES)), (True, False)):
        codes, shape, width, model = fitted(case)
        data = (fit(codes, shape, width, complete=True) if complete else model).to_bytes()
        assert PixelModel.from_bytes(data).to_bytes() == data


@pytest.mark.parametrize("threads", [2, 3, 50])
def test_threads_divide_the_streams(threads):
    for case in range(len(CASES)):
        codes, shape, width, model = fitted(case)
        known = None
        for layer, data in enumerate(encode_all(model, codes, shape, width, 1)):
            known = decode_layer(model, data, known, shape, width, layer, threads=threads)
        np.testing.assert_array_equal(known, codes)


def test_the_kernels_have_the_numbers_of_the_rest():
    text = Path(plain_layout.__file__).with_name("rans_context.pxd").read_text("utf-8")
    numbers = dict(re.findall(r"^    (\w+) = (\d+)$", text, re.MULTILINE))
    assert numbers
    assert {name: int(value) for name, value in numbers.items()} == {
        name: value for name, value in vars(plain_layout).items() if name.isupper()
    }


def test_activity_divides_values_into_classes(monkeypatch):
    monkeypatch.setattr(fitting, "CLASS_VALUES", 50)
    codes, shape = pictures([(9, 7, 3)] * 6, [8] * 6)
    model = PixelModel.from_bytes(fit(codes, shape, widths([8] * 6, [4, 2])).to_bytes())
    for layer in model.layers:
        most = fitting.MAX_CLASSES if layer.above else fitting.MAX_FIRST_CLASSES
        assert 1 < len(layer.bias) <= most
        assert len(layer.borders) == len(layer.bias) - 1
        assert (np.diff(layer.borders) > 0).all()


def test_rows_longer_than_the_format_allows_are_stored_otherwise(tmp_path):
    values = np.zeros((1, (1 << 20) + 1), "u1")
    values[0, ::7] = 9
    with DatasetWriter(tmp_path / "d", fields={"x": FieldSpec(layers=())}, coding="rans") as writer:
        writer.write_batch({"x": values})
    np.testing.assert_array_equal(open_dataset(tmp_path / "d").to_numpy()["x"], values)
    with pytest.raises(ValueError, match="at most 2\\^20 values"):
        grid_of(np.array([[1, (1 << 18) + 1, 4]]))
    assert grid_of(np.array([[1, 1 << 18, 4]])).counts == 1 << 20
