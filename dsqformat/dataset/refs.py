"""dataset.json: names of refs and the snapshot each points to, the only file that changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from dsqformat import wire
from dsqformat.bytesource import ByteSource
from dsqformat.canonical import canonical_json, is_version, parse_canonical_json
from dsqformat.errors import CorruptShardError, DatasetError, UnsupportedFeatureError

MAX_REFS_NBYTES: Final = 1 << 20
REF_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def parse_refs(data: bytes) -> dict[str, str]:
    """Parse dataset.json: names of refs and the snapshot each points to.

    Raises:
        DatasetError: this is not a dataset.json.
        UnsupportedFeatureError: of a newer version.
    """
    try:
        value = parse_canonical_json(data, limit=MAX_REFS_NBYTES, what=wire.DATASET_FILE)
    except CorruptShardError as error:
        raise DatasetError(str(error)) from error
    if not isinstance(value, dict) or value.get("format") != "dsq-dataset":
        raise DatasetError(f"{wire.DATASET_FILE}: format is not dsq-dataset")
    if not is_version(value.get("version"), 1):
        raise UnsupportedFeatureError(
            f"{wire.DATASET_FILE}: version {value.get('version')!r:.20}, this reader knows 1"
        )
    refs = value.get("refs")
    if set(value) != {"format", "refs", "version"} or not isinstance(refs, dict):
        raise DatasetError(f"{wire.DATASET_FILE}: expected members format, refs, version")
    for name, sid in refs.items():
        if not REF_NAME.fullmatch(name) or not (isinstance(sid, str) and DIGEST.fullmatch(sid)):
            raise DatasetError(f"{wire.DATASET_FILE}: ref {name[:64]!r} is not sound")
    return refs


def encode_refs(refs: Mapping[str, str]) -> bytes:
    """Return dataset.json."""
    for name in refs:
        if not REF_NAME.fullmatch(name):
            raise ValueError(f"ref {name!r}: expected letters, digits, '.', '_', '-', at most 64")
    return canonical_json({"format": "dsq-dataset", "refs": dict(refs), "version": 1})


def read_refs(source: ByteSource) -> dict[str, str]:
    """Read and parse dataset.json.

    Raises:
        DatasetError: there is none, or it is not sound.
    """
    try:
        return parse_refs(source.read(wire.DATASET_FILE))
    except FileNotFoundError as error:
        raise DatasetError(
            f"{source.location}: no dataset here: {wire.DATASET_FILE} is missing"
        ) from error
