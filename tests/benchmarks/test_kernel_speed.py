"""How fast chunks become float32, against copying the same float32 with NumPy.

Chunks of 32x32x3 pictures, 256 KiB packed, on one core. Two settings:

memory   Output and copied floats move through 128 MiB each, packed bytes through 16 MiB, so that
         each call meets memory that no cache of a core holds, as a loader does. Bars are set here.
cache    The same few buffers over and over, 0.5 to 8 MiB of output.

Ratios are medians of the copy over medians of the decoding, the two measured by turns. Nothing
fails: on a machine that others use as well, a row moves by a tenth from run to run.
"""

import statistics
import time
from collections import deque
from dataclasses import dataclass

import numpy as np
import pytest

from dsqformat import kernels
from dsqformat.coding.dequant import dequantize_chunk, dequantize_chunk_uint8
from dsqformat.coding.layers import layer_widths, split_codes
from dsqformat.coding.packing import LayerData, pack_values
from dsqformat.quantize import affine, lsq
from dsqformat.schema import UNIT

pytestmark = [
    pytest.mark.bench,
    pytest.mark.skipif(not kernels.COMPILED, reason="the kernels are not compiled here"),
]

VALUES = 32 * 32 * 3
PACKED_NBYTES = 256 << 10
POOL_NBYTES = 128 << 20
ROUNDS = 150
FAST_BAR, OTHER_BAR = 1.0, 0.3


@dataclass
class Case:
    """Chunks that differ only in their bytes, and how fast they have to be."""

    name: str
    chunks: list[list]
    bar: float
    count: int


