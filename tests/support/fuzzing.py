"""Starts processes that fuzz, and says what they found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernel_builds import built_kernels

ROOT = Path(__file__).parents[2]
SUPPORT = Path(__file__).parent
WORKER = SUPPORT / "fuzz_worker.py"
# The kernels that get to see the bytes of strangers, as setup.py says too.
DECODERS = {"block_decode", "dequant", "patches", "rans_decode"}


@dataclass
class Findings:
    """What some processes report together.

    Attributes:
        payloads: that were run.
        outcomes: how often each target gave each outcome.
        failures: everything but a typed error, as text.
        sound_seeds: seeds that decode as they are, of `seeds`.
        seeds: all of them.
        compiled: whether the kernels were.
        summary: a line for people.
    """

    payloads: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    sound_seeds: int = 0
    seeds: int = 0
    compiled: bool = False
    summary: str = ""


@dataclass(frozen=True)
class Run:
    """How a run of payloads is made.

    Attributes:
        payloads: how many.
        seed: of all of them.
        kernels: folder of another build of the kernels.
        memory_mib: how much more a process may map than at its start; 0: no limit.
        slowness: of these kernels.
        processes: that share the payloads.
        env: added to the environment.
        timeout_s: for the whole run.
    """

    payloads: int
    seed: int = 0
    kernels: Path | None = None
    memory_mib: int = 1024
    slowness: float = 1.0
    processes: int = 2
    env: dict[str, str] = field(default_factory=dict)
    timeout_s: float = 300.0


def fuzz(corpus: Path, folder: Path, run: Run) -> Findings:
    """Run payloads in processes of their own.

    Args:
        corpus: as `fuzz_corpus.write_corpus` makes it.
        folder: for what the processes write.
        run: what to run.
    """
    processes = []
    for number in range(run.processes):
        command = [sys.executable, str(WORKER), str(corpus), *_options(run, number, folder)]
        with (folder / f"{number}.out").open("w") as out, (folder / f"{number}.err").open("w") as e:
            processes.append(subprocess.Popen(command, stdout=out, stderr=e, env=_environment(run)))
    findings = Findings()
    try:
        for number, process in enumerate(processes):
            code = _wait(process, run.timeout_s)
            _collect(findings, folder, number, code, run)
    finally:
        for process in processes:
            process.kill()
            process.wait(30)
    return findings


def stale_build(mode: str) -> str:
    """Return why build/MODE cannot be used, or nothing if it is there and up to date."""
    folder = ROOT / "build" / mode
    kernels = built_kernels(folder)
    sources = [*(ROOT / "dsqformat" / "kernels").glob("*.p*"), ROOT / "setup.py"]
    newest = max(path.stat().st_mtime for path in sources if path.suffix in (".py", ".pxd"))
    missing = DECODERS - {path.name.partition(".")[0] for path in kernels}
    if missing:
        return f"build/{mode} has no kernels {sorted(missing)}; `make {mode}` builds them"
    if min(path.stat().st_mtime for path in kernels) < newest:
        return f"the kernels in build/{mode} are older than their sources; run `make {mode}`"
    return ""


def sanitizer_environment() -> dict[str, str]:
    """Return what a process needs to load kernels with sanitizers; empty if there are none."""
    compiler = shutil.which("gcc")
    if compiler is None:
        return {}
    libraries = []
    for name in ("libasan.so", "libubsan.so"):
        command = [compiler, f"-print-file-name={name}"]
        path = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        libraries.append(path.stdout.strip())
    if not all(Path(path).is_absolute() for path in libraries):
        return {}
    return {
        "LD_PRELOAD": " ".join(libraries),
        # Python keeps memory until it ends; what cannot be had is a MemoryError.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=1024",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        # Python's own allocator would hide small blocks from the sanitizer.
        "PYTHONMALLOC": "malloc",
    }


def _options(run: Run, number: int, folder: Path) -> list[str]:
    options = {
        "payloads": run.payloads - number,
        "first": number,
        "step": run.processes,
        "seed": run.seed,
        "memory-mib": run.memory_mib,
        "slowness": run.slowness,
        "marks": folder / f"{number}.mark",
    }
    if run.kernels is not None:
        options["kernels"] = run.kernels
    return [f"--{name}={value}" for name, value in options.items()]


def _environment(run: Run) -> dict[str, str]:
    # One thread each: those of NumPy's linear algebra would only wait for each other.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, **threads, "PYTHONPATH": path, **run.env}


def _wait(process: subprocess.Popen[Any], timeout_s: float) -> int | None:
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return None


def _collect(findings: Findings, folder: Path, number: int, code: int | None, run: Run) -> None:
    text = (folder / f"{number}.out").read_text()
    if code != 0 or not text:
        mark = folder / f"{number}.mark"
        last = int.from_bytes(mark.read_bytes(), "little") if mark.exists() else -1
        log = (folder / f"{number}.err").read_text()
        ended = "took too long" if code is None else f"ended with {code}"
        findings.failures.append(f"{_again(run, last)}: the process {ended}: {log[:6000]}")
        return
    found = json.loads(text)
    findings.payloads += found["payloads"]
    findings.outcomes.update(found["outcomes"])
    findings.seeds, findings.sound_seeds = found["seeds"], found["sound_seeds"]
    findings.compiled = found["compiled"]
    findings.summary += (
        f"{found['payloads']} payloads in {found['seconds']} s, the slowest {found['slowest_s']} s,"
        f" at most {found['peak_mib']} MiB; "
    )
    for failure in found["failures"]:
        where = f"{_again(run, failure['number'])}: {failure['target']} {failure['name']}"
        parts = " ".join(failure["parts"])
        findings.failures.append(f"{where}: {failure['problem']}\nparts: {parts[:4000]}")


def _again(run: Run, number: int) -> str:
    return f"payload {number} (--first={number} --payloads=1 --seed={run.seed})"


def payload_counts(outcomes: dict[str, int] | Counter[str]) -> dict[str, int]:
    """Return how many payloads each target had."""
    counts: Counter[str] = Counter()
    for name, count in outcomes.items():
        counts[name.rpartition(": ")[0]] += count
    return dict(counts)
