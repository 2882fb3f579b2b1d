"""Schema of a DSQ shard for reference_decoder.py: canonical JSON, section 6, and the error kinds.

Written from format.md alone, standard library only; each function names its section.
"""

from __future__ import annotations

import json
import math
import re
import struct

# Sections 6 and 8: the struct letter of each fixed type; every integer and float is little-endian.
LETTERS = {
    "uint8": "B", "int8": "b", "uint16": "H", "int16": "h", "int32": "i", "int64": "q",
    "float16": "e", "float32": "f", "float64": "d",
}  # fmt: skip
COLUMN_TYPES = ("int64", "float32", "float64", "utf8", "bytes")


class DecodeError(Exception):
    """Any failure of this reader; the message begins with the section that was broken."""


class Corrupt(DecodeError):
    """The bytes contradict format.md or a checksum."""


class Truncated(DecodeError):
    """The file ends early and is otherwise sound."""


class Unsupported(DecodeError):
    """The file needs something this reader does not know."""


def require(condition, section, message):
    """Raise Corrupt, naming the section, unless the condition holds."""
    if not condition:
        raise Corrupt(f"section {section}: {message}")


def fl(x):
    """Section 2: round to binary32, ties to even; x is a binary64 result of one operation.

    Two roundings, to binary64 and then to binary32, are the one rounding format.md asks for: a
    product of binary32 values has at most 48 significant bits and so is exact in the 53 of
    binary64; for a sum double rounding does no harm because 53 >= 2 * 24 + 2.
    """
    try:
        return struct.unpack("<f", struct.pack("<f", x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)


def canonical_json(content):
    """Section 2: parse, and demand the one canonical form."""

    def refuse(token):
        raise ValueError(f"{token} is no canonical number")

    def depth(value):
        below = value.values() if isinstance(value, dict) else value
        return 1 + max(map(depth, below), default=0) if isinstance(value, dict | list) else 0

    def integer(token):
        return int(token) if len(token) < 18 and abs(int(token)) < 2**53 else refuse(token)

    try:
        value = json.loads(
            content.decode(), parse_float=refuse, parse_constant=refuse, parse_int=integer
        )
        text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        require(text.encode() == content, "2", "the JSON is not canonical")
        require(depth(value) <= 32, "15", "JSON nested too deeply")
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"section 2: bad JSON: {error}") from error
    return value


def members(value, section, required, optional=()):
    """Section 6: an object with these members; one that no text knows is unsupported."""
    require(isinstance(value, dict), section, f"{value!r} is not an object")
    for name in value:
        if name not in required and name not in optional:
            raise Unsupported(f"section {section}: unknown member {name!r}")
    for name in required:
        require(name in value, section, f"member {name!r} is missing")


def array(value, section, lowest, highest, of):
    """Section 6: an array of so many elements of one type (a bool is not an integer)."""
    require(isinstance(value, list), section, f"{value!r} is not an array")
    require(lowest <= len(value) <= highest, section, f"an array of {len(value)} elements")
    require(all(type(x) in of for x in value), section, f"an element of {value!r} has a wrong type")
    return value


def one_of(value, section, known):
    """Section 6: a string of a closed list; another string is unsupported."""
    require(isinstance(value, str), section, f"{value!r} is not a string")
    if value not in known:
        raise Unsupported(f"section {section}: {value!r} is not one of {', '.join(known)}")


def parse_schema(content):
    """Section 6."""
    schema = canonical_json(content)
    members(schema, "6", ("columns", "fields", "order"))
    columns = array(schema["columns"], "6", 0, 256, {dict})
    fields = array(schema["fields"], "6", 1, 16, {dict})
    for column in columns:
        members(column, "6", ("name", "type"), ("names",))
        one_of(column["type"], "6", COLUMN_TYPES)
        if "names" in column:
            require(column["type"] == "int64", "6", "names at a column that is not int64")
            array(column["names"], "6", 0, 2**20, {str})
        if column["name"] in ("bin_id", "bin_rank"):
            require(column["type"] == "int64", "6", f"{column['name']} is not int64")
    for field in fields:
        check_field(field)
    names = [x["name"] for x in columns + fields]
    for name in names:
        require(isinstance(name, str), "6", f"name {name!r}")
        require(re.fullmatch("[A-Za-z_][A-Za-z0-9_]{0,63}", name), "6", f"name {name!r}")
        require(name != "key" and names.count(name) == 1, "6", f"name {name!r} is taken")
    planned = {field["name"]: layer_count(field) for field in fields}
    taken = dict.fromkeys(planned, 0)
    for pair in array(schema["order"], "6", 1, sum(planned.values()), {list}):
        name, layer = array(pair, "6", 2, 2, {str, int})
        require(name in planned, "6", f"order names an unknown field {name!r}")
        require(
            type(layer) is int and layer == taken[name], "6", "order: layers do not ascend by 1"
        )
        require(layer < planned[name], "6", f"order: {name} has no layer {layer}")
        taken[name] += 1
    require(all(taken.values()), "6", "order has no layer of some field")
    return schema


