"""Bit strings for models: fixed widths and exp-Golomb codes, highest bit first."""

from __future__ import annotations

from dsqformat.errors import CorruptShardError

# Longest run of zeros an exp-Golomb code may begin with: its numbers stay below 2^25.
MAX_PREFIX = 24


class BitWriter:
    """Collects bits and returns them as bytes, the last padded with zeros."""

    def __init__(self) -> None:
        self._value = 0
        self._count = 0

    @property
    def bit_count(self) -> int:
        """Bits so far."""
        return self._count

    def fixed(self, value: int, width: int) -> None:
        """Append `value` in `width` bits."""
        if not 0 <= value < 1 << width:
            raise ValueError(f"{value} does not fit in {width} bits")
        self._value = self._value << width | value
        self._count += width

    def unsigned(self, value: int, order: int) -> None:
        """Append a natural number in an exp-Golomb code."""
        value += 1 << order
        length = value.bit_length()
        self.fixed(value, 2 * length - 1 - order)

    def signed(self, value: int, order: int) -> None:
        """Append an integer: 0, -1, 1, -2, ... as 0, 1, 2, 3, ..."""
        self.unsigned(2 * value if value >= 0 else -2 * value - 1, order)

    def to_bytes(self) -> bytes:
        """Return all bits."""
        spare = -self._count % 8
        return (self._value << spare).to_bytes((self._count + spare) // 8, "big")


class BitReader:
    """Reads what `BitWriter` wrote; the first bit after the end is an error.

    Args:
        data: the bytes.
        what: what they are, for error messages.
    """

    def __init__(self, data: bytes | memoryview, what: str) -> None:
        # As text, because finding the next 1 and parsing numbers are then single calls.
        self._bits = bin(int.from_bytes(b"\1" + bytes(data), "big"))[3:]
        self._at = 0
        self.what = what

    def fixed(self, width: int) -> int:
        """Return the next `width` bits as a number."""
        begin, end = self._at, self._at + width
        if end > len(self._bits):
            raise CorruptShardError(f"{self.what}: it ends within a number")
        self._at = end
        return int(self._bits[begin:end], 2) if width else 0

    def unsigned(self, order: int) -> int:
        """Return the next number of an exp-Golomb code."""
        one = self._bits.find("1", self._at, self._at + MAX_PREFIX + 1)
        if one < 0:
            raise CorruptShardError(f"{self.what}: it ends within a number, or one is too long")
        zeros, self._at = one - self._at, one
        return self.fixed(zeros + order + 1) - (1 << order)

    def signed(self, order: int) -> int:
        """Return the next integer."""
        value = self.unsigned(order)
        return value // 2 if value % 2 == 0 else -(value // 2) - 1

    def finish(self) -> None:
        """Refuse bits after the last number."""
        left = len(self._bits) - self._at
        if left >= 8 or self.fixed(left):
            raise CorruptShardError(f"{self.what}: bits are left after the last number")
