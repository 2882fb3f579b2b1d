"""Run the conformance vectors (format.md, section 19) through reference_decoder.py."""

from __future__ import annotations

import hashlib
import json
import re
import struct

from reference_decoder import decode_shard
from reference_schema import LETTERS, DecodeError


def number(x):
    """A number as JSON can hold it exactly: floats in hexadecimal notation (C99 %a)."""
    return x.hex() if isinstance(x, bytes | float) else x


def describe(shard):
    """What a vector's JSON states under `expected`, of one decoded shard; values as digests."""
    schema = shard["schema"]
    user = [column["name"] for column in schema["columns"]]
    fields = {}
    for field in schema["fields"]:
        samples = shard["fields"][field["name"]]
        stored = sum(name == field["name"] for name, _ in schema["order"])
        complete = stored == len(field["layers"]) + 1
        letter = "f" if field["quantizer"] != "raw" else LETTERS[field["dtype"]]
        values = [x for sample in samples for x in sample["values"]]
        packed = struct.pack(f"<{len(values)}{letter}", *values)
        facts = {"values_sha256": hashlib.sha256(packed).hexdigest()}
        facts["first_values"] = [number(x) for x in values[:4]]
        if field["dtype"] == "uint8":
            picture = bytes(x for sample in samples for x in sample["picture"])
            facts["picture_sha256"] = hashlib.sha256(picture).hexdigest()
        fields[field["name"]] = {
            "shape": [sample["shape"] for sample in samples],
            "mask": [sample["mask"] and sample["mask"].hex() for sample in samples],
            "codes": [sample["codes"] if complete else None for sample in samples],
            "layers": facts,
        } | {
            name.partition(".")[2]: [number(x) for x in column]
            for name, column in shard["columns"].items()
            if re.fullmatch(field["name"] + r"\.(bit_width|signed|scale|offset|qp)", name)
        }
        if field["quantizer"] == "patch":
            ids = [sample["group_ids"] for sample in samples]
            fields[field["name"]]["group_ids"] = ids
    return {
        "header": shard["header"],
        "schema": schema,
        "chunks": [
            {"sample_count": c["sample_count"], "segment_nbytes": list(c["segment_nbytes"])}
            for c in shard["chunks"]
        ],
        "columns": {name: [number(x) for x in shard["columns"].get(name, [])] for name in user},
        "fields": fields,
        "keys": shard["keys"],
    }


def check_valid(data, expected):
    """Section 19: what differs between a valid vector and its JSON; empty if nothing does."""
    depth = max(len(field["layers"]) for field in expected["fields"].values())
    for layers in range(1, depth + 1):
        actual = describe(decode_shard(data, layers))
        for name, field in expected["fields"].items():
            reached = str(min(layers, len(field["layers"])))
            facts = actual["fields"][name].pop("layers")
            if facts != field["layers"][reached]:
                return f"field {name} at {layers} layers: got {facts}"
    for name, field in expected["fields"].items():
        actual["fields"][name]["layers"] = field["layers"]  # compared above
    for part, wanted in expected.items():
        if actual[part] != wanted:
            return f"{part}: got {actual[part]}, expected {wanted}"
    return ""


def check_invalid(data, kind):
    """Section 19: what the decoder said instead of rejecting the vector with the stated kind."""
    try:
        decode_shard(data)
    except DecodeError as error:
        actual = type(error).__name__.lower()
        return "" if actual == kind else f"{actual} ({error}), expected {kind}"
    return f"decoded, expected {kind}"


def run_vectors(directory):
    """Section 19: print one line for each vector; return how many fail."""
    failures = 0
    for path in sorted(directory.glob("v1/*/*.json")):
        facts, data = json.loads(path.read_text()), path.with_suffix(".dsq").read_bytes()
        if path.parent.name == "valid":
            wrong = check_valid(data, facts["expected"])
        else:
            wrong = check_invalid(data, facts["error"])
        failures += bool(wrong)
        print(f"{'FAIL' if wrong else 'pass'} {path.parent.name}/{path.stem} {wrong}".rstrip())
    return failures
