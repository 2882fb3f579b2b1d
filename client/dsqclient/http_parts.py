"""Reading URLs, headers and failures of HTTP."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    IncompleteRead,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.response import BaseHTTPResponse

from dsqformat.errors import FetchError, TruncatedShardError

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_UNSATISFIED: Final = re.compile(r"bytes \*/(\d{1,18})")


class AttemptFailedError(Exception):
    """One attempt ended early; the next may go better.

    Attributes:
        cause: what happened.
        remedy: what a person could do, should it go on.
        retry_after_s: seconds the server asks to wait.
    """

    def __init__(self, cause: str, remedy: str, retry_after_s: float = 0.0) -> None:
        super().__init__(cause)
        self.cause, self.remedy, self.retry_after_s = cause, remedy, retry_after_s


def split_url(url: str) -> tuple[str, dict[str, str]]:
    """Return a dataset's URL without credentials and final slash, and the headers they become.

    Raises:
        ValueError: not http or https, no host, or a query or fragment.
    """
    parts = urlsplit(url)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url}: expected a URL beginning with http:// or https://")
    if parts.query or parts.fragment:
        raise ValueError(f"{url}: a dataset URL has neither query nor fragment")
    headers: dict[str, str] = {}
    if parts.username is not None:
        given = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = {"Authorization": urllib3.make_headers(basic_auth=given)["authorization"]}
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme.lower(), host, parts.path.rstrip("/"), "", "")), headers


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of a URL (RFC 6454)."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def redirect_target(url: str, response: BaseHTTPResponse) -> str:
    """Return where a redirect leads, and leave its connection reusable.

    Raises:
        FetchError: nowhere, to another scheme, or from https to http.
    """
    location = response.headers.get("location", "")
    response.drain_conn()
    target = urljoin(url, location)
    scheme = urlsplit(target).scheme
    if not location or scheme not in ("http", "https"):
        raise FetchError(f"{url}: redirected to {location!r:.100}, expected http or https")
    if urlsplit(url).scheme == "https" and scheme == "http":
        raise FetchError(f"{url}: redirected from https to {target:.100}, which is refused")
    return target


def content_length(response: BaseHTTPResponse) -> int | None:
    """Return the stated length of a body, or None."""
    value = response.headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() else None


def content_range(response: BaseHTTPResponse) -> tuple[int, int, int] | None:
    """Return start, end (exclusive) and total of a Content-Range, or None if it has no sense."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if match is None:
        return None
    start, last, total = (int(number) for number in match.groups())
    return (start, last + 1, total) if start <= last < total else None


def unsatisfied_total(response: BaseHTTPResponse) -> int | None:
    """Return the length of the file as a 416 states it, or None."""
    match = _UNSATISFIED.fullmatch(response.headers.get("content-range", ""))
    return int(match[1]) if match else None


def ended(url: str, nbytes: int, stop: int) -> TruncatedShardError:
    """Return the error for a file that is shorter than it should be."""
    return TruncatedShardError(
        f"{url}: has {nbytes} bytes, expected at least {stop}", shard=url, offset=nbytes
    )


def describe_failure(error: Exception) -> AttemptFailedError:
    """Say in plain words what urllib3 reports."""
    if isinstance(error, NameResolutionError):
        return AttemptFailedError("the host name is unknown", "check the URL")
    if isinstance(error, NewConnectionError):
        cause = error.__cause__ or error
        return AttemptFailedError(f"no connection ({cause})", "is the server running there?")
    if isinstance(error, ConnectTimeoutError):
        return AttemptFailedError("no connection in time", "check host, port and link")
    if isinstance(error, ReadTimeoutError):
        return AttemptFailedError("no byte arrived in time", "check the link, or read_timeout_s")
    if isinstance(error, IncompleteRead):
        return AttemptFailedError("the body ended early", "check the link")
    if isinstance(error, SSLError):
        return AttemptFailedError(f"TLS: {error}", "check the certificate and the clock")
    if isinstance(error, ProtocolError):
        return AttemptFailedError(f"the connection broke ({error.args[-1]})", "check the link")
    return AttemptFailedError(str(error) or type(error).__name__, "check the link")
