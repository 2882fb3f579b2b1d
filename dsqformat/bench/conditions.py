"""What is measured apart: packing at length, memory, two threads, and NumPy without kernels."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from dsqformat.bench.dsq_codec import FIELD, DsqSetting, pack, packed, read
from dsqformat.bench.picture_sets import PictureSet
from dsqformat.dataset import Dataset, open_dataset

# Chunks small enough that two threads have an even share, large enough to be worth a task.
_THREADED_CHUNK_NBYTES: Final = 64 << 10
# Models are fitted on a bounded sample: below that bound memory grows as it may.
_MEMORY_FACTORS: Final = (8, 16)
_SUBPROCESS_TIMEOUT_S: Final = 1800


@dataclass(frozen=True)
class PackingSpeed:
    """What packing costs: once for a dataset, and then for every sample.

    Attributes:
        fixed_s: CPU seconds that do not grow with the samples: models are fitted on some.
        per_s: further samples per second.
        whole_per_s: samples per second of the dataset measured, all of it.
    """

    fixed_s: float
    per_s: float
    whole_per_s: float


def measure_packing(
    each: PictureSet, setting: DsqSetting, growth: int, rounds: int
) -> PackingSpeed:
    """Pack a set, and the same several times over, taking turns.

    Args:
        each: the pictures.
        setting: how they are packed.
        growth: how many times over.
        rounds: at least 1.
    """
    more = np.concatenate([each.pictures] * growth)
    once: list[float] = []
    often: list[float] = []
    for _ in range(rounds):
        for pictures, seconds in ((each.pictures, once), (more, often)):
            with packed(pictures, setting) as dataset:
                seconds.append(dataset.cpu_s)
    marginal_s = max(1e-9, (min(often) - min(once)) / (len(more) - len(each)))
    fixed_s = max(0.0, min(once) - marginal_s * len(each))
    return PackingSpeed(fixed_s, 1 / marginal_s, len(each) / min(once))


@dataclass(frozen=True)
class ThreadSpeedup:
    """How much faster two threads decode than one, by the clock on the wall.

    Attributes:
        speedup: best time of one thread divided by best time of two.
        idle_cores: cores that nothing else used meanwhile, roughly: below 2, it says little.
    """

    speedup: float
    idle_cores: float


def measure_two_threads(
    each: PictureSet, setting: DsqSetting, growth: int, rounds: int
) -> ThreadSpeedup:
    """Decode all chunks with one thread and with two, taking turns.

    Args:
        each: the pictures.
        setting: how they are packed.
        growth: how many times over, so that there are some chunks.
        rounds: at least 1; each is short, so it is four times as many.
    """
    more = np.concatenate([each.pictures] * growth)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with packed(more, setting, chunk_nbytes=_THREADED_CHUNK_NBYTES) as packed_dataset:
        for _ in range(4 * rounds):
            for threads in seconds:
                with open_dataset(packed_dataset.path) as dataset:
                    start = time.perf_counter()
                    _decode_in_threads(dataset, threads)
                    seconds[threads].append(time.perf_counter() - start)
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 1.0
    return ThreadSpeedup(min(seconds[1]) / min(seconds[2]), max(1.0, cores - load + 1))


def _decode_in_threads(dataset: Dataset, threads: int) -> None:
    shards = [dataset.shard(number) for number in range(dataset.snapshot.shard_count)]
    places = [(shard, chunk) for shard in shards for chunk in range(len(shard.chunks))]
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda place: place[0].read_chunk(place[1], output="source"), places):
            pass


@dataclass(frozen=True)
class MemoryGrowth:
    """Memory while packing, in processes of their own.

    Attributes:
        sample_counts: of a smaller and a larger dataset.
        peak_nbytes: greatest resident memory while packing each.
        added_nbytes: what the larger has more, as uint8.
    """

    sample_counts: tuple[int, int]
    peak_nbytes: tuple[float, float]
    added_nbytes: int

    @property
    def growth_nbytes(self) -> float:
        """Memory that the larger dataset took beyond the smaller."""
        return self.peak_nbytes[1] - self.peak_nbytes[0]


def measure_memory(each: PictureSet, setting: DsqSetting) -> MemoryGrowth:
    """Pack a set several times over, and twice as often, sample by sample, in fresh processes."""
    with TemporaryDirectory(prefix="dsq-bench-") as folder:
        np.save(Path(folder, "pictures.npy"), each.pictures)
        peaks = []
        for factor in _MEMORY_FACTORS:
            args: dict[str, object] = {"setting": _setting_json(setting), "factor": factor}
            peaks.append(_run("pack", folder, args)["peak_nbytes"])
    few, many = _MEMORY_FACTORS
    counts = len(each) * few, len(each) * many
    return MemoryGrowth(counts, (peaks[0], peaks[1]), each.pictures.nbytes * (many - few))


def measure_plain_decoding(each: PictureSet, setting: DsqSetting) -> float:
    """Return samples per second of CPU time decoded by NumPy alone, in a fresh process."""
    with TemporaryDirectory(prefix="dsq-bench-") as folder:
        pack(each.pictures, setting, Path(folder, "dataset"))
        found = _run("read", folder, {}, DSQ_KERNELS="plain")
    return float(found["per_s"])


def _setting_json(setting: DsqSetting) -> dict[str, object]:
    spec = {name: value for name, value in asdict(setting.spec).items() if value is not None}
    return {"spec": spec, "coding": setting.coding}


def _run(task: str, folder: str, args: dict[str, object], **env: str) -> dict[str, float]:
    """Run a task of `main` in a fresh interpreter and return what it found."""
    done = subprocess.run(
        [sys.executable, "-m", "dsqformat.bench.conditions", task, folder, json.dumps(args)],
        check=True,
        capture_output=True,
        text=True,
        timeout=_SUBPROCESS_TIMEOUT_S,
        env={**os.environ, **env},
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


# In the fresh process --------------------------------------------------------------------------


def main(argv: list[str]) -> None:
    """Run one task: "pack" or "read", a folder, and arguments as JSON."""
    task, folder, args = argv[0], Path(argv[1]), json.loads(argv[2])
    tasks: dict[str, Callable[[], dict[str, float]]] = {
        "pack": lambda: _pack_often(folder, args),
        "read": lambda: _read_once(folder),
    }
    sys.stdout.write(json.dumps(tasks[task]()))


def _pack_often(folder: Path, args: dict[str, object]) -> dict[str, float]:
    from dsqformat.writer import DatasetWriter, FieldSpec

    pictures = np.load(folder / "pictures.npy", mmap_mode="r")
    setting, factor = args["setting"], args["factor"]
    if not isinstance(setting, dict) or not isinstance(factor, int):
        raise SystemExit(2)
    # Shuffled, as is usual: that is what needs all samples before the first is encoded.
    with DatasetWriter(
        folder / f"dataset{factor}",
        fields={FIELD: FieldSpec(**setting["spec"])},
        coding=setting["coding"],
        table=False,
    ) as writer:
        for _ in range(factor):
            for picture in pictures:
                writer.write({FIELD: np.array(picture)})
    return {"peak_nbytes": peak_nbytes()}


def peak_nbytes() -> float:
    """Return the most memory this process has had resident; NaN where Linux does not tell."""
    # getrusage would begin with the peak of the process that started this one.
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return float(found[1]) * 1024 if found else math.nan


def _read_once(folder: Path) -> dict[str, float]:
    read(folder / "dataset")  # the first time, modules are loaded
    start = time.process_time()
    count = len(read(folder / "dataset"))
    return {"per_s": count / max(1e-9, time.process_time() - start)}


if __name__ == "__main__":
    main(sys.argv[1:])