def make_case(name, bits, plan, bar, packed=True, channels=1, used=None):
    rng = np.random.default_rng(bits)
    n = max(1, PACKED_NBYTES * 8 // (VALUES * bits))
    counts, stored = np.full(n, VALUES, "i8"), np.full(n, bits, "u1")
    widths = layer_widths(stored, plan)
    used = used or widths.shape[1]
    missing = (stored - widths[:, :used].sum(axis=1)).astype("u1")
    rest = [missing, np.zeros(n, "i4"), np.full(n, (1 << bits) - 1, "i4")]
    rest += [np.full((n, channels), 1 / 255, "f4"), np.full((n, channels), 0.25, "f4")]
    chunks = []
    # 16 MiB of packed bytes are more than a core's share of any cache.
    for _ in range(max(2, (16 << 20) // PACKED_NBYTES)):
        codes = rng.integers(0, 1 << bits, n * VALUES).astype("u2")
        layers = []
        for values, width in zip(split_codes(codes, counts, widths), widths.T, strict=True):
            data = pack_values(values, counts, width) if packed else values.tobytes()
            layers.append(LayerData(data, packed))
        chunks.append([layers[:used], counts, np.ascontiguousarray(widths[:, :used]), *rest])
    return Case(name, chunks, bar, n * VALUES)


def cases():
    yield make_case("4 bits, default plan", 4, [4, 2], FAST_BAR)
    yield make_case("8 bits, default plan (4|2|2)", 8, [4, 2], FAST_BAR)
    yield make_case("8 bits, one layer", 8, [], FAST_BAR)
    yield make_case("8 bits, first layer of 4|2|2", 8, [4, 2], OTHER_BAR, used=1)
    yield make_case("4 bits, 3 channels", 4, [4, 2], OTHER_BAR, channels=3)
    yield make_case("8 bits, 3 channels", 8, [], OTHER_BAR, channels=3)
    for bits in (1, 2, 3, 5, 6, 7, *range(9, 17)):
        yield make_case(f"{bits} bits, one layer", bits, [], OTHER_BAR)
    for bits in (5, 6, 7, 10, 12, 16):
        yield make_case(f"{bits} bits, default plan", bits, [4, 2], OTHER_BAR)
    for bits in (2, 4, 8, 9, 12, 16):
        yield make_case(f"{bits} bits, whole values", bits, [], OTHER_BAR, packed=False)
    yield make_case("8 bits, whole values, 4|2|2", 8, [4, 2], OTHER_BAR, packed=False)


def seconds(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def by_turns(copy, decode):
    """Return the median seconds of both; each goes first every other round."""
    durations = ([], [])
    for number in range(ROUNDS):
        order = (0, 1) if number % 2 else (1, 0)
        for which in order:
            durations[which].append(seconds((copy, decode)[which], number))
    return statistics.median(durations[0]), statistics.median(durations[1])


def in_memory(case, source, target):
    """Preallocated output in memory that no cache holds."""
    slots = len(source) // case.count

    def place(number, step):
        at = (2 * number + step) % slots * case.count
        return slice(at, at + case.count)

    def copy(number):
        np.copyto(target[place(number, 0)], source[place(number, 0)])

    def decode(number):
        chunk = case.chunks[number % len(case.chunks)]
        dequantize_chunk(*chunk, out=target[place(number, 1)])

    return by_turns(copy, decode)


def in_fresh_memory(case, source):
    """New output each time, while that of the last calls is still in use."""
    slots = len(source) // case.count
    kept = deque(maxlen=max(2, (64 << 20) // (4 * case.count)))

    def copy(number):
        at = number % slots * case.count
        out = np.empty(case.count, "f4")
        np.copyto(out, source[at : at + case.count])
        kept.append(out)

    def decode(number):
        kept.append(dequantize_chunk(*case.chunks[number % len(case.chunks)]))

    return by_turns(copy, decode)


def in_cache(case, source, target):
    """The same buffers each time."""
    out, same = target[: case.count], source[: case.count]
    return by_turns(
        lambda _: np.copyto(out, same), lambda _: dequantize_chunk(*case.chunks[0], out=out)
    )


def test_chunks_to_float32():
    source = np.ones(POOL_NBYTES // 4, "f4")
    target = np.ones(POOL_NBYTES // 4, "f4")
    print(f"\n{kernels.dequantize_float32.__module__}")
    print(f"{'':30s} {'memory, out given':>19s} {'memory, fresh out':>19s} {'cache':>19s}  bar")
    print(f"{'':30s}" + f" {'ratio':>10s} {'GB/s':>8s}" * 3)
    for case in cases():
        row = f"{case.name:30s}"
        settings = (
            in_memory(case, source, target),
            in_fresh_memory(case, source),
            in_cache(case, source, target),
        )
        for copied_s, decoded_s in settings:
            row += f" {copied_s / decoded_s:10.2f} {4e-9 * case.count / decoded_s:8.1f}"
        below = any(copied_s / decoded_s < case.bar for copied_s, decoded_s in settings[:2])
        print(f"{row}  {case.bar}{'  below' if below else ''}")


def test_chunks_to_uint8():
    source = np.ones(POOL_NBYTES // 4, "f4")
    print("\nto uint8, against copying float32 (cache)")
    for bits, plan in ((4, [4, 2]), (8, [4, 2]), (8, []), (12, [])):
        case = make_case(f"{bits} bits, plan {plan}", bits, plan, 0)
        out, floats = np.empty(case.count, "u1"), np.empty(case.count, "f4")
        copied_s, decoded_s = by_turns(
            lambda _, f=floats, c=case: np.copyto(f, source[: c.count]),
            lambda _, o=out, c=case: dequantize_chunk_uint8(*c.chunks[0], out=o),
        )
        print(
            f"{case.name:30s} {copied_s / decoded_s:6.2f}  {case.count / decoded_s / 1e6:8.0f} M/s"
        )


def test_quantizing():
    pictures = np.random.default_rng(0).integers(0, 256, (1024, 32, 32, 3)).astype("u1")
    floats = pictures.astype("f4") / np.float32(255)
    print("\nquantizing 32x32x3, samples/s")
    for name, values in (("uint8", pictures), ("float32", floats)):
        for bits in (4, 8, 9):
            lsq_s = min(seconds(lsq.quantize, values, bits, UNIT) for _ in range(5))
            affine_s = min(seconds(affine.quantize, values, bits) for _ in range(5))
            print(
                f"{name:8s} {bits} bits: lsq {len(values) / lsq_s:9.0f}"
                f"  affine {len(values) / affine_s:9.0f}"
            )
