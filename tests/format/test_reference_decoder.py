"""The plain decoder of the specification against the conformance vectors, and against damage."""

import functools
import json
import random
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from reseal import damaged_shards, reseal

SPEC = Path(__file__).resolve().parents[2] / "spec"
VECTORS = SPEC / "vectors"
sys.path.insert(0, str(SPEC))  # the files of spec/ import each other by their plain names

import reference_decoder  # noqa: E402
import reference_vectors  # noqa: E402
from reference_schema import Corrupt, DecodeError, Truncated, Unsupported  # noqa: E402

sys.path.remove(str(SPEC))

KINDS = {"corrupt": Corrupt, "truncated": Truncated, "unsupported": Unsupported}
VALID = sorted(path.stem for path in VECTORS.glob("v1/valid/*.dsq"))
INVALID = sorted(path.stem for path in VECTORS.glob("v1/invalid/*.dsq"))


@functools.cache
def vector(kind: str, name: str) -> tuple[bytes, dict]:
    path = VECTORS / "v1" / kind / name
    facts = json.loads(path.with_suffix(".json").read_text("utf-8"))
    return path.with_suffix(".dsq").read_bytes(), facts


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_there_are_vectors() -> None:
    assert len(VALID) >= 25
    assert len(INVALID) >= 200


@pytest.mark.parametrize("name", VALID)
def test_decodes_valid_vector(name: str) -> None:
    data, facts = vector("valid", name)
    assert reference_vectors.check_valid(data, facts["expected"]) == ""


@pytest.mark.parametrize("name", INVALID)
def test_rejects_invalid_vector_for_the_stated_reason(name: str) -> None:
    data, facts = vector("invalid", name)
    with pytest.raises(KINDS[facts["error"]]) as caught:
        reference_decoder.decode_shard(data)
    assert str(caught.value).startswith(f"section {facts['section']}: ")


def test_a_wrong_expectation_is_noticed() -> None:
    data, facts = vector("valid", "worked_example")
    for change in (
        lambda e: e["fields"]["x"]["codes"][0].reverse(),
        lambda e: e["fields"]["x"]["layers"]["1"].update(values_sha256="0" * 64),
        lambda e: e["fields"]["x"].update(scale=["0x1.0p+0"]),
        lambda e: e.update(keys=[]),
    ):
        expected = json.loads(json.dumps(facts["expected"]))
        change(expected)
        assert reference_vectors.check_valid(data, expected) != ""


@pytest.mark.parametrize(
    "name",
    ["worked_example", "chunks_and_keys", "mask_normalized", "patch_constant", "block_by_hand"],
)
def test_every_proper_prefix_is_truncated(name: str) -> None:
    data, _ = vector("valid", name)
    for nbytes in range(len(data)):
        with pytest.raises(Truncated):
            reference_decoder.decode_shard(data[:nbytes])


@pytest.mark.parametrize(
    "name",
    ["worked_example", "raw_one_sample", "zstd_rle_frame", "patch_constant", "block_by_hand"],
)
def test_no_single_bit_flip_passes(name: str) -> None:
    data, _ = vector("valid", name)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DecodeError):
            reference_decoder.decode_shard(bytes(damaged))


def test_declared_sizes_allocate_nothing() -> None:
    """Whatever the invalid vectors declare, the memory used stays near their own size."""
    reference_decoder.decode_shard(vector("valid", "zstd_compressed")[0])
    for name in INVALID:
        data, _ = vector("invalid", name)
        tracemalloc.start()
        with pytest.raises(DecodeError):
            reference_decoder.decode_shard(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 << 20, name


def test_layers_are_counted_from_one() -> None:
    data, _ = vector("valid", "worked_example")
    with pytest.raises(ValueError, match="at least 1"):
        reference_decoder.decode_shard(data, 0)
    assert reference_decoder.decode_shard(data, 9) == reference_decoder.decode_shard(data)


@pytest.mark.parametrize("seed", range(20))
def test_rounding_is_that_of_binary32(seed: int) -> None:
    """A sum or product in binary64, rounded once more, is the correctly rounded one."""
    numpy = pytest.importorskip("numpy")
    source = random.Random(seed)

    def binary32() -> float:
        while True:
            (x,) = struct.unpack("<f", source.randbytes(4))
            if x - x == 0:
                return x

    for _ in range(500):
        a, b = binary32(), binary32()
        with numpy.errstate(all="ignore"):
            product = float(numpy.float32(a) * numpy.float32(b))
            total = float(numpy.float32(a) + numpy.float32(b))
        assert reference_decoder.fl(a * b) == product
        assert reference_decoder.fl(a + b) == total


def test_worked_example_of_blocks_is_that_of_the_text() -> None:
    data, _ = vector("valid", "block_by_hand")
    text = (SPEC / "format.md").read_text("utf-8").partition("### 18.5 ")[2].partition("\n## ")[0]
    for digits in ("01 00 00 01", "00 08", "B8 00 BA 10", "FE 0F"):
        assert f"`{digits}`" in text
    model = bytes.fromhex("01 00 00 01 00 08") + bytes(7) + bytes.fromhex("B8 00 BA 10")
    assert model in data
    assert data.endswith(bytes.fromhex("02 01 00 02 00 00 00 00 FE 0F"))
    (sample,) = reference_decoder.decode_shard(data)["fields"]["x"]
    assert sample["picture"] == [126] * 16


def test_command_line_prints_a_summary() -> None:
    path = VECTORS / "v1" / "valid" / "worked_example.dsq"
    decoder = SPEC / "reference_decoder.py"
    summary = json.loads(run(decoder, path, "--layers", 1).stdout)
    assert summary["fields"]["x"]["layers"]["first_values"] == [
        x.hex() for x in (17.75, -0.25, 29.75)
    ]
    failed = run(decoder, path.parents[1] / "invalid" / "version_major.dsq")
    assert failed.returncode == 1
    assert "unsupported: section 16: version_major 2" in failed.stderr


def test_command_line_runs_the_vectors() -> None:
    result = run(SPEC / "reference_decoder.py", "--vectors", VECTORS)
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert len(lines) == len(VALID) + len(INVALID)
    assert all(line.startswith("pass ") for line in lines)


def test_committed_vectors_and_worked_example_are_those_of_the_generator() -> None:
    result = run(VECTORS / "generate.py", "--check")
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)


def test_decoder_needs_nothing_but_the_standard_library() -> None:
    result = run("-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(SPEC)!r}); "
                 "import reference_vectors, sys; print('numpy' in sys.modules)")  # fmt: skip
    assert (result.stdout.strip(), result.stderr) == ("False", "")


# zstd_head is left out: its head is compressed; zstd_rle_frame and several_blocks are slow.
DAMAGED = [name for name in VALID if name not in ("zstd_head", "zstd_rle_frame", "several_blocks")]


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_behind_right_checksums_is_a_typed_error_or_decodes(name: str) -> None:
    data, _ = vector("valid", name)
    assert reseal(data) == data
    outcomes = set()
    for damaged in damaged_shards(data, 60, seed=len(data)):
        try:
            reference_decoder.decode_shard(damaged)
            outcomes.add("decoded")
        except DecodeError:
            outcomes.add("refused")
    assert "refused" in outcomes
