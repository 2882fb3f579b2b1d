"""A small value that a process and its children see alike."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from typing import Any

try:
    import fcntl
except ImportError:  # not a POSIX system: children then must not write at the same time
    fcntl = None  # type: ignore[assignment]


class SharedJson:
    """A JSON object in a file without a name, guarded by a lock.

    Children share it, whether forked or spawned; nothing of it is left when all have ended,
    however they end. A pickled copy that is not on its way to a child is a value of its own.
    """

    def __init__(self, value: dict[str, Any]) -> None:
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("dsq-epochs")
        else:
            with tempfile.TemporaryFile() as file:
                self._descriptor = os.dup(file.fileno())
        self._threads = threading.Lock()
        self.write(value)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def __getstate__(self) -> dict[str, Any]:
        if get_spawning_popen() is not None:
            return {"descriptor": DupFd(self._descriptor)}
        with self.locked():
            return {"value": self.read()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "value" in state:
            self.__init__(state["value"])  # type: ignore[misc]
        else:
            self._descriptor = state["descriptor"].detach()
            self._threads = threading.Lock()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all other threads and processes out."""
        with self._threads:
            # Locks of POSIX belong to a process, so that forked children exclude each other too.
            if fcntl is not None:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                if fcntl is not None:
                    fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def read(self) -> dict[str, Any]:
        """Return the value; call with the lock held."""
        nbytes = os.fstat(self._descriptor).st_size
        value: dict[str, Any] = json.loads(os.pread(self._descriptor, nbytes, 0))
        return value

    def write(self, value: dict[str, Any]) -> None:
        """Replace the value; call with the lock held."""
        text = json.dumps(value).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)
