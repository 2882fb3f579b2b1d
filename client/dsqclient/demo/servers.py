"""The servers of the demo, as processes of their own: `dsq serve` and a plain static host."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dsqformat.errors import DsqError

_STOP_S: Final = 10.0
_DSQ: Final = "from dsqformat.cli import main; main()"


@contextlib.contextmanager
def dsq_server(root: Path) -> Iterator[dict[str, str]]:
    """Run `dsq serve` on a folder; yields the URL of each dataset by name."""
    command = [sys.executable, "-c", _DSQ, "serve", str(root), "--port", "0", "--json", "--quiet"]
    with _running(command) as process:
        line = _first_line(process, "dsq serve")
        yield dict(json.loads(line)["datasets"])


@contextlib.contextmanager
def static_server(root: Path) -> Iterator[str]:
    """Run `python -m http.server` on a folder; yields its URL."""
    command = [sys.executable, "-u", "-m", "http.server", "0"]
    command += ["--bind", "127.0.0.1", "--directory", str(root), "--protocol", "HTTP/1.1"]
    with _running(command) as process:
        found = re.search(r"port (\d+)", _first_line(process, "http.server"))
        if found is None:
            raise DsqError("http.server did not say its port")
        yield f"http://127.0.0.1:{found[1]}"


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _first_line(process: subprocess.Popen[str], name: str) -> str:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        raise DsqError(
            f"{name} stopped at once with exit code {process.wait()}; "
            "is the server extra installed: pip install 'dsqformat[server]'?"
        )
    return line
