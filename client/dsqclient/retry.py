"""How long a transfer goes on trying: attempts, back-off, deadline."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

from dsqformat.errors import FetchError

# A server that keeps a client waiting longer than this is treated as down.
_LONGEST_RETRY_AFTER_S = 120.0


@dataclass(frozen=True)
class HttpOptions:
    """Patience and identity of an HTTP client.

    Attributes:
        connect_timeout_s: longest wait for a connection.
        read_timeout_s: longest wait for the next byte of a response.
        deadline_s: longest time for one transfer, on top of what the bytes it has brought take at
            `slowest_bytes_per_s` (or at half the rate limit, where that is lower).
        slowest_bytes_per_s: a transfer that is slower than this for long is given up.
        attempts: requests in a row that bring no byte, before a transfer is given up.
        first_attempts: the same before the server has ever answered.
        backoff_s: mean wait after the first failure; doubles with each further one.
        backoff_cap_s: longest mean wait.
        max_redirects: redirects followed for one request.
        headers: sent with every request; Authorization and Cookie never to another origin.
    """

    connect_timeout_s: float = 10.0
    read_timeout_s: float = 30.0
    deadline_s: float = 300.0
    slowest_bytes_per_s: float = 512.0
    attempts: int = 10
    first_attempts: int = 3
    backoff_s: float = 0.25
    backoff_cap_s: float = 20.0
    max_redirects: int = 5
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.attempts, self.first_attempts) < 1:
            raise ValueError("attempts and first_attempts: expected 1 or more")
        seconds = (self.connect_timeout_s, self.read_timeout_s, self.deadline_s)
        if min(seconds) <= 0 or self.slowest_bytes_per_s <= 0:
            raise ValueError("timeouts, deadline and slowest_bytes_per_s: expected above 0")
        object.__setattr__(self, "headers", dict(self.headers))


class TransferCancelled(Exception):
    """The consumer of a transfer went away."""


class Patience:
    """Counts the failures of one transfer and waits between its attempts.

    Args:
        options: the limits.
        url: for messages.
        bytes_per_s: the rate limit, or None.
        cancelled: set by whoever no longer wants the transfer.
    """

    def __init__(
        self,
        options: HttpOptions,
        url: str,
        *,
        bytes_per_s: float | None = None,
        cancelled: threading.Event | None = None,
    ) -> None:
        self._slowest = min(options.slowest_bytes_per_s, (bytes_per_s or float("inf")) / 2)
        self._options = options
        self._url = url
        self._cancelled = cancelled or threading.Event()
        self._start_s = time.monotonic()
        self._end_s = self._start_s + options.deadline_s
        self._in_a_row = 0
        self._failures = 0

    def progress(self, nbytes: int) -> None:
        """Note that bytes arrived.

        Raises:
            TransferCancelled: nobody wants the rest.
            FetchError: the transfer as a whole takes too long.
        """
        self._in_a_row = 0
        if self._cancelled.is_set():
            raise TransferCancelled
        self._end_s += nbytes / self._slowest
        if time.monotonic() > self._end_s:
            raise self.give_up("the server sends, but too slowly", "see slowest_bytes_per_s")

    def wait(self, cause: str, remedy: str, *, attempts: int, retry_after_s: float = 0.0) -> None:
        """Note a failure, and wait before the next attempt.

        Args:
            cause: what failed.
            remedy: what a person could do, should this be the end.
            attempts: failures in a row to bear.
            retry_after_s: what the server asks to wait.

        Raises:
            FetchError: there shall be no next attempt.
        """
        self._failures += 1
        self._in_a_row += 1
        if self._in_a_row >= attempts:
            raise self.give_up(cause, remedy)
        doubled = self._options.backoff_s * 2 ** (self._in_a_row - 1)
        # Half to one and a half times the mean: clients cut off together come back apart.
        mean_s = min(doubled, self._options.backoff_cap_s)
        wait_s = max(mean_s * random.uniform(0.5, 1.5), min(retry_after_s, _LONGEST_RETRY_AFTER_S))
        if time.monotonic() + wait_s > self._end_s:
            raise self.give_up(cause, remedy)
        if self._cancelled.wait(wait_s):
            raise TransferCancelled

    def give_up(self, cause: str, remedy: str) -> FetchError:
        """Return the error that ends the transfer."""
        tried = max(self._failures, 1)
        times = f"{tried} failed attempt{'s' if tried > 1 else ''}"
        passed_s = time.monotonic() - self._start_s
        return FetchError(
            f"{self._url}: gave up after {times} in {passed_s:.1f} s: {cause}; {remedy}"
        )


def parse_retry_after(value: str | None) -> float:
    """Return the seconds a Retry-After header asks for (RFC 9110 10.2.3); 0 if it says nothing."""
    if not value:
        return 0.0
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0
