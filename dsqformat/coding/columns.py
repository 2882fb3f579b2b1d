"""Columns of the index segment: constants cost nothing, the smallest encoding wins (spec 8)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsqformat.coding.zstd import compress_frame, decompress_frame
from dsqformat.errors import CorruptShardError
from dsqformat.wire import (
    COLUMN,
    ENCODING_CONSTANT,
    ENCODING_DICT,
    ENCODING_FOR,
    ENCODING_PLAIN,
    ENCODING_QUOTIENT,
    ENCODING_VAR,
    ENCODING_ZSTD,
    MAX_COLUMN_NBYTES,
    MAX_FOR_WIDTH,
    ceil_div,
)

Values = NDArray[Any] | list[str] | list[bytes]

FIXED_DTYPES: Final = {"int64": "<i8", "float32": "<f4", "float64": "<f8"}
MAX_DICT: Final = 4096
ZSTD_LEVEL: Final = 19
# A slower encoding is taken only when it saves 2 %.
KEEP_RATIO: Final = 0.98
_FOR = struct.Struct("<qB")
_DICT = struct.Struct("<HB")
_ZSTD = struct.Struct("<BI")
_QUOTIENT = struct.Struct("<d")
MAX_NUMERATOR: Final = 1 << 53


# Integers of any width -------------------------------------------------------------------------


def pack_integers(values: NDArray[np.uint64], width: int) -> bytes:
    """Pack integers of `width` bits, least significant bit first (spec 9.1).

    Args:
        values: uint64, shape (n,), each below 2**width.
        width: 0 to 64.

    Returns:
        ceil(n * width / 8) bytes.
    """
    octets = values.astype("<u8").view("u1").reshape(-1, 8)
    bits = np.unpackbits(octets, axis=1, bitorder="little", count=width)
    return np.packbits(bits.ravel(), bitorder="little").tobytes()


def unpack_integers(data: memoryview, count: int, width: int, what: str) -> NDArray[np.uint64]:
    """Unpack `count` integers of `width` bits; the inverse of pack_integers.

    Raises:
        CorruptShardError: wrong length, or spare bits that are not zero.
    """
    expected = ceil_div(count * width, 8)
    if len(data) != expected:
        raise CorruptShardError(f"{what}: {len(data)} bytes of integers, expected {expected}")
    bits = np.unpackbits(np.frombuffer(data, "u1"), bitorder="little")
    if bits[count * width :].any():
        raise CorruptShardError(f"{what}: spare bits after the last integer are not zero")
    octets = np.zeros((count, 64), "u1")
    octets[:, :width] = bits[: count * width].reshape(count, width)
    return np.packbits(octets, axis=1, bitorder="little").view("<u8").ravel()


# Encoding --------------------------------------------------------------------------------------


def encode_column(
    values: Values | Sequence[Any], kind: str, *, divisor: float | None = None
) -> bytes:
    """Encode a column in the smallest way the format offers.

    Args:
        values: n values; an array for fixed types, a list of str or bytes for var types.
        kind: "int64", "float32", "float64", "utf8" or "bytes".
        divisor: for float32, a number of which the values may be fractions.

    Returns:
        The encoded column with its encoding and length in front.
    """
    if kind in FIXED_DTYPES:
        array = np.ascontiguousarray(values, dtype=FIXED_DTYPES[kind])
        candidates = _fixed_candidates(array, kind)
        if kind == "float32" and divisor is not None and candidates[0][0] != ENCODING_CONSTANT:
            candidates += _quotient_candidate(array, divisor)
    else:
        octets = [v.encode("utf-8") if isinstance(v, str) else bytes(v) for v in values]
        candidates = _var_candidates(octets)
    encoding, payload = min(candidates, key=lambda candidate: len(candidate[1]))
    if len(payload) > 64:
        for inner, content in candidates:
            if inner == ENCODING_QUOTIENT:
                continue
            packed = _ZSTD.pack(inner, len(content)) + compress_frame(content, ZSTD_LEVEL)
            if len(packed) < KEEP_RATIO * len(payload):
                encoding, payload = ENCODING_ZSTD, packed
    return COLUMN.pack(encoding, len(payload)) + payload


def _fixed_candidates(array: NDArray[Any], kind: str) -> list[tuple[int, bytes]]:
    octets = array.view("u1").reshape(len(array), array.itemsize)
    if len(array) and (octets == octets[0]).all():
        return [(ENCODING_CONSTANT, octets[0].tobytes())]
    candidates = [(ENCODING_PLAIN, octets.T.tobytes())]
    if kind == "int64":
        candidates += _for_candidate(array)
    # Compare bit patterns: -0.0 and NaN payloads come back as they were.
    patterns, indices = np.unique(array.view(f"<u{array.itemsize}"), return_inverse=True)
    if len(patterns) <= min(MAX_DICT, len(array) // 2):
        nested = min(
            _fixed_candidates(patterns.view(array.dtype), kind), key=lambda item: len(item[1])
        )
        if nested[0] in (ENCODING_PLAIN, ENCODING_FOR):
            candidates.append(_dict_candidate(nested, indices, len(patterns)))
    return [item for item in candidates if item[0] != ENCODING_DICT or len(patterns) > 1]


def _for_candidate(array: NDArray[np.int64]) -> list[tuple[int, bytes]]:
    if not len(array):
        return []
    base = int(array.min())
    width = max(1, (int(array.max()) - base).bit_length())
    if width > MAX_FOR_WIDTH:
        return []
    offsets = (array - base).view("<u8")
    return [(ENCODING_FOR, _FOR.pack(base, width) + pack_integers(offsets, width))]


def _quotient_candidate(array: NDArray[np.float32], divisor: float) -> list[tuple[int, bytes]]:
    """Scales of byte pictures are small integers over one divisor: a byte instead of four."""
    with np.errstate(over="ignore", invalid="ignore"):
        numerators = np.rint(array.astype("f8") * divisor)
    if not (np.abs(numerators) <= MAX_NUMERATOR).all():
        return []
    if (numerators / divisor).astype("<f4").tobytes() != array.tobytes():
        return []
    nested = [c for c in _fixed_candidates(numerators.astype("<i8"), "int64") if c[0] <= 2]
    encoding, payload = min(nested, key=lambda candidate: len(candidate[1]))
    header = _QUOTIENT.pack(divisor) + COLUMN.pack(encoding, len(payload))
    return [(ENCODING_QUOTIENT, header + payload)]


def _dict_candidate(
    nested: tuple[int, bytes], indices: NDArray[Any], count: int
) -> tuple[int, bytes]:
    width = (count - 1).bit_length()
    payload = (
        _DICT.pack(count, width)
        + COLUMN.pack(nested[0], len(nested[1]))
        + nested[1]
        + pack_integers(indices.astype("<u8").ravel(), width)
    )
    return ENCODING_DICT, payload


def _var_candidates(octets: list[bytes]) -> list[tuple[int, bytes]]:
    if octets and all(item == octets[0] for item in octets):
        return [(ENCODING_CONSTANT, octets[0])]
    candidates = [(ENCODING_VAR, _var_payload(octets))]
    patterns = sorted(set(octets))
    if 1 < len(patterns) <= min(MAX_DICT, len(octets) // 2):
        rank = {pattern: number for number, pattern in enumerate(patterns)}
        indices = np.array([rank[item] for item in octets])
        nested = (ENCODING_VAR, _var_payload(patterns))
        candidates.append(_dict_candidate(nested, indices, len(patterns)))
    return candidates


def _var_payload(octets: list[bytes]) -> bytes:
    lengths = np.array([len(item) for item in octets], "<i8")
    candidates = [c for c in _fixed_candidates(lengths, "int64") if c[0] != ENCODING_DICT]
    encoding, payload = min(candidates, key=lambda candidate: len(candidate[1]))
    return COLUMN.pack(encoding, len(payload)) + payload + b"".join(octets)


# Decoding --------------------------------------------------------------------------------------


@dataclass
class ColumnReader:
    """Decodes encoded columns one after the other out of a byte string.

    Attributes:
        data: the bytes of an index segment, or of a part of `KEYS`.
        count: samples n of the chunk; every column has n values.
        what: where the bytes come from, for error messages.
        offset: of the next column.
    """

    data: memoryview
    count: int
    what: str
    offset: int = 0

    def read(self, name: str, kind: str) -> Values:
        """Decode the next column.

        Returns:
            An array for fixed types, a list of str for utf8, a list of bytes for bytes.

        Raises:
            CorruptShardError: the bytes are no such column.
        """
        what = f"{self.what}: column {name!r}"
        encoding, payload, self.offset = _split_column(self.data, self.offset, what)
        return _decode(encoding, payload, self.count, kind, what)

    def finish(self) -> None:
        """Raise CorruptShardError if bytes are left over."""
        if self.offset != len(self.data):
            raise CorruptShardError(
                f"{self.what}: {len(self.data) - self.offset} bytes after the last column"
            )


def _split_column(data: memoryview, offset: int, what: str) -> tuple[int, memoryview, int]:
    start = offset + COLUMN.size
    if start > len(data):
        raise CorruptShardError(f"{what}: begins at {offset}, beyond the {len(data)} bytes")
    encoding, nbytes = COLUMN.unpack_from(data, offset)
    if nbytes > len(data) - start:
        raise CorruptShardError(
            f"{what}: {nbytes} bytes at {start} end past the {len(data)} bytes there are"
        )
    return encoding, data[start : start + nbytes], start + nbytes


def _decode(encoding: int, payload: memoryview, count: int, kind: str, what: str) -> Values:
    if encoding == ENCODING_ZSTD:
        encoding, payload = _decode_zstd(payload, what)
    decoders: dict[int, Callable[[memoryview, int, str, str], Values]] = {
        ENCODING_CONSTANT: _decode_constant,
        ENCODING_PLAIN: _decode_plain,
        ENCODING_FOR: _decode_for,
        ENCODING_DICT: _decode_dict,
        ENCODING_VAR: _decode_var,
        ENCODING_QUOTIENT: _decode_quotient,
    }
    if encoding not in decoders:
        raise CorruptShardError(f"{what}: unknown encoding {encoding}")
    return decoders[encoding](payload, count, kind, what)


def _decode_zstd(payload: memoryview, what: str) -> tuple[int, memoryview]:
    if len(payload) < _ZSTD.size:
        raise CorruptShardError(f"{what}: {len(payload)} bytes are too few for encoding 5")
    inner, nbytes = _ZSTD.unpack_from(payload)
    if not ENCODING_PLAIN <= inner <= ENCODING_VAR:
        raise CorruptShardError(f"{what}: encoding {inner} inside encoding 5, expected 1 to 4")
    if nbytes > MAX_COLUMN_NBYTES:
        raise CorruptShardError(f"{what}: {nbytes} bytes, expected at most {MAX_COLUMN_NBYTES}")
    return inner, memoryview(decompress_frame(payload[_ZSTD.size :], nbytes, what))


def _fixed_dtype(kind: str, what: str) -> np.dtype[Any]:
    if kind not in FIXED_DTYPES:
        raise CorruptShardError(f"{what}: encoding is not for type {kind}")
    return np.dtype(FIXED_DTYPES[kind])


def _decode_constant(payload: memoryview, count: int, kind: str, what: str) -> Values:
    if kind in FIXED_DTYPES:
        dtype = _fixed_dtype(kind, what)
        if len(payload) != dtype.itemsize:
            raise CorruptShardError(f"{what}: constant of {len(payload)} bytes for type {kind}")
        return np.full(count, np.frombuffer(payload, dtype)[0], dtype)
    if len(payload) * count > MAX_COLUMN_NBYTES:
        raise CorruptShardError(f"{what}: more than {MAX_COLUMN_NBYTES} bytes")
    return _strings([bytes(payload)] * count, kind, what)


def _decode_plain(payload: memoryview, count: int, kind: str, what: str) -> NDArray[Any]:
    dtype = _fixed_dtype(kind, what)
    if len(payload) != count * dtype.itemsize:
        raise CorruptShardError(
            f"{what}: {len(payload)} bytes for {count} values of {dtype.itemsize}"
        )
    planes = np.frombuffer(payload, "u1").reshape(dtype.itemsize, count)
    # Always a copy: of one value NumPy would return the odd address where it stands.
    return planes.T.copy().view(dtype).reshape(count)


def _decode_for(payload: memoryview, count: int, kind: str, what: str) -> NDArray[Any]:
    if kind != "int64" or len(payload) < _FOR.size:
        raise CorruptShardError(f"{what}: encoding 2 is not for this column")
    base, width = _FOR.unpack_from(payload)
    if not 1 <= width <= MAX_FOR_WIDTH:
        raise CorruptShardError(f"{what}: width {width}, expected 1 to {MAX_FOR_WIDTH}")
    offsets = unpack_integers(payload[_FOR.size :], count, width, what)
    if count and base + int(offsets.max()) > np.iinfo("i8").max:
        raise CorruptShardError(f"{what}: base {base} plus offset leaves 64 bits")
    return offsets.view("<i8") + np.int64(base)


def _decode_quotient(payload: memoryview, count: int, kind: str, what: str) -> NDArray[Any]:
    if kind != "float32" or len(payload) < _QUOTIENT.size:
        raise CorruptShardError(f"{what}: encoding 6 is not for this column")
    (divisor,) = _QUOTIENT.unpack_from(payload)
    if not 0 < divisor < float("inf"):
        raise CorruptShardError(f"{what}: divisor {divisor}, expected above 0 and finite")
    encoding, nested, end = _split_column(payload, _QUOTIENT.size, what)
    if encoding not in (ENCODING_CONSTANT, ENCODING_PLAIN, ENCODING_FOR) or end != len(payload):
        raise CorruptShardError(f"{what}: numerators in encoding {encoding}, expected 0, 1 or 2")
    numerators = np.asarray(_decode(encoding, nested, count, "int64", what))
    if ((numerators < -MAX_NUMERATOR) | (numerators > MAX_NUMERATOR)).any():
        raise CorruptShardError(f"{what}: a numerator is beyond 2^53")
    with np.errstate(over="ignore"):
        values: NDArray[Any] = (numerators / divisor).astype("<f4")
    return values


def _decode_dict(payload: memoryview, count: int, kind: str, what: str) -> Values:
    if len(payload) < _DICT.size:
        raise CorruptShardError(f"{what}: {len(payload)} bytes are too few for encoding 3")
    size, width = _DICT.unpack_from(payload)
    if not 1 <= size <= count or width != (size - 1).bit_length():
        raise CorruptShardError(f"{what}: dictionary of {size} values with indices of {width} bits")
    encoding, nested, offset = _split_column(payload, _DICT.size, what)
    if encoding not in (ENCODING_PLAIN, ENCODING_FOR, ENCODING_VAR):
        raise CorruptShardError(f"{what}: dictionary in encoding {encoding}, expected 1, 2 or 4")
    values = _decode(encoding, nested, size, kind, what)
    indices = unpack_integers(payload[offset:], count, width, what)
    if count and int(indices.max()) >= size:
        raise CorruptShardError(f"{what}: index {int(indices.max())} of a dictionary of {size}")
    if isinstance(values, np.ndarray):
        taken: NDArray[Any] = values[indices.astype("i8")]
        return taken
    if sum(len(values[i]) for i in indices) > MAX_COLUMN_NBYTES:
        raise CorruptShardError(f"{what}: more than {MAX_COLUMN_NBYTES} bytes")
    return [values[i] for i in indices]


def _decode_var(payload: memoryview, count: int, kind: str, what: str) -> Values:
    if kind in FIXED_DTYPES:
        raise CorruptShardError(f"{what}: encoding 4 is not for type {kind}")
    encoding, nested, offset = _split_column(payload, 0, what)
    if encoding not in (ENCODING_CONSTANT, ENCODING_PLAIN, ENCODING_FOR):
        raise CorruptShardError(f"{what}: lengths in encoding {encoding}, expected 0, 1 or 2")
    lengths = np.asarray(_decode(encoding, nested, count, "int64", what))
    left = len(payload) - offset
    if ((lengths < 0) | (lengths > left)).any() or int(lengths.sum()) != left:
        raise CorruptShardError(f"{what}: lengths do not add up to the {left} bytes there are")
    octets = bytes(payload[offset:])
    ends = np.cumsum(lengths).tolist()
    starts = [0, *ends[:-1]] if ends else []
    return _strings([octets[a:b] for a, b in zip(starts, ends, strict=True)], kind, what)


def _strings(octets: list[bytes], kind: str, what: str) -> list[str] | list[bytes]:
    if kind == "bytes":
        return octets
    try:
        return [item.decode("utf-8") for item in octets]
    except UnicodeDecodeError as error:
        raise CorruptShardError(f"{what}: not UTF-8: {error}") from error