def check_field(field):
    """Section 6, and what section 10 asks of a field."""
    members(field, "6", ("name", "dtype", "shape", "quantizer", "layers"), ("domain", "patch"))
    one_of(field["dtype"], "6", LETTERS)
    one_of(field["quantizer"], "6", ("raw", "lsq", "affine", "patch", "block"))
    shape = array(field["shape"], "6", 0, 8, {int, type(None)})
    require(all(d is None or 0 <= d <= 2**28 for d in shape), "6", f"shape {shape}")
    check_values(d for d in shape if d is not None)
    layers = array(field["layers"], "6", 0, 7, {int})
    require(all(1 <= width <= 16 for width in layers), "6", f"layers {layers}")
    if field["quantizer"] == "raw":
        require(not layers, "6", "raw has one layer")
    else:
        allowed = ("uint8",) if field["quantizer"] == "block" else ("uint8", "float32")
        require(field["dtype"] in allowed, "10.2", f"dtype {field['dtype']}")
    require(("domain" in field) == (field["quantizer"] == "lsq"), "6", "domain is for lsq only")
    if "domain" in field:
        check_domain(field["domain"], shape)
        single = len(field["domain"].get("mean", "1")) == 1 or len(shape) > 2
        require("patch" not in field or single, "10.3", "patch and a mean for each column")
    if "patch" in field:
        patch = field["patch"]
        require(type(patch) is int and 1 <= patch <= 65535, "6", f"patch {patch!r}")
        require(len(shape) >= 2, "11", "patch at a field of less than two dimensions")
    if field["quantizer"] == "patch":
        require("patch" in field, "6", "quantizer patch without the side of its patches")
        require(len(shape) in (2, 3), "10.5", f"shape {shape}")
    if field["quantizer"] == "block":
        check_block(field, shape, layers)


def check_block(field, shape, layers):
    """Sections 6 and 10.6: a field of the quantizer `block`."""
    require("patch" not in field, "6", "block has no patches")
    require(len(layers) <= 3 and set(layers) <= {1}, "6", f"layers {layers} of block")
    require(len(shape) in (2, 3), "10.6", f"shape {shape}")
    sides = [side for side in shape[:2] if side is not None]
    require(all(1 <= side <= 4096 for side in sides), "10.6", f"sides {shape[:2]}")
    channels = shape[2] if len(shape) == 3 else 1
    require(channels is not None and 1 <= channels <= 64, "10.6", f"{channels} channels")


def check_values(shape):
    """Section 15: values of a sample; a dimension of 0 counts as 1."""
    count = math.prod(max(d, 1) for d in shape)
    require(count <= 2**28, "15", f"a sample of {count} values")


def check_domain(domain, shape):
    """Section 10.3: the domain of a lsq field."""
    members(domain, "10.3", ("kind",), ("mean", "std"))
    one_of(domain["kind"], "10.3", ("unit", "centered", "normalized"))
    normalized = domain["kind"] == "normalized"
    for name in ("mean", "std"):
        require((name in domain) == normalized, "10.3", f"{name} is for normalized only")
    if normalized:
        mean, std = decimals(domain["mean"]), decimals(domain["std"])
        require(len(mean) == len(std), "10.3", "mean and std differ in length")
        require(len(mean) in (1, *shape[-1:]), "10.3", f"{len(mean)} means for shape {shape}")
        require(all(math.isfinite(x) for x in mean + std), "10.3", "mean or std is not finite")
        require(all(x > 0 for x in std), "10.3", "std is not positive")


def decimals(strings):
    """Section 10.3: decimal strings (section 2) as binary32."""
    array(strings, "10.3", 1, 2**20, {str})
    for text in strings:
        number = re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", text)
        require(number, "2", f"{text!r} is no decimal string")
    return [fl(float(text)) for text in strings]


def layer_count(field):
    """Section 6."""
    return len(field["layers"]) + 1
