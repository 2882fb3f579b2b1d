"""Bodies on their way out: files in reads of 64 KiB, never more than one of them in memory.

The server's transport takes a piece only when the client has taken those before it, so a client
that stops reading costs one piece and a file handle, however much it asked for.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Mapping
from io import FileIO
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dsqserver.problems import ProblemError, requested_path
from dsqserver.ranges import ByteRange, Plan, Representation, plan_response

logger = logging.getLogger(__name__)

PIECE_NBYTES: Final = 64 << 10
# Reads what is in the page cache at once, and fails instead of waiting for a disk (Linux).
_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)


class PlannedResponse(Response):
    """The answer to a GET or HEAD as `plan_response` decided it.

    Args:
        plan: status, headers and bytes; not that of an error.
        source: the bytes of the representation, or the open file that holds them. The response
            owns the file and closes it.
    """

    def __init__(self, plan: Plan, source: bytes | FileIO) -> None:
        self.plan = plan
        self.source = source
        self.status_code = plan.status
        self.background = None
        self.raw_headers = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in plan.headers
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send head and body; stop early if the client goes away or the file ends early."""
        start = {
            "type": "http.response.start",
            "status": self.plan.status,
            "headers": self.raw_headers,
        }
        try:
            await send(start)
            if scope["method"] == "HEAD" or not self.plan.ranges:
                await send({"type": "http.response.body"})
            else:
                await self._send_body(scope, receive, send)
        finally:
            if isinstance(self.source, FileIO):
                self.source.close()

    async def _send_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Servers take what is sent to a client that has gone and drop it in silence.
        gone = asyncio.ensure_future(_wait_for_disconnect(receive))
        try:
            for piece in self.plan.pieces():
                async for data in self._read(piece):
                    if gone.done():
                        return
                    if not data:
                        # Leaving the body unfinished makes the server cut the connection.
                        logger.error("%s: the file has become shorter", requested_path(scope))
                        return
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                    # A client as fast as this loop must not keep the others waiting.
                    await asyncio.sleep(0)
            await send({"type": "http.response.body"})
        finally:
            gone.cancel()

    async def _read(self, piece: bytes | ByteRange) -> AsyncIterator[bytes]:
        """Yield the bytes of a piece, at most PIECE_NBYTES at a time; b"" if they are missing."""
        if isinstance(piece, bytes):
            yield piece
            return
        position = piece.start
        while position < piece.stop:
            nbytes = min(PIECE_NBYTES, piece.stop - position)
            if isinstance(self.source, bytes):
                data = self.source[position : position + nbytes]
            else:
                data = await _read_file(self.source.fileno(), position, nbytes)
            yield data
            position += len(data)


def respond(
    scope: Scope,
    fields: Mapping[str, str],
    representation: Representation,
    source: bytes | FileIO,
) -> PlannedResponse:
    """Return the answer to a request for a representation.

    Args:
        scope: ASGI scope of the request.
        fields: header fields of the request, as `combine_fields` makes them.
        representation: what the resource consists of.
        source: its bytes or its open file, which is the response's from here on.

    Raises:
        ProblemError: precondition_failed or range_not_satisfiable.
    """
    plan = plan_response(scope["method"], fields, representation)
    if plan.status in (412, 416) and isinstance(source, FileIO):
        source.close()
    if plan.status == 412:
        detail = f"got If-Match {fields['if-match']}, expected {representation.etag}"
        raise ProblemError("precondition_failed", detail)
    if plan.status == 416:
        detail = f"got Range {fields['range']}, expected one within {representation.nbytes} bytes"
        raise ProblemError("range_not_satisfiable", detail, dict(plan.headers))
    return PlannedResponse(plan, source)


def represent_bytes(
    content: bytes, media_type: str, cache_control: str, *, ranges: bool = True
) -> Representation:
    """Describe bytes in memory; their digest is their entity tag."""
    digest = hashlib.sha256(content).hexdigest()
    return represent_digest(digest, len(content), media_type, cache_control, ranges=ranges)


def represent_digest(
    digest: str, nbytes: int, media_type: str, cache_control: str, *, ranges: bool = True
) -> Representation:
    """Describe content whose SHA-256 is known.

    Args:
        digest: 64 hexadecimal digits.
        nbytes: length of the content.
        media_type: value of Content-Type.
        cache_control: value of Cache-Control.
        ranges: whether ranges are offered.
    """
    value = base64.b64encode(bytes.fromhex(digest)).decode("ascii")
    return Representation(
        nbytes, f'"{digest}"', media_type, cache_control, f"sha-256=:{value}:", ranges
    )


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read_file(descriptor: int, start: int, nbytes: int) -> bytes:
    """Read from the page cache at once, from a disk in a thread."""
    if _NOWAIT:
        buffer = bytearray(nbytes)
        try:
            count = os.preadv(descriptor, [buffer], start, _NOWAIT)
            return bytes(memoryview(buffer)[:count])
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP):
                raise
    return await asyncio.to_thread(os.pread, descriptor, nbytes, start)
