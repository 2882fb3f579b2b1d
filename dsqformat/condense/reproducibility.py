"""Seeds and threads for the time of a computation, put back afterwards.

What is guaranteed: on one machine, with one version of torch, the same seed and the same number
of threads give the same bits. The default of one thread therefore makes results independent of
how many cores there are and of OMP_NUM_THREADS. More threads are faster and still repeat
themselves, but sums of convolutions are then split otherwise, so their last bits depend on the
number. Other machines and versions of torch round differently. On CUDA the deterministic
algorithms of cuDNN are chosen and its search for faster ones is off; the same holds there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch

DEFAULT_THREADS: Final = 1


@contextmanager
def reproducible(seed: int = 0, threads: int | None = DEFAULT_THREADS) -> Iterator[None]:
    """Seed torch, fix its threads and choose deterministic algorithms inside the block.

    Args:
        seed: of torch's generators.
        threads: of one operation on the CPU; None: as many as torch is set to.

    Raises:
        ValueError: fewer than one thread.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads={threads}: expected 1 or more, or None for as many as torch has")
    before = torch.get_num_threads()
    cudnn = torch.backends.cudnn
    flags = (cudnn.deterministic, cudnn.benchmark)
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        try:
            torch.set_num_threads(before if threads is None else threads)
            cudnn.deterministic, cudnn.benchmark = True, False
            torch.manual_seed(seed)
            yield
        finally:
            torch.set_num_threads(before)
            cudnn.deterministic, cudnn.benchmark = flags


def stream(seed: int, *keys: int) -> np.random.Generator:
    """Return a generator of its own for each combination of seed and keys (PCG64)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *keys])))
