"""What block pictures decode to (format.md, section A.9), in NumPy and whole blocks at once."""

from __future__ import annotations

import numpy as np
from block_writer import band

COSINES = (
    64, 90, 90, 90, 89, 88, 87, 85, 83, 82, 80, 78, 75, 73, 70, 67,
    64, 61, 57, 54, 50, 46, 43, 38, 36, 31, 25, 22, 18, 13, 9, 4,
)  # fmt: skip
OCTAVE = (
    65536, 68438, 71468, 74632, 77936, 81386, 84990, 88752,
    92682, 96785, 101070, 105545, 110218, 115098, 120194, 125515,
)  # fmt: skip


def cosine(m):
    """Entry of the basis for an angle of m / 64 of pi, as the matrices of H.265 have it."""
    m %= 128
    m = min(m, 128 - m)
    return 0 if m == 32 else COSINES[m] if m < 32 else -COSINES[64 - m]


def basis(size):
    """Section A.2: B_T, rows are frequencies."""
    step = 32 // size
    return np.array([
        [cosine(k * step * (2 * n + 1)) if k else 64 for n in range(size)] for k in range(size)
    ])  # fmt: skip


def pixels(model, codes, s, plane, qp, layers):
    """Sections A.9.1 and A.9.2: the pixels of a block of these codes, in sixteenths."""
    size, chroma = 4 << s, int(plane > 0)
    step = (OCTAVE[qp % 16] << qp // 16) + 1024 >> 11
    weights = np.array(model.weights or [64] * 16, dtype=np.int64)[8 * chroma :][:8]
    bands = np.array([[band(size, v, u) for u in range(size)] for v in range(size)])
    bands[0, 0] = 7
    w = np.maximum(1, step * weights + 32 >> 6)[bands] << len(model.layers) - layers
    o = np.array(model.offsets[layers - 1], dtype=np.int64)
    a = np.abs(codes)
    value = np.where(a > 0, 16 * a + o[3 * chroma + np.clip(a, 1, 3) - 1], 0) * np.sign(codes)
    value[0, 0] = 16 * codes[0, 0] + o[6]
    value = value * w
    limit = 65535 >> s
    c = np.sign(value) * np.minimum(limit, np.abs(value) + (1 << 4 + 2 * s) >> 5 + 2 * s)
    b = basis(size)
    half = np.clip(b.T @ c + 32 >> 6, -limit, limit)
    return np.clip((half @ b + (1 << 8 - s)) >> 9 - s, -7167, 7167)


def levels(model, picture, layers):
    """Section A.9.3: y, of shape (height, width, channels), from the first layers."""
    count = len(model.layers)
    planes = np.zeros((model.planes, *picture.padded(model)), dtype=np.int64)
    for (y, x, s), _ in picture.leaves(model):
        size = 4 << s
        for plane in range(model.planes):
            codes = picture.block(y, x, s, plane, count - layers, count)
            planes[plane, y : y + size, x : x + size] = pixels(
                model, codes, s, plane, picture.qp, layers
            )
    matrix = 1024 * np.eye(model.planes, dtype=np.int64)
    if model.flags & 1:
        matrix[:3, :3] = [[591, 724, -418], [591, 0, 836], [591, -724, -418]]
    out = np.einsum("cp,pyx->yxc", matrix, planes) + (np.array(model.channel_offsets) << 10)
    return out[: picture.height, : picture.width]


def integers(y):
    """Section A.9.3: v."""
    return np.clip(y + 8192 >> 14, 0, 255).astype(np.uint8)


def numbers(y):
    """Section A.9.3: x."""
    return np.clip(y, 0, 255 << 14).astype(np.float32) / np.float32(255 << 14)
