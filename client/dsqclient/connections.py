"""Requests over kept-alive connections: redirects, statuses, rate limit, fork safety."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from dsqclient.http_parts import AttemptFailedError, describe_failure, origin, redirect_target
from dsqclient.ratelimit import TokenBucket
from dsqclient.retry import HttpOptions, parse_retry_after
from dsqformat.errors import FetchError

_LOGGER = logging.getLogger(__name__)

PIECE_NBYTES: Final = 64 << 10
# With a rate limit: smaller pieces, and a receive window that cannot run far ahead of it.
_LIMITED_PIECE_NBYTES: Final = 8 << 10
_SMALLEST_WINDOW_NBYTES: Final = 16 << 10
_LARGEST_WINDOW_NBYTES: Final = 4 << 20
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_PASSING: Final = (408, 425, 429, 500, 502, 503, 504)
_PRIVATE_HEADERS: Final = ("authorization", "cookie")


class TransferCounts:
    """What has been moved so far in this process.

    Attributes:
        requests: requests sent, redirects and repeats included.
        body_nbytes: bytes of response bodies received.
        failures: attempts that ended early and were continued or repeated.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = 0
        self.body_nbytes = 0
        self.failures = 0

    def add(self, *, requests: int = 0, body_nbytes: int = 0, failures: int = 0) -> None:
        """Count some more."""
        with self._lock:
            self.requests += requests
            self.body_nbytes += body_nbytes
            self.failures += failures


class Body(Iterator[bytes]):
    """A response body in pieces, as they arrive; closes it when it ends or is left early.

    Args:
        response: its body unread.
        nbytes: most bytes to read, None for all.
        bucket: the rate limit, or None.
        counts: to be kept up to date.
    """

    def __init__(
        self,
        response: BaseHTTPResponse,
        nbytes: int | None,
        bucket: TokenBucket | None,
        counts: TransferCounts,
    ) -> None:
        self._response: BaseHTTPResponse | None = response
        self._left = nbytes
        self._bucket, self._counts = bucket, counts

    def __next__(self) -> bytes:
        """Return the next bytes.

        Raises:
            AttemptFailedError: the body broke off.
        """
        if self._response is None:
            raise StopIteration
        most = PIECE_NBYTES if self._bucket is None else _LIMITED_PIECE_NBYTES
        most = most if self._left is None else min(most, self._left)
        try:
            piece = self._response.read1(most, decode_content=False) if most else b""
        except (HTTPError, OSError) as error:
            self.close()
            raise describe_failure(error) from error
        if not piece:
            self.close()
            raise StopIteration
        self._counts.add(body_nbytes=len(piece))
        if self._left is not None:
            self._left -= len(piece)
        if self._bucket is not None:
            self._bucket.take(len(piece))
        return piece

    def close(self) -> None:
        """Give the connection back if all bytes have been read, else close it."""
        response, self._response = self._response, None
        if response is None:
            return
        if self._left == 0:
            response.drain_conn()
        else:
            response.close()
        response.release_conn()

    def __del__(self) -> None:
        self.close()


class Connections:
    """Sends requests and hands out bodies as they arrive.

    Connections are made in the process that uses them: this object may be forked or pickled.

    Args:
        options: timeouts, redirects, headers.
        bucket: the rate limit, or None.

    Attributes:
        bucket: the rate limit, or None.
        counts: what has been moved in this process.
        answered: whether a server has ever answered.
    """

    def __init__(self, options: HttpOptions, bucket: TokenBucket | None) -> None:
        self.options = options
        self.bucket = bucket
        self.answered = False
        self._reset()

    def _reset(self) -> None:
        self.counts = TransferCounts()
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._pools: dict[str, urllib3.PoolManager] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"options": self.options, "bucket": self.bucket, "answered": self.answered}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def begin_process(self) -> bool:
        """Forget what was inherited through fork, and say whether there was anything.

        Two processes must not read from one connection.
        """
        inherited = self._pid != os.getpid()
        if inherited:
            self._reset()
            if self.bucket is not None:  # its lock may have been held elsewhere
                self.bucket = TokenBucket(self.bucket.bytes_per_s)
        return inherited

    def send(self, method: str, url: str, headers: dict[str, str]) -> BaseHTTPResponse:
        """Send a request, follow its redirects, return the response with its body unread.

        Raises:
            AttemptFailedError: no response, or one that asks for another try.
            FileNotFoundError: 404 or 410.
            FetchError: a response that no other try will better.
        """
        asked_for = url
        sent = {**self.options.headers, "Accept-Encoding": "identity", **headers}
        for _ in range(self.options.max_redirects + 1):
            started_s = time.monotonic()
            self.counts.add(requests=1)
            try:
                response = self._pool(url).request(
                    method, url, headers=sent, redirect=False, preload_content=False
                )
            except (HTTPError, OSError) as error:
                raise describe_failure(error) from error
            passed_s = time.monotonic() - started_s
            span = headers.get("Range", "")
            _LOGGER.debug("%s %s %s: %d in %.3f s", method, url, span, response.status, passed_s)
            self.answered = True
            if response.status not in _REDIRECTS:
                return _checked(response, url)
            target = redirect_target(url, response)
            if origin(target) != origin(url):
                sent = {k: v for k, v in sent.items() if k.lower() not in _PRIVATE_HEADERS}
            url = target
        raise FetchError(f"{asked_for}: more than {self.options.max_redirects} redirects")

    def body(self, response: BaseHTTPResponse, nbytes: int | None) -> Body:
        """Return at most `nbytes` of a body, to be read as they arrive."""
        return Body(response, nbytes, self.bucket, self.counts)

    def close(self) -> None:
        """Close all idle connections; further requests open new ones."""
        with self._lock:
            pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.clear()

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
        with self._lock:
            pool = self._pools.get(proxy or "")
            if pool is None:
                pool = self._pools[proxy or ""] = self._make_pool(proxy)
        return pool

    def _make_pool(self, proxy: str | None) -> urllib3.PoolManager:
        options: list[tuple[int, int, int | bytes]] = list(HTTPConnection.default_socket_options)
        if self.bucket is not None:
            # Else the kernel receives ahead at full speed and the limit only delays reading.
            window = max(_SMALLEST_WINDOW_NBYTES, int(self.bucket.bytes_per_s / 4))
            options.append(
                (socket.SOL_SOCKET, socket.SO_RCVBUF, min(window, _LARGEST_WINDOW_NBYTES))
            )
        settings: dict[str, Any] = {
            "num_pools": 8,
            "maxsize": 4,
            "retries": False,
            "socket_options": options,
            "timeout": urllib3.Timeout(
                connect=self.options.connect_timeout_s, read=self.options.read_timeout_s
            ),
        }
        if proxy is not None:
            return urllib3.ProxyManager(proxy, **settings)
        return urllib3.PoolManager(**settings)


def _checked(response: BaseHTTPResponse, url: str) -> BaseHTTPResponse:
    """Refuse statuses and encodings that no reader can deal with."""
    status = response.status
    if status in (404, 410):
        response.drain_conn()
        raise FileNotFoundError(f"{url}: HTTP {status}, there is no such file; check the URL")
    if status in _PASSING:
        response.drain_conn()
        after_s = parse_retry_after(response.headers.get("retry-after"))
        raise AttemptFailedError(f"HTTP {status}", "try again later", after_s)
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if status in (200, 206) and encoding not in ("", "identity"):
        response.close()
        raise FetchError(
            f"{url}: sent with Content-Encoding {encoding}, asked for identity; "
            "switch compression off for this path on the server"
        )
    return response
