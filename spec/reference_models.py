"""Models and groups of fields for reference_decoder.py (format.md, sections 7.1 and 7.2).

Written from format.md alone, standard library only; each function names its section. What a model
holds is read by reference_rans.py and reference_block_model.py.
"""

from __future__ import annotations

import math

from reference_block_model import parse_block_model
from reference_columns import Cursor
from reference_rans import parse_model
from reference_schema import layer_count, require

MODEL_NBYTES = 1 << 18  # sections 7.1 and 15
GROUPS = 1 << 16  # sections 7.2 and 15
FIELDS = 16  # section 15
# The longest content of MODL and GRPS, which may be compressed.
MODELS_LIMIT = FIELDS * (MODEL_NBYTES + 5)
GROUPS_LIMIT = FIELDS * (8 * GROUPS + 5)


def parse_models(content, schema, sample_count):
    """Section 7.1: the models by field name."""
    cursor, models, last = Cursor(content, "7.1"), {}, -1
    while cursor.position < len(content):
        field, last = next_field(cursor, schema, last)
        (nbytes,) = cursor.numbers(1, "I")
        require(nbytes <= MODEL_NBYTES, "7.1", f"a model of {nbytes} bytes")
        models[field["name"]] = parse_field_model(field, cursor.take(nbytes))
    for field in schema["fields"]:
        needed = field["quantizer"] == "block" and sample_count > 0
        require(not needed or field["name"] in models, "7.1", f"no model of {field['name']}")
    return models


def next_field(cursor, schema, last):
    """Sections 7.1 and 7.2: the field of an entry, and its number, above that of the last."""
    (number,) = cursor.numbers(1, "B")
    require(last < number, cursor.section, "the fields do not ascend")
    require(number < len(schema["fields"]), cursor.section, f"an entry of field {number}")
    return schema["fields"][number], number


def parse_field_model(field, data):
    """Section 7.1: the model of one field; of `patch` a pair, of ids and of codes, either None."""
    require(field["quantizer"] != "raw", "7.1", "a model of a raw field")
    if field["quantizer"] == "patch":
        cursor = Cursor(data, "7.1")
        ids = cursor.take(*cursor.numbers(1, "I"))
        codes = cursor.rest()
        require(ids or codes, "7.1", "a model of neither group ids nor codes")
        return parse_model(ids) if ids else None, parse_model(codes) if codes else None
    if field["quantizer"] != "block":
        return parse_model(data)
    model = parse_block_model(data)
    planes = field["shape"][2] if len(field["shape"]) == 3 else 1
    require(model["planes"] == planes, "7.1", f"{model['planes']} planes of {planes} channels")
    layers = len(model["tables"])
    require(layers == layer_count(field), "7.1", f"{layers} layers, the field has others")
    return model


def parse_groups(content, schema):
    """Section 7.2: (scale, offset) of each group, by field name."""
    cursor, groups, last = Cursor(content, "7.2"), {}, -1
    while cursor.position < len(content):
        field, last = next_field(cursor, schema, last)
        require(field["quantizer"] == "patch", "7.2", f"groups of {field['quantizer']}")
        (count,) = cursor.numbers(1, "I")
        require(1 <= count <= GROUPS, "7.2", f"{count} groups")
        scale, offset = cursor.numbers(count, "f"), cursor.numbers(count, "f")
        require(all(math.isfinite(x) for x in scale + offset), "7.2", "not finite")
        require(min(scale) >= 0, "7.2", f"scale {min(scale)}")
        groups[field["name"]] = list(zip(scale, offset, strict=True))
    for field in schema["fields"]:
        needed = field["quantizer"] == "patch"
        require(not needed or field["name"] in groups, "7.2", f"no groups of {field['name']}")
    return groups
