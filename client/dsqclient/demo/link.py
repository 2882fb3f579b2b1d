"""A slow link: a TCP proxy that lets so many bytes per second through and counts them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

_PIECE_NBYTES: Final = 8 << 10
_TIMEOUT_S: Final = 60.0
# A real link has a queue: this much may pass at once after a pause.
_BURST_S: Final = 0.02


class SlowLink:
    """Stands in front of a server; all its connections share one rate towards the client.

    Args:
        target: URL of the server.
        bytes_per_s: what may pass towards the client.
    """

    def __init__(self, target: str, bytes_per_s: float) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._rate = bytes_per_s
        self._lock = threading.Lock()
        self._free_at = time.monotonic()
        self._nbytes = 0
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{parts.path}"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def nbytes(self) -> int:
        """Bytes that passed in both directions, HTTP headers included."""
        with self._lock:
            return self._nbytes

    def __enter__(self) -> SlowLink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for connection in sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target, timeout=_TIMEOUT_S)
            except OSError:
                # The listener was closed, or the server is gone: clients see the connection end.
                if self._listener.fileno() < 0:
                    return
                client.close()
                continue
            client.settimeout(_TIMEOUT_S)
            with self._lock:
                self._sockets.update((client, server))
            for source, sink, slow in ((client, server, False), (server, client, True)):
                arguments = (source, sink, slow)
                threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, slow: bool) -> None:
        try:
            while data := source.recv(_PIECE_NBYTES):
                if slow:
                    self._wait(len(data))
                with self._lock:
                    self._nbytes += len(data)
                sink.sendall(data)
        except OSError:
            pass  # One side hung up; the other is told below.
        for connection in (source, sink):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._sockets.discard(source)
        source.close()

    def _wait(self, nbytes: int) -> None:
        """Sleep until the link has carried so many bytes more."""
        with self._lock:
            start = max(self._free_at, time.monotonic() - _BURST_S)
            self._free_at = start + nbytes / self._rate
            until = self._free_at
        time.sleep(max(0.0, until - time.monotonic()))
