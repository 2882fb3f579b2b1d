"""How long a program waits for the packages, each time measured in a fresh interpreter."""

import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.bench
RUNS = 7


def _best_ms(code: str) -> float:
    durations_s = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)
        durations_s.append(time.perf_counter() - start)
    return min(durations_s) * 1000


def test_import_time():
    bare_ms = _best_ms("pass")
    print(f"\nbest of {RUNS} runs, above the {bare_ms:.0f} ms of a bare interpreter")
    for code in (
        "import numpy",
        "import dsqformat",
        "import dsqserver",
        "import dsqclient",
        "import sys; sys.argv = ['dsq', '--help']; from dsqformat.cli import main; main()",
    ):
        print(f"  {_best_ms(code) - bare_ms:6.0f} ms  {code}")
