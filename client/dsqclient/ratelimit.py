"""A ceiling on received bytes per second, shared by the threads of one process."""

from __future__ import annotations

import threading
import time
from typing import Any

# The bucket holds what arrives in this time: bursts stay short, timers stay coarse.
_BURST_S = 0.1
_SMALLEST_BURST_NBYTES = 16 << 10


class TokenBucket:
    """Tokens are bytes; they flow in at `bytes_per_s` and are taken by whoever received bytes.

    The level may fall below zero: bytes that have arrived are counted, then waited for. Over any
    time t at most bytes_per_s * t plus one burst pass. A copy sent to another process is a bucket
    of its own: a loader with several workers gives each its share of the rate.

    Args:
        bytes_per_s: the ceiling, above 0.
    """

    def __init__(self, bytes_per_s: float) -> None:
        self._lock = threading.Lock()
        self._time_s = time.monotonic()
        self._rate = 1.0
        self._level = 0.0
        self.bytes_per_s = bytes_per_s
        self._level = self.burst_nbytes

    @property
    def bytes_per_s(self) -> float:
        """The ceiling; it may be changed at any time."""
        return self._rate

    @bytes_per_s.setter
    def bytes_per_s(self, rate: float) -> None:
        if not rate > 0:
            raise ValueError(f"rate limit {rate}: expected bytes per second above 0, or None")
        with self._lock:
            self._refill()
            self._rate = float(rate)
            self._level = min(self._level, self.burst_nbytes)

    @property
    def burst_nbytes(self) -> float:
        """Bytes that may pass at once after a pause."""
        return max(_SMALLEST_BURST_NBYTES, self._rate * _BURST_S)

    def take(self, nbytes: int) -> None:
        """Account for `nbytes` received bytes and wait until they were allowed to arrive."""
        with self._lock:
            self._refill()
            self._level -= nbytes
            wait_s = -self._level / self._rate
        if wait_s > 0:
            time.sleep(wait_s)

    def _refill(self) -> None:
        now_s = time.monotonic()
        self._level = min(self.burst_nbytes, self._level + (now_s - self._time_s) * self._rate)
        self._time_s = now_s

    def __getstate__(self) -> dict[str, Any]:
        return {"bytes_per_s": self._rate}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["bytes_per_s"])  # type: ignore[misc]
