"""Runs some payloads and says what came of them; a process of its own, since it may crash.

    python tests/support/fuzz_worker.py CORPUS --payloads 1000 --seed 0

Payload i of a seed is always the same. `--first i --payloads 1` repeats one.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import mmap
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from kernel_builds import use_kernels

# How often each target is chosen: those with compiled loops most.
WEIGHTS: Final = {
    "block": 6,
    "pixels": 5,
    "patch": 4,
    "block model": 3,
    "pixel model": 2,
    "shard": 3,
    "dataset": 1,
}
SLOW_S: Final = 10.0
STUCK_S: Final = 300.0  # of the processor, as SLOW_S
REARM_EVERY: Final = 256
MAX_FAILURES: Final = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run payloads as the command line says; print a JSON object."""
    options = _parser().parse_args(arguments)
    if options.kernels is not None:
        use_kernels(options.kernels)
    if options.memory_mib:
        limit_memory(options.memory_mib)
    sys.stdout.write(json.dumps(run(options)))
    return 0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run the payloads of one process."""
    from dsqformat import kernels
    from fuzz_targets import load_seeds, outcome

    warnings.simplefilter("error")
    unraised: list[str] = []
    sys.unraisablehook = lambda caught: unraised.append(repr(caught.exc_value))
    seeds = load_seeds(options.corpus)
    targets = {t: [seed for seed in seeds if seed.target == t] for t in WEIGHTS}
    sound = sum(outcome(seed, seed.parts) == "accepted" for seed in seeds)
    outcomes: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    # Kills the process, stacks first, also inside a compiled loop; a suspended one is not stuck.
    faulthandler.register(signal.SIGPROF, chain=True)
    slowest, tried, begin, marks = 0.0, 0, time.perf_counter(), _marks(options.marks)
    for number in range(options.first, options.payloads + options.first, options.step):
        if (number // options.step) % REARM_EVERY == 0:
            signal.setitimer(signal.ITIMER_PROF, STUCK_S)
        marks[:8] = number.to_bytes(8, "little")
        tried += 1
        seed, parts = payload(targets, options.seed, number)
        started = time.process_time()
        problem = ""
        try:
            outcomes[f"{seed.target}: {outcome(seed, parts)}"] += 1
        except Exception:  # whatever it is, it is what is looked for
            problem = traceback.format_exc(limit=-6)
        seconds = time.process_time() - started
        slowest = max(slowest, seconds)
        if seconds > SLOW_S * options.slowness:
            problem = f"took {seconds:.1f} s"
        if unraised:
            problem = f"in compiled code: {unraised}"
            unraised.clear()
        if problem:
            failures.append(_failure(seed, number, parts, problem))
            # At once, for runs that do not come to their end.
            sys.stderr.write(f"payload {number}: {seed.target} {seed.name}: {problem}\n")
            if len(failures) >= MAX_FAILURES:
                break
    signal.setitimer(signal.ITIMER_PROF, 0)
    return {
        "payloads": tried,
        "seeds": len(seeds),
        "sound_seeds": sound,
        "compiled": kernels.COMPILED,
        "outcomes": dict(sorted(outcomes.items())),
        "failures": failures,
        "seconds": round(time.perf_counter() - begin, 1),
        "slowest_s": round(slowest, 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }


def payload(
    seeds: Mapping[str, Sequence[Any]], seed: int, number: int
) -> tuple[Any, tuple[bytes, ...]]:
    """Return the seed that payload `number` starts from, and its changed parts.

    Args:
        seeds: by target.
        seed: of the run.
        number: of the payload.
    """
    from fuzz_mutations import mutate

    source = random.Random(f"{seed}/{number}")
    target = source.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    chosen = source.choice(seeds[target])
    return chosen, mutate(source, chosen.kinds, chosen.parts)


def _failure(seed: Any, number: int, parts: Sequence[bytes], problem: str) -> dict[str, Any]:
    return {
        "target": seed.target,
        "name": seed.name,
        "number": number,
        "parts": [part.hex() for part in parts],
        "problem": problem,
    }


def _marks(path: Path | None) -> Any:
    """Return 8 bytes for the number of the payload, which outlive a crash."""
    if path is None:
        return bytearray(8)
    path.write_bytes(bytes(8))
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 8)


def limit_memory(mib: int) -> None:
    """Let allocations fail beyond so much more than what is mapped once NumPy is there."""
    import numpy as np  # noqa: F401

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (mib << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--payloads", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--step", type=int, default=1, help="take every so manieth payload")
    parser.add_argument("--kernels", type=Path, help="folder of another build")
    parser.add_argument("--memory-mib", type=int, default=0)
    parser.add_argument("--slowness", type=float, default=1.0, help="of these kernels")
    parser.add_argument("--marks", type=Path, help="file for the number of the payload")
    return parser


if __name__ == "__main__":
    sys.exit(main())
