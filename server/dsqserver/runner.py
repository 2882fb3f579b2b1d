"""Run an application with uvicorn: on a socket that is bound first, or in a thread beside others.

uvicorn has no time limit for request heads that trickle in, so it faces the internet only behind
nginx or caddy. Against clients that stop reading, the kernel closes connections (STALL_TIMEOUT_S).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
import threading
import time
from types import TracebackType
from typing import Final

import uvicorn
from fastapi import FastAPI

from dsqformat.errors import DsqError
from dsqserver.app import DEFAULT_LIMIT_CONCURRENCY

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8000
# A reader that takes nothing for this long is gone, or might as well be.
STALL_TIMEOUT_S: Final = 300.0
# Connections stay open while a trainer works on what it has.
KEEP_ALIVE_S: Final = 75
_BACKLOG: Final = 1024
_START_TIMEOUT_S: Final = 30.0


def listen(
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    *,
    stall_timeout_s: float = STALL_TIMEOUT_S,
) -> socket.socket:
    """Return a listening TCP socket; clients may connect from here on.

    Args:
        host: name or address of an interface of this machine.
        port: 0 for any that is free.
        stall_timeout_s: seconds after which the connection of a client that takes no data is
            closed; 0 for never. Only Linux can do this.

    Raises:
        DsqError: the address cannot be listened on.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _cannot_listen(host, port, error) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux" and stall_timeout_s:
            # Accepted sockets inherit it; a window that stays shut counts as unacknowledged.
            milliseconds = int(stall_timeout_s * 1000)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _cannot_listen(host, port, error) from error
    return sock


def url_of(sock: socket.socket) -> str:
    """Return the URL of a listening socket, without a slash at its end."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(
    app: FastAPI,
    *,
    limit_concurrency: int = DEFAULT_LIMIT_CONCURRENCY,
    graceful_s: int = 3,
) -> uvicorn.Server:
    """Configure uvicorn for an application of `create_app`.

    Args:
        app: the application.
        limit_concurrency: what the application was given. Twice as many connections are taken;
            one more is answered 503 in plain text by uvicorn itself.
        graceful_s: seconds that requests in work have to end when the server stops.
    """
    config = uvicorn.Config(
        app,
        access_log=False,  # dsqserver.access has more in it
        backlog=_BACKLOG,
        lifespan="off",
        limit_concurrency=2 * limit_concurrency + 1,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=graceful_s,
        timeout_keep_alive=KEEP_ALIVE_S,
        ws="none",
    )
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
    return uvicorn.Server(config)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Keep tracebacks of requests that were cut off by Ctrl-C out of the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


class BackgroundServer:
    """A server in a thread, for the time of a `with` block.

    Args:
        app: an application of `create_app`.
        sock: a socket of `listen`; by default a free port of the loopback interface.

    Attributes:
        url: of the server, without a slash at its end.
    """

    def __init__(self, app: FastAPI, sock: socket.socket | None = None) -> None:
        self._sock = listen(port=0) if sock is None else sock
        self._server = make_server(app, graceful_s=1)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._sock],), name="dsqserver", daemon=True
        )
        self.url = url_of(self._sock)

    def __enter__(self) -> BackgroundServer:
        """Start the thread and wait until it answers."""
        self._thread.start()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise DsqError(f"{self.url}: the server did not start; its log says why")
            time.sleep(0.005)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the server and wait for its thread."""
        self._server.should_exit = True
        self._thread.join(_START_TIMEOUT_S)


def _cannot_listen(host: str, port: int, error: OSError) -> DsqError:
    remedies = {
        errno.EADDRINUSE: "another program listens there; choose another port, 0 for a free one",
        errno.EACCES: "ports below 1024 are for administrators; choose another port",
        errno.EADDRNOTAVAIL: "this machine has no such address; 0.0.0.0 stands for all it has",
    }
    remedy = remedies.get(error.errno or 0, str(error.strerror or error))
    return DsqError(f"cannot listen on {host} port {port}: {remedy}")
