"""The library and the plain decoder of the specification agree, on damaged shards too."""

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsqformat.bytesource import LocalSource
from dsqformat.dataset.verify import verify_file
from dsqformat.shard import ShardReader
from reseal import damaged_shards
from strategies import Made, made_datasets, picture_datasets
from writing import shard_paths, write_made

SPEC = Path(__file__).resolve().parents[2] / "spec"
sys.path.insert(0, str(SPEC))  # the files of spec/ import each other by their plain names

from reference_decoder import decode_shard  # noqa: E402
from reference_schema import LETTERS, DecodeError  # noqa: E402

sys.path.remove(str(SPEC))

# Not here: a compressed head (reseal cannot mend it), large samples (slow), and damage within
# zstd frames: libzstd accepts some frames that RFC 8878 calls corrupted.
LEFT_OUT = ("zstd_head", "zstd_compressed", "zstd_rle_frame", "several_blocks")
NAMES = sorted(
    path.stem
    for path in (SPEC / "vectors" / "v1" / "valid").glob("*.dsq")
    if path.stem not in LEFT_OUT
)


def quiet(values: np.ndarray) -> bytes:
    """The bytes of an array; Python floats, of the reference, have turned NaN quiet."""
    values = np.array(values).astype(values.dtype.newbyteorder("<"))
    if values.dtype.kind == "f":
        values[np.isnan(values)] = np.nan
    return values.tobytes()


def by_reference(data: bytes, layers: int | None = None) -> dict[str, Any] | None:
    """Bytes of the values of each field, and keys; None if refused."""
    try:
        shard = decode_shard(data, layers)
    except DecodeError:
        return None
    found: dict[str, Any] = {"keys": shard["keys"] or []}
    for field in shard["schema"]["fields"]:
        letter = LETTERS[field["dtype"]] if field["quantizer"] == "raw" else "f"
        values = [x for sample in shard["fields"][field["name"]] for x in sample["values"]]
        packed = struct.pack(f"<{len(values)}{letter}", *values)
        found[field["name"]] = quiet(np.frombuffer(packed, "<" + letter))
    return found


def by_library(path: Path, layers: int | None = None) -> dict[str, Any]:
    reader = ShardReader(LocalSource(path.parent), path.name)
    found: dict[str, Any] = {"keys": []} | {f.name: b"" for f in reader.schema.fields}
    for chunk in range(len(reader.chunks)):
        found["keys"] += reader.read_keys(chunk)
        for name, samples in reader.read_chunk(chunk, layers=layers).fields.items():
            found[name] += b"".join(quiet(np.asarray(sample)) for sample in samples)
    return found


@given(made=made_datasets(), coding=st.sampled_from(["packed", "zstd", "rans"]))
def test_reference_decodes_what_the_library_writes(
    made: Made, coding: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        # Else only large datasets have models.
        patch.setattr("dsqformat.writer.encoding.MAX_MODEL_SHARE", 1e9)
        write_made(path, made, coding=coding, chunk_nbytes=4096)
    for shard in shard_paths(path):
        data = shard.read_bytes()
        for layers in (1, 2, None):
            assert by_reference(data, layers) == by_library(shard, layers)


@given(made=picture_datasets(max_samples=4), coding=st.sampled_from(["packed", "zstd", "rans"]))
def test_reference_decodes_blocks_and_patches(
    made: Made, coding: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("written")
    write_made(path, made, coding=coding, chunk_nbytes=1024)
    for shard in shard_paths(path):
        data = shard.read_bytes()
        for layers in (1, 2, None):
            assert by_reference(data, layers) == by_library(shard, layers)


@pytest.mark.parametrize("name", NAMES)
def test_library_and_reference_agree_on_damaged_shards(name: str, tmp_path: Path) -> None:
    data = (SPEC / "vectors" / "v1" / "valid" / f"{name}.dsq").read_bytes()
    path = tmp_path / "damaged.dsq"
    refused = 0
    for damaged in damaged_shards(data, 100, seed=len(data)):
        path.write_bytes(damaged)
        expected = by_reference(damaged)
        sound = verify_file(LocalSource(tmp_path), path.name).ok
        assert (by_library(path) if sound else None) == expected
        refused += expected is None
    assert refused
