"""A few bytes may claim very much: refused before anything is allocated, or bounded (spec 15)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from claims import claim, groups_of, model_of
from dsqformat.chunk import decode_chunk
from dsqformat.coding.block import BlockModel
from dsqformat.coding.block.layout import CONTEXTS
from dsqformat.coding.block.model import FLAT
from dsqformat.coding.block.tables import build
from dsqformat.coding.streams import pack_lengths
from dsqformat.schema import UNIT, Field, Schema

SUPPORT = Path(__file__).parents[1] / "support"
SOAK = os.environ.get("DSQ_SOAK") == "1"
STREAM = b"\x02" + pack_lengths(4096, np.array([4])) + bytes(4)
NO_BYTES = b"\x02" + pack_lengths(4096, np.array([0]))
# RFC 8878: a frame that states 2^28 bytes (single segment, 4 bytes of size), then one RLE block.
RLE_FRAME = bytes.fromhex("28b52ffd") + b"\xa0" + (1 << 28).to_bytes(4, "little") + b"\3\0\0\0"
ZSTD = b"\x01" + (1).to_bytes(4, "little") + len(RLE_FRAME).to_bytes(4, "little") + RLE_FRAME


def block_field(channels=1):
    return Field("x", "uint8", (None, None, channels), "block")


def field_of(quantizer, patch=None, dims=3):
    shape = (None,) * (dims - 1) + (3,) if dims == 3 else (None,) * dims
    domain = UNIT if quantizer == "lsq" else None
    return Field("x", "uint8", shape, quantizer, domain=domain, patch=patch)


def expecting_nothing(channels=1, smallest=0):
    """A model of blocks whose likeliest symbol is everywhere that of a flat picture."""
    tables = build(np.zeros(CONTEXTS, "u1"), np.zeros(CONTEXTS, "?"), ((40,),))
    offsets, none = (2048,) * channels, ((0,) * 7,)
    return BlockModel(channels, False, smallest, 3, offsets, FLAT, none, (tables,))


WHOLE = (1 << 14, 1 << 14)  # 2^28
THIRD = (1 << 14, 5461)  # of 2^28, a little less
REFUSED = {
    "block: a chunk of 2^28 + 2^24 values": lambda: claim(
        block_field(), [(4096, 4096)] * 17, [NO_BYTES], model=expecting_nothing()
    ),
    "block: a sample of 17 * 2^24 values": lambda: claim(
        block_field(17), [(4096, 4096)], [NO_BYTES], model=expecting_nothing(17)
    ),
    "block: a side of 4097": lambda: claim(
        block_field(), [(1, 4097)], [NO_BYTES], model=expecting_nothing()
    ),
    "rans: a row of 2^24 values": lambda: claim(
        Field("x", "uint8", (None, None), "affine"),
        [(1, 1 << 24)],
        [b"\x02" + pack_lengths(4096, np.array([600])) + bytes(600)],
        model=model_of(8, 1),
    ),
    "block: streams that are not there": lambda: claim(
        block_field(), [(4096, 4096)] * 16, [b"\x02" + pack_lengths(1, np.array([1 << 20] * 16))],
        model=expecting_nothing(),
    ),
    "rans: 2^28 values in 11 bytes": lambda: claim(
        field_of("affine", dims=2), [WHOLE], [STREAM], model=model_of(8, 1)
    ),
    "rans: 2^28 values in 4096 samples": lambda: claim(
        field_of("lsq"), [(256, 85)] * 4096, [STREAM], model=model_of(8, 3)
    ),
    "rans: 2^28 values in coding 2 without a model": lambda: claim(
        field_of("affine", dims=2), [WHOLE], [STREAM]
    ),
    "packed: 2^28 values in 4 bytes": lambda: claim(
        field_of("affine"), [THIRD], [b"\0\1\2\3"], width=16
    ),
    "zstd: a frame of 13 bytes that states 2^28": lambda: claim(
        field_of("affine", dims=2), [WHOLE], [ZSTD]
    ),
    "raw: 2^28 bytes in zstd": lambda: claim(field_of("raw", dims=2), [WHOLE], [ZSTD]),
    "patch: 2^28 codes": lambda: claim(
        field_of("patch", patch=5), [THIRD], [len(STREAM).to_bytes(4, "little") + STREAM * 2],
        model=groups_of(4, 2), width=2,
    ),
    "patch: group ids of patches of one pixel": lambda: claim(
        field_of("patch", patch=1), [THIRD], [len(STREAM).to_bytes(4, "little") + STREAM * 2],
        model=groups_of(65536, 2), width=2,
    ),
    "masks: one of one patch, one of 2^28 patches that are all there": lambda: claim(
        field_of("raw", patch=1, dims=2), [(1, 1), (1 << 14, (1 << 14) - 1)], [b""],
        masks=[b"\1", b""],
    ),
    "masks: 4096 of 2^28 patches without channels": lambda: claim(
        field_of("raw", patch=1, dims=4), [(1, 1, 0, 1), *[(1 << 14, 1 << 14, 0, 1)] * 4095], [b""],
        masks=[b"\1", *[b""] * 4095],
    ),
    "masks: a patch quantizer without channels": lambda: claim(
        Field("x", "uint8", (None, None, None), "patch", patch=1),
        [(1, 1, 1), *[(1 << 14, 1 << 14, 0)] * 4095], [b""], masks=[b"\1", *[b""] * 4095],
        model=groups_of(1, 2), width=2,
    ),
    "rans: all of 2^28 pixels is left out in one byte but of one sample": lambda: claim(
        field_of("affine", patch=1 << 14, dims=2), [WHOLE, (1, 1)], [STREAM],
        masks=[b"\0", b"\1"], model=model_of(8, 1),
    ),
    "dimensions whose product leaves 64 bits": lambda: claim(
        Field("x", "uint8", (None,) * 8, "affine"), [(1 << 28,) * 8], [b"\0"]
    ),
    "dimensions of 2^28 beside one of 0": lambda: claim(
        Field("x", "uint8", (None,) * 3, "affine"), [(1 << 28, 1 << 28, 0)], [b""]
    ),
}  # fmt: skip
ACCEPTED = {
    # Values as float32 take 4 bytes each; the work of a whole chunk is another row or two.
    "block: one picture of 4096x4096 in no bytes": (
        lambda: claim(block_field(), [(4096, 4096)], [NO_BYTES], model=expecting_nothing()), 96,
    ),
    "block: the widest rows of 64 channels": (
        lambda: claim(block_field(64), [(1, 4096)], [NO_BYTES], model=expecting_nothing(64)), 320,
    ),
    "masks: all of 4096x4096 left out in one byte": (
        lambda: claim(
            field_of("raw", patch=4096, dims=2), [(4096, 4096)], [b""], masks=[b"\0"]
        ),
        96,
    ),
    "rans: 32768 values for each byte": (
        lambda: claim(
            field_of("affine", dims=2), [(512, 448)], [NO_BYTES], model=model_of(8, 1)
        ),
        32,
    ),
    # One side is 0, so that the other may be 2^27 long: nothing is as large as that.
    "masks: 2^27 columns and no row": (
        lambda: claim(
            field_of("raw", patch=1, dims=2), [(1, 1), (0, 1 << 27), (1 << 26, 0)], [b""],
            masks=[b"\0", b"", b""],
        ),
        32,
    ),
    "masks: 2^27 columns and no row of quantizer patch": (
        lambda: claim(
            Field("x", "uint8", (None, None), "patch", patch=1),
            [(1, 1), (0, 1 << 27), (1 << 26, 0)], [b""], masks=[b"\0", b"", b""],
            model=groups_of(1, 2), width=2,
        ),
        32,
    ),
    # The rows around a value, as wide as the widest sample, in one stream only.
    "rans: one row of 2^20 values among short ones": (
        lambda: claim(
            field_of("affine", dims=2), [(1, 1), (1, 1), (1, 1), (1, 1 << 20)],
            [b"\x02" + pack_lengths(1, np.array([0, 0, 0, 258])) + bytes(258)],
            model=model_of(8, 1),
        ),
        64,
    ),
}  # fmt: skip


def decode_apart(claims, folder, memory_mib, **env):
    """Decode claims in a process that may allocate so much."""
    path = folder / "claims.json"
    parts = {name: [part.hex() for part in make()] for name, make in claims.items()}
    path.write_text(json.dumps(parts))
    done = subprocess.run(
        [sys.executable, "-W", "error", SUPPORT / "claims.py", path, f"--memory-mib={memory_mib}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **env},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    return decode_apart(REFUSED, tmp_path_factory.mktemp("refused"), 48)


@pytest.fixture(scope="module")
def accepted(tmp_path_factory):
    claims = {name: make for name, (make, _) in ACCEPTED.items()}
    return decode_apart(claims, tmp_path_factory.mktemp("accepted"), 1024)


@pytest.mark.parametrize("name", REFUSED)
def test_claims_are_refused_before_allocation(refused, name):
    assert refused[name]["result"].startswith("CorruptShardError"), refused[name]
    assert refused[name]["mib"] < 40


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_costs_no_bytes_is_bounded_by_its_values(accepted, name):
    assert accepted[name]["result"] == "accepted"
    assert accepted[name]["mib"] < ACCEPTED[name][1]


@pytest.mark.skipif(not SOAK, reason="takes a minute; DSQ_SOAK=1 runs it")
def test_the_most_values_of_a_chunk_decode(tmp_path):
    def make():
        return claim(block_field(), [(4096, 4096)] * 16, [NO_BYTES], model=expecting_nothing())

    used = decode_apart({"most": make}, tmp_path, 2048)["most"]
    assert used["result"] == "accepted"
    assert used["mib"] < 600


def test_rows_without_channels_take_no_room_without_kernels(tmp_path):
    def make():
        field = Field("x", "float32", (None, None, None), "patch", patch=2)
        shapes = [(1 << 26, 1, 0), (1, 1 << 26, 0)]
        return claim(field, shapes, [b""], masks=[b"", b""], model=groups_of(1, 2), width=2)

    used = decode_apart({"rows": make}, tmp_path, 256, DSQ_KERNELS="plain")["rows"]
    assert used["result"] == "accepted"
    assert used["mib"] < 40


def test_4096_flat_pictures_come_from_a_few_bytes():
    field, model = block_field(3), expecting_nothing(3)
    parts = claim(field, [(32, 32)] * 4096, [NO_BYTES], model=model)
    assert sum(map(len, parts[2:])) < 200
    schema = Schema((field,), (), (("x", 0),))
    chunk = decode_chunk(schema, 4096, parts[4:], output="source", models={"x": model})
    assert chunk.fields["x"].shape == (4096, 32, 32, 3)
    assert (chunk.fields["x"] == 128).all()


def test_masks_of_samples_without_channels_decode():
    field = Field("x", "uint8", (None, None, None), "raw", patch=1)
    parts = claim(field, [(2, 2, 0), (1, 2, 0)], [b""], masks=[b"\5", b""])
    chunk = decode_chunk(Schema((field,), (), (("x", 0),)), 2, parts[4:], output="source")
    assert [sample.shape for sample in chunk.fields["x"]] == [(2, 2, 0), (1, 2, 0)]
    assert [mask.tolist() for mask in chunk.masks["x"]] == [
        [[True, False], [True, False]],
        [[True, True]],
    ]
