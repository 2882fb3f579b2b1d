"""The conformance vectors of the specification through the library (spec 19)."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsqformat.bytesource import LocalSource
from dsqformat.chunk.index import FieldIndex, parse_index
from dsqformat.chunk.layer_decoding import parse_layers
from dsqformat.chunk.models import PatchModel
from dsqformat.chunk.patches import decode_codes
from dsqformat.coding.dequant import codes_of_chunk
from dsqformat.dataset.verify import verify_file
from dsqformat.errors import (
    CorruptShardError,
    DsqError,
    TruncatedShardError,
    UnsupportedFeatureError,
)
from dsqformat.schema_json import schema_to_json
from dsqformat.shard import ShardReader

VECTORS = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "v1"
VALID = sorted(path.stem for path in VECTORS.glob("valid/*.dsq"))
INVALID = sorted(path.stem for path in VECTORS.glob("invalid/*.dsq"))
# A reader need not see these: digests beside sound block checksums, zones, keys of other chunks.
FOR_VERIFY = {
    "segment_digest",
    "keys_duplicate",
    "keys_of_no_chunks",
    "zone_minimum",
    "zone_maximum",
    "zone_swapped",
    "zone_nan",
}
ERRORS: dict[str, type[DsqError]] = {
    "corrupt": CorruptShardError,
    "truncated": TruncatedShardError,
    "unsupported": UnsupportedFeatureError,
}


def facts_of(kind: str, name: str) -> dict[str, Any]:
    return json.loads((VECTORS / kind / f"{name}.json").read_text("utf-8"))


def reader_of(kind: str, name: str) -> ShardReader:
    return ShardReader(LocalSource(VECTORS / kind), f"{name}.dsq")


def plain(value: Any) -> Any:
    """A value as the JSON beside a vector has it."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return value.hex() if isinstance(value, float | bytes) else value


def values_of(reader: ShardReader, name: str, layers: int, output: str) -> np.ndarray:
    """All values of a field over all samples of a shard, flat."""
    parts = []
    for chunk in range(len(reader.chunks)):
        decoded = reader.read_chunk(chunk, layers=layers, fields=[name], output=output)
        parts += [np.ravel(sample) for sample in decoded.fields[name]]
    return np.concatenate(parts) if parts else np.empty(0, "f4")


def little_endian_digest(values: np.ndarray) -> str:
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return hashlib.sha256(data).hexdigest()


def test_there_are_vectors() -> None:
    assert len(VALID) >= 25
    assert len(INVALID) >= 200


@pytest.mark.parametrize("name", VALID)
def test_head_and_columns(name: str) -> None:
    expected = facts_of("valid", name)["expected"]
    reader = reader_of("valid", name)
    header = reader.head.header
    assert {member: getattr(header, member) for member in expected["header"]} == expected["header"]
    assert schema_to_json(reader.schema) == expected["schema"]
    chunks = [
        {"sample_count": int(n), "segment_nbytes": sizes.tolist()}
        for n, sizes in zip(reader.chunks.sample_count, reader.chunks.segment_nbytes, strict=True)
    ]
    assert chunks == expected["chunks"]
    columns: dict[str, list[Any]] = {column.name: [] for column in reader.schema.columns}
    keys: list[str] = []
    for chunk in range(len(reader.chunks)):
        for column, values in reader.read_chunk(chunk).columns.items():
            columns[column] += plain(values)
        keys += reader.read_keys(chunk)
    assert columns == expected["columns"]
    assert (keys if reader.has_keys else None) == expected["keys"]


@pytest.mark.parametrize("name", VALID)
def test_values_of_every_number_of_layers(name: str) -> None:
    reader = reader_of("valid", name)
    for field, facts in facts_of("valid", name)["expected"]["fields"].items():
        for layers, expected in facts["layers"].items():
            values = values_of(reader, field, int(layers), "float32")
            if values.size or len(reader.chunks):
                assert little_endian_digest(values) == expected["values_sha256"], (field, layers)
            assert plain(values[:4]) == expected["first_values"]
            if "picture_sha256" in expected:
                picture = values_of(reader, field, int(layers), "source").astype("u1")
                assert little_endian_digest(picture) == expected["picture_sha256"], (field, layers)


