"""Strings of bits with exp-Golomb numbers, most significant bit first (spec A.7.1)."""

from __future__ import annotations

from dsqformat.errors import CorruptShardError

_MAX_PREFIX = 20  # numbers below 2^20


class BitWriter:
    """Collects bits."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def unsigned(self, value: int) -> None:
        """Append value >= 0 as exp-Golomb: value + 1 in binary after as many zeros, less one."""
        digits = f"{value + 1:b}"
        self._parts.append("0" * (len(digits) - 1) + digits)

    def signed(self, value: int) -> None:
        """Append 0, -1, 1, -2, 2, ... as 0, 1, 2, 3, 4, ..."""
        self.unsigned(2 * value if value >= 0 else -2 * value - 1)

    def to_bytes(self) -> bytes:
        """Return the bits, zeros after the last up to a whole byte."""
        bits = "".join(self._parts)
        bits += "0" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""


class BitReader:
    """Reads what `BitWriter` wrote.

    Args:
        data: the bytes.
    """

    def __init__(self, data: bytes) -> None:
        self._bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}" if data else ""
        self._at = 0

    def unsigned(self) -> int:
        """Read one number.

        Raises:
            CorruptShardError: the bits end early, or the number is 2^20 or more.
        """
        one = self._bits.find("1", self._at, self._at + _MAX_PREFIX + 1)
        end = 2 * one - self._at + 1
        if one < 0 or end > len(self._bits):
            raise CorruptShardError("its bits end inside a number")
        value = int(self._bits[one:end], 2) - 1
        self._at = end
        return value

    def signed(self) -> int:
        """Read one number with a sign; errors as `unsigned`."""
        value = self.unsigned()
        return -((value + 1) >> 1) if value & 1 else value >> 1

    def close(self) -> None:
        """Check that only zeros, fewer than eight, are left.

        Raises:
            CorruptShardError: there is more.
        """
        rest = self._bits[self._at :]
        if len(rest) > 7 or "1" in rest:
            raise CorruptShardError(f"{len(rest)} bits after its end, expected zeros")
