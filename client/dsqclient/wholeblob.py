"""Files from servers that ignore Range: received once, kept in unnamed temporary files."""

from __future__ import annotations

import tempfile
import threading
from collections import OrderedDict
from typing import BinaryIO, Final, cast

from dsqclient.connections import Body

# Oldest files go when more than this is kept; the one in use always stays.
_KEPT_NBYTES: Final = 4 << 30


class WholeBlob:
    """One file on its way in, or here.

    The temporary file has no name, so nothing outlives the process. Hold `lock` around calls.

    Attributes:
        lock: for callers that share the blob.
        total: length of the file, None if the server has not said.
        received: bytes kept so far, from the first on.
        finished: whether all of the file is here.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.total: int | None = None
        self.received = 0
        self.finished = False
        self._file = cast(BinaryIO, tempfile.TemporaryFile(prefix="dsq-"))  # noqa: SIM115
        self._arriving: Body | None = None
        self._skip = 0

    @property
    def stalled(self) -> bool:
        """Whether more is missing and no response brings it."""
        return self._arriving is None and not self.finished

    def restart(self, arriving: Body, total: int | None) -> None:
        """Take further bytes from a new response, which begins at the first byte again.

        Args:
            arriving: the whole body; as many bytes as are here already are skipped by counting.
            total: length of the body, if known.
        """
        if total != self.total:
            self.received = 0  # another file by now; its checksums will tell
        self.total = total
        self._arriving, self._skip = arriving, self.received

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes from `start` on: at least one, or none if finished or stalled before it.

        Raises:
            Exception: what the response raised; the blob then is stalled.
        """
        while self.received <= start and self._arriving is not None:
            self._take_piece(self._arriving)
        nbytes = min(stop, self.received) - start
        if nbytes <= 0:
            return b""
        self._file.seek(start)
        return self._file.read(nbytes)

    def _take_piece(self, arriving: Body) -> None:
        self._arriving = None  # stalled, should next() raise
        piece = next(arriving, None)
        if piece is None:
            self.finished = self.total is None or self.received == self.total
            return
        skipped = min(self._skip, len(piece))
        self._skip -= skipped
        self._file.seek(self.received)
        self._file.write(piece[skipped:])
        self.received += len(piece) - skipped
        if self.received == self.total:
            self.finished = True
            arriving.close()
        else:
            self._arriving = arriving

    def close(self) -> None:
        """Drop the file and the response."""
        if self._arriving is not None:
            self._arriving.close()
            self._arriving = None
        self._file.close()

    def __del__(self) -> None:
        self._file.close()


class WholeBlobs:
    """The whole files that one process keeps, by path."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blobs: OrderedDict[str, WholeBlob] = OrderedDict()

    def get(self, path: str) -> WholeBlob | None:
        """Return the blob of a path if its server is known to send it whole."""
        with self._lock:
            blob = self._blobs.get(path)
            if blob is not None:
                self._blobs.move_to_end(path)
            return blob

    def begin(self, path: str, arriving: Body, total: int | None) -> WholeBlob:
        """Keep a response that brings a whole file."""
        with self._lock:
            blob = self._blobs.get(path)
            if blob is not None:  # another thread was faster
                arriving.close()
                return blob
            blob = self._blobs[path] = WholeBlob()
            blob.restart(arriving, total)
            kept = sum(other.total or other.received for other in self._blobs.values())
            while kept > _KEPT_NBYTES and len(self._blobs) > 1:
                _, oldest = self._blobs.popitem(last=False)
                kept -= oldest.total or oldest.received
            return blob

    def drop(self, path: str) -> None:
        """Forget a file."""
        with self._lock:
            self._blobs.pop(path, None)

    def close(self) -> None:
        """Forget all files."""
        with self._lock:
            blobs, self._blobs = self._blobs, OrderedDict()
        for blob in blobs.values():
            with blob.lock:
                blob.close()
