"""What surrounds every route, as plain ASGI so that bodies stream through unbuffered."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dsqserver.problems import ALLOWED_METHODS, ProblemError, ProblemResponse, requested_path

access_logger = logging.getLogger("dsqserver.access")

# Never part of a path of ours; decoded they would be separators, or end a name early.
_ENCODED_SEPARATOR = re.compile(rb"%(2f|5c|00)", re.IGNORECASE)
EXPOSED_HEADERS: Final = "Accept-Ranges, Content-Length, Content-Range, ETag, Repr-Digest"
ALLOWED_HEADERS: Final = "If-Match, If-None-Match, If-Range, Range"


class RequestLog:
    """Write one line for each request when it is over: method, path, status, bytes, time.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, nbytes = 0, 0
        begin = time.perf_counter()

        async def count(message: Message) -> None:
            nonlocal status, nbytes
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
            nbytes += len(message.get("body", b""))

        try:
            await self._app(scope, receive, count)
        finally:
            seconds = time.perf_counter() - begin
            query = scope["query_string"].decode("ascii", "replace")
            access_logger.info(
                "%s %s %s %d %d bytes %.3f s",
                (scope.get("client") or ("-",))[0],
                scope["method"],
                requested_path(scope) + (f"?{query}" if query else ""),
                status or 500,  # left without an answer, it is answered by the framework
                nbytes if scope["method"] != "HEAD" else 0,
                seconds,
            )


class ResponseHeaders:
    """Add what every response carries, refuse odd paths, and answer for other origins.

    Args:
        app: what answers.
        allow_origins: origins whose pages may read the answers (CORS); "*" stands for all.
    """

    def __init__(self, app: ASGIApp, allow_origins: Collection[str] = ()) -> None:
        self._app = app
        self._allow_origins = frozenset(allow_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin = self._allowed_origin(Headers(scope=scope).get("origin"))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-content-type-options"] = "nosniff"
                if self._allow_origins:
                    headers.add_vary_header("Origin")
                if origin:
                    headers["access-control-allow-origin"] = origin
                    headers["access-control-expose-headers"] = EXPOSED_HEADERS
            await send(message)

        app = self._app
        if _ENCODED_SEPARATOR.search(scope.get("raw_path") or b""):
            error = ProblemError("not_found", "no path here holds an encoded /, \\ or NUL")
            app = ProblemResponse(error, scope)
        elif origin and _is_preflight(scope):
            app = _PREFLIGHT
        await app(scope, receive, send_with_headers)

    def _allowed_origin(self, origin: str | None) -> str | None:
        if origin is None or "*" in self._allow_origins:
            return "*" if "*" in self._allow_origins else None
        return origin if origin in self._allow_origins else None


class ConcurrencyLimit:
    """Answer 503 instead of taking on more requests than the limit at the same time.

    Args:
        app: what answers.
        limit: most requests in work, stalled ones included.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._in_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        # The health check tells whether the process lives, which it does when it is busy.
        if scope["type"] != "http" or scope["path"] == "/healthz":
            await self._app(scope, receive, send)
            return
        if self._in_work >= self._limit:
            detail = f"{self._limit} requests are in work, which is the limit"
            error = ProblemError("overloaded", detail, {"retry-after": "1"})
            await ProblemResponse(error, scope)(scope, receive, send)
            return
        self._in_work += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_work -= 1


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and "access-control-request-method" in Headers(scope=scope)


_PREFLIGHT: Final = Response(
    status_code=204,
    headers={
        "access-control-allow-methods": ALLOWED_METHODS,
        "access-control-allow-headers": ALLOWED_HEADERS,
        "access-control-max-age": "86400",
    },
)
