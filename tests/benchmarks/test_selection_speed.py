"""How long bins take at full size, beside plain products of a matrix and a vector.

The two bars: 50,000 x 512 in 10 classes within 60 s and 1.5 GB, and 50,000 x 128 as one pool
within 5 minutes, on two cores. The ratio is the time that NumPy's products (float32 and float64,
one per pick with the rows that are left, nothing else) would take, by their speed measured in the
same run, to the time that the bins took; OPENBLAS_NUM_THREADS=1 makes them those of one core.
Nothing fails: others may use the machine as well.
"""

import os
import resource
import time

import numpy as np
import pytest

from dsqformat import kernels
from dsqformat.select import LastLayerGradients, estimate_bins, make_bins

pytestmark = [
    pytest.mark.bench,
    pytest.mark.skipif(not kernels.COMPILED, reason="the kernels are not compiled here"),
]

COUNT = 50_000


def features_of(width, seed=0):
    """Features with a common mean, as those of networks have."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((COUNT, width), "f4") / 2 + rng.random(width, "f4")


def product_rate(width, pool, dtype):
    """Multiply-adds per second of NumPy, for pools shrunk to half."""
    rows = np.ones((pool // 2, width), dtype)
    vector, times = np.ones(width, dtype), []
    for _ in range(30):
        start = time.perf_counter()
        rows @ vector
        times.append(time.perf_counter() - start)
    return rows.size / min(times)


@pytest.mark.parametrize(
    ("name", "width", "classes", "bar_s"),
    [
        ("50,000 x 512, 10 classes", 512, 10, 60),
        ("50,000 x 128, one pool", 128, 1, 300),
        ("50,000 x (10 + 512), gradients, 10 classes", 512, 10, None),
    ],
)
def test_bins(name, width, classes, bar_s):
    features = features_of(width)
    labels = np.arange(COUNT) % classes
    if bar_s is None:
        features = LastLayerGradients(features_of(10, 1), features)
    options = {"per_class": classes > 1}
    estimate = estimate_bins(features, labels, **options)
    load, start, busy = os.getloadavg()[0], time.perf_counter(), time.process_time()
    bins = make_bins(features, labels, **options)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert bins.sizes().tolist() == [COUNT // 10] * 10
    steps = classes * (COUNT // classes) ** 2 / 2
    ratios = [
        steps * width / product_rate(width, COUNT // classes, dtype) / seconds
        for dtype in ("f4", "f8")
    ]
    bar = f"bar {bar_s} s" if bar_s else "no bar"
    print(
        f"\n{name}: {seconds:.1f} s ({bar}), {busy:.1f} s of processors, load {load:.1f} before, "
        f"{estimate.threads} threads, at most {most / 1e3:.0f} MB in all so far\n"
        f"    {estimate}\n"
        f"    NumPy's products alone: {ratios[0]:.2f} of that in float32, "
        f"{ratios[1]:.2f} in float64"
    )
