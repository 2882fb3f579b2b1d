"""Edits of hostile hands: bytes, lengths, columns, bit strings and JSON, drawn from a seed."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any, Final

from dsqformat.canonical import canonical_json
from dsqformat.wire import COLUMN, LAYER_RANS, MODEL
from fuzz_models import odd_like

_STREAMS: Final = struct.Struct("<HIB")  # spec 9.3.1
_OCTETS: Final = (0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 254, 255)
# Around the limits of spec 15, and where integers of 8, 16, 32 and 64 bits end.
_NUMBERS: Final = (
    -(1 << 63), -(1 << 31), -2, -1, 0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65,
    100, 127, 128, 175, 176, 255, 256, 257, 1000, 4095, 4096, 4097, 32767, 32768, 65535, 65536,
    (1 << 18) + 1, 1 << 20, (1 << 24) - 1, (1 << 28) - 1, 1 << 28, (1 << 28) + 1, (1 << 31) - 1,
    1 << 31, (1 << 32) - 1, 1 << 32, (1 << 53) - 1, (1 << 63) - 1,
)  # fmt: skip
_WORDS: Final = (
    "", "a", "affine", "lsq", "raw", "patch", "block", "uint8", "float32", "int64", "utf8", "bytes",
    "unit", "normalized", "0", "-1", "1e999", "nan", "0.5", "../x", "image.mask", "\u00e4",
    "f" * 64,
)  # fmt: skip

Mutator = Callable[[random.Random, bytes], bytes]


def mutate_bytes(source: random.Random, data: bytes) -> bytes:
    """Change, cut out, put in, repeat or move some bytes."""
    octets = bytearray(data)
    if not octets:
        return source.randbytes(source.choice((1, 1, 2, 4, 9)))
    at = source.randrange(len(octets))
    edit = source.randrange(12)
    if edit < 3:
        octets[at] ^= 1 << source.randrange(8)
    elif edit < 5:
        octets[at] = octets[at] + source.choice((-2, -1, 1, 2)) & 255
    elif edit == 5:
        octets[at] = source.choice(_OCTETS)
    elif edit == 6:
        _put_number(source, octets, at)
    elif edit == 7:
        stop = at + source.choice((1, 2, 4, 8, 16))
        octets[at:stop] = source.randbytes(len(octets[at:stop]))
    elif edit == 8:
        del octets[at : at + source.choice((1, 1, 2, 4, 8, len(octets)))]
    elif edit == 9:
        octets[at:at] = source.randbytes(source.choice((1, 1, 2, 4, 8)))
    elif edit == 10:
        other = source.randrange(len(octets))
        octets[at:at] = octets[other : other + source.choice((1, 2, 4, 8, 32))]
    else:
        octets[at:] = bytes(len(octets) - at) if source.random() < 0.5 else b""
    return bytes(octets)


def mutate_in_place(source: random.Random, data: bytes) -> bytes:
    """Change some bytes and leave the length as it is."""
    octets = bytearray(data)
    if not octets:
        return data
    at, edit = source.randrange(len(octets)), source.randrange(8)
    if edit < 3:
        octets[at] ^= 1 << source.randrange(8)
    elif edit == 3:
        octets[at] = source.choice(_OCTETS)
    elif edit == 4:
        stop = at + source.choice((2, 4, 8, 16))
        octets[at:stop] = source.randbytes(len(octets[at:stop]))
    elif edit == 5:
        octets = bytearray(source.randbytes(len(octets)))
    elif edit == 6:
        octets[at:] = bytes([source.choice((0, 255))]) * (len(octets) - at)
    else:
        _put_number(source, octets, at)
    return bytes(octets)


def mutate_bits(source: random.Random, data: bytes) -> bytes:
    """Change a model, whose bits know no byte borders, highest bit first; or make another."""
    edit = source.random()
    if edit < 0.12:
        return odd_like(source, data)
    if not data or edit < 0.5:
        return mutate_bytes(source, data)
    text = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"
    at = source.randrange(len(text))
    if source.random() < 0.5:
        text = text[:at] + f"{source.getrandbits(8):08b}"[: source.randint(1, 8)] + text[at:]
    else:
        text = text[:at] + text[at + source.randint(1, 8) :]
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big") if text else b""


def mutate_models(source: random.Random, data: bytes) -> bytes:
    """Change a model within `MODL` and put its length right (spec 7.1)."""
    entries, at = [], 0
    while at + MODEL.size <= len(data):
        number, nbytes = MODEL.unpack_from(data, at)
        entries.append((number, data[at + MODEL.size : at + MODEL.size + nbytes]))
        at += MODEL.size + nbytes
    if not entries or source.random() < 0.05:
        return mutate_bytes(source, data)
    chosen = source.randrange(len(entries))
    number, model = entries[chosen]
    entries[chosen] = (number, mutate_bits(source, model))
    return b"".join(MODEL.pack(number, len(model)) + model for number, model in entries)


def mutate_index(source: random.Random, data: bytes) -> bytes:
    """Change one column of an index segment and put its length right (spec 8)."""
    columns, at = [], 0
    while at + COLUMN.size <= len(data):
        encoding, nbytes = COLUMN.unpack_from(data, at)
        columns.append((encoding, data[at + COLUMN.size : at + COLUMN.size + nbytes]))
        at += COLUMN.size + nbytes
    if not columns or source.random() < 0.05:
        return mutate_bytes(source, data)
    chosen = source.randrange(len(columns))
    encoding, body = columns[chosen]
    edit = source.random()
    if edit < 0.25:
        number = source.choice(_NUMBERS)
        encoding, body = 0, struct.pack("<q", number) if len(body) != 4 else struct.pack("<i", -1)
    elif edit < 0.35:
        encoding = source.randrange(8)
    elif edit < 0.8:
        body = mutate_in_place(source, body)
    else:
        body = mutate_bytes(source, body)
    columns[chosen] = (encoding, body)
    if source.random() < 0.03:
        columns.insert(chosen, columns[source.randrange(len(columns))])
    return b"".join(COLUMN.pack(encoding, len(body)) + body for encoding, body in columns)


def mutate_layer(source: random.Random, data: bytes) -> bytes:
    """Change a layer segment; the streams of coding 2 mostly behind sound lengths (spec 9)."""
    edit = source.random()
    if len(data) < 1 + _STREAMS.size or data[0] != LAYER_RANS or edit < 0.15:
        return mutate_bytes(source, data)
    per_stream, low, width = _STREAMS.unpack_from(data, 1)
    body = data[1 + _STREAMS.size :]
    if edit < 0.25:
        numbers = [per_stream, low, width]
        numbers[source.randrange(3)] = source.choice(_NUMBERS) & 0xFFFF
        return data[:1] + _STREAMS.pack(numbers[0], numbers[1], numbers[2] & 255) + body
    if width == 0 and edit < 0.5:
        # One stream, or all of one length: they may grow and shrink.
        body = mutate_bytes(source, body)
        return data[:1] + _STREAMS.pack(per_stream, len(body) if low else 0, 0) + body
    return data[: 1 + _STREAMS.size] + mutate_in_place(source, body)


def mutate_json(source: random.Random, data: bytes) -> bytes:
    """Change one value of a JSON document, whose form stays canonical."""
    try:
        value = json.loads(data)
        if source.random() < 0.9:
            return canonical_json(_changed(source, value, depth=source.randint(0, 5)))
    except (ValueError, RecursionError):
        pass
    return mutate_bytes(source, data)


def _changed(source: random.Random, value: Any, depth: int) -> Any:
    if isinstance(value, dict) and value and depth:
        name = source.choice(sorted(value))
        edit = source.random()
        rest = {key: member for key, member in value.items() if key != name}
        if edit < 0.05:
            return rest
        if edit < 0.1:
            return {**rest, source.choice(_WORDS): value[name]}
        return {**value, name: _changed(source, value[name], depth - 1)}
    if isinstance(value, list) and value and depth:
        at = source.randrange(len(value))
        edit = source.random()
        if edit < 0.1:
            return value[:at] + value[at + 1 :]
        if edit < 0.2:
            return value[: at + 1] + value[at:]
        return [*value[:at], _changed(source, value[at], depth - 1), *value[at + 1 :]]
    return _other(source, value)


def _other(source: random.Random, value: Any) -> Any:
    edit = source.random()
    if isinstance(value, int) and not isinstance(value, bool) and edit < 0.5:
        return max(-(1 << 53) + 1, min((1 << 53) - 1, value + source.choice((-2, -1, 1, 2, 1000))))
    if isinstance(value, str) and value and edit < 0.3:
        at = source.randrange(len(value))
        return value[:at] + source.choice("aZ09.-_/\0 \u00e4") + value[at + 1 :]
    if edit < 0.6:
        return source.choice([n for n in _NUMBERS if abs(n) < 1 << 53])
    if edit < 0.8:
        return source.choice(_WORDS)
    nested: Any = []
    for _ in range(40):
        nested = [nested]
    return source.choice([None, True, False, [], {}, [1], [None], {"a": 1}, "x" * 5000, nested])


def _put_number(source: random.Random, octets: bytearray, at: int) -> None:
    """Write a number of 2, 4 or 8 bytes near a limit."""
    nbytes = source.choice((2, 4, 4, 8))
    number = source.choice(_NUMBERS) & ((1 << 8 * nbytes) - 1)
    stop = min(len(octets), at + nbytes)
    octets[at:stop] = number.to_bytes(nbytes, "little")[: stop - at]


# Kinds of parts, how each is changed, and how often in comparison with the others.
MUTATORS: Final[dict[str, tuple[Mutator, float]]] = {
    "options": (mutate_in_place, 1.0),
    "schema": (mutate_json, 1.5),
    "json": (mutate_json, 4.0),
    "models": (mutate_models, 4.0),
    "groups": (mutate_bytes, 1.0),
    "index": (mutate_index, 4.0),
    "layer": (mutate_layer, 3.0),
    "bits": (mutate_bits, 4.0),
    "stream": (mutate_in_place, 2.0),
    "bytes": (mutate_bytes, 4.0),
    "shard": (mutate_in_place, 4.0),
}


def mutate(
    source: random.Random, kinds: tuple[str, ...], parts: tuple[bytes, ...]
) -> tuple[bytes, ...]:
    """Return parts with one to four edits."""
    changed = list(parts)
    weights = [MUTATORS[kind][1] if parts[i] else 0.2 for i, kind in enumerate(kinds)]
    for number in source.choices(range(len(parts)), weights, k=source.choice((1, 1, 1, 2, 2, 4))):
        changed[number] = MUTATORS[kinds[number]][0](source, changed[number])
    return tuple(changed)
