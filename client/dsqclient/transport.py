"""Byte ranges over HTTP(S) that survive a bad link."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from urllib3.response import BaseHTTPResponse

from dsqclient.connections import PIECE_NBYTES, Connections, TransferCounts
from dsqclient.http_parts import (
    AttemptFailedError,
    content_length,
    content_range,
    ended,
    split_url,
    unsatisfied_total,
)
from dsqclient.ratelimit import TokenBucket
from dsqclient.retry import HttpOptions, Patience
from dsqclient.wholeblob import WholeBlob, WholeBlobs
from dsqformat import wire
from dsqformat.errors import DatasetError, FetchError, TruncatedShardError

_LOGGER = logging.getLogger(__name__)


class HttpSource:
    """A dataset directory below a URL: a `dsqformat.bytesource.ByteSource`.

    Every range is asked for as a closed range. A transfer that is cut continues at the byte after
    the cut. A server that ignores Range is asked once for each file, which then is kept in an
    unnamed temporary file. May be forked, or pickled and sent, at any time; safe to use from
    several threads.

    Args:
        url: of the directory that holds dataset.json; http or https.
        options: timeouts, retries, headers.
        rate_limit: most bytes per second to receive in one process, or None.

    Raises:
        ValueError: the URL is not one of http or https, or has a query.
    """

    def __init__(
        self, url: str, *, options: HttpOptions | None = None, rate_limit: float | None = None
    ) -> None:
        self.location, headers = split_url(url)
        given = options or HttpOptions()
        self.options = replace(given, headers={**headers, **given.headers})
        bucket = TokenBucket(rate_limit) if rate_limit is not None else None
        self._connections = Connections(self.options, bucket)
        self._whole = WholeBlobs()

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("location", "options", "_connections")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._whole = WholeBlobs()

    @property
    def counts(self) -> TransferCounts:
        """Requests, bytes and failures of this process so far."""
        return self._connections.counts

    @property
    def rate_limit(self) -> float | None:
        """Most bytes per second this process receives; it may be changed at any time."""
        bucket = self._connections.bucket
        return bucket.bytes_per_s if bucket is not None else None

    @rate_limit.setter
    def rate_limit(self, bytes_per_s: float | None) -> None:
        if bytes_per_s is None:
            self._connections.bucket = None
        elif self._connections.bucket is None:
            self._connections.bucket = TokenBucket(bytes_per_s)
        else:
            self._connections.bucket.bytes_per_s = bytes_per_s

    def url(self, path: str) -> str:
        """Return the URL of a file of the dataset."""
        return f"{self.location}/{quote(path)}"

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return exactly the bytes [start, stop) of a file; to its end if stop is None.

        Raises:
            FileNotFoundError: the server knows no such file.
            TruncatedShardError: the file ends before stop.
            FetchError: the transport failed after its retries.
        """
        if stop is None:
            return self._read_to_end(path)[start:]
        data = bytearray()
        for piece in self.stream(path, start, stop):
            data += piece
        return bytes(data)

    def stream(
        self,
        path: str,
        start: int = 0,
        stop: int | None = None,
        *,
        cancelled: threading.Event | None = None,
    ) -> Iterator[bytes]:
        """Yield the bytes [start, stop) in pieces, as they arrive.

        Args:
            path: relative path of the file.
            start: first byte.
            stop: one after the last byte; None: the end of the file.
            cancelled: when set, the transfer ends with TransferCancelled.
        """
        stop = self.size(path) if stop is None else stop
        if not 0 <= start <= stop:
            raise ValueError(f"{self.url(path)}: range [{start}, {stop}) is not a range")
        patience = self._patience(path, cancelled)
        while start < stop:
            try:
                with closing(self._attempt(path, start, stop)) as pieces:
                    for piece in pieces:
                        start += len(piece)
                        patience.progress(len(piece))
                        yield piece
                if start < stop:
                    raise _cut(start, stop)
            except AttemptFailedError as failure:
                self._wait_after(failure, path, patience)

    def size(self, path: str) -> int:
        """Return the length of a file in bytes, as the server states it."""
        patience = self._patience(path)
        while True:
            try:
                response = self._send("HEAD", path)
                length = content_length(response)
                response.drain_conn()
                if response.status == 200 and length is not None:
                    return length
                # Some servers know no HEAD; a range of one byte tells the same.
                return self._size_by_range(path)
            except AttemptFailedError as failure:
                self._wait_after(failure, path, patience)

    def forget(self, path: str) -> None:
        """Drop what is kept of a file, so that the next read asks the server again."""
        self._whole.drop(path)

    def close(self) -> None:
        """Close connections and temporary files; the source may be used again afterwards."""
        self._connections.close()
        self._whole.close()

    # One attempt --------------------------------------------------------------------------------

    def _attempt(self, path: str, start: int, stop: int) -> Generator[bytes]:
        blob = self._whole.get(path)
        if blob is None:
            response = self._send("GET", path, {"Range": f"bytes={start}-{stop - 1}"})
            if response.status == 206:
                end = self._checked_end(response, path, start, stop)
                with closing(self._connections.body(response, end - start)) as body:
                    yield from body
                return
            total = self._whole_length(response, path, start, stop)
            if start == 0 and stop == total:
                with closing(self._connections.body(response, stop)) as body:
                    yield from body
                return
            _LOGGER.info("%s: the server ignores Range; taking the whole file", self.url(path))
            blob = self._whole.begin(path, self._connections.body(response, total), total)
        yield from self._from_whole(blob, path, start, stop)

    def _from_whole(self, blob: WholeBlob, path: str, start: int, stop: int) -> Generator[bytes]:
        """Yield a range of a file that arrives, or has arrived, as a whole."""
        while start < stop:
            with blob.lock:
                if blob.stalled:
                    response = self._send("GET", path)
                    total = self._whole_length(response, path, start, stop)
                    blob.restart(self._connections.body(response, total), total)
                piece = blob.read(start, min(stop, start + PIECE_NBYTES))
                received, finished = blob.received, blob.finished
            if not piece and finished:
                raise ended(self.url(path), received, stop)
            if not piece:
                raise _cut(received, blob.total or stop)
            start += len(piece)
            yield piece

    def _read_to_end(self, path: str) -> bytes:
        """Read a file of unknown length at one go: what is mutable must not be spliced."""
        limit = wire.MAX_SNAPSHOT_NBYTES if path.endswith(".json") else wire.MAX_HEAD_NBYTES
        patience = self._patience(path)
        while True:
            try:
                response = self._send("GET", path)
                total = self._whole_length(response, path, 0, 0)
                data = bytearray()
                with closing(self._connections.body(response, total)) as body:
                    for piece in body:
                        data += piece
                        patience.progress(len(piece))
                        if max(len(data), total or 0) > limit:
                            raise DatasetError(
                                f"{self.url(path)}: more than {limit} bytes, the format's limit"
                            )
                if total is not None and len(data) != total:
                    raise _cut(len(data), total)
                return bytes(data)
            except AttemptFailedError as failure:
                self._wait_after(failure, path, patience)

    def _size_by_range(self, path: str) -> int:
        response = self._send("GET", path, {"Range": "bytes=0-0"})
        given = content_range(response)
        total = given[2] if response.status == 206 and given else content_length(response)
        if response.status not in (200, 206) or total is None:
            raise self._refusal(response, path, 0, 1)
        response.close()
        return total

    # Requests and responses ---------------------------------------------------------------------

    def _send(
        self, method: str, path: str, headers: dict[str, str] | None = None
    ) -> BaseHTTPResponse:
        if self._connections.begin_process():
            self._whole = WholeBlobs()
        return self._connections.send(method, self.url(path), headers or {})

    def _checked_end(self, response: BaseHTTPResponse, path: str, start: int, stop: int) -> int:
        """Return where a 206 ends; refuse one that does not begin where it should."""
        given = content_range(response)
        if given is None or given[0] != start:
            response.close()
            value = response.headers.get("content-range")
            raise AttemptFailedError(
                f"HTTP 206 with Content-Range {value!r:.60} for bytes {start}-{stop - 1}",
                "the server or a proxy on the way is faulty",
            )
        if given[2] < stop:
            response.close()
            raise ended(self.url(path), given[2], stop)
        return min(given[1], stop)

    def _whole_length(
        self, response: BaseHTTPResponse, path: str, start: int, stop: int
    ) -> int | None:
        """Return the length of a whole file sent with 200; refuse any other status."""
        if response.status != 200:
            raise self._refusal(response, path, start, stop)
        total = content_length(response)
        if total is not None and total < stop:
            response.close()
            raise ended(self.url(path), total, stop)
        return total

    def _refusal(
        self, response: BaseHTTPResponse, path: str, start: int, stop: int
    ) -> FetchError | TruncatedShardError:
        status, total = response.status, unsatisfied_total(response)
        response.close()
        if status == 416 and total is not None and total < stop:
            return ended(self.url(path), total, stop)
        remedy = "check the URL and the log of the server"
        if status in (401, 403):
            remedy = "it wants authorization: pass HttpOptions(headers={'Authorization': ...})"
        asked = f" for bytes {start}-{stop - 1}" if stop else ""
        return FetchError(f"{self.url(path)}: HTTP {status}{asked}; {remedy}")

    def _patience(self, path: str, cancelled: threading.Event | None = None) -> Patience:
        return Patience(
            self.options,
            self.url(path),
            bytes_per_s=self.rate_limit,
            cancelled=cancelled,
        )

    def _wait_after(self, failure: AttemptFailedError, path: str, patience: Patience) -> None:
        self.counts.add(failures=1)
        _LOGGER.info("%s: %s; trying again", self.url(path), failure.cause)
        attempts = self.options.attempts
        if not self._connections.answered:  # more likely a wrong address than a bad link
            attempts = min(attempts, self.options.first_attempts)
        try:
            patience.wait(
                failure.cause,
                failure.remedy,
                attempts=attempts,
                retry_after_s=failure.retry_after_s,
            )
        except FetchError as error:
            raise error from failure.__cause__ or failure


def _cut(position: int, stop: int) -> AttemptFailedError:
    return AttemptFailedError(f"the body ended at byte {position} of {stop}", "check the link")
