"""`dsq serve` as a process of its own."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 30
DSQ = [sys.executable, "-c", "from dsqformat.cli import main; main()"]


@dataclass
class ServeProcess:
    """A running `dsq serve`.

    Attributes:
        process: of the server.
        url: that it printed, without a slash at its end.
        datasets: name to URL, as it printed them.
        log: file that holds what it writes to stderr.
    """

    process: subprocess.Popen[str]
    url: str
    datasets: dict[str, str]
    log: Path

    def rss_nbytes(self) -> int:
        """Memory that the process holds at this moment."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024


@contextmanager
def serving(root: Path, log: Path, *options: str) -> Iterator[ServeProcess]:
    """Run `dsq serve` on a free port until the block ends."""
    command = [*DSQ, "serve", str(root), "--port", "0", "--json", *options]
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        announced = json.loads(_first_line(process, log))
        yield ServeProcess(process, announced["url"], announced["datasets"], log)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(TIMEOUT_S)
        finally:
            process.kill()
            process.wait(TIMEOUT_S)
            if process.stdout is not None:
                process.stdout.close()


def _first_line(process: subprocess.Popen[str], log: Path) -> str:
    """Read the line that says where the server is; fail with its log if it does not come."""
    if process.stdout is None:
        raise ValueError("the process was started without a pipe")
    descriptor, text, deadline = process.stdout.fileno(), b"", time.monotonic() + TIMEOUT_S
    while not text.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0, deadline - time.monotonic()))
        data = os.read(descriptor, 4096) if ready else b""
        if not data:
            raise RuntimeError(f"dsq serve did not start: {log.read_text()}")
        text += data
    return text.decode()
