"""CPU time of jobs that take turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Job = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Samples per second of CPU time.

    Attributes:
        best: in the fastest round.
        median: over the rounds.
        rounds: how often it was measured.
    """

    best: float
    median: float
    rounds: int


def cpu_seconds(job: Job) -> float:
    """Return the CPU time of all threads of this process while a job runs."""
    start = time.process_time()
    job()
    return time.process_time() - start


def take_turns(
    jobs: Mapping[str, tuple[Job, int]],
    rounds: int,
    clock: Callable[[Job], float] = cpu_seconds,
    on_job: Callable[[], None] = lambda: None,
) -> dict[str, Timing]:
    """Run every job once in each round and return its speed.

    Args:
        jobs: by name, what to run and how many samples that is.
        rounds: at least 1.
        clock: runs a job and returns seconds.
        on_job: called after each.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds):
        # Back and forth: what follows a job, and so has a cold cache, is not always the same.
        names = list(jobs) if number % 2 == 0 else list(jobs)[::-1]
        for name in names:
            gc.collect()
            seconds[name].append(max(1e-9, clock(jobs[name][0])))
            on_job()
    return {
        name: Timing(jobs[name][1] / min(s), jobs[name][1] / statistics.median(s), rounds)
        for name, s in seconds.items()
    }
