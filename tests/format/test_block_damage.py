"""Streams of blocks from hostile hands: typed errors or some picture, never anything else."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from block_pictures import decode_with, decoders, reference, reference_decode, scene, small_case
from dsqformat.coding.block import Options, decode, decode_ranges, encode, fit
from dsqformat.errors import CorruptShardError

SOAK = os.environ.get("DSQ_SOAK") == "1"
KERNELS = decoders()


def outcome(kernel, *args, **options):
    """Return pictures, or None for a typed error."""
    try:
        return decode_with(kernel, *args, **options)
    except CorruptShardError:
        return None


def alike(ours, theirs):
    if ours is None or theirs is None:
        return ours is theirs
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_every_bit_flip_of_a_small_payload():
    pictures = [scene(7, 12, 20, 3), scene(8, 9, 5, 3)]
    model = fit(pictures, 110, Options(layers=2, sizes=(4, 16)))
    encoded = encode(model, pictures, 110, samples_per_stream=2)
    errors = flips = 0
    for layer in range(2):
        raw = encoded.layers[layer][0]
        for bit in range(0, 8 * len(raw), 1 if SOAK else 3):
            damaged = bytearray(raw)
            damaged[bit // 8] ^= 1 << bit % 8
            streams = [list(s) for s in encoded.layers]
            streams[layer] = [bytes(damaged)]
            got = [
                outcome(kernel, model, streams, encoded.shapes, encoded.qps, samples_per_stream=2)
                for kernel in KERNELS.values()
            ]
            assert all(alike(got[0], other) for other in got[1:])
            errors += got[0] is None
            flips += 1
    # A stream must end with state 0 exactly: hardly any damage goes unseen.
    assert errors > 0.9 * flips > 10


@settings(max_examples=5000 if SOAK else 40)
@given(st.data())
def test_damaged_streams(data):
    model, encoded, _ = small_case()
    layers = data.draw(st.integers(1, 3))
    streams = [list(layer) for layer in encoded.layers[:layers]]
    layer, which = data.draw(st.integers(0, layers - 1)), data.draw(st.integers(0, 1))
    raw = bytearray(streams[layer][which])
    kind = data.draw(st.sampled_from(["other", "cut", "changed"]))
    if kind == "other":
        raw = bytearray(data.draw(st.binary(max_size=400)))
    elif kind == "cut":
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    else:
        for _ in range(data.draw(st.integers(1, 8))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    streams[layer][which] = bytes(raw)
    args = model, streams, encoded.shapes, encoded.qps
    got = [outcome(kernel, *args, samples_per_stream=2) for kernel in KERNELS.values()]
    assert all(alike(got[0], other) for other in got[1:])
    if got[0] is not None:
        assert [g.shape for g in got[0]] == [(12, 20, 3)] * 4


def test_the_reference_refuses_the_same():
    model, encoded, raw = small_case()
    shapes, qps = encoded.shapes[:2], encoded.qps[:2]
    rng = np.random.default_rng(5)
    for trial in range(60 if SOAK else 6):
        streams = [bytearray(layer[0]) for layer in encoded.layers]
        target = streams[trial % 3]
        target[rng.integers(len(target))] ^= 1 << rng.integers(8)
        got = outcome(None, model, [[bytes(s)] for s in streams], shapes, qps, samples_per_stream=2)
        try:
            theirs = reference_decode(raw, list(map(bytes, streams)), shapes.tolist(), qps.tolist())
        except reference()[3]:
            assert got is None
            continue
        assert alike(got, [octets for octets, _ in theirs])


@pytest.mark.parametrize("threads", [1, 2])
def test_the_message_names_the_stream_and_the_remedy(threads):
    model, encoded, _ = small_case()
    streams = [list(layer) for layer in encoded.layers]
    streams[0][1] += b"\0\0\0\0"
    with pytest.raises(CorruptShardError, match=r"block stream 1: .*; fetch the shard again"):
        decode(
            model, streams, encoded.shapes, encoded.qps, samples_per_stream=2, threads=threads
        )  # fmt: skip


def test_counts_that_do_not_fit():
    model, encoded, _ = small_case()
    shapes, qps = encoded.shapes, encoded.qps
    for bad_shapes, bad_qps in (
        (shapes * 0, qps),
        (shapes + 5000, qps),
        (shapes, qps + 100),
        (shapes, qps - 101),
    ):
        with pytest.raises(CorruptShardError):
            decode(model, encoded.layers, bad_shapes, bad_qps, samples_per_stream=2)
    for streams in (encoded.layers * 2, [], [encoded.layers[0][:1]], [encoded.layers[0], []]):
        with pytest.raises(CorruptShardError):
            decode(model, streams, shapes, qps, samples_per_stream=2)
    data = np.zeros(10, "u1")
    for start, end in ((-4, 4), (4, 2), (0, 11)):
        one = np.array([[start]]), np.array([[end]])
        with pytest.raises(CorruptShardError, match="leaves"):
            decode_ranges(model, data, *one, shapes[:1], qps[:1], samples_per_stream=1)
    with pytest.raises(ValueError, match="samples per stream"):
        decode(model, encoded.layers, shapes, qps, samples_per_stream=0)
    with pytest.raises(ValueError, match="shapes"):
        decode(model, encoded.layers, shapes, qps[:2], samples_per_stream=2)
