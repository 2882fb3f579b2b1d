"""The library and the plain decoder of the specification agree on damaged shards."""

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsqformat.bytesource import LocalSource
from dsqformat.errors import DsqError
from dsqformat.shard import ShardReader
from reseal import damaged_shards

SPEC = Path(__file__).resolve().parents[2] / "spec"
sys.path.insert(0, str(SPEC))  # the files of spec/ import each other by their plain names

from reference_decoder import decode_shard  # noqa: E402
from reference_schema import LETTERS, DecodeError  # noqa: E402

sys.path.remove(str(SPEC))

# Not here: a compressed head (reseal cannot mend it), large samples (slow), damage within zstd
# frames (libzstd accepts some that RFC 8878 calls corrupted), and signalling NaN (Python floats
# turn it quiet).
LEFT_OUT = ("zstd_head", "zstd_compressed", "zstd_rle_frame", "several_blocks", "raw_dtypes")
NAMES = sorted(
    path.stem
    for path in (SPEC / "vectors" / "v1" / "valid").glob("*.dsq")
    if path.stem not in LEFT_OUT
)


def by_reference(data: bytes) -> dict[str, Any] | None:
    """Bytes of the values of each field, and keys; None if refused."""
    try:
        shard = decode_shard(data)
    except DecodeError:
        return None
    found: dict[str, Any] = {"keys": shard["keys"] or []}
    for field in shard["schema"]["fields"]:
        letter = LETTERS[field["dtype"]] if field["quantizer"] == "raw" else "f"
        values = [x for sample in shard["fields"][field["name"]] for x in sample["values"]]
        found[field["name"]] = struct.pack(f"<{len(values)}{letter}", *values)
    return found


def by_library(path: Path, verify_shard: Callable[[Path], object]) -> dict[str, Any] | None:
    try:
        verify_shard(path)
        reader = ShardReader(LocalSource(path.parent), path.name)
        found: dict[str, Any] = {"keys": []} | {f.name: b"" for f in reader.schema.fields}
        for chunk in range(len(reader.chunks)):
            found["keys"] += reader.read_keys(chunk)
            for name, samples in reader.read_chunk(chunk).fields.items():
                for sample in samples:
                    flat = np.ascontiguousarray(sample)
                    found[name] += flat.astype(flat.dtype.newbyteorder("<")).tobytes()
    except DsqError:
        return None
    return found


@pytest.mark.parametrize("name", NAMES)
def test_library_and_reference_agree_on_damaged_shards(name: str, tmp_path: Path) -> None:
    verify_shard = pytest.importorskip("dsqformat.verify").verify_shard
    data = (SPEC / "vectors" / "v1" / "valid" / f"{name}.dsq").read_bytes()
    path = tmp_path / "damaged.dsq"
    refused = 0
    for damaged in damaged_shards(data, 100, seed=len(data)):
        path.write_bytes(damaged)
        expected = by_reference(damaged)
        assert by_library(path, verify_shard) == expected
        refused += expected is None
    assert refused