@pytest.mark.parametrize("name", VALID)
def test_codes_shapes_and_parameters(name: str) -> None:
    reader = reader_of("valid", name)
    for field, expected in facts_of("valid", name)["expected"]["fields"].items():
        found: dict[str, list[Any]] = {
            member: [] for member in expected if member not in ("layers", "mask")
        }
        for chunk in range(len(reader.chunks)):
            for member, values in index_and_codes(reader, chunk, field).items():
                found[member] += plain(values)
        for member, values in found.items():
            assert values == expected[member], (field, member)


def index_and_codes(reader: ShardReader, chunk: int, name: str) -> dict[str, Any]:
    """Parameters of a field in one chunk, as the index says, its codes and group ids."""
    segments = reader.read_segments(chunk)
    count = int(reader.chunks.sample_count[chunk])
    index = parse_index(reader.schema, segments[0], count, "index").fields[name]
    found = {"shape": index.shape, "codes": [None] * count}
    if index.field.quantizer in ("raw", "block"):
        return found | parameters_of(index)
    own = [
        segments[reader.schema.segment_of[name, layer]]
        for layer in range(index.field.layer_count)
        if (name, layer) in reader.schema.segment_of
    ]
    model = reader.head.models.get(name)
    if isinstance(model, PatchModel):
        codes, _, ids = decode_codes(index, own, model)
        found["group_ids"] = np.split(ids, np.cumsum(id_counts(index))[:-1])
    elif len(own) == index.field.layer_count:
        layers, widths = parse_layers(index, own, model)
        none_missing = np.zeros(count, "u1")
        codes = codes_of_chunk(layers, index.value_count, widths, none_missing, index.max_code)
    if len(own) == index.field.layer_count:
        found["codes"] = np.split(codes, np.cumsum(index.value_count)[:-1])
    return found | parameters_of(index)


def id_counts(index: FieldIndex) -> list[int]:
    """Group ids of each sample (spec 9.4)."""
    patch, counts = index.field.patch or 1, []
    for row, shape in enumerate(index.shape.tolist()):
        kept = math.prod(math.ceil(side / patch) for side in shape[:2])
        if index.mask:
            kept = int(index.mask[row].sum())
        counts.append(kept if math.prod(shape) else 0)
    return counts


def parameters_of(index: FieldIndex) -> dict[str, Any]:
    """The columns of the quantizer."""
    names = {
        "lsq": ("bit_width", "signed", "scale"),
        "affine": ("bit_width", "scale", "offset"),
        "patch": ("bit_width",),
        "block": ("qp",),
    }
    return {name: getattr(index, name) for name in names.get(index.field.quantizer, ())}


def read_everything(reader: ShardReader) -> None:
    for chunk in range(len(reader.chunks)):
        reader.read_chunk(chunk)
        reader.read_keys(chunk)


@pytest.mark.parametrize("name", sorted(set(INVALID) - FOR_VERIFY))
def test_reader_rejects_invalid_vector_with_the_stated_kind(name: str) -> None:
    error = ERRORS[facts_of("invalid", name)["error"]]
    with pytest.raises(error, match=rf"{name}\.dsq: "):
        read_everything(reader_of("invalid", name))


@pytest.mark.parametrize("name", VALID)
def test_verify_accepts_valid_vector(name: str) -> None:
    report = verify_file(LocalSource(VECTORS / "valid"), f"{name}.dsq")
    assert report.problems == []


@pytest.mark.parametrize("name", INVALID)
def test_verify_finds_the_fault_of_an_invalid_vector(name: str) -> None:
    report = verify_file(LocalSource(VECTORS / "invalid"), f"{name}.dsq")
    assert report.problems
