"""Generated pictures for the tests of the quantizer `block`."""

import numpy as np


def scene(seed, height, width, planes=3):
    """Return something like a photograph: gradients, a few edges and texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype("f8")
    out = np.zeros((height, width, planes))
    for p in range(planes):
        out[..., p] = 128 + rng.normal(0, 30) + rng.normal(0, 2) * (x - width / 2)
    for _ in range(6):
        a, b, c = rng.normal(size=3)
        mask = a * (x - width * rng.random()) + b * (y - height * rng.random()) > 4 * c
        out[mask] += rng.normal(0, 30, planes)
    out += rng.normal(0, 8, (height, width, 1)) * (rng.random((height, width, 1)) < 0.5)
    return np.clip(out, 0, 255).astype("u1")
