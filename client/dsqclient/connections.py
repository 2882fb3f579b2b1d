"""Requests over kept-alive connections: redirects, statuses, rate limit, fork safety."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Generator
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

    def body(self, response: BaseHTTPResponse, nbytes: int | None) -> Generator[bytes]:
        """Yield at most `nbytes` of a body as they arrive; close it when left early.

        Raises:
            AttemptFailedError: the body broke off.
        """
        received = 0
        try:
            while nbytes is None or received < nbytes:
                most = _LIMITED_PIECE_NBYTES if self.bucket else PIECE_NBYTES
                most = most if nbytes is None else min(most, nbytes - received)
                piece = response.read1(most, decode_content=False)
                if not piece:
                    break
                received += len(piece)
                self.counts.add(body_nbytes=len(piece))
                if self.bucket is not None:
                    self.bucket.take(len(piece))
                yield piece
        except (HTTPError, OSError) as error:
            raise describe_failure(error) from error
        finally:
            if nbytes is None or received < nbytes:
                response.close()
            else:
                response.drain_conn()
            response.release_conn()

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
