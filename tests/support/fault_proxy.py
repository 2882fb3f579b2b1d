"""A TCP proxy that behaves like a bad link: slow, cutting, lying, stalling."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlsplit

TIMEOUT_S = 20
PIECE_NBYTES = 4096


@dataclass
class Faults:
    """What goes wrong; bytes are counted in the direction of the client, headers included.

    Attributes:
        delay_s: wait before anything is passed on, in each direction, once per request.
        rate: bytes per second towards the client, over all connections; None: no limit.
        cuts: each is taken by one connection, in order: it is cut after so many bytes.
        cut_every: cut every connection after so many bytes; None: none.
        flips: the lowest bit of these bytes is flipped; counted over all connections.
        stall_at: after so many bytes, over all connections, nothing is passed on any more.
        refuse: accept connections and close them at once.
    """

    delay_s: float = 0.0
    rate: float | None = None
    cuts: list[int] = field(default_factory=list)
    cut_every: int | None = None
    flips: set[int] = field(default_factory=set)
    stall_at: int | None = None
    refuse: bool = False


class FaultProxy:
    """Passes connections on to a server, with faults that may be changed at any time.

    Attributes:
        faults: what goes wrong.
        down_nbytes: bytes passed to clients so far.
        connections: connections accepted so far.
        requests: request lines seen so far.
        heads: lines of request heads seen so far.
    """

    def __init__(self, upstream: str, **faults: object) -> None:
        parts = urlsplit(upstream)
        self._host, self._port, self._path = parts.hostname or "", parts.port, parts.path
        self.faults = Faults(**faults)  # type: ignore[arg-type]
        self.down_nbytes = 0
        self.connections = 0
        self.requests: list[str] = []
        self.heads: list[str] = []
        self._next_s = 0.0
        self._writers: list[asyncio.StreamWriter] = []
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0

    @property
    def url(self) -> str:
        """Where a client finds what is below the upstream URL."""
        return f"http://127.0.0.1:{self.port}{self._path}"

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        if not self._ready.wait(TIMEOUT_S):
            raise RuntimeError("the proxy did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(TIMEOUT_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.append(writer)
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._connection(reader, writer)
            writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)  # transports close in a later turn of the loop

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.faults.refuse:
            return
        left = self.faults.cuts.pop(0) if self.faults.cuts else self.faults.cut_every
        upstream_reader, upstream_writer = await asyncio.open_connection(self._host, self._port)
        self._writers.append(upstream_writer)
        up = asyncio.ensure_future(self._pass_up(reader, upstream_writer))
        try:
            await self._pass_down(upstream_reader, writer, left)
        finally:
            up.cancel()
            upstream_writer.transport.abort()

    async def _pass_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE_NBYTES):
            self.heads += data.decode("latin-1").split("\r\n")
            self.requests = [line for line in self.heads if line.endswith(" HTTP/1.1")]
            await asyncio.sleep(2 * self.faults.delay_s)  # there and back
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def _pass_down(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None
    ) -> None:
        while data := await reader.read(PIECE_NBYTES):
            if left is not None:
                data = data[:left]
                left -= len(data)
            if self.faults.stall_at is not None and self.down_nbytes >= self.faults.stall_at:
                await asyncio.sleep(3600)
            await self._pace(len(data))
            writer.write(self._flipped(data))
            self.down_nbytes += len(data)
            await writer.drain()
            if left == 0:
                return

    async def _pace(self, nbytes: int) -> None:
        if self.faults.rate is not None:
            now_s = time.monotonic()
            self._next_s = max(self._next_s, now_s) + nbytes / self.faults.rate
            await asyncio.sleep(self._next_s - now_s)

    def _flipped(self, data: bytes) -> bytes:
        hits = [at for at in self.faults.flips if 0 <= at - self.down_nbytes < len(data)]
        changed = bytearray(data)
        for at in hits:
            changed[at - self.down_nbytes] ^= 1
        return bytes(changed)
