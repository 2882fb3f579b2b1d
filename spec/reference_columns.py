"""Bytes, bits and index columns for reference_decoder.py (format.md, sections 2, 8 and 9.1).

Written from format.md alone, standard library only; each function names its section.
"""

from __future__ import annotations

import math
import struct

import reference_zstd
from reference_schema import LETTERS, Corrupt, fl, require

CONSTANT, PLAIN, FOR, DICT, VAR, ZSTD, QUOTIENT = range(7)  # section 8


class Cursor:
    """Bytes read from front to back; nothing is taken that is not there (section 15)."""

    def __init__(self, data, section):
        self.data, self.section, self.position = data, section, 0

    def take(self, nbytes):
        left = len(self.data) - self.position
        require(0 <= nbytes <= left, self.section, f"{nbytes} bytes expected, {left} left")
        self.position += nbytes
        return self.data[self.position - nbytes : self.position]

    def numbers(self, count, letter):
        size = struct.calcsize("<" + letter)
        return struct.unpack(f"<{count}{letter}", self.take(count * size))

    def rest(self):
        return self.take(len(self.data) - self.position)

    def end(self):
        left = len(self.data) - self.position
        require(left == 0, self.section, f"{left} bytes too many")


def ceil_div(a, b):
    """Section 2."""
    return -(-a // b)


def zstd_content(frame, expected_nbytes):
    """Section 2: the content of one zstd frame; its stated size is compared before all else."""
    require(expected_nbytes > 0, "2", "a zstd frame without content")
    require(expected_nbytes <= 32768 * len(frame), "2", f"no {len(frame)} bytes expand so far")
    try:
        return reference_zstd.decompress(frame, expected_nbytes)
    except reference_zstd.ZstdError as error:
        raise Corrupt(f"section 2: bad zstd frame: {error}") from error


def unpack_bits(cursor, count, width):
    """Section 9.1: `count` integers of `width` bits; 8 of them fill `width` bytes."""
    data = cursor.take(ceil_div(count * width, 8))
    values = []
    for first in range(0, len(data), max(width, 1)):
        group = int.from_bytes(data[first : first + width], "little")
        for _ in range(min(8, count - len(values))):
            values.append(group & (1 << width) - 1)
            group >>= width
        require(group == 0, "9.1", "spare bits are not zero")
    return values if width else [0] * count


def decode_column(cursor, kind, n, allowed=range(7)):
    """Section 8: n values of the column type `kind`; `allowed` is for nested columns."""
    (encoding,) = cursor.take(1)
    payload = Cursor(cursor.take(*cursor.numbers(1, "I")), "8")
    require(encoding in allowed, "8", f"encoding {encoding} here")
    values = decode_payload(payload, encoding, kind, n)
    payload.end()
    if kind in ("utf8", "bytes"):
        nbytes = sum(len(x if kind == "bytes" else x.encode()) for x in values)
        require(nbytes <= 2**28, "15", f"a column of {nbytes} bytes")
    return values


def decode_payload(payload, encoding, kind, n):
    """Section 8: the payload of one encoding."""
    var = kind in ("utf8", "bytes")
    size = 0 if var else struct.calcsize("<" + LETTERS[kind])
    if encoding == CONSTANT:
        return [column_value(payload.rest(), kind, size)] * n
    if encoding == PLAIN and not var:
        planes = payload.take(n * size)
        return [column_value(planes[i::n], kind, size) for i in range(n)]
    if encoding == FOR and kind == "int64":
        (base,), (width,) = payload.numbers(1, "q"), payload.take(1)
        require(1 <= width <= 56, "8", f"FOR of width {width}")
        values = [base + integer for integer in unpack_bits(payload, n, width)]
        require(max(values) < 2**63, "8", "a FOR value leaves i64")
        return values
    if encoding == DICT:
        (k,), (width,) = payload.numbers(1, "H"), payload.take(1)
        require(1 <= k <= n, "8", f"DICT of {k} values for {n} samples")
        require(width == (k - 1).bit_length(), "8", f"DICT of {k} values with width {width}")
        entries = decode_column(payload, kind, k, (PLAIN, FOR, VAR))
        indexes = unpack_bits(payload, n, width)
        require(max(indexes) < k, "8", "a DICT index is out of range")
        return [entries[i] for i in indexes]
    if encoding == VAR and var:
        lengths = decode_column(payload, "int64", n, (CONSTANT, PLAIN, FOR))
        return [column_value(payload.take(length), kind, length) for length in lengths]
    if encoding == ZSTD:
        (inner,), (nbytes,) = payload.take(1), payload.numbers(1, "I")
        require(1 <= inner <= 4, "8", f"ZSTD of encoding {inner}")
        content = Cursor(zstd_content(payload.rest(), nbytes), "8")
        values = decode_payload(content, inner, kind, n)
        content.end()
        return values
    if encoding == QUOTIENT and kind == "float32":
        (divisor,) = payload.numbers(1, "d")
        require(0 < divisor < math.inf, "8", f"QUOTIENT with divisor {divisor}")
        numerators = decode_column(payload, "int64", n, (CONSTANT, PLAIN, FOR))
        require(all(abs(x) <= 2**53 for x in numerators), "8", "a numerator is beyond 2^53")
        return [fl(x / divisor) for x in numerators]
    raise Corrupt(f"section 8: encoding {encoding} for type {kind}")


def column_value(data, kind, size):
    """Section 8: one value from its bytes."""
    if kind == "bytes":
        return data
    if kind == "utf8":
        try:
            return data.decode()  # Python refuses surrogates and overlong forms
        except UnicodeDecodeError as error:
            raise Corrupt(f"section 8: invalid UTF-8: {error}") from error
    require(len(data) == size, "8", f"{len(data)} bytes for one {kind}")
    return struct.unpack("<" + LETTERS[kind], data)[0]
